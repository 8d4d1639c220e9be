"""Examples from files of your own: a row for each example, a column for each feature, and one to predict."""

import csv
import itertools
import math
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.lib import format as npy

from fastbp import memory
from fastbp.datafiles import (
    DEFLATE_RATIO,
    GZIP,
    FilePath,
    clipped,
    pickle_refusal,
    refusal,
    refuse_oversize,
    refuse_pickle,
    unpacked,
)
from fastbp.errors import DataFileError


class Table(NamedTuple):
    """The examples of one file. X is (n, n_1), C-contiguous; rows are examples.

    y is None, or has n rows: int64 labels, float64 values or strings; from an .npz, whatever it holds.
    `columns` names the columns of X, `target` the column that became y (None without one). `test` is the
    held-out part of a file that has one (x_test and y_test of an .npz), else None.
    """

    X: np.ndarray
    y: np.ndarray | None
    columns: list[str]
    target: str | None
    test: "Table | None" = None


_FOREIGN = {
    GZIP: ("a gzipped file", "it unpacked"),
    b"PK\x03\x04": ("a zip archive (.npz, .xlsx)", "text; give an .npz the ending .npz, save a sheet as CSV"),
    b"\x93NUMPY": ("a single NumPy array", "text or an .npz; write numpy.savez(file, X=X, y=y)"),
    b"\xff\xfe": ("UTF-16 text", "UTF-8; save it again as UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "UTF-8; save it again as UTF-8"),
}


def read_table(
    path: FilePath, target: str | int | None = None, *, labelled: bool = True, header: bool | None = None
) -> Table:
    """Read the examples of an .npz (a name ending in .npz) with read_npz, of anything else with read_csv.

    Arguments and errors as there; `target` and `header` are for CSV, and a ValueError with an .npz.
    """
    if Path(path).suffix.lower() != ".npz":
        return read_csv(path, target, labelled=labelled, header=header)
    if target is not None or header is not None:
        raise ValueError(f"{os.fspath(path)}: an .npz has no columns to name; drop target= and header=")
    return read_npz(path, labelled=labelled)


def _refuse_foreign(path: FilePath) -> None:
    """Refuse what is plainly another format, before a parser stumbles over it."""
    with unpacked(path) as (stream, _):
        refuse_pickle(path, stream.read(64))
    with open(path, "rb") as raw:
        head = raw.read(8)
    for magic, (found, expected) in _FOREIGN.items():
        if head.startswith(magic):
            raise refusal(path, found, expected)


# --- CSV

_MAX_LINE = 1 << 24  # characters; a file without line ends must not be read whole
_MAX_LABEL = 200  # characters; NumPy gives every string the room of the longest
_MISSING = {"?", "-", "na", "n/a", "null", "none"}  # how others write "no value" in a column of numbers
_WHOLE = re.compile(r"[+-]?[0-9]+")
_STRAY_BYTE = re.compile(r"[\udc80-\udcff]")  # what errors="surrogateescape" makes of it
_Row = tuple[int, list[str]]  # a line number, counted from 1, and the cells of that line


def read_csv(
    path: FilePath, target: str | int | None = None, *, labelled: bool = True, header: bool | None = None
) -> Table:
    """Read examples from a text file: a line each, cells separated by commas, numbers with a decimal point.

    (Where the first line has no comma, semicolons or tabs separate.) UTF-8, with or without a byte-order
    mark; blank lines are skipped.

    target: the column that becomes y, by name or by index from 0; by default the last one. A string of
        digits is an index, unless header=True and the header has that name.
    labelled: False if there is no target column: then all columns are features and y is None.
    header: whether the first line names the columns. By default it does if `target` is a name, or if no
        feature in it is a number; a first line that mixes names and numbers is refused.

    X is (n, n_1) float64. y is (n,): int64 if all its cells are whole numbers ("7", not "7.0"), float64 if
    all are numbers, else strings. Without a header, columns are named by their index.

    Raises DataFileError with the line number for a line of another length, an empty cell, a feature that is
    not a number, a number that is not finite (nan, inf, 1e999), a missing value among numbers, broken quotes
    or bytes that are not UTF-8; OSError if the file cannot be opened; ValueError for arguments that
    contradict each other.
    Memory: 8 bytes a cell, so X takes at most four times the size of the file. Every cell is parsed by
    Python's float, which takes most of the time: keep large data in an .npz.
    """
    if target is not None and not labelled:
        raise ValueError(f"target={target!r} is a column, but labelled=False says there is none; drop one")
    _refuse_foreign(path)
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
        rows = _csv_rows(path, handle)
        first = next(rows, None)
        if first is None:
            raise refusal(path, "no lines", "a line for each example")
        column = _target_column(path, first, target, header) if labelled else None
        if header is None:
            header = _is_name(target) or _names_columns(path, first, column)
        names = _column_names(path, first) if header else [str(k) for k in range(len(first[1]))]
        return _parse(path, rows if header else itertools.chain([first], rows), names, column)


def _at(path: FilePath, line: int, column: str | None = None) -> str:
    return f"{os.fspath(path)}, line {line}" + ("" if column is None else f", column {clipped(repr(column))}")


def _csv_rows(path: FilePath, handle: TextIO) -> Iterator[_Row]:
    """Every line that is not blank. A quoted cell may run over several lines: the first gives the number."""
    lines = _bounded_lines(path, handle)
    first = next(lines, "")
    delimiter = next((sign for sign in ",;\t" if sign in first), ",")
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            place = _at(path, line)
            raise refusal(place, f"broken CSV ({error})", 'plain cells, or quoted as "a ""b"" c"') from error
        if row is None:
            return
        if len(row) > 1 or (row and row[0].strip()):
            yield line, row


def _bounded_lines(path: FilePath, handle: TextIO) -> Iterator[str]:
    for number in itertools.count(1):
        line = handle.readline(_MAX_LINE)
        if len(line) == _MAX_LINE:
            found = f"{_MAX_LINE:,} characters and no end of line"
            raise refusal(_at(path, number), found, "a line for each example")
        if not line:
            return
        yield line


def _is_name(target: str | int | None) -> bool:
    return isinstance(target, str) and not _WHOLE.fullmatch(target)


def _target_column(path: FilePath, first: _Row, target: str | int | None, header: bool | None) -> int:
    line, cells = first
    n = len(cells)
    if n < 2:
        raise refusal(_at(path, line), "one column", "a feature and the target at least (or labelled=False)")
    if _is_name(target) and header is False:
        raise ValueError(f"target={target!r} is a name, but header=False says there are none; give an index")
    names = _column_names(path, first)
    if _is_name(target) or (header and target in names):
        if names.count(str(target)) != 1:
            found = f"{names.count(str(target))} columns named {target!r} among {_shorten(names)}"
            raise refusal(_at(path, line), found, "one such column, or the index of the target")
        return names.index(str(target))
    column = n - 1 if target is None else int(target)
    if not 0 <= column < n:
        raise refusal(_at(path, line), f"{n} columns", f"a target from 0 to {n - 1}, not {target}")
    return column


def _shorten(names: list[str]) -> str:
    return ", ".join(map(repr, names[:10])) + (", …" if len(names) > 10 else "")


def _column_names(path: FilePath, first: _Row) -> list[str]:
    """The header's names; a column without one is named by its index."""
    line, cells = first
    for cell in cells:
        _refuse_other_encodings(_at(path, line), cell)
    return [cell.strip() or str(k) for k, cell in enumerate(cells)]


def _refuse_other_encodings(place: str, text: str) -> None:
    if _STRAY_BYTE.search(text):
        raise refusal(place, f"{text!r}, which is not UTF-8", "UTF-8; save it again as UTF-8")


def _names_columns(path: FilePath, first: _Row, column: int | None) -> bool:
    """Whether the first line is a header: no feature in it is a number. To guess at a mixed line would drop
    an example with a mistyped number, or train on a header."""
    line, cells = first
    words = [(k, cell) for k, cell in enumerate(cells) if k != column and _number(cell) is None]
    if words and len(words) < len(cells) - (column is not None):
        k, cell = words[0]
        raise refusal(
            _at(path, line, str(k)),
            f"{cell!r} beside numbers",
            "only numbers (an example) or only names (a header); header=True or header=False settles it",
        )
    return bool(words)


def _number(cell: str) -> float | None:
    """The cell as a number, or None. Python's own 1_000 is no number in a data file."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _parse(path: FilePath, rows: Iterator[_Row], names: list[str], column: int | None) -> Table:
    features = [name for k, name in enumerate(names) if k != column]
    cells, codes = array("d"), array("q")
    seen: dict[str, tuple[int, int]] = {}  # label: (its code, its first line); y holds codes, not strings
    most = memory.limit() // cells.itemsize
    for line, row in rows:
        if len(row) != len(names):
            raise refusal(_at(path, line), f"{len(row)} cells", f"{len(names)}, as in the first line")
        if column is not None:
            codes.append(seen.setdefault(row.pop(column).strip(), (len(seen), line))[0])
        cells.extend(_numbers(path, line, features, row))
        if len(cells) > most:
            raise refusal(_at(path, line), f"more than {most:,} cells", "what this machine's memory holds")
    if not cells:
        raise refusal(path, "no examples", "at least one line of numbers")
    X = np.frombuffer(cells, np.float64).reshape(-1, len(features))
    if column is None:
        return Table(X, None, features, None)
    labels = _label_values(path, names[column], seen)
    return Table(X, labels[np.frombuffer(codes, np.int64)], features, names[column])


def _numbers(path: FilePath, line: int, features: list[str], row: list[str]) -> list[float]:
    try:
        values = [*map(float, row)]  # a loop with a check on each cell takes three times as long
    except ValueError:
        values = [math.nan]
    if not math.isfinite(sum(values)) or "_" in "".join(row):
        for name, cell in zip(features, row, strict=True):
            number = _number(cell)
            if number is None or not math.isfinite(number):
                found = repr(cell) if cell.strip() else "an empty cell"
                raise refusal(_at(path, line, name), found, "a finite number")
    return values


def _label_values(path: FilePath, target: str, seen: dict[str, tuple[int, int]]) -> np.ndarray:
    """The distinct labels as an array, in the order of their codes: int64, float64 or strings."""
    numbers, words = [], []
    for label, (_, line) in seen.items():
        number = _checked_label(_at(path, line, target), label)
        if number is None:
            words.append(label)
        else:
            numbers.append(number)
    if not words:
        whole = all(map(_WHOLE.fullmatch, seen))
        return np.array([int(label) for label in seen], np.int64) if whole else np.array(numbers, np.float64)
    if numbers:
        _refuse_missing_values(path, target, seen, words)
    return np.array(list(seen))


def _checked_label(place: str, label: str) -> float | None:
    """The label as a number, or None if it is a word."""
    _refuse_other_encodings(place, label)
    if not label:
        raise refusal(place, "an empty cell", "a label or a number")
    if len(label) > _MAX_LABEL:
        raise refusal(place, f"a label of {len(label):,} characters", f"at most {_MAX_LABEL}")
    number = _number(label)
    if number is not None and not math.isfinite(number):
        raise refusal(place, repr(label), "a finite number or a label")
    if _WHOLE.fullmatch(label) and not -(2**63) <= int(label) < 2**63:
        raise refusal(place, label, "a whole number of 64 bits, or one written as 1e30")
    return number


def _refuse_missing_values(path: FilePath, target: str, seen: dict[str, tuple[int, int]], words: list[str]) -> None:
    """Labels such as 7 and B may stand together; 0.5 and B, or 7 and NA, mean that a value is missing."""
    numbers = [label for label in seen if label not in words]
    missing = [word for word in words if word.lower() in _MISSING]
    if not missing and all(map(_WHOLE.fullmatch, numbers)):
        return
    number, word = numbers[0], (missing or words)[0]
    place = _at(path, seen[word][1], target)
    found = f"{word!r} in a column with numbers ({number} in line {seen[number][1]})"
    raise refusal(place, found, "only numbers, or only labels")


# --- .npz


def read_npz(path: FilePath, *, labelled: bool = True) -> Table:
    """Read examples from a NumPy .npz with arrays X and y, or (as Keras) x_train, y_train, x_test and y_test.

    Names count without regard to case. X keeps its numeric type and is flattened to (n, n_1): images of
    (n, 28, 28) become rows of 784. y is (n,) or (n, k), numbers or strings, and may be missing with
    labelled=False (where it is not read). The test arrays, if there are any, become `Table.test`.

    Raises DataFileError for arrays of Python objects (they are pickles), a damaged file, other names or
    shapes, and an array that declares more than its file or this machine can hold; OSError if the file
    cannot be opened.
    """
    with open(path, "rb") as raw:
        is_zip = raw.read(2) == b"PK"
    if not is_zip:
        _refuse_foreign(path)
        raise refusal(path, "something else", "an .npz file, as numpy.savez(file, X=X, y=y) writes it")
    try:  # with a handle of our own: NumPy leaves one of its own open when a zip is damaged
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as npz:
            return _read_npz_arrays(path, npz, labelled)
    except DataFileError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header parser fail in a dozen ways on such bytes
        found = f"a damaged .npz ({type(error).__name__}: {error})"
        raise refusal(path, found, "a complete .npz file") from error


def _read_npz_arrays(path: FilePath, npz: np.lib.npyio.NpzFile, labelled: bool) -> Table:
    keys = {key.lower(): key for key in npz.files}
    if len(keys) < len(npz.files):
        raise refusal(path, f"the arrays {_shorten(npz.files)}", "each name once")
    if ("x" in keys) == ("x_train" in keys):
        expected = "X and y, or x_train, y_train, x_test and y_test"
        raise refusal(path, f"the arrays {_shorten(npz.files)}", expected)
    if "x" in keys:
        return _npz_table(path, npz, keys, "x", "y", labelled)
    train = _npz_table(path, npz, keys, "x_train", "y_train", labelled)
    if "x_test" not in keys:
        return train
    test = _npz_table(path, npz, keys, "x_test", "y_test", labelled)
    if test.X.shape[1] != train.X.shape[1]:
        raise refusal(path, f"x_test with {test.X.shape[1]} features", f"{train.X.shape[1]}, as in x_train")
    return train._replace(test=test)


def _npz_table(
    path: FilePath, npz: np.lib.npyio.NpzFile, keys: dict[str, str], x: str, y: str, labelled: bool
) -> Table:
    if labelled and y not in keys:
        raise refusal(path, f"no {y} among {_shorten(npz.files)}", f"{y} beside {x} (or labelled=False)")
    X = _npz_array(path, npz, keys[x], "buif")
    if X.ndim < 2 or X.size == 0:
        raise refusal(path, f"{keys[x]} of shape {X.shape}", "a row of at least one feature for each example")
    X = np.ascontiguousarray(X.reshape(len(X), -1))
    columns = [str(k) for k in range(X.shape[1])]
    if not labelled:
        return Table(X, None, columns, None)
    labels = _npz_array(path, npz, keys[y], "buifU")
    if labels.ndim not in (1, 2) or len(labels) != len(X):
        expected = f"({len(X)},) or ({len(X)}, k), one row for each of {keys[x]}"
        raise refusal(path, f"{keys[y]} of shape {labels.shape}", expected)
    return Table(X, labels, columns, keys[y])


def _npz_array(path: FilePath, npz: np.lib.npyio.NpzFile, key: str, kinds: str) -> np.ndarray:
    """One array, read only once its header is known to declare plain numbers and a size that is true."""
    assert npz.zip is not None
    member = npz.zip.getinfo(key + ".npy")
    with npz.zip.open(member) as stream:
        first = npy.read_magic(stream) == (1, 0)
        read_header = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        length = member.file_size - stream.tell()
    if dtype.hasobject:
        raise pickle_refusal(f"{os.fspath(path)}, {clipped(key)}")
    if dtype.kind not in kinds:
        expected = "numbers or strings" if "U" in kinds else "numbers"
        raise refusal(path, f"{key} of type {dtype}", expected)
    refuse_oversize(path, shape, dtype.itemsize)
    nbytes = dtype.itemsize * math.prod(shape)
    if nbytes != length or nbytes > DEFLATE_RATIO * os.stat(path).st_size or min(shape, default=0) < 0:
        found = f"{key} declared as {shape} of {dtype} in {length:,} bytes"
        raise refusal(path, found, f"{nbytes:,} bytes of data, and no more than the file can hold")
    return npz[key]
