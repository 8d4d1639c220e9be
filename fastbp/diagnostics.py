"""Looking into a network that learns, or does not: is its gradient right, which layers learn, which examples pull.

Everything here is plain NumPy on one batch, and changes nothing in the network. Layers are numbered as in the book.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import data, parameters
from fastbp.architecture import Architecture
from fastbp.engines import matrix, reference

if TYPE_CHECKING:
    from fastbp.network import Network

# A neuron is called saturated for an example where its slope is below this share of the steepest slope it can have.
SATURATED_BELOW = 0.05


def _batch(network: "Network", X: Any, y: Any) -> tuple[Architecture, np.ndarray, np.ndarray]:
    """(architecture, X, Y), checked, with X (m, n_1) and Y (m, n_L) dense and in the network's dtype."""
    built, classes = network._effective_architecture(), network.classes_
    named = classes is not None and classes.dtype.kind == "U"
    examples, _ = data.read_examples(built, X, data.places(y, classes, "y"), classes=classes if named else None)
    X = data.dense(examples.X)
    return built, np.asarray(X, built.dtype), examples.one_hot(built.sizes[-1], built.dtype)


# ------------------------------------------------------------------------------------------------------------
# Is the gradient right?
# ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerCheck:
    """One layer's weights or biases: how far backpropagation and differences part at most, and where.

    error: the largest difference among the entries looked at, over the largest entry of either gradient.
    """

    layer: int
    what: str
    error: float
    entry: tuple[int, ...]
    backpropagation: float
    differences: float
    entries: int


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradients` found; printed, a table. `ok` is True if no layer's error exceeds `tolerance`."""

    layers: tuple[LayerCheck, ...]
    tolerance: float

    @property
    def worst(self) -> float:
        """The largest error of any layer; NaN if any is."""
        return float(np.max([layer.error for layer in self.layers]))

    @property
    def ok(self) -> bool:
        return bool(self.worst <= self.tolerance)

    def __str__(self) -> str:
        lines = [f"{'layer':<8}{'worst error':>12}  {'at':<12}{'backpropagation':>16}{'differences':>16}{'entries':>9}"]
        for layer in self.layers:
            at = f"{layer.what}[{', '.join(map(str, layer.entry))}]"
            lines.append(
                f"{layer.layer:<3}{layer.what:<5}{layer.error:>12.1e}  {at:<12}{layer.backpropagation:>16.8g}"
                f"{layer.differences:>16.8g}{layer.entries:>9,}"
            )
        verdict = "the gradients agree" if self.ok else "the gradients differ"
        lines.append(f"{verdict}: worst relative error {self.worst:.1e}, tolerance {self.tolerance:.0e}")
        return "\n".join(lines)


def check_gradients(
    network: "Network",
    X: Any,
    y: Any,
    *,
    cost: Callable[[np.ndarray, np.ndarray], Any] | None = None,
    tolerance: float = 1e-6,
    most: int = 500,
    step: float = 6e-6,
) -> GradientCheck:
    """Compare the gradient of the cost by BP1 to BP4 with central differences of the cost; no parameter is changed.

    The question it answers is whether an activation or a cost of your own and its derivative belong together (and
    whether ours do). The cost is the mean over the rows of X, (m, n_1), with targets y as in `fit`. A network with a
    cost_derivative(a, y) of its own knows no cost: give it as cost(a, y), a number for the columns a and y, (n_L, 1),
    of one example. A cost of network2, with fn and delta, needs nothing more. For each weight matrix and bias
    vector at most `most` entries are looked at, spread evenly: (C(θ + h) - C(θ - h))/2h with h = step · max(1, |θ|),
    whose error is of order h². All of it is computed in float64, whatever the network's dtype. At a kink (relu at 0)
    the two differ by right.

    Raises ValueError for data that do not fit; TypeError for a cost_derivative of your own without its cost, or a cost
    that the network does not descend.
    """
    own_derivative = network._overrides("cost_derivative")
    if own_derivative and cost is None:
        raise TypeError(
            "this network has a cost_derivative of its own, and no cost to take differences of; give it: cost=f, with "
            "f(a, y) the cost of one example, whose output and target are the columns a and y"
        )
    if cost is not None and not own_derivative:
        raise TypeError(
            f"cost= belongs to a cost_derivative of your own; this one has the cost {network.architecture.cost.name!r}"
        )
    built, X, Y = _batch(network, X, y)
    built = replace(built, dtype=np.dtype(np.float64))
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    theta = parameters.flatten(built.sizes, network.biases, network.weights, built.dtype)
    biases, weights = parameters.views(built.sizes, theta)

    def mean_cost() -> float:
        Z, A = matrix.feedforward(built, biases, weights, X)
        if cost is None:
            return float(np.mean(built.cost.value(Z[-1], A[-1], Y)))
        return float(np.mean([np.asarray(cost(a, y)).item() for a, y in _columns(A[-1], Y)]))

    if cost is None:
        nabla_b, nabla_w = matrix.backprop(built, biases, weights, X, Y)
    else:
        nabla_b, nabla_w = _sum_by_own_derivative(network, built, biases, weights, X, Y)
    checks = []
    for l in range(2, len(built.sizes) + 1):
        for what, values, nabla in (("w", weights[l - 2], nabla_w[l - 2]), ("b", biases[l - 2], nabla_b[l - 2])):
            exact = nabla.reshape(-1) / len(X)
            chosen = np.unique(np.linspace(0, values.size - 1, min(most, values.size)).astype(np.int64))
            flat, found = values.reshape(-1), np.empty(len(chosen))
            for i, at in enumerate(chosen):
                held, h = flat[at], step * max(1.0, abs(flat[at]))
                flat[at] = held + h
                above, high = mean_cost(), flat[at]
                flat[at] = held - h
                below, low = mean_cost(), flat[at]
                flat[at] = held
                found[i] = (above - below) / (high - low)
            difference = np.abs(exact[chosen] - found)
            size = max(np.max(np.abs(exact[chosen])), np.max(np.abs(found)), 1e-300)
            i = int(np.argmax(difference))
            entry = tuple(int(k) for k in np.unravel_index(chosen[i], values.shape))
            checks.append(
                LayerCheck(
                    l, what, float(difference[i] / size), entry if what == "w" else entry[:1],
                    float(exact[chosen[i]]), float(found[i]), len(chosen),
                )
            )  # fmt: skip
    return GradientCheck(tuple(checks), tolerance)


def _columns(*matrices: np.ndarray) -> Any:
    """The rows of matrices as columns (n, 1), an example at a time."""
    return zip(*(rows[:, :, np.newaxis] for rows in matrices), strict=True)


def _sum_by_own_derivative(
    network: "Network", built: Architecture, biases: list, weights: list, X: np.ndarray, Y: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(nabla_b, nabla_w), summed over the rows, by the network's own cost_derivative."""
    nabla_b, nabla_w = [np.zeros_like(b) for b in biases], [np.zeros_like(w) for w in weights]
    for x, y in _columns(X, Y):
        delta_b, delta_w = reference.backprop(built, biases, weights, x, y, network.cost_derivative)
        for total, part in zip((*nabla_b, *nabla_w), (*delta_b, *delta_w), strict=True):
            total += part
    return nabla_b, nabla_w


# ------------------------------------------------------------------------------------------------------------
# Which layers learn?
# ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerState:
    """One layer on one batch: how fast it learns, and how much of it is stuck.

    gradient_norm: |∂C/∂W| and |∂C/∂b| together, Euclidean, C the mean over the batch. bias_gradient_norm: |∂C/∂b|
    alone, the book's "speed of learning" (chapter 5). saturation: the share, 0 … 1, of (example, neuron) pairs whose
    slope σ'(z) is below SATURATED_BELOW of the steepest slope the activation has; for a relu, those that are off. NaN
    for softmax, which has no slope of single neurons.
    """

    layer: int
    activation: str
    gradient_norm: float
    bias_gradient_norm: float
    saturation: float


@dataclass(frozen=True)
class LayerReport:
    """The layers 2 … L of a network on a batch; printed, a table."""

    layers: tuple[LayerState, ...]

    def record(self) -> dict[str, float]:
        """The columns of a History: gradient_norm_l and saturation_l."""
        found: dict[str, float] = {}
        for layer in self.layers:
            found[f"gradient_norm_{layer.layer}"] = layer.gradient_norm
        for layer in self.layers:
            if not np.isnan(layer.saturation):
                found[f"saturation_{layer.layer}"] = layer.saturation
        return found

    def __str__(self) -> str:
        lines = [f"{'layer':<7}{'activation':<12}{'|∂C/∂(W,b)|':>12}{'|∂C/∂b|':>12}{'saturated':>11}"]
        for layer in self.layers:
            stuck = "" if np.isnan(layer.saturation) else f"{100 * layer.saturation:.1f} %"
            lines.append(
                f"{layer.layer:<7}{layer.activation:<12}{layer.gradient_norm:>12.4g}{layer.bias_gradient_norm:>12.4g}"
                f"{stuck:>11}"
            )
        return "\n".join(lines)


def layer_report(network: "Network", X: Any, y: Any) -> LayerReport:
    """Gradient norms and saturation of each layer, for the rows of X, (m, n_1), and targets y as in `fit`."""
    built, X, Y = _batch(network, X, y)
    return report_on(built, *network._parameters(), X, Y)


def report_on(architecture: Architecture, biases: list, weights: list, X: np.ndarray, Y: np.ndarray) -> LayerReport:
    """`layer_report` for checked data: X (m, n_1), Y (m, n_L)."""
    Z, A = matrix.feedforward(architecture, biases, weights, X)
    deltas = matrix.errors(architecture, weights, Z, A, Y)
    layers = []
    for l in range(2, len(architecture.sizes) + 1):
        delta = deltas[l - 2]
        nabla_b, nabla_w = delta.sum(axis=0) / len(X), delta.T @ A[l - 2] / len(X)
        norm_b, norm_w = (float(np.linalg.norm(nabla)) for nabla in (nabla_b, nabla_w))
        name = architecture.activations[l - 2].name
        layers.append(LayerState(l, name, float(np.hypot(norm_b, norm_w)), norm_b, _saturation(architecture, l, Z)))
    return LayerReport(tuple(layers))


def _saturation(architecture: Architecture, l: int, Z: list) -> float:
    if architecture.activations[l - 2].name == "softmax":
        return float("nan")
    line = np.linspace(-10.0, 10.0, 2001)  # the steepest slope of each neuron's activation, wherever it lies
    steepest = np.max(np.abs(architecture.f_prime(l, np.repeat(line[:, None], Z[l - 2].shape[1], axis=1))), axis=0)
    return float(np.mean(np.abs(architecture.f_prime(l, Z[l - 2])) < SATURATED_BELOW * steepest))


# ------------------------------------------------------------------------------------------------------------
# Which examples pull?
# ------------------------------------------------------------------------------------------------------------


def example_gradients(network: "Network", X: Any, y: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(nabla_b, nabla_w) of each example's own cost C_x, BP3 and BP4 before the sum.

    Layer by layer, arrays (m, n_l) and (m, n_l, n_{l-1}); their sums over axis 0 are what `backprop` returns for the
    batch. They take m times the memory of the parameters; for norms alone see `example_gradient_norms`.
    """
    deltas, A = _errors(network, X, y)
    return deltas, [np.einsum("ij,ik->ijk", delta, a) for delta, a in zip(deltas, A, strict=False)]


def example_gradient_norms(network: "Network", X: Any, y: Any, *, by_layer: bool = False) -> np.ndarray:
    """|∂C_x/∂θ|, (m,), the Euclidean norm of each example's gradient; (m, L-1) with by_layer, a column a layer.

    An example's ∂C/∂W^l is the outer product of δ^l and a^(l-1), so |∂C/∂(W^l, b^l)|² = |δ^l|² (|a^(l-1)|² + 1), and no
    gradient is ever written: I. Goodfellow, "Efficient per-example gradient computations" (2015).
    """
    deltas, A = _errors(network, X, y)
    squares = [
        np.sum(np.square(delta), axis=1) * (np.sum(np.square(a), axis=1) + 1)
        for delta, a in zip(deltas, A, strict=False)
    ]
    return np.sqrt(np.stack(squares, axis=1) if by_layer else np.sum(squares, axis=0))


def _errors(network: "Network", X: Any, y: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Δ^2 … Δ^L, and A^1 … A^L."""
    built, X, Y = _batch(network, X, y)
    weights = network._parameters()[1]
    Z, A = matrix.feedforward(built, *network._parameters(), X)
    return matrix.errors(built, weights, Z, A, Y), A
