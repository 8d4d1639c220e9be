"""The command `fastbp sweep`: its grid, its defaults, its table, its file and its errors."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import KINDS, fail, flowers, houses, run, run_json, usage_error, write_rows

import fastbp
from fastbp import sweepcommand

QUICK = ("--engine", "matrix", "--epochs", "2", "--seeds", "2")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    X, y = flowers()
    write_rows(tmp_path / "iris.csv", [[*x, KINDS[k]] for x, k in zip(X, y, strict=True)], "a,b,c,d,species")
    X, price = houses()
    write_rows(tmp_path / "houses.csv", np.column_stack([X, price]), "area,rooms,age,price")
    return tmp_path


def test_a_table_of_means_and_the_best_setting() -> None:
    lines = run("sweep", "--grid", "eta=0.001,0.1", *QUICK).stdout.splitlines()
    assert lines[0] == "digits: 1,442 rows to train on, 355 held out; 64 features, 10 labels"
    assert lines[1] == "2 settings × 2 seeds: 4 networks"
    assert lines[3].split() == ["eta", "networks", "validation_score", "validation_cost", "seconds"]
    assert [line.split()[:2] for line in lines[5:7]] == [["0.001", "2"], ["0.1", "2"]]
    assert lines[8].startswith("best validation score: 0.") and lines[8].endswith("with eta=0.1")
    assert lines[9].startswith("4 networks in ")


def test_networks_are_those_that_train_would_build(folder: Path) -> None:
    """What is not given follows from what is, for each network by itself: its first weights, cost, step size."""
    grid = ("--grid", "activation=relu,sigmoid", "--grid", "hidden=5,5-4", "--grid", "lmbda=0,0.5")
    facts = run_json("sweep", "--data", "iris.csv", *grid, *QUICK)
    assert len(facts["by_setting"]) == 8 and len(facts["networks"]) == 16
    for activation, init in (("relu", "he"), ("sigmoid", "scaled")):
        for hidden in ("5", "5,4"):
            alone = run_json(
                "train", "--data", "iris.csv", "--activation", activation, "--hidden", hidden, "--lmbda", 0.5,
                "--engine", "matrix", "--epochs", 2, "--seed", 1,
            )  # fmt: skip
            (row,) = [
                row for row in facts["networks"]
                if row["seed"] == 1 and row["settings"]["lmbda"] == 0.5
                and row["settings"]["activation"] == activation and row["settings"]["sizes"] == alone["sizes"]
            ]  # fmt: skip
            assert row["settings"]["init"] == init and row["settings"]["eta"] == alone["eta"]
            assert row["final"]["validation_cost"] == alone["history"][-1]["validation_cost"]
    assert facts["spec"]["cost"] == "log_likelihood" and facts["spec"]["epochs"] == 2


def test_numbers_to_learn_and_an_optimizer_by_name(folder: Path) -> None:
    facts = run_json("sweep", "--data", "houses.csv", "--grid", "optimizer=adam,sgd", *QUICK)
    adam, sgd = facts["by_setting"]
    assert facts["task"] == "regress" and adam["settings"] == {"optimizer": "adam", "eta": None}
    assert sgd["settings"] == {"optimizer": "sgd", "eta": 0.02}
    assert fail("sweep", "--data", "houses.csv", "--grid", "output=identity,tanh", *QUICK).startswith(
        "numbers to learn are scaled for --grid output=identity and for no other"
    )


def test_results_are_kept_and_resumed(folder: Path) -> None:
    arguments = ("sweep", "--grid", "eta=0.01,0.1", *QUICK, "--output", "rows.jsonl")
    first = run(*arguments).stdout
    assert first.splitlines()[-1] == "results in rows.jsonl"
    content = Path("rows.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == 5 and json.loads(lines[0])["spec"]["sizes"] == [64, 30, 10]
    assert fail(*arguments) == "--output rows.jsonl is there already; add --resume, or choose another name"
    Path("rows.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:50])
    again = run(*arguments, "--resume").stdout
    assert [line.split()[:-1] for line in again.splitlines()[:7]] == [
        line.split()[:-1] for line in first.splitlines()[:7]
    ]
    assert len(Path("rows.jsonl").read_bytes().splitlines()) == 5
    refused = fail("sweep", "--grid", "eta=0.01", *QUICK, "--output", "rows.jsonl", "--resume")
    assert refused.startswith("rows.jsonl belongs to another sweep: its settings is ")


@pytest.mark.skipif(sys.platform == "win32", reason="this system knows no such signal")
def test_ctrl_c_leaves_what_was_done(folder: Path) -> None:
    command = [
        sys.executable, "-m", "fastbp", "sweep", "--grid", "eta=0.01,0.02", "--seeds", "2000", "--epochs", "1",
        "--engine", "matrix", "--output", "rows.jsonl",
    ]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    path = Path("rows.jsonl")
    while not path.exists() or path.read_bytes().count(b"\n") < 3:
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=20)
    assert child.returncode == 130
    assert error == "fastbp: stopped; the networks that were done are in rows.jsonl, and --resume goes on from there\n"
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_picture(folder: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert run("sweep", "--grid", "eta=0.01,0.1", *QUICK, "--plot", "a.png").stdout.endswith("plot in a.png\n")
    assert Path("a.png").stat().st_size > 1000


REFUSED = [
    (("--grid", "etta=1"), "'etta' is an argument of neither Network nor fit; there are sizes, "),
    (("--grid", "eta"), "--grid eta: expected a name and its values, such as eta=0.1,0.3"),
    (("--grid", "eta=0.1,,1"), "--grid eta=0.1,,1: expected a name and its values, such as eta=0.1,0.3"),
    (("--grid", "eta=0.1,0.1"), "eta=0.1 stands twice; drop one of them"),
    (("--grid", "eta=fast"), "eta must be a number, got 'fast'"),
    (("--grid", "eta=1", "--grid", "eta=2"), "--grid eta is given twice; name all its values at once: eta=A,B"),
    (("--grid", "eta=1", "--eta", "2"), "--grid eta gives what --eta gives too; drop one of them"),
    (("--grid", "batch_size=1", "--batch-size", "2"), "--grid batch-size gives what --batch-size gives too; drop"),
    (("--grid", "hidden=relu"), "--grid hidden=relu: expected layers such as 100-50 (activations go to activation=)"),
    (("--grid", "activation=rule"), "--activation='rule' is no activation; choose one of sigmoid, "),
    (("--grid", "dtype=float16"), "dtype"),
    (("--grid", "engine=warp"), "engine='warp' is none of auto, reference, matrix, fused"),
    (("--grid", "eta=1", "--validation", "0", "--data", "iris.csv"), "a sweep is judged on rows held out"),
    (("--grid", "eta=1", "--resume"), "--resume goes on with the sweep in a file; name it with --output"),
    (("--grid", "eta=1", "--output", "none/rows.jsonl"), "--output none/rows.jsonl: there is no folder none"),
    (("--grid", "eta=1", "--data", "iris.csv", "--output", "iris.csv"), "--output iris.csv would overwrite what is"),
    (
        ("--grid", "eta=1e200", "--grid", "output=identity", "--grid", "activation=identity"),
        "no network was trained to the end; the first: training diverged in epoch 0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_errors_are_one_line(arguments: tuple[str, ...], message: str, folder: Path) -> None:
    given = () if "engine=warp" in arguments else ("--engine", "matrix")
    assert message in fail("sweep", *arguments, "--epochs", 2, "--seeds", 1, *given)


def test_a_grid_is_asked_for() -> None:
    assert "--grid" in usage_error("sweep")


def test_more_workers_than_cores_is_a_note(folder: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"workers=999 is more than the \d+ cores"):
        run("sweep", "--grid", "eta=0.1", *QUICK, "--workers", 999)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("eta=0.1,1e-3,2", [0.1, 1e-3, 2]),
        ("HIDDEN=30,100-50", [[30], [100, 50]]),
        ("activation=relu,relu-tanh", [["relu"], ["relu", "tanh"]]),
        ("--batch_size=10, 20", [10, 20]),
        ("shuffle=true,false", [True, False]),
        ("optimizer=adam,none", ["adam", None]),
    ],
)
def test_the_values_of_a_grid(text: str, values: list[Any]) -> None:
    (found,) = sweepcommand.read_grid([text], {}).values()
    assert found == values and list(map(type, found)) == list(map(type, values))


def test_the_file_is_the_one_that_python_resumes(folder: Path) -> None:
    run("sweep", "--grid", "eta=0.01,0.1", *QUICK, "--output", "rows.jsonl")
    digits = fastbp.datasets.load_digits()
    header = json.loads(Path("rows.jsonl").read_text().splitlines()[0])
    X, held = (part.astype(np.float64) for part in (digits.X_train, digits.X_test))
    result = fastbp.sweep(
        header["spec"], (X, digits.y_train), grid={"eta": [0.01, 0.1]}, seeds=2,
        validation_data=(held, digits.y_test), output="rows.jsonl", resume=True,
    )  # fmt: skip
    result.to_csv("rows.csv")
    with open("rows.csv", newline="", encoding="utf-8") as file:
        assert [row["eta"] for row in csv.DictReader(file)] == ["0.01", "0.01", "0.1", "0.1"]
