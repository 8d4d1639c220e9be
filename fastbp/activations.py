"""The activation functions: what a neuron makes of its weighted input z, and how fast that changes.

Each is declared once, as plain NumPy on arrays of any shape; `kernels.py` holds the compiled twins under the same
codes, and a table-driven test binds the two to each other and to finite differences.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Activation:
    """A function f and its derivative f′, both elementwise on arrays (softmax alone works along the last axis).

    `code` is the activation's number in the compiled kernels, None for a user's own function. `low` and `high`
    bound its values: a cost that takes logarithms of them must know.
    """

    name: str
    f: Function
    f_prime: Function
    code: int | None
    low: float = -np.inf
    high: float = np.inf


def sigmoid(z: Any) -> Any:
    """σ(z) = 1/(1 + e^-z), elementwise; scalars and arrays of any shape. For whole numbers the result is float64.

    σ(±1000) is 1 and 0 without a warning: where e^-z overflows, 1/(1 + e^-z) is 0 all the same. An underflow to 0 is
    right as well, and silent here and in every computation of a network, after np.seterr(all="raise") too.
    """
    z = np.asarray(z)
    if z.dtype.kind in "iub":
        z = z.astype(np.float64)  # -z would overflow in unsigned and in the least of signed integers
    with np.errstate(over="ignore", under="ignore"):
        return 1 / (1 + np.exp(-z))


def sigmoid_prime(z: Any) -> Any:
    """σ'(z) = σ(z) (1 - σ(z)), elementwise."""
    s = sigmoid(z)
    return s * (1 - s)


def _tanh_prime(z: Any) -> Any:
    return 1 - np.square(np.tanh(z))


def _relu(z: Any) -> Any:
    return np.maximum(z, 0)


def _relu_prime(z: Any) -> Any:
    """0 at the kink, the subgradient everyone takes."""
    return np.greater(z, 0).astype(np.result_type(z, np.float32))


LEAK = 0.01  # the slope of leaky_relu for z < 0; Maas, Hannun and Ng (2013)


def _leaky_relu(z: Any) -> Any:
    return np.where(np.greater(z, 0), z, np.multiply(z, LEAK))


def _leaky_relu_prime(z: Any) -> Any:
    one = np.ones_like(z)
    return np.where(np.greater(z, 0), one, LEAK * one)


def _softplus(z: Any) -> Any:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _normal_cdf(z: Any) -> Any:
    from scipy.special import ndtr  # scipy is loaded by those who use gelu

    return ndtr(z)


def _gelu(z: Any) -> Any:
    """z Φ(z), the exact (erf) form of Hendrycks and Gimpel (2016)."""
    return z * _normal_cdf(z)


def _gelu_prime(z: Any) -> Any:
    """Φ(z) + z φ(z); φ is zero beyond 40 already, where z² could overflow."""
    return _normal_cdf(z) + z * (np.exp(-0.5 * np.square(np.minimum(np.abs(z), 40))) / math.sqrt(2 * math.pi))


def _silu(z: Any) -> Any:
    return z * sigmoid(z)


def _silu_prime(z: Any) -> Any:
    s = sigmoid(z)
    return s * (1 + z * (1 - s))


def _identity(z: Any) -> Any:
    return z


def _softmax(z: Any) -> Any:
    """Along the last axis: rows are examples."""
    e = np.exp(z - np.max(z, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def _softmax_prime(z: Any) -> Any:
    raise TypeError("softmax has no elementwise derivative; with the log_likelihood cost none is needed")


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("sigmoid", sigmoid, sigmoid_prime, 0, 0, 1),
        Activation("tanh", np.tanh, _tanh_prime, 1, -1, 1),
        Activation("relu", _relu, _relu_prime, 2, 0),
        Activation("leaky_relu", _leaky_relu, _leaky_relu_prime, 3),
        Activation("softplus", _softplus, sigmoid, 4, 0),
        Activation("gelu", _gelu, _gelu_prime, 5),
        Activation("silu", _silu, _silu_prime, 6),
        Activation("identity", _identity, np.ones_like, 7),
        Activation("softmax", _softmax, _softmax_prime, 8, 0, 1),
    )
}


def as_activation(given: Any, where: str) -> Activation:
    """The activation that a name or a pair (f, f_prime) of functions stands for; `where` names the option in errors.

    Raises ValueError for an unknown name, TypeError for anything else.
    """
    if isinstance(given, Activation):
        return given
    if isinstance(given, str):
        if given not in ACTIVATIONS:
            raise ValueError(f"{where}={given!r} is no activation; choose one of {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[given]
    if isinstance(given, tuple) and len(given) == 2 and all(callable(part) for part in given):
        f, f_prime = given
        return Activation(getattr(f, "__name__", "custom"), f, f_prime, None)
    raise TypeError(f"{where} must be a name or a pair (f, f_prime) of functions, got {given!r}")
