"""The benchmarks: contenders agree before they are timed, and what is published follows from the results file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import contenders, machine, report, throughput, workloads
from benchmarks.__main__ import app as benchmarks_app
from benchmarks.contenders import sweeps
from benchmarks.measure import QUICK, Runner, check_order, spread
from benchmarks.processes import FOREIGN_KERNELS, Process, WorkerError, environment
from benchmarks.render import app as render_app
from benchmarks.render import losses, missed, page
from benchmarks.results import FORMAT, GOALS, LABELS, Results, _sweep_share, judged
from benchmarks.workloads import Order, Workload

TINY = {
    "sigmoid, quadratic": Workload("tiny", (12, 5, 3), 4, data="gaussian"),
    "cross-entropy, decay": Workload("tiny", (12, 5, 3), 4, cost="cross_entropy", lmbda=5000.0, data="gaussian"),
    "three layers, relu": Workload(
        "tiny", (12, 6, 5, 3), 4, "relu", "softmax", "log_likelihood", initializer="he", data="gaussian"
    ),
    "adam": Workload("tiny", (12, 5, 3), 4, "relu", "softmax", "log_likelihood", "adam", 1e-3, data="gaussian"),
    "adam, dropout, weights": Workload(
        "tiny", (12, 5, 3), 4, optimizer="adam", eta=1e-2, data="gaussian", dropout=0.5, weighted=True
    ),
    "dropout and weights, relu": Workload(
        "tiny", (12, 6, 5, 3), 4, "relu", "softmax", "log_likelihood", initializer="he", data="gaussian",
        dropout=0.3, weighted=True,
    ),
    "weights, cross-entropy": Workload("tiny", (12, 5, 3), 4, cost="cross_entropy", data="gaussian", weighted=True),
}  # fmt: skip
NO_PEER = ("fused", "matrix", "reference", "auto", "per_example", "numpy_batch")
EXACT_PEERS = {"torch_eager": "torch", "jax_scan": "jax"}


def trained(name: str, workload: Workload, dtype: str, checking: bool = True) -> np.ndarray:
    """A contender's parameters after two epochs of a hundred examples."""
    pytest.importorskip(EXACT_PEERS.get(name, "numpy"), reason="not installed, so not compared")
    contender, kind = contenders.load(name), np.dtype(dtype)
    refusal = contender.refusal(workload, kind)
    if refusal:
        pytest.skip(refusal)
    data = workloads.load(workload, 100)
    contender.prepare(workload, data, kind, 1, workloads.initial_theta(workload))
    contender.checking = checking
    contender.run(Order(100, epochs=2))
    return contender.parameters()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", (*NO_PEER, *EXACT_PEERS))
@pytest.mark.parametrize("workload", TINY.values(), ids=TINY)
def test_contenders_agree(name: str, workload: Workload, dtype: str) -> None:
    truth, start = trained("reference", workload, "float64"), workloads.initial_theta(workload)
    error = np.linalg.norm(trained(name, workload, dtype) - truth) / np.linalg.norm(truth - start)
    assert error < contenders.load(name).tolerance(workload, np.dtype(dtype))


def test_every_contender_has_a_file_and_a_label() -> None:
    assert set(LABELS) == set(contenders.NAMES)
    files = {path.stem for path in Path(contenders.__file__).parent.glob("*.py")} - {"__init__", "engines"}
    assert files == set(contenders.NAMES)


def test_the_order_is_that_of_np_random_shuffle() -> None:
    rows = Order(30, epochs=2, seed=5).rows()
    pairs = list(range(30))
    np.random.seed(5)
    for epoch in rows:
        np.random.shuffle(pairs)
        np.testing.assert_array_equal(epoch, pairs)


def test_synthetic_images_are_as_sparse_as_mnist_and_do_not_change() -> None:
    data = workloads.like_mnist(300)
    assert data.X.shape == (300, 784) and data.X.dtype == np.float32
    assert 0.17 < np.count_nonzero(data.X) / data.X.size < 0.21
    assert data.X.min() >= 0 and data.X.max() < 1
    assert not data.X[:, :28].any(), "MNIST's border is blank"
    np.testing.assert_array_equal(data.X, workloads.like_mnist(300).X)
    assert set(np.unique(data.labels)) == set(range(10))


def test_bare_products_have_the_shapes_of_a_mini_batch() -> None:
    work = Workload("", (7, 5, 3), 4)
    shapes = [(a.shape, b.shape) for a, b in contenders.factors(work, np.dtype(np.float32))]
    assert shapes == [
        ((4, 7), (7, 5)), ((5, 4), (4, 7)),
        ((4, 5), (5, 3)), ((3, 4), (4, 5)), ((4, 3), (3, 5)),
    ]  # fmt: skip


# --- processes ----------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Workload:
    monkeypatch.setattr(workloads, "EXAMPLES", 400)
    return TINY["sigmoid, quadratic"]


def test_who_agrees_is_timed_and_who_cannot_run_says_why(small: Workload) -> None:
    said: list[str] = []
    with Runner(QUICK._replace(seconds=0.01, pause=0.0), said.append) as runner:
        rows = runner.measure(small, ["numpy_batch", "reference", "per_example", "absent"], "float32", [1])
    by_name = {row["contender"]: row for row in rows}
    for name in ("numpy_batch", "reference"):
        row = by_name[name]
        assert row["status"] == "timed" and len(row["samples"]) == QUICK.samples and row["seconds"] > 0
        assert row["check"]["error"] < 1e-3 and row["check"]["against"] == "reference float64"
        assert row["warm"]["total"] > row["warm"]["first"] > 0
    assert by_name["per_example"]["status"] == "not supported" and "float64" in by_name["per_example"]["reason"]
    assert by_name["absent"]["status"] == "not installed" and "absent" in by_name["absent"]["reason"]
    assert any("numpy_batch" in line for line in said)


def test_a_variant_is_timed_beside_a_bare_sweep(small: Workload) -> None:
    variant = small._replace(optimizer="adam", eta=1e-2, dropout=0.5, weighted=True, plain="S1")
    with Runner(QUICK._replace(seconds=0.01, pause=0.0), str) as runner:
        rows = runner.measure(variant, ["fused", "numpy_batch"], "float32", [1])
    fused, numpy_batch = rows
    assert fused["status"] == numpy_batch["status"] == "timed"
    assert len(fused["sweep"]) == QUICK.samples and min(fused["sweep"]) > 0
    assert numpy_batch["sweep"] == []


@pytest.mark.parametrize("name", ["numpy_batch", *EXACT_PEERS])
def test_what_is_timed_draws_masks_of_its_own(name: str) -> None:
    workload = TINY["adam, dropout, weights"]
    given, own = (trained(name, workload, "float64", checking=checking) for checking in (True, False))
    moved = np.linalg.norm(given - workloads.initial_theta(workload))
    assert 0.01 * moved < np.linalg.norm(own - given) < moved


def test_a_wrong_result_is_not_timed(small: Workload) -> None:
    with Runner(QUICK._replace(seconds=0.01, pause=0.0), str) as runner:
        truth, whose = runner.oracle(small)
        truth += 0.1
        (row,) = runner.measure(small, ["numpy_batch"], "float64", [1])
    assert row["status"] == "wrong result" and whose in row["reason"] and "seconds" not in row


def test_a_process_that_dies_is_a_failed_row() -> None:
    with Process(1) as process:
        process.ask("load", contender="numpy_batch")
        process.child.kill()
        with pytest.raises(WorkerError, match=r"failed: the process ended with code -9"):
            process.ask("pools")


def test_workers_take_the_kernels_of_this_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set where the benchmarks are started: OpenBLAS reads it when it is loaded."""

    def kernels() -> list[tuple[str, str | None]]:
        with Process(1) as process:
            process.ask("load", contender="numpy_batch")
            pools = process.ask("pools")["pools"]
            assert all(pool["architecture"] for pool in pools if pool["internal_api"] == "openblas")
            return sorted((pool["internal_api"], pool["architecture"]) for pool in pools)

    for name in FOREIGN_KERNELS:
        monkeypatch.delenv(name, raising=False)
    own = kernels()
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "128")
    assert environment(1).keys().isdisjoint(FOREIGN_KERNELS)
    assert kernels() == own


# --- many networks ------------------------------------------------------------------------------------------


def many(name: str, workload: Workload, networks: int = 3) -> np.ndarray:
    """The parameters of some networks after two epochs of a hundred examples."""
    pytest.importorskip({"jax_vmap": "jax", "sklearn_joblib": "sklearn"}.get(name, "numpy"))
    contender = contenders.load(f"sweeps.{name}")
    data, first = workloads.load(workload, 100), throughput.first_parameters(workload, networks)
    contender.prepare(workload, data, np.dtype("float32"), 1, first)
    contender.run(Order(100, epochs=2))
    return contender.parameters()


@pytest.mark.parametrize("workload", ["sigmoid, quadratic", "cross-entropy, decay", "three layers, relu"])
def test_many_networks_are_those_of_their_own_fits(workload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "EXAMPLES", 400)
    work = TINY[workload]._replace(lmbda=0.0)
    first, truth = throughput.first_parameters(work, 3), many("one_after_another", work)
    np.testing.assert_array_equal(many("fastbp_sweep", work), truth)
    assert np.linalg.norm(many("jax_vmap", work) - truth) < 1e-3 * np.linalg.norm(truth - first)
    assert many("sklearn_joblib", work).shape == truth.shape


def test_networks_a_minute(small: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(sweeps.LABELS) == set(sweeps.NAMES)
    monkeypatch.setitem(throughput.WORKLOADS, "S1", small)
    monkeypatch.setitem(sweeps.LABELS, "absent", "nobody")
    extent = throughput.Extent(networks=2, examples=200, samples=2)
    with Runner(QUICK._replace(pause=0.0), str) as runner:
        rows = throughput.measure_throughput(runner, extent, ("one_after_another", "fastbp_sweep", "absent"))
    base, swept, absent = rows
    for row in (base, swept):
        assert row["status"] == "timed" and len(row["samples"]) == 2 and row["seconds"] > 0 and row["networks"] == 2
    assert swept["check"] == {"against": "fastbp fit, one after another", "batches": 25, "error": 0.0}
    assert absent["status"] == "not installed" and "absent" in absent["reason"]


# --- what is published --------------------------------------------------------------------------------------


def row(workload: str, contender: str, seconds: float, part: str = "workloads", **more: Any) -> dict[str, Any]:
    timed = {
        "samples": [seconds] * 5,
        **spread([seconds] * 5),
        "check": {"against": "reference float64", "error": 1e-6},
    }
    return {
        "part": part, "workload": workload, "contender": contender, "dtype": "float32", "threads": 2, "point": 0,
        "status": "timed", "reason": "", "caveat": "", "data": "MNIST",
        "warm": {"import": 0.3, "prepare": 0.2, "first": 0.1, "total": 0.6}, **timed, **more,
    }  # fmt: skip


def swept(contender: str, seconds: float) -> dict[str, Any]:
    return {
        "contender": contender, "label": sweeps.LABELS[contender], "workload": "S1", "dtype": "float32", "threads": 2,
        "networks": 32, "examples": 50_000, "status": "timed", "reason": "", "samples": [seconds] * 3,
        "caveat": "another cost" if contender == "sklearn_joblib" else "", **spread([seconds] * 3),
    }  # fmt: skip


@pytest.fixture
def sample() -> dict[str, Any]:
    """A results file in which fastbp wins S1, loses L1 and meets some goals."""
    rows = [
        row("S1", "fused", 15e-6),
        row("S1", "reference", 1000e-6),
        row("S1", "jax_scan", 90e-6),
        row("S1", "jax_scan", 45e-6, threads=1),
        row("S1", "sklearn_mlp", 400e-6, caveat="another cost"),
        row("S1", "torch_eager", 1.0, status="not installed", reason="No module named 'torch'"),
        row("B1", "book_sgd", 30e-6, dtype="float64"),
        row("B1", "per_example", 1000e-6, dtype="float64"),
        row("A1", "fused", 22e-6, sweep=[4e-6, 5e-6, 6e-6]),
        row("A1", "jax_scan", 66e-6),
        row("L1", "matrix", 10e-3, products=[6e-3, 7e-3, 5e-3]),
        row("L1", "jax_scan", 7e-3, products=[5e-3] * 3),
    ]
    for m in (1, 8, 64):
        times = {"fused": 6e-6 * m**0.7, "matrix": 150e-6, "reference": 100e-6 * m, "numpy_batch": 90e-6}
        rows += [row(f"batch {m}", name, seconds, "batch", point=m) for name, seconds in times.items()]
        rows += [row(f"width {m}", name, seconds, "width", point=m) for name, seconds in times.items()]
    return {
        "format": FORMAT, "complete": True, "quick": False, "effort": QUICK._asdict(), "threads": [2, 1],
        "fastbp": "0.1.0", "machine": machine.describe() | {"cpus": 2},
        "installed": {"numpy": "2.4.0", "torch": ""}, "versions": {}, "pools": {}, "rows": rows,
        "plans": [
            {"workload": "S1", "dtype": "float32", "engine": "fused", "flops": 958_800, "density": 0.19,
             "seconds": {"fused": 20e-6, "matrix": 100e-6}},
            {"workload": "L1", "dtype": "float32", "engine": "matrix", "flops": 10**9, "density": 0.19,
             "seconds": {"fused": 20e-3, "matrix": 9e-3}},
        ],
        "start": [
            {"what": "import numpy", "samples": [0.1], "seconds": 0.1, "spread": 0.0},
            {"what": "from fastbp import Network", "samples": [0.2], "seconds": 0.2, "spread": 0.0},
        ],
        "memory": [{"workload": "S1", "call": "fit", "dtype": "float32", "beyond": 40, "data": 100}],
        "sweep": [swept("one_after_another", 4.0), swept("fastbp_sweep", 1.0), swept("sklearn_joblib", 20.0),
                  {**swept("jax_vmap", 1.0), "status": "not installed", "reason": "No module named 'jax'"}],
    }  # fmt: skip


def test_goals_are_judged_from_the_file(sample: dict[str, Any]) -> None:
    figures = {goal.what: (goal, figure, same) for goal, figure, same in judged(Results(sample))}
    assert len(figures) == len(GOALS)
    goal, figure, same = figures["S1 float32 against JAX"]
    assert figure == pytest.approx(3.0), "JAX is fastest on one thread, and that counts"
    assert same == pytest.approx(6.0) and not goal.met(figure)
    goal, figure, _ = figures["S1 float32 against the per-example reference"]
    assert figure == pytest.approx(1000 / 15) and goal.met(figure)
    assert figures["L1 float32, share of the bare products' rate"][1] == pytest.approx(0.6)
    assert figures["`from fastbp import Network` against `import numpy`"][1] == pytest.approx(2.0)
    assert figures["the plan's time against the measured, worst point"][1] == pytest.approx(20 / 15)
    assert figures["M1 float32 against the best peer"][1] is None
    goal, figure, _ = figures["S1 with Adam (A1), float32, against JAX"]
    assert figure == pytest.approx(3.0) and goal.met(3.1)
    goal, figure, _ = figures["A1 float32 against S1 and one sweep of Adam"]
    assert figure == pytest.approx(22 / 20) and goal.met(figure) and not goal.met(1.2)
    assert figures["R1 float32 against S1 and one sweep of Adam"][1] is None
    goal, figure, _ = figures["many networks in a sweep, share of the time of one after another"]
    assert figure == pytest.approx(0.25) and goal.met(figure)
    del sample["sweep"]  # a file of before that was measured
    assert _sweep_share(Results(sample), None) is None


def test_the_page_says_where_we_lose(sample: dict[str, Any]) -> None:
    run = Results(sample)
    lost = losses(run)
    assert "L1 float32 on 2 threads: JAX jit + scan by 1.43×." in lost
    assert "NumPy batch at batch size 64 (by 1.23×)." in lost
    assert any("against JAX: 3.00×, the goal is ≥ 5×" in line for line in missed(run))
    text = page(run, ["batch.png"])
    for line in (*lost, *missed(run), "scikit-learn: another cost.", "PyTorch eager: not installed",
                 "fastbp fused: one sweep of the optimizer over the parameters, alone: 5.00 µs."):  # fmt: skip
        assert line in text
    assert "| fastbp.sweep | 2 | 31.2 ms | 0 % | 1,920 | 4.00× |" in text
    assert (
        "- scikit-learn with joblib: another cost." in text and "- JAX jit + scan + vmap: not installed: No mod" in text
    )
    assert "BLAS kernels for" not in text, "a file of before that was recorded"
    sample["pools"] = {"numpy_batch": [{"architecture": "Zen"}], "jax_scan": [{"architecture": None}, {}]}
    assert "numpy 2.4.0, BLAS kernels for Zen; fastbp 0.1.0" in page(run, [])
    assert "broken off" not in text and "The run was broken off" in page(Results({**sample, "complete": False}), [])
    assert "![Batch size](images/benchmarks/batch.png)" in text and "width.png" not in text


def test_render_writes_page_pictures_and_table(sample: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results, readme = tmp_path / "run.json", tmp_path / "README.md"
    results.write_text(json.dumps(sample))
    readme.write_text("before\n<!-- benchmarks:begin -->\nyesterday\n<!-- benchmarks:end -->\nafter\n")
    arguments = [str(results), "--docs", str(tmp_path), "--readme", str(readme)]
    for _ in range(2):  # the second time nothing changes
        done = CliRunner().invoke(render_app, arguments)
        assert done.exit_code == 0, done.output
        text = readme.read_text()
        assert text.startswith("before\n<!-- benchmarks:begin -->\n| ") and "yesterday" not in text
        assert text.endswith("\n<!-- benchmarks:end -->\nafter\n") and text.count("**S1**") == 1
        assert "15.0 µs" in text and "L1 float32 on 2 threads" in text
    assert (tmp_path / "benchmarks.md").read_text().startswith("# Benchmarks")
    pictures = {path.name for path in (tmp_path / "images" / "benchmarks").iterdir()}
    assert pictures == {"workloads.png", "batch.png", "width.png", "products.png"}


def test_render_leaves_a_readme_without_markers_alone(sample: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results, readme = tmp_path / "run.json", tmp_path / "README.md"
    results.write_text(json.dumps(sample))
    readme.write_text("mine")
    done = CliRunner().invoke(render_app, [str(results), "--docs", str(tmp_path), "--readme", str(readme)])
    assert done.exit_code == 0 and "nothing written there" in done.output
    assert readme.read_text() == "mine"


def test_the_table_on_the_terminal(sample: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    from rich.console import Console

    report.print_report(Results(sample), Console(width=120))
    shown = capsys.readouterr().out
    for text in (
        "S1 float32",
        "15.0 µs",
        "66.7×",
        "PyTorch eager: not installed",
        "not met",
        "from fastbp import",
        "1,920",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(15.62e-6, "15.6 µs"), (8.9e-3, "8.90 ms"), (123e-6, "123 µs"), (1.204, "1.20 s"), (5e-9, "5.00 ns")],
)
def test_durations_have_three_figures(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def test_results_of_another_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"format": 0}')
    with pytest.raises(ValueError, match=r"old\.json: format 0"):
        Results.read(tmp_path / "old.json")


def test_the_command_line_explains_itself_and_refuses_what_it_does_not_know() -> None:
    done = CliRunner().invoke(benchmarks_app, ["--help"], env={"COLUMNS": "120"})
    assert done.exit_code == 0
    for option in ("--quick", "--workload", "--contender", "--dtype", "--threads", "--part", "--output"):
        assert option in done.output
    for arguments in (["--workload", "S9"], ["--contender", "me"], ["--threads", "9999"]):
        refused = CliRunner().invoke(benchmarks_app, arguments)
        assert refused.exit_code == 2 and arguments[1] in refused.output


def test_the_check_is_a_few_mini_batches() -> None:
    assert check_order(workloads.WORKLOADS["S1"]).n == 100
    assert check_order(workloads.WORKLOADS["X1"]).n == 500
