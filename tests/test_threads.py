"""The threads of compiled code: the same bits whatever their number, no one waits for ever, and the clock decides."""

import platform
import threading
import time

import numpy as np
import pytest
from called import call
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import architecture, data, threads
from fastbp.engines import create, fused, plan
from fastbp.optimizers import PLAIN, Optimizer
from fastbp.regularization import NONE, Regularization

compiled_only = pytest.mark.skipif(DISABLE_JIT, reason="with the JIT off there is one thread")

SOFTMAX = {"output": "softmax", "cost": "log_likelihood"}
NETWORKS = {
    "panels shared out": {"sizes": (12, 96, 70, 10), "hidden": "tanh"},
    "rows shared out": {"sizes": (12, 9, 5, 3), "hidden": "relu", **SOFTMAX},
    "one neuron changed in each layer": {
        "sizes": (12, 70, 40, 3),
        "neurons": {(2, 33): "tanh", (3, 39): "relu", (4, 1): "identity"},
    },
    "more outputs than a panel": {"sizes": (12, 20, 70), "hidden": "silu", **SOFTMAX},
    "no hidden layer": {"sizes": (12, 10), "cost": "cross_entropy"},
    "layer 1 in halves": {"sizes": (200, 21, 9, 3), "hidden": "tanh", "neurons": {(2, 20): "relu"}, **SOFTMAX},
}


RULES = [
    (PLAIN, NONE),
    (fastbp.AdamW(1e-2), NONE),
    (fastbp.SGD(1.0, momentum=0.5), NONE),
    (fastbp.SGDW(1.0, momentum=0.5, nesterov=True, weight_decay=0.1), NONE),
    (PLAIN, Regularization(max_norm=0.8, dropout=0.3, seed=5)),
    (fastbp.Adam(1e-2), Regularization(1e-3, 0.8, 0.5, 6)),
]


def engine(
    name: str, dtype: str, density: float, batch_size: int, optimizer: Optimizer, given_rules: Regularization
) -> fused.FusedEngine:
    given = {"hidden": "sigmoid", "output": "sigmoid", "cost": "quadratic", "neurons": None, **NETWORKS[name]}
    built = architecture.build(
        given["sizes"], given["hidden"], given["output"], given["cost"], given["neurons"], dtype
    )  # fmt: skip
    rng = np.random.default_rng(0)
    X = inputs(rng, 60, built.sizes[0], density).astype(dtype)
    weights = None if given_rules == NONE else rng.random(60)
    examples = data.Examples(X, None, rng.integers(0, built.sizes[-1], 60), weights)
    theta = rng.normal(size=fastbp.parameters.count(built.sizes)).astype(dtype) / 4
    return fused.FusedEngine(built, theta, examples, batch_size, optimizer, given_rules)


def inputs(rng: np.random.Generator, rows: int, columns: int, density: float) -> np.ndarray:
    return rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < density)


def run_with(made: fused.FusedEngine, count: int) -> list[np.ndarray]:
    """Everything the engine computes, with so many threads, in one piece."""
    for pace in (made.pace, made.prediction_pace):
        pace.pieces = lambda total: iter([(0, total, count)])  # type: ignore[method-assign]
    order = np.random.default_rng(1).permutation(60)
    made.train(order, np.full(-(-60 // made.batch_size), 0.3), 0.4)
    return [made.theta(), made.gradient(np.arange(made.batch_size)), made.outputs(made.prepare(made_examples(made)))]


def made_examples(made: fused.FusedEngine) -> data.Examples:
    X = np.random.default_rng(2).normal(size=(131, made.architecture.sizes[0])).astype(made.architecture.dtype)
    return data.Examples(X)


@compiled_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_do_not_depend_on_the_number_of_threads(name: str, density: float, dtype: str) -> None:
    for rules in RULES:
        for batch_size in (1, 7, 32):
            alone = run_with(engine(name, dtype, density, batch_size, *rules), 1)
            for count in (2, 3, 5):
                together = run_with(engine(name, dtype, density, batch_size, *rules), count)
                for a, b in zip(alone, together, strict=True):
                    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("rules", RULES)
def test_layer_1_in_halves(rules: tuple[Optimizer, Regularization], density: float, dtype: str) -> None:
    name = "layer 1 in halves"
    fused_engine, alone = (engine(name, dtype, density, 32, *rules) for _ in range(2))
    assert (fused_engine.halves.size > 0) == (rules[1].max_norm == np.inf)  # a norm is of all inputs
    assert (fused_engine.data.middles.size > 0) == (density < 1 and rules[1].max_norm == np.inf)
    reference = create("reference", alone.architecture, alone.theta(), alone.examples, 32, *rules)
    order, eta = np.random.default_rng(1).permutation(60), np.full(2, 0.3)
    for made in (fused_engine, reference):
        for step in range(3):
            made.train(order, eta, 0.4, 2 * step)
    tolerance = 2e-4 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(fused_engine.theta(), reference.theta(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_any_order_and_balance_are_halved(dtype: str) -> None:
    """Compressed rows of the user's own: columns in any order, all entries in a few columns, none at all."""
    from scipy import sparse

    rng, built = np.random.default_rng(3), engine("layer 1 in halves", dtype, 1, 32, *RULES[0]).architecture
    few = inputs(rng, 60, 200, 0.2) * (np.arange(200) >= 190)
    for dense in (inputs(rng, 60, 200, 0.2), few, np.zeros((60, 200))):
        sorted_rows = sparse.csr_matrix(dense.astype(dtype))
        mixed = sorted_rows.copy()
        for first, last in zip(mixed.indptr[:-1], mixed.indptr[1:], strict=True):
            at = first + rng.permutation(last - first)
            mixed.indices[first:last], mixed.data[first:last] = sorted_rows.indices[at], sorted_rows.data[at]
        mixed.has_sorted_indices = False
        before = mixed.indices.copy()
        thetas = []
        for X in (sorted_rows, mixed):
            theta = np.random.default_rng(4).normal(size=fastbp.parameters.count(built.sizes)).astype(dtype) / 4
            made = fused.FusedEngine(built, theta, data.Examples(X, None, np.arange(60) % 3), 32, *RULES[0])
            made.train(np.arange(60), np.full(2, 0.3), 0.4)
            thetas.append(made.theta())
        np.testing.assert_array_equal(*thetas)
        np.testing.assert_array_equal(mixed.indices, before)


@compiled_only
def test_more_cores_than_halves() -> None:
    made = engine("layer 1 in halves", "float32", 0.2, 32, *RULES[0])
    assert made.pace.most == min(2, threads.available())


def test_an_error_in_one_thread_is_raised_and_nobody_waits_for_it() -> None:
    def work(me: int, sync: np.ndarray) -> None:
        if me == 1:
            raise MemoryError("no room")
        while not sync[threads._BROKEN]:  # what a compiled thread looks at while it waits
            time.sleep(0.001)

    before = threading.active_count()
    with pytest.raises(MemoryError, match="no room"):
        threads.run_together(3, work)
    assert threading.active_count() == before


@compiled_only
def test_waiting_ends_when_one_never_comes() -> None:
    sync = np.zeros(3 * threads._LINE, np.int64)
    waiting = threading.Thread(target=call.wait, args=(sync, 0, 2), daemon=True)
    call.wait(sync.copy(), 0, 1)  # compiled now
    waiting.start()
    time.sleep(0.05)
    assert waiting.is_alive()
    sync[threads._BROKEN] = 1
    waiting.join(5)
    assert not waiting.is_alive()


def test_available_heeds_the_environment_and_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    cores = threads.available()
    assert cores >= 1
    for given, wanted in (("1", 1), ("1,2", 1), ("0", cores), ("many", cores), (str(10 * cores), cores)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert threads.available() == wanted
    monkeypatch.delenv("OMP_NUM_THREADS")
    with threads.limited_to(1):
        assert threads.available() == 1
    assert threads.available() == cores


def test_small_mini_batches_get_one_thread() -> None:
    small = architecture.build((8, 32, 16, 4), "sigmoid", "sigmoid", "quadratic", None, "float32")
    large = architecture.build((784, 512, 10), "sigmoid", "sigmoid", "quadratic", None, "float32")
    assert plan.pace(small, 16).most == 1
    assert plan.pace(large, 100).most == (1 if DISABLE_JIT else threads.available())


class Clock:
    """Time that passes as a number of threads works, until somebody takes the second core away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slow: dict[int, float]) -> None:
        self.now, self.slow = 0.0, slow
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)

    def work(self, pace: threads.Pace, units: int) -> list[tuple[int, int]]:
        """(threads, units) of each piece."""
        done, pieces = 0, []
        for first, last, count in pace.pieces(units):
            assert first == done and last > first
            done = last
            self.now += 1e-4 + (last - first) * self.slow[count]
            pieces.append((count, last - first))
        assert done == units
        return pieces


@pytest.mark.parametrize("seconds", [1e-5, 1e-3, 0.03])
def test_pace_finds_the_faster_way_and_notices_when_that_changes(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    clock = Clock(monkeypatch, {1: seconds, 2: seconds / 1.7})
    pace, units = threads.Pace(2), int(3 / seconds)
    pieces = clock.work(pace, units)
    assert sum(n for count, n in pieces if count == 2) > 0.8 * units
    clock.slow = {1: seconds, 2: 20 * seconds}  # the second core is taken
    began = clock.now
    pieces = clock.work(pace, units)
    assert sum(n for count, n in pieces if count == 1) > 0.8 * units
    assert clock.now - began < 1.6 * units * seconds
    clock.slow = {1: seconds, 2: seconds / 1.7}  # it is free again
    clock.work(pace, int(2 * pace.LATEST / seconds))  # the next trial comes after LATEST seconds at most
    assert clock.work(pace, units)[-1][0] == 2


def test_pace_comes_back_at_once_from_a_single_slow_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stayed with one thread for up to two seconds."""
    clock = Clock(monkeypatch, {1: 1e-5, 2: 6e-6})
    pace = threads.Pace(2)
    clock.work(pace, 10**6)  # long enough for trials to be rare
    for first, last, count in pace.pieces(1000):
        assert count == 2
        clock.now += 3 * (last - first) * clock.slow[count]
    pieces = clock.work(pace, 50_000)
    assert sum(n for count, n in pieces if count == 2) > 0.9 * 50_000


def test_pace_without_a_choice_does_all_at_once() -> None:
    assert list(threads.Pace(1).pieces(1000)) == [(0, 1000, 1)]
    assert list(threads.Pace(3, sure=True).pieces(1000)) == [(0, 1000, 3)]


@pytest.mark.skipif(DISABLE_JIT or platform.machine() not in ("x86_64", "AMD64"), reason="only there are they slow")
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormal_numbers_are_zero_in_a_run_and_only_there(dtype: str, count: int) -> None:
    built = architecture.build([3, 4, 2], "sigmoid", "sigmoid", "quadratic", None, dtype)
    X, labels = np.random.default_rng(0).random((200, 3)).astype(dtype), np.arange(200) % 2
    X[:, 0] = 0  # so that the gradient of its weights is 0, and their averages only sink
    theta = np.full(26, 0.1, dtype)
    engine = fused.FusedEngine(built, theta, data.Examples(X, labels=labels), 2, fastbp.Adam(0.01), NONE)
    engine.pace = threads.Pace(count, sure=True)
    tiny = np.finfo(dtype).tiny
    second = engine.own.steps.second[: engine.shape.panel]
    second[:4] = 1.01 * tiny
    engine.train(np.arange(200), np.full(100, 0.01), 0.0)
    assert (second == 0).all()
    numbers = np.full(3, tiny)  # and elsewhere they are what they were
    assert (numbers / 2 > 0).all()
    assert tiny / type(tiny)(2) > 0
