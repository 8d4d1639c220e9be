"""docs/sweeps.md: its examples run as they stand; those for other executors as scripts, where the package is there."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from docs_blocks import python_blocks
from numba.core.config import DISABLE_JIT

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sweeps.md"
LINES = PAGE.read_text(encoding="utf-8").splitlines()
# The name of each block's script, from the comment above it; None for those that run one after another.
BLOCKS = [
    (LINES[block.line - 3].removeprefix("<!-- script: ").removesuffix(" -->"), block) for block in python_blocks(PAGE)
]
SCRIPTS = {name: block for name, block in BLOCKS if LINES[block.line - 3].startswith("<!-- script: ")}
TABLE_OF_TWO = ["eta", "networks", "validation_score", "validation_cost", "seconds"]


def run_script(name: str, folder: Path, *before: str) -> list[str]:
    """The lines that a script of the page prints."""
    (folder / "sweep.py").write_text(SCRIPTS[name].source)
    done = subprocess.run(
        [*before, sys.executable, *(["-m", "mpi4py.futures"] if before else []), "sweep.py"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def check_table(lines: list[str]) -> None:
    assert lines[0].split() == TABLE_OF_TWO, lines
    assert [line.split()[1] for line in lines[2:4]] == ["2", "2"]


def check_rows(path: Path) -> None:
    """What the workers trained is what a sweep in threads of this process gives."""
    import fastbp

    digits = fastbp.datasets.load_digits()
    alone = fastbp.sweep(
        {"sizes": [64, 30, 10], "epochs": 2, "batch_size": 10}, (digits.X_train, digits.y_train),
        validation_data=(digits.X_test, digits.y_test), grid={"eta": [1.0, 3.0]}, seeds=2,
    )  # fmt: skip
    rows = {row["run"]: row for row in map(json.loads, path.read_text().splitlines()[1:])}
    assert [rows[i]["final"] for i in range(4)] == [row["final"] for row in alone]
    assert {row["status"] for row in rows.values()} == {"done"}


@pytest.mark.skipif(DISABLE_JIT, reason="slow without compiled kernels")
def test_the_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("matplotlib", "pandas"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for name, block in BLOCKS:
        if name not in SCRIPTS:
            block.run(names)
    assert names["best"].metrics["validation_score"].mean > 0.9
    assert [row["status"] for row in names["other"]] == ["done"] * 12
    assert len(names["again"]) == 6 and len(names["frame"]) == 30
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.csv", "sweep.json", "sweep.png", "sweep.jsonl"}


def test_processes(tmp_path: Path) -> None:
    check_table(run_script("processes", tmp_path))


@pytest.mark.skipif(DISABLE_JIT, reason="slow without compiled kernels")
def test_dask(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="dask's distributed is not installed")
    check_table(run_script("dask", tmp_path))
    check_rows(tmp_path / "dask.jsonl")


@pytest.mark.skipif(DISABLE_JIT, reason="slow without compiled kernels")
def test_mpi(tmp_path: Path) -> None:
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    found = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip("there is no mpiexec; pip install mpich brings one")
    check_table(run_script("mpi", tmp_path, found, "-n", "3"))
    check_rows(tmp_path / "mpi.jsonl")
