"""Checkpoints: a run that goes on from any of them ends in the same bits, and no other run can go on from it."""

import contextlib
import copy
import csv
import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs_blocks import python_blocks
from faults import CALLS, FAULTS, Watched, fail_at
from hypothesis import given, settings
from hypothesis import strategies as st
from kill_resume import paragraph
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import checkpoint as checkpoints
from fastbp import container, identity, resuming, safefile, training
from fastbp.engines import matrix
from fastbp.errors import CheckpointError, ModelFileError

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("streams_kept")
ENGINES = ("reference", "matrix", "fused")
N, BATCHES = 43, 9


def examples(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5)) * (rng.random((n, 5)) < 0.6)
    return X, np.argmax(X[:, :3], axis=1)


X, Y = examples()

OPTIONS: dict[str, dict[str, Any]] = {
    "early stopping": {
        "eta": fastbp.WarmUp(30.0, 2),
        "early_stopping": fastbp.EarlyStopping("validation_score", patience=2),
        "epochs": 9,
        "validation_data": None,
        "validation_fraction": 0.2,
        "monitor_training": True,
    },
    "decay": {"eta": fastbp.Exponential(1.0, 0.9, by="step"), "lmbda": 2.0},
    "dropout": {
        "eta": 0.5,
        "dropout": 0.3,
        "l1": 0.1,
        "max_norm": 2.0,
        "label_smoothing": 0.1,
        "class_weight": "balanced",
        "sample_weight": np.linspace(0.5, 2, N),
    },
    "adam": {"optimizer": fastbp.Adam(fastbp.WarmUp(fastbp.HalveWhenStuck(0.05, patience=1), 7, by="step"))},
    "momentum": {"optimizer": fastbp.SGD(fastbp.Cosine(0.3, 5), momentum=0.9)},
}


def fit(net: fastbp.Network, **options: Any) -> fastbp.History:
    given = {"epochs": 4, "batch_size": 5, "validation_data": (X[:9], Y[:9]), **OPTIONS["adam"], **options}
    return net.fit(*given.pop("data", (X, Y)), **given)


def network(**options: Any) -> fastbp.Network:
    return fastbp.Network([5, 4, 3], **{"seed": 1, "engine": "matrix", **options})


def assert_same(net: fastbp.Network, other: fastbp.Network) -> None:
    for ours, theirs in zip((*net.biases, *net.weights), (*other.biases, *other.weights), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes()


def assert_same_history(history: fastbp.History, other: fastbp.History) -> None:
    for column in ("epoch", "eta", "validation_cost", "validation_score"):
        assert history[column] == other[column]
    assert history.ended == other.ended


@pytest.fixture
def every(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The path of a copy of each checkpoint that is written."""
    copies: list[Path] = []
    write = checkpoints.Writer.write

    def write_and_copy(self: checkpoints.Writer, run: Any) -> None:
        write(self, run)
        copies.append(tmp_path / f"{len(copies)}-epoch{run.epoch}-batch{run.batch}")
        shutil.copy(self.checkpoint.path, copies[-1])

    monkeypatch.setattr(checkpoints.Writer, "write", write_and_copy)
    return copies


# To the same bits


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_goes_on_from_any_mini_batch(engine: str, name: str, dtype: str, tmp_path: Path, every: list[Path]) -> None:
    make = {"engine": engine, "dtype": dtype}
    plain, net = network(**make), network(**make)
    options = {"optimizer": None, **OPTIONS[name]}
    fit(plain, **options)
    history = fit(net, checkpoint=fastbp.Checkpoint(tmp_path / "c", every_batches=1), **options)
    assert_same(net, plain)  # writing checkpoints changes nothing
    n_batches = 7 if "validation_fraction" in options else BATCHES
    assert len(every) == 2 + len(history) * n_batches
    for path in every[:: 5 if engine == "fused" else 7]:
        other = network(**make | {"seed": 2})
        assert_same_history(fit(other, resume=path, **options), history)
        assert_same(other, net)


OPTIMIZERS: list[Callable[[Any], Any]] = [
    fastbp.SGD,
    lambda eta: fastbp.SGD(eta, momentum=0.9),
    lambda eta: fastbp.SGD(eta, momentum=0.9, nesterov=True),
    lambda eta: fastbp.SGDW(eta, momentum=0.5, weight_decay=0.1),
    fastbp.Adagrad,
    fastbp.RMSprop,
    fastbp.Adam,
    lambda eta: fastbp.AdamW(eta, weight_decay=0.1),
]
SCHEDULES: list[Any] = [
    fastbp.Step(0.05, 2, 0.5),
    fastbp.Step(0.05, 5, 0.7, by="step"),
    fastbp.Exponential(0.05, 0.99, by="step"),
    fastbp.Cosine(0.05, 30, by="step"),
    fastbp.WarmUp(fastbp.Cosine(0.05, 4), 11, by="step"),
    fastbp.HalveWhenStuck(0.05, patience=1, ends=False),
    fastbp.WarmUp(fastbp.HalveWhenStuck(0.05, patience=1, monitor="validation_cost"), 2),
]


class Meddles(fastbp.Callback):
    """Remembers, draws, adds a column, and changes the network."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_epoch_end(self, network: Any, record: dict[str, Any]) -> None:
        self.seen.append(record["validation_cost"])
        record["meddling"] = len(self.seen) + np.random.rand()
        network.weights[0][0, 0] *= 1.01

    def state(self) -> dict[str, Any]:
        return {"seen": list(self.seen)}

    def restore(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


@pytest.mark.parametrize("optimizer", range(len(OPTIMIZERS)))
def test_every_optimizer_goes_on_under_every_schedule_with_its_logs(
    optimizer: int, tmp_path: Path, every: list[Path]
) -> None:
    def run(folder: Path, schedule: Any, engine: str, seed: int, **more: Any) -> tuple[fastbp.Network, list, list]:
        np.random.seed(7)
        net, best = network(seed=seed, engine=engine), fastbp.ModelCheckpoint(folder / "best", save_best_only=True)
        callbacks = [Meddles(), fastbp.CSVLog(folder / "log.csv"), fastbp.JSONLog(folder / "log.jsonl"), best]
        history = fit(
            net, **OPTIONS["dropout"] | {"eta": None}, optimizer=OPTIMIZERS[optimizer](schedule), callbacks=callbacks,
            **more,
        )  # fmt: skip
        files = [
            [{k: v for k, v in line.items() if "second" not in k} for line in lines]
            for lines in (
                csv.DictReader((folder / "log.csv").read_text().splitlines()),
                map(json.loads, (folder / "log.jsonl").read_text().splitlines()),
            )
        ]
        records = [{k: v for k, v in record.items() if "second" not in k} for record in history.epochs]
        return net, [records, callbacks[0].seen], [files, fastbp.load(folder / "best")._theta().tolist()]

    for i, schedule in enumerate(SCHEDULES):
        engine, folder = ENGINES[(i + optimizer) % 3], tmp_path / str(i)
        folder.mkdir()
        every.clear()
        checkpoint = fastbp.Checkpoint(folder / "c", every_batches=5)
        net, *left = run(folder, schedule, engine, 1, checkpoint=checkpoint)
        path = every[(3 * i + optimizer) % len(every)]  # the logs are now longer than at that checkpoint
        other, *again = run(folder, schedule, engine, 2, resume=path)
        assert_same(other, net)
        assert again == left
        fastbp.replay(path, X, Y, batch=i)


SHUFFLES: dict[str, Callable[[], dict[str, Any]]] = {
    "the network's generator": lambda: {"seed": 3},
    "NumPy's global stream": lambda: {"seed": None},
    "Python's global stream": lambda: {"seed": None, "shuffle": random.shuffle},
    "a generator given": lambda: {"seed": 3, "shuffle": np.random.default_rng(5).shuffle},
    "Philox": lambda: {"seed": 3, "shuffle": np.random.Generator(np.random.Philox(5)).shuffle},
    "a RandomState given": lambda: {"seed": 3, "shuffle": np.random.RandomState(5).shuffle},
    "a Random given": lambda: {"seed": 3, "shuffle": random.Random(5).shuffle},
}


@pytest.mark.parametrize("engine", ["matrix", "fused"])
@pytest.mark.parametrize("name", SHUFFLES)
def test_every_stream_goes_on(name: str, engine: str, tmp_path: Path, every: list[Path]) -> None:
    def later() -> tuple:
        own = net._rng.random() if net._rng is not None else None
        shuffled = list(range(20))
        net._shuffle(shuffled)
        return random.random(), random.gauss(0, 1), np.random.randn(3).tolist(), own, shuffled

    random.seed(1), np.random.seed(1)
    random.gauss(0, 1), np.random.randn(1)  # each keeps a second deviate for the next call
    first = net = network(engine=engine, **SHUFFLES[name]())
    fit(net, checkpoint=fastbp.Checkpoint(tmp_path / "c", every_batches=4))
    expected = later()
    for path in every[::3]:
        random.seed(2), np.random.seed(2)
        net = network(engine=engine, **SHUFFLES[name]())
        fit(net, resume=path)
        assert_same(net, first)
        assert later() == expected


class Counts:
    """A callback with a state of its own, of every kind a state may hold."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {"calls": [], "best": -np.inf, "seen": None, "w": None, "pair": (1, "a")}

    def on_epoch_begin(self, network: Any, epoch: int) -> None:
        self.kept["calls"].append(f"epoch {epoch}")

    def on_epoch_end(self, network: Any, record: dict) -> None:
        self.kept["calls"].append({"epoch": record["epoch"], "score": np.float64(record["validation_score"])})
        self.kept["best"] = max(self.kept["best"], record["validation_score"])
        self.kept["w"] = network.weights[0].copy()

    def state(self) -> dict[str, Any]:
        return copy.deepcopy(self.kept)

    def restore(self, state: dict[str, Any]) -> None:
        self.kept = state


class Forgets:
    def on_epoch_end(self, network: Any, record: dict) -> None: ...


def test_callbacks_keep_their_state(tmp_path: Path, every: list[Path]) -> None:
    net, callback = network(), Counts()
    fit(net, callbacks=[callback], checkpoint=fastbp.Checkpoint(tmp_path / "c", every_batches=4))
    for path in every:
        again, other = Counts(), network()
        fit(other, callbacks=[again], resume=path)
        np.testing.assert_equal(again.kept, callback.kept)
        assert_same(other, net)


def test_callbacks_without_a_state_are_named(tmp_path: Path) -> None:
    fit(network(), callbacks=[Forgets(), Counts()], checkpoint=fastbp.Checkpoint(tmp_path / "c"))
    with pytest.warns(UserWarning, match="what Forgets remembered was not kept"):
        fit(network(), callbacks=[Forgets(), Counts()], resume=tmp_path / "c")


def test_a_shuffle_of_the_user_s_own_is_named(tmp_path: Path) -> None:
    def backwards(rows: list) -> None:
        rows.reverse()

    net, other = (network(shuffle=backwards) for _ in range(2))
    fit(net, checkpoint=fastbp.Checkpoint(tmp_path / "c", every_batches=7))
    with pytest.warns(UserWarning, match=r"shuffle=.*backwards"):
        fit(other, resume=tmp_path / "c")
    assert_same(net, other)


def test_sparse_rows_and_column_targets(tmp_path: Path, every: list[Path]) -> None:
    import scipy.sparse

    data = scipy.sparse.csr_matrix(X), X[:, :1] * X[:, 1:2]
    options = {"data": data, "validation_data": None, "optimizer": None, "eta": 0.1}
    make = {"output": "identity", "engine": "fused", "seed": 4}
    net = fastbp.Network([5, 3, 1], **make)
    fit(net, checkpoint=fastbp.Checkpoint(tmp_path / "c", every_batches=5), **options)
    for path in every[::4]:
        other = fastbp.Network([5, 3, 1], **make)
        fit(other, resume=path, **options)
        assert_same(other, net)


def test_a_long_history_does_not_swell_the_header(tmp_path: Path) -> None:
    net, path = network(), tmp_path / "c"
    history = fit(net, epochs=60, optimizer=None, eta=0.1, checkpoint=fastbp.Checkpoint(path, every_epochs=60))
    header = int.from_bytes(path.read_bytes()[:8], "little")
    fit(network(), epochs=400, optimizer=None, eta=0.1, checkpoint=fastbp.Checkpoint(tmp_path / "d", every_epochs=400))
    assert int.from_bytes((tmp_path / "d").read_bytes()[:8], "little") < header + 200
    assert_same_history(fit(network(), epochs=60, optimizer=None, eta=0.1, resume=path), history)


# When


def test_when_checkpoints_are_written(tmp_path: Path, every: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def written(**when: Any) -> list[tuple[int, int]]:
        every.clear()
        fit(network(), epochs=5, eta=0.1, optimizer=None, checkpoint=fastbp.Checkpoint(tmp_path / "c", **when))
        (tmp_path / "c").unlink()
        places = (re.fullmatch(r"\d+-epoch(\d+)-batch(\d+)", path.name) for path in every)
        return [(int(place[1]), int(place[2])) for place in places if place]

    whole = [(epoch, 0) for epoch in range(6)]
    assert written() == whole == written(every_epochs=1)
    assert written(every_epochs=2) == [(0, 0), (2, 0), (4, 0), (5, 0)]
    every_20 = [(0, 0), (2, 2), (4, 4), (5, 0)]
    assert written(every_batches=20) == every_20
    assert written(every_batches=20, every_epochs=3) == sorted([*every_20, (3, 0)])
    assert written(every_batches=9) == [(0, 0), *((epoch, 9) for epoch in range(5)), (5, 0)]
    assert written(every_seconds=1e6) == [(0, 0), (5, 0)]
    monkeypatch.setattr(training, "RUN_SECONDS", 0.0)  # each mini-batch on its own
    steps = [divmod(step, 10) for step in range(51)]  # 9 mini-batches, and the end of the epoch
    assert written(every_seconds=0) == steps


@pytest.mark.parametrize(
    ("when", "error", "message"),
    [
        ({"every_epochs": 0}, ValueError, "every_epochs must be at least 1"),
        ({"every_batches": -1}, ValueError, "every_batches must be at least 1"),
        ({"every_batches": 1.5}, TypeError, "every_batches must be a whole number"),
        ({"every_seconds": -1}, ValueError, "every_seconds must be a finite number"),
        ({"every_seconds": np.nan}, ValueError, "every_seconds must be a finite number"),
        ({"every_seconds": "1"}, ValueError, "every_seconds must be a finite number"),
        ({"path": 3}, TypeError, "path must be the name of a file"),
    ],
)
def test_what_checkpoint_refuses(when: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastbp.Checkpoint(**{"path": "c", **when})


def test_where_a_run_is_cut_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ENGINES:
        nets = []
        for seconds, when in ((0.1, {}), (0.0, {"every_batches": 3}), (10.0, {"every_seconds": 0})):
            monkeypatch.setattr(training, "RUN_SECONDS", seconds)
            nets.append(network(engine=engine))
            fit(nets[-1], checkpoint=fastbp.Checkpoint(tmp_path / "c", **when))
        assert_same(nets[0], nets[1])
        assert_same(nets[0], nets[2])


# Over, and further


def test_a_finished_run_is_over(tmp_path: Path) -> None:
    net, other, path = network(), network(), tmp_path / "c"
    history = fit(net, checkpoint=fastbp.Checkpoint(path))
    assert_same_history(fit(other, resume=path), history)
    assert_same(net, other)


def test_more_epochs(tmp_path: Path) -> None:
    net, other, path = network(), network(), tmp_path / "c"
    options = {"optimizer": fastbp.Adam(0.01)}
    history = fit(net, epochs=7, **options)
    fit(network(), epochs=3, checkpoint=fastbp.Checkpoint(path), **options)
    assert_same_history(fit(other, epochs=7, resume=path, checkpoint=fastbp.Checkpoint(path), **options), history)
    assert_same(net, other)
    with pytest.raises(CheckpointError, match=r"7 epochs behind it, and epochs=5 asks for fewer"):
        fit(network(), epochs=5, resume=path, **options)


def test_a_run_that_ended_early_stays_ended(tmp_path: Path) -> None:
    options = {"optimizer": fastbp.Adam(fastbp.HalveWhenStuck(1e-9, patience=1, least=0.5)), "epochs": 30}
    net, other, path = network(), network(), tmp_path / "c"
    history = fit(net, checkpoint=fastbp.Checkpoint(path, every_epochs=100), **options)
    assert history.ended == "schedule" and len(history) < 30
    assert_same_history(fit(other, resume=path, **options | {"epochs": 60}), history)
    assert_same(net, other)


def test_the_engine_is_the_checkpoint_s(tmp_path: Path) -> None:
    """engine="auto" would plan anew: another version of the plan, or other data, could say otherwise."""
    path = tmp_path / "c"
    net, other = network(engine="reference"), network(engine="auto")
    fit(net, epochs=3, checkpoint=fastbp.Checkpoint(path))
    assert fit(other, epochs=3, resume=path).engine == "reference"
    assert_same(net, other)


# Another run


def changed(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[-1] = 1 - array.flat[-1]
    return array


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"batch_size": 6}, {}, "batch_size is 5 in the checkpoint, but 6 here"),
    ({"optimizer": fastbp.Adam(0.02)}, {}, r"optimizer is Adam\(eta=0.01, .* but Adam\(eta=0.02"),
    ({"optimizer": fastbp.AdamW(0.01)}, {}, "optimizer is Adam.* but AdamW"),
    ({"optimizer": None, "eta": 0.01}, {}, r"optimizer is Adam.* but SGD\(eta=0.01, momentum=0, nesterov=False"),
    ({"optimizer": fastbp.Adam(fastbp.Cosine(0.01, 9))}, {}, r"but Adam\(eta=Cosine\(eta=0.01, length=9"),
    ({"early_stopping": None}, {}, r"early_stopping is EarlyStopping\(monitor=validation_cost, .* but None here"),
    ({"dropout": 0.2}, {}, "dropout is 0 in the checkpoint, but 0.2 here"),
    ({"max_norm": 2}, {}, "max_norm is None in the checkpoint, but 2 here"),
    ({"sample_weight": np.arange(N)}, {}, "weights is None in the checkpoint, but [0-9a-f]{64} here"),
    ({"class_weight": {1: 2.0}}, {}, r"class_weight is None in the checkpoint, but \{1: 2\} here; weights is None"),
    ({"monitor_training": True}, {}, "monitor_training is False in the checkpoint, but True here"),
    ({"lmbda": 0.5}, {}, "lmbda is 0 in the checkpoint, but 0.5 here"),
    ({"shuffle": False}, {}, "shuffle is True in the checkpoint, but False here"),
    ({"data": (changed(X), Y)}, {}, "X holds other values"),
    ({"data": (X, changed(Y))}, {}, "y holds other values"),
    ({"data": (X[:-1], Y[:-1])}, {}, "examples is 43 in the checkpoint, but 42 here; X holds other values"),
    ({"validation_data": (changed(X[:9]), Y[:9])}, {}, "validation X holds other values"),
    ({"validation_data": (X[:9], changed(Y[:9]))}, {}, "validation y holds other values"),
    ({"validation_data": None, "early_stopping": None}, {}, "validation X is .* in the checkpoint, but None here"),
    ({"callbacks": [Forgets()]}, {}, r"callbacks is \[\] in the checkpoint, but \['Forgets'\] here"),
    ({}, {"sizes": [5, 3, 3]}, r"sizes is \[5, 4, 3\] in the checkpoint, but \[5, 3, 3\] here"),
    ({}, {"hidden": "tanh"}, r"activations is \['sigmoid', 'sigmoid'\] in the checkpoint, but \['tanh', 'sigmoid'\]"),
    ({}, {"neurons": {(2, 1): "relu"}}, r"neurons is \[\] in the checkpoint, but \[\[2, 1, 'relu'\]\] here"),
    ({}, {"cost": "cross_entropy"}, "cost is quadratic in the checkpoint, but cross_entropy here"),
    ({}, {"dtype": "float32"}, "dtype is float64 .* make the network with that dtype="),
    ({}, {"engine": "reference"}, "engine is matrix in the checkpoint, but reference here. make the network with"),
    ({}, {"seed": None}, "shuffler is Generator in the checkpoint, but RandomState here"),
]


KEPT: dict[str, Any] = {
    "optimizer": fastbp.Adam(0.01),
    "early_stopping": fastbp.EarlyStopping("validation_cost", patience=3),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run that is half over."""
    path = tmp_path_factory.mktemp("kept") / "c"
    fit(network(), epochs=2, checkpoint=fastbp.Checkpoint(path), **KEPT)
    return path


@pytest.mark.parametrize(
    ("options", "make", "message"), REFUSED, ids=lambda value: value[:30] if isinstance(value, str) else ""
)
def test_another_run_is_refused(kept: Path, options: dict, make: dict, message: str) -> None:
    sizes = make.get("sizes", [5, 4, 3])
    net = fastbp.Network(sizes, **{"seed": 1, "engine": "matrix", **{k: v for k, v in make.items() if k != "sizes"}})
    before, streams, file = copy.deepcopy(net), np.random.get_state(legacy=False), kept.read_bytes()
    classes = net.classes_
    with pytest.raises(CheckpointError, match=message) as caught:
        fit(net, resume=kept, checkpoint=fastbp.Checkpoint(kept), **{**KEPT, **options})
    assert str(caught.value).startswith(f"cannot resume '{kept}', which belongs to another run: ")
    assert_same(net, before)
    assert net.classes_ is classes
    if net._rng is not None and before._rng is not None:
        assert net._rng.bit_generator.state == before._rng.bit_generator.state
    np.testing.assert_equal(np.random.get_state(legacy=False), streams)
    assert kept.read_bytes() == file


def test_other_threads_are_refused(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbp.threads.of_blas", lambda: 77)
    with pytest.raises(CheckpointError, match=r"threads is .* in the checkpoint, but 77 here\. set OPENBLAS"):
        fit(network(), resume=kept, **KEPT)


def test_a_processor_with_longer_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused engine packs parameters by the length of the processor's vectors, as a file from elsewhere shows."""
    path, settings_of = tmp_path / "c", identity.settings
    fit(network(), checkpoint=fastbp.Checkpoint(path))
    monkeypatch.setattr(identity, "settings", lambda *given: {**settings_of(*given), "layout": "longer"})
    with pytest.raises(CheckpointError, match=r"layout is .* but longer here. this processor has vectors of another"):
        fit(network(), resume=path)


def test_other_versions_are_told(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = identity.versions()
    monkeypatch.setattr(identity, "versions", lambda: {**now, "numpy": "0.1"})
    with pytest.warns(UserWarning, match=r"was written with numpy '.*', now '0.1': the last bits may"):
        fit(network(), resume=kept, **KEPT)


def test_equal_numbers_of_another_type_are_the_same_run(kept: Path) -> None:
    adam = fastbp.Adam(np.float64(0.01), beta1=np.float64(0.9))
    data = X.astype(">f8"), Y.astype("i4")
    fit(network(), resume=kept, data=data, batch_size=np.int64(5), lmbda=0, **{**KEPT, "optimizer": adam})


def test_what_is_no_checkpoint(tmp_path: Path, kept: Path) -> None:
    net, model = network(), tmp_path / "model"
    net.save(model)
    blob = model.read_bytes()
    (tmp_path / "text").write_text("to be kept")
    with pytest.raises(ModelFileError, match="kind 'fastbp-model'; expected 'fastbp-checkpoint'"):
        fit(net, resume=model)
    with pytest.raises(ModelFileError, match="kind 'fastbp-checkpoint'; expected 'fastbp-model'"):
        fastbp.load(kept)
    with pytest.raises(FileNotFoundError):
        fit(net, resume=tmp_path / "none")
    with pytest.raises(ValueError, match="would overwrite a file of kind 'fastbp-model'; choose another name"):
        fit(net, checkpoint=fastbp.Checkpoint(model))
    with pytest.raises(ValueError, match="would overwrite a file that fastbp did not write"):
        fit(net, checkpoint=fastbp.Checkpoint(tmp_path / "text"))
    with pytest.raises(TypeError, match=r"checkpoint must be a fastbp.Checkpoint\(path\), got 'c'"):
        fit(net, checkpoint="c")
    with pytest.raises(FileNotFoundError, match="make the folder first"):
        fit(net, checkpoint=fastbp.Checkpoint(tmp_path / "no" / "c"))
    with pytest.raises(IsADirectoryError):
        fit(net, checkpoint=fastbp.Checkpoint(tmp_path))
    assert model.read_bytes() == blob
    assert (tmp_path / "text").read_text() == "to be kept"
    assert_same(net, network())


def test_a_state_that_cannot_be_kept_is_found_before_training(tmp_path: Path) -> None:
    class Odd(Forgets):
        def state(self) -> dict:
            return {"open": {1, 2}}

    net = network()
    with pytest.raises(TypeError, match="callbacks/0/open is a set, but a state holds"):
        fit(net, callbacks=[Odd()], checkpoint=fastbp.Checkpoint(tmp_path / "c"))
    assert_same(net, network())
    assert os.listdir(tmp_path) == []


# Damage


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint in mid-epoch of a network as small as can be."""
    path = tmp_path_factory.mktemp("small") / "c"
    net = fastbp.Network([1, 1], seed=1, engine="reference")

    def stop(network: Any, record: dict) -> None: ...

    net.fit([[0.0], [1.0], [2.0]], [0, 1, 1], epochs=1, batch_size=1, eta=0.1,
            checkpoint=fastbp.Checkpoint(path, every_batches=3))  # fmt: skip
    return path.read_bytes()


class InMemory(safefile.FileSystem):
    """Files of which the contents are given: loading 100,000 of them need not touch the disk."""

    blob: bytes | bytearray = b""

    def fstat(self, fd: int) -> os.stat_result:
        found = list(super().fstat(fd))
        found[6] = len(self.blob)
        return os.stat_result(found)

    def read(self, fd: int, count: int, offset: int) -> bytes:
        return bytes(self.blob[offset : offset + count])


def refuse_damage(blobs: Iterator[bytes | bytearray], path: Path, monkeypatch: pytest.MonkeyPatch, good: bytes) -> int:
    files, count = InMemory(), 0
    path.touch()
    monkeypatch.setattr(safefile, "_files", files)
    for blob in blobs:
        files.blob = blob
        try:
            container.load(path, kind=resuming.KIND)
        except ModelFileError:
            count += 1
        else:
            pytest.fail(f"damage number {count} was not noticed")
    files.blob = good
    resuming.load(path)
    return count


def test_truncated_at_every_byte(tmp_path: Path, small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = (small[:size] for size in range(len(small)))
    assert refuse_damage(cut, tmp_path / "c", monkeypatch, small) == len(small)


def flipped(blob: bytes, places: Iterator[tuple[int, int]]) -> Iterator[bytearray]:
    damaged = bytearray(blob)
    for position, bit in places:
        damaged[position] ^= 1 << bit
        yield damaged
        damaged[position] ^= 1 << bit


def test_every_bit_flipped(tmp_path: Path, small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    places = ((at, bit) for at in range(len(small)) for bit in range(8))
    assert refuse_damage(flipped(small, places), tmp_path / "c", monkeypatch, small) == 8 * len(small)


# Hostile files: whole, with a correct checksum, and with contents that no run leaves behind


def forge(kept: Path, path: Path, change: Callable[[dict, dict], Any]) -> Path:
    """A sound file with other contents: change(tensors, metadata)."""
    tensors, metadata = container.load(kept, kind=resuming.KIND)
    change(tensors, metadata)
    container.save(path, tensors, metadata, kind=resuming.KIND)
    return path


def put(name: str, array: Any) -> Callable[[dict, dict], Any]:
    def change(tensors: dict, metadata: dict) -> None:
        assert name in tensors
        tensors[name] = np.asarray(array)

    return change


def set_state(path: str, value: Any) -> Callable[[dict, dict], Any]:
    """Put `value` in the place of a part of the state, down the keys of its dicts."""

    def change(tensors: dict, metadata: dict) -> None:
        node, keys = metadata["state"], path.split("/")
        for key in keys[:-1]:
            node = dict(node["dict"])[key]
        assert keys[-1] in dict(node["dict"])
        node["dict"] = [[key, value if key == keys[-1] else old] for key, old in node["dict"]]

    return change


HOSTILE: list[tuple[str, Callable[[dict, dict], Any], str]] = [
    ("a row beyond the data", put("state/run/rows", [*range(42), 10**9]), "each of them once"),
    ("a negative row", put("state/run/rows", [*range(42), -1]), "each of them once"),
    ("a row twice", put("state/run/order/rows", [*range(42), 0]), "each of them once"),
    ("too few rows", put("state/run/rows", np.arange(42)), r"rows should be an array, int64 \(43,\)"),
    ("rows of another type", put("state/run/rows", np.arange(43.0)), "rows should be an array, int64"),
    ("too few parameters", put("state/run/engine/theta", np.zeros(3)), r"should be an array, float64 \(39,\)"),
    ("too many dimensions", put("state/run/engine/theta", np.zeros((39, 1))), "engine theta should be"),
    ("float32 parameters", put("state/run/engine/theta", np.zeros(39, "f4")), "engine theta should be"),
    ("NaN", put("state/run/engine/first", np.full(39, np.nan)), "engine first has NaN"),
    ("powers", put("state/run/engine/powers", np.zeros(0)), "engine powers should be"),
    ("a batch beyond the epoch", set_state("run/batch", 10), "its batch is 10"),
    ("a huge epoch", set_state("run/epoch", 10**30), "its step is 18, which is not where"),
    ("an epoch that is none", set_state("run/epoch", True), "its epoch is True"),
    ("a negative step", set_state("run/step", -1), "its step is -1"),
    ("a step elsewhere", set_state("run/step", 3), "its step is 3, which is not where"),
    ("seconds in words", set_state("run/seconds", "long"), "its seconds is 'long'"),
    ("begun in words", set_state("run/begun", "yes"), "its begun is 'yes'"),
    ("an engine in words", set_state("run/engine", "fast"), "its engine is 'fast', but should hold theta, first"),
    ("no run", set_state("run", None), "its state is None, but should hold epoch, batch"),
    ("callbacks", set_state("run/callbacks", {"list": [None]}), "it has the states of 1 callbacks"),
    ("callbacks in words", set_state("run/callbacks", "some"), "its callbacks is 'some'"),
    ("a history of text", set_state("run/history", "long"), "its history is 'long', but should hold epochs"),
    ("records in words", set_state("run/history/epochs", {"list": ["a"]}), "its history holds no records"),
    ("a pace with a state", set_state("run/pace", {"dict": [["halvings", 3]]}), "its pace is {'halvings': 3}, but"),
    ("best parameters too short", set_state("run/stopping/theta", {"array": "state/run/engine/powers"}), "once|best"),
    ("best parameters of text", set_state("run/stopping/theta", "best"), "its best theta should be an array"),
    ("a best value of text", set_state("run/stopping/best/value", ""), "its stopping best value is ''"),
    ("a best epoch before the first", set_state("run/stopping/best/waited", -3), "its stopping best waited is -3"),
    ("a place beyond the words", set_state("random/numpy/state/state/pos", 10**6), "pos' is out of range"),
    ("Python's place", set_state("random/python/state/pos", 625), "python.state.pos' is out of range"),
    ("another generator", set_state("random/network/state/bit_generator", "MT19937"), "is of 'MT19937', but"),
    ("a name to import", set_state("random/network/kind", "os.system"), "is of 'os.system'"),
    ("a large state", set_state("random/network/state/state/inc", 2**200), "inc' is out of range"),
    ("few words", put("state/random/python/state/key", np.zeros(3, "u4")), "python.state.key' has another shape"),
    ("no stream", set_state("random/shuffle", None), "of another kind of generator"),
    ("an unknown value", set_state("run/pace", {"object": "os.system"}), "'object' is no kind of value"),
    ("two kinds at once", set_state("run/pace", {"list": [], "dict": []}), "is no part of a state"),
    ("an array that is not there", set_state("run/rows", {"array": "nowhere"}), "no array 'nowhere'"),
    ("an array used twice", set_state("run/rows", {"array": "state/run/engine/theta"}), "or it is used twice"),
    ("another float", set_state("run/seconds", {"float": "1e999"}), "none of nan, inf, -inf"),
    ("an array as a name", set_state("run/rows", {"array": ["a"]}), "no array"),
    ("uneven columns", set_state("run/pace", {"records": [["a", {"list": [1]}], ["b", {"list": []}]]}), "not of a run"),
    ("a key twice", set_state("run/pace", {"dict": [["a", 1], ["a", 2]]}), "the key is there twice"),
    ("pairs of three", set_state("run/pace", {"dict": [["a", 1, 2]]}), "is no key and value"),
    ("a part missing", lambda tensors, metadata: metadata["state"]["dict"].pop(), "does not hold what a run consists"),
    ("batches of no epoch", set_state("run/epoch", 1), "its step is 18, which is not where"),
    ("a deviate of text", set_state("random/python/gauss", "x"), "its random state 'python.gauss' is no number"),
    ("more metadata", lambda tensors, metadata: metadata.update(more=1), "it holds"),
    ("no settings", lambda tensors, metadata: metadata.update(settings=[]), "its settings are"),
    ("another step size", lambda tensors, metadata: metadata["settings"].update(lmbda="1"), "belongs to another run"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_checkpoints(kept: Path, tmp_path: Path, change: Callable, message: str) -> None:
    net = network()
    before, streams = copy.deepcopy(net), (random.getstate(), np.random.get_state(legacy=False))
    with pytest.raises((ModelFileError, CheckpointError), match=message):
        fit(net, resume=forge(kept, tmp_path / "c", change), **KEPT)
    assert_same(net, before)
    assert net._rng is not None and before._rng is not None
    assert net._rng.bit_generator.state == before._rng.bit_generator.state
    np.testing.assert_equal((random.getstate(), np.random.get_state(legacy=False)), streams)


def test_a_stream_that_is_not_there(tmp_path: Path) -> None:
    """The state of a network's own generator, and a network without one: only a forged file can have that."""
    options: dict[str, Any] = {"seed": None, "shuffle": random.shuffle}
    fit(network(**options), checkpoint=fastbp.Checkpoint(tmp_path / "c"))
    path = forge(tmp_path / "c", tmp_path / "d", set_state("random/network", 3))
    with pytest.raises(ModelFileError, match="a random state 'network', but there is no such stream here"):
        fit(network(**options), resume=path)


@pytest.mark.parametrize(
    "rows", [[0, 10**6], np.arange(43), np.arange(0), [0.5]], ids=["beyond", "all", "none", "half"]
)
def test_a_split_that_cannot_be(rows: Any, tmp_path: Path) -> None:
    options = {"validation_data": None, "validation_fraction": 0.2}
    fit(network(), checkpoint=fastbp.Checkpoint(tmp_path / "c"), **options)
    path = forge(tmp_path / "c", tmp_path / "d", put("state/run/rows", rows))
    with pytest.raises(
        ModelFileError, match=r"its order is not of these|no examples to learn from, or none to judge on"
    ):
        fit(network(), resume=path, **options)


def test_an_engine_that_does_not_exist(kept: Path, tmp_path: Path) -> None:
    path = forge(kept, tmp_path / "c", lambda tensors, metadata: metadata["settings"].update(engine="os.system"))
    with pytest.raises(ModelFileError, match=r"engine 'os\.system', which fastbp does not have"):
        fit(network(engine="auto"), resume=path, **KEPT)


finite = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | st.integers(-2, 2**70) | finite | st.text("abc{}[]", max_size=3)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_change_of_a_checkpoint_is_refused_or_read(kept: Path, data: st.DataObject) -> None:
    """Whatever stands in the place of any part of the state: no other error, and no broken network."""
    tensors, metadata = container.load(kept, kind=resuming.KIND)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(value, dict | list):
                walk(value)

    walk(metadata["state"])
    walk(metadata["settings"])
    node, key = data.draw(st.sampled_from(places))
    value = data.draw(leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(max_size=3), leaves, max_size=2))
    node[key] = value
    net, path = network(), kept.with_name("fuzzed")
    with warnings.catch_warnings(), contextlib.suppress(ModelFileError, CheckpointError):
        warnings.simplefilter("ignore")
        container.save(path, tensors, metadata, kind=resuming.KIND)
        fit(net, resume=path, **KEPT)
    assert all(np.isfinite(w).all() for w in net.weights)


# Faults


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request of the third save of a run fails: an error, the second still good, and from it on the same bits."""
    expected = network()
    fit(expected)
    path = tmp_path / "c"
    watched: list[str] = []
    write = checkpoints.Writer.write
    faults: list[Watched] = []

    def third_fails(self: checkpoints.Writer, run: Any) -> None:
        if run.step == 14 and faults:
            with monkeypatch.context() as patch:
                patch.setattr(safefile, "_files", faults[0])
                return write(self, run)
        write(self, run)

    monkeypatch.setattr(checkpoints.Writer, "write", third_fails)

    def train(net: fastbp.Network, **options: Any) -> None:
        fit(net, checkpoint=fastbp.Checkpoint(path, every_batches=7), **options)

    faults[:] = [Watched(watched.append)]
    train(network())
    assert set(CALLS) - {"unlink"} <= set(watched)
    told = 0
    for number, name in enumerate(watched):
        code = FAULTS[number % len(FAULTS)]
        path.unlink()
        net = network()
        faults[:] = [fail_at(number, OSError(code, os.strerror(code), "inner name"))]
        try:
            train(net)
        except OSError as error:
            told += 1
            assert (error.errno, error.filename) == (code, str(path))
            assert "; " in str(error.strerror) or "in place" in str(error.strerror)  # what to do, or what became of it
        else:
            assert name in ("listdir", "lock", "close")
            assert_same(net, expected)
            continue
        faults.clear()
        assert all(np.isfinite(w).all() for w in net.weights)  # and it keeps what it learned
        again = network()
        train(again, resume=path)
        assert_same(again, expected)
        assert os.listdir(tmp_path) == ["c"]
    assert told >= 10


def test_what_a_killed_save_left_is_removed_at_the_next_start(tmp_path: Path, kept: Path) -> None:
    path = tmp_path / "c"
    shutil.copy(kept, path)
    for start in ({"resume": path}, {"checkpoint": fastbp.Checkpoint(path)}):
        (tmp_path / ".c.0123456789abcdef.tmp").write_bytes(b"half a checkpoint")
        fit(network(), **KEPT, **start)
        assert os.listdir(tmp_path) == ["c"]


# Ctrl-C


class Stops(Forgets):
    """Ctrl-C while the validation data are judged, or in a callback."""

    def on_epoch_end(self, network: Any, record: dict) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    def state(self) -> None: ...

    def restore(self, state: None) -> None: ...


def interrupt_at(event: int) -> Callable:
    """A tracer that raises KeyboardInterrupt before the line number `event` that runs in the training loop."""
    files = {str(Path(training.__file__).with_name(f"{name}.py")) for name in ("run", "training", "order", "schedules")}
    count = iter(range(10**9))

    def trace(frame: Any, what: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if what == "line" and next(count) == event:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.parametrize("engine", ["reference", "matrix"])
def test_ctrl_c_at_any_line(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever line of the loop it comes at: the checkpoint that is there afterwards leads to the same bits."""
    monkeypatch.setattr(training, "RUN_SECONDS", 0.0)
    path = tmp_path / "c"
    options: dict[str, Any] = {"batch_size": 15, "epochs": 3, "optimizer": fastbp.Adam(fastbp.Exponential(0.05, 0.9))}
    expected = network(engine=engine)
    history = fit(expected, **options)
    interrupted = kept_on_interrupt = 0
    written = []
    on_interrupt = checkpoints.Writer.on_interrupt
    monkeypatch.setattr(
        checkpoints.Writer, "on_interrupt", lambda self, run: (written.append(run.step), on_interrupt(self, run))[1]
    )
    before = sys.gettrace()
    for event in range(0, 10**6, 3):
        path.unlink(missing_ok=True)
        net = network(engine=engine)
        written.clear()
        try:
            sys.settrace(interrupt_at(event))
            fit(net, checkpoint=fastbp.Checkpoint(path, every_epochs=2), **options)
        except KeyboardInterrupt:
            interrupted += 1
        else:
            break
        finally:
            sys.settrace(before)
        kept_on_interrupt += bool(written)
        if path.exists():
            net = network(engine=engine)
            assert_same_history(fit(net, resume=path, **options), history)
            assert_same(net, expected)
    assert interrupted > 100
    assert kept_on_interrupt > interrupted / 2


def test_ctrl_c_leaves_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, train = tmp_path / "c", matrix.MatrixEngine.train
    calls = iter(range(10**6))

    def stopped(self: Any, *arguments: Any) -> None:
        train(self, *arguments)  # the step is taken, and must be taken back
        if next(calls) == 13:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "RUN_SECONDS", 0.0)
    monkeypatch.setattr(matrix.MatrixEngine, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), checkpoint=fastbp.Checkpoint(path, every_epochs=4))
    monkeypatch.undo()
    assert resuming.load(path).state["run"]["step"] == 13
    net, expected = network(), network()
    fit(net, resume=path)
    fit(expected)
    assert_same(net, expected)


def test_ctrl_c_in_a_callback_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        fit(network(), callbacks=[Stops()], checkpoint=fastbp.Checkpoint(path))
    assert resuming.load(path).state["run"]["step"] == BATCHES


def test_ctrl_c_goes_on_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, train = tmp_path / "c", matrix.MatrixEngine.train

    def stopped(self: Any, *arguments: Any) -> None:
        monkeypatch.setattr(safefile, "_files", Watched(full))
        raise KeyboardInterrupt

    def full(name: str) -> None:
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(matrix.MatrixEngine, "train", stopped)
    with (
        pytest.raises(KeyboardInterrupt),
        pytest.warns(UserWarning, match="this moment could not be written: .*No space left"),
    ):
        fit(network(), checkpoint=fastbp.Checkpoint(path))
    monkeypatch.undo()
    assert train is matrix.MatrixEngine.train
    assert resuming.load(path).state["run"]["step"] == 0


# The documentation, and real kills


@pytest.mark.skipif(DISABLE_JIT, reason="too slow without compiled kernels")
def test_the_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in python_blocks(ROOT / "docs" / "checkpoints.md"):
        block.run(names)
    assert names["found"].batch == 12


def test_a_few_kills(tmp_path: Path) -> None:
    """A short run of the script that made docs/kill-resume.json."""
    engines = "reference,matrix" if DISABLE_JIT else "fused,matrix"
    counts = tmp_path / "counts.json"
    command = [sys.executable, str(ROOT / "tests" / "kill_resume.py"), "--kills", "16", "--engines", engines]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--json", str(counts)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(counts.read_text())
    assert (found["kills"], found["differing"]) == (16, 0)
    assert sum(each["resumed"] for each in found["engines"].values()) >= 8


def test_the_long_run_of_kills_that_is_published() -> None:
    found = json.loads((ROOT / "docs" / "kill-resume.json").read_text(encoding="utf-8"))
    assert found["kills"] >= 200 and found["differing"] == 0
    assert paragraph(found) in (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
