"""What must not matter does not: changes of the question whose effect on the answer is known without an oracle."""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp
from fastbp import training

ENGINES = ("reference", "matrix", "fused")
COSTS: dict[str, dict[str, Any]] = {
    "quadratic": {},
    "cross_entropy": {"cost": "cross_entropy", "hidden": "tanh"},
    "log_likelihood": {"cost": "log_likelihood", "output": "softmax", "hidden": "silu"},
}
Problem = tuple[fastbp.Network, np.ndarray, np.ndarray]


def problem(sizes: list[int], n: int, engine: str, cost: str = "quadratic", seed: int = 0, **options: Any) -> Problem:
    """A network, inputs with many zeros, and one-hot targets."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, sizes[0]))
    X[rng.random(X.shape) < 0.5] = 0
    Y = np.eye(sizes[-1])[rng.integers(0, sizes[-1], n)]
    return fastbp.Network(sizes, seed=seed, engine=engine, **COSTS[cost], **options), X, Y


def tolerance(net: fastbp.Network) -> float:
    return 1e-10 if net.dtype == np.float64 else 1e-4


def assert_close(ours: Any, theirs: Any, rtol: float) -> None:
    """Arrays, or lists of them, apart by at most rtol of the largest entry of each."""
    if isinstance(ours, list | tuple):
        for o, t in zip(ours, theirs, strict=True):
            assert_close(o, t, rtol)
        return
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= rtol * max(np.abs(theirs).max(), 1e-3)


def twin(net: fastbp.Network) -> fastbp.Network:
    return copy.deepcopy(net)


def one_step(net: fastbp.Network, X: np.ndarray, Y: np.ndarray, eta: float = 0.5) -> list[np.ndarray]:
    """The change of every parameter in one mini-batch of all the rows."""
    before = [*net.biases, *net.weights]
    net.fit(X, Y, epochs=1, batch_size=len(X), eta=eta, shuffle=False)
    return [after - b for after, b in zip([*net.biases, *net.weights], before, strict=True)]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


shapes = st.tuples(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.integers(1, 17), st.integers(0, 2**16))


# --- hidden units have no order -----------------------------------------------------------------------------


def permute_hidden(net: fastbp.Network, layer: int, order: np.ndarray) -> None:
    """Put the units of a hidden layer (0 is the first) in another order."""
    net.weights[layer] = net.weights[layer][order]
    net.biases[layer] = net.biases[layer][order]
    net.weights[layer + 1] = net.weights[layer + 1][:, order]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("layer", [0, 1])
def test_permuted_hidden_units_train_as_before(engine: str, cost: str, dtype: str, layer: int) -> None:
    net, X, Y = problem([6, 5, 7, 3], 20, engine, cost, dtype=dtype)
    order = np.random.default_rng(1).permutation(net.sizes[layer + 1])
    permuted = twin(net)
    permute_hidden(permuted, layer, order)
    assert_close(permuted.outputs(X), net.outputs(X), tolerance(net))
    for network in (net, permuted):
        network.fit(X, Y, epochs=3, batch_size=6, eta=0.3, lmbda=0.1, shuffle=False)
    permute_hidden(net, layer, order)
    assert_close(permuted.weights, net.weights, 10 * tolerance(net))
    assert_close(permuted.biases, net.biases, 10 * tolerance(net))


def test_permuted_features_train_as_before(engine: str) -> None:
    net, X, Y = problem([9, 5, 3], 20, engine)
    order = np.random.default_rng(1).permutation(9)
    permuted = twin(net)
    permuted.weights[0] = net.weights[0][:, order]
    net.fit(X, Y, epochs=3, batch_size=6, eta=1.0, shuffle=False)
    permuted.fit(X[:, order], Y, epochs=3, batch_size=6, eta=1.0, shuffle=False)
    assert_close(permuted.weights[0], net.weights[0][:, order], 1e-10)
    assert_close(permuted.weights[1], net.weights[1], 1e-10)


def test_permuted_labels_train_as_before(engine: str) -> None:
    net, X, Y = problem([9, 5, 4], 20, engine, "log_likelihood")
    order = np.array([2, 0, 3, 1])
    permuted = twin(net)
    permuted.weights[1], permuted.biases[1] = net.weights[1][order], net.biases[1][order]
    net.fit(X, Y, epochs=3, batch_size=6, eta=1.0, shuffle=False)
    permuted.fit(X, Y[:, order], epochs=3, batch_size=6, eta=1.0, shuffle=False)
    assert_close(permuted.outputs(X), net.outputs(X)[:, order], 1e-9)


def test_a_unit_that_nobody_hears_changes_nothing(engine: str) -> None:
    """Its outgoing weights are zero: outputs and all other gradients stay."""
    net, X, Y = problem([6, 4, 3], 11, engine)
    wider = fastbp.Network([6, 5, 3], seed=9, engine=engine)
    wider.weights[0][:4], wider.biases[0][:4] = net.weights[0], net.biases[0]
    wider.weights[1] = np.hstack([net.weights[1], np.zeros((3, 1))])
    wider.biases[1] = net.biases[1]
    np.testing.assert_allclose(wider.outputs(X), net.outputs(X), rtol=1e-12)
    (b1, b2), (w1, w2) = net.backprop(X.T, Y.T)
    (wide_b1, wide_b2), (wide_w1, wide_w2) = wider.backprop(X.T, Y.T)
    assert_close([wide_b1[:4], wide_b2, wide_w1[:4], wide_w2[:, :4]], [b1, b2, w1, w2], 1e-12)
    assert not wide_b1[4].any() and not wide_w1[4].any()


def test_a_feature_that_is_always_zero_changes_nothing(engine: str) -> None:
    net, X, Y = problem([6, 4, 3], 20, engine)
    wider = fastbp.Network([7, 4, 3], seed=9, engine=engine)
    wider.biases, wider.weights[1] = net.biases, net.weights[1]
    wider.weights[0] = np.hstack([net.weights[0], np.full((4, 1), 0.7)])
    net.fit(X, Y, epochs=3, batch_size=6, eta=1.0, shuffle=False)
    wider.fit(np.hstack([X, np.zeros((20, 1))]), Y, epochs=3, batch_size=6, eta=1.0, shuffle=False)
    assert_close([wider.weights[0][:, :6], wider.weights[1]], net.weights, 1e-10)
    assert (wider.weights[0][:, 6] == 0.7).all()


# --- a mini-batch is a sum ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", COSTS)
@settings(max_examples=25, deadline=None)
@given(shape=shapes)
def test_a_batch_is_the_sum_of_its_examples(cost: str, shape: tuple[list[int], int, int]) -> None:
    sizes, n, seed = shape
    for engine in ENGINES:
        net, X, Y = problem(sizes, n, engine, cost, seed)
        whole = net.backprop(X.T, Y.T)
        parts = [net.backprop(x[:, np.newaxis], y[:, np.newaxis]) for x, y in zip(X, Y, strict=True)]
        for group, given_parts in zip(whole, zip(*parts, strict=True), strict=True):
            for nabla, *singles in zip(group, *given_parts, strict=True):
                scale = max(np.abs(single).max() for single in singles)
                assert np.abs(nabla - sum(singles)).max() <= 1e-12 * n * max(scale, 1e-12)


@settings(max_examples=25, deadline=None)
@given(shape=shapes, times=st.integers(2, 4))
def test_a_batch_given_several_times_takes_the_same_step(shape: tuple[list[int], int, int], times: int) -> None:
    sizes, n, seed = shape
    for engine in ENGINES:
        net, X, Y = problem(sizes, n, engine, seed=seed)
        repeated = one_step(twin(net), np.tile(X, (times, 1)), np.tile(Y, (times, 1)))
        assert_close(repeated, one_step(net, X, Y), 1e-9)


@settings(max_examples=25, deadline=None)
@given(shape=shapes)
def test_the_order_within_a_batch_does_not_matter(shape: tuple[list[int], int, int]) -> None:
    sizes, n, seed = shape
    order = np.random.default_rng(seed).permutation(n)
    for engine in ENGINES:
        net, X, Y = problem(sizes, n, engine, seed=seed)
        assert_close(one_step(twin(net), X[order], Y[order]), one_step(net, X, Y), 1e-9)


@pytest.mark.parametrize("n", [1, 4, 5, 6, 10, 11, 14])
def test_the_last_partial_batch_is_a_batch_of_its_own_length(engine: str, n: int) -> None:
    """Batches of five, the last one shorter: the same as that many separate steps, each divided by its own length."""
    net, X, Y = problem([6, 4, 3], n, engine)
    other = twin(net)
    net.fit(X, Y, epochs=1, batch_size=5, eta=0.7, shuffle=False)
    for start in range(0, n, 5):
        one_step(other, X[start : start + 5], Y[start : start + 5], eta=0.7)
    assert_close([*net.biases, *net.weights], [*other.biases, *other.weights], 1e-12)


@pytest.mark.parametrize("n", [1, 6, 11])
@pytest.mark.parametrize("optimizer", [fastbp.SGD(0.7, momentum=0.5), fastbp.Adam(0.05)])
def test_a_last_batch_of_one_is_a_batch_of_five_copies(engine: str, n: int, optimizer: Any) -> None:
    """For an optimizer that remembers: the copies leave the mean of the gradient as it is."""
    net, X, Y = problem([6, 4, 3], n, engine)
    other, rows = twin(net), [*range(n), n - 1, n - 1, n - 1, n - 1]
    net.fit(X, Y, epochs=1, batch_size=5, optimizer=optimizer, shuffle=False)
    other.fit(X[rows], Y[rows], epochs=1, batch_size=5, optimizer=optimizer, shuffle=False)
    assert_close([*net.biases, *net.weights], [*other.biases, *other.weights], 1e-9)


def test_an_example_that_is_right_already_pulls_at_nothing(engine: str) -> None:
    net, X, Y = problem([6, 4, 3], 4, engine)
    Y[2] = net.outputs(X)[2]
    kept = [0, 1, 3]
    full, without = net.backprop(X.T, Y.T), net.backprop(X[kept].T, Y[kept].T)
    for ours, theirs in zip(full, without, strict=True):
        assert_close(ours, theirs, 1e-12)


def test_one_step_is_proportional_to_eta(engine: str) -> None:
    net, X, Y = problem([6, 4, 3], 9, engine)
    small, large = one_step(twin(net), X, Y, eta=0.25), one_step(net, X, Y, eta=2.0)
    assert_close(large, [8 * change for change in small], 1e-9)


def test_a_step_goes_downhill(engine: str) -> None:
    for cost in COSTS:
        net, X, Y = problem([6, 4, 3], 9, engine, cost)
        options: dict[str, Any] = {"epochs": 1, "batch_size": 9, "validation_data": (X, Y)}
        before = twin(net).fit(X, Y, eta=1e-12, **options)["validation_cost"][0]
        assert net.fit(X, Y, eta=0.01, **options)["validation_cost"][0] < before


# --- where a run is cut does not matter ---------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 1e-4, 1e9])
@pytest.mark.parametrize("optimizer", [fastbp.SGD(1.0), fastbp.Adam(0.01)])
@pytest.mark.parametrize("zeros", [True, False])
def test_where_runs_end_changes_no_bit(
    engine: str, seconds: float, optimizer: Any, zeros: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, X, Y = problem([6, 4, 3], 50, engine)
    other, X = twin(net), X if zeros else X + 1
    net.fit(X, Y, epochs=2, batch_size=3, optimizer=optimizer, lmbda=3.0)
    monkeypatch.setattr(training, "RUN_SECONDS", seconds)
    other.fit(X, Y, epochs=2, batch_size=3, optimizer=optimizer, lmbda=3.0)
    for ours, theirs in zip((*net.biases, *net.weights), (*other.biases, *other.weights), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_epochs_in_one_call_or_in_many(engine: str) -> None:
    net, X, Y = problem([6, 4, 3], 23, engine)
    other = twin(net)
    net.fit(X, Y, epochs=4, batch_size=5, eta=1.0, lmbda=1.0, shuffle=False)
    for _ in range(4):
        other.fit(X, Y, epochs=1, batch_size=5, eta=1.0, lmbda=1.0, shuffle=False)
    assert_close([*net.biases, *net.weights], [*other.biases, *other.weights], 1e-12)


def test_rows_judged_together_or_alone(engine: str) -> None:
    """Blocks of a prediction: the same outputs to rounding, whatever else is asked in the same call."""
    net, X, _ = problem([6, 4, 3], 1500, engine)
    together = net.outputs(X)
    for rows in (slice(0, 1), slice(511, 513), slice(3, 1499)):
        np.testing.assert_allclose(net.outputs(X[rows]), together[rows], rtol=1e-13)
    for i in (0, 700, 1499):
        np.testing.assert_allclose(net.feedforward(X[[i]].T)[:, 0], together[i], rtol=1e-13)
