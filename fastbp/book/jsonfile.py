"""The file of the book's network2: sizes, weights, biases and the name of the cost, as JSON.

It carries no checksum. What is read is held to its own sizes, number by number, before any array is made of it, and
the name of the cost is only ever looked up in a table.
"""

import json
import math
import os
from reprlib import repr as short  # a hostile file may hold a million characters where a number should be
from typing import Any, NamedTuple

import numpy as np

from fastbp import memory, safefile
from fastbp.architecture import check_sizes
from fastbp.errors import ModelFileError


class Contents(NamedTuple):
    """biases: (n_l, 1) each, weights: (n_l, n_{l-1}) each, l = 2 … L, float64; cost: a name."""

    sizes: list[int]
    biases: list[np.ndarray]
    weights: list[np.ndarray]
    cost: str


def write(path: str | os.PathLike[str], contents: Contents) -> None:
    """Write the file whole or not at all (`safefile.replace`, which says what it raises)."""
    document = {
        "sizes": contents.sizes,
        "weights": [w.tolist() for w in contents.weights],
        "biases": [b.tolist() for b in contents.biases],
        "cost": contents.cost,
    }
    safefile.replace(path, json.dumps(document, allow_nan=False).encode())


def read(path: str | os.PathLike[str]) -> Contents:
    """Read what `write` or the book's own program wrote.

    Raises ModelFileError for anything but a network of finite numbers whose arrays fit its sizes; OSError if the file
    cannot be read.
    """
    with safefile.naming(path, "cannot load") as name:
        with safefile.reading(name) as source:
            _require_memory(source.size)
            raw = source.read(source.size, 0)
        return _check(_parse(raw))


# Bytes of memory for each byte of the file: "[]," is 3 bytes, an empty list 64.
_GROWTH = 25


def _require_memory(size: int) -> None:
    """A sparse file claims terabytes and takes no disk."""
    limit = memory.limit()
    if _GROWTH * size > limit:
        raise ModelFileError(
            f"it has {size:,} bytes, reading it may take {_GROWTH} times as many of memory, and there are {limit:,}"
        )


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ModelFileError(
            "it is not text; a network that fastbp.Network saved is loaded with fastbp.load, and pickles never are"
        ) from None
    except RecursionError:
        raise ModelFileError("its JSON is nested too deep") from None
    except ValueError as error:  # JSONDecodeError, too; and a number with more digits than Python converts
        raise ModelFileError(f"it is no JSON document, or was cut short: {error}") from None


def _check(document: Any) -> Contents:
    wanted = ("sizes", "weights", "biases", "cost")
    if not isinstance(document, dict) or not all(key in document for key in wanted):
        found = ", ".join(map(short, document)) if isinstance(document, dict) else f"a {type(document).__name__}"
        raise ModelFileError(f"it holds {short(found)}; a network2 file holds {', '.join(wanted)}")
    sizes, cost = document["sizes"], document["cost"]
    if not isinstance(sizes, list) or not all(type(n) is int for n in sizes):
        raise ModelFileError(f"its sizes are {short(sizes)}; expected whole numbers, one a layer")
    if not isinstance(cost, str):
        raise ModelFileError(f"its cost is {short(cost)}; expected a name")
    try:
        check_sizes(sizes)
    except ValueError as error:
        raise ModelFileError(str(error)) from None
    layers = list(zip(sizes[:-1], sizes[1:], strict=True))
    return Contents(
        sizes,
        _arrays("biases", document["biases"], [(n, 1) for _, n in layers]),
        _arrays("weights", document["weights"], [(n, below) for below, n in layers]),
        cost,
    )


def _arrays(what: str, given: Any, shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    if not isinstance(given, list) or len(given) != len(shapes):
        count = len(given) if isinstance(given, list) else short(given)
        raise ModelFileError(f"its {what} are {count} layers, but its sizes need {len(shapes)}")
    return [_array(f"{what}[{i}]", rows, shape) for i, (rows, shape) in enumerate(zip(given, shapes, strict=True))]


def _array(name: str, rows: Any, shape: tuple[int, int]) -> np.ndarray:
    n, below = shape
    if not isinstance(rows, list) or len(rows) != n:
        raise ModelFileError(f"its {name} has {_size(rows)}, but its sizes need {n} rows of {below}")
    for j, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != below:
            raise ModelFileError(f"its {name}[{j}] has {_size(row)}, but its sizes need {below} numbers")
        for k, value in enumerate(row):
            if type(value) not in (float, int) or not _is_finite(value):
                raise ModelFileError(f"its {name}[{j}][{k}] is {short(value)}; expected a finite number")
    return np.array(rows, np.float64)


def _size(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, list) else short(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False
