"""Everyone who trains the same network: one small file each.

A contender prepares (data where it wants them, in its own form), runs mini-batches in the order it is given, and
hands back its parameters laid out like `fastbp.parameters`. Nothing is timed here.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.workloads import Data, Order, Workload

# fastbp's engines and its user's view; then the book's loop and the libraries that could be used instead.
OURS = ("fused", "matrix", "reference", "auto", "book_sgd")
PEERS = ("numpy_batch", "sklearn_mlp", "torch_eager", "torch_compile", "jax_scan")
NAMES = (*OURS, "per_example", *PEERS)


class Contender:
    """What the runner asks of a contender; the defaults suit those that compute with NumPy."""

    label = ""
    package = "numpy"  # what must be installed

    def refusal(self, workload: Workload, dtype: np.dtype) -> str:
        """Why this workload cannot be run, or nothing."""
        return "only the book's interface takes the book's lists" if workload.book else ""

    def caveat(self, workload: Workload) -> str:
        """Where the algorithm is not the workload's, which one is timed instead; or nothing."""
        return ""

    def tolerance(self, workload: Workload, dtype: np.dtype) -> float:
        """How far parameters may lie from the reference's, as a share of the way they went in the check."""
        return 1e-3 if dtype == np.float32 else 1e-9

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        """Build the network with these parameters, and put the data where training wants them."""
        raise NotImplementedError(type(self))

    def run(self, order: Order) -> None:
        """Train, from the present parameters on; returns when the last of them is written."""
        raise NotImplementedError(type(self))

    def parameters(self) -> np.ndarray:
        """theta: W^l row by row, then b^l, layer by layer."""
        raise NotImplementedError(type(self))

    def bare_products(self) -> Callable[[], None]:
        """A function that computes the matrix products of one mini-batch, and nothing else."""
        products = [
            (a, b, np.empty((a.shape[0], b.shape[1]), a.dtype))
            for a, b in factors(self.workload, self.dtype)
        ]  # fmt: skip

        def multiply() -> None:
            for a, b, out in products:
                np.matmul(a, b, out=out)

        return multiply

    def bare_sweep(self) -> Callable[[int], None] | None:
        """A function that sweeps the optimizer so many times over all parameters, and does nothing else."""
        return None

    # True while results are compared: dropout's masks are then `workloads.masks`, the same for everyone. In what is
    # timed, a library that can be given none draws its own.
    checking = False

    # set by `remember`
    workload: Workload
    dtype: np.dtype

    def remember(self, workload: Workload, dtype: np.dtype) -> None:
        """What the defaults above look at."""
        self.workload, self.dtype = workload, dtype

    def batches(self, order: Order) -> Iterator[np.ndarray]:
        """The mini-batches of an order, each an array of row numbers."""
        m = self.workload.batch_size
        for rows in order.rows():
            for first in range(0, order.n, m):
                yield rows[first : first + m]


def factors(workload: Workload, dtype: np.dtype) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of matrices with the shapes, and the transposed views, of one mini-batch's products."""
    rng, m, pairs = np.random.default_rng(5), workload.batch_size, []

    def matrix(rows: int, columns: int) -> np.ndarray:
        return rng.standard_normal((rows, columns)).astype(dtype)

    for l, (below, n) in enumerate(zip(workload.sizes[:-1], workload.sizes[1:], strict=True), start=2):
        A, W, delta = matrix(m, below), matrix(n, below), matrix(m, n)
        pairs += [(A, W.T), (delta.T, A)]  # feedforward, BP4
        if l > 2:
            pairs.append((delta, W))  # BP2
    return pairs


def load(name: str) -> Contender:
    """The contender of this name. ModuleNotFoundError if what it needs is not installed."""
    return importlib.import_module(f"benchmarks.contenders.{name}").Contender()
