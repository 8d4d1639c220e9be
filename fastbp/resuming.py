"""Take a run up where its checkpoint left it, if it is the same run and the file holds nothing that a run cannot.

A checkpoint may come from anywhere: its checksum finds damage, not malice. So everything in it is held against a new
run of the same make before any of it is used, and nothing is imported, called or looked up because a file names it.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

import numpy as np

from fastbp import container, identity, safefile, statetree, streams
from fastbp.errors import CheckpointError, ModelFileError
from fastbp.run import Run

KIND = "fastbp-checkpoint"


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read: sound in itself, not yet held against a run."""

    path: str
    settings: dict[str, Any]
    versions: dict[str, Any]
    state: dict[str, Any]


def load(path: str | os.PathLike[str]) -> Saved:
    """Read a checkpoint. Raises ModelFileError if it is damaged or no checkpoint, OSError if it cannot be read."""
    safefile.tidy(path)
    tensors, metadata = container.load(path, kind=KIND)
    name = os.fsdecode(path)
    with as_file_error(name):
        if set(metadata) != {"settings", "versions", "state"}:
            raise ValueError(f"it holds {short(list(metadata))}")
        for part in ("settings", "versions"):
            if not isinstance(metadata[part], dict):
                raise ValueError(f"its {part} are {short(metadata[part])}")
        state = statetree.decode(metadata["state"], tensors)
        if not isinstance(state, dict) or set(state) != {"run", "random", "opening", "rule"}:
            raise ValueError("it does not hold what a run consists of")
        return Saved(name, metadata["settings"], metadata["versions"], state)


class as_file_error:
    """A context in which what a file holds is taken up: where it does not fit, the file is to blame."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        ours = CheckpointError | ModelFileError
        if isinstance(error, KeyError | TypeError | ValueError | IndexError | OverflowError) and not isinstance(
            error, ours
        ):
            raise ModelFileError(
                f"{self.name} is a complete file, but not of a run that fastbp can take up: {error}"
            ) from error


def take_up(saved: Saved, run: Run, present: Mapping[str, Any]) -> None:
    """Bring a new run, with these settings, to where the saved one was; and every stream of random numbers, too.

    Raises CheckpointError if it belongs to another run, ModelFileError if it holds what no run can; then neither a
    random stream nor the network has changed. Warns of other versions and of callbacks that begin anew.
    """
    _refuse_another_run(saved, present)
    shuffle, own = run.network._shuffle, run.network._rng
    with as_file_error(saved.path):
        _check_state(saved.state["run"], run)
        streams.check(saved.state["random"], shuffle, own)
        reached = saved.state["run"]["epoch"]
        if reached > run.epochs:
            raise CheckpointError(
                f"cannot resume {saved.path!r}: it has {reached} epochs behind it, and epochs={run.epochs} asks for "
                f"fewer; epochs counts all of them, those of the checkpoint too"
            )
        run.restore(saved.state["run"])
        streams.put_back(saved.state["random"], shuffle, own)
    _warn(saved, run)


# What to do where one of the settings differs.
_REMEDIES = {
    "engine": "make the network with that engine=, or with engine='auto'",
    "layout": "this processor has vectors of another length; resume on one like that of the first run",
    "threads": "set OPENBLAS_NUM_THREADS (or MKL_NUM_THREADS) to that number before Python starts",
    "dtype": "make the network with that dtype=",
}


def _refuse_another_run(saved: Saved, present: Mapping[str, Any]) -> None:
    names = [name for name in {**present, **saved.settings} if saved.settings.get(name) != present.get(name)]
    if not names:
        return
    if len(names) > 1 and "layout" in names:  # it follows from the others
        names.remove("layout")
    shown = "; ".join(_difference(name, saved.settings.get(name), present.get(name)) for name in names)
    remedies = [_REMEDIES[name] for name in names if name in _REMEDIES]
    raise CheckpointError(
        f"cannot resume {saved.path!r}, which belongs to another run: {shown}. "
        f"{'; '.join(remedies) or 'Give what the first call of fit was given, or start anew without resume'}"
    )


def _difference(name: str, saved: Any, present: Any) -> str:
    if name.removeprefix("validation ") in ("X", "y", "weights") and saved is not None and present is not None:
        return f"{name} holds other values than the checkpoint's run was given"
    if name == "classes":
        return "the labels stand for other classes"
    return f"{name} is {_shown(saved)} in the checkpoint, but {_shown(present)} here"


def _shown(value: Any) -> str:
    return value[:200] if isinstance(value, str) else short(value)


def _warn(saved: Saved, run: Run) -> None:
    now = identity.versions()
    others = [
        f"{name} {short(saved.versions.get(name))}, now {present!r}"
        for name, present in now.items()
        if saved.versions.get(name) != present
    ]
    if others:
        warnings.warn(
            f"{saved.path!r} was written with {'; '.join(others)}: the last bits may come out otherwise", stacklevel=3
        )
    forgetful = _names_without_state(run.callbacks)
    if streams.owner_of(run.network._shuffle) is None and run.shuffle:
        forgetful.append(f"shuffle={identity.describe(run.network._shuffle)}")
    if forgetful:
        warnings.warn(
            f"what {', '.join(forgetful)} remembered was not kept (no methods state and restore), and begins anew",
            stacklevel=3,
        )


def _names_without_state(callbacks: Sequence[Any]) -> list[str]:
    return [type(each).__qualname__ for each in callbacks if not callable(getattr(each, "state", None))]


def _check_state(state: Any, run: Run) -> None:
    """ValueError for what could make compiled code read or write outside its arrays, or a run stand nowhere."""
    expected = run.state()
    if isinstance(state, dict) and isinstance(state.get("stopping"), dict):
        _check_best(state["stopping"].get("theta"), run)
    check_like(state, expected, "state")
    if len(state["callbacks"]) != len(run.callbacks):
        raise ValueError(f"it has the states of {len(state['callbacks'])} callbacks")
    if not all(isinstance(record, dict) for record in state["history"]["epochs"]):
        raise ValueError("its history holds no records")
    if state["batch"] > run.n_batches:
        raise ValueError(f"its batch is {state['batch']}, and an epoch has {run.n_batches}")
    if state["step"] != state["epoch"] * run.n_batches + state["batch"]:
        raise ValueError(f"its step is {short(state['step'])}, which is not where its epoch and mini-batch are")
    if state["batch"] and not state["begun"]:
        raise ValueError("its epoch has mini-batches, but has not begun")
    for rows in (state["rows"], state["order"]["rows"]):
        if not np.array_equal(np.sort(rows), np.sort(run.rows)):
            raise ValueError("its order of the examples does not hold each of them once")


def _check_best(theta: Any, run: Run) -> None:
    if theta is not None:
        check_like(theta, run.engine.theta(), "best theta")


# What stands in a state's part of this name where it is not None, if that is no number.
_OPTIONAL: dict[str, tuple[type, ...]] = {"ended": (str,), "theta": (np.ndarray,)}


def check_like(saved: Any, expected: Any, name: str) -> None:
    """ValueError unless a part of a state is made like the `expected` one: the same keys, kinds, shapes of arrays.

    Numbers in arrays are finite, whole numbers not negative. Where None is expected, a number may stand (or what
    `_OPTIONAL` says): what was not known yet at the beginning of a run.
    """
    if isinstance(expected, dict):
        if not isinstance(saved, dict) or set(saved) != set(expected):
            raise ValueError(f"its {name} is {short(saved)}, but should hold {', '.join(expected)}")
        for key, part in expected.items():
            check_like(saved[key], part, key if name == "state" else f"{name} {key}")
        return
    if isinstance(expected, np.ndarray):
        if not isinstance(saved, np.ndarray) or (saved.dtype, saved.shape) != (expected.dtype, expected.shape):
            raise ValueError(f"its {name} should be an array, {expected.dtype} {expected.shape}")
        if not np.isfinite(saved).all():
            raise ValueError(f"its {name} has NaN or infinite numbers")
        return
    if expected is None:
        right = saved is None or type(saved) in _OPTIONAL.get(name.rpartition(" ")[2], (int, float))
    elif type(expected) is int:
        right = type(saved) is int and saved >= 0
    else:
        right = type(saved) is type(expected) or (type(expected) is float and type(saved) is int)
    if not right:
        raise ValueError(f"its {name} is {short(saved)}")
