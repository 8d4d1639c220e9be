"""How the first weights are drawn: all biases first, then all weights, as in the book."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# The standard deviation of w[j, k], from the number of inputs and outputs of its layer.
SCALES: dict[str, Callable[[int, int], float]] = {
    "normal": lambda n_in, n_out: 1.0,  # the book, chapter 1
    "scaled": lambda n_in, n_out: 1.0 / np.sqrt(n_in),  # the book, chapter 3
    "glorot": lambda n_in, n_out: np.sqrt(2.0 / (n_in + n_out)),  # Glorot and Bengio (2010)
    "he": lambda n_in, n_out: np.sqrt(2.0 / n_in),  # He, Zhang, Ren and Sun (2015)
}
# Glorot and He start their biases at zero; the book draws them.
ZERO_BIASES = {"glorot", "he"}


def draw(
    name: str, sizes: Sequence[int], standard_normal: Callable[..., Any]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Biases, (n_l, 1) each, and weights, (n_l, n_{l-1}) each, l = 2 … L, in float64.

    `standard_normal(shape)` is the source: np.random's or a Generator's. ValueError for an unknown name.
    """
    if not isinstance(name, str) or name not in SCALES:
        raise ValueError(f"initializer={name!r} is none of {', '.join(SCALES)}")
    zero = name in ZERO_BIASES
    biases = [np.zeros((n, 1)) if zero else standard_normal((n, 1)) for n in sizes[1:]]
    weights = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        w = standard_normal((n_out, n_in))
        w *= SCALES[name](n_in, n_out)
        weights.append(w)
    return biases, weights
