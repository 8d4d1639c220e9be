"""Callbacks, logs, saved models, early stopping, the split, and what the History makes of it."""

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fastbp
from fastbp import Callback, CSVLog, EarlyStopping, JSONLog, ModelCheckpoint, data, splits


def examples(n: int = 60, n_in: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, n_in))
    return X, np.argmax(X[:, :3], axis=1)


def network(**options: Any) -> fastbp.Network:
    return fastbp.Network([5, 4, 3], seed=1, **options)


X, Y = examples()
HELD_OUT = (X[:20], Y[:20])


class Scores(Callback):
    """Writes scores of its own choosing over the validation's, so that a rule can be held to them."""

    def __init__(self, scores: list[float], monitor: str = "validation_score") -> None:
        self.scores, self.monitor, self.thetas = scores, monitor, []

    def on_epoch_end(self, network: Any, record: dict) -> None:
        record[self.monitor] = self.scores[record["epoch"]]
        self.thetas.append(network._theta())


# --- early stopping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "scores", "epochs", "best"),
    [
        (EarlyStopping(patience=2), [0.5, 0.6, 0.6, 0.55, 0.9], 4, 1),
        (EarlyStopping(patience=2), [0.5, 0.6, 0.5, 0.7, 0.5], 5, 3),
        (EarlyStopping(patience=1, minimum_delta=0.1), [0.5, 0.6, 0.7], 2, 0),
        (EarlyStopping("validation_cost", 1), [1.0, 0.9, float("nan"), 0.1], 3, 1),
        (EarlyStopping("eta", 2, mode="min"), [3.0, 4.0, 2.0, 2.0, 2.0, 2.0], 5, 2),
        (EarlyStopping(patience=9), [0.1, 0.3, 0.2], 3, 1),
    ],
)
@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("engine", ["matrix", "fused"])
def test_early_stopping(rule: EarlyStopping, scores: list, epochs: int, best: int, restore: bool, engine: str) -> None:
    rule = EarlyStopping(rule.monitor, rule.patience, rule.minimum_delta, restore, rule.mode)
    net, told = network(engine=engine), Scores(scores, rule.monitor)
    history = net.fit(
        X, Y, epochs=len(scores), eta=1.0, validation_data=HELD_OUT, early_stopping=rule, callbacks=[told]
    )
    assert len(history) == epochs
    assert history.ended == ("early stopping" if epochs < len(scores) else None)
    assert history.best_epoch == (best if restore else None)
    np.testing.assert_array_equal(net._theta(), told.thetas[best if restore else -1])


def test_early_stopping_is_a_description_that_networks_share() -> None:
    rule = EarlyStopping(patience=1)
    lengths = [
        len(network().fit(X, Y, epochs=9, eta=1e-9, validation_data=HELD_OUT, early_stopping=rule)) for _ in range(2)
    ]
    assert lengths == [2, 2]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"early_stopping": EarlyStopping()}, ValueError, "monitor='validation_score' needs validation_data"),
        ({"early_stopping": EarlyStopping("training_cost")}, ValueError, "needs monitor_training=True"),
        ({"early_stopping": EarlyStopping("gap", mode="min")}, ValueError, "needs validation_data"),
        ({"early_stopping": EarlyStopping("saturation_2", mode="min")}, ValueError, "needs monitor_layers=True"),
        ({"early_stopping": 5}, TypeError, r"early_stopping must be fastbp.EarlyStopping\(…\), got 5"),
        ({"callbacks": [ModelCheckpoint("x", save_best_only=True)]}, ValueError, "needs validation_data"),
        ({"validation_fraction": 1.5}, ValueError, "share of the examples between 0 and 1, got 1.5"),
        ({"validation_fraction": "some"}, ValueError, "share of the examples between 0 and 1, got 'some'"),
        ({"validation_fraction": 0.001}, ValueError, "leaves 0 to judge on and 60 to learn from"),
        ({"validation_fraction": 0.2, "validation_data": HELD_OUT}, ValueError, "not both"),
    ],
)
def test_refusals_before_training(options: dict, error: type[Exception], message: str) -> None:
    net = network()
    before = net._theta()
    with pytest.raises(error, match=message):
        net.fit(X, Y, epochs=3, eta=1.0, **options)
    np.testing.assert_array_equal(net._theta(), before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EarlyStopping("seconds"), ValueError, "say mode='min' or mode='max'"),
        (lambda: EarlyStopping(patience=0), ValueError, "at least 1 epoch"),
        (lambda: EarlyStopping(patience=1.5), TypeError, "whole number of epochs, got 1.5"),
        (lambda: EarlyStopping(minimum_delta=float("nan")), ValueError, "minimum_delta"),
        (lambda: EarlyStopping(monitor=3), TypeError, "name of a column"),
    ],
)
def test_early_stopping_refuses(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# --- the split ----------------------------------------------------------------------------------------------


def test_hold_out_takes_of_each_label_its_share() -> None:
    rng = np.random.default_rng(2)
    labels = rng.choice(4, 403, p=[0.7, 0.2, 0.07, 0.03])
    learn, held = splits.hold_out(403, 0.25, labels, rng.permutation(403))
    assert sorted([*learn, *held]) == list(range(403))
    for label in range(4):
        assert np.sum(labels[held] == label) == np.sum(labels == label) // 4
    assert not np.array_equal(held, splits.hold_out(403, 0.25, labels, rng.permutation(403))[1])
    assert splits.hold_out(10, 0.2)[1].tolist() == [4, 9]
    for share in (0.29, 0.57, 0.07, 0.115):  # 0.29 * 100 is 28.999999999999996
        assert len(splits.hold_out(1000, share)[1]) == round(1000 * share)
    assert len(splits.hold_out(100, 0.29)[1]) == 29 and len(splits.hold_out(99, 0.29)[1]) == 28
    assert splits.hold_out(10, 0.2, None, np.arange(10)[::-1])[1].tolist() == [0, 5]


@pytest.mark.parametrize("engine", ["reference", "matrix", "fused"])
@pytest.mark.parametrize("seed", [3, None])
def test_a_fraction_is_the_split_by_hand(engine: str, seed: int | None) -> None:
    """The network's own stream draws it; training on the rest is as if only the rest had been given."""
    X, y = examples(101)
    nets = []
    for by_hand in (False, True):
        np.random.seed(5)
        net = fastbp.Network([5, 4, 3], seed=seed, engine=engine)
        options: dict[str, Any] = {"epochs": 3, "batch_size": 7, "eta": 1.0, "lmbda": 2.0}
        if by_hand:
            positions = np.arange(101)
            net._shuffle(positions)
            learn, held = splits.hold_out(101, 0.2, y, positions)
            assert len(held) in (19, 20)
            history = net.fit(X[learn], y[learn], validation_data=(X[held], y[held]), monitor_training=True, **options)
        else:
            history = net.fit(X, y, validation_fraction=0.2, monitor_training=True, **options)
        nets.append((net, history))
    np.testing.assert_array_equal(nets[0][0]._theta(), nets[1][0]._theta())
    for column in ("validation_cost", "validation_score", "training_cost", "training_score", "gap"):
        assert nets[0][1][column] == nets[1][1][column]


def test_a_fraction_of_two_classes_with_one_output_and_of_numbers() -> None:
    y = (X[:, 0] > 1).astype(int)
    net = fastbp.Network([5, 1], seed=1)
    assert "validation_score" in net.fit(X, y, epochs=1, eta=1.0, validation_fraction=0.5).columns
    net = fastbp.Network([5, 2], output="identity", seed=1)
    assert "validation_score" in net.fit(X, X[:, :2], epochs=1, eta=0.1, validation_fraction=0.3).columns


def test_a_shuffle_of_the_user_s_own_draws_the_split_too() -> None:
    seen: list[int] = []

    def turn(items: list) -> None:
        assert isinstance(items, list)
        seen.append(len(items))
        items.reverse()

    net = network(shuffle=turn)
    net.fit(X, Y, epochs=2, eta=1.0, validation_fraction=0.2)
    assert seen[0] == 60 and seen[1] == seen[2] < 60


# --- logs and models ----------------------------------------------------------------------------------------


def test_logs_hold_every_record(tmp_path: Path) -> None:
    logs = [CSVLog(tmp_path / "run.csv"), JSONLog(tmp_path / "run.jsonl")]
    history = network().fit(X, Y, epochs=3, eta=1.0, validation_data=HELD_OUT, callbacks=logs)
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert lines == history.epochs
    with open(tmp_path / "run.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == history.epochs
    for again in logs:  # a second run begins anew
        network().fit(X, Y, epochs=1, eta=1.0, callbacks=[again])
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 2
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 1
    network().fit(X, Y, epochs=2, eta=1.0, callbacks=[CSVLog(tmp_path / "run.csv", append=True)])
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 4
    with pytest.raises(
        ValueError, match=r"has the columns epoch, eta, .*, but this epoch's record has .*training_cost"
    ):
        network().fit(
            X, Y, epochs=1, eta=1.0, monitor_training=True, callbacks=[CSVLog(tmp_path / "run.csv", append=True)]
        )


class Now(Callback):
    """Adds a column to the records of some epochs."""

    def __init__(self, *epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, network: Any, record: dict) -> None:
        if record["epoch"] in self.epochs:
            record["now"] = 10.0 * record["epoch"]


def test_a_column_of_some_epochs_only(tmp_path: Path) -> None:
    log = tmp_path / "run.csv"
    history = network().fit(X, Y, epochs=4, eta=1.0, callbacks=[Now(0, 2), CSVLog(log)])
    assert history["now"] == [0.0, None, 20.0, None]
    history.to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_bytes() == log.read_bytes()
    assert [line.split(",")[-1] for line in log.read_text().splitlines()] == ["now", "0.0", "", "20.0", ""]
    assert np.isnan(history.to_frame()["now"][1])
    late = network().fit(X, Y, epochs=3, eta=1.0, validation_data=HELD_OUT, callbacks=[Now(2)])
    assert late.columns[-1] == "now" and late["now"] == [None, None, 20.0]
    late.to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text().splitlines()[1][-1] == ","
    assert "now" in str(late).splitlines()[0] and late.plot() is not None
    with pytest.raises(KeyError, match=r"recorded are epoch, .*, now"):
        late["then"]
    with pytest.raises(ValueError, match="add to each record from the first epoch on"):
        network().fit(X, Y, epochs=3, eta=1.0, callbacks=[Now(2), CSVLog(log)])


def test_json_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    network().fit(X, Y, epochs=2, eta=1.0, callbacks=[Scores([float("nan"), float("inf")], "odd"), JSONLog(path)])
    assert [json.loads(line)["odd"] for line in path.read_text().splitlines()] == [None, None]


def test_what_numpy_computes_for_a_record_is_logged_as_numbers(tmp_path: Path) -> None:
    log = JSONLog(tmp_path / "log")
    log.on_epoch_end(
        None, {"epoch": 0, "norm": np.float32(0.5), "counts": np.array([3, 4]), "worst": np.float32("nan")}
    )
    assert json.loads(log.path.read_text()) == {"epoch": 0, "norm": 0.5, "counts": [3, 4], "worst": None}


def test_a_line_is_there_as_soon_as_its_epoch_is_over(tmp_path: Path) -> None:
    class Dies(Callback):
        def on_epoch_end(self, network: Any, record: dict) -> None:
            if record["epoch"] == 2:
                raise MemoryError

    with pytest.raises(MemoryError):
        network().fit(X, Y, epochs=9, eta=1.0, callbacks=[CSVLog(tmp_path / "a.csv"), Dies()])
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("kind", [CSVLog, JSONLog])
def test_a_resumed_log_has_no_line_twice(kind: type, tmp_path: Path) -> None:
    path = tmp_path / "log"
    log, record = kind(path), {"epoch": 0, "eta": 0.1}
    log.on_train_begin(None)
    log.on_epoch_end(None, record)
    state = log.state()
    whole = path.read_bytes()
    log.on_epoch_end(None, record | {"epoch": 1})  # killed here, resumed from the state
    again = kind(path)
    again.restore(state)
    again.on_train_begin(None)
    assert path.read_bytes() == whole


def test_a_log_that_cannot_be_written_stops_before_training(tmp_path: Path) -> None:
    net = network()
    before = net._theta()
    with pytest.raises(OSError, match="nowhere"):
        net.fit(X, Y, epochs=2, eta=1.0, callbacks=[CSVLog(tmp_path / "nowhere" / "a.csv")])
    np.testing.assert_array_equal(net._theta(), before)


def test_model_checkpoints(tmp_path: Path) -> None:
    scores = Scores([0.1, 0.5, 0.4, 0.6])
    each = ModelCheckpoint(tmp_path / "net-{epoch:02d}.safetensors")
    best = ModelCheckpoint(tmp_path / "best-{validation_score}.safetensors", save_best_only=True)
    newest = ModelCheckpoint(tmp_path / "newest.safetensors")
    net = network()
    net.fit(X, Y, epochs=4, eta=1.0, validation_data=HELD_OUT, callbacks=[scores, each, best, newest])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"best-{score}.safetensors" for score in (0.1, 0.5, 0.6)),
        *(f"net-0{epoch}.safetensors" for epoch in range(4)),
        "newest.safetensors",
    ]
    for epoch in range(4):
        saved = fastbp.load(tmp_path / f"net-0{epoch}.safetensors")
        np.testing.assert_array_equal(saved._theta(), scores.thetas[epoch])
    np.testing.assert_array_equal(fastbp.load(tmp_path / "newest.safetensors")._theta(), net._theta())
    again = ModelCheckpoint("x", save_best_only=True)
    again.restore(best.state())
    assert again.best.value == 0.6 and again.best.epoch == 3


def test_a_model_that_cannot_be_saved_is_refused_before_training(tmp_path: Path) -> None:
    net = fastbp.Network([5, 4, 3], hidden=(np.tanh, lambda z: 1 - np.tanh(z) ** 2), seed=1)
    before = net._theta()
    with pytest.raises(ValueError, match="a model file holds names, not functions"):
        net.fit(X, Y, epochs=2, eta=1.0, callbacks=[ModelCheckpoint(tmp_path / "a")])
    np.testing.assert_array_equal(net._theta(), before)
    with pytest.raises(ValueError, match="'loss' is no column of epoch, eta"):
        network().fit(X, Y, epochs=2, eta=1.0, callbacks=[ModelCheckpoint(tmp_path / "{loss}")])


# --- the History --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["reference", "matrix", "fused"])
def test_the_training_is_judged_like_any_other_data(engine: str) -> None:
    net, other = network(engine=engine), network(engine=engine)
    history = net.fit(X, Y, epochs=3, eta=1.0, validation_data=(X, Y), monitor_training=True)
    other.fit(X, Y, epochs=3, eta=1.0)
    np.testing.assert_array_equal(net._theta(), other._theta())
    assert history["training_cost"] == history["validation_cost"]
    assert history["training_score"] == history["validation_score"] and history["gap"] == [0.0] * 3


def test_layers_are_recorded() -> None:
    from fastbp import diagnostics

    net = network()
    history = net.fit(X, Y, epochs=3, eta=1.0, monitor_layers=True)
    assert history.columns[4:] == ["gradient_norm_2", "gradient_norm_3", "saturation_2", "saturation_3"]
    report = diagnostics.layer_report(net, X, Y)
    assert history["gradient_norm_2"][-1] == pytest.approx(report.layers[0].gradient_norm)
    assert history["saturation_3"][-1] == pytest.approx(report.layers[1].saturation)


def test_history_as_csv_frame_and_table(tmp_path: Path) -> None:
    history = network().fit(X, Y, epochs=20, eta=1.0, validation_fraction=0.2, monitor_training=True)
    history.to_csv(tmp_path / "h.csv")
    frame = pd.read_csv(tmp_path / "h.csv").set_index("epoch")
    pd.testing.assert_frame_equal(frame, history.to_frame())
    lines = str(history).splitlines()
    assert len(lines) == 14 and lines[0].split()[:2] == ["epoch", "eta"] and "…" in lines[7]
    assert lines[-1].split()[0] == "19" and len(set(map(len, lines))) == 1
    assert repr(history).startswith("<History: 20 epochs, engine='fused', validation_score=")
    short = network().fit(X, Y, epochs=9, eta=1e-9, validation_data=HELD_OUT, early_stopping=EarlyStopping(patience=1))
    assert str(short).splitlines()[-1] == "ended by early stopping after 2 epochs; the parameters are those of epoch 0"
    empty = network().fit(X, Y, epochs=0, eta=1.0)
    assert str(empty) == repr(empty) == "<History: 0 epochs, engine='fused'>" and len(empty.to_frame()) == 0


@pytest.mark.parametrize(
    ("options", "titles"),
    [
        ({}, ["step size"]),
        ({"validation_data": HELD_OUT, "monitor_training": True}, ["cost", "score"]),
        ({"monitor_layers": True}, ["norm of the gradient", "saturated"]),
        (
            {"validation_data": HELD_OUT, "monitor_layers": True},
            ["cost", "score", "norm of the gradient", "saturated"],
        ),
    ],
)
def test_history_plots(options: dict, titles: list[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    history = network().fit(X, Y, epochs=3, eta=1.0, **options)
    figure = history.plot()
    assert [axis.get_title() for axis in figure.axes] == titles
    for axis in figure.axes:
        assert all(len(line.get_xdata()) == 3 for line in axis.lines) and axis.lines


def test_a_plot_marks_the_best_epoch() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    rule = EarlyStopping(patience=1)
    history = network().fit(X, Y, epochs=9, eta=1e-9, validation_data=HELD_OUT, early_stopping=rule)
    cost, score = history.plot().axes
    for axis in (cost, score):
        best = axis.lines[-1]
        assert len(axis.lines) == 2 and best.get_xdata() == [0, 0] and best.get_label() == "best epoch"
    assert [text.get_text() for text in score.get_legend().get_texts()] == ["held-out data", "best epoch"]


@pytest.mark.parametrize(("method", "package"), [("plot", "matplotlib"), ("to_frame", "pandas")])
def test_without_the_package(method: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(fastbp.FastbpError, match=f"needs {package}, which is not installed"):
        getattr(fastbp.History("fused", [{"epoch": 0, "eta": 1.0}]), method)()


def test_examples_taken_by_row() -> None:
    rows = np.array([3, 1])
    taken = data.Examples(X, None, Y).take(rows)
    np.testing.assert_array_equal(taken.X, X[rows])
    assert taken.labels is not None and taken.labels.tolist() == Y[rows].tolist() and len(taken) == 2
    assert data.Examples(X, X).take(rows).Y.shape == (2, 5)
