"""BP1 to BP4 in every engine: against the slope of the cost itself, and against each other.

Two oracles. `naive.Net` knows the cost alone and takes its slope one parameter at a time, by complex step where all
functions are analytic and by central differences where there are kinks. The reference engine then judges the others
where that would take too long.
"""

from functools import cache
from typing import Any

import naive
import numpy as np
import pytest

import fastbp
from fastbp import architecture, engines
from fastbp.activations import ACTIVATIONS
from fastbp.architecture import Architecture
from fastbp.costs import COSTS
from fastbp.data import Examples

HIDDEN = [name for name in ACTIVATIONS if name != "softmax"]
OUTPUTS = [(name, "quadratic") for name in HIDDEN] + [("sigmoid", "cross_entropy"), ("softmax", "log_likelihood")]
# What an engine may differ from the true slope by, and from the reference, in the largest norm of each layer.
ANALYTIC, DIFFERENCES, SAME = 1e-10, 1e-6, {"float64": 1e-10, "float32": 1e-4}
PAIRS = [(engine, dtype) for engine in engines.NAMES for dtype in ("float64", "float32")]


def build(net: naive.Net, dtype: str = "float64") -> Architecture:
    *hidden, output = net.activations
    return architecture.build(net.sizes, list(hidden), output, net.cost, net.neurons, dtype)


def gradient(engine: str, net: naive.Net, dtype: str, theta: np.ndarray, examples: Examples) -> np.ndarray:
    """The engine's sum over all examples."""
    rows = np.arange(len(examples))
    made = engines.create(engine, build(net, dtype), theta.astype(dtype), examples, len(rows))
    got = made.gradient(rows)
    assert got.dtype == dtype and got.shape == theta.shape
    return got


def targets(net: naive.Net, m: int, rng: np.random.Generator) -> np.ndarray:
    """Rows the cost is meant for: numbers in (0, 1), or 64ths that sum to 1 (with softmax, δ = a - y needs that)."""
    if net.cost == "log_likelihood":
        return rng.multinomial(64, [1 / net.sizes[-1]] * net.sizes[-1], size=m) / 64
    return rng.uniform(0.05, 0.95, size=(m, net.sizes[-1]))


def problem(net: naive.Net, m: int, density: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(theta, X, Y), such that no neuron with a kink stands close to it. All exact in float32."""
    n_parameters = sum((below + 1) * n for below, n in zip(net.sizes, net.sizes[1:], strict=False))
    for attempt in range(100):
        rng = np.random.default_rng([seed, attempt])
        theta = rng.normal(scale=0.7, size=n_parameters).astype(np.float32).astype(float)
        X = rng.normal(size=(m, net.sizes[0])) * (rng.random((m, net.sizes[0])) < density)
        X, Y = X.astype(np.float32).astype(float), targets(net, m, rng).astype(np.float32).astype(float)
        if net.distance_to_kinks(theta, X) > 1e-3:
            return theta, X, Y
    raise AssertionError("no seed keeps clear of the kinks")


@cache
def every_combination(hidden: str, output: str, cost: str) -> tuple[naive.Net, Any, np.ndarray]:
    """A net of three layers of that kind, its problem, and the true gradient."""
    net = naive.Net((5, 4, 3, 3), (hidden, hidden, output), cost)
    theta, X, Y = problem(net, 5)
    return net, (theta, X, Y), net.gradient(theta, X, Y)


# --- against the slope of the cost --------------------------------------------------------------------------


@pytest.mark.parametrize("engine, dtype", PAIRS)
@pytest.mark.parametrize("output, cost", OUTPUTS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_combination(hidden: str, output: str, cost: str, engine: str, dtype: str) -> None:
    net, (theta, X, Y), truth = every_combination(hidden, output, cost)
    limit = ANALYTIC if net.analytic() else DIFFERENCES
    got = gradient(engine, net, dtype, theta, Examples(X.astype(dtype), Y.astype(dtype)))
    assert naive.layer_error(net, got, truth) < max(limit, SAME["float32"] if dtype == "float32" else 0)


@pytest.mark.parametrize("output, cost", [(name, cost) for name, cost in OUTPUTS if name not in naive.KINKED])
@pytest.mark.parametrize("hidden", naive.ANALYTIC)
def test_central_differences_agree_with_complex_steps(hidden: str, output: str, cost: str) -> None:
    # the judge of the kinked functions, judged where the other one can
    net, (theta, X, Y), truth = every_combination(hidden, output, cost)
    slope = np.empty_like(theta)
    for i in range(theta.size):
        step = np.zeros_like(theta)
        step[i] = 1e-5
        slope[i] = (net.total_cost(theta + step, X, Y) - net.total_cost(theta - step, X, Y)) / 2e-5
    assert naive.layer_error(net, slope, truth) < DIFFERENCES


CHANGED = [
    naive.Net((5, 4, 3, 3), ("sigmoid", "sigmoid", "sigmoid"), "quadratic", {(2, 1): "tanh"}),
    naive.Net((5, 4, 3, 3), ("tanh", "softplus", "sigmoid"), "quadratic", {(3, 0): "identity", (3, 2): "silu"}),
    naive.Net((5, 4, 3, 3), ("sigmoid", "gelu", "tanh"), "quadratic", {(4, 2): "softplus"}),
    naive.Net((5, 4, 3), ("silu", "identity"), "quadratic", {(2, 0): "gelu", (3, 1): "sigmoid", (2, 3): "tanh"}),
    naive.Net((5, 4, 3, 3), ("sigmoid", "tanh", "softmax"), "log_likelihood", {(2, 3): "softplus", (3, 1): "gelu"}),
    naive.Net((5, 4, 3), ("tanh", "sigmoid"), "cross_entropy", {(2, 2): "silu", (3, 0): "sigmoid"}),
    naive.Net((5, 4, 3), ("tanh", "relu"), "quadratic", {(2, 1): "leaky_relu", (3, 2): "identity", (3, 0): "tanh"}),
]


@pytest.mark.parametrize("engine, dtype", PAIRS)
@pytest.mark.parametrize("net", CHANGED, ids=[str(net.neurons) for net in CHANGED])
def test_changed_neurons(net: naive.Net, engine: str, dtype: str) -> None:
    theta, X, Y = problem(net, 5)
    truth = net.gradient(theta, X, Y)
    got = gradient(engine, net, dtype, theta, Examples(X, Y))
    limit = SAME["float32"] if dtype == "float32" else ANALYTIC if net.analytic() else DIFFERENCES
    assert naive.layer_error(net, got, truth) < limit


@pytest.mark.parametrize("engine", engines.NAMES)
@pytest.mark.parametrize("sizes", [(3, 1), (1, 1), (1, 1, 1), (4, 1, 5), (1, 9, 1), (17, 2), (9, 8, 8, 8, 4)])
def test_narrow_and_deep(sizes: tuple[int, ...], engine: str) -> None:
    net = naive.Net(sizes, ("tanh",) * (len(sizes) - 2) + ("sigmoid",), "cross_entropy")
    theta, X, Y = problem(net, 6)
    got = gradient(engine, net, "float64", theta, Examples(X, Y))
    assert naive.layer_error(net, got, net.gradient(theta, X, Y)) < ANALYTIC


@pytest.mark.parametrize("engine", engines.NAMES)
def test_labels_are_one_hot_targets(engine: str) -> None:
    net = naive.Net((5, 4, 3), ("tanh", "softmax"), "log_likelihood")
    theta, X, _ = problem(net, 6)
    labels = np.array([0, 2, 1, 1, 0, 2])
    truth = net.gradient(theta, X, np.eye(3)[labels])
    assert naive.layer_error(net, gradient(engine, net, "float64", theta, Examples(X, None, labels)), truth) < ANALYTIC


def test_own_functions() -> None:
    # Exercise 1 of the book with a function nobody declared, in a hidden layer, a hidden and an output neuron.
    own = (lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2)
    built = architecture.build([4, 3, 2], own, "sigmoid", "quadratic", {(2, 0): "tanh", (3, 1): own}, "float64")
    rng = np.random.default_rng(0)
    theta, X, Y = rng.normal(size=23), rng.normal(size=(5, 4)), rng.uniform(size=(5, 2))

    def cost(theta: np.ndarray) -> float:
        biases, weights = fastbp.parameters.views([4, 3, 2], theta)
        z = X @ weights[0].T + biases[0].T
        a = own[0](z)
        a[:, 0] = np.tanh(z[:, 0])
        z = a @ weights[1].T + biases[1].T
        a = naive.sigmoid(z)
        a[:, 1] = own[0](z[:, 1])
        return float(naive.COSTS["quadratic"](a, Y).sum())

    slope = [(cost(theta + step) - cost(theta - step)) / 2e-6 for step in 1e-6 * np.eye(theta.size)]
    for name in ("reference", "matrix"):
        got = engines.create(name, built, theta, Examples(X, Y), 5).gradient(np.arange(5))
        np.testing.assert_allclose(got, slope, atol=1e-8)


# --- the engines against the reference ----------------------------------------------------------------------

LARGER = {
    "sigmoid": naive.Net((40, 13, 5), ("sigmoid", "sigmoid"), "quadratic"),
    "deep": naive.Net((20, 9, 16, 7, 4), ("relu", "gelu", "leaky_relu", "softmax"), "log_likelihood"),
    "changed": naive.Net(
        (30, 11, 8, 6), ("softplus", "silu", "sigmoid"), "quadratic",
        {(2, 0): "relu", (2, 10): "tanh", (3, 7): "identity", (4, 0): "gelu", (4, 5): "leaky_relu"},
    ),
}  # fmt: skip


def forms(X: np.ndarray, dtype: str) -> dict[str, Any]:
    """The same inputs as the engines may meet them."""
    from scipy.sparse import csr_array

    return {
        "as it is": X.astype(dtype),
        "the other dtype": X.astype("float64" if dtype == "float32" else "float32"),
        "CSR": csr_array(X.astype(dtype)),
    }


@pytest.mark.parametrize("engine, dtype", PAIRS[1:])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.39, 0.41, 1.0])
@pytest.mark.parametrize("kind", LARGER)
def test_batch_sizes_and_densities(kind: str, density: float, engine: str, dtype: str) -> None:
    # Rows of an odd length, an empty one among them; below a density of 0.4 the fused engine compresses the rows.
    net = LARGER[kind]
    theta, X, Y = problem(net, 17, density, seed=3)
    if density < 1:
        X[4] = 0
    for m in (1, 2, 3, 4, 5, 6, 7, 10, 17):
        truth = gradient("reference", net, "float64", theta, Examples(X[:m], Y[:m]))
        for name, form in forms(X[:m], dtype).items():
            got = gradient(engine, net, dtype, theta, Examples(form, Y[:m].astype(dtype)))
            assert naive.layer_error(net, got, truth) < SAME[dtype], (m, name)


@pytest.mark.parametrize("engine", engines.NAMES)
def test_the_batch_is_the_sum_of_its_examples(engine: str) -> None:
    net = LARGER["deep"]
    theta, X, Y = problem(net, 9)
    made = engines.create(engine, build(net), theta, Examples(X, Y), 18)
    rows = np.arange(9)
    whole, parts = made.gradient(rows), sum(made.gradient(rows[i : i + 1]) for i in rows)
    assert naive.layer_error(net, parts, whole) < 1e-12
    assert naive.layer_error(net, made.gradient(np.tile(rows, 2)), 2 * whole) < 1e-12
    assert naive.layer_error(net, made.gradient(rows[::-1]), whole) < 1e-12


@pytest.mark.parametrize("engine", engines.NAMES)
def test_hidden_neurons_may_change_places(engine: str) -> None:
    net = naive.Net((6, 5, 4, 3), ("tanh", "gelu", "sigmoid"), "cross_entropy")
    theta, X, Y = problem(net, 7)
    order = np.array([3, 0, 4, 2, 1])
    other = np.concatenate(
        [
            part.ravel()
            for (w, b), rows, columns in zip(
                net.layers(theta), (order, np.arange(4), np.arange(3)), (np.arange(6), order, np.arange(4)), strict=True
            )
            for part in (w[rows][:, columns], b[rows])
        ]
    )
    before = gradient(engine, net, "float64", theta, Examples(X, Y))
    after = gradient(engine, net, "float64", other, Examples(X, Y))
    for (w, b), (v, c), rows, columns in zip(
        net.layers(before), net.layers(after), (order, slice(None), slice(None)),
        (slice(None), order, slice(None)), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(w[rows][:, columns], v, rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(b[rows], c, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("engine", ["auto", *engines.NAMES])
def test_backprop_of_columns_is_the_engine_s_sum(engine: str) -> None:
    net = naive.Net((6, 5, 3), ("tanh", "sigmoid"), "quadratic")
    theta, X, Y = problem(net, 7)
    network = fastbp.Network(net.sizes, hidden="tanh", engine=engine)
    network.biases, network.weights = fastbp.parameters.views(net.sizes, theta)
    nabla_b, nabla_w = network.backprop(X.T, Y.T)
    got = np.concatenate([part.ravel() for w, b in zip(nabla_w, nabla_b, strict=True) for part in (w, b)])
    assert naive.layer_error(net, got, net.gradient(theta, X, Y)) < ANALYTIC


# --- the costs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output, cost", OUTPUTS)
def test_cost_values_and_slopes(output: str, cost: str) -> None:
    declared, rng = COSTS[cost], np.random.default_rng(0)
    z = rng.normal(scale=3, size=(6, 4))
    Y = targets(naive.Net((1, 4), (output,), cost), 6, rng)
    a = naive.softmax(z) if output == "softmax" else naive.ELEMENTWISE[output](z)
    np.testing.assert_allclose(declared.value(z, a, Y), naive.COSTS[cost](a, Y), rtol=1e-12)
    by_a = np.empty_like(a)
    for j in range(4):
        step = np.zeros(4, complex)
        step[j] = 1e-40j
        by_a[:, j] = np.imag(naive.COSTS[cost](a + step, Y)) / 1e-40
    np.testing.assert_allclose(declared.derivative(a, Y), by_a, rtol=1e-10)
    # BP1: through σ', or through softmax's Jacobian, ∂C/∂a becomes the declared δ
    if output == "softmax":
        delta = a * (by_a - (by_a * a).sum(axis=1, keepdims=True))
    else:
        delta = by_a * ACTIVATIONS[output].f_prime(z)
    got = declared.delta(z, a, Y, ACTIVATIONS[output].f_prime)
    np.testing.assert_allclose(got, delta, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("cost", ["cross_entropy", "log_likelihood"])
def test_cost_of_saturated_outputs_is_finite_and_right(cost: str) -> None:
    # -ln σ(-1000) from a = 0 would be infinite, and 0·ln 0 not a number
    z, Y = np.array([[-1000.0, 500.0]]), np.array([[1.0, 0.0]])
    with np.errstate(all="raise", under="ignore"):
        assert COSTS[cost].value(z, None, Y)[0] == 1500
