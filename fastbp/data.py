"""The edge: whatever users hand in becomes checked matrices here, rows are examples; nothing below checks again."""

import functools
import reprlib
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastbp.architecture import Architecture

SMALL = 4096  # numbers


class Shared:
    """Inputs X, (n, n_1), that many fits share: checked, and brought into an engine's form, once and not in each fit.

    Stands in the place of X in `fit` and in `validation_data`, in several threads at once too. Whoever makes one
    promises that X will not be written to. Pickled, it is X alone.
    """

    def __init__(self, X: Any) -> None:
        self.X = X
        self._forms: dict[Hashable, Any] = {}
        self._lock = threading.RLock()

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returned when it was first called for this key; other threads wait for it."""
        with self._lock:
            if key not in self._forms:
                self._forms[key] = make()
            return self._forms[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.X, dtype, copy=copy)

    def __getstate__(self) -> Any:
        return {"X": self.X}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Shared.__init__(self, state["X"])


@dataclass(frozen=True)
class Examples:
    """Checked examples: X (n, n_1) C-contiguous, or scipy CSR; and their targets, Y (n, n_L) or labels (n,) int64.

    X and Y may be in another dtype than the network's (bytes, say); whoever computes with them converts. `weights`,
    (n,) float64, say how many times each example counts; None for once each. `shared` tells where X came from, if other
    fits train on it too.
    """

    X: Any
    Y: np.ndarray | None = None
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None
    shared: Shared | None = None

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def rows(self, first: int, last: int) -> "Examples":
        """The examples first … last - 1, as views."""
        return Examples(
            self.X[first:last],
            None if self.Y is None else self.Y[first:last],
            None if self.labels is None else self.labels[first:last],
            None if self.weights is None else self.weights[first:last],
        )

    def take(self, rows: np.ndarray) -> "Examples":
        """The examples of these rows, copied."""
        return Examples(
            self.X[rows],
            None if self.Y is None else self.Y[rows],
            None if self.labels is None else self.labels[rows],
            None if self.weights is None else self.weights[rows],
        )

    def inputs_as(self, form: str, dtype: np.dtype, make: Callable[[], Any]) -> Any:
        """X as an engine reads it: made now, or, if X is shared, found where the first fit left it."""
        return make() if self.shared is None else self.shared.once((form, dtype), make)

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


def dense(X: Any) -> np.ndarray:
    """X with its zeros written out, if it is sparse; else as it is."""
    return X.toarray() if is_sparse(X) else X


def as_inputs(X: Any, n_in: int, dtype: np.dtype, name: str = "X") -> Any:
    """X as (n, n_1) in the network's dtype, C-contiguous; a copy only where X is not that already.

    Numbers of any real type are cast to the network's dtype (float64 data to a float32 network too, since the
    network's dtype is the user's word); CSR matrices stay compressed. Raises TypeError for complex, masked and
    object data, ValueError for a wrong shape, no rows, NaN or infinity (naming the first row and column).
    """
    if isinstance(X, Shared):
        return X.once(("checked", n_in, dtype), lambda: as_inputs(X.X, n_in, dtype, name))
    if hasattr(X, "tocsr"):
        return _as_csr(X, n_in, dtype, name)
    array = as_real_array(X, name)
    if array.ndim != 2:
        hint = f"{name}.reshape(1, -1) is one example, {name}.reshape(-1, 1) many of one feature"
        raise ValueError(f"{name} must be a matrix with one example a row, got shape {array.shape}; {hint}")
    _check_columns(array.shape, n_in, name)
    return cast(array, dtype, name)


def as_weights(given: Any, n: int, name: str) -> np.ndarray:
    """The weights of n examples, (n,) float64. ValueError or TypeError unless finite, ≥ 0, and some greater than 0."""
    weights = as_real_array(given, name).astype(np.float64)
    if weights.shape != (n,):
        raise ValueError(f"{name} has shape {weights.shape}, but there are {n} examples; give one weight a row, ({n},)")
    wrong = ~np.isfinite(weights) | (weights < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{name}[{row}] is {weights[row]}, but a weight is a finite number ≥ 0")
    if not weights.any():
        raise ValueError(f"{name} is 0 for every example, and nothing would be learned; give some a weight")
    return weights


def cast(array: np.ndarray, dtype: np.dtype, name: str, first_row: int = 0) -> np.ndarray:
    """A matrix of finite numbers in this dtype, C-contiguous; a copy only if it is not that already.

    ValueError names the first NaN or infinity, and the first number too large for the dtype.
    """
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, dtype=dtype)
    check_finite(converted, name, before_cast=array, first_row=first_row)
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
    _check_columns(X.shape, n_in, name)
    given = X.tocsr()
    try:
        # A matrix of its own over the same memory (the kernels read on from entry to entry): checking trims arrays
        # that are longer than they need be.
        parts = tuple(map(np.ascontiguousarray, (given.data, given.indices, given.indptr)))
        csr = type(given)(parts, shape=given.shape, copy=False)
        csr.check_format(full_check=True)  # the kernels trust the indices
    except ValueError as error:
        raise ValueError(f"{name} is a damaged sparse matrix: {error}") from None
    before = csr.data
    with np.errstate(over="ignore"):
        csr = csr.astype(dtype, copy=False)
    finite = np.isfinite(csr.data)
    if not finite.all():
        at = int(np.argmin(finite))
        row = int(np.searchsorted(csr.indptr, at, side="right")) - 1
        raise _not_finite(name, csr.data[at], row, csr.indices[at], before[at], dtype)
    return csr


def as_real_array(given: Any, name: str) -> np.ndarray:
    """`given` as an array of real numbers; TypeError with advice for anything else."""
    array = _read(given, name)
    if array.dtype.kind not in "fiub":
        advice = "convert it with astype(float)" if array.dtype.kind in "OUST" else "only real numbers are trained on"
        raise TypeError(f"{name} holds {array.dtype} values; {advice}")
    return array


def check_finite(array: np.ndarray, name: str, before_cast: np.ndarray | None = None, first_row: int = 0) -> None:
    """ValueError naming the first NaN or infinity of a matrix by row and column; its rows count from `first_row`.

    One sum decides in nearly every case (it is finite only if every entry is); only a sum that is not finite,
    which huge entries can cause too, is looked into. For a few numbers (a column of feedforward's) it is quicker to
    look at each than to silence NumPy first: 2 µs against 5.
    """
    if array.size <= SMALL:
        if np.isfinite(array).all():
            return
    else:
        with np.errstate(all="ignore"):
            if np.isfinite(np.sum(array)):
                return
    for i, row in enumerate(array):
        finite = np.isfinite(row)
        if not finite.all():
            j = int(np.argmin(finite))
            before = row[j] if before_cast is None else before_cast[i, j]
            raise _not_finite(name, row[j], first_row + i, j, before, array.dtype)


def _not_finite(name: str, value: Any, row: int, column: int, before_cast: Any, dtype: np.dtype) -> ValueError:
    """The error for one entry, which may have become infinite only in the network's dtype."""
    if not np.isfinite(before_cast):
        return ValueError(f"{name} has {value} in row {row}, column {column}; remove or replace it")
    wider = ", or use dtype='float64'" if dtype == np.float32 else ""
    return ValueError(f"{name} has {before_cast} in row {row}, column {column}, too large for {dtype}; scale it{wider}")


def read_examples(
    architecture: Architecture, X: Any, y: Any, prefix: str = "", classes: Any = None
) -> tuple[Examples, Any]:
    """Checked examples, and the classes their labels stand for (None for real targets)."""
    shared = X if isinstance(X, Shared) else None
    X = as_inputs(X, architecture.sizes[0], architecture.dtype, f"{prefix}X")
    targets = as_targets(y, X.shape[0], architecture, f"{prefix}y", classes)
    return Examples(X, targets.Y, targets.labels, shared=shared), targets.classes


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
    - (n,) whole numbers or bools: labels 0 … n_L-1. With one output: labels 0 and 1 if the output is a sigmoid,
      else real targets.
    - (n,) or (n, 1) strings, or bytes in UTF-8: labels; the classes are the sorted distinct strings, exactly n_L of
      them (two, with one output).
    - (n,) or (n, 1) real numbers: real targets of one output.

    `classes` are those an earlier fit found, for validation data. Raises ValueError or TypeError, saying which row.
    """
    n_out = architecture.sizes[-1]
    array = _read(y, name)
    if array.shape[:1] != (n,):
        raise ValueError(f"{name} has shape {array.shape}, but there are {n} examples; give one target a row")
    array = _plain_strings(array, name)
    named = classes is not None and classes.dtype.kind == "U"
    if array.dtype.kind == "U":
        if array.ndim == 2 and array.shape[1] == 1:  # a frame of one column
            array = array[:, 0]
        if classes is not None and not named:
            shown = reprlib.repr(classes.tolist())
            raise ValueError(f"{name} holds strings, but the network's labels are the numbers {shown}; give those")
        return _as_named_labels(array, n_out, name, classes)
    if named:
        shown = reprlib.repr(classes.tolist())
        raise ValueError(f"{name} holds {array.dtype} values, but the network's labels are {shown}; give those")
    array = as_real_array(array, name)
    if array.ndim == 2 and array.shape[1] == 1 and n_out > 1:
        array = array[:, 0]
    if array.ndim == 1 and n_out > 1:
        return Targets(None, as_labels(array, n_out, name), np.arange(n_out))
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2 or array.shape[1] != n_out:
        raise ValueError(
            f"{name} has shape {array.shape}, but the network has {n_out} outputs; "
            f"give (n,) labels or (n, {n_out}) numbers"
        )
    Y = cast(array, architecture.dtype, name)
    if n_out == 1:
        output = architecture.neurons.get((len(architecture.sizes), 0), architecture.activations[-1])
        if classes is not None or (array.dtype.kind in "iub" and output.name == "sigmoid"):
            return Targets(_zeros_and_ones(Y, name), None, np.arange(2))
    _check_range(Y, architecture, name)
    if n_out == 1:
        return Targets(Y, None, None)
    if ((Y == 0) | (Y == 1)).all() and (Y.sum(axis=1) == 1).all():
        return Targets(None, np.argmax(Y, axis=1).astype(np.int64), np.arange(n_out))
    return Targets(Y, None, None)


def _zeros_and_ones(Y: np.ndarray, name: str) -> np.ndarray:
    wrong = (Y[:, 0] != 0) & (Y[:, 0] != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name}[{row}] is {Y[row, 0]:g}, but the labels of one sigmoid output are 0 and 1; for real targets give "
            f"float numbers, and an output that reaches them (output='identity', say)"
        )
    return Y


def _read(given: Any, name: str) -> np.ndarray:
    """`given` as an array of whatever it holds."""
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, and training has no masks; fill it first, {name}.filled(0) say")
    try:
        return np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name} is not rectangular: {error}") from None
    except (TypeError, RuntimeError) as error:  # a tensor that requires grad, or lives elsewhere
        raise TypeError(f"{name} cannot be read as an array: {error}") from None


def _plain_strings(array: np.ndarray, name: str) -> np.ndarray:
    """Strings of every kind as NumPy's own (dtype kind U), and objects as what they are; numbers unchanged."""
    if array.dtype.kind in "OT":  # T: NumPy's strings of variable width
        return _from_objects(array.astype(object), name)
    if array.dtype.kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} holds bytes that are not UTF-8: {error}; decode them yourself") from None
    return array


def _from_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Objects that are all strings, or all numbers, as what they are."""
    kinds = {type(value) for value in array.ravel()}
    if kinds and all(issubclass(kind, str) for kind in kinds):
        return array.astype(str)
    if kinds and all(issubclass(kind, bool | int | float | np.number | np.bool_) for kind in kinds):
        return np.array(array.tolist())
    raise TypeError(f"{name} mixes values of types {sorted(kind.__name__ for kind in kinds)}; give strings or numbers")


def as_labels(array: np.ndarray, n_out: int, name: str) -> np.ndarray:
    """Real numbers, (n,), as labels 0 … n_out-1; ValueError names the first that is none."""
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
    known = found if classes is None else classes
    expected = 2 if n_out == 1 else n_out
    if classes is None and len(found) != expected:
        shown = ", ".join(map(str, found[:6])) + (", …" if len(found) > 6 else "")
        raise ValueError(
            f"{name} has {len(found)} distinct labels ({shown}), but the network tells {expected} apart; give it as "
            f"many outputs as there are labels (or one, for two)"
        )
    at = np.clip(np.searchsorted(known, array), 0, len(known) - 1)
    unknown = known[at] != array
    if unknown.any():
        row = int(np.argmax(unknown))
        shown = reprlib.repr(known.tolist())
        raise ValueError(f"{name}[{row}] is {str(array[row])!r}, which is none of the classes {shown}")
    labels = at.astype(np.int64)
    if n_out == 1:
        return Targets(labels[:, np.newaxis].astype(np.float64), None, known)
    return Targets(None, labels, known)


def places(y: Any, classes: Any, name: str) -> Any:
    """Labels as their places among classes that are whole numbers other than 0, 1, 2 …; any other y as it is."""
    if classes is None or classes.dtype.kind not in "iu" or (classes == np.arange(len(classes))).all():
        return y
    labels = np.asarray(y)
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        return y
    places = np.clip(np.searchsorted(classes, labels), 0, len(classes) - 1)
    unknown = classes[places] != labels
    if unknown.any():
        row = int(np.argmax(unknown))
        raise ValueError(f"{name}[{row}] is {labels[row]}, which is none of the classes {classes.tolist()}")
    return places


def _check_range(Y: np.ndarray, architecture: Architecture, name: str) -> None:
    """The cross-entropies are costs of probabilities: targets outside [0, 1] would have no least cost.

    Softmax's error a - y is the slope of the log-likelihood only for targets that sum to 1 (else it is a Σy - y).
    """
    if architecture.cost.outputs is None:
        return
    wrong = (Y < 0) | (Y > 1)
    if wrong.any():
        i, j = divmod(int(np.argmax(wrong)), Y.shape[1])
        raise ValueError(
            f"{name} has {Y[i, j]} in row {i}, column {j}, but cost {architecture.cost.name!r} needs targets in "
            f"[0, 1]; scale them, or use cost='quadratic'"
        )
    if architecture.activations[-1].name == "softmax":
        wrong = np.abs(Y.sum(axis=1) - 1) > 1e-3  # room for rounded shares
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{name} sums to {Y[row].sum():g} in row {row}, but softmax outputs sum to 1, and so must their "
                f"targets; divide each row by its sum, or for several labels a row use output='sigmoid' and "
                f"cost='cross_entropy'"
            )


# ------------------------------------------------------------------------------------------------------------
# The book's data: lists of pairs of columns.
# ------------------------------------------------------------------------------------------------------------


def as_columns(x: Any, n: int, name: str) -> np.ndarray:
    """One column (n, 1) or a matrix of columns (n, m), as the book writes vectors. Its dtype is kept."""
    array = as_real_array(x, name)
    if array.ndim == 0:
        raise ValueError(
            f"{name} is the single number {array}, but the network takes columns of shape ({n}, 1); a label j as a "
            f"column is np.eye({n})[:, [j]]"
        )
    if array.ndim != 2:
        many = f": ({n}, 1), or ({n}, m) for m of them" if name.isidentifier() else f" of shape ({n}, 1)"
        call = f"{name}.reshape(-1, 1)" if name.isidentifier() else "reshape(-1, 1)"
        raise ValueError(f"{name} has shape {array.shape}, but the network takes columns{many}; use {call}")
    if array.shape[0] != n:
        hint = "; it is a row, use its transpose" if array.shape[1] == n else ""
        raise ValueError(f"{name} has shape {array.shape}, but the network takes columns of shape ({n}, 1){hint}")
    return array


class ColumnsAsRows:
    """Columns (n, 1), many of them, as the rows of a matrix (m, n) that is put together whole or a block at a time.

    dtype: the columns' own, if that holds no more than the network's, else the network's. The shapes and the kind of
    the numbers are checked when it is made; ValueError and TypeError name the first that does not fit.
    """

    # Rows in one block: a copy of so many stays in the cache.
    BLOCK = 128

    def __init__(self, columns: Sequence[Any], n: int, dtype: np.dtype, name: str) -> None:
        for i, shape in enumerate(map(np.shape, columns)):
            if shape != (n, 1):
                as_columns(columns[i], n, f"{name}[{i}]")
                raise ValueError(f"{name}[{i}] has shape {shape}, but each example is one column, ({n}, 1)")
        self.columns, self.n, self.name = columns, n, name
        self.own_dtype = as_real_array(np.empty(0, _common_dtype(columns)), name).dtype.newbyteorder("=")
        fits = self.own_dtype.kind != "f" or self.own_dtype.itemsize <= dtype.itemsize
        self.dtype = self.own_dtype if fits else dtype

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Some of the rows, in the columns' own dtype; the numbers are not looked at."""
        columns = self.columns[rows]
        return as_real_array(np.concatenate(columns, dtype=self.own_dtype), self.name).reshape(len(columns), self.n)

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, in `dtype`, a block after the other; ValueError names the first NaN or infinity."""
        for first in range(0, len(self), self.BLOCK):
            block = self[first : first + self.BLOCK]
            if self.dtype == self.own_dtype:
                check_finite(block, self.name, first_row=first)
            else:
                block = cast(block, self.dtype, self.name, first)
            yield block

    def whole(self, dtype: np.dtype | None = None) -> np.ndarray:
        """The matrix, in `dtype` or another one that holds as much; ValueError names the first NaN or infinity."""
        dtype = dtype or self.dtype
        if len(self) <= self.BLOCK:  # a mini-batch
            return next(self.blocks()).astype(dtype, copy=False)
        X, first = np.empty((len(self), self.n), dtype), 0
        for block in self.blocks():
            X[first : first + len(block)] = block
            first += len(block)
        return X


def _common_dtype(columns: Sequence[Any]) -> np.dtype:
    """The dtype that columns have when they stand together."""
    dtypes = {getattr(column, "dtype", None) for column in columns}
    if not all(isinstance(dtype, np.dtype) for dtype in dtypes):  # of lists and tensors, say
        dtypes = {np.asarray(column).dtype for column in columns}
    return functools.reduce(np.promote_types, dtypes)  # type: ignore[arg-type]  # there is no None among them now


def stack_columns(columns: Sequence[Any], n: int, name: str) -> np.ndarray:
    """Many columns (n, 1) as the rows of one matrix (m, n); ValueError names the first that does not fit."""
    return ColumnsAsRows(columns, n, np.dtype(np.float64), name)[:]


def stack_pairs(pairs: Iterable[Any], architecture: Architecture, name: str) -> Examples:
    """The book's training data, [(x, y), …] with columns x (n_1, 1) and y (n_L, 1), as checked matrices."""
    inputs, targets = split_pairs(pairs, name)
    X = inputs_of_pairs(inputs, architecture, name).whole()
    return Examples(X, stack_targets(targets, architecture, name))


def inputs_of_pairs(inputs: list[Any], architecture: Architecture, name: str) -> ColumnsAsRows:
    """The columns x of pairs (x, y), each (n_1, 1)."""
    return ColumnsAsRows(inputs, architecture.sizes[0], architecture.dtype, f"{name} inputs")


def stack_targets(targets: list[Any], architecture: Architecture, name: str) -> np.ndarray:
    """The columns y of pairs (x, y), each (n_L, 1), as a checked matrix (m, n_L)."""
    return ColumnsAsRows(targets, architecture.sizes[-1], architecture.dtype, f"{name} targets").whole()


def stack_inputs(pairs: Iterable[Any], architecture: Architecture, name: str) -> tuple[np.ndarray, list[Any]]:
    """Pairs (x, anything), as a checked matrix of the inputs and the list of the others, as they are."""
    inputs, others = split_pairs(pairs, name)
    return inputs_of_pairs(inputs, architecture, name).whole(), others


def stack_labelled(pairs: Iterable[Any], architecture: Architecture, name: str) -> tuple[np.ndarray, list[Any]]:
    """The book's test data, [(x, label), …], as a checked matrix and the list of labels."""
    inputs, labels = split_pairs(pairs, name)
    labels = plain_labels(labels, name)
    return inputs_of_pairs(inputs, architecture, name).whole(), labels


def plain_labels(labels: list[Any], name: str) -> list[Any]:
    """Labels, some of which may stand in arrays of one number; ValueError for larger arrays."""
    for i, label in enumerate(labels):
        if isinstance(label, np.ndarray) and label.ndim and label.size != 1:
            raise ValueError(
                f"{name}[{i}] has a label of shape {label.shape}, but test labels are whole numbers; use "
                f"int(np.argmax(y))"
            )
    return [label.item() if isinstance(label, np.ndarray) and label.ndim else label for label in labels]


def as_list(pairs: Any, name: str) -> list[Any]:
    """A list as it is, any other iterable read once into a new one."""
    if isinstance(pairs, list):
        return pairs
    try:
        return list(pairs)
    except TypeError:
        raise TypeError(f"{name} must be a list of pairs (x, y), got {type(pairs).__name__}") from None


def split_pairs(pairs: Iterable[Any], name: str) -> tuple[list[Any], list[Any]]:
    """The first and the second of each pair; ValueError names what is no pair."""
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
