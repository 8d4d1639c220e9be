"""What a run is, apart from what changes while it lasts: enough to tell whether another one is the same.

Data are known by a fingerprint, the SHA-256 of their numbers; arguments by a text that differs where they do.
"""

import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from fastbp import machine, streams, threads
from fastbp.data import Examples, is_sparse
from fastbp.run import Run

_BLOCK = 2**24  # bytes hashed at a time


def settings(
    run: Run, examples: Examples, held_out: Examples | None, classes: np.ndarray | None, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What must be the same for a run to go on: JSON's own values by name. `arguments` are those of `fit`."""
    built = run.network._effective_architecture()
    return {
        "sizes": list(built.sizes),
        "activations": [activation.name for activation in built.activations],
        "neurons": [[l, j, neuron.name] for (l, j), neuron in built.neurons.items()],
        "cost": built.cost.name,
        "dtype": built.dtype.name,
        "engine": run.engine.name,
        "layout": describe({name: array.shape for name, array in run.engine.save_state().items()}),
        "threads": threads.of_blas(),  # those of compiled code change no bit
        **{name: describe(value) for name, value in arguments.items()},
        "shuffler": _kind_of_shuffle(run),
        "callbacks": [type(callback).__qualname__ for callback in run.callbacks],
        **of_data(examples, classes),
        "validation X": None if held_out is None else fingerprint(held_out.X),
        "validation y": None if held_out is None else _fingerprint_of_targets(held_out),
    }


def of_data(examples: Examples, classes: np.ndarray | None) -> dict[str, Any]:
    """What the examples trained on are known by."""
    return {
        "examples": len(examples),
        "X": fingerprint(examples.X),
        "y": _fingerprint_of_targets(examples),
        "classes": None if classes is None else fingerprint(_as_bytes(classes)),
    }


def describe(value: Any) -> Any:
    """A value as a text that differs where it does: numbers exactly, arrays by their fingerprints, objects by parts."""
    if value is None or isinstance(value, str | bool | np.bool_):
        return value if value is None or isinstance(value, str) else bool(value)
    if isinstance(value, int | float | np.number):
        return repr(value.item() if isinstance(value, np.number) else value).removesuffix(".0")  # 1 and 1.0 are equal
    if isinstance(value, np.ndarray):
        return fingerprint(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{describe(key)}: {describe(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(str(describe(part)) for part in value) + "]"
    if is_dataclass(value) and not isinstance(value, type):
        parts = ", ".join(f"{each.name}={describe(getattr(value, each.name))}" for each in fields(value))
        return f"{type(value).__name__}({parts})"
    return getattr(value, "__qualname__", type(value).__qualname__)


def _kind_of_shuffle(run: Run) -> str:
    """Who draws the order; a function of the user's own by its name."""
    owner = streams.owner_of(run.network._shuffle)
    return str(describe(run.network._shuffle) if owner is None else type(owner).__name__)


def fingerprint(array: Any) -> str:
    """The SHA-256 of an array's type, shape and numbers, a block of rows at a time; of compressed rows, their parts."""
    digest = hashlib.sha256()
    for part in (array.indptr, array.indices, array.data) if is_sparse(array) else (array,):
        digest.update(f"{part.dtype.newbyteorder('<').str} {part.shape}\n".encode())
        step = max(1, _BLOCK // max(1, part[:1].nbytes))
        for start in range(0, len(part), step):
            block = part[start : start + step]
            digest.update(np.ascontiguousarray(block, block.dtype.newbyteorder("<")).view(np.uint8).data)
    return digest.hexdigest()


def _fingerprint_of_targets(examples: Examples) -> str:
    targets = examples.labels if examples.labels is not None else examples.Y
    assert targets is not None
    return fingerprint(targets)


def _as_bytes(classes: np.ndarray) -> np.ndarray:
    """Names of classes as numbers: they are compared by fingerprint, too."""
    if classes.dtype.kind != "U":
        return classes.astype(np.int64)
    return np.frombuffer("\0".join(classes.tolist()).encode("utf-8", "surrogatepass"), np.uint8)


@functools.cache
def versions() -> dict[str, str]:
    """What also decides the last bit, and may still differ: a run goes on with a warning."""
    packages = {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "numba", "llvmlite")}
    from fastbp import __version__

    return {
        "fastbp": __version__,
        "python": platform.python_version(),
        **packages,
        "processor": machine.cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
    }
