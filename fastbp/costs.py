"""The cost functions: how wrong an output is, and BP1's error of the output layer.

Rows are examples. A cost is averaged over the mini-batch; the 1/2 of the quadratic cost is included. The values are
computed from the weighted inputs z where the outputs a would lose digits: a saturated sigmoid has a finite cost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.activations import Activation


@dataclass(frozen=True)
class Cost:
    """`value(z, a, y)`: (m, n_L) arrays in, the cost of each example (m,) out. `derivative(a, y)`: ∂C/∂a, as (m, n_L).

    `outputs` names the activations this cost goes with, None for any elementwise one. With a named partner the
    σ' of BP1 cancels, and the error is a - y. `code` is its number in the compiled kernels, -1 for a user's own.
    """

    name: str
    value: Callable[[Any, Any, Any], Any]
    derivative: Callable[[Any, Any], Any]
    outputs: tuple[str, ...] | None
    code: int

    def goes_with(self, output: Activation) -> bool:
        """True if BP1 holds for this output: with a partner, only for that function itself, not one of its name."""
        return self.outputs is None or (output.code is not None and output.name in self.outputs)

    def delta(self, z: Any, a: Any, y: Any, f_prime: Callable[[Any], Any]) -> Any:
        """BP1: the error of the output layer. z, a, y and the result are (m, n_L)."""
        if self.outputs is None:
            return self.derivative(a, y) * f_prime(z)  # BP1
        return a - y  # BP1


def _quadratic(z: Any, a: Any, y: Any) -> Any:
    """C = ½ |a - y|² (the book's chapter 1)."""
    return 0.5 * np.sum(np.square(a - y), axis=-1)


def _quadratic_slope(a: Any, y: Any) -> Any:
    return a - y


def _cross_entropy(z: Any, a: Any, y: Any) -> Any:
    """C = -Σ y ln a + (1 - y) ln(1 - a) = Σ ln(1 + eᶻ) - y z with a = σ(z) (the book's chapter 3)."""
    return np.sum(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - y * z, axis=-1)


def _cross_entropy_slope(a: Any, y: Any) -> Any:
    return (a - y) / (a * (1 - a))


def _log_likelihood(z: Any, a: Any, y: Any) -> Any:
    """C = -Σ y ln a with a = softmax(z), that is Σ y (ln Σ eᶻ - z) (the book's chapter 3)."""
    shifted = z - np.max(z, axis=-1, keepdims=True)
    return np.sum(y * (np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)) - shifted), axis=-1)


def _log_likelihood_slope(a: Any, y: Any) -> Any:
    return -y / a


COSTS: dict[str, Cost] = {
    cost.name: cost
    for cost in (
        Cost("quadratic", _quadratic, _quadratic_slope, None, 0),
        Cost("cross_entropy", _cross_entropy, _cross_entropy_slope, ("sigmoid",), 1),
        Cost("log_likelihood", _log_likelihood, _log_likelihood_slope, ("softmax",), 2),
    )
}


def as_cost(given: str, output: Activation) -> Cost:
    """The cost of this name, if it goes with the output activation; ValueError with the reason if not."""
    if not isinstance(given, str) or given not in COSTS:
        raise ValueError(f"cost={given!r} is no cost; choose one of {', '.join(COSTS)}")
    cost = COSTS[given]
    if cost.outputs is None and output.name == "softmax":
        raise ValueError(
            "cost 'quadratic' needs an elementwise output, but output='softmax' couples the outputs; "
            "use cost='log_likelihood'"
        )
    if not cost.goes_with(output):
        needs = " and ".join(cost.outputs or ())
        gives = (
            f"output={output.name!r} gives ({output.low:g}, {output.high:g})"
            if output.code is not None
            else f"{output.name!r} is a function of your own"
        )
        raise ValueError(
            f"cost {given!r} needs output={needs!r}, whose values lie in (0, 1), but {gives}; use output={needs!r}"
        )
    return cost
