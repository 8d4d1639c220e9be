"""Whether a monitored value got better: the rule that early stopping, schedules and model checkpoints share."""

import math
import re
from typing import Any

from fastbp import checks

MODES = ("min", "max")


class Best:
    """The best value of one column of the History so far, and for how many epochs it has not been beaten.

    mode: "max" if greater is better, "min" if smaller; None takes "min" for a cost and "max" for a score. An
    improvement beats the best by more than minimum_delta; NaN is none.
    """

    def __init__(self, monitor: str, patience: int = 1, minimum_delta: float = 0.0, mode: str | None = None) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a column of the History, got {monitor!r}")
        if mode is None and not monitor.endswith(("cost", "score")):
            raise ValueError(f"monitor={monitor!r} is neither a cost nor a score; say mode='min' or mode='max'")
        if mode is not None and mode not in MODES:
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        checks.not_negative(minimum_delta, "minimum_delta")
        self.patience = checks.whole(patience, "patience", least=1, unit="epoch")
        self.monitor, self.minimum_delta = monitor, minimum_delta
        self.sign = -1.0 if mode == "min" or (mode is None and monitor.endswith("cost")) else 1.0
        self.value: float | None = None
        self.epoch: int | None = None
        self.waited = 0

    def note(self, record: dict[str, Any]) -> bool:
        """Look at the record of an epoch that is over; True if it is the best so far."""
        if self.monitor not in record:
            raise ValueError(f"monitor={self.monitor!r} was not recorded; recorded are {', '.join(record)}")
        value = record[self.monitor]
        if self.value is None:
            better = not math.isnan(value)
        else:
            better = self.sign * value > self.sign * self.value + self.minimum_delta
        if better:
            self.value, self.epoch, self.waited = value, record["epoch"], 0
        else:
            self.waited += 1
        return better

    @property
    def is_stuck(self) -> bool:
        """True if nothing better came for `patience` epochs."""
        return self.waited >= self.patience

    def wait_again(self) -> None:
        """Give another `patience` epochs to beat the best."""
        self.waited = 0

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "epoch": self.epoch, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        self.value, self.epoch, self.waited = state["value"], state["epoch"], state["waited"]


def check_recorded(monitor: str | None, validation: bool, training: bool, layers: bool) -> None:
    """ValueError, before any training, for a column that this fit will not record."""
    if monitor in ("validation_cost", "validation_score", "gap") and not validation:
        raise ValueError(f"monitor={monitor!r} needs validation_data=(X, y), or a validation_fraction")
    if monitor in ("training_cost", "training_score", "gap") and not training:
        raise ValueError(f"monitor={monitor!r} needs monitor_training=True")
    if monitor is not None and re.fullmatch(r"(gradient_norm|saturation)_\d+", monitor) and not layers:
        raise ValueError(f"monitor={monitor!r} needs monitor_layers=True")
