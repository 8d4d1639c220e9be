"""One run of `fit`, from its first mini-batch to its last: everything that changes while it lasts, in one object.

What a run consists of (the engine, the order of the examples, the step sizes, early stopping, records, callbacks) is
handed in; the run keeps count and calls each part when its time has come. `state` is all of it as plain values and
arrays, and a run made in the same way that takes it up with `restore` goes on as if nothing had happened.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastbp.engines import Engine
from fastbp.history import History
from fastbp.order import Order
from fastbp.training import Trainer

if TYPE_CHECKING:
    from fastbp.network import Network


class Pace(Protocol):
    """The step sizes of a run, see `schedules`."""

    def etas(self, epoch: int, step: int, count: int) -> np.ndarray:
        """The step sizes, (count,), of mini-batches step, step + 1, … of the run, all of them in this epoch."""

    def note(self, record: dict[str, Any]) -> bool:
        """Hear how the epoch that is over went; True if the run shall end."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class Stopping(Protocol):
    """Decides after each epoch whether it was the last."""

    def note(self, record: dict[str, Any], engine: Engine) -> bool:
        """Hear how the epoch that is over went; True if the run shall end."""

    def finish(self, engine: Engine, history: History) -> None:
        """Put back what was best, if that is wanted, when the run is over."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class Pause(Protocol):
    """Someone who must be heard within an epoch; a checkpoint, say. A pause changes no bit of the result."""

    def due(self, run: "Run") -> int | None:
        """The number of a mini-batch of this epoch at which a run of mini-batches must end; None if anywhere will do.

        `run.batch` mini-batches are done; only numbers greater than that count.
        """

    def on_pause(self, run: "Run") -> None:
        """Called between two compiled runs of mini-batches, and once after each epoch when all of it is recorded."""

    def on_interrupt(self, run: "Run") -> None:
        """Called when Ctrl-C has stopped the run at a point from which it could go on, before the error goes up."""


class Report(Protocol):
    """Tells somebody how far the run is."""

    def examples_done(self, count: int) -> None:
        """So many examples since the run began, over all epochs."""

    def epoch_done(self, record: dict[str, Any]) -> None: ...


class Run:
    """A network in training. `epochs` is how many there shall be in all.

    epoch: the epoch in progress, from 0. batch: its mini-batches that are done. step: mini-batches done since the run
    began. rows: the order of the examples in this epoch. history.ended: why no epoch will follow, or None.

    monitors: each is shown an epoch's record, and asked for more entries of it.
    callbacks: see `callbacks.Callback`; only those methods are called that a callback has.
    """

    def __init__(
        self,
        network: "Network",
        trainer: Trainer,
        order: Order,
        pace: Pace,
        *,
        epochs: int,
        shuffle: bool,
        report: Report,
        monitors: Sequence[Callable[["Run", dict[str, Any]], dict[str, Any]]] = (),
        callbacks: Sequence[Any] = (),
        stopping: Stopping | None = None,
        pauses: Sequence[Pause] = (),
    ) -> None:
        self.network, self.trainer, self.engine = network, trainer, trainer.engine
        self.order, self.pace, self.stopping = order, pace, stopping
        self.epochs, self.shuffle, self.report = epochs, shuffle, report
        self.monitors, self.callbacks, self.pauses = monitors, callbacks, pauses
        self.history = History(engine=self.engine.name)
        self.epoch = self.batch = self.step = 0
        self.seconds = 0.0  # spent on the mini-batches of this epoch
        self.begun = False  # whether the order of this epoch is drawn, and the callbacks have heard of it
        self.rows = order.rows
        self._published = False
        self._is_turning = False  # from one epoch to the next: some of what changes is of the old one, some of the new

    @property
    def n_examples(self) -> int:
        return len(self.rows)

    @property
    def n_batches(self) -> int:
        """Mini-batches in an epoch."""
        return -(-self.n_examples // self.trainer.batch_size)

    def etas(self) -> np.ndarray:
        """The step sizes of all mini-batches of this epoch, (n_batches,)."""
        return self.pace.etas(self.epoch, self.step - self.batch, self.n_batches)

    @property
    def is_settled(self) -> bool:
        """True if `state` is that of a moment between two mini-batches; an interrupt may come at any other, too."""
        return not self._is_turning and self.trainer.done == self.batch

    def go(self) -> History:
        """Train to the end, from wherever the run stands. The network gets the parameters however this ends."""
        try:
            if self._has("on_train_begin"):
                self._call("on_train_begin")
            if self.epoch < self.epochs and self.history.ended is None:
                self._train()
            if self.stopping is not None:
                self.stopping.finish(self.engine, self.history)
                self._published = False
            if self._has("on_train_end"):
                self._call("on_train_end", self.history)
        except KeyboardInterrupt:
            if self.is_settled:
                for pause in self.pauses:
                    pause.on_interrupt(self)
            raise
        finally:  # after an interrupt or a divergence too: the last finite parameters
            if not self._published:
                self.network._publish(self.engine)
        return self.history

    def _train(self) -> None:
        while self.epoch < self.epochs and self.history.ended is None:
            self._run_epoch()

    def _run_epoch(self) -> None:
        if not self.begun:
            self._begin_epoch()
        etas = self.etas()
        self._published = False
        self.trainer.run_epoch(
            self.epoch, self.rows, etas, first=self.batch, step=self.step - self.batch,
            due=self._due, on_run=self._after_run,
        )  # fmt: skip
        self._end_epoch({"eta": float(etas[0])})

    def _begin_epoch(self) -> None:
        self._is_turning = True
        if self.shuffle:
            self.rows = self.order.next()
        if self._has("on_epoch_begin"):
            self._call("on_epoch_begin", self.epoch)
        self.begun, self._is_turning = True, False

    def _due(self) -> int | None:
        numbers = [number for pause in self.pauses if (number := pause.due(self)) is not None and number > self.batch]
        return min(numbers, default=None)

    def _after_run(self, batch: int, seconds: float) -> None:
        """Mini-batches up to number `batch` of this epoch are done, the last of them in so many seconds."""
        self.step += batch - self.batch
        self.batch = batch
        self.seconds += seconds
        done = min(batch * self.trainer.batch_size, self.n_examples)
        self.report.examples_done(self.epoch * self.n_examples + done)
        for pause in self.pauses:
            pause.on_pause(self)

    def _end_epoch(self, facts: dict[str, Any]) -> None:
        """`facts` are the first entries of the epoch's record."""
        seconds = max(self.seconds, 1e-9)
        times = {"seconds": seconds, "examples_per_second": self.n_examples / seconds}
        record = {"epoch": self.epoch, **facts, **times}
        for monitor in self.monitors:
            record |= monitor(self, record)
        self._is_turning = True
        self.history.epochs.append(record)
        self.report.epoch_done(record)
        if self.callbacks:
            self._call("on_epoch_end", record)
        if self.pace.note(record):
            self.history.ended = "schedule"
        if self.stopping is not None and self.stopping.note(record, self.engine):
            self.history.ended = "early stopping"
        self.epoch, self.batch, self.seconds, self.begun = self.epoch + 1, 0, 0.0, False
        self.trainer.done, self._is_turning = 0, False
        for pause in self.pauses:
            pause.on_pause(self)

    def _has(self, method: str) -> bool:
        return any(callable(getattr(callback, method, None)) for callback in self.callbacks)

    def _call(self, method: str, *args: Any) -> None:
        """Each callback's method, where it has one; then go on with what they left in the network."""
        if not self._published:
            self._published = True
            self.network._publish(self.engine)
        for callback in self.callbacks:
            found = getattr(callback, method, None)
            if callable(found):
                found(self.network, *args)
        self.network._take_up(self.engine)

    def state(self) -> dict[str, Any]:
        """Everything that changes during a run, in nested dicts and lists of what JSON has, and NumPy arrays.

        Without the state of random streams (whoever shuffles has one, and the network does not own them all) and
        without what is handed in and does not change. A callback is asked for its own `state()`; None for one that
        has none.
        """
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "seconds": self.seconds,
            "begun": self.begun,
            "rows": self.rows.copy(),
            "order": self.order.state(),
            "engine": self.engine.save_state(),
            "pace": self.pace.state(),
            "stopping": None if self.stopping is None else self.stopping.state(),
            "history": self.history.state(),
            "callbacks": [_state_of(callback) for callback in self.callbacks],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of a run made with the same arguments; nothing of `state` is kept or changed."""
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.seconds, self.begun = state["seconds"], state["begun"]
        self.rows = np.array(state["rows"], np.int64)
        self.order.restore(state["order"])
        self.engine.restore_state(state["engine"])
        self.pace.restore(state["pace"])
        if self.stopping is not None:
            self.stopping.restore(state["stopping"])
        self.history.restore(state["history"])
        for callback, kept in zip(self.callbacks, state["callbacks"], strict=True):
            if kept is not None:
                callback.restore(kept)
        self.trainer.done, self._published = self.batch, False


def _state_of(callback: Any) -> Any:
    return callback.state() if callable(getattr(callback, "state", None)) else None
