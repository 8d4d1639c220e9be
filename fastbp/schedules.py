"""How the step size changes while a network learns: give a schedule wherever a number for eta would do.

`fit(eta=Cosine(0.5, 30))`, `optimizer=Adam(WarmUp(Exponential(0.001, 0.95), 2))`. A schedule says nothing else than η,
so it stands where η stands, and no second number can contradict it. It is a description and never changes: two
networks may share one. Most are functions of the time t, epochs (from 0) or, with by="step", mini-batches.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp.improvement import Best


class Pace:
    """A schedule at work in one run: the step sizes, and what a run must remember of it (of most: nothing)."""

    def __init__(self, schedule: "Schedule") -> None:
        self.schedule = schedule

    def etas(self, epoch: int, step: int, count: int) -> np.ndarray:
        """The step sizes, (count,), of mini-batches step, step + 1, … of the run, all of them in this epoch."""
        t = np.full(count, epoch) if self.schedule.by == "epoch" else np.arange(step, step + count)
        with np.errstate(over="ignore"):  # an η that has become infinite shows as a divergence
            return np.broadcast_to(self.schedule.at(t), count)

    def note(self, record: dict[str, Any]) -> bool:
        """Hear how the epoch that is over went; True if the schedule ends the training there."""
        return False

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...


class Schedule(ABC):
    """The base: η as a function of t, counted in epochs or steps (mini-batches) as `by` says.

    Raises ValueError for a number that makes no sense, when it is made.
    """

    by: str = "epoch"

    def __post_init__(self) -> None:
        if self.by not in ("epoch", "step"):
            raise ValueError(f"by must be 'epoch' or 'step', got {self.by!r}")
        for name, value in vars(self).items():
            if name in ("eta", "factor", "least", "length", "every", "start"):
                _check(name, value)

    @abstractmethod
    def at(self, t: Any) -> Any:
        """η at the times t, an array of any shape, or at one time."""

    def begin(self) -> Pace:
        """This schedule at the beginning of a run."""
        return Pace(self)


def _check(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if name in ("length", "every") and value <= 0:
        raise ValueError(f"{name} must be greater than 0, got {value}")
    if name in ("least", "factor", "start") and value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


@dataclass(frozen=True)
class Constant(Schedule):
    """η(t) = eta."""

    eta: float

    def at(self, t: Any) -> Any:
        return self.eta * np.ones(np.shape(t))


@dataclass(frozen=True)
class Step(Schedule):
    """η(t) = eta · factor^⌊t/every⌋: times `factor` after each `every` epochs. PyTorch's StepLR."""

    eta: float
    every: int
    factor: float = 0.1
    by: str = "epoch"

    def at(self, t: Any) -> Any:
        return self.eta * np.power(float(self.factor), np.floor_divide(t, self.every))


@dataclass(frozen=True)
class Exponential(Schedule):
    """η(t) = eta · factor^t. PyTorch's ExponentialLR."""

    eta: float
    factor: float
    by: str = "epoch"

    def at(self, t: Any) -> Any:
        return self.eta * np.power(float(self.factor), t)


@dataclass(frozen=True)
class Cosine(Schedule):
    """η(t) = least + (eta - least)(1 + cos(π t/length))/2 up to t = length, and `least` from there on.

    Loshchilov and Hutter, "SGDR" (2017), eq. 5, without restarts; up to t = length PyTorch's CosineAnnealingLR (which
    would climb again afterwards). Over `epochs` epochs of a fit, length=epochs ends just above `least`.
    """

    eta: float
    length: int
    least: float = 0.0
    by: str = "epoch"

    def at(self, t: Any) -> Any:
        done = np.minimum(np.divide(t, self.length), 1.0)
        return self.least + (self.eta - self.least) * (1 + np.cos(np.pi * done)) / 2


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Another schedule (or a number), times a factor that grows linearly from `start` at t = 0 to 1 at t = length.

    Goyal et al. (2017), section 2.2. The schedule inside runs from t = 0 on, in its own unit; so the product equals
    PyTorch's LinearLR(start, total_iters=length) chained with it.
    """

    schedule: Schedule | float
    length: int
    start: float = 0.1
    by: str = "epoch"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "schedule", as_schedule(self.schedule))

    def at(self, t: Any) -> Any:
        """The factor alone: the schedule inside may count in another unit."""
        return self.start + (1 - self.start) * np.minimum(np.divide(t, self.length), 1.0)

    def begin(self) -> Pace:
        return _Product(self)


class _Product(Pace):
    """A warm-up at work, and the schedule inside it."""

    def __init__(self, schedule: WarmUp) -> None:
        super().__init__(schedule)
        self.inside = as_schedule(schedule.schedule).begin()

    def etas(self, epoch: int, step: int, count: int) -> np.ndarray:
        return super().etas(epoch, step, count) * self.inside.etas(epoch, step, count)

    def note(self, record: dict[str, Any]) -> bool:
        return self.inside.note(record)

    def state(self) -> dict[str, Any]:
        return self.inside.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.inside.restore(state)


@dataclass(frozen=True)
class HalveWhenStuck(Schedule):
    """Halve η each time the monitored value has not improved for `patience` epochs; end at eta · least.

    The exercise of the book's chapter 3 ("a learning schedule that halves the learning rate each time the validation
    accuracy satisfies the no-improvement-in-10 rule, and terminates when the learning rate has dropped to 1/128 of its
    original value"). With ends=False the training goes on with that last step size.

    monitor: a column of the History; validation_score needs validation data. mode: "max" if greater is better, "min"
    if smaller; None knows it of scores and costs. minimum_delta: what counts as an improvement must exceed it.
    """

    eta: float
    patience: int = 10
    monitor: str = "validation_score"
    minimum_delta: float = 0.0
    mode: str | None = None
    least: float = 1 / 128
    ends: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        Best(self.monitor, self.patience, self.minimum_delta, self.mode)

    def at(self, t: Any) -> Any:
        """η as long as the value improves."""
        return self.eta * np.ones(np.shape(t))

    def begin(self) -> Pace:
        return _Halving(self)


class _Halving(Pace):
    """HalveWhenStuck at work: the best value so far, and how often η was halved."""

    schedule: HalveWhenStuck

    def __init__(self, schedule: HalveWhenStuck) -> None:
        super().__init__(schedule)
        self.halvings = 0
        self.best = Best(schedule.monitor, schedule.patience, schedule.minimum_delta, schedule.mode)

    def _share(self) -> float:
        return float(max(0.5**self.halvings, self.schedule.least))

    def etas(self, epoch: int, step: int, count: int) -> np.ndarray:
        return np.full(count, self.schedule.eta * self._share())

    def note(self, record: dict[str, Any]) -> bool:
        self.best.note(record)
        if self.best.is_stuck and self._share() > self.schedule.least:
            self.halvings += 1
            self.best.wait_again()
        return self.schedule.ends and self._share() <= self.schedule.least

    def state(self) -> dict[str, Any]:
        return {"halvings": self.halvings, "best": self.best.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.halvings = state["halvings"]
        self.best.restore(state["best"])


def as_schedule(eta: Any) -> Schedule:
    """The schedule that `eta` is, or that keeps to it; ValueError for what is neither."""
    return eta if isinstance(eta, Schedule) else Constant(eta)


def monitored(schedule: Schedule | float) -> str | None:
    """The column of the History that a schedule, or the one inside it, looks at."""
    if isinstance(schedule, WarmUp):
        return monitored(schedule.schedule)
    return schedule.monitor if isinstance(schedule, HalveWhenStuck) else None
