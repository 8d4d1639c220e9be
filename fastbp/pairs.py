"""The book's lists of pairs: stacked into matrices once, and recognised when the same list comes again.

Scripts call `SGD(..., epochs=1)` hundreds of times on one list. Stacking 50,000 pairs anew each time would cost more
than the fast epoch itself; trusting a cache would miss an array edited between two calls. So the pairs are known by
identity and their numbers are compared, every one of them, which is a quick read where stacking is a slow write.
"""

import operator
from typing import Any, TypeVar

import numpy as np

from fastbp import data
from fastbp.architecture import Architecture

# Pairs in one block of a comparison: a copy of so many rows stays in the cache.
BLOCK = 64


class StackedPairs:
    """Pairs (x, y), columns both, as `examples`; row i is pair i of `pairs`, held here so that ids stay theirs."""

    def __init__(self, pairs: list[Any], architecture: Architecture, name: str) -> None:
        self.examples = self._stack(pairs, architecture, name)
        self.pairs = list(pairs)
        self.dtype = architecture.dtype
        self._row = {id(pair): row for row, pair in enumerate(self.pairs)}
        self.left_as(self.pairs, np.arange(len(pairs)))

    def left_as(self, pairs: list[Any], rows: np.ndarray) -> None:
        """Remember the order in which the caller's list was left: it mostly comes back as it was."""
        self._last_pairs, self._last_rows = list(pairs), rows

    def _stack(self, pairs: list[Any], architecture: Architecture, name: str) -> data.Examples:
        return data.stack_pairs(pairs, architecture, name)

    def suit(self, engine: str, architecture: Architecture) -> None:
        """Keep the inputs as this engine reads them: fused without their zeros, if these are many, the others whole."""
        if engine == "fused":
            from fastbp.engines.fused import compress

            self.examples = data.Examples(compress(self.examples.X, self.dtype), self.examples.Y)
        elif data.is_sparse(self.examples.X):
            self.examples = self._stack(self.pairs, architecture, "training_data")

    def rows_of(self, pairs: list[Any]) -> np.ndarray | None:
        """The row of each pair of a list, if it holds the same pairs in any order and their numbers are unchanged."""
        if len(pairs) != len(self.pairs):
            return None
        try:
            rows = self._find_rows(pairs)
            inputs, others = [x for x, _ in self.pairs], [other for _, other in self.pairs]
            unchanged = self._others_unchanged(others) and self._inputs_unchanged(inputs)
        except (KeyError, ValueError, TypeError):  # another pair, or arrays that have taken another shape
            return None
        return rows if unchanged else None

    def _find_rows(self, pairs: list[Any]) -> np.ndarray:
        if all(map(operator.is_, pairs, self._last_pairs)):
            return self._last_rows.copy()
        return np.fromiter(map(self._row.__getitem__, map(id, pairs)), np.int64, len(pairs))

    def _others_unchanged(self, targets: list[Any]) -> bool:
        Y = np.concatenate(targets).reshape(len(targets), -1)
        return self.examples.Y is not None and np.array_equal(Y, self.examples.Y)

    def _inputs_unchanged(self, inputs: list[Any]) -> bool:
        X = self.examples.X
        for start in range(0, len(inputs), BLOCK):
            block = np.concatenate(inputs[start : start + BLOCK]).reshape(-1, X.shape[1])
            same = _same_compressed if data.is_sparse(X) else _same_dense
            if not same(block, X, start):
                return False
        return True


class LabelledPairs(StackedPairs):
    """Pairs (x, label), the book's test data: `examples` holds the inputs alone, `labels` is a list."""

    def _stack(self, pairs: list[Any], architecture: Architecture, name: str) -> data.Examples:
        X, self.labels = data.stack_labelled(pairs, architecture, name)
        return data.Examples(X)

    def _others_unchanged(self, labels: list[Any]) -> bool:
        return bool(labels == self.labels)


def count_correct(outputs: np.ndarray, labels: list[Any]) -> int:
    """For how many rows of the outputs, (n, n_L), the strongest is the label's."""
    return sum(int(x == y) for x, y in zip(np.argmax(outputs, axis=1).tolist(), labels, strict=True))


def _same_dense(block: np.ndarray, X: np.ndarray, start: int) -> bool:
    return np.array_equal(block, X[start : start + len(block)])


def _same_compressed(block: np.ndarray, X: Any, start: int) -> bool:
    from fastbp import kernels

    if block.dtype.name not in ("float32", "float64"):
        block = block.astype(X.data.dtype)
    return kernels.same_rows(block.reshape(-1), *block.shape, start, X.indptr, X.indices, X.data)


Kind = TypeVar("Kind", bound=StackedPairs)


def recall(
    kept: StackedPairs | None, kind: type[Kind], pairs: list[Any], architecture: Architecture, name: str
) -> tuple[Kind, np.ndarray]:
    """The stacked form of `pairs`, the kept one if it is still theirs, and the row of each pair in it.

    Raises ValueError for empty or unfitting pairs.
    """
    if type(kept) is kind and kept.dtype == architecture.dtype:
        rows = kept.rows_of(pairs)
        if rows is not None:
            return kept, rows
    return kind(pairs, architecture, name), np.arange(len(pairs))
