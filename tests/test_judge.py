"""How `fit` and `score` judge a network: the cost and the score of held-out examples."""

import io

import numpy as np
import pytest

import fastbp
from fastbp import progress
from fastbp.judging import Judge

X = np.random.default_rng(0).normal(size=(40, 3))
LABELS = np.arange(40) % 4
KINDS = {
    "quadratic": {},
    "cross_entropy": {"cost": "cross_entropy"},
    "log_likelihood": {"output": "softmax", "cost": "log_likelihood"},
    "changed neurons": {"hidden": "tanh", "neurons": {(2, 1): "relu", (3, 0): "identity"}},
}


def naive_cost(net: fastbp.Network, X: np.ndarray, labels: np.ndarray) -> float:
    """The mean of the book's formulas, from the outputs alone."""
    a, y = net.outputs(X), np.eye(net.sizes[-1])[labels]
    name = net.architecture.cost.name
    if name == "quadratic":
        return float(np.mean(0.5 * np.sum((a - y) ** 2, axis=1)))
    if name == "cross_entropy":
        return float(np.mean(-np.sum(y * np.log(a) + (1 - y) * np.log(1 - a), axis=1)))
    return float(np.mean(-np.sum(y * np.log(a), axis=1)))


@pytest.mark.parametrize("engine", ["reference", "matrix", "fused"])
@pytest.mark.parametrize("kind", KINDS)
def test_validation_cost_is_the_cost_of_the_epoch_s_parameters(kind: str, engine: str) -> None:
    net = fastbp.Network([3, 5, 4], seed=0, engine=engine, **KINDS[kind])
    naive, scores = [], []

    class Watch:
        def on_epoch_end(self, network: fastbp.Network, record: dict) -> None:
            naive.append(naive_cost(network, X[30:], LABELS[30:]))
            scores.append(network.score(X[30:], LABELS[30:]))

    history = net.fit(
        X[:30], LABELS[:30], epochs=3, eta=0.3, validation_data=(X[30:], LABELS[30:]), callbacks=[Watch()]
    )
    np.testing.assert_allclose(history["validation_cost"], naive, rtol=1e-10)
    assert history["validation_score"] == scores


def test_watching_changes_no_bit_of_the_training() -> None:
    thetas = []
    for validation in (None, (X, LABELS)):
        net = fastbp.Network([3, 5, 4], seed=1)
        net.fit(X, LABELS, epochs=2, eta=0.3, validation_data=validation)
        thetas.append(net._theta())
    np.testing.assert_array_equal(*thetas)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cost_of_a_saturated_output_is_finite_and_right(dtype: str) -> None:
    # From the outputs alone it would be infinite: σ(100) is 1 in float64 already, and ln(1 - 1) has no value.
    net = fastbp.Network([1, 1], cost="cross_entropy", dtype=dtype)
    net.weights, net.biases = [np.array([[100.0]])], [np.zeros((1, 1))]
    judge = Judge.read(net.architecture, [[1.0], [-1.0]], [0, 0], "data", net.classes_)
    assert judge.judge_network(net)[0] == 50.0


def test_a_cost_beyond_the_dtype_is_infinite_without_a_warning() -> None:
    net = fastbp.Network([1, 1], output="identity", dtype="float32")
    net.weights, net.biases = [np.array([[1e30]], np.float32)], [np.zeros((1, 1), np.float32)]
    assert Judge.read(net.architecture, [[1.0]], [0.5], "data", None).judge_network(net)[0] == np.inf


def test_labels_other_than_0_1_2_are_found_among_the_classes() -> None:
    # A model file may say that its outputs stand for 3, 5, 7, 9: then 3 is the first output, not the fourth.
    net = fastbp.Network([3, 4], seed=0)
    net.fit(X, LABELS, epochs=20, eta=1.0)
    expected = net.score(X, LABELS)
    net.classes_ = np.array([3, 5, 7, 9])
    assert net.score(X, 2 * LABELS + 3) == expected
    assert net.score(X, net.predict(X)) == 1.0
    with pytest.raises(ValueError, match=r"y\[1\] is 4, which is none of the classes \[3, 5, 7, 9\]"):
        net.score(X[:2], [3, 4])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("by_label", "shown"), [(True, "97.18 %"), (False, "R² 0.9718")])
def test_the_progress_bar_shows_epoch_and_score(monkeypatch: pytest.MonkeyPatch, by_label: bool, shown: str) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.bar(3, 100, by_label) as bar:
        bar.examples_done(100)
        bar.epoch_done({"epoch": 0, "validation_score": 0.9718})
        bar.examples_done(50)
    text = terminal.getvalue()
    assert "epoch 2/3" in text and shown in text and "━" in text


def test_the_progress_bar_says_when_the_compiler_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.bar(3, 100):
        pass
    assert "starting" in terminal.getvalue()
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    with progress.bar(3, 100):
        pass
    assert "compiling (first time only)" in terminal.getvalue()
