"""The edge: whatever users hand in becomes checked matrices here, rows are examples; nothing below checks again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastbp.architecture import Architecture


@dataclass(frozen=True)
class Examples:
    """Checked examples: X (n, n_1) C-contiguous, or scipy CSR; and their targets, Y (n, n_L) or labels (n,) int64.

    X and Y may be in another dtype than the network's (bytes, say); whoever computes with them converts.
    """

    X: Any
    Y: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def rows(self, first: int, last: int) -> "Examples":
        """The examples first … last - 1, as views."""
        return Examples(
            self.X[first:last],
            None if self.Y is None else self.Y[first:last],
            None if self.labels is None else self.labels[first:last],
        )

    def one_hot(self, n_out: int, dtype: np.dtype) -> np.ndarray:
        """The targets as numbers, (n, n_L): column j of a label's row is 1 where j is the label."""
        if self.labels is None:
            assert self.Y is not None
            return self.Y.astype(dtype, copy=False)
        Y = np.zeros((len(self), n_out), dtype)
        Y[np.arange(len(self)), self.labels] = 1
        return Y


def is_sparse(X: Any) -> bool:
    """True for scipy's compressed rows, without importing scipy."""
    return hasattr(X, "indptr") and hasattr(X, "indices") and hasattr(X, "data")


def as_inputs(X: Any, n_in: int, dtype: np.dtype, name: str = "X") -> Any:
    """X as (n, n_1) in the network's dtype, C-contiguous; a copy only where X is not that already.

    Numbers of any real type are cast to the network's dtype (float64 data to a float32 network too, since the
    network's dtype is the user's word); CSR matrices stay compressed. Raises TypeError for complex, masked and
    object data, ValueError for a wrong shape, no rows, NaN or infinity (naming the first row and column).
    """
    if hasattr(X, "tocsr"):
        return _as_csr(X, n_in, dtype, name)
    array = as_real_array(X, name)
    if array.ndim != 2:
        hint = f"{name}.reshape(1, -1) is one example, {name}.reshape(-1, 1) many of one feature"
        raise ValueError(f"{name} must be a matrix with one example a row, got shape {array.shape}; {hint}")
    _check_columns(array.shape, n_in, name)
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, dtype=dtype)
    check_finite(converted, name, before_cast=array)
    return converted


def _check_columns(shape: tuple[int, ...], n_in: int, name: str) -> None:
    if shape[1] != n_in:
        hint = f"; {name}.T has that many" if shape[0] == n_in else ""
        raise ValueError(f"{name} has shape {shape}, but the network takes {n_in} features a row{hint}")
    if shape[0] == 0:
        raise ValueError(f"{name} is empty: shape {shape}; give at least one example")


def _as_csr(X: Any, n_in: int, dtype: np.dtype, name: str) -> Any:
    if X.dtype.kind not in "fiub":
        raise TypeError(f"{name} holds {X.dtype} numbers; convert it to a real type")
    csr = X.tocsr()
    _check_columns(csr.shape, n_in, name)
    csr.check_format(full_check=True)  # the kernels trust the indices
    with np.errstate(over="ignore"):
        csr = csr.astype(dtype, copy=False)
    if not np.isfinite(csr.data).all():
        at = int(np.argmin(np.isfinite(csr.data)))
        row = int(np.searchsorted(csr.indptr, at, side="right")) - 1
        raise ValueError(f"{name} has {csr.data[at]} in row {row}, column {csr.indices[at]}; remove or replace it")
    return csr


def as_real_array(given: Any, name: str) -> np.ndarray:
    """`given` as an array of real numbers; TypeError with advice for anything else."""
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, and training has no masks; fill it first, {name}.filled(0) say")
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name} is not rectangular: {error}") from None
    except (TypeError, RuntimeError) as error:  # a tensor that requires grad, or lives elsewhere
        raise TypeError(f"{name} cannot be read as an array: {error}") from None
    if array.dtype.kind not in "fiub":
        advice = "convert it with astype(float)" if array.dtype.kind in "OUSV" else "only real numbers are trained on"
        raise TypeError(f"{name} holds {array.dtype} values; {advice}")
    return array


def check_finite(array: np.ndarray, name: str, before_cast: np.ndarray | None = None) -> None:
    """ValueError naming the first NaN or infinity of a matrix by row and column.

    One sum decides in nearly every case (it is finite only if every entry is); only a sum that is not finite,
    which huge entries can cause too, is looked into.
    """
    with np.errstate(all="ignore"):
        if np.isfinite(np.sum(array)):
            return
    for i, row in enumerate(array):
        finite = np.isfinite(row)
        if not finite.all():
            j = int(np.argmin(finite))
            if before_cast is not None and np.isfinite(before_cast[i, j]):
                raise ValueError(
                    f"{name} has {before_cast[i, j]} in row {i}, column {j}, too large for {array.dtype}; scale it, "
                    f"or use dtype='float64'"
                )
            raise ValueError(f"{name} has {row[j]} in row {i}, column {j}; remove or replace it")


class Targets(NamedTuple):
    """What the targets of a fit are: numbers Y (n, n_L), or labels (n,) that index the outputs; `classes` names them.

    With one output and two classes the labels become a column of 0 and 1, and `classes` is still set.
    """

    Y: np.ndarray | None
    labels: np.ndarray | None
    classes: np.ndarray | None


def as_targets(y: Any, n: int, architecture: Architecture, name: str = "y", classes: Any = None) -> Targets:
    """Read the targets of n examples for a network with n_L outputs.

    - (n, n_L) numbers: one-hot rows (each a single 1) are labels 0 … n_L-1; any others are real targets.
    - (n,) whole numbers or bools: labels 0 … n_L-1. With one output: labels where they are 0 and 1 and the output
      is a sigmoid, else real targets.
    - (n,) strings: labels; the classes are the sorted distinct strings, exactly n_L of them (two, with one output).
    - (n,) or (n, 1) real numbers: real targets of one output.

    `classes` are those an earlier fit found, for validation data. Raises ValueError or TypeError, saying which row.
    """
    n_out = architecture.sizes[-1]
    if isinstance(y, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill it first")
    array = np.asarray(y)
    if array.shape[:1] != (n,):
        raise ValueError(f"{name} has shape {array.shape}, but there are {n} examples; give one target a row")
    if array.dtype.kind == "O":
        array = _from_objects(array, name)
    if array.dtype.kind in "US" or (classes is not None and np.asarray(classes).dtype.kind in "US"):
        return _as_named_labels(array, n_out, name, classes)
    array = as_real_array(array, name)
    if array.ndim == 2 and array.shape[1] == 1 and n_out > 1:
        array = array[:, 0]
    if array.ndim == 1 and n_out > 1:
        return Targets(None, _as_labels(array, n_out, name), np.arange(n_out))
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2 or array.shape[1] != n_out:
        raise ValueError(
            f"{name} has shape {array.shape}, but the network has {n_out} outputs; "
            f"give (n,) labels or (n, {n_out}) numbers"
        )
    with np.errstate(over="ignore"):
        Y = np.ascontiguousarray(array, dtype=architecture.dtype)
    check_finite(Y, name, before_cast=array)
    _check_range(Y, architecture, name)
    if n_out == 1:
        binary = (
            array.dtype.kind in "iub"
            and architecture.activations[-1].name == "sigmoid"
            and bool(np.isin(Y, (0, 1)).all())
        )
        return Targets(Y, None, np.arange(2) if binary else None)
    if ((Y == 0) | (Y == 1)).all() and (Y.sum(axis=1) == 1).all():
        return Targets(None, np.argmax(Y, axis=1).astype(np.int64), np.arange(n_out))
    return Targets(Y, None, None)


def _from_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Objects that are all strings, or all numbers, as what they are."""
    kinds = {type(value) for value in array.ravel()}
    if kinds and all(issubclass(kind, str) for kind in kinds):
        return array.astype(str)
    if kinds and all(issubclass(kind, bool | int | float | np.number | np.bool_) for kind in kinds):
        return np.array(array.tolist())
    raise TypeError(f"{name} mixes values of types {sorted(kind.__name__ for kind in kinds)}; give strings or numbers")


def _as_labels(array: np.ndarray, n_out: int, name: str) -> np.ndarray:
    labels = array.astype(np.int64) if array.dtype.kind in "iub" else None
    if labels is None:
        with np.errstate(invalid="ignore"):
            labels = array.astype(np.int64)
        if not (labels == array).all():
            row = int(np.argmin(labels == array))
            raise ValueError(
                f"{name}[{row}] is {array[row]}, but labels are whole numbers from 0 to {n_out - 1}; for real targets "
                f"give {name} as (n, {n_out})"
            )
    wrong = (labels < 0) | (labels >= n_out)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name}[{row}] is {array[row]}, but the outputs stand for labels 0 to {n_out - 1}")
    return labels


def _as_named_labels(array: np.ndarray, n_out: int, name: str, classes: Any) -> Targets:
    if array.ndim != 1:
        raise ValueError(f"{name} holds strings in shape {array.shape}; give one label a row, shape (n,)")
    found = np.unique(array)
    known = found if classes is None else np.asarray(classes)
    expected = 2 if n_out == 1 else n_out
    if classes is None and len(found) != expected:
        shown = ", ".join(map(str, found[:6])) + (", …" if len(found) > 6 else "")
        raise ValueError(f"{name} has {len(found)} distinct labels ({shown}), but the network tells {expected} apart")
    at = np.clip(np.searchsorted(known, array), 0, len(known) - 1)
    unknown = known[at] != array
    if unknown.any():
        row = int(np.argmax(unknown))
        raise ValueError(f"{name}[{row}] is {array[row]!r}, which is none of the classes {list(map(str, known))}")
    labels = at.astype(np.int64)
    if n_out == 1:
        return Targets(labels[:, np.newaxis].astype(np.float64), None, known)
    return Targets(None, labels, known)


def _check_range(Y: np.ndarray, architecture: Architecture, name: str) -> None:
    """The cross-entropies are costs of probabilities: targets outside [0, 1] would have no least cost."""
    if architecture.cost.outputs is None:
        return
    wrong = (Y < 0) | (Y > 1)
    if wrong.any():
        i, j = np.unravel_index(int(np.argmax(wrong)), Y.shape)
        raise ValueError(
            f"{name} has {Y[i, j]} in row {i}, column {j}, but cost {architecture.cost.name!r} needs targets in [0, 1]; "
            f"scale them, or use cost='quadratic'"
        )


# ------------------------------------------------------------------------------------------------------------
# The book's data: lists of pairs of columns.
# ------------------------------------------------------------------------------------------------------------


def as_columns(x: Any, n: int, name: str) -> np.ndarray:
    """One column (n, 1) or a matrix of columns (n, m), as the book writes vectors. Its dtype is kept."""
    array = as_real_array(x, name)
    if array.ndim != 2:
        raise ValueError(
            f"{name} has shape {array.shape}, but the network takes columns: ({n}, 1), or ({n}, m) for m of them; "
            f"use {name}.reshape(-1, 1)"
        )
    if array.shape[0] != n:
        raise ValueError(f"{name} has shape {array.shape}, but the network takes columns of {n} numbers, ({n}, 1)")
    return array


def stack_columns(columns: Sequence[Any], n: int, name: str) -> np.ndarray:
    """Many columns (n, 1) as the rows of one matrix (m, n); ValueError names the first that does not fit."""
    for i, shape in enumerate(map(np.shape, columns)):
        if shape != (n, 1):
            as_columns(columns[i], n, f"{name}[{i}]")
            raise ValueError(f"{name}[{i}] has shape {shape}, but each example is one column, ({n}, 1)")
    stacked = np.concatenate(columns).reshape(len(columns), n)
    return as_real_array(stacked, name)


def stack_pairs(pairs: Iterable[Any], architecture: Architecture, name: str) -> Examples:
    """The book's training data, [(x, y), …] with columns x (n_1, 1) and y (n_L, 1), as checked matrices."""
    inputs, targets = _split_pairs(pairs, name)
    X = stack_columns(inputs, architecture.sizes[0], f"{name} inputs")
    check_finite(X, f"{name} inputs")
    Y = stack_columns(targets, architecture.sizes[-1], f"{name} targets")
    check_finite(Y, f"{name} targets")
    return Examples(X, Y)


def stack_labelled(pairs: Iterable[Any], architecture: Architecture, name: str) -> tuple[np.ndarray, list[Any]]:
    """The book's test data, [(x, label), …], as a checked matrix and the list of labels."""
    inputs, labels = _split_pairs(pairs, name)
    X = stack_columns(inputs, architecture.sizes[0], f"{name} inputs")
    check_finite(X, f"{name} inputs")
    return X, labels


def _split_pairs(pairs: Iterable[Any], name: str) -> tuple[list[Any], list[Any]]:
    inputs, others = [], []
    for i, pair in enumerate(pairs):
        try:
            x, other = pair
        except (TypeError, ValueError):
            raise ValueError(f"{name}[{i}] is not a pair (x, y): got {type(pair).__name__}") from None
        inputs.append(x)
        others.append(other)
    if not inputs:
        raise ValueError(f"{name} is empty; give at least one pair (x, y) (an iterator can be read only once)")
    return inputs, others
