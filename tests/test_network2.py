"""network2 with one changed import: the same draws, order, lines, lists, parameters and files.

The oracle is `naive_book2.NaiveBook2`. What a test changes in a network, it changes in the oracle by the same words.
"""

import copy
import itertools
import json
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs_blocks import python_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_book2 import NaiveBook2, NaiveCrossEntropy, NaiveQuadratic, sigma, unit
from numba.core.config import DISABLE_JIT
from stories import (
    Pairs,
    assert_same_end,
    assert_same_parameters,
    example_pairs,
    labelled,
    positions,
    printed,
    seed_everything,
    state_of_generators,
    story,
)

import fastbp
from fastbp import safefile
from fastbp.book import network, network2
from fastbp.book.network2 import CrossEntropyCost, QuadraticCost
from fastbp.errors import ModelFileError

ENGINES = ("reference", "matrix", "fused", "auto")
COSTS = {"cross-entropy": (CrossEntropyCost, NaiveCrossEntropy), "quadratic": (QuadraticCost, NaiveQuadratic)}
FLAGS = (
    "monitor_evaluation_cost",
    "monitor_evaluation_accuracy",
    "monitor_training_cost",
    "monitor_training_accuracy",
)
ALL = dict.fromkeys(FLAGS, True)
SIZES = [6, 5, 4]


def assert_same_story(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert [words(line) for line in ours["lines"]] == [words(line) for line in theirs["lines"]]
    costs, their_costs = (costs_in(each["lines"]) for each in (ours, theirs))
    np.testing.assert_allclose(costs, their_costs, rtol=1e-11)
    for mine, other in zip(ours["returned"], theirs["returned"], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-11)
    assert_same_end(ours, theirs)


def words(line: str) -> str:
    """A printed line, but for the digits of a cost, whose last ones depend on the order of summation."""
    return re.sub(r"^(Cost on \w+ data: ).*", r"\1", line)


def costs_in(lines: list[str]) -> list[float]:
    return [float(line.split(": ")[1]) for line in lines if line.startswith("Cost")]


def both(
    train: Callable[[Any, Pairs], Any],
    sizes: list[int] = SIZES,
    n: int = 23,
    cost: str = "cross-entropy",
    mixin: type | None = None,
    **options: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The stories of our network and of the naive one."""
    pairs = example_pairs(sizes, n)
    ours, theirs = (
        base if mixin is None else type("Net", (mixin, base), {}) for base in (network2.Network, NaiveBook2)
    )
    mine, other = COSTS[cost]
    return (
        story(lambda: ours(sizes, mine, **options), train, pairs),
        story(lambda: theirs(sizes, other), train, pairs),
    )


# --- construction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[4, 3, 2], [5, 4], [3, 3, 3, 3], [1, 1]])
@pytest.mark.parametrize("large", [False, True])
def test_first_parameters_are_the_book_s_to_the_last_bit(sizes: list[int], large: bool) -> None:
    """The constructor draws default weights in any case; large_weight_initializer draws again."""
    nets = []
    for kind in (network2.Network, NaiveBook2):
        seed_everything()
        nets.append(kind(sizes))
        if large:
            nets[-1].large_weight_initializer()
        assert len(nets[-1].weights) == nets[-1].num_layers - 1
        nets.append(state_of_generators())
    net, after, naive, after_naive = nets
    assert after == after_naive and net.sizes == sizes
    for ours, theirs in zip((*net.biases, *net.weights), (*naive.biases, *naive.weights), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_initializer_of_ones_own_is_called_by_the_constructor() -> None:
    class Net(network2.Network):
        def default_weight_initializer(self) -> None:
            self.biases = [np.zeros((n, 1)) for n in self.sizes[1:]]
            self.weights = [np.ones((n, below)) for below, n in zip(self.sizes, self.sizes[1:], strict=False)]

    before = np.random.get_state()[1].tolist()
    assert (Net([3, 2]).feedforward(np.zeros((3, 1))) == 0.5).all()
    assert np.random.get_state()[1].tolist() == before


def test_the_default_cost_is_the_cross_entropy_and_cost_can_be_assigned() -> None:
    net, (x, y) = network2.Network([4, 3, 2]), example_pairs([4, 3, 2], 1)[0]
    assert net.cost is CrossEntropyCost and net.architecture.cost.name == "cross_entropy"
    a = net.feedforward(x)
    np.testing.assert_allclose(net.backprop(x, y)[0][-1], a - y, rtol=1e-12)
    net.cost = QuadraticCost()
    np.testing.assert_allclose(net.backprop(x, y)[0][-1], (a - y) * a * (1 - a), rtol=1e-12)


@pytest.mark.parametrize("cost", ["cross_entropy", None, 3, object, dict])
def test_what_is_no_cost_is_refused(cost: Any) -> None:
    with pytest.raises(TypeError, match=r"cost must be QuadraticCost, CrossEntropyCost, or .* with fn\(a, y\)"):
        network2.Network([3, 2], cost=cost)


def test_functions_of_the_module() -> None:
    assert network2.vectorized_result(3).tolist() == unit(3, 10).tolist()
    assert network2.sigmoid(0) == 0.5 and network2.sigmoid_prime(0) == 0.25
    z = np.linspace(-3, 3, 4).reshape(-1, 1)
    a, y = sigma(z), unit(1, 4)
    for cost, naive in COSTS.values():
        np.testing.assert_allclose(cost.fn(a, y), naive.fn(a, y), rtol=1e-13)
        np.testing.assert_allclose(cost.delta(z, a, y), naive.delta(z, a, y), rtol=1e-13)
    assert CrossEntropyCost.fn(np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]])) == 0
    assert CrossEntropyCost.fn(np.array([[0.0]]), np.array([[1.0]])) == np.finfo(float).max


# --- SGD ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=4)))
def test_every_combination_of_flags(flags: tuple[bool, ...]) -> None:
    tests = labelled(example_pairs(SIZES, 11, seed=1))
    wanted = dict(zip(FLAGS, flags, strict=True))
    ours, theirs = both(lambda net, pairs: net.SGD(pairs, 3, 5, 0.7, 0.5, tests, **wanted), engine="matrix")
    assert_same_story(ours, theirs)
    assert [len(found) for found in ours["returned"]] == [3 * flag for flag in flags]
    assert ours["lines"][0] == "Epoch 0 training complete"
    assert ours["lines"].count("") == 3 and ours["lines"][-1] == ""


@pytest.mark.parametrize("lmbda", [0.0, 0.5, 40.0, -0.1])
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_whole_story_is_the_same(engine: str, cost: str, lmbda: float) -> None:
    """Two calls, the second of which goes on from the order the first left; λ = 40 turns the weights' signs."""
    tests = labelled(example_pairs(SIZES, 11, seed=1))

    def train(net: Any, pairs: Pairs) -> Any:
        first = net.SGD(pairs, 2, 5, 0.7, lmbda=lmbda, evaluation_data=tests, **ALL)
        return (*first, *net.SGD(pairs, 2, 100, 0.9, lmbda, tests, monitor_training_cost=True))

    assert_same_story(*both(train, cost=cost, engine=engine))


@pytest.mark.parametrize("sizes", [[6, 3], [6, 4, 5, 3]])
@pytest.mark.parametrize("engine", ENGINES)
def test_other_depths(engine: str, sizes: list[int]) -> None:
    tests = labelled(example_pairs(sizes, 11, seed=1))
    assert_same_story(*both(lambda net, pairs: net.SGD(pairs, 3, 5, 0.7, 0.5, tests, **ALL), sizes, engine=engine))


def test_values_are_plain_numbers_that_json_takes() -> None:
    tests = labelled(example_pairs(SIZES, 11, seed=1))
    for mixin in (None, Halves, Doubles):
        ours, _ = both(lambda net, pairs: net.SGD(pairs, 2, 5, 0.7, 0.5, tests, **ALL), mixin=mixin)
        assert {type(value) for found in ours["returned"] for value in found} <= {int, float}
        assert json.loads(json.dumps(ours["returned"])) == [list(found) for found in ours["returned"]]


class Doubles:
    def feedforward(self, a: np.ndarray) -> np.ndarray:
        return super().feedforward(a) ** 2  # type: ignore[misc]


class Halves:
    def total_cost(self, data: list, lmbda: float, convert: bool = False) -> Any:
        return np.float64(super().total_cost(data, lmbda, convert) / 2)  # type: ignore[misc]


class Counts:
    """Counts the calls, each of which draws a number: what is called twice shows in the generators."""

    def accuracy(self, data: list, convert: bool = False) -> int:
        self.calls = getattr(self, "calls", 0) + 1
        return super().accuracy(data, convert) + random.randrange(2)  # type: ignore[misc]


class ForgetsAfterEachEpoch:
    def accuracy(self, data: list, convert: bool = False) -> int:
        self.weights = [w.round(2) for w in self.weights]
        self.biases[0][...] = 0.5
        return super().accuracy(data, convert)  # type: ignore[misc]


class Clips:
    def update_mini_batch(self, mini_batch: list, eta: float, lmbda: float, n: int) -> None:
        super().update_mini_batch(mini_batch, eta, lmbda, n)  # type: ignore[misc]
        self.weights = [np.clip(w, -0.3, 0.3) for w in self.weights]


class Noisy:
    def backprop(self, x: np.ndarray, y: Any) -> tuple[list, list]:
        nabla_b, nabla_w = super().backprop(x, y)  # type: ignore[misc]
        return nabla_b, [nw + 0.01 * np.random.randn(*nw.shape) for nw in nabla_w]


class WithADerivative:
    """The book's network2 never calls it."""

    def cost_derivative(self, output_activations: np.ndarray, y: np.ndarray) -> np.ndarray:
        raise AssertionError("called")


class AllAtOnce(Clips, Noisy, Counts, Halves, Doubles):
    pass


MIXINS = [Doubles, Halves, Counts, ForgetsAfterEachEpoch, Clips, Noisy, WithADerivative, AllAtOnce]


@pytest.mark.parametrize("engine", ["auto", "matrix"])
@pytest.mark.parametrize("mixin", MIXINS)
def test_overridden_methods_are_called_where_the_book_calls_them(mixin: type, engine: str) -> None:
    tests = labelled(example_pairs(SIZES, 8, seed=5))

    def train(net: Any, pairs: Pairs) -> Any:
        return *net.SGD(pairs, 3, 5, 0.7, 0.5, tests, **ALL), *net.SGD(pairs, 2, 5, 0.7)

    ours, theirs = both(train, n=9, mixin=mixin, engine=engine)
    assert_same_story(ours, theirs)
    assert getattr(ours["net"], "calls", 0) == getattr(theirs["net"], "calls", 0)


def steep(z: Any) -> Any:
    return sigma(2 * z)


def steep_prime(z: Any) -> Any:
    return 2 * sigma(2 * z) * sigma(-2 * z)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("patched", [("sigmoid",), ("sigmoid_prime",), ("sigmoid", "sigmoid_prime")])
def test_a_patched_sigmoid(monkeypatch: pytest.MonkeyPatch, patched: tuple, cost: str) -> None:
    """The book's sigmoid_prime calls its sigmoid; the quadratic cost's delta calls sigmoid_prime."""
    if "sigmoid" in patched:
        monkeypatch.setattr(network2, "sigmoid", steep)
        monkeypatch.setattr(NaiveBook2, "sigma", staticmethod(steep))
    if "sigmoid_prime" in patched:
        monkeypatch.setattr(network2, "sigmoid_prime", steep_prime)
        monkeypatch.setattr(NaiveBook2, "sigma_prime", staticmethod(steep_prime))

    class Patched(NaiveQuadratic):
        @staticmethod
        def delta(z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
            return (a - y) * oracle.sigma_prime(z)

    oracle = NaiveBook2([1, 1])
    monkeypatch.setitem(COSTS, "quadratic", (QuadraticCost, Patched))
    tests = labelled(example_pairs(SIZES, 8, seed=5))
    assert_same_story(*both(lambda net, pairs: net.SGD(pairs, 2, 5, 0.7, 0.5, tests, **ALL), n=9, cost=cost))


def test_a_patched_vectorized_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soft targets for the evaluation cost, in the engine's way and in the book's."""
    net, tests = network2.Network(SIZES), labelled(example_pairs(SIZES, 8, seed=5))
    before = net.total_cost(tests, 1.0, convert=True)
    soft = [(x, 0.8 * unit(label, 4) + 0.05) for x, label in tests]
    monkeypatch.setattr(network2, "vectorized_result", lambda j: 0.8 * unit(j, 4) + 0.05)
    expected = net.total_cost(soft, 1.0)
    assert expected != pytest.approx(before)
    assert net.total_cost(tests, 1.0, convert=True) == pytest.approx(expected, rel=1e-12)
    found = []
    printed(
        lambda: found.append(
            net.SGD(example_pairs(SIZES, 9), 1, 3, 0.1, evaluation_data=tests, monitor_evaluation_cost=True)
        )
    )
    assert found[0][0][0] == pytest.approx(net.total_cost(soft, 0.0), rel=1e-12)


def test_only_columns_of_the_book_s_shape_need_ten_outputs() -> None:
    """The original's vectorized_result has ten rows whatever the network; ours has one for each output."""
    net = network2.Network([4, 3])
    pairs = example_pairs([4, 3], 5)
    assert net.total_cost(labelled(pairs), 0.5, convert=True) == pytest.approx(net.total_cost(pairs, 0.5), rel=1e-12)
    with pytest.raises(ValueError, match=r"label\[0\] is 3, but the outputs stand for labels 0 to 2"):
        net.total_cost([(pairs[0][0], 3)], 0.5, convert=True)


# --- early stopping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [0, 1, 2, 5])
@pytest.mark.parametrize("watched", ["evaluation", "training", "both"])
@pytest.mark.parametrize("engine", ["matrix", "fused"])
def test_early_stopping(engine: str, watched: str, stop_after: int) -> None:
    tests = labelled(example_pairs(SIZES, 7, seed=1))
    flags = {
        "monitor_evaluation_accuracy": watched != "training",
        "monitor_training_accuracy": watched != "evaluation",
    }

    def train(net: Any, pairs: Pairs) -> Any:
        return net.SGD(pairs, 40, 5, 0.5, 0.1, tests, early_stopping_n=stop_after, **flags)

    ours, theirs = both(train, engine=engine)
    assert_same_story(ours, theirs)
    epochs = ours["lines"].count("")
    accuracy = ours["returned"][3 if watched == "training" else 1]
    if stop_after:
        assert epochs < 40 and max(accuracy[-stop_after:]) <= max(accuracy[:-stop_after])
    else:
        assert epochs == 40


def test_early_stopping_that_watches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"early_stopping_n=3 waits for .* add evaluation_data=.*accuracy=True"):
        network2.Network([4, 2]).SGD(example_pairs([4, 2], 5), 1, 2, 1.0, early_stopping_n=3)


@pytest.mark.parametrize("tests", [None, [], iter(())])
@pytest.mark.parametrize("what", ["cost", "accuracy"])
def test_monitoring_without_evaluation_data_is_refused(what: str, tests: Any) -> None:
    net, pairs = network2.Network([4, 2]), example_pairs([4, 2], 5)
    mine = list(pairs)
    with pytest.raises(ValueError, match=f"monitor_evaluation_{what}=True needs evaluation_data"):
        net.SGD(mine, 1, 2, 1.0, evaluation_data=tests, **{f"monitor_evaluation_{what}": True})
    assert positions(mine, pairs) == [0, 1, 2, 3, 4]


# --- costs of one's own -------------------------------------------------------------------------------------


class Cubic:
    """C = Σ |a - y|³ / 3."""

    @staticmethod
    def fn(a: np.ndarray, y: np.ndarray) -> Any:
        assert a.shape == y.shape == (4, 1)
        return np.sum(np.abs(a - y) ** 3) / 3

    @staticmethod
    def delta(z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        assert z.shape == a.shape == y.shape == (4, 1)
        return np.abs(a - y) * (a - y) * sigma(z) * (1 - sigma(z))


class Weighted:
    """An object with a state, that counts."""

    def __init__(self) -> None:
        self.factor = np.array([[1.0], [2.0], [3.0], [0.5]])
        self.calls = 0

    def fn(self, a: np.ndarray, y: np.ndarray) -> Any:
        return np.sum(self.factor * (a - y) ** 2) / 2

    def delta(self, z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        self.calls += 1
        return self.factor * (a - y) * sigma(z) * (1 - sigma(z))


class ByLabel:
    """Targets that are no columns are between the cost and the data."""

    @staticmethod
    def fn(a: np.ndarray, y: int) -> float:
        return 1.0 - float(a[y, 0])

    @staticmethod
    def delta(z: np.ndarray, a: np.ndarray, y: int) -> np.ndarray:
        return a - unit(y, len(a))


OWN: dict[str, Callable[[], Any]] = {
    "a class": lambda: Cubic,
    "an object": Weighted,
    "a subclass of ours": lambda: type("Mine", (CrossEntropyCost,), {"fn": Cubic.fn, "delta": Cubic.delta}),
    "a namesake of ours": lambda: type("CrossEntropyCost", (Cubic,), {}),
}


@pytest.mark.parametrize("mixin", [None, Doubles, Clips, Noisy])
@pytest.mark.parametrize("kind", OWN)
def test_a_cost_of_ones_own(kind: str, mixin: type | None) -> None:
    tests = labelled(example_pairs(SIZES, 8, seed=5))
    pairs = example_pairs(SIZES, 13)

    def train(net: Any, pairs: Pairs) -> Any:
        return net.SGD(pairs, 3, 5, 0.7, 0.5, tests, **ALL)

    stories = []
    for base in (network2.Network, NaiveBook2):
        made = base if mixin is None else type("Net", (mixin, base), {})
        cost = OWN[kind]()
        stories.append(story(lambda made=made, cost=cost: made(SIZES, cost), train, pairs))
    assert_same_story(*stories)
    ours, theirs = (each["net"].cost for each in stories)
    assert getattr(ours, "calls", 0) == getattr(theirs, "calls", 0)


def test_a_cost_of_ones_own_may_take_labels() -> None:
    pairs = labelled(example_pairs(SIZES, 9))

    def train(net: Any, pairs: Pairs) -> Any:
        return net.SGD(pairs, 3, 4, 0.7, 0.5, monitor_training_cost=True)

    assert_same_story(
        story(lambda: network2.Network(SIZES, ByLabel), train, pairs),
        story(lambda: NaiveBook2(SIZES, ByLabel), train, pairs),
    )


def test_a_cost_in_an_array_of_one_is_a_number() -> None:
    net, pairs = network2.Network(SIZES, Weighted()), example_pairs(SIZES, 4)
    expected = net.total_cost(pairs, 0.0)
    net.cost = type("Boxed", (Weighted,), {"fn": lambda self, a, y: np.array([[Weighted.fn(self, a, y)]])})()
    assert net.total_cost(pairs, 0.0) == expected and type(expected) is float


def test_a_cost_that_was_changed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network2.Network(SIZES)
    x, y = example_pairs(SIZES, 1)[0]
    monkeypatch.setattr(CrossEntropyCost, "delta", staticmethod(lambda z, a, y: 3 * (a - y)))
    np.testing.assert_allclose(net.backprop(x, y)[0][-1], 3 * (net.feedforward(x) - y))


def test_a_cost_of_ones_own_in_every_method() -> None:
    pairs = example_pairs(SIZES, 6)
    seed_everything()
    net = network2.Network(SIZES, Cubic)
    seed_everything()
    naive = NaiveBook2(SIZES, Cubic)
    together = net.backprop(np.hstack([x for x, _ in pairs]), np.hstack([y for _, y in pairs]))
    alone = [naive.backprop(x, y) for x, y in pairs]
    for group, parts in zip(together, zip(*alone, strict=True), strict=True):
        for nabla, *singles in zip(group, *parts, strict=True):
            np.testing.assert_allclose(nabla, sum(singles), rtol=1e-12, atol=1e-15)
    with pytest.raises(TypeError, match=r"fit .* would not call Cubic; train this network with SGD"):
        net.fit(np.ones((2, 6)), [0, 1], epochs=1, eta=1.0)
    with pytest.raises(TypeError, match="no ∂C/∂a"):
        net.cost_derivative(np.ones((4, 1)), np.ones((4, 1)))
    with pytest.raises(ValueError, match="'fused' compiles whole mini-batches and cannot call"):
        network2.Network(SIZES, Cubic, engine="fused")
    assert "own" in fastbp.plan(net).reason


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        ({"delta": staticmethod(lambda z, a, y: (a - y).ravel())}, r"Bad.delta\(z, a, y\) returned shape \(4,\)"),
        ({"fn": staticmethod(lambda a, y: a - y)}, r"Bad.fn\(a, y\) returned (.|\n)*must return the cost of one"),
        ({"fn": staticmethod(lambda a, y: None)}, r"Bad.fn\(a, y\) returned None"),
    ],
)
def test_a_cost_that_returns_something_else(cost: dict, said: str) -> None:
    net = network2.Network(SIZES, type("Bad", (Cubic,), cost))
    with pytest.raises(ValueError, match=said):
        printed(lambda: net.SGD(example_pairs(SIZES, 4), 1, 2, 1.0, monitor_training_cost=True))


# --- the small methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("engine", ENGINES)
def test_methods_one_by_one(engine: str, cost: str) -> None:
    sizes = [6, 5, 4, 3]
    seed_everything()
    net = network2.Network(sizes, COSTS[cost][0], engine=engine)
    seed_everything()
    naive, pairs = NaiveBook2(sizes, COSTS[cost][1]), example_pairs(sizes, 9)
    for x, y in pairs[:3]:
        np.testing.assert_allclose(net.feedforward(x), naive.feedforward(x), rtol=1e-12)
        for ours, theirs in zip(net.backprop(x, y), naive.backprop(x, y), strict=True):
            for o, t in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(o, t, rtol=1e-10, atol=1e-14)
    tests = labelled(pairs)
    assert net.accuracy(tests) == naive.accuracy(tests) == net.accuracy(iter(tests))
    assert net.accuracy(pairs, convert=True) == net.accuracy(tests) and type(net.accuracy(tests)) is int
    assert net.accuracy([]) == net.accuracy([], convert=True) == 0
    for data, convert in ((pairs, False), (tests, True)):
        value = net.total_cost(data, 0.3, convert=convert)
        assert value == pytest.approx(naive.total_cost(data, 0.3, convert=convert), rel=1e-12)
        assert type(value) is float
    for each in (net, naive):
        assert each.update_mini_batch(pairs[:4], 3.0, 2.0, 9) is None
        each.update_mini_batch(pairs[4:5], 0.3, 0.0, 9)
    assert_same_parameters(net, naive)


ERRORS: dict[str, tuple[Callable[[Any, Pairs], Any], str]] = {
    "no data": (lambda net, pairs: net.total_cost([], 0.1), "data is empty"),
    "no training data": (lambda net, pairs: net.SGD([], 1, 2, 1.0, monitor_training_cost=True), "training_data is emp"),
    "no mini-batch": (lambda net, pairs: net.update_mini_batch([], 1.0, 0.0, 5), "mini_batch is empty"),
    "n is 0": (lambda net, pairs: net.update_mini_batch(pairs, 1.0, 0.0, 0), "n must be at least 1"),
    "one-hot tests": (lambda net, pairs: net.accuracy(pairs), r"data\[0\] has a label of shape \(2, 1\).*argmax"),
    "labels to train on": (lambda net, pairs: net.total_cost(labelled(pairs), 0.0), "the single number"),
    "half a label": (lambda net, pairs: net.total_cost([(pairs[0][0], 0.5)], 0.0, convert=True), "whole numbers"),
    "nan": (lambda net, pairs: net.total_cost([(np.full((4, 1), np.nan), 0)], 0.0, convert=True), "nan in row 0"),
    "lmbda": (lambda net, pairs: net.SGD(pairs, 1, 2, 1.0, lmbda=float("inf")), "lmbda must be a finite number"),
    "early": (lambda net, pairs: net.SGD(pairs, 1, 2, 1.0, early_stopping_n=-1), "early_stopping_n must be at least 0"),
    "mini_batch_size": (lambda net, pairs: net.SGD(pairs, 1, 0, 1.0), "mini_batch_size must be at least 1"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_does_not_fit_is_refused(name: str) -> None:
    call, said = ERRORS[name]
    net, pairs = network2.Network([4, 3, 2]), example_pairs([4, 3, 2], 5)
    before = copy.deepcopy((net.biases, net.weights))
    with pytest.raises(ValueError, match=said):
        call(net, pairs)
    for now, then in zip((net.biases, net.weights), before, strict=True):
        for array, as_it_was in zip(now, then, strict=True):
            np.testing.assert_array_equal(array, as_it_was)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_cost_of_saturated_outputs_is_finite_and_right(engine: str) -> None:
    """a is 1.0 and y is 0: C = ln(1 + e^800) = 800, where the book's nan_to_num makes 1.8e308 of it."""
    net = network2.Network([1, 2], engine=engine)
    pairs = [(np.array([[1.0]]), unit(0, 2)), (np.array([[1.0]]), unit(1, 2))]
    net.weights, net.biases = [np.array([[800.0], [-800.0]])], [np.zeros((2, 1))]
    assert net.total_cost(pairs[1:], 0.0) == 1600
    found = []
    printed(lambda: found.append(net.SGD(pairs, 1, 2, 1e-9, evaluation_data=[(pairs[0][0], 1)], **ALL)))
    assert found[0][0][0] == pytest.approx(1600) and found[0][2][0] == pytest.approx(800)


@pytest.mark.parametrize("engine", ["matrix", "auto"])
def test_snapshots_and_lists_edited_between_calls(engine: str) -> None:
    """What was taken stays as it was; what was edited counts, in the monitored lists too."""
    tests = labelled(example_pairs(SIZES, 8, seed=5))

    def train(net: Any, pairs: Pairs) -> Any:
        del pairs[:]
        pairs += example_pairs(SIZES, 9, seed=2)
        mine, taken, returned = copy.deepcopy(tests), net.weights, []
        kept = copy.deepcopy(taken)
        for edit in range(4):
            returned += net.SGD(pairs, 1, 4, 0.7, 0.5, mine, **ALL)
            if edit == 0:
                pairs[2][0][1, 0] += 0.5
            elif edit == 1:
                mine[3] = (mine[3][0], (mine[3][1] + 1) % 4)
                pairs[0][1][...] = pairs[0][1][::-1]
            else:
                mine.append((mine[0][0] * 2, 1))
                net.weights[0] = net.weights[0] / 2
        for array, as_it_was in zip(taken, kept, strict=True):
            np.testing.assert_array_equal(array, as_it_was)
        return returned

    pairs: Pairs = []
    ours = story(lambda: network2.Network(SIZES, engine=engine), lambda net, _: train(net, []), pairs)
    assert_same_story(ours, story(lambda: NaiveBook2(SIZES), lambda net, _: train(net, []), pairs))


@pytest.mark.parametrize("engine", ["matrix", "auto"])
def test_a_list_edited_between_two_epochs(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in chapter 1's network; a shuffle that edits the arrays counts in the monitored costs, too."""
    tests = labelled(example_pairs(SIZES, 8, seed=5))

    def edit(pairs: list) -> None:
        for x, _ in pairs:
            x += 0.1 * np.sin(7 * x)

    class Augments:
        def accuracy(self, data: Any, convert: bool = False) -> int:
            if convert:
                edit(data)
            return super().accuracy(data, convert)  # type: ignore[misc]

    def train(net: Any, _: Pairs) -> Any:
        return net.SGD(example_pairs(SIZES, 11), 4, 5, 0.5, 0.3, tests, **ALL)

    ours = story(lambda: type("Net", (Augments, network2.Network), {})(SIZES, engine=engine), train, [])
    assert_same_story(ours, story(lambda: type("Net", (Augments, NaiveBook2), {})(SIZES), train, []))

    plain = random.shuffle

    def shuffle(pairs: list) -> None:
        plain(pairs)
        edit(pairs)

    monkeypatch.setattr(random, "shuffle", shuffle)
    ours = story(lambda: network2.Network(SIZES, engine=engine), train, [])
    assert_same_story(ours, story(lambda: NaiveBook2(SIZES), train, []))


def test_iterators_are_read_once() -> None:
    pairs, tests = example_pairs(SIZES, 9), labelled(example_pairs(SIZES, 8, seed=5))
    assert_same_story(
        story(
            lambda: network2.Network(SIZES), lambda net, p: net.SGD(iter(p), 2, 4, 0.7, 0.5, iter(tests), **ALL), pairs
        ),
        {
            **story(lambda: NaiveBook2(SIZES), lambda net, p: net.SGD(list(p), 2, 4, 0.7, 0.5, tests, **ALL), pairs),
            "order": list(range(9)),
        },
    )


def test_divergence_keeps_the_last_finite_parameters() -> None:
    """Outputs are bounded, so that it takes a decay that throws the weights about: w ← (1 - 10 w)."""
    for cost in (CrossEntropyCost, Cubic):
        net, pairs = network2.Network(SIZES, cost), example_pairs(SIZES, 10)
        with pytest.raises(fastbp.DivergenceError) as caught:
            printed(lambda net=net, pairs=pairs: net.SGD(pairs, 400, 5, 1e4, lmbda=10.0))
        assert caught.value.epoch is not None
        assert all(np.isfinite(w).all() for w in net.weights)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dtype_seed_and_fit(dtype: str) -> None:
    nets = [network2.Network([4, 3, 2], QuadraticCost, dtype=dtype, seed=3) for _ in range(2)]
    pairs = example_pairs([4, 3, 2], 9)
    for net in nets:
        printed(lambda net=net: net.SGD(list(pairs), 2, 4, 1.0, 0.1, labelled(pairs), **ALL))
        assert net.weights[0].dtype == dtype
    assert_same_parameters(*nets, rtol=0)
    X, labels = np.hstack([x for x, _ in pairs]).T, [label for _, label in labelled(pairs)]
    nets[0].fit(X, labels, epochs=1, eta=1.0, lmbda=0.1)
    assert nets[0].score(X, labels) == pytest.approx(nets[0].accuracy(labelled(pairs)) / 9)
    assert isinstance(nets[0], fastbp.Network) and "cost='quadratic'" in repr(nets[0])


@pytest.mark.parametrize("cost", [CrossEntropyCost, QuadraticCost, Cubic])
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_trains_as_the_original_would(how: Callable, cost: Any) -> None:
    pairs = example_pairs(SIZES, 9)
    net = network2.Network(SIZES, cost)
    printed(lambda: net.SGD(list(pairs), 1, 4, 1.0, 0.5, labelled(pairs), **ALL))
    twin = how(net)
    stories = [story(lambda each=each: each, lambda n, p: n.SGD(p, 2, 4, 1.0, 0.5), pairs) for each in (net, twin)]
    assert_same_story(*stories)


def test_a_subclass_that_sets_the_book_s_attributes_itself() -> None:
    class Own:
        def __init__(self, sizes: list[int], cost: Any) -> None:
            self.num_layers, self.sizes, self.cost = len(sizes), sizes, cost
            self.large_weight_initializer()  # type: ignore[attr-defined]

    tests = labelled(example_pairs(SIZES, 8, seed=5))
    for cost in COSTS:
        assert_same_story(*both(lambda net, pairs: net.SGD(pairs, 2, 5, 0.7, 0.5, tests, **ALL), cost=cost, mixin=Own))


# --- files --------------------------------------------------------------------------------------------------


def original_file(net: Any, path: Path) -> None:
    """As the book's program writes it: json.dump of lists, in one line."""
    lists = {name: [array.tolist() for array in getattr(net, name)] for name in ("weights", "biases")}
    with open(path, "w") as file:
        json.dump({"sizes": net.sizes, **lists, "cost": net.cost.__name__.replace("Naive", "") + "Cost"}, file)


@pytest.mark.parametrize("name", COSTS)
def test_files_of_the_original_are_read(tmp_path: Path, name: str) -> None:
    naive = NaiveBook2([4, 3, 2], COSTS[name][1])
    original_file(naive, tmp_path / "net.json")
    seed_everything()
    net = network2.load(tmp_path / "net.json")
    after = state_of_generators()
    assert net.cost is COSTS[name][0]
    assert_same_parameters(net, naive, rtol=0)
    seed_everything()
    NaiveBook2([4, 3, 2])  # the book's load builds a network first, which draws
    assert after == state_of_generators()


@pytest.mark.parametrize("cost", [CrossEntropyCost, QuadraticCost, CrossEntropyCost()])
def test_what_is_saved_is_read_back_to_the_last_bit(tmp_path: Path, cost: Any) -> None:
    net = network2.Network([4, 3, 2], cost)
    net.weights[1][0, 0], net.weights[1][0, 1] = 5e-324, -1.7976931348623157e308
    net.save(str(tmp_path / "net.json"))
    loaded = network2.load(str(tmp_path / "net.json"))
    assert_same_parameters(net, loaded, rtol=0)
    document = json.loads((tmp_path / "net.json").read_text())
    assert set(document) == {"sizes", "weights", "biases", "cost"} and document["sizes"] == [4, 3, 2]
    assert np.shape(document["biases"][0]) == (3, 1)
    assert loaded.cost is (cost if isinstance(cost, type) else type(cost))
    assert [path.name for path in tmp_path.iterdir()] == ["net.json"]


def test_a_cost_of_ones_own_is_given_at_loading(tmp_path: Path) -> None:
    net = network2.Network(SIZES, Weighted())
    net.save(tmp_path / "net.json")
    with pytest.raises(ModelFileError, match=r"cost 'Weighted' is none of .*give it: load\(filename, cost="):
        network2.load(tmp_path / "net.json")
    cost = Weighted()
    assert network2.load(tmp_path / "net.json", cost=cost).cost is cost


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, path = network2.Network([4, 2]), tmp_path / "net.json"
    net.save(path)
    before = path.read_bytes()

    class Full(safefile.FileSystem):
        def write(self, fd: int, data: memoryview) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(safefile, "_files", Full())
    with pytest.raises(OSError, match="No space left"):
        net.save(path)
    net.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"weights\[0\] has nan"):
        net.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["net.json"]


GOOD = {"sizes": [2, 1], "weights": [[[0.5, 1]]], "biases": [[[3]]], "cost": "QuadraticCost"}
BAD: dict[str, tuple[Any, str]] = {
    "empty": ("", "no JSON document"),
    "cut short": (json.dumps(GOOD)[:-9], "no JSON document, or was cut short"),
    "a pickle": (pickle.dumps(GOOD), "not text.*fastbp.load"),
    "a list": ([1, 2], "it holds 'a list'"),
    "no cost": ({**GOOD, "cost": None}, "its cost is None"),
    "a key is missing": ({key: value for key, value in GOOD.items() if key != "biases"}, "holds sizes, weights, bia"),
    "another cost": ({**GOOD, "cost": "sys"}, r"cost 'sys' is none of QuadraticCost, CrossEntropyCost"),
    "a function's name": ({**GOOD, "cost": "load"}, r"cost 'load' is none of"),
    "sizes are text": ({**GOOD, "sizes": "21"}, "its sizes are '21'"),
    "sizes are floats": ({**GOOD, "sizes": [2.0, 1]}, "its sizes are"),
    "a size is true": ({**GOOD, "sizes": [2, True]}, "its sizes are"),
    "one size": ({**GOOD, "sizes": [2]}, "at least two layers"),
    "a layer of none": ({**GOOD, "sizes": [2, 0]}, "at least one neuron"),
    "huge sizes": ({**GOOD, "sizes": [10**9, 10**9]}, "MiB"),
    "other sizes": ({**GOOD, "sizes": [3, 1]}, r"its weights\[0\]\[0\] has 2 entries, but its sizes need 3"),
    "more layers": ({**GOOD, "sizes": [2, 1, 1]}, "its biases are 1 layers, but its sizes need 2"),
    "flat biases": ({**GOOD, "biases": [[3]]}, r"its biases\[0\]\[0\] has 3, but its sizes need 1 numbers"),
    "ragged": ({**GOOD, "weights": [[[0.5]]]}, r"its weights\[0\]\[0\] has 1 entries, but its sizes need 2"),
    "text": ({**GOOD, "weights": [[["0.5", 1]]]}, r"its weights\[0\]\[0\]\[0\] is '0.5'; expected a finite number"),
    "true": ({**GOOD, "weights": [[[True, 1]]]}, "is True"),
    "NaN": (json.dumps(GOOD).replace("0.5", "NaN"), "is nan; expected a finite number"),
    "1e999": (json.dumps(GOOD).replace("0.5", "1e999"), "is inf; expected"),
    "a whole number too large": (json.dumps(GOOD).replace("0.5", "1" + 400 * "0"), "expected a finite number"),
    "digits without end": (json.dumps(GOOD).replace("0.5", "1" * 5000), "no JSON document"),
    "nested": ("[" * 100_000, "nested too deep"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_no_network_are_refused(tmp_path: Path, name: str) -> None:
    content, said = BAD[name]
    path = tmp_path / "net.json"
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    seed_everything()
    before = state_of_generators()
    with pytest.raises(ModelFileError, match=said) as caught:
        network2.load(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500
    assert state_of_generators() == before  # nothing was built


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        network2.load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        network2.load(tmp_path)
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        file.truncate(2**42)
    with pytest.raises(ModelFileError, match="memory"):
        network2.load(sparse)


def test_a_byte_order_mark_and_further_keys_are_let_pass(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps({**GOOD, "epochs": 30}), encoding="utf-8-sig")
    assert network2.load(path).biases[0].tolist() == [[3.0]]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=12)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_a_file_holds_it_is_a_network_or_refused(tmp_path_factory: Any, data: Any) -> None:
    """A good file with one thing in it replaced, removed or cut: a named error, or arrays that fit the sizes."""
    document: Any = copy.deepcopy({**GOOD, "sizes": [2, 2, 1], "weights": [[[1, 2], [3, 4]], [[5, 6]]]})
    document["biases"] = [[[1], [2]], [[3]]]
    place, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(place[key], list) and place[key] and data.draw(st.booleans()):
        place, key = place[key], data.draw(st.integers(0, len(place[key]) - 1))
    place[key] = data.draw(documents)
    text = json.dumps(document)
    text = text[: data.draw(st.integers(0, len(text)))] if data.draw(st.booleans()) else text
    path = tmp_path_factory.mktemp("fuzz") / "net.json"
    path.write_text(text)
    try:
        net = network2.load(path)
    except ModelFileError:
        return
    shapes = [(n, below) for below, n in zip(net.sizes, net.sizes[1:], strict=False)]
    assert [w.shape for w in net.weights] == shapes and all(np.isfinite(w).all() for w in net.weights)
    assert [b.shape for b in net.biases] == [(n, 1) for n in net.sizes[1:]]
    assert net.feedforward(np.zeros((net.sizes[0], 1))).shape == (net.sizes[-1], 1)


# --- the page -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(DISABLE_JIT, reason="too slow without compiled kernels")
def test_the_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    lines = printed(
        lambda: [block.run(namespace) for block in python_blocks(Path(__file__).parents[1] / "docs" / "network2.md")]
    )
    assert namespace["evaluation_accuracy"][-1] >= 330 and lines[0] == "Epoch 0 training complete"
    assert (tmp_path / "net.json").exists()


# --- MNIST --------------------------------------------------------------------------------------------------


def on_mnist(make: Callable[[], Any], data: tuple, epochs: int) -> dict[str, Any]:
    training, validation, _ = data

    def train(net: Any, pairs: Pairs) -> Any:
        return net.SGD(pairs, epochs, 10, 0.5, 5.0, validation[:2_000], **ALL)

    return story(make, train, training[:5_000])


@pytest.mark.parametrize("engine", ["auto", "matrix"])
def test_mnist_prints_the_same_lines(book_pairs: tuple, engine: str) -> None:
    sizes = [784, 30, 10]
    ours = on_mnist(lambda: network2.Network(sizes, engine=engine), book_pairs, 2)
    assert_same_story(ours, on_mnist(lambda: NaiveBook2(sizes), book_pairs, 2))
    assert ours["returned"][1][-1] > 1_600


def test_the_two_modules_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sigmoid patched in one of the book's modules leaves the others alone."""
    monkeypatch.setattr(network, "sigmoid", steep)
    tests = labelled(example_pairs(SIZES, 8, seed=5))
    assert_same_story(*both(lambda net, pairs: net.SGD(pairs, 2, 5, 0.7, 0.5, tests, **ALL), engine="fused"))
