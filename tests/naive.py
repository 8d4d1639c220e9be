"""The oracles of the mathematical tests: the formulas once more, apart from the package's, on real or complex numbers.

Complex, because Im f(x + ih)/h for a tiny h is the derivative to the last digit: nothing is subtracted.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erfc

Function = Callable[[Any], Any]


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def softmax(z: Any) -> Any:
    e = np.exp(z)
    return e / e.sum(axis=-1, keepdims=True)


# f of every activation that is analytic, right for moderate z; the kinked ones stand apart.
ANALYTIC: dict[str, Function] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "gelu": lambda z: 0.5 * z * erfc(-z / np.sqrt(2)),
    "silu": lambda z: z * sigmoid(z),
    "identity": lambda z: z,
}
KINKED: dict[str, Function] = {
    "relu": lambda z: np.where(z > 0, z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
}
ELEMENTWISE = ANALYTIC | KINKED

# The cost of each example, from the outputs a and the targets y, both (m, n_L), as the book writes it.
COSTS: dict[str, Callable[[Any, Any], Any]] = {
    "quadratic": lambda a, y: 0.5 * ((a - y) ** 2).sum(axis=-1),
    "cross_entropy": lambda a, y: -(y * np.log(a) + (1 - y) * np.log(1 - a)).sum(axis=-1),
    "log_likelihood": lambda a, y: -(y * np.log(a)).sum(axis=-1),
}


def complex_step(f: Function, x: Any, h: float = 1e-40) -> Any:
    """f'(x), elementwise, for an analytic f."""
    return np.imag(f(x + 1j * h)) / h


def central_difference(f: Function, x: Any, h: float = 1e-5) -> Any:
    """f'(x), elementwise, to about h²."""
    return (f(x + h) - f(x - h)) / (2 * h)


class Net:
    """A network by the book's letters: one loop over layers, one function a layer or a neuron, nothing shared.

    activations: a name a layer, the first hidden layer first. neurons: {(l, j): name} as in `fastbp.Network`.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        activations: tuple[str, ...],
        cost: str,
        neurons: dict[tuple[int, int], str] | None = None,
    ) -> None:
        self.sizes, self.activations, self.cost, self.neurons = sizes, activations, cost, neurons or {}

    def layers(self, theta: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """[(w, b), …] from one vector: layer by layer, w row by row, then b."""
        cut, at = [], 0
        for below, n in zip(self.sizes, self.sizes[1:], strict=False):
            w = theta[at : at + n * below].reshape(n, below)
            cut.append((w, theta[at + n * below : at + n * below + n]))
            at += n * (below + 1)
        assert at == theta.size
        return cut

    def weighted_inputs(self, theta: np.ndarray, X: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """([Z^2 … Z^L], A^L) for the rows of X."""
        zs, a = [], X
        for l, ((w, b), name) in enumerate(zip(self.layers(theta), self.activations, strict=True), start=2):
            z = np.einsum("mk,jk->mj", a, w) + b
            zs.append(z)
            a = softmax(z) if name == "softmax" else ELEMENTWISE[name](z)
            for (layer, j), neuron in self.neurons.items():
                if layer == l:
                    a[:, j] = ELEMENTWISE[neuron](z[:, j])
        return zs, a

    def outputs(self, theta: np.ndarray, X: np.ndarray) -> np.ndarray:
        return self.weighted_inputs(theta, X)[1]

    def total_cost(self, theta: np.ndarray, X: np.ndarray, Y: np.ndarray) -> Any:
        """Summed over the examples: its gradient is what an engine's `gradient` returns."""
        return COSTS[self.cost](self.outputs(theta, X), Y).sum()

    def analytic(self) -> bool:
        return not any(name in KINKED for name in (*self.activations, *self.neurons.values()))

    def distance_to_kinks(self, theta: np.ndarray, X: np.ndarray) -> float:
        """The least |z| of a neuron with a kink at 0: finite differences must not step across."""
        least = np.inf
        for l, (z, name) in enumerate(zip(self.weighted_inputs(theta, X)[0], self.activations, strict=True), start=2):
            names = [self.neurons.get((l, j), name) for j in range(z.shape[1])]
            least = min([least, *(np.abs(z[:, j]).min() for j, name in enumerate(names) if name in KINKED)])
        return float(least)

    def gradient(self, theta: np.ndarray, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """∂C/∂theta, entry by entry: by complex step where every function is analytic, by central differences else."""
        slope = np.empty(theta.size)
        for i in range(theta.size):

            def along(t: Any, i: int = i) -> Any:
                moved = theta.astype(np.result_type(theta, t))
                moved[i] = t
                return self.total_cost(moved, X, Y)

            slope[i] = complex_step(along, theta[i]) if self.analytic() else central_difference(along, theta[i])
        return slope

    def split(self, vector: np.ndarray) -> list[np.ndarray]:
        """A vector laid out like theta, as one flat array a layer for w and one for b."""
        return [part.ravel() for layer in self.layers(vector) for part in layer]


def layer_error(net: Net, got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest, over the layers' w and b, of |got - wanted|/|wanted| in the largest norm."""
    return max(
        float(np.abs(g - w).max() / max(np.abs(w).max(), 1e-300))
        for g, w in zip(net.split(got), net.split(wanted), strict=True)
    )
