"""Three engines, one truth: the same mini-batches leave the same parameters behind, however they are run."""

import threading
from typing import Any, NamedTuple

import naive
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba.core.config import DISABLE_JIT
from scipy.sparse import csr_array

from fastbp import architecture, engines, parameters
from fastbp.activations import ACTIVATIONS
from fastbp.architecture import Architecture
from fastbp.data import Examples

HIDDEN = [name for name in ACTIVATIONS if name != "softmax"]
OTHERS = [(engine, dtype) for engine in engines.NAMES for dtype in ("float64", "float32")][1:]
# How far parameters may be from the float64 reference's, in the largest norm of each layer.
SAME = {"float64": 1e-10, "float32": 1e-4}


class Job(NamedTuple):
    """A network to be, and what it is trained on."""

    built: Architecture
    net: naive.Net
    theta: np.ndarray
    X: np.ndarray
    Y: np.ndarray

    def engine(self, name: str, batch_size: int, X: Any = None) -> engines.Engine:
        dtype = self.built.dtype
        X = self.X.astype(dtype) if X is None else X
        return engines.create(name, self.built, self.theta.astype(dtype), Examples(X, self.Y.astype(dtype)), batch_size)


def job(
    sizes: tuple[int, ...] = (12, 7, 5, 3),
    activations: tuple[str, ...] = ("tanh", "softplus", "sigmoid"),
    cost: str = "quadratic",
    neurons: dict[tuple[int, int], str] | None = None,
    dtype: str = "float64",
    n: int = 23,
    density: float = 1.0,
    seed: int = 0,
) -> Job:
    net, rng = naive.Net(sizes, activations, cost, neurons), np.random.default_rng(seed)
    built = architecture.build(sizes, list(activations[:-1]), activations[-1], cost, neurons, dtype)
    scale = np.concatenate([np.full(n * (below + 1), below**-0.5) for below, n in zip(sizes, sizes[1:], strict=False)])
    theta = (scale * rng.normal(size=scale.size)).astype(np.float32).astype(float)
    X = rng.normal(size=(n, sizes[0])) * (rng.random((n, sizes[0])) < density)
    Y = rng.multinomial(64, [1 / sizes[-1]] * sizes[-1], size=n) / 64
    return Job(built, net, theta, X.astype(np.float32).astype(float), Y)


def steps(n: int, epochs: int, seed: int = 1) -> np.ndarray:
    """The order of n examples for some epochs, one after another."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(n) for _ in range(epochs)])


def trained(engine: engines.Engine, order: np.ndarray, eta: float, decay: float = 0.0) -> np.ndarray:
    engine.train(order, np.full(-(-len(order) // engine.batch_size), eta), decay)  # type: ignore[attr-defined]
    return engine.theta()


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", engines.NAMES)
def test_one_step_is_the_rule_of_the_book(engine: str) -> None:
    # w → (1 - ηλ/n) w - (η/m) Σ ∂C_x/∂w and b → b - (η/m) Σ ∂C_x/∂b, the last mini-batch by its own length
    this, eta, decay = job(), 0.5, 0.25
    order = np.array([3, 1, 4, 15, 9, 2, 6])
    got = trained(this.engine(engine, 5), order, eta, decay)
    theta = this.theta.copy()
    for rows in (order[:5], order[5:]):
        nabla = this.net.gradient(theta, this.X[rows], this.Y[rows])
        for (w, b), (nabla_w, nabla_b) in zip(this.net.layers(theta), this.net.layers(nabla), strict=True):
            w *= 1 - eta * decay
            w -= eta / len(rows) * nabla_w
            b -= eta / len(rows) * nabla_b
    assert naive.layer_error(this.net, got, theta) < 1e-12


KINDS: dict[str, dict[str, Any]] = {
    "the book's": {"activations": ("sigmoid", "sigmoid", "sigmoid")},
    "no hidden layer": {"sizes": (12, 3), "activations": ("tanh",)},
    "cross-entropy": {"cost": "cross_entropy"},
    "softmax": {"activations": ("gelu", "silu", "softmax"), "cost": "log_likelihood"},
    "kinks": {"activations": ("relu", "leaky_relu", "identity")},
    "changed": {"neurons": {(2, 6): "relu", (3, 0): "identity", (4, 1): "tanh"}},
}


@pytest.mark.parametrize("engine, dtype", OTHERS)
@pytest.mark.parametrize("density", [0.15, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_trajectories(kind: str, density: float, engine: str, dtype: str) -> None:
    # 23 examples in batches of 4: the last of each epoch holds 3
    this, eta, decay = job(density=density, **KINDS[kind]), 0.2, 0.05
    reference, other = this.engine("reference", 4), job(density=density, dtype=dtype, **KINDS[kind]).engine(engine, 4)
    for epoch in range(5):
        order = steps(23, 1, seed=epoch)
        wanted, got = trained(reference, order, eta, decay), trained(other, order, eta, decay)
        assert got.dtype == dtype
        assert naive.layer_error(this.net, got, wanted) < SAME[dtype]


@pytest.mark.parametrize("engine, dtype", OTHERS)
@pytest.mark.parametrize("density", [0.15, 1.0])
@pytest.mark.parametrize(
    "eta, decay, n_steps",
    [(0.1, 0.05, 600), (0.25, 1.0, 120), (0.5, 1.4, 60), (0.5, 2.0, 30), (0.5, 3.0, 30), (1e-3, 999.0, 200)],
)
def test_weight_decay(eta: float, decay: float, n_steps: int, density: float, engine: str, dtype: str) -> None:
    # Over compressed rows the decay of W² is one number, written out each time it has halved: about 4, 50 and 60
    # times here; at once where ηλ/n is 1 or more and the weights change sign; hundreds of times in the last.
    order = steps(23, -(-n_steps // 23))[:n_steps]
    this = job(density=density)
    wanted = trained(this.engine("reference", 1), order, eta, decay)
    got = trained(job(density=density, dtype=dtype).engine(engine, 1), order, eta, decay)
    assert naive.layer_error(this.net, got, wanted) < SAME[dtype]


@pytest.mark.parametrize("engine", engines.NAMES)
def test_each_step_has_its_own_size(engine: str) -> None:
    this, order = job(density=0.2), steps(23, 1)
    eta = np.array([0.5, 0.0, 2.0, 0.25, 1e-3])
    at_once, one_by_one = this.engine(engine, 5), this.engine(engine, 5)
    at_once.train(order, eta, 0.3)
    for i, step in enumerate(eta):
        trained(one_by_one, order[5 * i : 5 * i + 5], step, 0.3)
    np.testing.assert_array_equal(at_once.theta(), one_by_one.theta())
    reference = this.engine("reference", 5)
    reference.train(order, eta, 0.3)
    assert naive.layer_error(this.net, at_once.theta(), reference.theta()) < 1e-12


@pytest.mark.parametrize("engine", engines.NAMES)
def test_a_batch_may_be_longer_than_the_data(engine: str) -> None:
    # The fused engine once made room for no more rows than there were examples, and wrote past the end.
    this, order = job(n=3), np.array([0, 1, 2, 2, 2, 0, 1, 1])
    longer = Examples(this.X[order], this.Y[order])
    want = engines.create("reference", this.built, this.theta, longer, 8).gradient(np.arange(8))
    assert naive.layer_error(this.net, this.engine(engine, 8).gradient(order), want) < 1e-12


# --- what changes no bit ------------------------------------------------------------------------------------

BITS = [(engine, dtype, density) for engine, dtype in [("reference", "float64"), *OTHERS] for density in (0.2, 1.0)]


@pytest.mark.parametrize("engine, dtype, density", BITS)
def test_where_a_run_is_cut_changes_no_bit(engine: str, dtype: str, density: float) -> None:
    this, order = job(dtype=dtype, density=density), steps(23, 4)
    whole = trained(this.engine(engine, 4), order, 0.5, 0.3)
    for cuts in ([4], [12, 16, 60], list(range(4, 92, 4))):
        parts = this.engine(engine, 4)
        for part in np.split(order, cuts):
            trained(parts, part, 0.5, 0.3)
        np.testing.assert_array_equal(parts.theta(), whole)


@pytest.mark.parametrize("engine, dtype, density", BITS)
def test_a_saved_state_is_exact(engine: str, dtype: str, density: float) -> None:
    this, order = job(dtype=dtype, density=density), steps(23, 2)
    made = this.engine(engine, 4)
    before = trained(made, order[:12], 0.5, 0.3)
    state = made.save_state()
    after = trained(made, order[12:], 0.5, 0.3)
    assert not np.array_equal(before, after)
    for _ in range(2):  # what is restored stays good, whatever is trained on it
        made.restore_state(state)
        np.testing.assert_array_equal(made.theta(), before)
        np.testing.assert_array_equal(trained(made, order[12:], 0.5, 0.3), after)
    other = this.engine(engine, 4)
    other.restore_state(state)
    np.testing.assert_array_equal(trained(other, order[12:], 0.5, 0.3), after)


@pytest.mark.parametrize("engine, dtype, density", BITS)
def test_looking_changes_no_bit(engine: str, dtype: str, density: float) -> None:
    this, order = job(dtype=dtype, density=density), steps(23, 3)
    alone, watched = this.engine(engine, 4), this.engine(engine, 4)
    for part in np.split(order, [24, 48]):
        trained(alone, part, 0.5, 0.3)
        trained(watched, part, 0.5, 0.3)
        watched.gradient(np.arange(4))
        watched.outputs(watched.prepare(Examples(this.X.astype(dtype))))
        watched.is_finite()
        watched.theta()[:] = np.nan  # a copy
        watched.save_state()
    np.testing.assert_array_equal(watched.theta(), alone.theta())


@pytest.mark.parametrize("engine, dtype, density", BITS)
def test_where_the_examples_stand_changes_no_bit(engine: str, dtype: str, density: float) -> None:
    this, order = job(dtype=dtype, density=density), steps(23, 2)
    place = np.random.default_rng(5).permutation(23)
    moved = this._replace(X=this.X[place], Y=this.Y[place])
    one = trained(this.engine(engine, 4), place[order], 0.5)
    np.testing.assert_array_equal(trained(moved.engine(engine, 4), order, 0.5), one)


@pytest.mark.parametrize("engine", engines.NAMES)
def test_what_is_given_is_left_alone(engine: str) -> None:
    this = job(density=0.2)
    X, Y, theta, order = this.X.copy(), this.Y.copy(), this.theta.copy(), steps(23, 2)
    for array in (X, Y, theta, order):
        array.flags.writeable = False  # a memory map, say
    made = engines.create(engine, this.built, theta, Examples(X, Y), 4)
    np.testing.assert_array_equal(trained(made, order, 0.5), trained(this.engine(engine, 4), order, 0.5))


@pytest.mark.parametrize("engine, dtype, density", BITS)
def test_other_threads_change_no_bit(engine: str, dtype: str, density: float) -> None:
    jobs = [job(dtype=dtype, density=density, seed=seed) for seed in range(4)]
    order = steps(23, 3)
    alone = [trained(this.engine(engine, 4), order, 0.5, 0.3) for this in jobs]
    together: list[Any] = [None] * len(jobs)

    def run(i: int) -> None:
        together[i] = trained(jobs[i].engine(engine, 4), order, 0.5, 0.3)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(together, alone)


# --- outputs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine, dtype", OTHERS)
@pytest.mark.parametrize("density", [0.15, 1.0])
def test_outputs(density: float, engine: str, dtype: str) -> None:
    # about the fused engine's blocks of 64 rows and the matrix engine's of 512; after training with decay, so that
    # over compressed rows W² is still a multiple of what is packed
    this = job(dtype=dtype, density=density)
    made = this.engine(engine, 4)
    theta = trained(made, steps(23, 1), 0.5, 0.1)
    for n in (1, 2, 64, 65) if DISABLE_JIT else (1, 2, 63, 64, 65, 130, 513):
        rng = np.random.default_rng(n)
        X = rng.normal(size=(n, 12)) * (rng.random((n, 12)) < rng.choice([0.1, 1.0]))
        X = X.astype(dtype)
        wanted = this.net.outputs(theta.astype(float), X.astype(float))
        for form in (X, X.astype(np.float32), csr_array(X)):
            got = made.outputs(made.prepare(Examples(form)))
            assert got.dtype == dtype and got.shape == (n, 3)
            tolerance = 1e-5 if form.dtype == np.float32 else 1e-13
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("engine", engines.NAMES)
def test_prepared_examples_serve_again(engine: str) -> None:
    this, order = job(), steps(23, 1)
    made = this.engine(engine, 4)
    prepared = made.prepare(Examples(this.X))
    for _ in range(3):
        theta = trained(made, order, 0.5)
        np.testing.assert_allclose(made.outputs(prepared), this.net.outputs(theta, this.X), rtol=1e-12)


# --- finite or not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine, dtype, density", BITS)
def test_is_finite(engine: str, dtype: str, density: float) -> None:
    this = job(dtype=dtype, density=density)
    made = this.engine(engine, 4)
    assert made.is_finite()
    state = made.save_state()
    with np.errstate(all="ignore"):
        trained(made, steps(23, 1), 1e30 if dtype == "float32" else 1e300, 1e10)
    assert not made.is_finite()
    made.restore_state(state)
    assert made.is_finite()
    for bad in (np.nan, np.inf):
        for at in (0, this.theta.size // 2, this.theta.size - 1):
            theta = this.theta.copy()
            theta[at] = bad
            assert not this._replace(theta=theta).engine(engine, 4).is_finite()


# --- Hypothesis ---------------------------------------------------------------------------------------------


@st.composite
def anything(draw: st.DrawFn) -> tuple[dict[str, Any], int, float, float]:
    """(arguments of `job`, batch size, eta, decay)."""
    sizes = tuple(draw(st.lists(st.integers(1, 40), min_size=2, max_size=5)))
    dtype = draw(st.sampled_from(["float64", "float32"]))
    # a float32 sum may fall on the other side of a kink than the float64 one that judges it
    names = HIDDEN if dtype == "float64" else list(naive.ANALYTIC)
    cost = draw(st.sampled_from(["quadratic", "cross_entropy", "log_likelihood"]))
    hidden = [draw(st.sampled_from(names)) for _ in sizes[1:-1]]
    output = {"cross_entropy": "sigmoid", "log_likelihood": "softmax"}.get(cost) or draw(st.sampled_from(names))
    neurons = {}
    for _ in range(draw(st.integers(0, 3))):
        l = draw(st.integers(2, len(sizes) if cost == "quadratic" else len(sizes) - 1)) if len(sizes) > 2 else 0
        if l:
            neurons[l, draw(st.integers(0, sizes[l - 1] - 1))] = draw(st.sampled_from(names))
    kind = {
        "sizes": sizes,
        "activations": (*hidden, output),
        "cost": cost,
        "neurons": neurons,
        "dtype": dtype,
        "n": draw(st.integers(1, 30)),
        "density": draw(st.sampled_from([0.0, 0.1, 0.3, 0.39, 0.41, 0.7, 1.0])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }
    return kind, draw(st.integers(1, 33)), draw(st.sampled_from([0.01, 0.1])), draw(st.sampled_from([0.0, 0.1, 5.0]))


def check_anything(case: tuple[dict[str, Any], int, float, float], limit: dict[str, float]) -> None:
    kind, batch_size, eta, decay = case
    judge, this = job(**kind | {"dtype": "float64"}), job(**kind)
    n, dtype = kind["n"], kind["dtype"]
    reference = judge.engine("reference", batch_size)
    rows, order = np.arange(min(batch_size, n)), steps(n, 1)[: 6 * batch_size]
    # cancellation among the examples is no fault of an engine: errors are judged by what was added up
    each = sum(np.abs(reference.gradient(rows[i : i + 1])) for i in rows)
    gradient, theta = reference.gradient(rows), trained(reference, order, eta, decay)
    outputs = judge.net.outputs(theta, judge.X)
    sized = [np.abs(part).max() for part in judge.net.split(each)]
    for name in engines.NAMES:
        for X in (this.X.astype(dtype), csr_array(this.X.astype(dtype))):
            made = this.engine(name, batch_size, X)
            for got, wanted, size in zip(
                judge.net.split(made.gradient(rows)), judge.net.split(gradient), sized, strict=True
            ):
                assert np.abs(got - wanted).max() <= limit[dtype] * size + 1e-30
            assert naive.layer_error(judge.net, trained(made, order, eta, decay), theta) < limit[dtype]
            got = made.outputs(made.prepare(Examples(X)))
            assert np.abs(got - outputs).max() <= 10 * limit[dtype] * (1 + np.abs(outputs).max())


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@settings(max_examples=25 if DISABLE_JIT else 100, derandomize=True, **QUIET)
@given(case=anything())
def test_any_network(case: tuple[dict[str, Any], int, float, float]) -> None:
    check_anything(case, SAME)


@pytest.mark.slow
@settings(max_examples=1500, **QUIET)
@given(case=anything())
def test_any_network_at_length(case: tuple[dict[str, Any], int, float, float]) -> None:
    check_anything(case, SAME | {"float32": 1e-3})


@pytest.mark.parametrize("engine", engines.NAMES)
def test_theta_is_laid_out_as_parameters_says(engine: str) -> None:
    this = job()
    np.testing.assert_array_equal(this.engine(engine, 4).theta(), this.theta)
    biases, weights = parameters.views(this.built.sizes, this.theta)
    for (w, b), v, c in zip(this.net.layers(this.theta), weights, biases, strict=True):
        np.testing.assert_array_equal(w, v)
        np.testing.assert_array_equal(b[:, np.newaxis], c)
