"""Every stream of random numbers that a run may draw from: taken down in a checkpoint, and put back."""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Owner = np.random.Generator | np.random.RandomState | random.Random

_BIT_GENERATORS = {
    each.__name__: each
    for each in (
        np.random.PCG64,
        np.random.PCG64DXSM,
        np.random.MT19937,
        np.random.Philox,
        np.random.SFC64,
    )
}
# The greatest value of each whole number in a state. Compiled code reads at place `pos` of a generator's own words, and
# trusts that it lies inside.
_MOST = {"pos": 624, "buffer_pos": 4, "has_uint32": 1, "uinteger": 2**32 - 1, "has_gauss": 1, "version": 3}


def owner_of(shuffle: Callable[[Any], None]) -> Owner | None:
    """The generator whose method `shuffle` is, the global ones of NumPy and Python too; None for anything else."""
    owner = getattr(shuffle, "__self__", None)
    if isinstance(owner, np.random.Generator | np.random.RandomState | random.Random) and not isinstance(
        owner, random.SystemRandom
    ):
        return owner
    return None


def states(shuffle: Callable[[Any], None], own: np.random.Generator | None) -> dict[str, Any]:
    """The state of every stream: Python's and NumPy's global ones, the network's own, and that of its `shuffle`."""
    return {name: None if owner is None else _state(owner) for name, owner in _streams(shuffle, own)}


def check(saved: Mapping[str, Any], shuffle: Callable[[Any], None], own: np.random.Generator | None) -> None:
    """ValueError if a saved state does not fit the stream it is of."""
    for name, owner in _streams(shuffle, own):
        if owner is not None:
            _check(saved[name], _state(owner), name)
        elif saved[name] is not None:
            raise ValueError(f"it has a random state {name!r}, but there is no such stream here")


def put_back(saved: Mapping[str, Any], shuffle: Callable[[Any], None], own: np.random.Generator | None) -> None:
    """Set every stream to its saved state; ValueError, and nothing is set, if one does not fit its stream."""
    check(saved, shuffle, own)
    for name, owner in _streams(shuffle, own):
        if owner is not None:
            _set(owner, saved[name])


def _streams(shuffle: Callable[[Any], None], own: np.random.Generator | None) -> Iterator[tuple[str, Owner | None]]:
    yield from (("python", _PYTHON), ("numpy", _NUMPY), ("network", own), ("shuffle", owner_of(shuffle)))


def rebuild(saved: Any) -> Owner:
    """A new generator in a saved state; ValueError for a state of none."""
    kind = saved["kind"]
    if kind == "Random":
        owner: Owner = random.Random()
    elif kind in ("Generator", "RandomState") and saved["state"]["bit_generator"] in _BIT_GENERATORS:
        bits = _BIT_GENERATORS[saved["state"]["bit_generator"]]()
        owner = np.random.Generator(bits) if kind == "Generator" else np.random.RandomState(bits)
    else:
        raise ValueError("it holds no state of a generator fastbp knows")
    _check(saved, _state(owner), "shuffle")
    _set(owner, saved)
    return owner


def _state(owner: Owner) -> dict[str, Any]:
    if isinstance(owner, random.Random):
        version, (*words, at), gauss = owner.getstate()
        words_array = np.array(words, np.uint32)
        return {"kind": "Random", "state": {"version": version, "key": words_array, "pos": at}, "gauss": gauss}
    if isinstance(owner, np.random.Generator):
        return {"kind": "Generator", "state": dict(owner.bit_generator.state)}
    return {"kind": "RandomState", "state": dict(owner.get_state(legacy=False))}


def _set(owner: Owner, saved: Mapping[str, Any]) -> None:
    state = saved["state"]
    if isinstance(owner, random.Random):
        owner.setstate((state["version"], (*state["key"].tolist(), state["pos"]), saved["gauss"]))
    elif isinstance(owner, np.random.Generator):
        owner.bit_generator.state = state
    else:
        owner.set_state(state)


def _check(saved: Any, present: Any, name: str) -> None:
    """ValueError if a saved state is not of the same make as the stream's present one."""
    if isinstance(present, Mapping):
        if not isinstance(saved, Mapping) or set(saved) != set(present):
            raise ValueError(f"its random state {name!r} is of another kind of generator")
        for key, value in present.items():
            _check(saved[key], value, f"{name}.{key}")
    elif isinstance(present, np.ndarray):
        if not isinstance(saved, np.ndarray) or (saved.shape, saved.dtype) != (present.shape, present.dtype):
            raise ValueError(f"its random state {name!r} has another shape")
    elif isinstance(present, str):  # the name of a generator
        if saved != present:
            raise ValueError(f"its random state {name!r} is of {saved!r}, but the stream here is of {present!r}")
    elif isinstance(present, int):
        key = name.rpartition(".")[2]
        if type(saved) is not int or not 0 <= saved <= _MOST.get(key, 2**128 - 1):
            raise ValueError(f"its random state {name!r} is out of range")
    elif type(saved) is not float and (saved is not None or name.endswith("state.gauss")):
        raise ValueError(f"its random state {name!r} is no number")  # a normal deviate kept for the next call


# The global generators, which also stand behind functions such as random.shuffle and numpy.random.shuffle.
_PYTHON: random.Random = random.shuffle.__self__  # type: ignore[attr-defined]
_NUMPY: np.random.RandomState = np.random.shuffle.__self__  # type: ignore[attr-defined]
