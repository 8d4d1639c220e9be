"""The order of the examples: the random stream of the book's code, without moving the book's lists about."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np

# Draw by position alone, whatever stands there.
_BY_INDEX = (np.random.Generator.shuffle, np.random.RandomState.shuffle, random.Random.shuffle)


class Order:
    """Shuffles `pairs` as `shuffle(pairs)` would, epoch after epoch, and tells which row stands where.

    NumPy's and Python's own shuffles draw by position only, so an array of indices is shuffled in the list's place,
    with the same draws, and the list itself is brought into that order at the end (`apply`). Any other callable gets
    the list, and the rows are found by the identity of the pairs.
    """

    def __init__(
        self,
        shuffle: Callable[[Any], None],
        pairs: list[Any],
        stacked: list[Any],
        rows: np.ndarray,
        compiled: bool = False,
    ) -> None:
        """Row i of the matrices is pair i of `stacked`; `rows` tells which row each of `pairs` is.

        With `compiled`, Python's shuffle is drawn by a kernel: 1.6 ms for 50,000 rows in the place of 32.
        """
        self._shuffle, self._pairs, self._stacked, self._rows = shuffle, pairs, stacked, rows
        owner = getattr(shuffle, "__self__", None)  # np.random.shuffle and random.shuffle have one too
        own_kind = getattr(type(owner), "shuffle", None)  # a subclass may shuffle in its own way
        self.by_index = own_kind in _BY_INDEX and getattr(shuffle, "__name__", "") == "shuffle"
        self._python = owner if isinstance(owner, random.Random) else None
        self._compiled = compiled and type(owner) is random.Random  # a subclass may draw otherwise

    def next(self, visible: bool = False) -> np.ndarray:
        """The rows in the order of the next epoch; `visible` if the caller's list must show it at once."""
        if not self.by_index:
            self._shuffle(self._pairs)
            self._find_rows()
        elif self._python is None:
            self._shuffle(self._rows)
        elif self._compiled:
            self._shuffle_compiled(self._python)
        else:
            rows = self._rows.tolist()
            self._shuffle(rows)
            self._rows = np.array(rows, np.int64)
        if visible:
            self.apply()
        return self._rows.copy()

    def _shuffle_compiled(self, generator: random.Random) -> None:
        """What random.shuffle would do, its state taken out before and put back after."""
        from fastbp import kernels

        version, (*words, at), gauss_next = generator.getstate()
        state = np.array(words, np.uint32)
        at = kernels.shuffle_like_python(self._rows, state, at)
        generator.setstate((version, (*state.tolist(), at), gauss_next))

    def _find_rows(self) -> None:
        place = {id(pair): row for row, pair in enumerate(self._stacked)}
        rows = [place.get(id(pair), -1) for pair in self._pairs]
        if -1 in rows or len(rows) != len(self._rows):
            raise ValueError(
                f"shuffle={self._shuffle!r} must permute the list in place, but it left a list of {len(rows)} "
                f"where {len(self._rows)} were given, or put other objects in; move the pairs, do not rebuild them"
            )
        self._rows = np.array(rows, np.int64)

    def apply(self) -> None:
        """Bring the caller's list into the present order."""
        if self.by_index:
            self._pairs[:] = [self._stacked[row] for row in self._rows.tolist()]

    def state(self) -> dict[str, Any]:
        """What `next` starts from, apart from the random stream of whoever shuffles."""
        return {"rows": self._rows.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to the order of a `state`; the caller's list takes it too."""
        self._rows = np.array(state["rows"], np.int64)
        self._pairs[:] = [self._stacked[row] for row in self._rows.tolist()]

    @property
    def rows(self) -> np.ndarray:
        """The row of each of the caller's pairs, in their present order."""
        return self._rows.copy()
