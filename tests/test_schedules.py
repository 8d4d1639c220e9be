"""Schedules: each against its closed form, against PyTorch's scheduler of the same name, and inside a fit."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import Constant, Cosine, Exponential, HalveWhenStuck, Schedule, Step, WarmUp

T = 25
TABLE: list[tuple[str, Schedule, Callable[[int], float], Callable[[Any, Any], Any] | None]] = [
    ("constant", Constant(0.3), lambda t: 0.3, lambda s, o: s.ConstantLR(o, 1.0)),
    ("step", Step(0.3, 4), lambda t: 0.3 * 0.1 ** (t // 4), lambda s, o: s.StepLR(o, 4)),
    ("step, factor", Step(0.3, 3, 0.5), lambda t: 0.3 * 0.5 ** (t // 3), lambda s, o: s.StepLR(o, 3, 0.5)),
    ("exponential", Exponential(0.3, 0.9), lambda t: 0.3 * 0.9**t, lambda s, o: s.ExponentialLR(o, 0.9)),
    (
        "cosine",
        Cosine(0.3, T, 0.01),
        lambda t: 0.01 + 0.29 * (1 + math.cos(math.pi * t / T)) / 2,
        lambda s, o: s.CosineAnnealingLR(o, T, 0.01),
    ),
    (
        "warm-up",
        WarmUp(0.3, 5, 0.25),
        lambda t: 0.3 * min(1, 0.25 + 0.75 * t / 5),
        lambda s, o: s.LinearLR(o, 0.25, total_iters=5),
    ),
    (
        "warm-up of exponential",
        WarmUp(Exponential(0.3, 0.9), 5, 0.25),
        lambda t: 0.3 * 0.9**t * min(1, 0.25 + 0.75 * t / 5),
        lambda s, o: s.ChainedScheduler([s.LinearLR(o, 0.25, total_iters=5), s.ExponentialLR(o, 0.9)], o),
    ),
]
IDS = [name for name, *_ in TABLE]


def by_epoch(schedule: Schedule) -> list[float]:
    pace = schedule.begin()
    return [float(pace.etas(t, 7 * t, 7)[0]) for t in range(T)]


@pytest.mark.parametrize(("name", "schedule", "formula", "torchs"), TABLE, ids=IDS)
def test_closed_form(name: str, schedule: Schedule, formula: Callable, torchs: Any) -> None:
    np.testing.assert_allclose(by_epoch(schedule), [formula(t) for t in range(T)], rtol=1e-12)
    etas = schedule.begin().etas(3, 21, 7)
    assert etas.shape == (7,) and np.ptp(etas) == 0


@pytest.mark.parametrize(("name", "schedule", "formula", "torchs"), TABLE, ids=IDS)
@pytest.mark.filterwarnings("ignore")
def test_torch_has_the_same(name: str, schedule: Schedule, formula: Callable, torchs: Callable) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to compare with it")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler, found = torchs(torch.optim.lr_scheduler, optimizer), []
    for _ in range(T):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(by_epoch(schedule), found, rtol=1e-9)


@pytest.mark.parametrize("make", [Step, Exponential, Cosine, WarmUp])
def test_by_step_counts_mini_batches(make: type) -> None:
    second = {"every": 3} if make is Step else {"factor": 0.9} if make is Exponential else {"length": 40}
    epochs, steps = make(0.3, **second), make(0.3, **second, by="step")
    expected = [float(epochs.begin().etas(t, 0, 1)[0]) for t in range(60)]
    np.testing.assert_allclose(steps.begin().etas(4, 0, 60), expected, rtol=1e-14)
    np.testing.assert_allclose(steps.begin().etas(4, 17, 9), expected[17:26], rtol=1e-14)


def test_units_may_be_mixed() -> None:
    etas = WarmUp(Step(1.0, 1, 0.5), 4, 0.0, by="step").begin().etas(1, 2, 4)
    np.testing.assert_allclose(etas, [0.25, 0.375, 0.5, 0.5])


def test_cosine_stays_at_its_least() -> None:
    assert Cosine(0.3, 5, 0.1).at(np.array([5, 6, 100])) == pytest.approx([0.1] * 3)


def told(schedule: Schedule, scores: list[float], monitor: str = "validation_score") -> tuple[list[float], list[bool]]:
    """The step size of each epoch, and whether it was said to be the last."""
    pace, etas, ends = schedule.begin(), [], []
    for epoch, score in enumerate(scores):
        etas.append(float(pace.etas(epoch, epoch, 1)[0]))
        ends.append(pace.note({"epoch": epoch, monitor: score}))
    return etas, ends


def test_halve_when_stuck_as_the_exercise_says() -> None:
    scores = [0.5, 0.6, 0.6, 0.55, 0.61, 0.4, 0.61, 0.3, 0.2, 0.62, 0.1]
    etas, ends = told(HalveWhenStuck(1.0, patience=2), scores)
    assert etas == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125] and not any(ends)
    etas, ends = told(HalveWhenStuck(1.0, patience=1), [0.5] * 10)
    assert etas == [1, 1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 128]
    assert ends == [False] * 7 + [True] * 3
    etas, ends = told(HalveWhenStuck(1.0, patience=1, ends=False, least=0.2), [0.5] * 6)
    assert etas == [1, 1, 0.5, 0.25, 0.2, 0.2] and not any(ends)


def test_halve_when_stuck_on_a_cost_with_a_delta_and_nan() -> None:
    costs = [1.0, 0.95, 0.5, float("nan"), 0.45]
    etas, _ = told(HalveWhenStuck(1.0, 1, "validation_cost", minimum_delta=0.1), costs, "validation_cost")
    assert etas == [1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("patience", [1, 3])
@pytest.mark.parametrize("mode, delta", [("max", 0.0), ("min", 0.0), ("max", 0.2)])
def test_halving_is_torch_s_reduce_on_plateau(patience: int, mode: str, delta: float) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to compare with it")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, factor=0.5, patience=patience - 1, threshold=delta, threshold_mode="abs", min_lr=0.3 / 128,
        eps=0.0,
    )  # fmt: skip
    values = np.random.default_rng(patience).normal(size=60).cumsum().tolist()
    rule = HalveWhenStuck(0.3, patience, "odd", minimum_delta=delta, mode=mode, ends=False)
    etas, _ = told(rule, values, "odd")
    found = []
    for value in values:
        found.append(optimizer.param_groups[0]["lr"])
        theirs.step(value)
    np.testing.assert_allclose(etas, found, rtol=1e-12)
    assert len(set(etas)) > 3


def test_a_fit_follows_its_schedule_and_ends_with_it() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)), np.arange(30) % 3
    net = fastbp.Network([4, 3], seed=0)
    history = net.fit(X, y, epochs=5, optimizer=fastbp.Adam(Cosine(0.01, 5)))
    np.testing.assert_allclose(history["eta"], [0.005 * (1 + math.cos(math.pi * t / 5)) for t in range(5)])
    assert history.ended is None
    still = HalveWhenStuck(1e-12, patience=2)
    history = net.fit(X, y, epochs=99, eta=still, validation_data=(X, y))
    assert len(history) == 1 + 2 * 7 and history.ended == "schedule"
    again = net.fit(X, y, epochs=3, eta=still, validation_data=(X, y))
    assert again["eta"] == [1e-12] * 3  # a schedule is a description: the next run begins at its beginning


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(float("nan")), "eta must be a finite number"),
        (lambda: Step(0.1, 0), "every must be greater than 0"),
        (lambda: Cosine(0.1, -1), "length must be greater than 0"),
        (lambda: Cosine(0.1, 5, least=-1.0), "least must not be negative"),
        (lambda: Exponential(0.1, -0.5), "factor must not be negative"),
        (lambda: Exponential(0.1, 0.5, by="minute"), "by must be 'epoch' or 'step', got 'minute'"),
        (lambda: WarmUp("fast", 3), "eta must be a finite number, got 'fast'"),  # type: ignore[arg-type]
        (lambda: HalveWhenStuck(0.1, patience=0), "patience must be at least 1 epoch"),
        (lambda: HalveWhenStuck(0.1, monitor="eta"), "neither a cost nor a score; say mode="),
        (lambda: HalveWhenStuck(0.1, mode="up"), "mode must be 'min' or 'max'"),
        (lambda: HalveWhenStuck(0.1, minimum_delta=-1.0), "minimum_delta must be a finite number ≥ 0"),
    ],
)
def test_refusals(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_monitor_that_will_not_be_there_is_refused_before_training() -> None:
    X, y = np.ones((6, 2)), np.zeros(6, int)
    for eta in (HalveWhenStuck(0.1), WarmUp(HalveWhenStuck(0.1), 3)):
        net = fastbp.Network([2, 3], seed=0)
        before = net.weights[0].copy()
        with pytest.raises(ValueError, match=r"monitor='validation_score' needs validation_data="):
            net.fit(X, y, epochs=3, eta=eta)
        np.testing.assert_array_equal(net.weights[0], before)
    with pytest.raises(ValueError, match="monitor='loss_score' was not recorded; recorded are epoch, eta"):
        net.fit(X, y, epochs=3, eta=HalveWhenStuck(0.1, monitor="loss_score"))
