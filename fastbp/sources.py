"""What `--data` names on the command line, as raw rows with their targets."""

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastbp import datasets
from fastbp.errors import DataFileError

Scaling = tuple[str, Any, Any] | None  # ("affine", shift, scale): x' = (x - shift) * scale

BUILT_IN = ("digits", "mnist")


class Rows(NamedTuple):
    """Raw examples. X is (n, n_1); y has n rows, or is None; `test` is the held-out part that comes with the data.

    `target` says in messages what y is, `pixels` is the scaling of data that have one of their own.
    """

    name: str
    X: np.ndarray
    y: np.ndarray | None
    target: str
    pixels: Scaling = None
    test: tuple[np.ndarray, Any] | None = None
    columns: list[str] | None = None


def read(
    name: str,
    target: str | None = None,
    *,
    labelled: bool = True,
    header: bool | None = None,
    download: bool = False,
) -> Rows:
    """Read digits, mnist, a .csv file (any other text too), an .npz file, or CSV from the standard input ("-").

    Raises ValueError, DataFileError or OSError whose message says what to do on the command line.
    """
    if name in BUILT_IN:
        if target is not None or header is not None:
            raise ValueError(f"--target and --header are for CSV files, and --data {name} is none; drop them")
        return _digits() if name == "digits" else _mnist(download)
    if name == "-":
        return _from_stdin(target, labelled, header)
    path = Path(name)
    if path.is_dir():
        raise ValueError(f"{name} is a folder; --data takes a file (for MNIST: FASTBP_DATA={name} and --data mnist)")
    if not path.exists():
        raise ValueError(f"there is no file {name}; --data takes digits, mnist, or a .csv or .npz file")
    if path.suffix.lower() == ".npz" and (target is not None or header is not None):
        raise ValueError(f"{name}: --target and --header are for CSV files; an .npz holds X and y")
    if not labelled and target is not None:
        return _without_target(name, target, header)
    try:
        return _from_table(name, datasets.read_table(path, target, labelled=labelled, header=header))
    except DataFileError as error:
        if labelled or "expected a finite number" not in str(error):
            raise
        raise DataFileError(f"{error} (or --target to leave a column out)") from error


def _digits() -> Rows:
    digits = datasets.load_digits()
    X, X_test = (np.rint(part / digits.input_scaling[2]) for part in (digits.X_train, digits.X_test))
    return Rows("digits", X, digits.y_train, "the digit", digits.input_scaling, (X_test, digits.y_test))


def _mnist(download: bool) -> Rows:
    try:
        (X, y), (X_test, y_test) = datasets.read_mnist(download=download)
    except FileNotFoundError as error:
        what = str(error).partition(";")[0]
        advice = "set FASTBP_DATA to the folder that holds mnist/, or add --download to fetch it once (12 MB)"
        raise ValueError(f"{what}; {advice}") from error
    return Rows("mnist", X, y, "the digit", ("affine", 0.0, 1 / 255), (X_test, y_test))


def _from_table(name: str, table: datasets.Table) -> Rows:
    test = None if table.test is None else (table.test.X, _flat(table.test.y))
    target = "y" if table.target is None else table.target
    return Rows(name, table.X, _flat(table.y), target, test=test, columns=table.columns)


def _flat(y: np.ndarray | None) -> np.ndarray | None:
    """One column of targets as a vector, one-hot rows as labels, bools as 0 and 1."""
    if y is None:
        return None
    if y.dtype.kind == "b":
        y = y.astype(np.int64)
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim == 2 and y.dtype.kind in "iuf" and ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all():
        return np.argmax(y, axis=1)
    return y


def _without_target(name: str, target: str, header: bool | None) -> Rows:
    """Rows for a prediction from a file that has the target too: read as labelled, and the target dropped."""
    rows = _from_table(name, datasets.read_csv(name, target, header=header))
    return rows._replace(y=None)


def _from_stdin(target: str | None, labelled: bool, header: bool | None) -> Rows:
    """The CSV reader opens its file more than once, which a pipe does not allow: keep it in a file meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stdin.csv"
        path.write_bytes(sys.stdin.buffer.read())
        try:
            rows = read(str(path), target, labelled=labelled, header=header)
        except DataFileError as error:
            raise DataFileError(str(error).replace(str(path), "standard input")) from error
    return rows._replace(name="standard input")
