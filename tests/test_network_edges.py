"""What comes in at the edge: the first eleven rows of the table of faults, in every engine and by every door.

A refusal names what came and what to do, and leaves the network and the caller's arrays as they were.
"""

import contextlib
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import fastbp
from fastbp import data, memory, training
from fastbp.book import network2
from fastbp.errors import DivergenceError

ENGINES = ("reference", "matrix", "fused", "auto")
SIZES = [4, 3, 2]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def quiet_lines() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def matrices(n: int = 6, sizes: list[int] = SIZES) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.normal(size=(n, sizes[0])), rng.integers(0, sizes[-1], n)


def pairs_of(X: Any, y: Any, n_out: int = SIZES[-1]) -> list:
    return [(np.asarray(x)[:, np.newaxis], np.eye(n_out)[:, [int(label)]]) for x, label in zip(X, y, strict=True)]


def network(engine: str = "auto", **options: Any) -> fastbp.Network:
    return fastbp.Network(options.pop("sizes", SIZES), seed=5, engine=engine, **options)


# Every door for inputs: how a matrix X of rows gets in, with good targets.
INPUT_DOORS: dict[str, Callable[[fastbp.Network, Any], Any]] = {
    "fit": lambda net, X: net.fit(X, [0, 1] * (len(X) // 2), epochs=1, batch_size=4, eta=1.0),
    "validation": lambda net, X: net.fit(
        np.ones((2, 4)), [0, 1], epochs=1, eta=1.0, validation_data=(X, [0, 1] * (len(X) // 2))
    ),
    "outputs": lambda net, X: net.outputs(X),
    "predict": lambda net, X: net.predict(X),
    "score": lambda net, X: net.score(X, [0, 1] * (len(X) // 2)),
    "SGD": lambda net, X: net.SGD(pairs_of(X, [0, 1] * (len(X) // 2)), 1, 4, 1.0),
    "SGD test": lambda net, X: net.SGD(
        pairs_of(np.ones((2, 4)), [0, 1]), 1, 4, 1.0, test_data=[(np.asarray(x)[:, np.newaxis], 1) for x in X]
    ),
    "update_mini_batch": lambda net, X: net.update_mini_batch(pairs_of(X, [0, 1] * (len(X) // 2)), 1.0),
    "evaluate": lambda net, X: net.evaluate([(np.asarray(x)[:, np.newaxis], 1) for x in X]),
}
COLUMN_DOORS: dict[str, Callable[[fastbp.Network, Any], Any]] = {
    "feedforward": lambda net, X: net.feedforward(np.asarray(X).T),
    "backprop": lambda net, X: net.backprop(np.asarray(X).T, np.eye(2)[:, [0, 1] * (len(X) // 2)]),
}
ALL_DOORS = INPUT_DOORS | COLUMN_DOORS
# How targets get in, with good inputs.
TARGET_DOORS: dict[str, Callable[[fastbp.Network, Any], Any]] = {
    "fit": lambda net, y: net.fit(np.ones((len(y), 4)), y, epochs=1, eta=1.0),
    "validation": lambda net, y: net.fit(
        np.ones((2, 4)), [0, 1], epochs=1, eta=1.0, validation_data=(np.ones((len(y), 4)), y)
    ),
    "score": lambda net, y: net.score(np.ones((len(y), 4)), y),
}
PAIR_DOORS: dict[str, Callable[[fastbp.Network, Any], Any]] = {
    "SGD": lambda net, Y: net.SGD([(np.ones((4, 1)), np.asarray(y)[:, np.newaxis]) for y in Y], 1, 2, 1.0),
    "update_mini_batch": lambda net, Y: net.update_mini_batch(
        [(np.ones((4, 1)), np.asarray(y)[:, np.newaxis]) for y in Y], 1.0
    ),
    "backprop": lambda net, Y: net.backprop(np.ones((4, len(Y))), np.asarray(Y).T),
}


@contextlib.contextmanager
def refused(net: fastbp.Network, kind: Any, said: str) -> Iterator[None]:
    """The error has this kind and says this; the network is bit for bit as before, and can be trained on."""
    before = pickle.dumps((net.biases, net.weights, net.classes_))
    with pytest.raises(kind, match=said) as caught:
        yield
    assert pickle.dumps((net.biases, net.weights, net.classes_)) == before
    assert not isinstance(caught.value, AssertionError) and "\n" not in str(caught.value)
    X, y = matrices(4)
    net.fit(X, y, epochs=1, eta=0.1)


# --- 1: NaN and infinity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ALL_DOORS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_inputs(engine: str, door: str, value: float) -> None:
    X, _ = matrices()
    X[3, 2] = X[4, 3] = value
    place = "row 2, column 3" if door in COLUMN_DOORS else "row 3, column 2"
    net = network(engine)
    with refused(net, ValueError, f"has {value} in {place}; remove or replace it"):
        ALL_DOORS[door](net, X)


@pytest.mark.parametrize("door", TARGET_DOORS | PAIR_DOORS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_not_finite_targets(engine: str, door: str, value: float) -> None:
    Y = np.random.default_rng(0).random((6, 2))
    Y[3, 1] = value
    place = "row 1, column 3" if door == "backprop" else "row 3, column 1"
    net = network(engine)
    with refused(net, ValueError, f"has {value} in {place}; remove or replace it"):
        (TARGET_DOORS | PAIR_DOORS)[door](net, Y)


@pytest.mark.parametrize("door", ALL_DOORS)
def test_too_large_for_float32(engine: str, door: str) -> None:
    X, _ = matrices()
    X[3, 2] = 1e39
    net = network(engine, dtype="float32")
    with refused(net, ValueError, r"has 1e\+39 in row \d, column \d, too large for float32; scale it, or use dtype"):
        ALL_DOORS[door](net, X)
    ALL_DOORS[door](network(engine), X)  # float64 takes it


@pytest.mark.parametrize("door", PAIR_DOORS)
def test_targets_too_large_for_float32(door: str) -> None:
    net = network(dtype="float32")
    with refused(net, ValueError, "too large for float32"):
        PAIR_DOORS[door](net, np.array([[0, 1], [1e39, 0]]))


def test_large_finite_entries_whose_sum_overflows_are_fine() -> None:
    X, y = matrices()
    X[:, 0] = 1e308
    net = network(initializer="scaled")
    net.weights[0] *= 0.1
    assert np.isfinite(net.outputs(X)).all()
    assert net.score(X, y) in np.linspace(0, 1, 7)
    data.check_finite(np.full((3, 3), 6e4, np.float16), "X")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_parameters_are_refused_before_training(engine: str, value: float) -> None:
    for attribute in ("weights", "biases"):
        net = network(engine)
        getattr(net, attribute)[1][1, 0] = value
        for train in (
            lambda net: net.SGD(pairs_of(*matrices()), 1, 2, 1.0),
            lambda net: net.fit(*matrices(), epochs=1, eta=1.0),
        ):
            with pytest.raises(ValueError, match=rf"{attribute}\[1\] has {value} in row 1, column 0"):
                train(net)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sparse_rows(bad: float) -> None:
    X, y = matrices()
    X[np.abs(X) < 0.5] = 0
    X[3, 2], X[3, 1] = bad, 0
    net = network()
    with refused(net, ValueError, f"X has {bad} in row 3, column 2"):
        net.fit(sparse.csr_array(X), y, epochs=1, eta=1.0)
    X[3, 2] = 1e39
    net = network(dtype="float32")
    with refused(net, ValueError, r"X has 1e\+39 in row 3, column 2, too large for float32"):
        net.fit(sparse.csr_array(X), y, epochs=1, eta=1.0)
    damaged = sparse.csr_array(np.eye(4))
    damaged.indices[2] = 40
    with refused(net, ValueError, "X is a damaged sparse matrix"):
        net.fit(damaged, [0, 1, 0, 1], epochs=1, eta=1.0)
    with refused(net, TypeError, "X holds complex128 numbers"):
        net.fit(sparse.csr_array(np.eye(4) * 1j), [0, 1, 0, 1], epochs=1, eta=1.0)


# --- 2: divergence ------------------------------------------------------------------------------------------


def diverging(n_good: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """After n_good + 1 examples of (0, 0), which leave a linear neuron at rest, one that throws it out of range."""
    X = np.zeros((n_good + 20, 1))
    X[n_good:] = 1e200 if dtype == "float64" else 1e30
    return X, np.where(X == 0, 0.0, 1.0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n_good", [0, 1, 100])
def test_divergence_names_the_mini_batch_and_keeps_the_last_finite_parameters(
    engine: str, dtype: str, n_good: int
) -> None:
    X, y = diverging(n_good, dtype)
    net = fastbp.Network([1, 1], output="identity", engine=engine, dtype=dtype, seed=0)
    net.weights, net.biases = [np.array([[1.0]])], [np.array([[0.5]])]
    with pytest.raises(DivergenceError, match=f"epoch 0, mini-batch {n_good}: .*smaller step size") as caught:
        net.fit(X, y, epochs=3, batch_size=1, eta=0.25, shuffle=False)
    assert (caught.value.epoch, caught.value.batch) == (0, n_good)
    assert net.weights[0].dtype == dtype
    twin = fastbp.Network([1, 1], output="identity", engine=engine, dtype=dtype, seed=0)
    twin.weights, twin.biases = [np.array([[1.0]])], [np.array([[0.5]])]
    if n_good:
        twin.fit(X[:n_good], y[:n_good], epochs=1, batch_size=1, eta=0.25, shuffle=False)
    for ours, theirs in zip((*net.weights, *net.biases), (*twin.weights, *twin.biases), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    net.fit(X[:2] * 0, y[:2] * 0, epochs=1, eta=0.1)  # it can go on


def test_divergence_in_a_later_epoch(engine: str) -> None:
    """w ← -9 w at each step: the epoch and mini-batch in which it leaves float64 can be counted beforehand."""
    n, w, steps = 10, 1.0, 0
    while np.isfinite(w):
        w, steps = w - 10 * w, steps + 1
    net = fastbp.Network([1, 1], output="identity", engine=engine, seed=0)
    net.weights, net.biases = [np.array([[1.0]])], [np.array([[0.0]])]
    X = np.ones((n, 1))
    X[:, 0] *= np.sqrt(1.0)
    pairs = [(x[:, np.newaxis], np.zeros((1, 1))) for x in X]
    with pytest.raises(DivergenceError) as caught:
        net.SGD(pairs, 1000, 1, 5.0)  # w and b together: both fall by 5 (w + b), so w + b ← -9 (w + b)
    assert np.isfinite(net.weights[0]).all() and np.isfinite(net.biases[0]).all()
    total, count = 1.0, 0
    while np.isfinite(5 * total):
        total, count = total - 10 * total, count + 1
    assert caught.value.epoch == pytest.approx(count / n, abs=0.3)
    assert pickle.loads(pickle.dumps(caught.value)).batch == caught.value.batch


@pytest.mark.parametrize("run_length", [1, 3, 64])
def test_divergence_found_at_the_end_of_a_run_is_traced_to_its_mini_batch(
    engine: str, run_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "RUN_SECONDS", 1e9)  # runs only grow
    X, y = diverging(run_length * 7, "float64")
    net = fastbp.Network([1, 1], output="identity", engine=engine, seed=0)
    with pytest.raises(DivergenceError) as caught:
        net.fit(X, y, epochs=1, batch_size=2, eta=0.5, shuffle=False)
    assert caught.value.batch == run_length * 7 // 2


def test_no_warning_on_the_way_to_a_divergence(engine: str) -> None:
    net = network(engine, hidden="relu", output="identity")
    X, y = matrices(40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DivergenceError):
            net.fit(1e3 * X, y, epochs=50, eta=1e3, batch_size=5, validation_data=(X, y))
    assert np.isfinite(net.outputs(X)).all()


# --- 3: far outside the range of exp ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e3, 1e5, 1e30])
def test_saturated_neurons(engine: str, dtype: str, scale: float) -> None:
    net = network(engine, dtype=dtype, sizes=[2, 2, 2], cost="cross_entropy")
    net.weights = [scale * np.eye(2), scale * np.array([[1.0, -1.0], [-1.0, 1.0]])]
    net.biases = [np.zeros((2, 1)), np.zeros((2, 1))]
    X = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert net.outputs(X).tolist() == [[1, 0], [0, 1]]
    assert net.feedforward(X[:1].T).tolist() == [[1], [0]]
    assert net.score(X, [0, 1]) == 1
    net.fit(X, [0, 1], epochs=2, eta=1.0)  # at the least cost: nothing moves
    assert net.weights[0].tolist() == (scale * np.eye(2)).astype(dtype).tolist()
    history = net.fit(X, [1, 0], epochs=1, eta=1e-3, validation_data=(X, [1, 0]))
    assert np.isfinite(history["validation_cost"]).all() and history["validation_score"] == [0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_underflow_is_no_error_where_a_user_lets_every_one_raise(engine: str, dtype: str) -> None:
    """After np.seterr(all="raise"), e^-1000 in a saturated sigmoid or softmax ended the training by an exception."""
    rng = np.random.default_rng(0)
    X, y = 500 * rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
    pairs = [(x.reshape(-1, 1), np.eye(3)[:, [label]]) for x, label in zip(X, y, strict=True)]
    labelled = [(x, int(np.argmax(target))) for x, target in pairs]

    def everything() -> list[float]:
        found: list[Any] = [fastbp.sigmoid(np.array([-1e3, 1e3, 720])), fastbp.sigmoid_prime(np.array([-1e3, 720]))]
        for hidden, output, cost in (
            ("sigmoid", "sigmoid", "quadratic"),
            ("gelu", "softmax", "log_likelihood"),
            ("silu", "sigmoid", "cross_entropy"),
            ("tanh", "softplus", "quadratic"),
        ):
            net = fastbp.Network([6, 5, 3], hidden=hidden, output=output, cost=cost, seed=0, dtype=dtype, engine=engine)
            history = net.fit(X, y, epochs=2, eta=1e-4, validation_data=(X, y), monitor_training=True)
            found += [net.outputs(X), net.score(X, y), net.feedforward(pairs[0][0]), history["validation_cost"]]
            found += [*net.backprop(*pairs[0])[1], *net.backprop(X.T, np.eye(3)[:, y])[1], net.evaluate(labelled)]
            net.update_mini_batch(pairs, 1e-4)
            net.SGD(pairs[:9], 1, 4, 1e-4, test_data=labelled)
            found += net.weights
        chapter_3 = network2.Network([6, 5, 3], seed=0, dtype=dtype, engine=engine)
        found += chapter_3.SGD(list(pairs), 2, 9, 1e-4, 0.1, labelled, False, True, True, True)
        found += [chapter_3.total_cost(pairs, 0.1), chapter_3.accuracy(labelled), *chapter_3.weights]
        return [float(number) for each in found for number in np.ravel(each)]

    expected = everything()
    with np.errstate(all="raise"):
        assert everything() == expected


# --- 4: labels that are none --------------------------------------------------------------------------------


@pytest.mark.parametrize("door", TARGET_DOORS)
@pytest.mark.parametrize(
    ("bad", "shown"), [(-1, "-1"), (2, "2"), (255, "255"), (0.5, "0.5"), (1e300, r"1e\+300"), (np.nan, "nan")]
)
def test_labels_outside_the_range(engine: str, door: str, bad: float, shown: str) -> None:
    net = network(engine)
    with refused(net, ValueError, rf"y\[2\] is {shown}, but .*labels.* 0 to 1"):
        TARGET_DOORS[door](net, np.array([0, 1, bad, 1, bad]))


def test_labels_beyond_int64() -> None:
    net = network()
    with refused(net, ValueError, r"y\[1\] is 18446744073709551615, but the outputs stand for labels 0 to 1"):
        net.fit(np.ones((2, 4)), np.array([0, 2**64 - 1], np.uint64), epochs=1, eta=1.0)


@pytest.mark.parametrize("bad", [2, -1])
def test_labels_of_one_output(engine: str, bad: int) -> None:
    net = network(engine, sizes=[4, 3, 1])
    before = net.weights[0].copy()
    with pytest.raises(ValueError, match=rf"y\[1\] is {bad}, but the labels of one sigmoid output are 0 and 1"):
        net.fit(np.ones((3, 4)), [0, bad, 1], epochs=1, eta=1.0)
    np.testing.assert_array_equal(net.weights[0], before)


def test_one_output_neuron_of_its_own_decides_what_its_labels_are() -> None:
    for last, labels in (("sigmoid", [0, 1]), ("tanh", None)):
        net = network(sizes=[4, 3, 1], output="identity", cost="quadratic", neurons={(3, 0): last})
        net.fit(np.ones((3, 4)), [0, 1, 1], epochs=1, eta=0.1)
        assert (net.classes_ is None) == (labels is None)
        assert labels is None or net.classes_.tolist() == labels


@pytest.mark.parametrize("cost", ["cross_entropy", "log_likelihood"])
def test_targets_no_probability_can_reach(cost: str) -> None:
    net = network(cost=cost, output="softmax" if cost == "log_likelihood" else "sigmoid")
    with refused(net, ValueError, rf"y has 1.5 in row 1, column 0, but cost '{cost}' needs targets in \[0, 1\]"):
        net.fit(np.ones((2, 4)), [[0.5, 0.5], [1.5, 0.5]], epochs=1, eta=1.0)


# --- 5: targets of other types ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "kind", "said"),
    [
        (np.array([0, "1", None, 1], object), TypeError, "y mixes values of types NoneType, int, str|y mixes"),
        (np.array([0, 1, 0, 1j]), TypeError, "y holds complex128 values"),
        (np.array(["2020-01-01"] * 4, "M8[D]"), TypeError, r"y holds datetime64\[D\] values"),
        (np.ma.masked_array([0, 1, 0, 1], [0, 1, 0, 0]), TypeError, "y is a masked array.*fill"),
        ([[0], [1], [0, 1], [1]], ValueError, "y is not rectangular"),
        ([b"\xff", b"b", b"b", b"b"], ValueError, "y holds bytes that are not UTF-8"),
        (["a", "b", "c", "a"], ValueError, r"y has 3 distinct labels \(a, b, c\), but the network tells 2 apart"),
        (["a", "a", "a", "a"], ValueError, r"y has 1 distinct labels \(a\), but the network tells 2 apart"),
        ([["a", "b"]] * 4, ValueError, "y holds strings in shape"),
        (["1", "0"], ValueError, r"y has shape \(2,\), but there are 4 examples"),
        (3, ValueError, r"y has shape \(\), but there are 4 examples"),
        (np.zeros((4, 3)), ValueError, r"y has shape \(4, 3\), but the network has 2 outputs"),
        (np.zeros((4, 2, 1)), ValueError, r"y has shape \(4, 2, 1\), but the network has 2 outputs"),
        (None, ValueError, r"y has shape \(\)"),
    ],
)
def test_targets_that_cannot_be_read(engine: str, y: Any, kind: type, said: str) -> None:
    net = network(engine)
    with refused(net, kind, said):
        net.fit(np.ones((4, 4)), y, epochs=1, eta=1.0)


def test_labels_of_another_kind_than_those_learned() -> None:
    X, y = matrices()
    net = network()
    net.fit(X, y, epochs=1, eta=1.0)
    with pytest.raises(ValueError, match=r"y holds strings, but the network's labels are the numbers \[0, 1\]"):
        net.score(X, ["a"] * 6)
    names = np.array(["no", "yes"])[y]
    net.fit(X, names, epochs=1, eta=1.0)
    with pytest.raises(ValueError, match=r"y holds int64 values, but the network's labels are \['no', 'yes'\]"):
        net.score(X, y)
    with pytest.raises(ValueError, match=r"y\[2\] is 'maybe', which is none of the classes \['no', 'yes'\]"):
        net.score(X, ["no", "yes", "maybe", "no", "no", "no"])
    with pytest.raises(ValueError, match=r"validation_data: y\[0\] is 'zzz'"):
        net.fit(X, names, epochs=1, eta=1.0, validation_data=(X[:1], ["zzz"]))


# --- 6: empty, and the smallest there is --------------------------------------------------------------------


@pytest.mark.parametrize("door", INPUT_DOORS)
def test_no_examples(engine: str, door: str) -> None:
    net = network(engine)
    if door in ("SGD test", "evaluate"):
        ALL_DOORS[door](net, np.empty((0, 4)))  # nothing to judge: as the book's
        return
    with refused(net, ValueError, "empty"):
        ALL_DOORS[door](net, np.empty((0, 4)))


def test_backprop_of_no_columns_is_refused_and_feedforward_of_none_is_none() -> None:
    net = network()
    with refused(net, ValueError, r"x has shape \(4, 0\): no column"):
        net.backprop(np.empty((4, 0)), np.empty((2, 0)))
    assert net.feedforward(np.empty((4, 0))).shape == (2, 0)


@pytest.mark.parametrize("door", ["fit", "outputs", "predict", "score"])
def test_no_features(door: str) -> None:
    net = network()
    with refused(net, ValueError, r"X has shape \(6, 0\), but the network takes 4 features a row"):
        ALL_DOORS[door](net, np.empty((6, 0)))


@pytest.mark.parametrize("sizes", [[0, 2], [4, 0], [4, 0, 2]])
def test_layers_without_neurons(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="every layer needs at least one neuron"):
        fastbp.Network(sizes)


def test_one_example_one_class_one_neuron(engine: str) -> None:
    net = network(engine)
    net.fit([[1, 2, 3, 4]], [1], epochs=30, eta=5.0)
    assert net.predict([[1, 2, 3, 4]]).tolist() == [1] and net.score([[1, 2, 3, 4]], [1]) == 1
    net.SGD([(np.ones((4, 1)), np.array([[1], [0]]))], 1, 10, 1.0, test_data=[(np.ones((4, 1)), 0)])
    alone = network(engine, sizes=[1, 1])
    alone.fit([[1.0], [2.0]], [1, 1], epochs=1, eta=1.0)
    assert alone.classes_.tolist() == [0, 1]
    one_class = network(engine, sizes=[4, 2], cost="log_likelihood", output="softmax")
    one_class.fit(np.ones((3, 4)), [1, 1, 1], epochs=100, eta=1.0)
    assert one_class.predict(np.ones((1, 4))).tolist() == [1]
    single = network(engine, sizes=[4, 1], cost="log_likelihood", output="softmax")  # a softmax of one is always 1
    single.fit(np.ones((3, 4)), np.ones((3, 1)), epochs=1, eta=1.0)
    assert single.outputs(np.ones((1, 4))).tolist() == [[1.0]]


# --- 7: batch sizes and other counts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "kind", "said"),
    [
        (0, ValueError, "must be at least 1, got 0"),
        (-3, ValueError, "must be at least 1, got -3"),
        (2.0, TypeError, "must be a whole number, got 2.0"),
        ("10", TypeError, "must be a whole number, got '10'"),
        (None, TypeError, "must be a whole number, got None"),
    ],
)
def test_batch_sizes_that_are_none(engine: str, bad: Any, kind: type, said: str) -> None:
    net = network(engine)
    with refused(net, kind, f"mini_batch_size {said}"):
        net.SGD(pairs_of(*matrices()), 1, bad, 1.0)
    with refused(net, kind, f"batch_size {said}"):
        net.fit(*matrices(), epochs=1, batch_size=bad, eta=1.0)


def test_a_mini_batch_of_none() -> None:
    net = network()
    for empty in ([], iter(())):
        with refused(net, ValueError, "mini_batch is empty; give at least one pair"):
            net.update_mini_batch(empty, 1.0)
        custom = type("Net", (fastbp.Network,), {"backprop": lambda self, x, y: None})(SIZES)
        with pytest.raises(ValueError, match="mini_batch is empty"):
            custom.update_mini_batch(empty, 1.0)


@pytest.mark.parametrize("batch_size", [7, 100, np.int64(50), 2**62])
def test_a_batch_larger_than_the_data_is_one_batch(engine: str, batch_size: int) -> None:
    X, y = matrices(6)
    nets = [network(engine), network(engine)]
    nets[0].fit(X, y, epochs=2, batch_size=6, eta=1.0, shuffle=False)
    nets[1].fit(X, y, epochs=2, batch_size=batch_size, eta=1.0, shuffle=False)
    np.testing.assert_array_equal(nets[0].weights[0], nets[1].weights[0])


@pytest.mark.parametrize("bad", [-1, 1.5, "3", None])
def test_numbers_of_epochs_that_are_none(bad: Any) -> None:
    net = network()
    with refused(net, (TypeError, ValueError), "epochs must be"):
        net.SGD(pairs_of(*matrices()), bad, 2, 1.0)
    with refused(net, (TypeError, ValueError), "epochs must be"):
        net.fit(*matrices(), epochs=bad, eta=1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, "fast", None, 1j, [1, 2]])
def test_step_sizes_that_are_none(bad: Any) -> None:
    net, pairs = network(), pairs_of(*matrices())
    with refused(net, (TypeError, ValueError), "eta must be a (finite )?number, got"):
        net.SGD(pairs, 1, 2, bad)
    with refused(net, (TypeError, ValueError), "eta must be a (finite )?number, got"):
        net.update_mini_batch(pairs, bad)
    if bad is not None:
        with refused(net, (TypeError, ValueError), "eta must be a (finite )?number, got"):
            net.fit(*matrices(), epochs=1, eta=bad)
        with refused(net, (TypeError, ValueError), "lmbda must be a (finite )?number, got"):
            net.fit(*matrices(), epochs=1, eta=1.0, lmbda=bad)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({}, ValueError, "give either eta= .* or optimizer="),
        ({"eta": 1.0, "optimizer": fastbp.SGD(1.0)}, ValueError, "give either eta= .* or optimizer="),
        ({"optimizer": "adam"}, TypeError, r"optimizer must be an optimizer such as .*, got 'adam'"),
        ({"eta": 1.0, "lmbda": -1.0}, ValueError, "lmbda must be a finite number ≥ 0, got -1.0"),
        ({"eta": 1.0, "callbacks": [print]}, TypeError, "callbacks need a method on_epoch_end"),
        ({"eta": 1.0, "callbacks": print}, TypeError, "callbacks must be a list of objects"),
        ({"eta": 1.0, "shuffle": "no"}, TypeError, "shuffle must be True or False, got 'no'"),
        ({"eta": 1.0, "validation_data": np.ones((6, 4))}, TypeError, r"validation_data must be a pair \(X, y\)"),
        ({"eta": 1.0, "validation_data": (np.ones((6, 4)),)}, TypeError, r"validation_data must be a pair \(X, y\)"),
        ({"eta": 1.0, "validation_data": (np.ones((6, 3)), [0] * 6)}, ValueError, "validation_data: X has shape"),
    ],
)
def test_options_of_fit(options: dict, kind: type, said: str) -> None:
    net = network()
    with refused(net, kind, said):
        net.fit(*matrices(), epochs=1, **options)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"engine": "gpu"}, ValueError, "engine='gpu' is none of auto, reference, matrix, fused"),
        ({"dtype": "float16"}, ValueError, "dtype must be 'float64' or 'float32', got 'float16'"),
        ({"dtype": np.float16}, ValueError, "dtype must be 'float64' or 'float32', got float16"),
        ({"dtype": "1,"}, ValueError, "dtype must be 'float64' or 'float32', got '1,'"),  # NumPy: SyntaxError
        ({"dtype": {"names": 3}}, ValueError, "dtype must be 'float64' or 'float32', got {'names': 3}"),
        ({"dtype": None}, ValueError, "dtype must be 'float64' or 'float32', got None"),
        ({"dtype": "single precision"}, ValueError, "dtype must be 'float64' or 'float32', got 'single precision'"),
        ({"hidden": "sigmoids"}, ValueError, "hidden='sigmoids' is no activation; choose one of sigmoid, tanh"),
        ({"hidden": "softmax"}, ValueError, "softmax couples the neurons of a layer and can only be the output"),
        ({"hidden": ["relu", "relu"]}, ValueError, "hidden has 2 activations, but .* have 1 hidden layers"),
        ({"output": 3}, TypeError, r"output must be a name or a pair \(f, f_prime\)"),
        ({"cost": "hinge"}, ValueError, "cost='hinge' is no cost; choose one of quadratic"),
        ({"cost": "cross_entropy", "output": "tanh"}, ValueError, "use output='sigmoid'"),
        ({"output": "softmax"}, ValueError, "use cost='log_likelihood'"),
        ({"initializer": "xavier"}, ValueError, "initializer='xavier' is none of normal, scaled, glorot, he"),
        ({"shuffle": "yes"}, TypeError, "shuffle must be a callable that permutes a list in place, got 'yes'"),
        ({"neurons": {(1, 0): "tanh"}}, ValueError, "layer 1 has no activation; layers go from 2 to L=3"),
        ({"neurons": {(2, 3): "tanh"}}, ValueError, "layer 2 has neurons 0 to 2"),
        ({"neurons": {2: "tanh"}}, TypeError, r"neurons needs keys \(l, j\)"),
        ({"neurons": [(2, 1)]}, TypeError, r"neurons must map \(layer, neuron\) to an activation"),
        ({"cost": ["quadratic"]}, ValueError, r"cost=\['quadratic'\] is no cost"),
        ({"initializer": ["he"]}, ValueError, r"initializer=\['he'\] is none of"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": "today"}, TypeError, "seed must be a whole number, got 'today'"),
    ],
)
def test_options_of_the_network(options: dict, kind: type, said: str) -> None:
    with pytest.raises(kind, match=said):
        fastbp.Network(SIZES, **options)


def test_an_engine_assigned_later_is_checked_too() -> None:
    net, pairs = network(), pairs_of(*matrices())
    net.engine = "matirx"
    for use in (
        lambda: net.SGD(pairs, 1, 2, 1.0),
        lambda: net.fit(*matrices(), epochs=1, eta=1.0),
        lambda: net.backprop(*pairs[0]),
        lambda: net.update_mini_batch(pairs, 1.0),
    ):
        with pytest.raises(ValueError, match="engine='matirx' is none of auto"):
            use()
    own = fastbp.Network(SIZES, hidden=(np.tanh, lambda z: 1 - np.tanh(z) ** 2))
    own.engine = "fused"
    with pytest.raises(ValueError, match="cannot call a user's own functions; use engine='matrix'"):
        own.SGD(pairs, 1, 2, 1.0)


# --- 8: memory of every kind --------------------------------------------------------------------------------


def in_every_form(X: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    wide = np.full((X.shape[0] * 2, X.shape[1] * 3), 7, X.dtype)
    wide[::2, 1::3] = X
    backwards = X[::-1, ::-1].copy()
    read_only = X.copy()
    read_only.flags.writeable = False
    on_disk = np.memmap(folder / "X", X.dtype, "w+", shape=X.shape)
    on_disk[:] = X
    on_disk.flush()
    buffer = bytearray(X.nbytes + 1)
    misaligned = np.frombuffer(buffer, X.dtype, X.size, offset=1).reshape(X.shape)
    misaligned[:] = X
    return {
        "fortran": np.asfortranarray(X),
        "strided": wide[::2, 1::3],
        "negative": backwards[::-1, ::-1],
        "big-endian": X.astype(X.dtype.newbyteorder(">")),
        "read-only": read_only,
        "memmap": np.memmap(folder / "X", X.dtype, "r", shape=X.shape),
        "misaligned": misaligned,
        "broadcast": X,
        "subclass": X.view(type("Mine", (np.ndarray,), {})),
        "list": X.tolist(),
    }


FORMS = list(in_every_form(np.ones((2, 2)), Path("/tmp")))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("dense", [True, False])
def test_memory_of_every_kind(engine: str, dtype: str, dense: bool, tmp_path: Path) -> None:
    """The same bits, whatever the memory looks like; and the caller's memory as it was."""
    X = matrices(12)[0].astype(dtype)
    if not dense:
        X[X < 0.6] = 0
    Y = np.random.default_rng(1).random((12, 2)).astype(dtype)

    def results(X: Any, Y: Any) -> bytes:
        net = network(engine, dtype=dtype)
        net.fit(X, Y, epochs=2, batch_size=5, eta=1.0)
        net.SGD(
            [(np.asarray(x)[:, np.newaxis], np.asarray(t)[:, np.newaxis]) for x, t in zip(X, Y, strict=True)], 2, 5, 1.0
        )
        net.update_mini_batch(
            [(np.asarray(x)[:, np.newaxis], np.asarray(t)[:, np.newaxis]) for x, t in zip(X, Y, strict=True)], 1.0
        )
        parts = (*net.weights, *net.biases, net.outputs(X), net.predict(X), net.feedforward(np.asarray(X).T))
        assert all(part.dtype == dtype for part in parts[:-2])
        return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)

    expected = results(X, Y)
    (tmp_path / "X").mkdir()
    (tmp_path / "Y").mkdir()
    forms = zip(in_every_form(X, tmp_path / "X").items(), in_every_form(Y, tmp_path / "Y").values(), strict=True)
    for (name, form), targets in forms:
        before = np.array(form).tobytes(), np.array(targets).tobytes()
        assert results(form, targets) == expected, name
        assert (np.array(form).tobytes(), np.array(targets).tobytes()) == before, name


def test_labels_in_memory_of_every_kind(engine: str) -> None:
    X, y = matrices(12)
    expected = network(engine)
    expected.fit(X, y, epochs=1, eta=1.0)
    wide = np.repeat(y, 3)
    for labels in (wide[::3], y[::-1].copy()[::-1], y.astype(">i4"), y.astype(np.uint8), y.astype(bool), y.tolist()):
        net = network(engine)
        net.fit(X, labels, epochs=1, eta=1.0)
        np.testing.assert_array_equal(net.weights[0], expected.weights[0])


def test_a_contiguous_matrix_of_the_right_dtype_is_not_copied() -> None:
    X, _ = matrices()
    assert data.as_inputs(X, 4, np.dtype("float64")) is X
    csr = sparse.csr_array(X)
    assert np.shares_memory(data.as_inputs(csr, 4, np.dtype("float64")).data, csr.data)


def test_sparse_matrices_are_left_alone() -> None:
    """scipy's own check trims arrays with room to spare, in place."""
    X, y = matrices()
    X[X < 0] = 0
    csr = sparse.csr_array(X)
    csr.data, csr.indices = np.append(csr.data, [np.nan, 5.0]), np.append(csr.indices, [0, 1])
    kept = csr.data, csr.indices, csr.indptr
    network().fit(csr, y, epochs=1, eta=1.0)
    assert csr.data is kept[0] and csr.indices is kept[1] and csr.indptr is kept[2]


# --- 9: numbers of every type -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("given", ["f2", "f4", "f8", "longdouble", "i1", "u1", "i8", "u8", "?", ">f4", ">i2"])
def test_real_numbers_of_every_type_are_cast(engine: str, dtype: str, given: str) -> None:
    X = np.random.default_rng(0).integers(0, 2, (12, 4)).astype(given)
    y = np.arange(12) % 2
    nets = [network(engine, dtype=dtype), network(engine, dtype=dtype)]
    for net, inputs in zip(nets, (X, X.astype(dtype)), strict=True):
        net.fit(inputs, y, epochs=2, eta=1.0, validation_data=(inputs, y))
        net.SGD(pairs_of(inputs, y), 1, 5, 1.0, test_data=[(x[:, np.newaxis], 1) for x in inputs])
    for ours, theirs in zip((*nets[0].weights, *nets[0].biases), (*nets[1].weights, *nets[1].biases), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(nets[0].outputs(X), nets[1].outputs(X))
    assert nets[0].outputs(X).dtype == dtype


NOT_NUMBERS = [
    (np.ones((6, 4), complex), "holds complex128 values; only real numbers are trained on"),
    (np.ma.masked_array(np.ones((6, 4)), np.eye(6, 4)), r"is a masked array.*fill it first"),
    (np.full((6, 4), "1.5"), r"holds <U3 values; convert it with astype\(float\)"),
    (np.full((6, 4), None), r"holds object values; convert it with astype\(float\)"),
    (np.ones((6, 4), "m8[s]"), r"holds timedelta64\[s\] values"),
    (np.ones((6, 4), "f8,i4"), "only real numbers are trained on"),
]


@pytest.mark.parametrize(("X", "said"), NOT_NUMBERS)
@pytest.mark.parametrize("door", ["fit", "outputs", "predict", "score", "validation", *COLUMN_DOORS])
def test_what_is_no_real_number_is_refused(door: str, X: Any, said: str) -> None:
    net = network()
    if door in COLUMN_DOORS and isinstance(X, np.ma.MaskedArray):
        with refused(net, TypeError, said):
            net.feedforward(X.T)
        return
    with refused(net, TypeError, said):
        ALL_DOORS[door](net, X)


@pytest.mark.parametrize(("X", "said"), NOT_NUMBERS)
@pytest.mark.parametrize("door", ["SGD", "SGD test", "update_mini_batch", "evaluate"])
def test_what_is_no_real_number_is_refused_in_pairs(door: str, X: Any, said: str) -> None:
    net = network()
    training = [(x[:, np.newaxis], np.eye(2)[:, [0]]) for x in X]
    testing = [(x[:, np.newaxis], 0) for x in X]
    good = pairs_of(*matrices())
    with refused(net, TypeError, said):
        {
            "SGD": lambda: net.SGD(training, 1, 2, 1.0),
            "SGD test": lambda: net.SGD(good, 1, 2, 1.0, test_data=testing),
            "update_mini_batch": lambda: net.update_mini_batch(training, 1.0),
            "evaluate": lambda: net.evaluate(testing),
        }[door]()


# --- 10: shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["fit", "outputs", "predict", "score", "validation"])
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((4,), r"one example a row, got shape \(4,\); (.*: )?X.reshape\(1, -1\) is one example"),
        ((), r"got shape \(\)"),
        ((6, 4, 1), r"got shape \(6, 4, 1\)"),
        ((6, 3), r"has shape \(6, 3\), but the network takes 4 features a row"),
        ((4, 6), r"has shape \(4, 6\), but the network takes 4 features a row; .*X.T has that many"),
    ],
)
def test_shapes_of_inputs(engine: str, door: str, shape: tuple, said: str) -> None:
    net, X = network(engine), np.ones(shape)
    y = [0] * (shape[0] if shape else 1)
    with refused(net, ValueError, said):
        {
            "fit": lambda: net.fit(X, y, epochs=1, eta=1.0),
            "outputs": lambda: net.outputs(X),
            "predict": lambda: net.predict(X),
            "score": lambda: net.score(X, y),
            "validation": lambda: net.fit(np.ones((2, 4)), [0, 1], epochs=1, eta=1.0, validation_data=(X, y)),
        }[door]()


@pytest.mark.parametrize("where", ["x", "y"])
@pytest.mark.parametrize("door", ["SGD", "update_mini_batch", "backprop"])
def test_shapes_of_pairs(engine: str, door: str, where: str) -> None:
    n = {"x": 4, "y": 2}[where]
    good = {"x": np.ones((4, 1)), "y": np.ones((2, 1))}
    for bad in (np.ones(n), np.ones((1, n)), np.ones((n + 1, 1)), np.ones((n, 2)), np.ones((n, 1, 1)), 3.0, []):
        pair = good | {where: bad}
        net = network(engine)
        with refused(net, ValueError, r"has shape|single number 3.0|columns and y has"):
            if door == "backprop":
                net.backprop(pair["x"], pair["y"])
            else:
                pairs = [(good["x"], good["y"]), (pair["x"], pair["y"])]
                net.SGD(pairs, 1, 2, 1.0) if door == "SGD" else net.update_mini_batch(pairs, 1.0)


def test_messages_about_columns() -> None:
    net = network()
    for call, said in {
        lambda: net.feedforward(np.ones(4)): r"a has shape \(4,\), but the network takes columns: \(4, 1\), or "
        r"\(4, m\) for m of them; use a.reshape\(-1, 1\)",
        lambda: net.feedforward(np.ones((1, 4))): r"a has shape \(1, 4\).* shape \(4, 1\); it is a row, use its transp",
        lambda: net.feedforward(
            np.ones((5, 1))
        ): r"a has shape \(5, 1\), but the network takes columns of shape \(4, 1\)",
        lambda: net.backprop(np.ones((4, 3)), np.ones((2, 2))): "x has 3 columns and y has 2; give one target",
        lambda: net.SGD([(np.ones((4, 1)), np.ones((2, 1))), (np.ones((4, 1)), 1)], 1, 2, 1.0): (
            r"training_data targets\[1\] is the single number 1, .* a label j as a column is np.eye\(2\)\[:, \[j\]\]"
        ),
        lambda: net.SGD([np.ones((4, 1))] * 2, 1, 2, 1.0): r"training_data\[0\] is not a pair \(x, y\): got ndarray",
        lambda: net.SGD([(np.ones(4), np.ones((2, 1)))], 1, 2, 1.0): (
            r"training_data inputs\[0\] has shape \(4,\), but the network takes columns of shape \(4, 1\); use reshape"
        ),
        lambda: net.SGD([1, 2], 1, 2, 1.0): r"training_data\[0\] is not a pair \(x, y\): got int",
        lambda: net.evaluate([(np.ones((4, 1)), 1), None]): r"test_data\[1\] is not a pair \(x, y\): got NoneType",
        lambda: net.evaluate([(np.ones((4, 2)), 1)]): r"test_data inputs\[0\] has shape \(4, 2\), but each",
    }.items():
        with pytest.raises(ValueError, match=said):
            call()


def test_what_is_no_list_of_pairs() -> None:
    net, pairs = network(), pairs_of(*matrices())
    for call, name in {
        lambda: net.SGD(None, 1, 2, 1.0): "training_data",
        lambda: net.SGD(pairs, 1, 2, 1.0, test_data=5): "test_data",
        lambda: net.evaluate(5): "test_data",
        lambda: net.update_mini_batch(None, 1.0): "mini_batch",
    }.items():
        with pytest.raises(TypeError, match=rf"{name} must be a list of pairs \(x, y\), got (NoneType|int)"):
            call()
    net.weights = None
    with pytest.raises(TypeError, match="weights must be a list of 2 arrays, got NoneType"):
        net.feedforward(np.ones((4, 1)))


# --- 11: sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "kind", "said"),
    [
        ([10**6, 10**6], ValueError, r"1,000,001,000,000 parameters, 7,629,402 MiB in float64.* smaller layers"),
        ([2**62, 2**62, 3], ValueError, r"some 10\^37 parameters"),
        ([10**400, 10**400], ValueError, r"some 10\^(799|800) parameters"),
        ([4], ValueError, "at least two layers"),
        ([], ValueError, "at least two layers"),
        ([4, -2], ValueError, "at least one neuron"),
        ([4, 2.5], TypeError, r"sizes must be whole numbers, one a layer, for example \[784, 30, 10\]; got \[4, 2.5\]"),
        (["784", "10"], TypeError, "sizes must be whole numbers"),
        (784, TypeError, "sizes must be whole numbers"),
        (None, TypeError, "sizes must be whole numbers"),
    ],
)
def test_sizes(sizes: Any, kind: type, said: str) -> None:
    state = np.random.get_state()[1].tolist()
    with pytest.raises(kind, match=said):
        fastbp.Network(sizes)
    assert np.random.get_state()[1].tolist() == state  # refused before a single draw


@pytest.mark.parametrize("sizes", [(4, 3, 2), np.array([4, 3, 2]), np.array([4, 3, 2], np.uint8), range(4, 1, -1)])
def test_sizes_of_any_whole_kind(sizes: Any) -> None:
    net = fastbp.Network(sizes)
    assert net.sizes == [4, 3, 2] and all(type(n) is int for n in net.sizes)
    net.fit(*matrices(), epochs=1, eta=1.0)


def test_mini_batches_beyond_memory(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 4096)
    net = network(engine)
    X, y = matrices(200)
    with pytest.raises(ValueError, match=r"a mini-batch of 200 examples takes .* use smaller mini-batches"):
        net.fit(X, y, epochs=1, batch_size=1000, eta=1.0)
    net.fit(X, y, epochs=1, batch_size=10, eta=1.0)
