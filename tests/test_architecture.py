"""What a network may be, and the words of each refusal: the thing, what came, what to do."""

import os
import re
from typing import Any

import numpy as np
import pytest

from fastbp import Network, memory
from fastbp.activations import ACTIVATIONS
from fastbp.architecture import Architecture, build, check_batch, check_dtype, check_sizes, flops
from fastbp.costs import COSTS, as_cost

OWN = (np.sin, np.cos)


def built(sizes: Any = (4, 3, 2), **options: Any) -> Architecture:
    given = {"hidden": "sigmoid", "output": "sigmoid", "cost": "quadratic", "neurons": None, "dtype": "float64"}
    return build(sizes, **(given | options))


# --- what is taken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[784, 30, 10], (784, 10), np.array([3, 2, 1]), [np.int8(5), 1], range(3, 0, -1)])
def test_sizes(sizes: Any) -> None:
    checked = check_sizes(sizes)
    assert checked == tuple(sizes) and all(type(n) is int for n in checked)


@pytest.mark.parametrize("dtype", ["float64", "f8", float, np.float64, np.dtype(">f8"), "float32", "f4", np.float32])
def test_dtypes(dtype: Any) -> None:
    assert check_dtype(dtype) == np.dtype(dtype).newbyteorder("=")
    assert check_dtype(dtype).isnative


@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("cost", COSTS)
def test_every_pair_of_output_and_cost_is_taken_or_refused(output: str, cost: str) -> None:
    partners = {
        "quadratic": set(ACTIVATIONS) - {"softmax"},
        "cross_entropy": {"sigmoid"},
        "log_likelihood": {"softmax"},
    }
    if output in partners[cost]:
        assert as_cost(cost, ACTIVATIONS[output]) is COSTS[cost]
    else:
        with pytest.raises(ValueError, match=f"cost '{cost}' needs .* but output='{output}' .*; use "):
            as_cost(cost, ACTIVATIONS[output])


def test_hidden_layers_one_each_or_all_alike() -> None:
    sizes = (5, 4, 3, 2)
    assert [f.name for f in built(sizes, hidden="tanh").activations] == ["tanh", "tanh", "sigmoid"]
    assert [f.name for f in built(sizes, hidden=["relu", "gelu"]).activations] == ["relu", "gelu", "sigmoid"]
    own = built(sizes, hidden=OWN).activations
    assert own[0] == own[1] and own[0].f is np.sin and own[0].name == "sin"
    assert [f.name for f in built(sizes, hidden=[OWN, "tanh"]).activations] == ["sin", "tanh", "sigmoid"]
    assert built((5, 2), hidden=[]).activations == built((5, 2), hidden="relu").activations


def test_changed_neurons() -> None:
    this = built((4, 3, 2), neurons={(2, 0): "tanh", (2, np.int64(2)): OWN, (3, 1): "identity"})
    assert {key: f.name for key, f in this.neurons.items()} == {(2, 0): "tanh", (2, 2): "sin", (3, 1): "identity"}
    assert [j for j, _ in this.changed_in(2)] == [0, 2] and this.changed_in(4) == []
    assert built(neurons={}).neurons == built(neurons=None).neurons == {}


def test_compilable() -> None:
    assert built().compilable and built(neurons={(2, 0): "tanh"}).compilable
    assert not built(hidden=OWN).compilable
    assert not built(output=OWN).compilable
    assert not built(neurons={(3, 0): OWN}).compilable


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_f_and_f_prime_of_a_layer(dtype: str) -> None:
    this, z = built(hidden="tanh", neurons={(2, 1): "relu", (3, 0): OWN}, dtype=dtype), np.array([[-1, -2, 3]], dtype)
    np.testing.assert_allclose(this.f(2, z), [[np.tanh(-1), 0, np.tanh(3)]], rtol=1e-6)
    np.testing.assert_allclose(this.f_prime(2, z), [[1 - np.tanh(1) ** 2, 0, 1 - np.tanh(3) ** 2]], rtol=1e-5)
    np.testing.assert_allclose(this.f(3, z[:, :2])[:, 0], np.sin(-1), rtol=1e-6)
    np.testing.assert_allclose(this.f_prime(3, z[:, :2])[:, 0], np.cos(-1), rtol=1e-6)
    assert {a.dtype for a in (this.f(2, z), this.f_prime(2, z), this.f(3, z[:, :2]))} == {np.dtype(dtype)}
    np.testing.assert_array_equal(z, [[-1, -2, 3]])


def test_an_architecture_is_never_changed() -> None:
    with pytest.raises(AttributeError):
        built().sizes = (1, 2)  # type: ignore[misc]


def test_flops_are_counted_in_python_s_integers() -> None:
    assert flops((10**7, 10**7), 10**7) == 4 * 10**21


# --- what is refused ----------------------------------------------------------------------------------------

OWN_SIGMOID = (lambda z: 1 / (1 + np.exp(-3 * z)), np.cos)
OWN_SIGMOID[0].__name__ = "sigmoid"

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    # sizes
    ({"sizes": 5}, TypeError, "sizes must be whole numbers, one a layer, for example [784, 30, 10]; got 5"),
    ({"sizes": "ab"}, TypeError, "sizes must be whole numbers, one a layer, for example [784, 30, 10]; got 'ab'"),
    ({"sizes": [3, 2.0]}, TypeError, "sizes must be whole numbers, one a layer, for example [784, 30, 10]; got [3, 2."),
    ({"sizes": [3, None]}, TypeError, "sizes must be whole numbers"),
    ({"sizes": []}, ValueError, "sizes=[] needs at least two layers, an input and an output"),
    ({"sizes": [3]}, ValueError, "sizes=[3] needs at least two layers, an input and an output"),
    ({"sizes": [3, 0, 2]}, ValueError, "sizes=[3, 0, 2]: every layer needs at least one neuron"),
    ({"sizes": [3, -1]}, ValueError, "sizes=[3, -1]: every layer needs at least one neuron"),
    # activations
    (
        {"sizes": [4, 3, 3, 2], "hidden": ["relu"]},
        ValueError,
        "hidden has 1 activations, but sizes [4, 3, 3, 2] have 2 hidden layers; give one each, or a "
        "single name for all",
    ),
    ({"sizes": [4, 2], "hidden": ["relu"]}, ValueError, "hidden has 1 activations, but sizes [4, 2] have 0 hidden"),
    ({"hidden": "Relu"}, ValueError, "hidden='Relu' is no activation; choose one of sigmoid, tanh, relu, leaky_relu"),
    ({"hidden": ["swish"]}, ValueError, "hidden[0]='swish' is no activation; choose one of sigmoid"),
    ({"hidden": np.tanh}, TypeError, "hidden must be a name or a pair (f, f_prime) of functions, got <ufunc 'tanh'>"),
    ({"hidden": None}, TypeError, "hidden must be a name or a pair (f, f_prime) of functions, got None"),
    ({"hidden": ("relu", "tanh")}, TypeError, "hidden must be a name or a pair (f, f_prime) of functions, got ('relu'"),
    (
        {"hidden": "softmax"},
        ValueError,
        "softmax couples the neurons of a layer and can only be the output; choose another hidden=",
    ),
    ({"output": "logits"}, ValueError, "output='logits' is no activation; choose one of sigmoid"),
    ({"output": ["sigmoid"]}, TypeError, "output must be a name or a pair (f, f_prime) of functions, got ['sigmoid']"),
    # costs
    ({"cost": "mse"}, ValueError, "cost='mse' is no cost; choose one of quadratic, cross_entropy, log_likelihood"),
    ({"cost": None}, ValueError, "cost=None is no cost; choose one of quadratic"),
    (
        {"output": "softmax"},
        ValueError,
        "cost 'quadratic' needs an elementwise output, but output='softmax' couples the outputs; "
        "use cost='log_likelihood'",
    ),
    (
        {"output": "tanh", "cost": "cross_entropy"},
        ValueError,
        "cost 'cross_entropy' needs output='sigmoid', whose values lie in (0, 1), but output='tanh' gives (-1, 1); "
        "use output='sigmoid'",
    ),
    (
        {"cost": "log_likelihood"},
        ValueError,
        "cost 'log_likelihood' needs output='softmax', whose values lie in (0, 1), but output='sigmoid' gives (0, 1); "
        "use output='softmax'",
    ),
    # A function of this name once passed for the sigmoid, and a - y for its error.
    (
        {"output": OWN_SIGMOID, "cost": "cross_entropy"},
        ValueError,
        "cost 'cross_entropy' needs output='sigmoid', whose values lie in (0, 1), but 'sigmoid' is a function of your "
        "own; use output='sigmoid'",
    ),
    # neurons
    ({"neurons": {3: "tanh"}}, TypeError, "neurons needs keys (l, j), layer and neuron, got 3"),
    ({"neurons": {(2, 1, 0): "tanh"}}, TypeError, "neurons needs keys (l, j), layer and neuron, got (2, 1, 0)"),
    ({"neurons": {(2, 1.0): "tanh"}}, TypeError, "neurons needs keys (l, j), layer and neuron, got (2, 1.0)"),
    ({"neurons": {"21": "tanh"}}, TypeError, "neurons needs keys (l, j), layer and neuron, got '21'"),
    ({"neurons": {(1, 0): "tanh"}}, ValueError, "neurons[(1, 0)]: layer 1 has no activation; layers go from 2 to L=3"),
    ({"neurons": {(4, 0): "tanh"}}, ValueError, "neurons[(4, 0)]: layer 4 has no activation; layers go from 2 to L=3"),
    ({"neurons": {(2, 3): "tanh"}}, ValueError, "neurons[(2, 3)]: layer 2 has neurons 0 to 2"),
    ({"neurons": {(3, -1): "tanh"}}, ValueError, "neurons[(3, -1)]: layer 3 has neurons 0 to 1"),
    ({"neurons": {(2, 0): "Tanh"}}, ValueError, "neurons[(2, 0)]='Tanh' is no activation; choose one of sigmoid"),
    ({"neurons": {(2, 0): np.sin}}, TypeError, "neurons[(2, 0)] must be a name or a pair (f, f_prime) of functions"),
    (
        {"neurons": {(2, 0): "softmax"}},
        ValueError,
        "neurons[(2, 0)]='softmax': softmax is a whole layer's function, not one neuron's",
    ),
    (
        {"cost": "cross_entropy", "neurons": {(3, 1): "tanh"}},
        ValueError,
        "neurons[(3, 1)] changes an output neuron, but cost 'cross_entropy' needs all outputs to be sigmoid; "
        "use cost='quadratic'",
    ),
    (
        {"cost": "cross_entropy", "neurons": {(3, 1): OWN_SIGMOID}},
        ValueError,
        "neurons[(3, 1)] changes an output neuron, but cost 'cross_entropy' needs all outputs to be sigmoid",
    ),
    (
        {"output": "softmax", "cost": "log_likelihood", "neurons": {(3, 0): "sigmoid"}},
        ValueError,
        "neurons[(3, 0)] changes an output neuron, but cost 'log_likelihood' needs all outputs to be softmax",
    ),
    # dtype
    ({"dtype": "float16"}, ValueError, "dtype must be 'float64' or 'float32', got 'float16'"),
    ({"dtype": int}, ValueError, "dtype must be 'float64' or 'float32', got int64"),
    ({"dtype": "double precision"}, ValueError, "dtype must be 'float64' or 'float32', got 'double precision'"),
    ({"dtype": complex}, ValueError, "dtype must be 'float64' or 'float32', got complex128"),
]


@pytest.mark.parametrize("options, error, message", REFUSED, ids=[re.sub(r"\W+", "-", m[:40]) for _, _, m in REFUSED])
def test_refusals(options: dict[str, Any], error: type[Exception], message: str) -> None:
    for make in (built, lambda sizes=(4, 3, 2), **options: Network(sizes, **options)):
        with pytest.raises(error, match=re.escape(message)):
            make(**options)


def test_sizes_beyond_the_machine_are_refused_before_any_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 8 * 2**30)
    assert check_sizes([32_000, 32_000]) == (32_000, 32_000)
    with pytest.raises(ValueError) as caught:
        check_sizes([10**6, 10**6])
    assert str(caught.value) == (
        "sizes=[1000000, 1000000] have 1,000,001,000,000 parameters, 7,629,402 MiB in float64, and this machine has "
        "8,192 MiB; use smaller layers"
    )
    with pytest.raises(
        ValueError, match=r"sizes=\[1000.*000\] have some 10\^(399|400) parameters, .*; use smaller layers"
    ):
        check_sizes([10**200, 10**200])  # no machine integer holds the product


def test_a_mini_batch_beyond_the_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 2**30)
    this = built((784, 30, 10))
    check_batch(this, 50_000)
    with pytest.raises(ValueError, match=r"a mini-batch of 100,000 examples takes 1,885 MiB .* this machine has 1,024"):
        check_batch(this, 100_000)


def test_memory_is_guessed_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**28 < memory.limit() < 2**48
    assert memory.gib() == pytest.approx(memory.limit() / 2**30, abs=0.05)

    def unknown(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert (memory.limit(), memory.gib()) == (2**48, None)
    monkeypatch.delattr(os, "sysconf")
    assert memory.limit() == 2**48
