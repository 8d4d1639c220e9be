"""The order of the examples: the random stream of the book's code, without moving the book's lists about."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np


class Order:
    """Shuffles `pairs` as `shuffle(pairs)` would, epoch after epoch, and tells which row stands where.

    NumPy's and Python's own shuffles draw by position only, so an array of indices is shuffled in the list's place,
    with the same draws, and the list itself is brought into that order at the end (`apply`). Any other callable gets
    the list, and the rows are found by the identity of the pairs.
    """

    def __init__(self, shuffle: Callable[[Any], None], pairs: list[Any]) -> None:
        self._shuffle, self._pairs = shuffle, pairs
        self._first = list(pairs)  # row i of the stacked matrices is pair i of this list
        self._rows = np.arange(len(pairs))
        owner = getattr(shuffle, "__self__", None)
        self._by_index = (
            shuffle in (np.random.shuffle, random.shuffle)
            or isinstance(owner, np.random.Generator | np.random.RandomState | random.Random)
        ) and getattr(shuffle, "__name__", "") == "shuffle"
        self._on_list = isinstance(owner, random.Random)

    def next(self, visible: bool = False) -> np.ndarray:
        """The rows in the order of the next epoch; `visible` if the caller's list must show it at once."""
        if not self._by_index:
            self._shuffle(self._pairs)
            place = {id(pair): row for row, pair in enumerate(self._first)}
            rows = [place.get(id(pair), -1) for pair in self._pairs]
            if -1 in rows or len(rows) != len(self._first):
                raise ValueError(
                    f"shuffle={self._shuffle!r} must permute the list in place, but it left a list of {len(rows)} "
                    f"where {len(self._first)} were given, or put other objects in; move the pairs, do not rebuild them"
                )
            self._rows = np.array(rows, np.int64)
        elif self._on_list:
            rows = self._rows.tolist()
            self._shuffle(rows)
            self._rows = np.array(rows, np.int64)
        else:
            self._shuffle(self._rows)
        if visible:
            self.apply()
        return self._rows.copy()

    def apply(self) -> None:
        """Bring the caller's list into the present order."""
        if self._by_index:
            self._pairs[:] = [self._first[row] for row in self._rows]
