"""All weights and biases in one flat vector, theta, with a view for each layer.

Layer by layer, l = 2 … L: W^l row by row, then b^l. One vector makes a checkpoint one array and an optimizer one loop.
"""

from collections.abc import Sequence

import numpy as np


def count(sizes: Sequence[int]) -> int:
    """How many weights and biases a network of these sizes has, in Python integers, which cannot overflow."""
    return sum(n * (below + 1) for below, n in zip(sizes[:-1], sizes[1:], strict=True))


def views(sizes: Sequence[int], theta: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(biases, weights) as views of theta: (n_l, 1) and (n_l, n_{l-1}) each, l = 2 … L."""
    biases, weights, at = [], [], 0
    for below, n in zip(sizes[:-1], sizes[1:], strict=True):
        weights.append(theta[at : at + n * below].reshape(n, below))
        at += n * below
        biases.append(theta[at : at + n].reshape(n, 1))
        at += n
    return biases, weights


def flatten(
    sizes: Sequence[int], biases: Sequence[np.ndarray], weights: Sequence[np.ndarray], dtype: np.dtype
) -> np.ndarray:
    """A new theta from the arrays of a network, which are left alone; they may have been replaced by the user.

    Raises ValueError, with both shapes, where an array does not fit the sizes.
    """
    theta = np.empty(count(sizes), dtype)
    own_biases, own_weights = views(sizes, theta)
    for what, own, given in (("biases", own_biases, biases), ("weights", own_weights, weights)):
        if len(given) != len(own):
            raise ValueError(f"{what} has {len(given)} arrays, but a network of sizes {list(sizes)} needs {len(own)}")
        for i, (target, source) in enumerate(zip(own, given, strict=True)):
            array = np.asarray(source)
            if array.shape != target.shape:
                raise ValueError(
                    f"{what}[{i}] has shape {array.shape}, but sizes {list(sizes)} need {target.shape}; "
                    f"assign an array of that shape"
                )
            target[...] = array
    return theta
