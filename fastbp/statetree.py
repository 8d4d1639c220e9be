"""What a run remembers, as a file holds it: arrays by name, and the rest as JSON that says what everything is.

A state is nested dicts, lists and tuples of numbers, text, None and NumPy arrays. It comes back equal, with NumPy's
scalars as Python's numbers. Long lists of numbers become arrays, and records with the same keys become columns: a
long history must not swell the JSON, whose size is limited when a file is read.
"""

import math
from collections.abc import Callable, Mapping
from reprlib import repr as short
from typing import Any

import numpy as np

LONG = 8  # entries from which a list of numbers is kept as an array
_INT64 = np.iinfo(np.int64)


def encode(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """`value` in what JSON has; its arrays go into `tensors`, under names that begin with `name`.

    Raises TypeError for a value that is no part of a state; the message tells where in the tree it is.
    """
    if isinstance(value, np.generic) and not isinstance(value, np.ndarray):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.ndarray):
        return {"array": _keep(value, name, tensors)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {short(key)}, but the keys of a state are strings")
        return {"dict": [[key, encode(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [encode(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, list):
        return _encode_list(value, name, tensors)
    raise TypeError(
        f"{name} is a {type(value).__name__}, but a state holds numbers, text, None, dicts, lists, tuples and arrays"
    )


def _keep(array: np.ndarray, name: str, tensors: dict[str, np.ndarray]) -> str:
    while name in tensors:  # a key may hold the "/" that joins keys
        name += "_"
    tensors[name] = array
    return name


def _encode_list(values: list[Any], name: str, tensors: dict[str, np.ndarray]) -> Any:
    kinds = {type(value) for value in values}
    if len(values) >= LONG and kinds == {float}:
        return {"floats": _keep(np.array(values, np.float64), name, tensors)}
    if len(values) >= LONG and kinds == {int} and _INT64.min <= min(values) and max(values) <= _INT64.max:
        return {"ints": _keep(np.array(values, np.int64), name, tensors)}
    if len(values) >= LONG and kinds == {dict} and values[0] and all(list(v) == list(values[0]) for v in values):
        columns = [[key, [value[key] for value in values]] for key in values[0]]
        return {"records": [[key, encode(column, f"{name}/{key}", tensors)] for key, column in columns]}
    return {"list": [encode(value, f"{name}/{i}", tensors) for i, value in enumerate(values)]}


def decode(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """What `encode` made JSON of. Each tensor is handed out once, and taken out of `tensors`.

    Raises ValueError or KeyError for what `encode` does not write.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f"{short(value)} is no part of a state")
    [(kind, inside)] = value.items()
    if kind not in _DECODERS:
        raise ValueError(f"{short(kind)} is no kind of value")
    return _DECODERS[kind](inside, tensors)


def _decode_float(text: Any, tensors: dict[str, np.ndarray]) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(f"{short(text)} is none of nan, inf, -inf")
    return float(text)


def _decode_array(name: Any, tensors: dict[str, np.ndarray]) -> np.ndarray:
    if not isinstance(name, str) or name not in tensors:
        raise ValueError(f"there is no array {short(name)}, or it is used twice")
    return tensors.pop(name)


def _decode_numbers(name: Any, tensors: dict[str, np.ndarray]) -> list[Any]:
    array = _decode_array(name, tensors)
    if array.ndim != 1 or array.dtype not in (np.float64, np.int64):
        raise ValueError(f"{short(name)} is {array.dtype} {array.shape}, which is no list of numbers")
    return list(array.tolist())


def _decode_pairs(pairs: Any, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in _a_list(pairs):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str) or pair[0] in found:
            raise ValueError(f"{short(pair)} is no key and value, or the key is there twice")
        found[pair[0]] = decode(pair[1], tensors)
    return found


def _decode_records(pairs: Any, tensors: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    columns = _decode_pairs(pairs, tensors)
    if not columns or not all(isinstance(column, list) for column in columns.values()):
        raise ValueError(f"{short(pairs)} are no columns of records")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _a_list(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise ValueError(f"{short(values)} is no list")
    return values


_DECODERS: dict[str, Callable[[Any, dict[str, np.ndarray]], Any]] = {
    "float": _decode_float,
    "array": _decode_array,
    "floats": _decode_numbers,
    "ints": _decode_numbers,
    "dict": _decode_pairs,
    "records": _decode_records,
    "list": lambda values, tensors: [decode(value, tensors) for value in _a_list(values)],
    "tuple": lambda values, tensors: tuple(decode(value, tensors) for value in _a_list(values)),
}
