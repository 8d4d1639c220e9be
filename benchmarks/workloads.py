"""The work that is timed: some networks, the book's own call, and two families of networks for the curves."""

import functools
import os
from typing import NamedTuple

import numpy as np

from fastbp import dropout, initializers, parameters
from fastbp.regularization import Regularization

# What a training run on MNIST sees: the book's split, without its 10,000 validation images.
EXAMPLES = 50_000
# The share of MNIST's pixels that are not zero.
DENSITY = 0.19
# From which dropout's masks are drawn where everyone is given the same.
MASK_SEED = 6


class Workload(NamedTuple):
    """One network, its mini-batches and its data. `lmbda` is the book's λ, over all `EXAMPLES`."""

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    hidden: str = "sigmoid"
    output: str = "sigmoid"
    cost: str = "quadratic"
    optimizer: str = "sgd"
    eta: float = 0.5
    lmbda: float = 0.0
    initializer: str = "normal"
    data: str = "mnist"
    book: bool = False  # the book's call on its list of pairs, with its evaluation and its printed lines
    products: bool = False  # large enough that the matrix products should be most of the time
    point: int = 0  # where a curve has this network: its batch size or width
    dropout: float = 0.0  # the share of the hidden units that a mini-batch leaves out
    weighted: bool = False  # whether each example counts as many times as `sample_weights` says
    plain: str = ""  # the workload that is the same but for plain gradient descent, without dropout and weights

    @property
    def title(self) -> str:
        return (
            f"[{', '.join(map(str, self.sizes))}], batches of {self.batch_size}, {self.hidden}"
            f"{f' and {self.output}' if self.output != self.hidden else ''}, {self.cost.replace('_', '-')}, "
            f"{', '.join(self.step)}"
        )

    @property
    def step(self) -> list[str]:
        """How parameters move, the optimizer first."""
        more = [f"λ={self.lmbda:g}"] if self.lmbda else []
        more += [f"dropout {self.dropout:g}"] if self.dropout else []
        more += ["sample weights"] if self.weighted else []
        return ["Adam" if self.optimizer == "adam" else "SGD", *more]

    @property
    def batches(self) -> int:
        """Full mini-batches in an epoch; a remainder is left out, so that every contender has equal shapes."""
        return EXAMPLES // self.batch_size


_RELU = {"hidden": "relu", "output": "softmax", "cost": "log_likelihood", "initializer": "he"}

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("S1", (784, 30, 10), 10, eta=3.0),
        # Not from the book's weights of variance 1: they saturate sigmoids, σ'(z) = a(1 - a) then has few digits in
        # float32, and Adam, which divides by the size of a gradient, moves by 1.3e-3 of its way on them.
        Workload("A1", (784, 30, 10), 10, optimizer="adam", eta=1e-3, initializer="scaled", plain="S1"),
        Workload(
            "R1",
            (784, 30, 10),
            10,
            optimizer="adam",
            eta=1e-3,
            initializer="scaled",
            dropout=0.5,
            weighted=True,
            plain="S1",
        ),
        Workload("S2", (784, 100, 10), 10, cost="cross_entropy", lmbda=5.0, initializer="scaled"),
        Workload("S3", (784, 30, 10), 1),
        # Gaussian rows are long (|x|² = 784): with the book's weights of variance 1 every sigmoid would be saturated.
        Workload("G1", (784, 30, 10), 10, initializer="scaled", data="gaussian"),
        Workload("T1", (8, 32, 16, 4), 16, data="gaussian"),
        Workload("M1", (784, 128, 64, 10), 128, optimizer="adam", eta=1e-3, **_RELU),
        Workload("L1", (784, 512, 512, 10), 250, eta=0.1, products=True, **_RELU),
        Workload("X1", (784, 2048, 2048, 10), 250, eta=0.05, products=True, **_RELU),
        Workload("B1", (784, 30, 10), 10, eta=3.0, book=True),
    )
}

BATCH_SIZES = tuple(2**k for k in range(13))  # 1 … 4096
WIDTHS = tuple(2**k for k in range(3, 13))  # 8 … 4096


def batch_curve() -> list[Workload]:
    """The network of S1 at every batch size."""
    return [Workload(f"batch {m}", (784, 30, 10), m, point=m) for m in BATCH_SIZES]


def width_curve() -> list[Workload]:
    """Two hidden layers of every width, between S1 and beyond X1."""
    return [Workload(f"width {w}", (784, w, w, 10), 100, eta=0.05, point=w, **_RELU) for w in WIDTHS]


class Data(NamedTuple):
    """Examples: X (n, n_1) float32, labels (n,) int64; `source` tells where they come from."""

    X: np.ndarray
    labels: np.ndarray
    source: str

    def one_hot(self, n_out: int, dtype: np.dtype) -> np.ndarray:
        """(n, n_out): column j of a row is 1 where j is the label."""
        Y = np.zeros((len(self.labels), n_out), dtype)
        Y[np.arange(len(self.labels)), self.labels] = 1
        return Y


def load(workload: Workload, n: int = EXAMPLES) -> Data:
    """The first n training examples: MNIST where FASTBP_DATA names its folder, else synthetic, from a fixed seed."""
    if workload.data == "gaussian":
        return gaussian(n, workload.sizes[0], workload.sizes[-1])
    if os.environ.get("FASTBP_DATA"):
        from fastbp.datasets import load_mnist

        mnist = load_mnist()
        return Data(mnist.X_train[:n], mnist.y_train[:n], "MNIST")
    return like_mnist(n)


def load_tests() -> Data:
    """The 10,000 test examples of the book's call."""
    if os.environ.get("FASTBP_DATA"):
        from fastbp.datasets import load_mnist

        mnist = load_mnist()
        return Data(mnist.X_test, mnist.y_test, "MNIST")
    return like_mnist(10_000)


def gaussian(n: int, n_in: int, n_out: int) -> Data:
    """Rows of independent normal numbers, none of them zero; a linear map tells the label."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((n, n_in), np.float32)
    labels = np.argmax(X @ rng.standard_normal((n_in, n_out), np.float32), axis=1)
    return Data(X, labels.astype(np.int64), "synthetic, Gaussian")


def like_mnist(n: int) -> Data:
    """28 x 28 images of ten smooth shapes with ragged edges, as dense as MNIST and blank along the border."""
    rng = np.random.default_rng(3)
    across = np.linspace(-1, 1, 28)
    waves = np.cos(np.pi * np.outer(np.arange(6), (across + 1) / 2))  # (6, 28): the lowest frequencies
    shapes = np.einsum("nij,ia,jb->nab", rng.standard_normal((10, 6, 6)), waves, waves)
    shapes[:, np.hypot(*np.meshgrid(across, across)) > 0.95] = -1e3  # blank
    shapes = shapes.reshape(10, 784)
    labels = rng.integers(10, size=n)
    X = np.empty((n, 784), np.float32)
    for first in range(0, n, 1000):  # a block at a time: no second matrix of this size
        chosen = labels[first : first + 1000]
        z = shapes[chosen] + rng.standard_normal((len(chosen), 784))
        z -= np.quantile(z, 1 - DENSITY, axis=1, keepdims=True)
        X[first : first + 1000] = np.floor(256 * np.clip(z / 3, 0, 255 / 256)) / 256
    return Data(X, labels.astype(np.int64), f"synthetic, {100 * np.count_nonzero(X) / X.size:.0f} % dense")


def sample_weights(n: int) -> np.ndarray:
    """(n,): how many times each example counts, 0.5 to 1.5; the same for the first n of any number of examples."""
    return np.random.default_rng(7).uniform(0.5, 1.5, n)


def masks(workload: Workload, dtype: np.dtype, first: int, count: int) -> list[np.ndarray]:
    """(count, m, n_l) for each hidden layer: what dropout multiplies in mini-batches first, first + 1, … of a run."""
    given, m = Regularization(dropout=workload.dropout, seed=MASK_SEED), workload.batch_size
    steps = [dropout.masks(given, step, m, workload.sizes, np.dtype(dtype)) for step in range(first, first + count)]
    return [np.array([step[l] for step in steps]) for l in range(2, len(workload.sizes))]


def initial_theta(workload: Workload) -> np.ndarray:
    """The first parameters, float64, each also a float32: both precisions start from the same point."""
    biases, weights = initializers.draw(workload.initializer, workload.sizes, np.random.RandomState(1).standard_normal)
    theta = parameters.flatten(workload.sizes, biases, weights, np.dtype(np.float64))
    return theta.astype(np.float32).astype(np.float64)


class Order(NamedTuple):
    """Which examples come when: `epochs` times the first n examples, shuffled as np.random.shuffle does from `seed`."""

    n: int
    epochs: int = 1
    seed: int = 4

    def rows(self) -> np.ndarray:
        """(epochs, n). Contenders that can only shuffle for themselves draw the same from `seed`."""
        return _drawn(*self)


@functools.lru_cache(1)
def _drawn(n: int, epochs: int, seed: int) -> np.ndarray:
    rng, rows = np.random.RandomState(seed), np.arange(n)
    out = np.empty((epochs, n), np.int64)
    for epoch in out:
        rng.shuffle(rows)
        epoch[:] = rows
    return out
