"""Checkpoints: all of a run in one file, now and then, so that a run that was cut short goes on to the same bits.

    net.fit(X, y, epochs=30, eta=0.5, checkpoint=fastbp.Checkpoint("run.checkpoint", every_seconds=60))
    net.fit(X, y, epochs=30, eta=0.5, resume="run.checkpoint")            # after a crash

A checkpoint holds what changes during a run (`Run.state`, and the streams of random numbers) and, to refuse any other
run, what does not: the network's make, the arguments of `fit`, fingerprints of the data, engine, threads, versions.
The file is a `container`: no pickle, a checksum, and replaced in one step.
"""

import math
import operator
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import container, engines, identity, safefile, statetree, streams
from fastbp.data import Examples
from fastbp.engines import plan
from fastbp.errors import CheckpointError, ModelFileError
from fastbp.regularization import Regularization
from fastbp.run import Run

if TYPE_CHECKING:
    from fastbp.network import Network

KIND = "fastbp-checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """Where to keep checkpoints of a run, and how often: every so many epochs, mini-batches, or seconds.

    Without any of the three, after each epoch; with several, whenever one of them says so. A run also leaves one at
    its beginning (if `path` is free), at its end, and where Ctrl-C stops it. Each takes the place of the one before in
    a single step. When they are written changes no bit of the result.

    Raises ValueError or TypeError for numbers that make no sense.
    """

    path: str | os.PathLike[str]
    every_epochs: int | None = None
    every_batches: int | None = None
    every_seconds: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | bytes | os.PathLike):
            raise TypeError(f"path must be the name of a file, got {self.path!r}")
        for name in ("every_epochs", "every_batches"):
            value = getattr(self, name)
            try:
                whole = None if value is None else operator.index(value)
            except TypeError:
                raise TypeError(f"{name} must be a whole number, got {value!r}") from None
            if whole is not None and whole < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        seconds = self.every_seconds
        if seconds is not None and not (isinstance(seconds, int | float) and 0 <= seconds < math.inf):
            raise ValueError(f"every_seconds must be a finite number ≥ 0, got {seconds!r}")
        if self.every_epochs is None and self.every_batches is None and seconds is None:
            object.__setattr__(self, "every_epochs", 1)


# Writing


class Keeper:
    """What `fit` needs to go on from a checkpoint, to write some, or both."""

    def __init__(self, checkpoint: Checkpoint | None, resume: str | os.PathLike[str] | None) -> None:
        """Raises TypeError for what is no Checkpoint, and what `load` raises."""
        if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
            raise TypeError(f"checkpoint must be a fastbp.Checkpoint(path), got {checkpoint!r}")
        self.checkpoint = checkpoint
        self.saved = None if resume is None else load(resume)

    @property
    def is_resuming(self) -> bool:
        return self.saved is not None

    def engine_for(self, network: "Network") -> str | None:
        """The engine that an automatic choice must come to, the saved run's; None if it is free."""
        if self.saved is None or network.engine != "auto":
            return None
        name = self.saved.settings.get("engine")
        if name not in engines.NAMES:
            raise ModelFileError(f"{self.saved.path} is of a run in engine {short(name)}, which fastbp does not have")
        plan.check_engine(name, network._effective_architecture())
        return str(name)

    def rows_of(self, n: int) -> tuple[np.ndarray, np.ndarray] | None:
        """(rows trained on, rows held out) of n examples in the saved run; None if there is none."""
        if self.saved is None:
            return None
        with as_file_error(self.saved.path):
            rows = np.unique(self.saved.state["run"]["rows"])
            if rows.dtype != np.int64 or (len(rows) and not 0 <= rows[0] <= rows[-1] < n):
                raise ValueError("its order is not of these examples")
            held_out = np.setdiff1d(np.arange(n), rows)
            if not len(rows) or not len(held_out):
                raise ValueError("its order leaves no examples to learn from, or none to judge on")
            return rows, held_out

    def attach(
        self,
        run: Run,
        examples: Examples,
        held_out: Examples | None,
        classes: np.ndarray | None,
        arguments: Mapping[str, Any],
    ) -> None:
        """Bring a new run to where the saved one was, and let it write checkpoints; see `identity.settings`."""
        settings = identity.settings(run, examples, held_out, classes, arguments)
        writer = None if self.checkpoint is None else Writer(self.checkpoint, settings, arguments)
        if writer is not None:
            writer.check(run)
        if self.saved is not None:
            take_up(self.saved, run, settings)
        if writer is not None:
            writer.begin(run, None if self.saved is None else self.saved.state["opening"])
            run.pauses = (*run.pauses, writer)


class Writer:
    """A run's pause that writes its checkpoints.

    It keeps the engine's state from the beginning of the epoch as well: with that, `replay` can show any mini-batch of
    the epoch, also one that was over when the checkpoint was written.
    """

    def __init__(self, checkpoint: Checkpoint, settings: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
        self.checkpoint, self.settings, self.arguments = checkpoint, settings, arguments
        self.opening: dict[str, np.ndarray] | None = None
        self.saved_at = time.monotonic()
        self.saved_step = -1

    def check(self, run: Run) -> None:
        """Find out before any training what would spoil a checkpoint: the path, or a callback's state."""
        path = self.checkpoint.path
        safefile.check(path)
        if os.path.exists(path) and (kind := _kind_of(path)) != KIND:
            raise ValueError(
                f"checkpoint {os.fsdecode(path)!r} would overwrite {kind}; choose another name, or remove that file"
            )
        self._contents(run)

    def begin(self, run: Run, opening: dict[str, np.ndarray] | None) -> None:
        """opening: the engine's state at the beginning of the epoch that a resumed run is in."""
        self.opening = opening
        safefile.tidy(self.checkpoint.path)
        if not os.path.exists(self.checkpoint.path):
            self.write(run)

    def due(self, run: Run) -> int | None:
        if run.batch == 0:
            self.opening = run.engine.save_state()
        every = self.checkpoint.every_batches
        return None if every is None else run.batch + every - run.step % every

    def on_pause(self, run: Run) -> None:
        every = self.checkpoint
        done = run.batch == 0 and (run.epoch >= run.epochs or run.history.ended is not None)
        due = (
            (every.every_epochs is not None and run.batch == 0 and run.epoch % every.every_epochs == 0)
            or (every.every_batches is not None and run.step % every.every_batches == 0 and run.step != self.saved_step)
            or (every.every_seconds is not None and time.monotonic() - self.saved_at >= every.every_seconds)
        )
        if done or due:
            self.write(run)

    def on_interrupt(self, run: Run) -> None:
        """Keep what was done before Ctrl-C; the interrupt goes on, whatever comes of this."""
        try:
            self.write(run)
        except OSError as error:
            warnings.warn(f"the checkpoint of this moment could not be written: {error}", stacklevel=2)

    def write(self, run: Run) -> None:
        """Put the run as it is into the file. Raises OSError as `safefile.replace` does."""
        container.save(self.checkpoint.path, *self._contents(run), kind=KIND)
        self.saved_at, self.saved_step = time.monotonic(), run.step

    def _contents(self, run: Run) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        tensors: dict[str, np.ndarray] = {}
        state = {
            "run": run.state(),
            "random": streams.states(run.network._shuffle, run.network._rng),
            "opening": self.opening if run.batch else None,  # at the beginning it is the engine's own state
            "rule": self._rule(run),
        }
        return tensors, {
            "settings": dict(self.settings),
            "versions": identity.versions(),
            "state": statetree.encode(state, "state", tensors),
        }

    def _rule(self, run: Run) -> dict[str, Any]:
        """How the mini-batches of this epoch change the parameters, for `replay`."""
        optimizer, built = self.arguments["optimizer"], run.network._effective_architecture()
        given: Regularization = run.engine.regularization
        rates = [each.name for each in fields(optimizer) if each.name != "eta"]
        return {
            "etas": run.etas().copy(),
            "optimizer": type(optimizer).__name__,
            "rates": {name: getattr(optimizer, name) for name in rates},
            "decay": run.trainer.decay,
            "batch_size": run.trainer.batch_size,
            "shuffle": run.shuffle,
            "regularization": {"l1": given.l1, "max_norm": given.max_norm, "dropout": given.dropout},
            "label_smoothing": self.arguments["label_smoothing"],
            "weights": self.arguments["weights"],
            "by_name": built.compilable,  # no function of the user's own, which no file can hold
        }


def _kind_of(path: str | os.PathLike[str]) -> str:
    try:
        kind = container.kind_of(path)
        return kind if kind == KIND else f"a file of kind {short(kind)}"
    except ModelFileError:
        return "a file that fastbp did not write"


# Reading


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
    "threads": "set OMP_NUM_THREADS to the checkpoint's threads before Python starts",
    "BLAS threads": "set OPENBLAS_NUM_THREADS (or MKL_NUM_THREADS) to the checkpoint's before Python starts",
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
    others = [f"{name} {short(saved.versions.get(name))}, now {now[name]!r}" for name in now]
    others = [text for name, text in zip(now, others, strict=True) if saved.versions.get(name) != now[name]]
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


def check_like(saved: Any, expected: Any, name: str) -> None:
    """ValueError unless a part of a state is made like the `expected` one: the same keys, kinds, shapes of arrays.

    Numbers in arrays are finite, whole numbers not negative. Where None is expected, anything but more parts will do.
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
        right = not isinstance(saved, dict | list)
    elif type(expected) is int:
        right = type(saved) is int and saved >= 0
    else:
        right = type(saved) is type(expected) or (type(expected) is float and type(saved) is int)
    if not right:
        raise ValueError(f"its {name} is {short(saved)}")
