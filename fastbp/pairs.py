"""The book's lists of pairs: stacked into matrices once, and recognised when the same list comes again.

Scripts call `SGD(..., epochs=1)` hundreds of times on one list. Stacking 50,000 pairs anew each time would cost more
than the fast epoch itself; trusting a cache would miss an array edited between two calls. So the pairs are known by
identity and their numbers are compared, every one of them, which is a quick read where stacking is a slow write.
"""

import functools
import operator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastbp import data
from fastbp.architecture import Architecture
from fastbp.engines import plan

if TYPE_CHECKING:
    from fastbp.network import Network

# Pairs in one block of a comparison.
BLOCK = data.ColumnsAsRows.BLOCK


class StackedPairs:
    """Pairs (x, y), columns both, as `examples`; row i is pair i of `pairs`, held here so that ids stay theirs.

    The inputs are stacked when it is known which engine will read them (`suit`). density: the share of their entries
    that are not zero, from some of them.
    """

    examples: data.Examples

    def __init__(self, pairs: list[Any], architecture: Architecture, name: str) -> None:
        self.pairs, self.name, self.dtype = list(pairs), name, architecture.dtype
        inputs = self._read(architecture)
        self.density = plan.density(inputs)
        self._inputs: data.ColumnsAsRows | None = inputs
        self._compiled: bool | None = None  # whether the examples stand as the fused engine reads them
        self.left_as(self.pairs, np.arange(len(pairs)))

    def left_as(self, pairs: list[Any], rows: np.ndarray) -> None:
        """Remember the order in which the caller's list was left: it mostly comes back as it was."""
        self._last_pairs, self._last_rows = list(pairs), rows

    def _read(self, architecture: Architecture) -> data.ColumnsAsRows:
        """The inputs, checked but for what their numbers are; whatever stands beside them is read here too."""
        inputs, self._targets = data.split_pairs(self.pairs, self.name)
        return data.inputs_of_pairs(inputs, architecture, self.name)

    def _beside(self, X: Any, architecture: Architecture) -> data.Examples:
        """The examples of which X are the inputs."""
        return data.Examples(X, data.stack_targets(self._targets, architecture, self.name))

    def suit(self, engine: str, architecture: Architecture) -> None:
        """Stack the inputs as this engine reads them: fused without their zeros, if these are many, the others whole.

        Raises ValueError for numbers that are not finite.
        """
        compiled = engine == "fused"
        if self._compiled is compiled:
            return
        inputs = self._inputs or self._read(architecture)
        X = self._stack_compiled(inputs) if compiled else inputs.whole()
        self.examples = self._beside(X, architecture)
        self._inputs, self._compiled = None, compiled

    def _stack_compiled(self, inputs: data.ColumnsAsRows) -> Any:
        """Rows for the kernels, in the network's dtype. If they will be compressed, they are never there as a whole."""
        from fastbp.engines.fused import compress, compress_blocks

        X = None
        if self.density < plan.SPARSE_BELOW:
            X = compress_blocks(inputs.blocks(), (len(inputs), inputs.n), self.dtype, self.density)
        return compress(inputs.whole(self.dtype), self.dtype) if X is None else X

    def rows_of(self, pairs: list[Any]) -> np.ndarray | None:
        """The row of each pair of a list, if it holds the same pairs in any order and their numbers are unchanged."""
        if len(pairs) != len(self.pairs):
            return None
        try:
            rows = self._find_rows(pairs)
            inputs, others = [x for x, _ in self.pairs], [other for _, other in self.pairs]
            with np.errstate(over="ignore"):  # what is too large for the network's dtype is not what was stacked
                unchanged = self._others_unchanged(others) and self._inputs_unchanged(inputs)
        except (KeyError, ValueError, TypeError):  # another pair, or arrays that have taken another shape
            return None
        return rows if unchanged else None

    def _find_rows(self, pairs: list[Any]) -> np.ndarray:
        if all(map(operator.is_, pairs, self._last_pairs)):
            return self._last_rows.copy()
        return np.fromiter(map(self._row.__getitem__, map(id, pairs)), np.int64, len(pairs))

    @functools.cached_property
    def _row(self) -> dict[int, int]:
        """The row of each pair, by its id."""
        return {id(pair): row for row, pair in enumerate(self.pairs)}

    def _others_unchanged(self, targets: list[Any]) -> bool:
        assert self.examples.Y is not None
        Y = data.as_real_array(np.concatenate(targets), self.name).reshape(len(targets), -1)
        return _same_dense(Y, self.examples.Y, 0, self.dtype)

    def _inputs_unchanged(self, inputs: list[Any]) -> bool:
        X = self.examples.X
        for start in range(0, len(inputs), BLOCK):
            block = data.as_real_array(np.concatenate(inputs[start : start + BLOCK]), self.name)
            same = _same_compressed if data.is_sparse(X) else _same_dense
            if not same(block.reshape(-1, X.shape[1]), X, start, self.dtype):
                return False
        return True


class LabelledPairs(StackedPairs):
    """Pairs (x, label), the book's test data: `examples` holds the inputs alone, `labels` is a list."""

    def _read(self, architecture: Architecture) -> data.ColumnsAsRows:
        inputs, labels = data.split_pairs(self.pairs, self.name)
        self.labels = data.plain_labels(labels, self.name)
        return data.inputs_of_pairs(inputs, architecture, self.name)

    def _beside(self, X: Any, architecture: Architecture) -> data.Examples:
        return data.Examples(X)

    def _others_unchanged(self, labels: list[Any]) -> bool:
        return bool(labels == self.labels)


def count_correct(outputs: np.ndarray, labels: list[Any]) -> int:
    """For how many rows of the outputs, (n, n_L), the strongest is the label's."""
    return sum(int(x == y) for x, y in zip(np.argmax(outputs, axis=1).tolist(), labels, strict=True))


def _same_dense(block: np.ndarray, X: np.ndarray, start: int, dtype: np.dtype) -> bool:
    rows = X[start : start + len(block)]
    return np.array_equal(block, rows) if block.dtype == rows.dtype else np.array_equal(block.astype(dtype), rows)


def _same_compressed(block: np.ndarray, X: Any, start: int, dtype: np.dtype) -> bool:
    from fastbp import kernels

    if block.dtype.name not in ("float32", dtype.name):
        block = block.astype(dtype)
    return kernels.same_rows(block.reshape(-1), *block.shape, start, X.indptr, X.indices, X.data)


Kind = TypeVar("Kind", bound=StackedPairs)


def recall(network: "Network", place: str, kind: type[Kind], pairs: list[Any], name: str) -> tuple[Kind, np.ndarray]:
    """The stacked form of `pairs`, the one that is kept in this attribute if it is still theirs; each pair's row in it.

    Another one that was kept is let go first: there is room for one. Raises ValueError for empty or unfitting pairs.
    """
    kept = getattr(network, place)
    if type(kept) is kind and kept.dtype == network.architecture.dtype:
        rows = kept.rows_of(pairs)
        if rows is not None:
            return kept, rows
    setattr(network, place, None)
    del kept
    return kind(pairs, network.architecture, name), np.arange(len(pairs))
