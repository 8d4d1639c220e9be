"""The feedforward inside a person's own `backprop`, found among its variables: by name, by shape, or by number."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastbp.activations import sigmoid

_DEPTH = 3  # of lists within lists: [(a, z), …] is 2


class Forward(NamedTuple):
    """a^1 … a^L and z^2 … z^L of one example, columns (n_l, 1), as somebody's code computed them."""

    activations: list[np.ndarray]
    zs: list[np.ndarray]


def size_of(theirs: Any, ours: Any, rounding: float = 0.0) -> float:
    """max |theirs - ours| / max |ours|, leaving out so much rounding; where ours is zero, max |theirs|."""
    difference = float(np.max(np.abs(np.asarray(theirs) - ours), initial=0))
    return max(difference - rounding, 0.0) / (float(np.max(np.abs(ours), initial=0)) or 1.0)


def plain_forward(x: np.ndarray, biases: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> Forward:
    """What it should be, with these parameters."""
    activations, zs = [x], []
    for b, w in zip(biases, weights, strict=True):
        zs.append(w @ activations[-1] + b)
        activations.append(sigmoid(zs[-1]))
    return Forward(activations, zs)


def find(
    local: dict[str, Any],
    x: np.ndarray,
    biases: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    tolerance: float,
) -> Forward | None:
    """The feedforward of x in the local variables with which `backprop` ended; None if it is not there.

    A list of columns like the layers, the first of them x, is the activations, whatever it is called; else each is
    known by its numbers, as what should follow from the one below, or as the sigmoid of another column.
    """
    sizes = [len(x), *map(len, biases)]
    lists = {name: columns for name, value in local.items() if (columns := _as_columns(value)) is not None}
    activations = _activations(lists, x, sizes)
    if activations is None:
        return _by_number(list(_columns(local)), x, biases, weights, tolerance)
    zs = _sums(lists, activations, tolerance)
    if zs is None:
        below = zip(activations, activations[1:], biases, weights, strict=False)
        zs = [_sum_of(a, w @ a_below + b) for a_below, a, b, w in below]
    return Forward(activations, zs)


def _activations(lists: dict[str, list[np.ndarray]], x: np.ndarray, sizes: list[int]) -> list[np.ndarray] | None:
    fitting = {
        name: columns for name, columns in lists.items()
        if list(map(len, columns)) == sizes and np.array_equal(columns[0], x)
    }  # fmt: skip
    return fitting.get("activations", next(iter(fitting.values()), None))


def _sums(
    lists: dict[str, list[np.ndarray]], activations: list[np.ndarray], tolerance: float
) -> list[np.ndarray] | None:
    """z^2 … z^L in a list of their own: of that name, or the one whose sigmoids the activations are."""
    sizes = list(map(len, activations[1:]))
    fitting = {name: columns for name, columns in lists.items() if list(map(len, columns)) == sizes}
    for columns in fitting.values():
        if all(size_of(a, sigmoid(z)) <= tolerance for z, a in zip(columns, activations[1:], strict=True)):
            return columns
    return fitting.get("zs")


def _by_number(
    columns: list[np.ndarray], x: np.ndarray, biases: Sequence[np.ndarray], weights: Sequence[np.ndarray], tol: float
) -> Forward | None:
    """Layer by layer: what should follow from the activations below, else a column that is another one's sigmoid."""
    activations: list[np.ndarray] = [x]
    zs: list[np.ndarray] = []
    for b, w in zip(biases, weights, strict=True):
        z = w @ activations[-1] + b
        here = [column for column in columns if len(column) == len(z)]
        pairs = ((one, other) for one in here for other in here if size_of(other, sigmoid(one)) <= tol)
        found = next((column for column in here if size_of(column, sigmoid(z)) <= tol), None)
        if found is not None:
            a, z = found, next((column for column in here if size_of(column, z) <= tol), _sum_of(found, z))
        elif (pair := next((pair for pair in pairs if not _is_among(pair[0], zs)), None)) is not None:
            z, a = pair
        else:
            return None
        activations.append(a)
        zs.append(z)
    return Forward(activations, zs)


def _sum_of(a: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The z of which a is the sigmoid; z itself where a is no sigmoid at all."""
    if not ((a >= 0) & (a <= 1)).all():
        return z
    inside = np.clip(a, 1e-300, 1 - 2**-53)  # where a has become 1, σ' is a rounding error, and not NaN
    return np.log(inside) - np.log1p(-inside)


def _is_among(column: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    return any(np.array_equal(column, other) for other in others)


def _as_columns(value: Any) -> list[np.ndarray] | None:
    """A list or tuple of columns as just that; None for anything else."""
    if not isinstance(value, list | tuple):
        return None
    columns = [_as_column(part) for part in value]
    return [column for column in columns if column is not None] if all(c is not None for c in columns) else None


def _as_column(value: Any) -> np.ndarray | None:
    """A column, (n, 1) or (n,), as (n, 1) float64; None for anything else."""
    if (
        not isinstance(value, np.ndarray)
        or value.dtype.kind != "f"
        or value.shape not in ((value.size,), (value.size, 1))
    ):
        return None
    return value.reshape(-1, 1).astype(np.float64, copy=False)


def _columns(value: Any, depth: int = _DEPTH) -> Iterator[np.ndarray]:
    """Every column within lists, tuples and dicts."""
    column = _as_column(value)
    if column is not None:
        yield column
    elif depth and isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _columns(part, depth - 1)
