"""Checkpoints: all of a run in one file, now and then, so that a run that was cut short goes on to the same bits.

    net.fit(X, y, epochs=30, eta=0.5, checkpoint=fastbp.Checkpoint("run.checkpoint", every_seconds=60))
    net.fit(X, y, epochs=30, eta=0.5, resume="run.checkpoint")            # after a crash

A checkpoint holds what changes during a run (`Run.state`, and the streams of random numbers) and, to refuse any other
run, what does not: the network's make, the arguments of `fit`, fingerprints of the data, engine, threads, versions.
The file is a `container`: no pickle, a checksum, and replaced in one step. How it is taken up again stands in
`resuming`.
"""

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import checks, container, engines, identity, safefile, statetree, streams
from fastbp.data import Examples
from fastbp.engines import plan
from fastbp.errors import ModelFileError
from fastbp.regularization import Regularization
from fastbp.resuming import KIND, as_file_error, load, take_up
from fastbp.run import Run

if TYPE_CHECKING:
    from fastbp.network import Network


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
            if getattr(self, name) is not None:
                checks.whole(getattr(self, name), name, least=1)
        if self.every_seconds is not None:
            checks.not_negative(self.every_seconds, "every_seconds")
        if self.every_epochs is None and self.every_batches is None and self.every_seconds is None:
            object.__setattr__(self, "every_epochs", 1)


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
