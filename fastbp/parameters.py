"""All weights and biases in one flat vector, theta, with a view for each layer.

Layer by layer, l = 2 … L: W^l row by row, then b^l. One vector makes a checkpoint one array and an optimizer one loop.
"""

from collections.abc import Sequence
from typing import Any

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


def checked(
    sizes: Sequence[int], biases: Sequence[Any], weights: Sequence[Any], dtype: np.dtype
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(biases, weights) of a network whose user may have put other arrays into the lists, all in its dtype.

    Arrays of that dtype come back as they are. Raises ValueError, with both shapes, where one does not fit the sizes.
    """
    layers = list(zip(sizes[:-1], sizes[1:], strict=True))
    return (
        _checked("biases", biases, [(n, 1) for _, n in layers], sizes, dtype),
        _checked("weights", weights, [(n, below) for below, n in layers], sizes, dtype),
    )


def _checked(
    what: str, given: Sequence[Any], shapes: list[tuple[int, int]], sizes: Sequence[int], dtype: np.dtype
) -> list[np.ndarray]:
    if not isinstance(given, list | tuple | np.ndarray):
        raise TypeError(f"{what} must be a list of {len(shapes)} arrays, got {type(given).__name__}")
    if len(given) != len(shapes):
        raise ValueError(f"{what} has {len(given)} arrays, but a network of sizes {list(sizes)} needs {len(shapes)}")
    arrays = []
    for i, (source, shape) in enumerate(zip(given, shapes, strict=True)):
        if type(source) is np.ndarray and source.shape == shape and source.dtype == dtype:
            arrays.append(source)
            continue
        array = np.asarray(source)
        if array.shape != shape:
            raise ValueError(
                f"{what}[{i}] has shape {array.shape}, but sizes {list(sizes)} need {shape}; "
                f"assign an array of that shape"
            )
        if array.dtype != dtype:
            if array.dtype.kind not in "fiub":
                raise TypeError(f"{what}[{i}] holds {array.dtype} values; assign an array of {dtype}")
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found where it matters
                array = array.astype(dtype)
        arrays.append(array)
    return arrays


def flatten(sizes: Sequence[int], biases: Sequence[Any], weights: Sequence[Any], dtype: np.dtype) -> np.ndarray:
    """A new theta from the arrays of a network, which are left alone; raises what `checked` raises."""
    theta = np.empty(count(sizes), dtype)
    for own, given in zip(views(sizes, theta), checked(sizes, biases, weights, dtype), strict=True):
        for target, source in zip(own, given, strict=True):
            target[...] = source
    return theta


def all_finite(*arrays: Any) -> bool:
    """True unless one of the arrays of numbers holds NaN or infinity."""
    return all(np.isfinite(a).all() for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind == "f")
