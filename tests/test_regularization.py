"""L1, max-norm, dropout, weights, label smoothing: finite differences, engines against each other, metamorphoses."""

import math
from typing import Any

import numpy as np
import pytest
from called import call
from naive_book import NaiveBook

import fastbp
from fastbp import architecture, dropout, engines, kernels, parameters
from fastbp.data import Examples
from fastbp.engines import fused
from fastbp.judging import Judge
from fastbp.optimizers import SGD, Adam, Optimizer
from fastbp.regularization import Regularization

ENGINES = engines.NAMES
RNG = np.random.default_rng(0)
N = 23


def inputs(n: int = N, n_in: int = 12, density: float = 1.0, dtype: Any = "float64") -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(n, n_in)) * (rng.random((n, n_in)) < density)).astype(dtype)


MAKES: dict[str, dict[str, Any]] = {
    "sigmoid": {},
    "tanh, softmax": {"hidden": "tanh", "output": "softmax", "cost": "log_likelihood"},
    "cross-entropy": {"cost": "cross_entropy", "hidden": ["silu", "sigmoid"]},
    "own neurons": {"hidden": "tanh", "neurons": {(2, 3): "sigmoid", (3, 1): "softplus", (4, 0): "identity"}},
}


def make(name: str, dtype: str = "float64") -> architecture.Architecture:
    given = {"hidden": "sigmoid", "output": "sigmoid", "cost": "quadratic", "neurons": None, **MAKES[name]}
    return architecture.build([12, 9, 7, 5], dtype=dtype, **given)


def start(built: architecture.Architecture) -> np.ndarray:
    return np.random.default_rng(2).normal(size=parameters.count(built.sizes)).astype(built.dtype)


OPTIONS: dict[str, tuple[Regularization, bool]] = {
    "weights": (Regularization(), True),
    "l1": (Regularization(l1=0.03), False),
    "max-norm": (Regularization(max_norm=1.7), False),
    "dropout": (Regularization(dropout=0.4, seed=7), False),
    "all": (Regularization(0.02, 2.0, 0.25, 2**63 + 5), True),
}


def examples(density: float, dtype: Any, weighted: bool) -> Examples:
    weights = np.random.default_rng(3).choice([0.0, 0.5, 1.0, 3.0], N) if weighted else None
    return Examples(inputs(density=density, dtype=dtype), None, np.arange(N) % 5, weights)


# --- the engines against each other -------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("rule", [SGD(0.3), SGD(0.1, momentum=0.9), Adam(0.01)], ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 2e-4)])
def test_engines_agree(option: str, rule: Optimizer, density: float, dtype: str, tolerance: float) -> None:
    given, weighted = OPTIONS[option]
    order, left = np.random.default_rng(4).permutation(N), {}
    for name in MAKES:
        built, made = make(name, dtype), examples(density, dtype, weighted)
        for engine_name in ENGINES:
            engine = engines.create(engine_name, built, start(built), made, 6, rule, given)
            for epoch in range(3):
                engine.train(order, np.full(4, float(rule.eta)), 0.01, 4 * epoch)  # type: ignore[arg-type]
            left[engine_name] = engine.theta()
            assert left[engine_name].dtype == dtype
        assert np.max(np.abs(left["reference"] - start(built))) > 0.01
        for other in ENGINES[1:]:
            np.testing.assert_allclose(left[other], left["reference"], rtol=0, atol=tolerance * 3)


@pytest.mark.parametrize("engine_name", ENGINES)
@pytest.mark.parametrize("option", OPTIONS)
def test_runs_may_end_anywhere_and_states_come_back(option: str, engine_name: str) -> None:
    given, weighted = OPTIONS[option]
    built, made, order = make("tanh, softmax"), examples(0.3, "float64", weighted), np.arange(N)
    whole, cut = (engines.create(engine_name, built, start(built), made, 6, SGD(0.3), given) for _ in range(2))
    eta = np.full(4, 0.3)
    whole.train(order, eta, 0.01, 8)
    cut.train(order[:12], eta[:2], 0.01, 8)
    state = cut.save_state()
    cut.train(order, eta, 0.5, 99)
    cut.restore_state(state)
    cut.train(order[12:], eta[2:], 0.01, 10)
    np.testing.assert_array_equal(whole.theta(), cut.theta())
    other = engines.create(engine_name, built, start(built), made, 6, SGD(0.3), Regularization(
        given.l1, given.max_norm, given.dropout, 1))  # fmt: skip
    other.restore_state(state)  # the seed of the masks is part of the state
    other.train(order[12:], eta[2:], 0.01, 10)
    np.testing.assert_array_equal(whole.theta(), other.theta())


# --- the step against finite differences of the cost --------------------------------------------------------


def cost_of(built: architecture.Architecture, theta: np.ndarray, X: Any, Y: Any, weights: Any, masks: Any) -> float:
    """(1/m) Σ w_x C_x with dropout's masks held fixed: the sum written out, no engine of ours."""
    biases, weights_of = parameters.views(built.sizes, theta)
    A = X
    for l, (b, w) in enumerate(zip(biases, weights_of, strict=True), start=2):
        Z = A @ w.T + b.T
        A = built.f(l, Z) * masks.get(l, 1.0)
    return float(np.mean(weights * built.cost.value(Z, A, Y)))


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("engine_name", ENGINES)
def test_a_step_is_along_the_gradient_of_the_weighted_cost_with_the_mask_fixed(name: str, engine_name: str) -> None:
    built, rows, step = make(name), np.array([3, 11, 4, 19, 7]), 5
    given = Regularization(dropout=0.3, seed=11)
    made = examples(1.0, "float64", weighted=True)
    Y = 0.9 * np.eye(5)[made.labels] + 0.02  # as label smoothing leaves them
    engine = engines.create(
        engine_name, built, start(built), Examples(made.X, Y, None, made.weights), 5, SGD(1.0), given
    )
    engine.train(rows, np.array([1.0]), 0.0, step)
    taken = start(built) - engine.theta()
    masks = dropout.masks(given, step, 5, built.sizes, built.dtype)
    assert made.weights is not None and all(0 < np.mean(mask == 0) < 1 for mask in masks.values())
    for at in range(0, len(taken), 3):
        above, below = start(built), start(built)
        above[at] += 1e-5
        below[at] -= 1e-5
        costs = [cost_of(built, theta, made.X[rows], Y[rows], made.weights[rows], masks) for theta in (above, below)]
        assert taken[at] == pytest.approx((costs[0] - costs[1]) / 2e-5, abs=2e-8)


@pytest.mark.parametrize("engine_name", ENGINES)
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_l1_is_the_book_s(engine_name: str, density: float) -> None:
    """w ← w - (ηλ/n) sgn(w) - (η/m) Σ ∂C/∂w, biases without (the book's chapter 3)."""
    X, y = inputs(density=density), np.arange(N) % 3
    eta, lmbda = 0.5, 0.7

    class Shrinking(NaiveBook):
        def update_mini_batch(self, mini_batch: list, eta: float) -> None:
            before = self.weights
            super().update_mini_batch(mini_batch, eta)
            self.weights = [w - eta * lmbda / N * np.sign(old) for w, old in zip(self.weights, before, strict=True)]

    np.random.seed(3)
    naive = Shrinking([12, 4, 3], lambda pairs: None)
    naive.SGD([(x[:, np.newaxis], np.eye(3)[:, [label]]) for x, label in zip(X, y, strict=True)], 3, 5, eta)
    np.random.seed(3)
    net = fastbp.Network([12, 4, 3], engine=engine_name)
    net.fit(X, y, epochs=3, batch_size=5, eta=eta, l1=lmbda, shuffle=False)
    for ours, theirs in zip((*net.biases, *net.weights), (*naive.biases, *naive.weights), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_l1_leaves_a_weight_of_zero_alone() -> None:
    for engine_name in ENGINES:
        net = fastbp.Network([2, 2], output="identity", seed=1, engine=engine_name)
        net.weights[0][...], net.biases[0][...] = [[0.0, 0.5], [-0.5, 0.0]], 0
        net.fit(np.zeros((4, 2)), np.zeros((4, 2)), epochs=1, batch_size=4, eta=1.0, l1=0.4)
        np.testing.assert_allclose(net.weights[0], [[0, 0.4], [-0.4, 0]])


@pytest.mark.parametrize("engine_name", ENGINES)
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_max_norm_is_a_projection_after_each_step(engine_name: str, density: float) -> None:
    X, y, c = inputs(density=density), np.arange(N) % 3, 1.5
    net, other = (fastbp.Network([12, 4, 3], seed=1, engine=engine_name) for _ in range(2))
    net.fit(X, y, epochs=2, batch_size=6, eta=2.0, lmbda=0.1, max_norm=c, shuffle=False)
    for _ in range(2):
        for first in range(0, N, 6):
            rows = slice(first, min(first + 6, N))
            m = rows.stop - first
            other.fit(X[rows], y[rows], epochs=1, batch_size=6, eta=2.0, lmbda=0.1 * m / N, shuffle=False)
            for w in other.weights:
                norms = np.linalg.norm(w, axis=1, keepdims=True)
                w *= np.where(norms > c, c / norms, 1)
    for ours, theirs in zip(net.weights, other.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    start_norms = np.linalg.norm(fastbp.Network([12, 4, 3], seed=1).weights[0], axis=1)
    assert start_norms.min() > c >= max(np.linalg.norm(w, axis=1).max() for w in net.weights) - 1e-9
    free, limited = (fastbp.Network([12, 4, 3], seed=1, engine=engine_name) for _ in range(2))
    free.fit(X, y, epochs=2, eta=1.0)
    limited.fit(X, y, epochs=2, eta=1.0, max_norm=1e9)
    np.testing.assert_allclose(free._theta(), limited._theta(), rtol=1e-12)


@pytest.mark.parametrize("engine_name", ENGINES)
def test_max_norm_leaves_zero_weights_and_divergence_is_seen(engine_name: str) -> None:
    net = fastbp.Network([2, 2], output="identity", seed=1, engine=engine_name)
    net.weights[0][...] = 0
    net.fit(np.zeros((4, 2)), np.zeros((4, 2)), epochs=1, eta=1.0, max_norm=1.0)
    assert not net.weights[0].any()
    with pytest.raises(fastbp.DivergenceError):
        net.fit(np.ones((4, 2)), np.ones((4, 2)), epochs=9, eta=1e200, max_norm=1e300)
    assert np.isfinite(net._theta()).all()


# --- weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine_name", ENGINES)
@pytest.mark.parametrize("name", MAKES)
def test_a_weight_of_two_is_the_example_twice_and_of_zero_none(engine_name: str, name: str) -> None:
    built, labels, X = make(name), np.arange(N) % 5, inputs()
    weights = RNG.integers(0, 3, N)
    once = engines.create(engine_name, built, start(built), Examples(X, None, labels, weights.astype(float)), N)
    rows = np.repeat(np.arange(N), weights)
    often = engines.create(engine_name, built, start(built), Examples(X[rows], None, labels[rows]), len(rows))
    np.testing.assert_allclose(
        once.gradient(np.arange(N)), often.gradient(np.arange(len(rows))), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("engine_name", ENGINES)
def test_weights_scale_the_step_and_ones_are_none(engine_name: str) -> None:
    X, y = inputs(), np.arange(N) % 3
    nets = [fastbp.Network([12, 4, 3], seed=1, engine=engine_name) for _ in range(4)]
    nets[0].fit(X, y, epochs=3, eta=1.0)
    nets[1].fit(X, y, epochs=3, eta=1.0, sample_weight=np.ones(N))
    nets[2].fit(X, y, epochs=3, eta=0.5, sample_weight=[2] * N)
    nets[3].fit(X, y, epochs=3, eta=1.0, class_weight={0: 1.0, 2: 1.0}, dropout=0.0, l1=0.0, label_smoothing=0.0)
    for net in nets[1:]:
        np.testing.assert_allclose(net._theta(), nets[0]._theta(), rtol=1e-11)


def test_class_weights_are_sample_weights_by_label() -> None:
    X, y = inputs(), np.array([0] * 15 + [1] * 6 + [2] * 2)
    names = np.array(["ant", "bee", "cat"])

    def trained(y: Any = y, **options: Any) -> np.ndarray:
        net = fastbp.Network([12, 4, 3], seed=1)
        net.fit(X, y, epochs=2, eta=1.0, **options)
        return net._theta()

    expected = trained(sample_weight=np.where(y == 1, 3.0, 1.0))
    np.testing.assert_array_equal(trained(class_weight={1: 3.0}), expected)
    np.testing.assert_array_equal(trained(names[y], class_weight={"bee": 3.0}), expected)
    balanced = N / (3 * np.bincount(y))  # scikit-learn's formula
    np.testing.assert_allclose(trained(class_weight="balanced"), trained(sample_weight=balanced[y]), rtol=1e-12)
    both = trained(sample_weight=np.arange(N), class_weight={2: 0.5})
    np.testing.assert_array_equal(both, trained(sample_weight=np.arange(N) * np.where(y == 2, 0.5, 1.0)))


def test_balanced_counts_like_scikit_learn() -> None:
    weights = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is not installed")
    from fastbp import targets

    y = np.array([0] * 15 + [1] * 6 + [3] * 2)
    ours = targets.weighted(Examples(inputs(), None, y), np.arange(4), None, "balanced").weights
    np.testing.assert_allclose(ours, weights.compute_sample_weight("balanced", y))


def test_one_output_has_class_weights_and_smoothing_too() -> None:
    X = inputs()
    y = (X[:, 0] > 0).astype(int)

    def trained(y: Any, **options: Any) -> fastbp.Network:
        net = fastbp.Network([12, 1], cost="cross_entropy", seed=1)
        net.fit(X, y, epochs=2, eta=1.0, **options)
        return net

    np.testing.assert_array_equal(
        trained(y, class_weight={1: 2.0})._theta(), trained(y, sample_weight=1.0 + y)._theta()
    )
    smoothed = trained(y, label_smoothing=0.2)
    np.testing.assert_allclose(smoothed._theta(), trained(0.8 * y + 0.1)._theta(), rtol=1e-12)
    assert smoothed.classes_ is not None


@pytest.mark.parametrize("engine_name", ENGINES)
def test_label_smoothing_is_training_on_soft_targets(engine_name: str) -> None:
    X, y = inputs(), np.arange(N) % 3
    options: dict[str, Any] = {"epochs": 3, "eta": 0.5, "validation_data": (X, np.arange(N) % 3)}
    nets = [
        fastbp.Network([12, 4, 3], output="softmax", cost="log_likelihood", seed=1, engine=engine_name)
        for _ in range(2)
    ]
    history = nets[0].fit(X, y, label_smoothing=0.3, monitor_training=True, **options)
    nets[1].fit(X, 0.7 * np.eye(3)[y] + 0.1, epochs=3, eta=0.5)
    np.testing.assert_allclose(nets[0]._theta(), nets[1]._theta(), rtol=1e-11)
    assert history["training_cost"] == history["validation_cost"]  # judged by the labels themselves
    assert nets[0].predict(X).tolist() == np.argmax(nets[0].outputs(X), axis=1).tolist()


def test_torch_smooths_and_weighs_alike() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to compare with it")
    X, y, weights = inputs(), np.arange(N) % 3, np.linspace(0, 2, N)
    net = fastbp.Network([12, 3], output="softmax", cost="log_likelihood", seed=1)
    w, b = (torch.tensor(p, requires_grad=True) for p in (net.weights[0].copy(), net.biases[0].copy()))
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")
    (loss(torch.tensor(X) @ w.T + b.T, torch.tensor(y)) * torch.tensor(weights)).mean().backward()
    net.fit(X, y, epochs=1, batch_size=N, eta=1.0, sample_weight=weights, label_smoothing=0.1)
    np.testing.assert_allclose(net.weights[0], (w - w.grad).detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(net.biases[0], (b - b.grad).detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("labels", [True, False])
def test_judges_weigh(labels: bool) -> None:
    """Costs by (1/n) Σ w C, scores as if each example were there w times."""
    built = architecture.build([12, 5], "sigmoid", "sigmoid", "quadratic", None, "float64")
    X, weights = inputs(), np.array([0, 1, 2, 3] * 5 + [1, 1, 1])
    rows = np.repeat(np.arange(N), weights)
    y = np.arange(N) % 5 if labels else RNG.random((N, 5))
    classes = np.arange(5) if labels else None
    Z = RNG.normal(size=(N, 5))
    cost, score = Judge.read(built, X, y, "data", classes, weights).judge(Z)
    cost_often, score_often = Judge.read(built, X[rows], y[rows], "data", classes).judge(Z[rows])
    assert cost == pytest.approx(cost_often * len(rows) / N) and score == pytest.approx(score_often)


def test_weights_of_held_out_data() -> None:
    X, y = inputs(), np.arange(N) % 3
    weights = np.linspace(0, 2, N)
    net = fastbp.Network([12, 3], seed=1)
    history = net.fit(
        X, y, epochs=1, eta=1.0, validation_data=(X, y, weights), sample_weight=weights, monitor_training=True
    )
    assert history["validation_cost"] == history["training_cost"]
    assert history["validation_score"][0] == pytest.approx(np.average(net.predict(X) == y, weights=weights))
    nothing = fastbp.Network([12, 3], seed=1).fit(X, y, epochs=1, eta=1.0, validation_data=(X, y))
    assert nothing["validation_cost"] != history["validation_cost"]


# --- dropout ------------------------------------------------------------------------------------------------


def test_masks_depend_on_seed_step_layer_row_and_unit_and_nothing_else() -> None:
    given, sizes = Regularization(dropout=0.5, seed=3), [9, 64, 64, 5]
    dtype = np.dtype("float64")

    def at(step: int = 0, m: int = 20, seed: int = 3) -> dict[int, np.ndarray]:
        return dropout.masks(Regularization(dropout=0.5, seed=seed), step, m, sizes, dtype)

    assert set(at()) == {2, 3}
    np.testing.assert_array_equal(at()[2], at()[2])
    np.testing.assert_array_equal(at(m=7)[2], at()[2][:7])
    for other in (at(step=1)[2], at(seed=4)[2], at()[3]):
        assert 0.4 < np.mean(other != at()[2]) < 0.6
    assert dropout.masks(Regularization(), 0, 5, sizes, dtype) == {}
    np.testing.assert_array_equal(
        dropout.keys(3, 5, 4, 4)[2], dropout.keys(given.seed, 7, 1, 4)[0]
    )  # the keys of a run of mini-batches are those of each


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [1, 7, 8, 16, 33, 100])
def test_the_kernel_drops_what_the_plain_twin_drops(dtype: str, n: int) -> None:
    """On blocks cut into panels, and in parts of rows or of panels."""
    built = architecture.build([3, n, 2], "sigmoid", "sigmoid", "quadratic", None, dtype)
    m, keys = 13, dropout.keys(9, 3, 2, 3)
    rules = kernels.Rules(0.0, np.inf, keys, dropout.threshold(0.3), 1 / 0.7)
    shape, work = fused.layout(built, m, dropping=True)
    panel, at = shape.panel, int(shape.layers[1, kernels.PASSED_AT])
    panels = int(shape.layers[1, kernels.PADDED]) // panel
    work[:] = 1
    for part in (
        kernels.Part(0, panels, 0, 5),
        kernels.Part(0, panels // 2, 5, m),
        kernels.Part(panels // 2, panels, 5, m),
    ):
        call.drop_units(shape, work, at, 1, m, part, rules, 1)
    block = work[at : at + m * panels * panel].reshape(panels, m, panel).transpose(1, 0, 2).reshape(m, -1)
    np.testing.assert_array_equal(block[:, :n], dropout.mask(keys[1, 1], m, n, 0.3, np.dtype(dtype)))
    assert (work[:at] == 1).all() and (work[at + m * panels * panel :] == 1).all()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_masks_drop_at_their_rate_without_a_pattern(rate: float) -> None:
    """By row, unit, step and layer: shares within five standard deviations, and no correlation between neighbours."""
    masks = np.stack([
        dropout.mask(dropout.keys(1, step, 1, 3)[0, 1], 32, 48, rate, np.dtype("float32")) for step in range(200)
    ])  # fmt: skip
    assert set(np.unique(masks)) == {np.float32(0), np.float32(1 / (1 - rate))}
    dropped = masks == 0
    deviation = math.sqrt(rate * (1 - rate))
    for axes, count in (((0, 1, 2), dropped.size), ((1, 2), 32 * 48), ((0, 2), 200 * 48), ((0, 1), 200 * 32)):
        assert np.max(np.abs(dropped.mean(axis=axes) - rate)) < 5 * deviation / math.sqrt(count)
    for axis in range(3):
        pairs = (
            np.take(dropped, range(1, n), axis) & np.take(dropped, range(n - 1), axis) for n in [dropped.shape[axis]]
        )
        together = next(pairs)
        assert abs(together.mean() - rate**2) < 6 * rate * deviation / math.sqrt(together.size) + 1e-4
    assert abs(masks.mean() - 1) < 5 * deviation / (1 - rate) / math.sqrt(masks.size)


def test_dropout_repeats_by_seed_and_leaves_predictions_whole() -> None:
    X, y = inputs(), np.arange(N) % 3
    for seed in (1, None):
        thetas = []
        for _ in range(2):
            np.random.seed(5)
            net = fastbp.Network([12, 9, 3], seed=seed)
            net.fit(X, y, epochs=3, eta=1.0, dropout=0.5)
            np.testing.assert_array_equal(net.outputs(X), net.outputs(X))
            thetas.append(net._theta())
        np.testing.assert_array_equal(*thetas)
    plain = fastbp.Network([12, 9, 3], seed=1)
    plain.fit(X, y, epochs=3, eta=1.0)
    assert not np.array_equal(plain._theta(), thetas[0])


def test_engines_drop_the_same_units_in_a_fit() -> None:
    X, y = inputs(200, density=0.3), np.arange(200) % 3
    options: dict[str, Any] = {"epochs": 4, "batch_size": 7, "dropout": 0.3, "l1": 0.1, "max_norm": 3.0}
    thetas = []
    for engine_name in ENGINES:
        net = fastbp.Network([12, 9, 6, 3], seed=1, engine=engine_name)
        net.fit(X, y, optimizer=Adam(0.01), sample_weight=np.linspace(0.5, 2, 200), label_smoothing=0.1, **options)
        thetas.append(net._theta())
    for theta in thetas[1:]:
        np.testing.assert_allclose(theta, thetas[0], atol=1e-9)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"l1": -1}, ValueError, "l1 must be a finite number ≥ 0"),
        ({"l1": "much"}, TypeError, "l1 must be a number, got 'much'"),
        ({"max_norm": 0}, ValueError, "max_norm must be greater than 0"),
        ({"dropout": 1}, ValueError, "dropout is a share, at least 0 and less than 1; got 1"),
        ({"label_smoothing": -0.1}, ValueError, "label_smoothing is a share"),
        ({"sample_weight": [1, 2]}, ValueError, r"sample_weight has shape \(2,\), but there are 23 examples"),
        ({"sample_weight": [-1] + 22 * [1]}, ValueError, r"sample_weight\[0\] is -1.0, but a weight is a finite"),
        ({"sample_weight": [math.nan] + 22 * [1]}, ValueError, r"sample_weight\[0\] is nan"),
        ({"sample_weight": 23 * [0]}, ValueError, "sample_weight is 0 for every example"),
        ({"sample_weight": 23 * ["a"]}, TypeError, "sample_weight holds"),
        ({"class_weight": {9: 2.0}}, ValueError, r"class_weight names 9, which is none of the labels \[0, 1, 2\]"),
        ({"class_weight": {0: -2.0}}, ValueError, r"class_weight\[0\] is -2.0"),
        ({"class_weight": "even"}, TypeError, "or 'balanced', got 'even'"),
        ({"class_weight": {0: 1.0}, "y": np.ones((N, 3)) / 3}, ValueError, "class_weight is for labels"),
        ({"label_smoothing": 0.1, "y": np.ones((N, 3)) / 3}, ValueError, "label_smoothing is for labels"),
        ({"validation_data": (inputs(), np.zeros(N, int), [1.0])}, ValueError, "validation_data: weights has shape"),
    ],
)  # fmt: skip
def test_refusals(options: dict, error: type[Exception], message: str) -> None:
    net = fastbp.Network([12, 4, 3], seed=1)
    before = net._theta()
    y = options.pop("y", np.arange(N) % 3) if "y" in options else np.arange(N) % 3
    with pytest.raises(error, match=message):
        net.fit(inputs(), y, epochs=1, eta=1.0, **options)
    np.testing.assert_array_equal(net._theta(), before)


def test_dropout_needs_a_hidden_layer() -> None:
    with pytest.raises(ValueError, match=r"dropout=0.5 leaves out hidden units, but the network has no hidden layer"):
        fastbp.Network([12, 3], seed=1).fit(inputs(), np.arange(N) % 3, epochs=1, eta=1.0, dropout=0.5)
