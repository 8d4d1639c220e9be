"""When to stop before the last epoch: the no-improvement-in-n rule of the book's chapter 3."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.engines import Engine
from fastbp.history import History
from fastbp.improvement import Best


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when `patience` epochs in a row have not improved the monitored value.

    monitor: a column of the History; those that begin with validation need validation data. mode: "max" if greater
    is better, "min" if smaller; None knows it of scores and costs. An improvement must exceed minimum_delta.
    restore_best: the network ends with the parameters of its best epoch, also where the last epoch came first.

    It is a description and never changes; two networks may share one. Raises ValueError or TypeError for values that
    make no sense.
    """

    monitor: str = "validation_score"
    patience: int = 5
    minimum_delta: float = 0.0
    restore_best: bool = True
    mode: str | None = None

    def __post_init__(self) -> None:
        self._best()

    def _best(self) -> Best:
        return Best(self.monitor, self.patience, self.minimum_delta, self.mode)

    def begin(self) -> "Watcher":
        """This rule at the beginning of a run."""
        return Watcher(self, self._best())


class Watcher:
    """Early stopping at work in one run: the best epoch so far, and its parameters."""

    def __init__(self, rule: EarlyStopping, best: Best) -> None:
        self.rule, self.best = rule, best
        self.theta: np.ndarray | None = None

    def note(self, record: dict[str, Any], engine: Engine) -> bool:
        """Hear how the epoch that is over went; True if the run shall end."""
        if self.best.note(record) and self.rule.restore_best:
            self.theta = engine.theta()
        return self.best.is_stuck

    def finish(self, engine: Engine, history: History) -> None:
        """Put the best parameters back when the run is over, if that is wanted."""
        if self.theta is not None:
            engine.load(self.theta)
            history.best_epoch = self.best.epoch

    def state(self) -> dict[str, Any]:
        return {"best": self.best.state(), "theta": None if self.theta is None else self.theta.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        self.best.restore(state["best"])
        self.theta = None if state["theta"] is None else np.array(state["theta"])
