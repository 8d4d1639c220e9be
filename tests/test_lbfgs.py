"""L-BFGS: the objective against finite differences, the minimum against closed forms, what it refuses."""

from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import LBFGS, EarlyStopping, architecture, parameters
from fastbp.data import Examples
from fastbp.lbfgs import Objective

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5))
Y = np.argmax(X[:, :3] + 0.3 * RNG.normal(size=(40, 3)), axis=1)


def test_the_objective_and_its_gradient() -> None:
    built = architecture.build([5, 4, 3], "tanh", "softmax", "log_likelihood", None, "float32")
    weights = RNG.random(40)
    objective = Objective(built, Examples(X, None, Y, weights), np.arange(5, 40), decay=0.1)
    theta = RNG.normal(size=parameters.count(built.sizes))
    _, gradient = objective(theta)
    for at in range(len(theta)):
        h = np.zeros_like(theta)
        h[at] = 1e-5
        assert gradient[at] == pytest.approx((objective(theta + h)[0] - objective(theta - h)[0]) / 2e-5, abs=1e-8)


def test_it_finds_the_least_squares_solution() -> None:
    target = X @ RNG.normal(size=(5, 2)) + 1 + 0.1 * RNG.normal(size=(40, 2))
    lmbda = 3.0
    net = fastbp.Network([5, 2], output="identity", seed=1)
    history = net.fit(X, target, epochs=200, optimizer=LBFGS(gradient_tolerance=1e-10, cost_tolerance=0), lmbda=lmbda)
    centred, mean = X - X.mean(axis=0), target - target.mean(axis=0)
    expected = np.linalg.solve(centred.T @ centred + lmbda * np.eye(5), centred.T @ mean).T  # ridge regression
    np.testing.assert_allclose(net.weights[0], expected, atol=1e-7)
    assert history.ended is not None and len(history) < 200
    assert history["objective"] == sorted(history["objective"], reverse=True)
    assert history.columns[:2] == ["epoch", "objective"] and history["epoch"] == list(range(len(history)))


def test_weights_count_as_copies_and_labels_may_be_smoothed() -> None:
    weights = np.tile([0, 1, 2, 1], 10)
    rows = np.repeat(np.arange(40), weights)
    options: dict[str, Any] = {"epochs": 300, "lmbda": 0.4, "optimizer": LBFGS(gradient_tolerance=1e-9)}
    nets = [fastbp.Network([5, 3], output="softmax", cost="log_likelihood", seed=1) for _ in range(2)]
    nets[0].fit(X, Y, sample_weight=weights, label_smoothing=0.1, **options)
    nets[1].fit(X[rows], Y[rows], label_smoothing=0.1, **options)
    np.testing.assert_allclose(nets[0].outputs(X), nets[1].outputs(X), atol=1e-4)


def test_scikit_learn_finds_the_same_minimum() -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    lmbda = 2.0
    net = fastbp.Network([5, 3], output="softmax", cost="log_likelihood", seed=1)
    net.fit(X, Y, epochs=500, optimizer=LBFGS(gradient_tolerance=1e-9, cost_tolerance=0), lmbda=lmbda)
    theirs = linear.LogisticRegression(C=1 / lmbda, tol=1e-9, max_iter=1000).fit(X, Y)
    np.testing.assert_allclose(net.outputs(X), theirs.predict_proba(X), atol=1e-5)


def test_everything_around_a_run_works() -> None:
    calls: list[str] = []

    class Notes(fastbp.Callback):
        def on_epoch_begin(self, network: Any, epoch: int) -> None:
            calls.append(f"begin {epoch}")

        def on_epoch_end(self, network: Any, record: dict) -> None:
            calls.append(f"end {record['epoch']}")
            assert record["validation_score"] == network.score(X[:10], Y[:10])

        def on_train_end(self, network: Any, history: Any) -> None:
            calls.append("over")

    net = fastbp.Network([5, 6, 3], dtype="float32", seed=1)
    rule = EarlyStopping("validation_cost", patience=2)
    history = net.fit(
        X, Y, epochs=60, optimizer=LBFGS(), validation_data=(X[:10], Y[:10]), early_stopping=rule,
        callbacks=[Notes()], monitor_training=True, monitor_layers=True,
    )  # fmt: skip
    assert calls[:4] == ["begin 0", "end 0", "begin 1", "end 1"] and calls[-1] == "over"
    assert history.ended in ("early stopping", "convergence") and net.weights[0].dtype == np.float32
    best = history.best_epoch
    assert best is not None and history["validation_cost"][best] == min(history["validation_cost"])
    assert str(history).splitlines()[0].split()[1] == "objective"
    few = fastbp.Network([5, 6, 3], seed=1)
    assert len(few.fit(X, Y, epochs=2, optimizer=LBFGS())) == 2
    none = fastbp.Network([5, 6, 3], seed=1)
    assert len(none.fit(X, Y, epochs=0, optimizer=LBFGS())) == 0


def test_a_plot_has_its_objective() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    history = fastbp.Network([5, 3], seed=1).fit(X, Y, epochs=5, optimizer=LBFGS())
    assert [axis.get_title() for axis in history.plot().axes] == ["cost minimised"]


def test_ctrl_c_leaves_the_last_iteration() -> None:
    class Stops(fastbp.Callback):
        def on_epoch_end(self, network: Any, record: dict) -> None:
            if record["epoch"] == 2:
                raise KeyboardInterrupt

    net, other = (fastbp.Network([5, 6, 3], seed=1) for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=60, optimizer=LBFGS(), callbacks=[Stops()])
    other.fit(X, Y, epochs=3, optimizer=LBFGS())
    np.testing.assert_array_equal(net._theta(), other._theta())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l1": 1.0}, "without l1"),
        ({"dropout": 0.5}, "without dropout"),
        ({"max_norm": 1.0}, "without max_norm"),
        ({"checkpoint": fastbp.Checkpoint("run")}, "without checkpoint"),
        ({"resume": "run"}, "without resume"),
        ({"eta": 0.1}, "give either eta="),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastbp.Network([5, 4, 3], seed=1).fit(X, Y, epochs=3, optimizer=LBFGS(), **options)


def test_more_refusals() -> None:
    class Clears(fastbp.Callback):
        def on_epoch_end(self, network: Any, record: dict) -> None:
            network.weights[0][...] = 0

    with pytest.raises(ValueError, match="a callback changed the parameters"):
        fastbp.Network([5, 3], seed=1).fit(X, Y, epochs=3, optimizer=LBFGS(), callbacks=[Clears()])
    with pytest.raises(ValueError, match="engine='fused' cannot"):
        fastbp.Network([5, 3], seed=1, engine="fused").fit(X, Y, epochs=3, optimizer=LBFGS())
    net = fastbp.Network([5, 3], output="identity", seed=1)
    net.weights[0][...] = 1e200
    with pytest.raises(fastbp.DivergenceError, match="infinite from the start"):
        net.fit(X, X[:, :3], epochs=3, optimizer=LBFGS())
    for make, error in (
        (lambda: LBFGS(0), ValueError),
        (lambda: LBFGS(1.5), TypeError),  # type: ignore[arg-type]
        (lambda: LBFGS(cost_tolerance=-1), ValueError),
    ):
        with pytest.raises(error):
            make()
