"""Diagnostics: the gradient check finds what is wrong and nothing else, per-example gradients sum to backprop's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastbp
from fastbp import diagnostics
from fastbp.activations import ACTIVATIONS
from fastbp.book import network2
from fastbp.engines import reference

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 5))
Y = np.argmax(X[:, :3], axis=1)


def networks() -> list[fastbp.Network]:
    smooth = [name for name in ACTIVATIONS if name not in ("softmax", "relu", "leaky_relu")]
    return [
        *(fastbp.Network([5, 4, 3], hidden=name, seed=1) for name in smooth),
        fastbp.Network([5, 3], seed=1),
        fastbp.Network([5, 4, 6, 3], cost="cross_entropy", seed=1, dtype="float32"),
        fastbp.Network([5, 4, 3], output="softmax", cost="log_likelihood", seed=1, neurons={(2, 1): "tanh"}),
        fastbp.Network([5, 4, 3], hidden=(np.sin, np.cos), seed=1),
    ]


@pytest.mark.parametrize("net", networks(), ids=repr)
def test_right_gradients_pass(net: fastbp.Network) -> None:
    before = [array.copy() for array in (*net.biases, *net.weights)]
    check = diagnostics.check_gradients(net, X, Y)
    assert check.ok and check.worst < 1e-7, str(check)
    assert [(layer.layer, layer.what) for layer in check.layers] == [
        (l, what) for l in range(2, net.num_layers + 1) for what in "wb"
    ]
    for array, kept in zip((*net.biases, *net.weights), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_a_wrong_derivative_is_found_where_it_is() -> None:
    net = fastbp.Network([5, 4, 3], hidden=(np.sin, lambda z: 1.1 * np.cos(z)), seed=1)
    check = diagnostics.check_gradients(net, X, Y)
    wrong = {(layer.layer, layer.what) for layer in check.layers if layer.error > check.tolerance}
    assert wrong == {(2, "w"), (2, "b")} and not check.ok and check.worst == pytest.approx(0.1 / 1.1, rel=1e-4)
    text = str(check)
    assert "the gradients differ: worst relative error 9.1e-02" in text and "2  w" in text
    assert "the gradients agree" in str(diagnostics.check_gradients(fastbp.Network([5, 3], seed=1), X, Y))


def test_a_single_wrong_neuron_is_named() -> None:
    net = fastbp.Network([5, 4, 3], neurons={(2, 3): (np.tanh, np.tanh)}, seed=1)
    worst = max(diagnostics.check_gradients(net, X, Y).layers, key=lambda layer: layer.error)
    assert worst.layer == 2 and worst.entry[0] == 3


def test_a_derivative_that_is_nan_is_no_agreement() -> None:
    net = fastbp.Network([5, 4, 3], hidden=(np.sin, lambda z: np.full_like(z, np.nan)), seed=1)
    assert not diagnostics.check_gradients(net, X, Y).ok


def test_many_entries_are_sampled() -> None:
    net = fastbp.Network([200, 30, 3], seed=1)
    check = diagnostics.check_gradients(net, RNG.normal(size=(4, 200)), [0, 1, 2, 0], most=50)
    assert check.ok and [layer.entries for layer in check.layers] == [50, 30, 50, 3]


def test_a_cost_without_a_value_is_refused() -> None:
    class Own(fastbp.Network):
        def cost_derivative(self, output_activations: Any, y: Any) -> Any:
            return 2 * (output_activations - y)

    with pytest.raises(TypeError, match="no cost to take differences of; give it: cost=f"):
        diagnostics.check_gradients(Own([5, 3], seed=1), X, Y)
    with pytest.raises(TypeError, match="this one has the cost 'quadratic'"):
        diagnostics.check_gradients(fastbp.Network([5, 3], seed=1), X, Y, cost=lambda a, y: 0.0)


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "tanh"])
@pytest.mark.parametrize("factor, agrees", [(4.0, True), (3.0, False)])
def test_a_cost_derivative_is_checked_against_its_cost(output: str, factor: float, agrees: bool) -> None:
    class Fourth(fastbp.Network):
        def cost_derivative(self, output_activations: Any, y: Any) -> Any:
            return factor * (output_activations - y) ** 3

    def fourth(a: np.ndarray, y: np.ndarray) -> Any:
        assert a.shape == y.shape == (3, 1)
        return np.sum((a - y) ** 4)

    cost = "log_likelihood" if output == "softmax" else "quadratic"
    net = Fourth([5, 4, 3], output=output, cost=cost, seed=1, dtype="float32")
    check = diagnostics.check_gradients(net, X, Y, cost=fourth)
    assert check.ok is agrees and check.worst == pytest.approx(0.0 if agrees else 0.25, abs=1e-6)


@pytest.mark.parametrize("factor, agrees", [(4.0, True), (3.0, False)])
def test_a_cost_of_network2_is_checked(factor: float, agrees: bool) -> None:
    class Fourth:
        fn = staticmethod(lambda a, y: np.sum((a - y) ** 4))
        delta = staticmethod(lambda z, a, y: factor * (a - y) ** 3 * a * (1 - a))

    for cost in (Fourth, Fourth()):
        check = diagnostics.check_gradients(network2.Network([5, 4, 3], cost=cost, seed=1), X, Y)
        assert check.ok is agrees and {layer.error < 1e-6 for layer in check.layers} == {agrees}


# --- per-example gradients ----------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    m=st.integers(1, 7),
    seed=st.integers(0, 99),
    softmax=st.booleans(),
)
def test_each_example_s_gradient_is_the_reference_s(sizes: list[int], m: int, seed: int, softmax: bool) -> None:
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"output": "softmax", "cost": "log_likelihood"} if softmax else {"hidden": "tanh"}
    net = fastbp.Network(sizes, seed=seed, **options)
    inputs, targets = rng.normal(size=(m, sizes[0])), rng.random((m, sizes[-1]))
    targets /= targets.sum(axis=1, keepdims=True)
    nabla_b, nabla_w = diagnostics.example_gradients(net, inputs, targets)
    norms = diagnostics.example_gradient_norms(net, inputs, targets)
    by_layer = diagnostics.example_gradient_norms(net, inputs, targets, by_layer=True)
    assert norms.shape == (m,) and by_layer.shape == (m, len(sizes) - 1)
    for i in range(m):
        column, target = inputs[i].reshape(-1, 1), targets[i].reshape(-1, 1)
        own_b, own_w = reference.backprop(net.architecture, net.biases, net.weights, column, target)
        for l, (b, w) in enumerate(zip(own_b, own_w, strict=True)):
            np.testing.assert_allclose(nabla_b[l][i], b[:, 0], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(nabla_w[l][i], w, rtol=1e-9, atol=1e-12)
            norm = np.sqrt(np.sum(b**2) + np.sum(w**2))
            np.testing.assert_allclose(by_layer[i, l], norm, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(norms[i], np.sqrt(np.sum(by_layer[i] ** 2)), rtol=1e-9)
    summed = net.backprop(inputs.T, targets.T)
    for own, whole in zip((*nabla_b, *nabla_w), (*summed[0], *summed[1]), strict=True):
        np.testing.assert_allclose(own.sum(axis=0).reshape(whole.shape), whole, rtol=1e-9, atol=1e-12)


def test_labels_of_every_kind_are_read_as_fit_does() -> None:
    names = np.array(["ant", "bee", "cat"])
    net = fastbp.Network([5, 3], seed=1)
    expected = diagnostics.example_gradient_norms(net, X, np.eye(3)[Y])
    np.testing.assert_array_equal(diagnostics.example_gradient_norms(net, X, Y), expected)
    net.fit(X, names[Y], epochs=0, eta=1.0)
    np.testing.assert_array_equal(diagnostics.example_gradient_norms(net, X, names[Y]), expected)
    from scipy import sparse

    np.testing.assert_array_equal(diagnostics.example_gradient_norms(net, sparse.csr_array(X), names[Y]), expected)
    with pytest.raises(ValueError, match="network takes 5 features"):
        diagnostics.example_gradient_norms(net, X[:, :4], names[Y])


# --- layers -------------------------------------------------------------------------------------------------


def test_the_report_of_layers() -> None:
    net = fastbp.Network([5, 4, 3], output="softmax", cost="log_likelihood", seed=1)
    report = diagnostics.layer_report(net, X, Y)
    nabla_b, nabla_w = net.backprop(X.T, np.eye(3)[Y].T)
    for layer, b, w in zip(report.layers, nabla_b, nabla_w, strict=True):
        assert layer.bias_gradient_norm == pytest.approx(np.linalg.norm(b) / 12)
        assert layer.gradient_norm == pytest.approx(np.sqrt(np.sum(b**2) + np.sum(w**2)) / 12)
    assert [layer.activation for layer in report.layers] == ["sigmoid", "softmax"]
    assert np.isnan(report.layers[1].saturation)
    assert len(str(report).splitlines()) == 3 and "saturation_3" not in report.record()


@pytest.mark.parametrize(
    ("name", "z", "expected"),
    [
        ("sigmoid", [0.0, 4.0, 4.5, -4.5], [0, 0, 1, 1]),  # σ' is 5 % of 1/4 at z = 4.36
        ("tanh", [0.0, 2.0, 2.3, -2.3], [0, 0, 1, 1]),  # and of 1 at z = 2.18
        ("relu", [-1.0, 1.0, 0.0, 3.0], [1, 0, 1, 0]),
        ("identity", [9.0, -9.0, 0.0, 1e6], [0, 0, 0, 0]),
    ],
)
def test_saturation(name: str, z: list[float], expected: list[int]) -> None:
    net = fastbp.Network([1, 1, 1], hidden=name, seed=1)
    net.weights[0][...], net.biases[0][...] = 1, 0
    found = [diagnostics.layer_report(net, [[value]], [0]).layers[0].saturation for value in z]
    assert found == expected


def test_deep_sigmoids_learn_slowly_below() -> None:
    """The vanishing gradient of the book's chapter 5."""
    net = fastbp.Network([5, 6, 6, 6, 6, 3], initializer="scaled", seed=1)
    norms = [layer.bias_gradient_norm for layer in diagnostics.layer_report(net, X, Y).layers]
    assert norms == sorted(norms) and norms[0] < 0.1 * norms[-1]
