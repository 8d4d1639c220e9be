"""A cost of the user's own, written for one example at a time, as the matrix equations take costs."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastbp.costs import Cost


@dataclass(frozen=True, eq=False)
class OwnCost(Cost):
    """`given`, a class or an object with fn(a, y) and delta(z, a, y) on columns (n_L, 1), asked row by row.

    y is a matrix (m, n_L), or a list of m targets that are handed on as they are.
    """

    given: Any

    def delta(self, z: Any, a: Any, y: Any, f_prime: Any) -> np.ndarray:
        """BP1, by the user's delta(z, a, y): the error of the output layer, (m, n_L)."""
        rows = [self.given.delta(*columns) for columns in _by_example(z, a, y)]  # BP1
        for row in rows:
            if np.shape(row) != (z.shape[1], 1):
                raise ValueError(
                    f"{self.name}.delta(z, a, y) returned shape {np.shape(row)}; it must return the error of the "
                    f"output layer, a column of shape ({z.shape[1]}, 1) like z and a"
                )
        return np.hstack(rows).T.astype(z.dtype, copy=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnCost) and other.given is self.given

    def __hash__(self) -> int:
        return id(self.given)


def own_cost(given: Any) -> OwnCost:
    """The user's cost; TypeError if it is none."""
    if not callable(getattr(given, "fn", None)) or not callable(getattr(given, "delta", None)):
        raise TypeError(
            f"cost must be QuadraticCost, CrossEntropyCost, or a class or object of your own with fn(a, y) and "
            f"delta(z, a, y); got {given!r}"
        )
    return OwnCost(name_of(given), partial(_values, given), _no_derivative, None, -1, given)


def name_of(cost: Any) -> str:
    """The name of a cost's class."""
    return (cost if isinstance(cost, type) else type(cost)).__name__


def as_number(value: Any, name: str) -> float:
    """What a user's fn(a, y) returned, one number, maybe in an array."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiub":
        raise ValueError(f"{name}.fn(a, y) returned {value!r}; it must return the cost of one example, a number")
    return float(array.item())


def _values(given: Any, z: Any, a: Any, y: Any) -> np.ndarray:
    name = name_of(given)
    return np.array([as_number(given.fn(a_x, y_x), name) for _, a_x, y_x in _by_example(z, a, y)])


def _by_example(z: Any, a: Any, y: Any) -> Any:
    """Rows as columns (n_L, 1), an example at a time."""
    if isinstance(y, np.ndarray):
        y = y[:, :, np.newaxis]
    return zip(z[:, :, np.newaxis], a[:, :, np.newaxis], y, strict=True)


def _no_derivative(a: Any, y: Any) -> Any:
    raise TypeError("a cost of your own has delta(z, a, y), the error of the output layer, and no ∂C/∂a alone")
