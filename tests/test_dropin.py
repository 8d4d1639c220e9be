"""Change one import: the same draws, the same order, the same printed lines, the same parameters, the same freedom.

The oracle is `naive_book.NaiveBook`. Whatever a test changes in a network, it changes in the oracle by the same words.
"""

import collections
import copy
import io
import os
import pickle
import random
import re
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive_book import NaiveBook
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
import fastbp.network
from fastbp.book import network as book
from fastbp.order import Order

ENGINES = ("reference", "matrix", "fused", "auto")
MODULES = {"fastbp": (fastbp.network, np.random.shuffle), "book": (book, random.shuffle)}


def assert_same_story(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours["lines"] == theirs["lines"]
    assert_same_end(ours, theirs)


@pytest.fixture(params=MODULES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def module(kind: str) -> types.ModuleType:
    return MODULES[kind][0]


@pytest.fixture
def shuffle(kind: str) -> Callable[[list], None]:
    return MODULES[kind][1]


# --- construction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[4, 3, 2], [5, 4], [3, 3, 3, 3], [1, 1]])
def test_construction_draws_biases_first_from_the_global_stream(module: types.ModuleType, sizes: list[int]) -> None:
    np.random.seed(7)
    net = module.Network(sizes)
    after = np.random.get_state()[1].tolist()
    np.random.seed(7)
    naive = NaiveBook(sizes)
    assert np.random.get_state()[1].tolist() == after
    assert net.num_layers == naive.num_layers and net.sizes == sizes
    assert isinstance(net.biases, list) and isinstance(net.weights, list)
    for ours, theirs in zip((*net.biases, *net.weights), (*naive.biases, *naive.weights), strict=True):
        assert type(ours) is np.ndarray and ours.dtype == np.float64
        np.testing.assert_array_equal(ours, theirs)


def test_sigmoid_of_scalars_and_arrays(module: types.ModuleType) -> None:
    assert module.sigmoid(0) == 0.5 and module.sigmoid_prime(0) == 0.25
    z = np.linspace(-30, 30, 101).reshape(-1, 1)
    np.testing.assert_allclose(module.sigmoid(z), 1 / (1 + np.exp(-z)), rtol=1e-14)
    np.testing.assert_allclose(module.sigmoid_prime(z), module.sigmoid(z) * module.sigmoid(-z), atol=1e-15)
    assert module.sigmoid(np.array([-1000.0, 1000.0])).tolist() == [0.0, 1.0]  # the original warns of an overflow


# --- SGD ----------------------------------------------------------------------------------------------------


def two_calls(test_data: Pairs) -> Callable[[Any, Pairs], None]:
    def train(net: Any, pairs: Pairs) -> None:
        net.SGD(pairs, 3, 5, 2.5, test_data=test_data)
        net.SGD(pairs, 2, 7, 0.5)  # goes on from the order the first call left behind
        net.SGD(pairs, 1, 100, 1.0, test_data)

    return train


@pytest.mark.parametrize("sizes", [[6, 5, 3], [6, 3], [6, 4, 5, 3]])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_whole_story_is_the_same(
    module: types.ModuleType, shuffle: Callable[[list], None], engine: str, sizes: list[int]
) -> None:
    pairs = example_pairs(sizes, 23)  # 23 in fives: the last mini-batch has three
    train = two_calls(labelled(example_pairs(sizes, 11, seed=1)))
    ours = story(lambda: module.Network(sizes, engine=engine), train, pairs)
    assert_same_story(ours, story(lambda: NaiveBook(sizes, shuffle), train, pairs))
    assert re.fullmatch(r"Epoch 0: \d+ / 11", ours["lines"][0])
    assert ours["lines"][3:5] == ["Epoch 0 complete", "Epoch 1 complete"]


def rotate(pairs: list) -> None:
    pairs.append(pairs.pop(0))


def by_first_input(pairs: list) -> None:
    pairs.sort(key=lambda pair: pair[0][0, 0])


class Lazy(random.Random):
    """Shuffles in its own way, under the usual name."""

    def shuffle(self, x: list) -> None:  # type: ignore[override]
        by_first_input(x)


SHUFFLES: dict[str, Callable[[], Callable[[list], None]]] = {
    "np.random.shuffle": lambda: np.random.shuffle,
    "random.shuffle": lambda: random.shuffle,
    "RandomState": lambda: np.random.RandomState(3).shuffle,
    "Generator": lambda: np.random.default_rng(3).shuffle,
    "Random": lambda: random.Random(3).shuffle,
    "subclass of Random": lambda: Lazy(3).shuffle,
    "rotate": lambda: rotate,
    "sort": lambda: by_first_input,
    "reverse": lambda: list.reverse,
    "none": lambda: lambda pairs: None,
}


@pytest.mark.parametrize("name", SHUFFLES)
def test_any_shuffle(module: types.ModuleType, name: str) -> None:
    sizes = [4, 3, 2]
    pairs = example_pairs(sizes, 300)  # more than the small integers Python keeps one object each of
    train = two_calls(labelled(pairs[:9]))
    ours = story(lambda: module.Network(sizes, shuffle=SHUFFLES[name](), engine="matrix"), train, pairs)
    assert_same_story(ours, story(lambda: NaiveBook(sizes, SHUFFLES[name]()), train, pairs))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("owner", [np.random, random, np.random.RandomState(1), np.random.default_rng(1)])
def test_shuffling_of_many(owner: Any, compiled: bool) -> None:
    """Draws by index must be those of the list beyond 2^16 elements, too, where generators change their method."""
    n = 70_000
    twin = copy.deepcopy(owner) if not isinstance(owner, types.ModuleType) else owner
    seed_everything()
    expected = list(range(n))
    for _ in range(2):
        twin.shuffle(expected)
    after = state_of_generators()
    seed_everything()
    mine = list(range(n))
    order = Order(owner.shuffle, mine, list(mine), np.arange(n), compiled=compiled)
    order.next()
    rows = order.next()
    order.apply()
    assert rows.tolist() == mine == expected
    assert state_of_generators() == after


@pytest.mark.parametrize(
    ("cheat", "said"),
    [
        (lambda pairs: pairs.pop(), "a list of 4 where 5"),
        (lambda pairs: pairs.append(pairs[0]), "a list of 6 where 5"),
        (lambda pairs: pairs.__setitem__(0, (pairs[0][0], pairs[0][1])), "other objects"),
    ],
)
def test_a_shuffle_that_does_not_permute_is_refused(cheat: Callable[[list], None], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fastbp.Network([4, 2], shuffle=cheat).SGD(example_pairs([4, 2], 5), 1, 2, 1.0)


def test_what_a_refused_shuffle_has_left_is_looked_at_again() -> None:
    """The list of the refused call was taken for the data stacked before: the next call trained on a pair long gone."""
    refused = []

    def shuffle(pairs: list) -> None:
        if not refused:
            refused.append(pairs[0])
            pairs[0] = (2 * pairs[0][0], pairs[0][1])

    pairs = example_pairs([4, 2], 5)
    nets = [fastbp.Network([4, 2], seed=1, shuffle=shuffle), fastbp.Network([4, 2], seed=1, shuffle=lambda pairs: None)]
    with pytest.raises(ValueError, match="other objects"):
        nets[0].SGD(pairs, 1, 2, 1.0)
    for net in nets:
        printed(lambda net=net: net.SGD(pairs, 2, 2, 1.0))
    assert_same_parameters(*nets)


def test_a_pair_that_stands_twice_in_the_list_counts_twice(
    module: types.ModuleType, shuffle: Callable[[list], None]
) -> None:
    pairs = example_pairs([4, 2], 5)

    def train(net: Any, _: Pairs) -> None:
        repeated = [pairs[0], *pairs, pairs[0], pairs[3]]
        for _ in range(2):
            net.SGD(repeated, 2, 3, 1.0, test_data=labelled(repeated))
            repeated[1:3] = [pairs[4], pairs[4]]  # as many as before, of the same few, but others

    ours = story(lambda: module.Network([4, 2]), train, pairs)
    assert_same_story(ours, story(lambda: NaiveBook([4, 2], shuffle), train, pairs))


@pytest.mark.parametrize("engine", ENGINES)
def test_zip_and_generators(module: types.ModuleType, shuffle: Callable[[list], None], engine: str) -> None:
    pairs = example_pairs([4, 3, 2], 13)
    xs, ys = zip(*pairs, strict=True)
    tests = labelled(pairs)

    def lazily(net: Any, _: Pairs) -> None:
        net.SGD(zip(xs, ys, strict=True), 2, 4, 1.0, test_data=(pair for pair in tests))

    def eagerly(net: Any, _: Pairs) -> None:
        net.SGD(list(pairs), 2, 4, 1.0, test_data=tests)

    ours = story(lambda: module.Network([4, 3, 2], engine=engine), lazily, pairs)
    assert_same_story(ours, story(lambda: NaiveBook([4, 3, 2], shuffle), eagerly, pairs))


@pytest.mark.parametrize("tests", [None, [], (), iter(())])
def test_without_test_data(module: types.ModuleType, tests: Any) -> None:
    net = module.Network([4, 2])
    assert printed(lambda: net.SGD(example_pairs([4, 2], 5), 2, 2, 1.0, test_data=tests)) == [
        "Epoch 0 complete",
        "Epoch 1 complete",
    ]


def test_sgd_returns_none_and_zero_epochs_change_nothing(module: types.ModuleType) -> None:
    net, pairs = module.Network([4, 2]), example_pairs([4, 2], 5)
    before, mine = [w.copy() for w in net.weights], list(pairs)
    assert net.SGD(mine, 0, 2, 1.0) is None
    assert positions(mine, pairs) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(net.weights[0], before[0])


@pytest.mark.parametrize("empty", [[], (), iter(())])
def test_empty_training_data(module: types.ModuleType, empty: Any) -> None:
    with pytest.raises(ValueError, match=r"training_data is empty; give at least one pair"):
        module.Network([4, 2]).SGD(empty, 1, 10, 1.0)


def test_pixels_in_float32_are_computed_with_in_float64(
    module: types.ModuleType, shuffle: Callable[[list], None]
) -> None:
    """mnist_loader gives float32 columns to a float64 network."""
    pairs = [(x.astype(np.float32), y) for x, y in example_pairs([6, 4, 3], 17)]
    train = two_calls(labelled(pairs))
    ours = story(lambda: module.Network([6, 4, 3]), train, pairs)
    assert_same_story(ours, story(lambda: NaiveBook([6, 4, 3], shuffle), train, pairs))
    assert all(w.dtype == np.float64 for w in ours["net"].weights)


def test_plain_lists_are_columns_too(module: types.ModuleType) -> None:
    net = module.Network([2, 1])
    printed(lambda: net.SGD([([[1], [2]], [[0.5]]), ([[3], [4]], [[1]])], 1, 1, 1.0))
    assert net.feedforward([[1], [2]]).shape == (1, 1)


# --- the small methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_methods_one_by_one(module: types.ModuleType, engine: str) -> None:
    sizes = [6, 5, 4, 3]
    seed_everything()
    net = module.Network(sizes, engine=engine)
    seed_everything()
    naive, pairs = NaiveBook(sizes), example_pairs(sizes, 9)
    for x, y in pairs[:3]:
        np.testing.assert_allclose(net.feedforward(x), naive.feedforward(x), rtol=1e-12)
        for ours, theirs in zip(net.backprop(x, y), naive.backprop(x, y), strict=True):
            assert isinstance(ours, list)
            for o, t in zip(ours, theirs, strict=True):
                assert o.shape == t.shape
                np.testing.assert_allclose(o, t, rtol=1e-10, atol=1e-14)
    tests = labelled(pairs)
    assert net.evaluate(tests) == naive.evaluate(tests)
    assert net.evaluate(iter(tests)) == net.evaluate(tests)
    assert type(net.evaluate(tests)) is int
    assert net.evaluate([]) == 0
    assert net.cost_derivative(np.array([[0.5], [1.0]]), np.array([[1.0], [1.0]])).tolist() == [[-0.5], [0.0]]
    for network in (net, naive):
        assert network.update_mini_batch(pairs[:4], 3.0) is None
        network.update_mini_batch(pairs[4:5], 0.3)
    assert_same_parameters(net, naive)


def test_many_columns_at_once(module: types.ModuleType) -> None:
    net, pairs = module.Network([6, 5, 3]), example_pairs([6, 5, 3], 4)
    X = np.hstack([x for x, _ in pairs])
    np.testing.assert_allclose(net.feedforward(X), np.hstack([net.feedforward(x) for x, _ in pairs]), rtol=1e-12)


@pytest.mark.parametrize("label", [np.int64(2), 2.0, np.array(2), np.array([2]), np.array([[2]]), np.uint8(2)])
def test_labels_of_any_whole_kind(module: types.ModuleType, label: Any) -> None:
    net = module.Network([2, 3])
    net.biases[0][...] = [[-9], [-9], [9]]
    assert net.evaluate([(np.zeros((2, 1)), label)]) == 1


@pytest.mark.parametrize("call", ["SGD", "evaluate"])
def test_one_hot_test_labels_are_refused_with_advice(module: types.ModuleType, call: str) -> None:
    net, pairs = module.Network([4, 3, 2]), example_pairs([4, 3, 2], 5)
    with pytest.raises(ValueError, match=r"test_data\[0\] has a label of shape \(2, 1\).*argmax"):
        if call == "SGD":
            net.SGD(pairs, 1, 2, 1.0, test_data=list(pairs))
        else:
            net.evaluate(pairs)


FLAT: dict[str, Callable[[Any, np.ndarray, np.ndarray], Any]] = {
    "feedforward": lambda net, x, y: net.feedforward(x[:, 0]),
    "backprop x": lambda net, x, y: net.backprop(x[:, 0], y),
    "backprop y": lambda net, x, y: net.backprop(x, y[:, 0]),
    "SGD x": lambda net, x, y: net.SGD([(x[:, 0], y)], 1, 1, 1.0),
    "SGD y": lambda net, x, y: net.SGD([(x, y), (x, y[:, 0])], 1, 1, 1.0),
    "test x": lambda net, x, y: net.SGD([(x, y)], 1, 1, 1.0, test_data=[(x[:, 0], 1)]),
    "evaluate": lambda net, x, y: net.evaluate([(x[:, 0], 1)]),
    "update x": lambda net, x, y: net.update_mini_batch([(x[:, 0], y)], 1.0),
    "update y": lambda net, x, y: net.update_mini_batch([(x, y[:, 0])], 1.0),
}


@pytest.mark.parametrize("call", FLAT)
def test_vectors_of_one_dimension_are_refused_with_advice(module: types.ModuleType, call: str) -> None:
    """The original broadcasts (3,) against (3, 1) to nonsense of shape (3, 3)."""
    net, (x, y) = module.Network([4, 3, 2]), example_pairs([4, 3, 2], 1)[0]
    with pytest.raises(ValueError, match=r"shape \([24],\).*columns.*reshape\(-1, 1\)"):
        FLAT[call](net, x, y)


# --- snapshots and assignments ------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_taken_stays_as_it_was(module: types.ModuleType, engine: str) -> None:
    net, pairs = module.Network([4, 3, 2], engine=engine), example_pairs([4, 3, 2], 9)
    for train in (
        lambda: net.SGD(pairs, 2, 3, 3.0),
        lambda: net.update_mini_batch(pairs[:3], 3.0),
        lambda: net.SGD(pairs, 1, 3, 3.0, test_data=labelled(pairs)),
        lambda: net.fit(np.hstack([x for x, _ in pairs]).T, [0, 1, 1] * 3, epochs=2, eta=1.0),
    ):
        taken = net.weights, net.biases, list(net.weights), net.biases[1]
        copies = copy.deepcopy(taken)
        printed(train)
        assert not np.array_equal(net.weights[0], copies[0][0])
        for array, as_it_was in zip(
            (*taken[0], *taken[1], *taken[2], taken[3]),
            (*copies[0], *copies[1], *copies[2], copies[3]),
            strict=True,
        ):
            np.testing.assert_array_equal(array, as_it_was)


class KeepsEpochs:
    """Takes a snapshot each epoch, as early stopping does."""

    def evaluate(self, test_data: Any) -> int:
        self.__dict__.setdefault("snapshots", []).append((self.biases, self.weights))  # type: ignore[attr-defined]
        return super().evaluate(test_data)  # type: ignore[misc]


@pytest.mark.parametrize("engine", ENGINES)
def test_snapshots_of_every_epoch(module: types.ModuleType, shuffle: Callable[[list], None], engine: str) -> None:
    sizes = [4, 3, 2]
    pairs = example_pairs(sizes, 9)
    ours = story(
        lambda: type("Net", (KeepsEpochs, module.Network), {})(sizes, engine=engine), two_calls(labelled(pairs)), pairs
    )
    theirs = story(lambda: type("Net", (KeepsEpochs, NaiveBook), {})(sizes, shuffle), two_calls(labelled(pairs)), pairs)
    assert_same_story(ours, theirs)
    assert len(ours["net"].snapshots) == 4
    for (biases, weights), (naive_biases, naive_weights) in zip(
        ours["net"].snapshots, theirs["net"].snapshots, strict=True
    ):
        for o, t in zip((*biases, *weights), (*naive_biases, *naive_weights), strict=True):
            np.testing.assert_allclose(o, t, rtol=1e-9, atol=1e-9)


def assign_lists(net: Any, b: list, w: list) -> None:
    net.biases, net.weights = list(b), list(w)


def assign_elements(net: Any, b: list, w: list) -> None:
    for l in range(len(b)):
        net.biases[l], net.weights[l] = b[l], w[l]


def assign_into(net: Any, b: list, w: list) -> None:
    for l in range(len(b)):
        net.biases[l][...], net.weights[l][...] = b[l], w[l]


def assign_nested_lists(net: Any, b: list, w: list) -> None:
    """As read from JSON."""
    net.biases, net.weights = [array.tolist() for array in b], [array.tolist() for array in w]


ASSIGNMENTS = [assign_lists, assign_elements, assign_into, assign_nested_lists]
USES: dict[str, Callable[[Any, Pairs], Any]] = {
    "feedforward": lambda net, pairs: net.feedforward(pairs[0][0]),
    "backprop": lambda net, pairs: net.backprop(*pairs[0]),
    "evaluate": lambda net, pairs: net.evaluate(labelled(pairs)),
    "outputs": lambda net, pairs: net.outputs(pairs[0][0].T),
    "predict": lambda net, pairs: net.predict(pairs[0][0].T),
    "SGD": lambda net, pairs: (printed(lambda: net.SGD(list(pairs), 1, 2, 0.5)), net.biases, net.weights),
    "update": lambda net, pairs: (net.update_mini_batch(pairs[:2], 0.5), net.biases, net.weights),
    "fit": lambda net, pairs: (
        net.fit(np.hstack([x for x, _ in pairs]).T, [0, 1, 1], epochs=1, eta=0.5, shuffle=False),
        net.biases,
        net.weights,
    )[1:],
    "pickle": lambda net, pairs: pickle.loads(pickle.dumps(net)).feedforward(pairs[0][0]),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("assign", ASSIGNMENTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("after_training", [False, True])
def test_assigned_parameters_take_effect(
    module: types.ModuleType, assign: Callable, use: str, after_training: bool
) -> None:
    sizes, pairs = [4, 3, 2], example_pairs([4, 3, 2], 3)
    rng = np.random.default_rng(4)
    b, w = [rng.normal(size=(n, 1)) for n in (3, 2)], [rng.normal(size=s) for s in ((3, 4), (2, 3))]
    seed_everything()
    net = module.Network(sizes)
    expected = module.Network(sizes)
    expected.biases, expected.weights = copy.deepcopy((b, w))
    if after_training:
        printed(lambda: net.SGD(list(pairs), 1, 2, 1.0))
    assign(net, b, w)
    results = []
    for network in (expected, net):
        seed_everything()
        results.append(USES[use](network, pairs))

    def flat(result: Any) -> list:
        if isinstance(result, list | tuple):
            return [number for part in result for number in flat(part)]
        return np.ravel(result).tolist()

    assert flat(results[0]) == flat(results[1])


def test_assigned_parameters_are_saved(tmp_path: Path) -> None:
    net = fastbp.Network([2, 1])
    net.weights[0] = np.array([[3.0, 4.0]])
    net.biases[0][...] = 5
    net.save(tmp_path / "model")
    loaded = fastbp.load(tmp_path / "model")
    assert loaded.weights[0].tolist() == [[3.0, 4.0]] and loaded.biases[0].tolist() == [[5.0]]


def test_what_was_assigned_is_not_written_to() -> None:
    net, pairs = fastbp.Network([4, 2]), example_pairs([4, 2], 5)
    mine = np.ones((2, 4))
    mine.flags.writeable = False
    net.weights[0] = mine
    printed(lambda: net.SGD(pairs, 1, 2, 1.0))
    net.weights = [mine]
    net.update_mini_batch(pairs, 1.0)
    assert (mine == 1).all()


@pytest.mark.parametrize("use", [name for name in USES if name != "pickle"])
@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("biases", np.zeros(3), r"biases\[0\] has shape \(3,\).*need \(3, 1\)"),
        ("weights", np.zeros((4, 3)), r"weights\[0\] has shape \(4, 3\).*need \(3, 4\)"),
        ("weights", np.zeros((3, 4), complex), r"weights\[0\] holds complex128"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_everywhere(use: str, attribute: str, value: Any, said: str) -> None:
    net = fastbp.Network([4, 3, 2])
    getattr(net, attribute)[0] = value
    with pytest.raises((ValueError, TypeError), match=said):
        USES[use](net, example_pairs([4, 3, 2], 3))


def test_lists_of_another_length_are_refused() -> None:
    net = fastbp.Network([4, 3, 2])
    net.weights = net.weights[:1]
    with pytest.raises(ValueError, match=r"weights has 1 arrays, but a network of sizes .* needs 2"):
        net.feedforward(np.zeros((4, 1)))


def test_edits_between_calls_are_seen(module: types.ModuleType, shuffle: Callable[[list], None]) -> None:
    """Scripts call SGD(epochs=1) again and again on one list; what they do to it in between must count."""
    sizes = [4, 3, 2]

    def edits(pairs: Pairs, tests: Pairs) -> Iterator[None]:
        rng = np.random.default_rng(8)
        yield
        for x, _ in pairs:
            x *= 1.5
        yield
        pairs[2][0][1, 0] += 1e-9  # one digit of one number
        yield
        pairs[3][1][...] = pairs[3][1][::-1]
        yield
        pairs[0] = (rng.normal(size=(4, 1)), pairs[0][1])
        yield
        pairs.append((rng.normal(size=(4, 1)), pairs[0][1]))
        yield
        del pairs[1:3]
        yield
        pairs.reverse()
        yield
        tests[0][0][...] = -tests[0][0]
        yield
        tests[1] = (tests[1][0], 1 - tests[1][1])
        yield
        tests.append((rng.normal(size=(4, 1)), 0))
        yield
        pairs[0][0][pairs[0][0] == 0] = 0.25  # a zero, which a sparse copy does not hold
        pairs[1][0][2, 0] = 0
        yield
        changeable = [*pairs[0]]  # a pair that is a list may be given another x
        pairs[0] = changeable  # type: ignore[call-overload]
        yield
        changeable[0] = rng.normal(size=(4, 1))
        yield

    def train(net: Any, _: Pairs) -> None:
        pairs, tests = example_pairs(sizes, 12), labelled(example_pairs(sizes, 30, seed=3))
        for _ in edits(pairs, tests):
            for _ in range(2):
                net.SGD(pairs, 1, 5, 3.0, test_data=tests)

    for engine in ENGINES:
        ours = story(lambda engine=engine: module.Network(sizes, engine=engine), train, [])
        assert_same_story(ours, story(lambda: NaiveBook(sizes, shuffle), train, []))


# Data augmentation, as students write it: once an epoch, from a method or a shuffle of their own. The engine trained on
# what it had stacked before the first epoch, and an overridden evaluate even found its new pairs taken back.


class Augments:
    """`edit`, called in evaluate, changes the list of the training data, which is `mine`."""

    mine: list
    edit: Any

    def evaluate(self, test_data: Any) -> int:
        self.edit(self.mine)
        return super().evaluate(test_data)  # type: ignore[misc]


def add_noise(pairs: list) -> None:
    for i, (x, _) in enumerate(pairs):
        x += 0.1 * np.sin(i + 7 * x)


def put_noisy_pairs_in_place(pairs: list) -> None:
    pairs[:] = [(x + 0.1 * np.sin(7 * x), y) for x, y in pairs]


def sort_by_first_input(pairs: list) -> None:
    pairs.sort(key=lambda pair: float(pair[0][0, 0]))


def add_pairs(pairs: list) -> None:
    pairs += [(-x, y) for x, y in pairs[:3]]


EDITS = [add_noise, put_noisy_pairs_in_place, sort_by_first_input, add_pairs, lambda pairs: pairs.pop(2), id]


@pytest.mark.parametrize("engine", ["reference", "fused"])
@pytest.mark.parametrize("edit", EDITS)
def test_a_list_edited_between_two_epochs(
    module: types.ModuleType, shuffle: Callable[[list], None], edit: Callable[[list], Any], engine: str
) -> None:
    sizes = [4, 3, 2]
    tests = labelled(example_pairs(sizes, 8, seed=5))

    def train(net: Any, _: Pairs) -> None:
        net.mine, net.edit = example_pairs(sizes, 14), edit
        for _ in range(2):
            net.SGD(net.mine, 4, 5, 2.0, test_data=tests)
        net.after = np.hstack([x for x, _ in net.mine])

    ours = story(lambda: type("Net", (Augments, module.Network), {})(sizes, engine=engine), train, [])
    theirs = story(lambda: type("Net", (Augments, NaiveBook), {})(sizes, shuffle), train, [])
    assert_same_story(ours, theirs)
    np.testing.assert_array_equal(ours["net"].after, theirs["net"].after)


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_shuffle_that_edits_the_arrays(module: types.ModuleType, engine: str) -> None:
    sizes = [4, 3, 2]
    tests = labelled(example_pairs(sizes, 8, seed=5))

    def shuffle(pairs: list) -> None:
        np.random.shuffle(pairs)
        add_noise(pairs)

    def train(net: Any, _: Pairs) -> None:
        net.SGD(example_pairs(sizes, 11), 4, 5, 2.0, test_data=tests)

    ours = story(lambda: module.Network(sizes, engine=engine, shuffle=shuffle), train, [])
    assert_same_story(ours, story(lambda: NaiveBook(sizes, shuffle), train, []))


def test_edits_between_two_epochs_that_spoil_the_data_are_found() -> None:
    class Spoils(fastbp.Network):
        def evaluate(self, test_data: Any) -> int:
            pairs[0] = (np.full((4, 1), np.nan), pairs[0][1])
            return 0

    pairs = example_pairs([4, 2], 5)
    net = Spoils([4, 2])
    with pytest.raises(ValueError, match="nan in row 0, column 0"):
        printed(lambda: net.SGD(pairs, 3, 2, 1.0, test_data=labelled(pairs)))
    assert all(np.isfinite(w).all() for w in net.weights)
    assert np.isnan(pairs[0][0]).all()  # what the user did is not undone


def array_of_pairs(pairs: Pairs) -> np.ndarray:
    """(n, 2), an array in each place: what np.array(training_data, dtype=object) makes of MNIST."""
    array = np.empty((len(pairs), 2), object)
    for i, pair in enumerate(pairs):
        array[i, 0], array[i, 1] = pair
    return array


def array_of_tuples(pairs: Pairs) -> np.ndarray:
    array = np.empty(len(pairs), object)
    array[:] = pairs
    return array


def test_arrays_and_other_sequences_are_shuffled_in_place_too(module: types.ModuleType) -> None:
    """np.array(pairs, dtype=object) was read like an iterator: its second call of SGD began from the first order."""
    sizes = [4, 3, 4]
    tests = labelled(example_pairs(sizes, 8, seed=5))
    kinds: list[Callable[[Pairs], Any]] = [array_of_pairs, array_of_tuples, np.array, collections.UserList]
    for kind in kinds:

        def train(net: Any, pairs: Pairs, kind: Callable = kind) -> None:
            given = kind(pairs)
            for _ in range(3):
                net.SGD(given, 2, 5, 1.0, test_data=tests)
            net.after = [float(x[0, 0]) for x, _ in given]

        pairs = example_pairs(sizes, 13)
        ours = story(lambda: module.Network(sizes, shuffle=np.random.shuffle), train, pairs)
        theirs = story(lambda: NaiveBook(sizes, np.random.shuffle), train, pairs)
        assert_same_story(ours, theirs)
        assert ours["net"].after == theirs["net"].after
        assert sorted(ours["net"].after) != ours["net"].after != [float(x[0, 0]) for x, _ in pairs]


def test_an_array_that_cannot_be_written_is_read_like_an_iterator() -> None:
    array = array_of_pairs(example_pairs([4, 2], 5))
    array.flags.writeable = False
    assert printed(lambda: fastbp.Network([4, 2]).SGD(array, 2, 2, 1.0)) == ["Epoch 0 complete", "Epoch 1 complete"]
    array = array_of_pairs(example_pairs([4, 2], 5))
    with pytest.raises(ValueError, match="a list of 4 where 5"):
        fastbp.Network([4, 2], shuffle=lambda pairs: pairs.pop()).SGD(array, 1, 2, 1.0)


def test_edits_that_spoil_the_data_are_found() -> None:
    net, pairs = fastbp.Network([4, 2]), example_pairs([4, 2], 5)
    printed(lambda: net.SGD(pairs, 1, 2, 1.0))
    pairs[3][0][2, 0] = np.nan
    with pytest.raises(ValueError, match="nan in row 3, column 2"):
        net.SGD(pairs, 1, 2, 1.0)


def test_one_list_for_two_networks_of_other_dtypes() -> None:
    pairs = example_pairs([4, 2], 5)
    for dtype in ("float64", "float32", "float64"):
        net = fastbp.Network([4, 2], dtype=dtype)
        printed(lambda net=net: net.SGD(pairs, 1, 2, 1.0, test_data=labelled(pairs)))
        assert net.weights[0].dtype == dtype


# --- overriding ---------------------------------------------------------------------------------------------


class Counts:
    """Counts the calls of the methods a mixin below overrides."""

    calls: int

    def count(self) -> None:
        self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1


class ClipsAfterTheStep(Counts):
    def update_mini_batch(self, mini_batch: list, eta: float) -> None:
        self.count()
        super().update_mini_batch(mini_batch, eta)  # type: ignore[misc]
        self.weights = [np.clip(w, -0.8, 0.8) for w in self.weights]


class Momentum(Counts):
    """A step of its own, with a state of its own."""

    def update_mini_batch(self, mini_batch: list, eta: float) -> None:
        self.count()
        if not hasattr(self, "v"):
            self.v = [np.zeros(w.shape) for w in self.weights]
        for x, y in mini_batch:
            _, nabla_w = self.backprop(x, y)  # type: ignore[attr-defined]
            self.v = [0.5 * v - eta / len(mini_batch) * nw for v, nw in zip(self.v, nabla_w, strict=True)]
        self.weights = [w + v for w, v in zip(self.weights, self.v, strict=True)]


class NoisyGradient(Counts):
    """Draws from the global stream between the shuffles."""

    def backprop(self, x: np.ndarray, y: Any) -> tuple[list, list]:
        self.count()
        nabla_b, nabla_w = super().backprop(x, y)  # type: ignore[misc]
        return nabla_b, [2 * nw + 0.01 * np.random.randn(*nw.shape) for nw in nabla_w]


class CubicCost(Counts):
    def cost_derivative(self, output_activations: np.ndarray, y: np.ndarray) -> np.ndarray:
        self.count()
        return (output_activations - y) ** 3


class ReversedOutputs(Counts):
    def feedforward(self, a: np.ndarray) -> np.ndarray:
        self.count()
        return super().feedforward(a)[::-1]  # type: ignore[misc]


class Generous(Counts):
    def evaluate(self, test_data: Any) -> str:
        self.count()
        return f"about {super().evaluate(test_data)}"  # type: ignore[misc]


class Forgetful(Counts):
    """Changes the parameters after each epoch: assigned, and in place."""

    def evaluate(self, test_data: Any) -> int:
        self.count()
        self.weights = [w.round(2) for w in self.weights]
        self.biases[0][...] = 0.5
        return super().evaluate(test_data)  # type: ignore[misc]


class AllAtOnce(ClipsAfterTheStep, NoisyGradient, CubicCost, ReversedOutputs, Generous):
    pass


MIXINS = [
    ClipsAfterTheStep,
    Momentum,
    NoisyGradient,
    CubicCost,
    ReversedOutputs,
    Generous,
    Forgetful,
    KeepsEpochs,
    AllAtOnce,
]


@pytest.mark.parametrize("mixin", MIXINS)
def test_overridden_methods_are_called_where_the_book_calls_them(
    module: types.ModuleType, shuffle: Callable[[list], None], mixin: type
) -> None:
    sizes = [4, 3, 2]
    pairs = example_pairs(sizes, 9)
    train = two_calls(labelled(example_pairs(sizes, 8, seed=5)))
    ours = story(lambda: type("Net", (mixin, module.Network), {})(sizes), train, pairs)
    theirs = story(lambda: type("Net", (mixin, NaiveBook), {})(sizes, shuffle), train, pairs)
    assert_same_story(ours, theirs)
    assert ours["net"].__dict__.get("calls") == theirs["net"].__dict__.get("calls")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mixin", [ClipsAfterTheStep, Forgetful, Generous])
def test_overridden_methods_with_every_engine(mixin: type, engine: str) -> None:
    sizes = [4, 3, 2]
    pairs = example_pairs(sizes, 9)
    train = two_calls(labelled(pairs))
    ours = story(lambda: type("Net", (mixin, fastbp.Network), {})(sizes, engine=engine), train, pairs)
    assert_same_story(ours, story(lambda: type("Net", (mixin, NaiveBook), {})(sizes), train, pairs))


@pytest.mark.parametrize("how", ["on the instance", "on the class", "on the class it inherits from"])
@pytest.mark.parametrize("method", ["cost_derivative", "backprop", "update_mini_batch", "feedforward", "evaluate"])
def test_methods_replaced_without_a_subclass(
    module: types.ModuleType,
    shuffle: Callable[[list], None],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    how: str,
) -> None:
    sizes = [4, 3, 2]
    pairs = example_pairs(sizes, 9)

    def replacement(original: Callable) -> Callable:
        def changed(self: Any, *args: Any) -> Any:
            result = original(self, *args)
            if method == "update_mini_batch":
                self.weights = [0.9 * w for w in self.weights]
                return None
            if method == "backprop":
                return result[0], [3 * nw for nw in result[1]]
            return 1 + result if method == "evaluate" else -result

        return changed

    def change(net: Any) -> Any:
        changed = replacement(getattr(type(net), method))
        if how == "on the instance":
            setattr(net, method, types.MethodType(changed, net))
        elif how == "on the class":
            monkeypatch.setattr(type(net), method, changed)
        else:
            base = type(net).__mro__[-2]
            monkeypatch.setattr(base, method, replacement(getattr(base, method)))
        return net

    train = two_calls(labelled(example_pairs(sizes, 8, seed=5)))
    ours = story(lambda: change(module.Network(sizes)), train, pairs)
    assert_same_story(ours, story(lambda: change(NaiveBook(sizes, shuffle)), train, pairs))


def steep(z: Any) -> Any:
    return 1 / (1 + np.exp(-2 * z))


def steep_prime(z: Any) -> Any:
    return 2 * steep(z) * steep(-z)


@pytest.mark.parametrize("patched", [("sigmoid",), ("sigmoid_prime",), ("sigmoid", "sigmoid_prime")])
def test_a_patched_sigmoid(
    module: types.ModuleType, shuffle: Callable[[list], None], monkeypatch: pytest.MonkeyPatch, patched: tuple
) -> None:
    """The book's sigmoid_prime calls its sigmoid: to patch the one changes the other."""
    sizes = [4, 3, 2]
    pairs = example_pairs(sizes, 9)
    train = two_calls(labelled(example_pairs(sizes, 8, seed=5)))
    if "sigmoid" in patched:
        monkeypatch.setattr(module, "sigmoid", steep)
        monkeypatch.setattr(NaiveBook, "sigma", staticmethod(steep))
    if "sigmoid_prime" in patched:
        monkeypatch.setattr(module, "sigmoid_prime", steep_prime)
        monkeypatch.setattr(NaiveBook, "sigma_prime", staticmethod(steep_prime))
    ours = story(lambda: module.Network(sizes), train, pairs)
    theirs = story(lambda: NaiveBook(sizes, shuffle), train, pairs)
    assert_same_story(ours, theirs)
    x, y = pairs[0]
    net, naive = ours["net"], theirs["net"]
    np.testing.assert_allclose(net.feedforward(x), naive.feedforward(x), rtol=1e-9)
    np.testing.assert_allclose(net.outputs(x.T).T, naive.feedforward(x), rtol=1e-9)
    for o, t in zip(net.backprop(x, y)[1], naive.backprop(x, y)[1], strict=True):
        np.testing.assert_allclose(o, t, rtol=1e-9, atol=1e-12)
    rows = np.hstack([x for x, _ in pairs]).T
    history = net.fit(rows, np.hstack([y for _, y in pairs]).T, epochs=1, batch_size=3, eta=0.1, shuffle=False)
    assert history.engine in ("reference", "matrix")
    for first in (0, 3, 6):
        naive.update_mini_batch(pairs[first : first + 3], 0.1)
    assert_same_parameters(net, naive)


def test_the_two_modules_are_patched_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "sigmoid", steep)
    seed_everything()
    plain = fastbp.Network([3, 2])
    seed_everything()
    patched = book.Network([3, 2])
    x = np.ones((3, 1))
    assert not np.allclose(plain.feedforward(x), patched.feedforward(x))
    seed_everything()
    np.testing.assert_array_equal(plain.feedforward(x), NaiveBook([3, 2]).feedforward(x))


def test_feedforward_is_not_part_of_backprop(module: types.ModuleType) -> None:
    class Net(module.Network):  # type: ignore[name-defined]
        def feedforward(self, a: np.ndarray) -> np.ndarray:
            raise AssertionError("called")

    net, pairs = Net([4, 3, 2]), example_pairs([4, 3, 2], 5)
    net.backprop(*pairs[0])
    net.update_mini_batch(pairs, 1.0)
    assert printed(lambda: net.SGD(pairs, 1, 2, 1.0)) == ["Epoch 0 complete"]
    with pytest.raises(AssertionError, match="called"):
        net.SGD(pairs, 1, 2, 1.0, test_data=labelled(pairs))


def test_a_cost_of_ones_own_may_take_labels(module: types.ModuleType, shuffle: Callable[[list], None]) -> None:
    """backprop hands y to cost_derivative as it is; what it means is between the two."""

    class ByLabel:
        def cost_derivative(self, output_activations: np.ndarray, y: int) -> np.ndarray:
            slope = output_activations.copy()
            slope[y] -= 1
            return slope

    sizes = [4, 3, 2]
    pairs = labelled(example_pairs(sizes, 9))
    train = two_calls(pairs)
    ours = story(lambda: type("Net", (ByLabel, module.Network), {})(sizes), train, pairs)
    assert_same_story(ours, story(lambda: type("Net", (ByLabel, NaiveBook), {})(sizes, shuffle), train, pairs))


def test_early_stopping_by_an_exception_keeps_what_it_restored(module: types.ModuleType) -> None:
    class Enough(Exception):
        pass

    class Net(module.Network):  # type: ignore[name-defined]
        best: Any = None

        def evaluate(self, test_data: Any) -> int:
            if self.best is None:
                self.best = self.biases, self.weights
                return super().evaluate(test_data)
            self.biases, self.weights = self.best
            raise Enough

    net, pairs = Net([4, 3, 2]), example_pairs([4, 3, 2], 9)
    with redirect_stdout(io.StringIO()), pytest.raises(Enough):
        net.SGD(pairs, 5, 2, 3.0, test_data=labelled(pairs))
    assert net.weights is net.best[1] and net.biases is net.best[0]


def test_a_subclass_that_sets_the_four_attributes_itself(
    module: types.ModuleType, shuffle: Callable[[list], None], tmp_path: Path
) -> None:
    class Small:
        """Weights divided by the root of the number of inputs; no call of super().__init__."""

        def __init__(self, sizes: list[int]) -> None:
            self.num_layers, self.sizes = len(sizes), sizes
            self.biases = [np.random.randn(n, 1) for n in sizes[1:]]
            self.weights = [np.random.randn(n, k) / np.sqrt(k) for k, n in zip(sizes, sizes[1:], strict=False)]
            self.shuffle = shuffle

    sizes = [4, 3, 2]
    pairs = example_pairs(sizes, 9)
    train = two_calls(labelled(pairs))
    ours = story(lambda: type("Net", (Small, module.Network), {})(sizes), train, pairs)
    assert_same_story(ours, story(lambda: type("Net", (Small, NaiveBook), {})(sizes), train, pairs))
    net = ours["net"]
    assert copy.deepcopy(net).evaluate(labelled(pairs)) == net.evaluate(labelled(pairs))
    net.save(tmp_path / "model")
    np.testing.assert_array_equal(fastbp.load(tmp_path / "model").weights[0], net.weights[0])
    assert "[4, 3, 2]" in repr(net)


def test_a_subclass_with_attributes_of_its_own(module: types.ModuleType) -> None:
    class Net(module.Network):  # type: ignore[name-defined]
        def __init__(self, sizes: list[int], cost: str) -> None:
            super().__init__(sizes)
            self.cost, self.dtype, self.shuffle, self.seed = cost, "anything", None, 3

    net, pairs = Net([4, 2], "mine"), example_pairs([4, 2], 5)
    printed(lambda: net.SGD(pairs, 1, 2, 1.0, test_data=labelled(pairs)))
    assert net.feedforward(pairs[0][0]).dtype == np.float64


def test_own_methods_are_not_silently_left_out_of_fit() -> None:
    for mixin, name in ((CubicCost, "cost_derivative"), (NoisyGradient, "backprop"), (Momentum, "update_mini_batch")):
        net = type("Net", (mixin, fastbp.Network), {})([4, 2])
        with pytest.raises(TypeError, match=f"would not call this network's own {name}; train it with SGD"):
            net.fit(np.ones((2, 4)), [0, 1], epochs=1, eta=1.0)


def test_own_feedforward_in_outputs_predict_and_score() -> None:
    class Net(ReversedOutputs, fastbp.Network):
        pass

    seed_everything()
    net = Net([4, 3, 2])
    seed_everything()
    plain = fastbp.Network([4, 3, 2])
    X = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_allclose(net.outputs(X), plain.outputs(X)[:, ::-1], rtol=1e-12)
    assert (net.predict(X) == 1 - plain.predict(X)).all()
    assert net.score(X, plain.predict(X)) == 0
    history = net.fit(X, plain.predict(X), epochs=1, eta=1e-12, validation_data=(X, plain.predict(X)))
    assert history["validation_score"] == [0]


@pytest.mark.parametrize("mixin", [None, NoisyGradient])
def test_divergence_in_the_book_s_loop(module: types.ModuleType, mixin: type | None) -> None:
    """An overflow in the middle of the second mini-batch: the parameters of the first are kept."""
    base = module.Network if mixin is None else type("Net", (mixin, module.Network), {})
    net = base([1, 1], output="identity", shuffle=lambda pairs: None)
    net.weights, net.biases = [np.array([[1.0]])], [np.array([[0.0]])]
    one, huge = (np.array([[1.0]]), np.array([[1.0]])), (np.array([[1e200]]), np.array([[1.0]]))
    # in a method of the user's own, NumPy's warnings stay the user's
    quiet = np.errstate() if mixin is None else np.errstate(all="ignore")
    with quiet, pytest.raises(fastbp.DivergenceError, match=r"epoch 0, mini-batch 1: .*eta=0.5") as caught:
        net.SGD([one, huge, one], 3, 1, 0.5)
    assert (caught.value.epoch, caught.value.batch) == (0, 1)
    assert np.isfinite(net.weights[0]).all()
    after_one = net.weights[0].copy()
    quiet = np.errstate() if mixin is None else np.errstate(all="ignore")
    with quiet, pytest.raises(fastbp.DivergenceError, match="diverged in this mini-batch"):
        net.update_mini_batch([huge], 0.5)
    np.testing.assert_array_equal(net.weights[0], after_one)


def test_divergence_of_a_step_of_ones_own(module: types.ModuleType) -> None:
    """An update_mini_batch that never asks ours is judged after each of its steps."""

    class Explodes(module.Network):  # type: ignore[name-defined]
        def update_mini_batch(self, mini_batch: list, eta: float) -> None:
            self.steps = getattr(self, "steps", 0) + 1
            self.weights = [w + (np.inf if self.steps == 4 else 1.0) for w in self.weights]

    net, pairs = Explodes([4, 2]), example_pairs([4, 2], 5)
    start = net.weights[0].copy()
    with redirect_stdout(io.StringIO()), pytest.raises(fastbp.DivergenceError) as caught:
        net.SGD(pairs, 3, 2, 1.0)
    assert (caught.value.epoch, caught.value.batch) == (1, 0)
    np.testing.assert_array_equal(net.weights[0], start + 1 + 1 + 1)


@pytest.mark.parametrize("mixin", MIXINS)
def test_empty_data_with_methods_of_ones_own(module: types.ModuleType, mixin: type) -> None:
    with pytest.raises(ValueError, match="training_data is empty; give at least one pair"):
        type("Net", (mixin, module.Network), {})([4, 2]).SGD([], 1, 10, 1.0)


def test_a_cost_of_ones_own_on_many_columns(module: types.ModuleType) -> None:
    net, pairs = type("Net", (CubicCost, module.Network), {})([4, 3, 2]), example_pairs([4, 3, 2], 5)
    together = net.backprop(np.hstack([x for x, _ in pairs]), np.hstack([y for _, y in pairs]))
    alone = [net.backprop(x, y) for x, y in pairs]
    for group, parts in zip(together, zip(*alone, strict=True), strict=True):
        for nabla, *singles in zip(group, *parts, strict=True):
            np.testing.assert_allclose(nabla, sum(singles), rtol=1e-12, atol=1e-15)


# --- copies -------------------------------------------------------------------------------------------------

COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "pickle protocol 2": lambda net: pickle.loads(pickle.dumps(net, 2)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("shuffled_by", ["the default", "np.random.shuffle", "random.shuffle", "a seed"])
def test_a_copy_trains_as_the_original_would(
    module: types.ModuleType, shuffle: Callable[[list], None], how: str, shuffled_by: str
) -> None:
    """The original holds no generator: a copy of it draws from the global ones."""
    sizes, pairs = [4, 3, 2], example_pairs([4, 3, 2], 9)
    options: dict[str, Any] = {
        "the default": {},
        "np.random.shuffle": {"shuffle": np.random.shuffle},
        "random.shuffle": {"shuffle": random.shuffle},
        "a seed": {"seed": 3},
    }[shuffled_by]
    net = module.Network(sizes, **options)
    printed(lambda: net.SGD(list(pairs), 1, 2, 1.0, test_data=labelled(pairs)))
    twin = COPIES[how](net)
    assert type(twin) is type(net)
    stories = []
    for network in (net, twin):
        if how == "copy" and shuffled_by == "a seed":
            break  # a shallow copy shares the generator
        seed_everything(5)
        mine = list(pairs)
        lines = printed(lambda network=network, mine=mine: network.SGD(mine, 2, 2, 1.0, test_data=labelled(pairs)))
        stories.append((lines, positions(mine, pairs), state_of_generators()))
        # the first to train must leave the parameters of the other alone
    assert stories[:1] == stories[1:]
    if stories:
        assert_same_parameters(net, twin, rtol=0)


def test_pickles_do_not_carry_the_data_along() -> None:
    pairs = example_pairs([400, 2], 100)
    net = fastbp.Network([400, 2])
    printed(lambda: net.SGD(pairs, 1, 10, 1.0, test_data=labelled(pairs)))
    assert len(pickle.dumps(net)) < 2 * 8 * 802


# --- MNIST --------------------------------------------------------------------------------------------------


def mnist_story(make: Callable[[], Any], training: list, test: list, epochs: int) -> tuple[list[str], Any, list]:
    seed_everything(1)
    net, mine = make(), list(training)
    lines = printed(lambda: net.SGD(mine, epochs, 10, 3.0, test_data=test))
    return lines, net, positions(mine, training)


def compare_on_mnist(book_pairs: tuple, epochs: int, module: types.ModuleType, shuffle: Callable) -> None:
    training, _, test = book_pairs
    training, sizes = training[:10_000], [784, 30, 10]
    lines, net, order = mnist_story(lambda: module.Network(sizes), training, test, epochs)
    naive_lines, naive, naive_order = mnist_story(lambda: NaiveBook(sizes, shuffle), training, test, epochs)
    assert lines == naive_lines and order == naive_order
    assert int(lines[-1].split()[2]) > 7_000
    # rounding grows tenfold an epoch here: 1e-13 after two, 3e-5 after ten, whichever two orders of summation meet
    assert_same_parameters(net, naive, rtol=1e-9 if epochs <= 2 else 1e-3)


def test_mnist_prints_the_same_lines(book_pairs: tuple) -> None:
    compare_on_mnist(book_pairs, 2, fastbp.network, np.random.shuffle)


def test_mnist_prints_the_same_lines_with_the_book_s_shuffle(book_pairs: tuple) -> None:
    compare_on_mnist(book_pairs, 1, book, random.shuffle)


@pytest.mark.slow
def test_mnist_prints_the_same_lines_for_ten_epochs(
    book_pairs: tuple, module: types.ModuleType, shuffle: Callable[[list], None]
) -> None:
    compare_on_mnist(book_pairs, 10, module, shuffle)


def cells_of(text: str) -> list[str]:
    """The code cells of a notebook exported as text: from "In [13]:" to the first line that cannot be code."""
    cells = []
    for cell in re.split(r"^In \[\d+\]:\n", text, flags=re.MULTILINE)[1:]:
        prose = re.search(r"^(?!class |def |import |from |@|#|\s|$)", cell, flags=re.MULTILINE)
        cells.append(cell[: prose.start()] if prose else cell)
    return cells


def network_of_the_note(text: str) -> type:
    """The note's class, put together from its cells: methods that stand in cells of their own belong to the class."""
    methods, functions = [], []
    for cell in cells_of(text):
        body, *rest = re.split(r"^(?=#|def )", cell, maxsplit=1, flags=re.MULTILINE)
        methods.append(body)
        functions += rest
    names: dict[str, Any] = {"np": np}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for the backslashes in its docstrings
        exec(compile("".join(methods + functions), "note", "exec"), names)
    return names["Network"]


@pytest.mark.slow
def test_the_note_s_own_class_prints_the_same_lines(book_pairs: tuple) -> None:
    path = os.environ.get("FASTBP_NOTE")
    if not path:
        pytest.skip("set FASTBP_NOTE to the study note's text file")
    note = network_of_the_note(Path(path).read_text(encoding="utf-8"))
    training, _, test = book_pairs
    sizes = [784, 30, 10]
    lines, net, order = mnist_story(lambda: fastbp.Network(sizes), training[:10_000], test, 10)
    with np.errstate(over="ignore"):
        note_lines, theirs, note_order = mnist_story(lambda: note(sizes), training[:10_000], test, 10)
    assert lines == note_lines and order == note_order
    assert_same_parameters(net, theirs, rtol=1e-3)
