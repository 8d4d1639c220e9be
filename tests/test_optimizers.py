"""The optimizers: each engine against the plain rule, the plain rule against PyTorch's numbers, refusals."""

import numpy as np
import pytest
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import architecture, engines, optimizers, parameters
from fastbp.data import Examples
from fastbp.optimizers import SGD, SGDW, Adagrad, Adam, AdamW, Optimizer, RMSprop

RULES: list[Optimizer] = [
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.8, nesterov=True),
    SGDW(0.1, weight_decay=0.3),
    SGDW(0.1, momentum=0.9, weight_decay=0.1),
    SGDW(0.1, momentum=0.8, nesterov=True, weight_decay=0.2),
    Adagrad(0.05),
    RMSprop(0.01),
    Adam(0.01),
    AdamW(0.01, weight_decay=0.1),
]
IDS = ["momentum", "nesterov", "sgdw", "sgdw momentum", "sgdw nesterov", "adagrad", "rmsprop", "adam", "adamw"]


def job(dtype: str, density: float):
    rng = np.random.default_rng(3)
    built = architecture.build([12, 7, 5], "tanh", "softmax", "log_likelihood", None, dtype)
    theta = rng.normal(size=parameters.count(built.sizes)).astype(dtype)
    X = (rng.normal(size=(40, 12)) * (rng.random((40, 12)) < density)).astype(dtype)
    return built, theta, Examples(X, None, rng.integers(0, 5, 40)), rng.permutation(40)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 2e-4)])
def test_engines_agree(rule, density, dtype, tolerance):
    built, theta, examples, order = job(dtype, density)
    left = {}
    for name in engines.NAMES:
        engine = engines.create(name, built, theta, examples, 6, rule)
        for _ in range(5):
            engine.train(order, np.full(7, rule.eta), 0.01)
        left[name] = engine.theta()
        assert left[name].dtype == dtype
    assert np.max(np.abs(left["reference"] - theta)) > 0.01
    for name in ("matrix", "fused"):
        np.testing.assert_allclose(left[name], left["reference"], rtol=0, atol=tolerance * np.max(np.abs(theta)))


@pytest.mark.parametrize("rule", RULES, ids=IDS)
@pytest.mark.parametrize("name", engines.NAMES)
def test_runs_may_end_anywhere_and_states_come_back(rule, name):
    """Cutting a run, or going back to a saved state, changes no bit: the optimizer's memory is part of the state."""
    built, theta, examples, order = job("float64", 0.2)
    eta = np.full(7, rule.eta)
    whole, cut = (engines.create(name, built, theta, examples, 6, rule) for _ in range(2))
    whole.train(order, eta, 0.0)
    whole.train(order, eta, 0.0)
    cut.train(order[:18], eta[:3], 0.0)
    cut.train(order[18:], eta[3:], 0.0)
    state = cut.save_state()
    cut.train(order, 2 * eta, 0.5)
    cut.restore_state(state)
    cut.train(order, eta, 0.0)
    assert np.array_equal(whole.theta(), cut.theta())


@pytest.mark.parametrize("rule", [SGD(0.1, momentum=0.5), SGD(0.1, momentum=0.5, nesterov=True), Adam(0.1, beta1=0.5)])
@pytest.mark.parametrize("name", engines.NAMES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_average_that_fades_ends_at_zero(rule, name, dtype):
    """Half the smallest subnormal number is rounded to even, but 0.9 times it to itself: an average would never end.

    On those numbers Adam's sweep over S1 took twice as long, for the pixels that MNIST hardly ever has.
    """
    built = architecture.build([3, 2], "sigmoid", "sigmoid", "quadratic", None, dtype)
    X = np.zeros((2000, 3), dtype)
    X[:, 0], X[0, 1], X[0, 2] = 1, 1, 1e-20  # the second and third input are never seen again
    theta, examples = np.ones(8, dtype), Examples(X, None, np.zeros(2000, int))
    engine = engines.create(name, built, theta, examples, 1, rule)
    smallest = optimizers.FADED[dtype]
    for first in range(0, 2000, 100):
        engine.train(np.arange(first, first + 100), np.full(100, rule.eta), 0.0)
        averages = np.abs(engine.save_state()["first"])
        assert not np.any((averages > 0) & (averages < smallest))
    moved = engine.theta()[:6].reshape(2, 3)
    assert np.count_nonzero(averages) == 4  # two biases, and two weights of the first input
    assert np.all(moved[:, 1] != 1)


@pytest.mark.parametrize("name", engines.NAMES)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_does_not_fade(name):
    built, theta, examples, order = job("float64", 1.0)
    for rule in RULES:
        engine = engines.create(name, built, np.where(np.arange(len(theta)) == 3, np.nan, theta), examples, 6, rule)
        engine.train(order, np.full(7, rule.eta), 0.0)
        assert not engine.is_finite()


def scalar_trajectory(rule, start, slope, steps, l2=0.0):
    """The published formulas once more, for one parameter, in Python floats."""
    w, m, v, trail = start, 0.0, 0.0, []
    for t in range(1, steps + 1):
        g = slope(w) + l2 * w
        w *= 1 - rule.eta * getattr(rule, "weight_decay", 0.0)
        if isinstance(rule, SGD):
            m = rule.momentum * m + g
            w -= rule.eta * (g + rule.momentum * m if rule.nesterov else m)
        elif isinstance(rule, Adagrad):
            v += g * g
            w -= rule.eta * g / (v**0.5 + rule.epsilon)
        elif isinstance(rule, RMSprop):
            v = rule.rho * v + (1 - rule.rho) * g * g
            w -= rule.eta * g / (v**0.5 + rule.epsilon)
        else:
            m = rule.beta1 * m + (1 - rule.beta1) * g
            v = rule.beta2 * v + (1 - rule.beta2) * g * g
            w -= rule.eta * (m / (1 - rule.beta1**t)) / ((v / (1 - rule.beta2**t)) ** 0.5 + rule.epsilon)
        trail.append(w)
    return trail


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_the_published_formulas(rule):
    memory, theta, trail = rule.remember(1, np.dtype(float)), np.array([2.0]), []
    for _ in range(100):
        rule.step(theta, np.array([np.sin(theta[0])]), memory, rule.eta)
        trail.append(theta[0])
    np.testing.assert_allclose(trail, scalar_trajectory(rule, 2.0, np.sin, 100), rtol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
@pytest.mark.parametrize("decay", [0.0, 0.03])
@pytest.mark.parametrize("weighted", [False, True])
def test_trajectories_equal_torch(rule, decay, weighted):
    """100 steps of a small network in float64 against torch.optim, to 1e-6; skipped where torch is not installed.

    With mini-batches, the last of an epoch shorter, a step size that falls, λ/n and weights of the examples.
    """
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to compare with it")
    optim = torch.optim
    makers = {
        "SGD": lambda p: optim.SGD(p, rule.eta, momentum=rule.momentum, nesterov=rule.nesterov),
        "SGDW": lambda p: optim.SGD(p, rule.eta, momentum=rule.momentum, nesterov=rule.nesterov),
        "Adagrad": lambda p: optim.Adagrad(p, rule.eta),
        "RMSprop": lambda p: optim.RMSprop(p, rule.eta),
        "Adam": lambda p: optim.Adam(p, rule.eta),
        "AdamW": lambda p: optim.AdamW(p, rule.eta, weight_decay=rule.weight_decay),
    }
    built, theta, examples, _ = job("float64", 1.0)
    counts = np.random.default_rng(5).uniform(0, 2, 40) if weighted else np.ones(40)
    biases, weights = (
        [torch.tensor(p, requires_grad=True) for p in part] for part in parameters.views(built.sizes, theta.copy())
    )
    kind = type(rule).__name__
    in_the_cost = kind in ("AdamW", "SGDW")  # whose weight_decay is another; the others have λ/n under this name
    groups = [{"params": biases}, {"params": weights} | ({} if in_the_cost else {"weight_decay": decay})]
    theirs = makers[kind](groups)
    schedule = optim.lr_scheduler.ExponentialLR(theirs, 0.99)
    X, labels, times = (torch.tensor(given) for given in (examples.X, examples.labels, counts))
    order = np.array([np.random.default_rng(epoch).permutation(40) for epoch in range(20)])
    for rows in (epoch[first : first + 9] for epoch in order for first in range(0, 40, 9)):
        theirs.zero_grad()
        z = torch.tanh(X[rows] @ weights[0].T + biases[0].T) @ weights[1].T + biases[1].T
        costs = torch.nn.functional.cross_entropy(z, labels[rows], reduction="none")
        penalty = decay / 2 * sum((w**2).sum() for w in weights) if in_the_cost else 0
        (costs.dot(times[rows]) / len(rows) + penalty).backward()
        if kind == "SGDW":  # PyTorch has none
            with torch.no_grad():
                for p in (*biases, *weights):
                    p *= 1 - schedule.get_last_lr()[0] * rule.weight_decay
        theirs.step()
        schedule.step()
    for name in engines.NAMES:
        given = Examples(examples.X, None, examples.labels, counts if weighted else None)
        ours = engines.create(name, built, theta, given, 9, rule)
        for rows, etas in zip(order, rule.eta * 0.99 ** np.arange(100).reshape(20, 5), strict=True):
            ours.train(rows, etas, decay)
        got = parameters.views(built.sizes, ours.theta())
        for mine, other in zip((*got[0], *got[1]), (*biases, *weights), strict=True):
            np.testing.assert_allclose(mine, other.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("name", engines.NAMES)
def test_decoupled_decay_without_momentum_is_the_book_s_for_the_weights(name):
    X, y = np.random.default_rng(1).normal(size=(20, 6)), np.arange(20) % 3
    nets = [fastbp.Network([6, 4, 3], seed=2, engine=name) for _ in range(2)]
    nets[0].fit(X, y, epochs=1, batch_size=20, eta=0.5, lmbda=0.2 * 20)
    nets[1].fit(X, y, epochs=1, batch_size=20, optimizer=SGDW(0.5, weight_decay=0.2))
    fresh = fastbp.Network([6, 4, 3], seed=2)
    for l in range(2):
        np.testing.assert_allclose(nets[0].weights[l], nets[1].weights[l], rtol=1e-12)
        shrunk = nets[0].biases[l] - 0.5 * 0.2 * fresh.biases[l]
        np.testing.assert_allclose(nets[1].biases[l], shrunk, rtol=1e-12)


@pytest.mark.skipif(DISABLE_JIT, reason="too slow without compiled kernels")
@pytest.mark.parametrize("name", engines.NAMES)
def test_fit_takes_an_optimizer(name):
    digits = fastbp.datasets.load_digits()
    net = fastbp.Network(
        [64, 30, 10], output="softmax", cost="log_likelihood", initializer="glorot", seed=1, engine=name
    )
    held_out = digits.X_test, digits.y_test
    epochs = 3 if name == "reference" else 20
    history = net.fit(
        digits.X_train,
        digits.y_train,
        epochs=epochs,
        batch_size=32,
        optimizer=fastbp.Adam(0.01),
        validation_data=held_out,
    )
    assert history["validation_score"][-1] == net.score(*held_out)
    assert net.score(*held_out) >= (0.9 if name == "reference" else 0.95)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Adam(float("nan")), "eta must be a finite number"),
        (lambda: Adam("fast"), "eta must be a finite number"),  # type: ignore[arg-type]
        (lambda: Adam(0.1, beta1=1.0), "beta1 must lie in"),
        (lambda: RMSprop(0.1, rho=-0.1), "rho must lie in"),
        (lambda: Adagrad(0.1, epsilon=-1.0), "epsilon must not be negative"),
        (lambda: AdamW(0.1, weight_decay=-1.0), "weight_decay must not be negative"),
        (lambda: SGDW(0.1, weight_decay=float("nan")), "weight_decay must be a finite number"),
        (lambda: SGD(0.1, nesterov=True), "needs a momentum"),
        (lambda: SGDW(0.1, nesterov=True), "needs a momentum"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
