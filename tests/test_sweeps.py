"""Sweeps: each network is the one that its own fit gives, whatever becomes of the others and wherever it is trained."""

import csv
import importlib.util
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import threadpoolctl
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import machine, threads
from fastbp.errors import DataFileError, FastbpError
from fastbp.sweeps import progress, spec, workers
from fastbp.sweeps.result import Mean

ENGINES = ("matrix", pytest.param("fused", marks=pytest.mark.skipif(DISABLE_JIT, reason="slow without compiled code")))
SPEC = {"sizes": [12, 8, 3], "epochs": 3, "batch_size": 7, "engine": "matrix", "hidden": "tanh"}
GRID = {"eta": [0.1, 0.5], "lmbda": [0.0, 3.0]}


def lesson(n: int = 150, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 12)) * (rng.random((n, 12)) < 0.3)
    return X, np.argmax(X[:, :3], axis=1)


DATA, HELD_OUT = lesson(), lesson(60, seed=2)


def sweep(**arguments: Any) -> fastbp.SweepResult:
    given = {"spec": SPEC, "data": DATA, "validation_data": HELD_OUT, "verbose": False} | arguments
    return fastbp.sweep(given.pop("spec"), given.pop("data"), **given)


def alone(seed: int, spec: dict[str, Any] = SPEC, X: Any = DATA[0], **settings: Any) -> tuple[fastbp.Network, Any]:
    """The same network by its own fit, and the history of it."""
    arguments = {**spec, **settings}
    of_network = {name: arguments.pop(name) for name in ("sizes", "engine", "hidden", "dtype") if name in arguments}
    network = fastbp.Network(**of_network, seed=seed)
    history = network.fit(X, DATA[1], **arguments, validation_data=HELD_OUT, verbose=False)
    return network, history


def without_times(rows: Any) -> list[dict[str, Any]]:
    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            timed = ("seconds", "examples_per_second", "model")
            return {key: strip(part) for key, part in value.items() if key not in timed}
        return [strip(part) for part in value] if isinstance(value, list) else value

    return strip(list(rows))


def parts(network: fastbp.Network) -> list[np.ndarray]:
    return [*network.weights, *network.biases]


def same(network: fastbp.Network, other: fastbp.Network) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in zip(network.weights + network.biases, other.weights + other.biases, strict=True)
    )


# --- The same as alone, bit for bit


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [1, 2])
def test_every_network_is_what_its_own_fit_gives(engine, dtype, count, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 2)  # two at a time on a machine of one core, too
    of_all = {**SPEC, "engine": engine, "dtype": dtype}
    result = sweep(spec=of_all, grid=GRID, seeds=[4, 9], workers=count, keep_models=tmp_path / "models")
    assert len(result) == 8
    assert [(row["settings"]["eta"], row["settings"]["lmbda"], row["seed"]) for row in result] == [
        (eta, lmbda, seed) for eta in (0.1, 0.5) for lmbda in (0.0, 3.0) for seed in (4, 9)
    ]
    for row in result:
        network, history = alone(row["seed"], of_all, **row["settings"])
        assert same(network, fastbp.load(row["model"]))
        assert row["status"] == "done" and row["engine_used"] == engine and row["epochs_done"] == 3
        for name in ("validation_cost", "validation_score"):
            assert [record[name] for record in row["history"]] == history[name]
            assert row["final"][name] == history[name][-1]


def test_all_that_network_and_fit_take_can_vary(tmp_path):
    configs = [
        {"sizes": [12, 3], "eta": 0.2},
        {"sizes": (12, 5, 4, 3), "hidden": ["relu", "tanh"], "eta": np.float32(0.25), "shuffle": False},
        {"optimizer": fastbp.Adam(0.01), "cost": "cross_entropy"},
        {"optimizer": "adam", "eta": 0.01, "cost": "cross_entropy"},
        {"optimizer": {"name": "SGD", "momentum": 0.5}, "eta": 0.1, "neurons": {(2, 0): "relu"}, "dtype": np.float32},
    ]
    result = sweep(configs=configs, keep_models=tmp_path)
    for row, config in zip(result, configs[:3], strict=False):
        network = fastbp.Network(**{**{k: SPEC[k] for k in ("sizes", "engine", "hidden")}, **{
            k: v for k, v in config.items() if k in ("sizes", "hidden", "cost")}}, seed=0)  # fmt: skip
        of_fit = {k: v for k, v in config.items() if k in ("eta", "optimizer", "shuffle")}
        network.fit(*DATA, epochs=3, batch_size=7, **of_fit, verbose=False)
        assert same(network, fastbp.load(row["model"])), config
    assert same(*(fastbp.load(result.rows[i]["model"]) for i in (2, 3))), "an optimizer by name is the same"
    assert [row["status"] for row in result] == ["done"] * 5
    last = result.rows[4]["settings"]
    assert last["neurons"] == [[2, 0, "relu"]] and last["dtype"] == "float32"
    assert result.rows[2]["settings"]["optimizer"] == {"name": "Adam", "eta": 0.01}
    json.dumps(result.as_dict(), allow_nan=False)


def test_what_fit_does_around_training_can_vary_too(tmp_path):
    weights = np.random.default_rng(3).random(len(DATA[1]))
    configs = [
        {"eta": 0.5, "early_stopping": fastbp.EarlyStopping(patience=1)},
        {"eta": fastbp.Cosine(0.5, 12), "monitor_training": True},
        {"optimizer": fastbp.Adam(fastbp.WarmUp(fastbp.Constant(0.01), 2)), "dropout": 0.2, "l1": 0.01},
        {"optimizer": fastbp.Adam(0.01), "class_weight": {0: 2.0, 1: 1.0}, "label_smoothing": 0.1},
        {"optimizer": fastbp.LBFGS()},
        {"eta": fastbp.HalveWhenStuck(0.5, 1), "max_norm": 2.0},
    ]
    of_all = {**SPEC, "epochs": 12}
    arguments = {"spec": of_all, "configs": configs, "sample_weight": weights, "output": tmp_path / "rows.jsonl"}
    result = sweep(**arguments, keep_models=tmp_path / "models")
    for row, config in zip(result, configs, strict=True):
        network, history = alone(0, of_all, **config, sample_weight=weights)
        assert same(network, fastbp.load(row["model"])), config
        assert row["epochs_done"] == len(history)
        kept = len(history) - 1 if history.best_epoch is None else history.best_epoch
        assert row["final"]["validation_cost"] == history["validation_cost"][kept]
    first = result.rows[0]
    assert first["status"] == "stopped" and first["message"].startswith("early stopping after ")
    assert result.rows[1]["settings"]["eta"] == {"name": "Cosine", "eta": 0.5, "length": 12}
    assert "training_score" in result.rows[1]["final"]
    assert without_times(sweep(**{**arguments, "configs": configs}, resume=True)) == without_times(result)


def test_sparse_and_read_only_data_and_names_for_labels():
    X, y = DATA
    names = np.array(["a", "b", "c"])[y]
    expected = without_times(sweep(grid=GRID))
    frozen = X.copy()
    frozen.flags.writeable = False
    for data in ((scipy.sparse.csr_array(X), y), (frozen, y), (X.tolist(), list(y))):
        assert without_times(sweep(data=data, grid=GRID)) == expected
    held_out = (HELD_OUT[0], np.array(["a", "b", "c"])[HELD_OUT[1]])
    assert without_times(sweep(data=(X, names), validation_data=held_out, grid=GRID)) == expected


def test_an_executor_of_threads_may_be_the_users():
    with ThreadPoolExecutor(3) as pool:
        result = sweep(grid=GRID, executor=pool)
        assert pool.submit(int).result() == 0, "it is still open"
    assert without_times(result) == without_times(sweep(grid=GRID))


@pytest.fixture(scope="module")
def processes() -> Any:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_processes_give_the_same_and_get_the_data_once(processes, tmp_path, monkeypatch):
    sent = []
    original = workers.Parcel.__init__
    monkeypatch.setattr(workers.Parcel, "__init__", lambda self, arrays: original(self, arrays))
    submit = processes.submit
    monkeypatch.setattr(processes, "submit", lambda f, *a: (sent.append(a[1] is not None), submit(f, *a))[1])
    result = sweep(grid=GRID, seeds=3, executor=processes, keep_models=tmp_path)
    assert without_times(result) == without_times(sweep(grid=GRID, seeds=3))
    assert 2 <= sum(sent) <= 5, "the first run of each worker brings the data, and few others"
    network, _ = alone(0, eta=0.1, lmbda=0.0)
    assert same(network, fastbp.load(result.rows[0]["model"]))


def test_loky_workers_give_the_same():
    loky = pytest.importorskip("loky", reason="loky is not installed")
    pool = loky.get_reusable_executor(max_workers=2)
    try:
        assert without_times(sweep(grid=GRID, executor=pool)) == without_times(sweep(grid=GRID))
    finally:
        pool.shutdown()


class _Forgetful:
    """An executor of one worker that loses what it was sent every few tasks, as a worker does that is started anew."""

    _max_workers = 1

    def __init__(self) -> None:
        self.sent: list[bool] = []

    def submit(self, function: Any, *arguments: Any) -> Future:
        if len(self.sent) % 3 == 2:
            workers._held = None
        name, parcel, *rest = arguments
        self.sent.append(parcel is not None)
        parcel = pickle.loads(pickle.dumps(parcel))
        future: Future = Future()
        future.set_result(function(name, parcel, *rest))
        return future


def test_a_worker_that_has_lost_the_data_is_sent_them_again(monkeypatch):
    monkeypatch.setattr(workers, "_held", None)
    pool = _Forgetful()
    assert without_times(sweep(grid=GRID, executor=pool)) == without_times(sweep(grid=GRID))
    assert len(pool.sent) > 4 and 1 < sum(pool.sent) < len(pool.sent)


# --- Faults


def test_a_network_that_diverges_does_not_hold_up_the_rest(tmp_path):
    grid = {"eta": [0.1, 1e200, 0.5], "output": ["identity"]}
    result = sweep(grid=grid, seeds=2, keep_models=tmp_path)
    assert [row["status"] for row in result] == ["done"] * 2 + ["diverged"] * 2 + ["done"] * 2
    diverged = result.rows[2]
    assert "training diverged in epoch" in diverged["message"] and "eta=1e+200" in diverged["message"]
    assert diverged["epochs_done"] < 3 and np.isfinite(fastbp.load(diverged["model"]).weights[0]).all()
    rest = sweep(grid={**grid, "eta": [0.1, 0.5]}, seeds=2)
    numbers = ("run",)
    kept = [
        {k: v for k, v in row.items() if k not in numbers} for row in without_times(result) if row["status"] == "done"
    ]
    assert kept == [{k: v for k, v in row.items() if k not in numbers} for row in without_times(rest)]
    assert "2 diverged" in str(result) and result.best().settings["eta"] in (0.1, 0.5)


def test_a_network_that_fails_says_why(monkeypatch):
    original = fastbp.Network.fit

    def fit(self, X, y, **arguments):
        if arguments.get("lmbda") == 3.0 and isinstance(arguments["verbose"], workers.Listener):
            raise MemoryError("no room")
        return original(self, X, y, **arguments)

    monkeypatch.setattr(fastbp.Network, "fit", fit)
    result = sweep(grid=GRID)
    assert [row["status"] for row in result] == ["done", "failed"] * 2
    assert result.rows[1]["message"] == "MemoryError: no room" and result.rows[1]["final"] == {}


def test_a_fit_that_ends_early_is_stopped_not_done(monkeypatch):
    original = fastbp.Network.fit

    def fit(self, X, y, **arguments):
        history = original(self, X, y, **arguments)
        del history.epochs[2:]
        return history

    monkeypatch.setattr(fastbp.Network, "fit", fit)
    (row,) = sweep(spec={**SPEC, "eta": 0.1})
    assert (row["status"], row["message"], row["epochs_done"]) == ("stopped", "the fit ended after 2 of 3 epochs", 2)


def test_the_final_metrics_are_those_of_the_parameters_that_were_put_back(monkeypatch):
    original = fastbp.Network.fit

    def fit(self, X, y, **arguments):
        history = original(self, X, y, **arguments)
        del history.epochs[2:]
        history.ended, history.best_epoch = "early stopping", 0
        return history

    monkeypatch.setattr(fastbp.Network, "fit", fit)
    (row,) = sweep(spec={**SPEC, "eta": 0.1})
    assert (row["status"], row["message"]) == ("stopped", "early stopping after 2 of 3 epochs")
    assert row["final"]["validation_cost"] == row["history"][0]["validation_cost"]


REFUSED = {
    "an unknown name": ({"grid": {"etta": [1]}}, TypeError, "'etta' is an argument of neither Network nor fit"),
    "a seed": ({"spec": {**SPEC, "seed": 1}}, ValueError, "seeds=5"),
    "data in the spec": ({"spec": {**SPEC, "X": 1}}, ValueError, "the data are given to sweep itself"),
    "a checkpoint": ({"spec": {**SPEC, "checkpoint": "a"}}, ValueError, "all networks would write the same one"),
    "a checkpoint beside the data": ({"checkpoint": "a"}, ValueError, "all networks would write the same one"),
    "no epochs": ({"spec": {"sizes": [12, 3]}}, ValueError, "'epochs' is missing"),
    "a function": ({"spec": {**SPEC, "hidden": (abs, abs)}}, TypeError, "functions of your own"),
    "both": ({"grid": GRID, "configs": [{}]}, ValueError, "either grid= .* or configs="),
    "no values": ({"grid": {"eta": []}}, ValueError, r"grid\['eta'\] is empty"),
    "one value": ({"grid": {"eta": 0.1}}, TypeError, r"grid\['eta'\] must be a list of values, got 0.1"),
    "a string": ({"grid": {"cost": "quadratic"}}, TypeError, "must be a list of values"),
    "twice": ({"grid": {"eta": [0.1, 0.1]}}, ValueError, "eta=0.1 stands twice"),
    "no configs": ({"configs": []}, TypeError, "configs must be a list of mappings"),
    "a config of another kind": ({"configs": [3]}, TypeError, r"configs\[0\] must be a mapping"),
    "no seeds": ({"seeds": 0}, ValueError, "at least one whole number"),
    "negative seeds": ({"seeds": [-1]}, ValueError, "at least one whole number"),
    "seeds twice": ({"seeds": [1, 1]}, ValueError, "each once"),
    "seeds of text": ({"seeds": "12"}, TypeError, "seeds must be a whole number"),
    "no pair": ({"data": np.zeros((3, 12))}, TypeError, r"data must be a pair \(X, y\), got ndarray"),
    "another keyword": ({"wrokers": 3}, TypeError, "'wrokers' is an argument of neither sweep nor fit"),
    "no workers": ({"workers": 0}, ValueError, "workers must be at least 1, got 0"),
    "an executor and workers": ({"workers": 2, "executor": _Forgetful()}, ValueError, "either executor= or workers="),
    "resume without a file": ({"resume": True}, ValueError, "name it with output="),
    "a wrong value": ({"grid": {"eta": [0.1, "big"]}}, TypeError, "eta must be a number, got 'big'"),
    "a wrong value of fit": ({"grid": {"lmbda": [0.0, -1.0]}}, ValueError, "lmbda must be a finite number ≥ 0"),
    "a wrong size": ({"spec": {**SPEC, "sizes": [11, 3]}}, ValueError, "takes 11 features"),
    "NaN": ({"data": (DATA[0] * np.nan, DATA[1])}, ValueError, "has nan in row 0"),
    "a wrong optimizer": ({"grid": {"optimizer": ["adamant"]}}, ValueError, "'adamant' is none of SGD, SGDW, Adagrad"),
    "an optimizer without a step": ({"grid": {"optimizer": ["sgd"]}}, TypeError, "optimizer 'sgd'.*eta"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_before_anything_is(arguments, error, message, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "train", lambda *_: pytest.fail("something was trained"))
    varied = arguments.get("grid") or {}
    eta = {} if {"eta", "optimizer"} & set(varied) else {"eta": 0.1}
    of_all = {**eta, **arguments.get("spec", SPEC)}
    output = {} if arguments.get("resume") else {"output": tmp_path / "rows.jsonl"}
    with pytest.raises(error, match=message):
        sweep(**{**output, **arguments, "spec": of_all})
    assert not list(tmp_path.iterdir()), "no file is left behind"


def test_more_workers_than_cores_are_capped_with_a_note():
    cores = machine.cores()
    with pytest.warns(RuntimeWarning, match=f"workers={cores + 5} is more than the {cores} cores"):
        result = sweep(grid=GRID, workers=cores + 5)
    assert len(result) == 4


def pools() -> list[int]:
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


def test_every_network_keeps_to_one_core(monkeypatch):
    """With threads of its own in the compiled loops, two networks on two cores would wait for each other's."""
    allowed, original = [], fastbp.Network.fit

    def fit(self, X, y, **arguments):
        allowed.append((threads.available(), *pools()))
        return original(self, X, y, **arguments)

    monkeypatch.setattr(fastbp.Network, "fit", fit)
    with ThreadPoolExecutor(2) as pool:
        sweep(grid=GRID, executor=pool)
    assert {n for each in allowed for n in each} == {1} and len(allowed) > 4


def test_blas_pools_are_put_back_after_a_sweep_and_after_an_exception(monkeypatch):
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        before, during = pools(), []
        monkeypatch.setattr(progress.Teller, "network_done", lambda *_: during.append(pools()))
        sweep(grid=GRID)
        assert pools() == before and {n for pool in during for n in pool} == {1}
        monkeypatch.setattr(progress.Teller, "network_done", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sweep(grid=GRID)
        assert pools() == before


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot signal a thread")
def test_an_interrupt_stops_the_networks_in_training(monkeypatch):
    """Ctrl-C comes to the main thread, while others are in the midst of fits that would take minutes."""

    def interrupt() -> None:
        time.sleep(0.5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = pools()
    threading.Thread(target=interrupt).start()
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        sweep(spec={**SPEC, "epochs": 1_000_000, "eta": 0.01})
    assert time.perf_counter() - began < 3
    assert pools() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fastbp-sweep")]


# --- The file


def test_a_sweep_goes_on_where_it_was_left(tmp_path):
    path = tmp_path / "rows.jsonl"
    whole = sweep(grid=GRID, seeds=2, output=path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 9
    header = json.loads(lines[0])
    assert header["spec"] == SPEC and header["seeds"] == [0, 1] and header["settings"][0] == {"eta": 0.1, "lmbda": 0.0}
    # at any byte of the header, within a row, between rows, and complete
    ends = np.cumsum([0, *map(len, lines)])
    for cut in (0, 1, ends[1] - 1, ends[1], ends[3] + 20, ends[4] - 1, ends[4], ends[-1]):
        path.write_bytes(b"".join(lines)[:cut])
        again = sweep(grid=GRID, seeds=2, output=path, resume=True)
        assert without_times(again) == without_times(whole)
        kept = b"".join(line for line, end in zip(lines, ends[1:], strict=True) if end <= cut)
        content = path.read_bytes()
        assert content.startswith(kept) and content.count(b"\n") == 9 and content.endswith(b"\n")
        assert all(json.loads(line) for line in content.splitlines())


def test_resuming_trains_only_what_is_missing_and_what_failed(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    sweep(grid=GRID, output=path)
    lines = path.read_text().splitlines(keepends=True)
    failed = json.dumps({**json.loads(lines[2]), "status": "failed"}) + "\n"
    path.write_text("".join([*lines[:2], failed, lines[3]]))
    trained: list[int] = []
    original = workers.train
    monkeypatch.setattr(
        workers, "train", lambda a, run, *rest: (trained.append(run.number), original(a, run, *rest))[1]
    )
    result = sweep(grid=GRID, output=path, resume=True)
    numbers = [json.loads(line)["run"] for line in lines[1:]]
    assert sorted(trained) == sorted([numbers[1], numbers[3]])
    assert {row["status"] for row in result} == {"done"}
    trained.clear()
    sweep(grid=GRID, output=path, resume=True)
    assert trained == []
    sweep(grid=GRID, output=path, resume=True, keep_models=tmp_path)
    assert sorted(trained) == [0, 1, 2, 3], "their models were not kept"
    trained.clear()
    (tmp_path / "network-0002.safetensors").unlink()
    result = sweep(grid=GRID, output=path, resume=True, keep_models=tmp_path)
    assert trained == [2] and all(fastbp.load(row["model"]) for row in result)


DIFFERENT = {
    "another spec": ({"spec": {**SPEC, "epochs": 2}}, "its spec is"),
    "another grid": ({"grid": {"eta": [0.1]}}, "its settings is"),
    "other seeds": ({"seeds": 3}, r"its seeds is \[0\], here it is \[0, 1, 2\]"),
    "other data": ({"data": (DATA[0] + 1e-9, DATA[1])}, "its data is"),
    "other validation data": ({"validation_data": DATA}, "its data is"),
}


@pytest.mark.parametrize(("arguments", "message"), DIFFERENT.values(), ids=DIFFERENT)
def test_the_file_of_another_sweep_is_refused_and_left_alone(arguments, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    sweep(grid=GRID, output=path)
    before = path.read_bytes()
    with pytest.raises(FastbpError, match=f"belongs to another sweep: {message}"):
        sweep(**{"grid": GRID, "output": path, "resume": True, **arguments})
    with pytest.raises(FastbpError, match="is there already; go on with the sweep in it"):
        sweep(grid=GRID, output=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"hello", FastbpError, "is no file of a sweep"),
        (b"hello\n", DataFileError, "line 1 is damaged"),
        (b"[" * 100_000 + b"\n", DataFileError, "line 1 is damaged"),
        (b'{"format": "another"}\n', FastbpError, "no file of a sweep that this version can resume"),
        (b"HEADER{}\n", DataFileError, "line 2: there is no network None"),
        (b'HEADER{"run": 99}\n', DataFileError, "line 2: there is no network 99"),
        (b'HEADER{"run": 0, "seed": 7}\n', DataFileError, "line 2: network 0 is not the one with eta=0.1"),
        (b"HEADER\x00\x00\n", DataFileError, "line 2 is damaged"),
        (b"HEADER3\n", DataFileError, "line 2 is damaged: expected a JSON object"),
    ],
)
def test_a_damaged_file_is_refused_and_left_alone(content, error, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    sweep(grid=GRID, output=path)
    content = content.replace(b"HEADER", path.read_bytes().splitlines(keepends=True)[0])
    path.write_bytes(content)
    with pytest.raises(error, match=message):
        sweep(grid=GRID, output=path, resume=True)
    assert path.read_bytes() == content


def test_other_versions_are_noted(tmp_path):
    path = tmp_path / "rows.jsonl"
    sweep(grid=GRID, output=path)
    lines = path.read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    header["versions"]["numpy"] = "1.0"
    path.write_text(json.dumps(header) + "\n" + lines[1])
    with pytest.warns(RuntimeWarning, match="the last digits of the two parts may differ"):
        result = sweep(grid=GRID, output=path, resume=True)
    assert without_times(result) == without_times(sweep(grid=GRID))


def test_a_file_is_written_by_one_sweep_at_a_time(tmp_path):
    pytest.importorskip("fcntl", reason="this system has no file locks of this kind")
    path, refused = tmp_path / "rows.jsonl", []

    class Second(progress.Teller):
        def network_done(self, row: dict[str, Any]) -> None:
            with pytest.raises(FastbpError, match="being written by another sweep") as error:
                sweep(grid=GRID, output=path, resume=True)
            refused.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "Teller", Second)
        sweep(grid=GRID, output=path)
    assert len(refused) == 4


def test_a_full_disk_ends_the_sweep_and_what_was_written_stands(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    synced = []

    def fsync(fd: int) -> None:
        synced.append(fd)
        if len(synced) == 3:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left"):
            sweep(grid=GRID, output=path)
    assert without_times(sweep(grid=GRID, output=path, resume=True)) == without_times(sweep(grid=GRID))


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FastbpError, match="there is no folder"):
        sweep(grid=GRID, output=tmp_path / "none" / "rows.jsonl")


KILLED = """
import sys, time
sys.path[:0] = [sys.argv[1]]
import test_sweeps
from fastbp.sweeps import workers
original = workers.train
def train(*arguments):
    time.sleep(0.02)
    return original(*arguments)
workers.train = train
test_sweeps.sweep(grid=test_sweeps.GRID, seeds=8, output=sys.argv[2], workers=1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system does not kill")
def test_a_killed_sweep_resumes(tmp_path):
    path = tmp_path / "rows.jsonl"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path)])
    while not path.exists() or path.read_bytes().count(b"\n") < 4:
        assert child.poll() is None, "it ended by itself"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = path.read_bytes()
    assert 4 <= left.count(b"\n") < 33
    resumed = sweep(grid=GRID, seeds=8, output=path, resume=True)
    assert path.read_bytes().startswith(left[: left.rindex(b"\n") + 1])
    assert without_times(resumed) == without_times(sweep(grid=GRID, seeds=8))


# --- The result


def row(run: int, settings: dict[str, Any], seed: int, score: float | None, status: str = "done") -> dict[str, Any]:
    final = {} if score is None else {"validation_cost": 1 - score, "validation_score": score}
    return {
        "run": run, "settings": settings, "seed": seed, "status": status, "message": "", "engine_used": "fused",
        "epochs_done": 1, "seconds": 0.5, "final": final, "history": [{"epoch": 0, **final}],
    }  # fmt: skip


def rows() -> fastbp.SweepResult:
    small, large = {"eta": 0.1, "sizes": [4, 2]}, {"eta": 10.0, "sizes": [4, 3, 2]}
    scores = [0.8, 0.9, 0.7]
    first = [row(i, small, i, score) for i, score in enumerate(scores)]
    return fastbp.SweepResult([*first, row(3, large, 0, 0.95), row(4, large, 1, None, "diverged")])


def test_the_table_has_means_and_standard_errors():
    result = rows()
    small, large = result.by_setting()
    score = small.metrics["validation_score"]
    assert score.mean == pytest.approx(0.8) and score.n == 3
    assert score.error == pytest.approx(np.std([0.8, 0.9, 0.7], ddof=1) / np.sqrt(3))
    assert large.statuses == {"done": 1, "diverged": 1} and large.metrics["validation_score"].error is None
    lines = str(result).splitlines()
    assert lines[0].split() == [
        "eta",
        "sizes",
        "networks",
        "validation_score",
        "validation_cost",
        "seconds",
        "of",
        "which",
    ]
    assert lines[2].split() == ["0.1", "4-2", "3", "0.800", "±", "0.058", "0.200", "±", "0.058", "0.50"]
    assert lines[3].split() == ["10", "4-3-2", "2", "0.95", "0.05", "0.50", "1", "diverged"]


def test_the_best_setting_has_no_network_that_diverged():
    result = rows()
    assert result.best().settings["eta"] == 0.1
    assert result.best("validation_cost").settings["eta"] == 0.1
    assert fastbp.SweepResult(result.rows[3:]).best().settings["eta"] == 10.0, "if there is no other"
    with pytest.raises(ValueError, match="no network has 'accuracy'; there are"):
        result.best("accuracy")
    with pytest.raises(ValueError, match="give validation_data"):
        fastbp.SweepResult([row(0, {}, 0, None)]).best()


@pytest.mark.parametrize(
    ("mean", "text"),
    [
        (Mean(0.95123, 0.00123, 5), "0.9512 ± 0.0012"),
        (Mean(0.95123, None, 1), "0.9512"),
        (Mean(0.5, 0.0, 3), "0.5 ± 0"),  # three seeds that agree are not one seed
        (Mean(0.30000000000000004, 2e-17, 3), "0.3 ± 0"),
        (Mean(123.4, 12.0, 3), "123 ± 12"),
        (Mean(1e-9, 1e-12, 3), "1e-09 ± 1e-12"),
    ],
)
def test_a_mean_is_printed_as_far_as_its_error_goes(mean, text):
    assert str(mean) == text


def test_csv_json_and_frame_hold_every_network(tmp_path):
    result = rows()
    result.rows[1]["model"] = "network-0001.safetensors"
    result.to_csv(tmp_path / "rows.csv")
    with open(tmp_path / "rows.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["sizes"] for line in lines] == ["4-2"] * 3 + ["4-3-2"] * 2
    assert [line["model"] for line in lines[:2]] == ["", "network-0001.safetensors"]
    assert lines[1]["validation_score"] == "0.9" and lines[4]["validation_score"] == "" and lines[4]["seed"] == "1"
    result.to_json(tmp_path / "rows.json")
    document = json.loads((tmp_path / "rows.json").read_text())
    assert document["networks"] == result.rows and len(document["settings"]) == 2
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = result.to_frame()
    assert isinstance(frame, pandas.DataFrame) and frame["validation_score"].tolist()[:4] == [0.8, 0.9, 0.7, 0.95]


def test_a_plot_has_a_line_for_each_combination_of_the_others(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    result = sweep(grid={"eta": [0.01, 0.1, 1.0], "sizes": [[12, 3], [12, 4, 3]]}, seeds=2)
    axis = result.plot(path=tmp_path / "plot.png").axes[0]
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert axis.get_xlabel() == "eta" and axis.get_xscale() == "log" and axis.get_ylabel() == "validation score"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["sizes=12-3", "sizes=12-4-3"]
    axis = result.plot("validation_cost", x="sizes").axes[0]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["12-3", "12-4-3"] and axis.get_xscale() == "linear"
    with pytest.raises(ValueError, match="x='lmbda' is no setting of this sweep; there are eta, sizes"):
        result.plot(x="lmbda")
    with pytest.raises(ValueError, match="no network has"):
        result.plot("accuracy")
    assert sweep(spec={**SPEC, "eta": 0.1}).plot().axes[0].get_legend() is None
    line = sweep(grid={"eta": [0.1, 1.0, 0.01]}).plot().axes[0].lines[0]
    assert line.get_xdata().tolist() == [0.01, 0.1, 1.0]  # whatever the order of the grid


@pytest.mark.parametrize(("package", "ask"), [("pandas", "to_frame"), ("matplotlib", "plot")])
def test_what_needs_a_package_that_is_not_there_says_so(package, ask, monkeypatch):
    result = sweep(grid={"eta": [0.1]})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FastbpError, match=f"{ask} needs {package}, which is not installed; pip install"):
        getattr(result, ask)()


def test_results_and_runs_can_be_pickled():
    result = sweep(grid=GRID)
    assert pickle.loads(pickle.dumps(result)) == result
    run = spec.expand(SPEC, GRID, None, 2)[3]
    assert pickle.loads(pickle.dumps(run)) == run


def test_without_validation_data_there_are_times_only():
    result = sweep(validation_data=None, grid=GRID)
    assert result.metrics == [] and "seconds" in str(result)


def test_numbers_that_are_not_finite_are_none():
    (row,) = sweep(
        spec={**SPEC, "eta": 1e155, "hidden": "sigmoid", "output": "identity", "epochs": 1, "batch_size": 150}
    )
    assert row["status"] == "done" and row["final"]["validation_cost"] is None
    json.dumps(row, allow_nan=False)


# --- Progress


def test_verbose_prints_a_line_a_network(capsys):
    sweep(grid=GRID, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].startswith("1/4  eta=") and "seed=0: done, validation_score 0." in lines[0]
    sweep(grid=GRID)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("FORCE_COLOR", "1")
    sweep(grid={"eta": [0.1, 1e200], "output": ["identity"]}, verbose=None)
    shown = capsys.readouterr()
    assert shown.out == "" and "/2 networks" in shown.err


def test_the_bar_counts_networks_and_their_epochs(monkeypatch, capsys):
    runs = spec.expand({**SPEC, "eta": 0.1}, None, None, 3)
    monkeypatch.setenv("COLUMNS", "100")
    with progress._bar(3, 1) as bar:
        bar.epoch_done(runs[1])
        bar.epoch_done(runs[1])
        assert bar.shares == {1: pytest.approx(2 / 3)}
        bar.network_done(row(1, {}, 1, None, "diverged"))
        assert bar.done == 2 and bar.shares == {} and bar.trouble == {"diverged": 1}
