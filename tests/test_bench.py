"""`fastbp.bench` and the command: figures that are those of the samples, tables and pictures that show them."""

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import fail, run, usage_error

import fastbp
from fastbp import bench, bench_report, engines, machine
from fastbp.bench import Benchmark, Subject


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples so short that only the machinery is tested."""
    monkeypatch.setattr(bench, "SAMPLE_SECONDS", 1e-4)
    monkeypatch.setattr(bench, "_SQUARE", 16)
    monkeypatch.setattr(bench, "_SWEEP_BYTES", 4096)
    monkeypatch.setattr(bench, "_MOST_EXAMPLES", 50)


def network(**options: Any) -> fastbp.Network:
    return fastbp.Network([6, 5, 4, 3], seed=0, **options)


def measured(**options: Any) -> Benchmark:
    return bench.measure(network(), 4, **{"samples": 3, "threads": 1} | options)


# --- What is measured


def test_a_figure_is_that_of_its_samples() -> None:
    timing = bench.Timing((3.0, 1.0, 2.0, 5.0, 4.0), 1)
    assert timing.seconds == 3 and timing.spread == pytest.approx(1 / 3)
    assert bench.Timing((2.0,), 1).spread == 0
    product = bench.ProductTiming((2e-9,), 1, "", rows=2, steps=3, columns=4)
    assert product.gflops == pytest.approx(2 * 2 * 3 * 4 / 2)
    assert bench.SweepTiming((1e-9,), 1, 12).gbytes == pytest.approx(12)


def test_every_engine_product_and_roof_is_there() -> None:
    found = measured(density=0.5)
    assert [engine.name for engine in found.engines] == list(engines.NAMES) and not found.left_out
    assert {len(timing.samples) for timing in (*found.engines, *found.products, *found.squares, *found.sweeps)} == {3}
    assert found.plan == fastbp.plan(network(), 4, 0.5)
    assert {engine.name: engine.predicted for engine in found.engines} == found.plan.seconds
    shapes = {product.name: (product.rows, product.steps, product.columns) for product in found.products}
    assert shapes == {
        "feedforward to layer 2": (4, 6, 5), "BP4 of layer 2": (5, 4, 6),
        "feedforward to layer 3": (4, 5, 4), "BP4 of layer 3": (4, 4, 5), "BP2 to layer 2": (4, 4, 5),
        "feedforward to layer 4": (4, 4, 3), "BP4 of layer 4": (3, 4, 4), "BP2 to layer 3": (4, 3, 4),
    }  # fmt: skip
    # what the plan counts is what the products are
    assert sum(2 * rows * steps * columns for rows, steps, columns in shapes.values()) == found.plan.flops
    assert found.gflops(found.fastest) == max(map(found.gflops, found.engines))
    assert found.products_seconds == sum(product.seconds for product in found.products)
    assert found.examples == 50


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 2)
    found = measured(threads=None)
    assert found.threads == 2 and [timing.threads for timing in found.squares] == [1, 2]
    assert [timing.threads for timing in found.sweeps] == [1, 2]
    assert {timing.threads for timing in (*found.engines, *found.products)} == {1}  # the products are small
    found = measured(threads=9)
    assert found.threads == 2 and "9 threads were asked for, and there are 2 cores: 2 used" in found.notes


def test_the_examples_have_the_density_and_exceed_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_MOST_EXAMPLES", 20_000)
    built = network(dtype="float32").architecture
    for density in (0.0, 0.3, 1.0):
        examples = bench._make_examples(built, 4, density)
        assert examples.X.dtype == np.float32 and len(examples) == 20_000
        assert np.count_nonzero(examples.X) / examples.X.size == pytest.approx(density, abs=0.01)
    assert len(bench._make_examples(built, 30_000, 1.0)) == 30_000  # a mini-batch has them all


def test_the_network_is_left_as_it_is() -> None:
    net = network()
    before = [array.copy() for array in (*net.biases, *net.weights)]
    bench.measure(net, 4, samples=1, threads=1)
    for array, kept in zip((*net.biases, *net.weights), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_engines_that_cannot_or_would_take_too_long_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    own = fastbp.Network([6, 5, 3], hidden=(np.tanh, lambda z: 1 - np.tanh(z) ** 2), seed=0)
    found = bench.measure(own, 4, samples=1, threads=1)
    assert list(found.left_out) == ["fused"] and "own functions" in found.left_out["fused"]
    slow = fastbp.plan(network(), 4).seconds["reference"]
    monkeypatch.setattr(bench, "PATIENCE", 0.9 * slow)
    found = measured(samples=1)
    assert list(found.left_out) == ["reference"] and found.engine("reference") is None


@pytest.mark.parametrize(
    "options, error",
    [
        ({"batch_size": 0}, ValueError),
        ({"density": 2.0}, ValueError),
        ({"threads": 0}, ValueError),
        ({"threads": 1.5}, TypeError),
        ({"samples": 0}, ValueError),
    ],
)
def test_what_is_refused(options: dict, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        bench.measure(network(), **options)


# --- Taking turns


def subject(name: str, did: list, seconds: Callable[[], float] = lambda: 2e-5) -> Subject:
    def run(count: int) -> None:
        did.append((name, count))
        until = time.perf_counter() + count * seconds()
        while time.perf_counter() < until:
            pass

    return Subject(name, 1, run, lambda: did.append((name, "reset")))


def test_samples_are_taken_in_turns_that_another_begins_each_time() -> None:
    did: list = []
    times, _ = bench._take_turns([subject(name, did) for name in "abc"], 3, lambda what: None)
    order = [name for name, count in did if count == "reset"][-9:]
    assert "".join(order) == "abcbcacab"
    assert all(len(each) == 3 and min(each) >= 2e-5 for each in times)


def test_a_sample_repeats_for_its_time_and_a_slow_thing_once() -> None:
    did: list = []
    assert 1 <= bench._repeats(subject("quick", did, lambda: 1e-6)) <= 100
    assert bench._repeats(subject("slow", did, lambda: 1e-3)) == 1
    assert did.count(("slow", 1)) == 1


def test_time_that_others_took_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = Subject("idle", 1, lambda count: time.sleep(0.01))
    _, taken = bench._take_turns([idle, subject("busy", [])], 3, lambda what: None)
    assert taken > 0.5


# --- Doubts


def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (1.7, 0, 0), raising=False)
    assert any("busy before the start (load average 1.7 on 2 cores)" in note for note in bench._load_note(2))
    assert not bench._load_note(16)


def test_the_kernels_of_another_processor_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    assert not any("OPENBLAS_CORETYPE" in note for note in measured(samples=1).notes)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    found = measured(samples=1)
    assert any("OPENBLAS_CORETYPE=Haswell is set: BLAS takes that processor's" in note for note in found.notes)
    assert all("architecture" in library for library in found.machine["blas"])
    found = measured(samples=1)
    assert not bench._doubts(found, taken=0.01)
    assert "up to 30% of the time" in bench._doubts(found, taken=0.3)[0]
    wide = replace(found.engines[0], samples=(1.0, 2.0, 3.0))
    assert "reference ±25%" in bench._doubts(replace(found, engines=(wide,)), taken=0.0)[0]
    assert "skips zeros" in bench._doubts(replace(found, density=0.1), taken=0.0)[0]


# --- JSON


TIMING = {"seconds": float, "spread": float, "threads": int, "samples": [float]}
PRODUCT = {"name": str, "rows": int, "steps": int, "columns": int, "gflops": float, **TIMING}
SCHEMA = {
    "format": str,
    "version": int,
    "network": {"sizes": [int], "hidden": [str], "output": str, "cost": str, "dtype": str},
    "batch_size": int,
    "density": float,
    "examples": int,
    "threads": int,
    "plan": {"engine": str, "reason": str, "flops": int, "bytes": int, "seconds": dict},
    "fastest": str,
    "flops_per_byte": float,
    "products_seconds": float,
    "engines": [{"name": str, "first": float, "predicted": float, "gflops": float, **TIMING}],
    "left_out": dict,
    "products": [PRODUCT],
    "squares": [PRODUCT],
    "sweeps": [{"bytes": int, "gbytes": float, **TIMING}],
    "notes": list,
    "machine": dict,
}


def check(value: Any, schema: Any, where: str = "") -> None:
    if isinstance(schema, dict):
        assert set(value) == set(schema), where
        for key, part in schema.items():
            check(value[key], part, f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list) and value, where
        for i, part in enumerate(value):
            check(part, schema[0], f"{where}[{i}]")
    else:
        assert type(value) is schema, (where, value)


def test_json_has_its_schema() -> None:
    content = json.loads(json.dumps(measured().as_dict(), allow_nan=False))
    check(content, SCHEMA)
    assert content["format"] == "fastbp-bench" and content["version"] == 1
    assert content["fastest"] == min(content["engines"], key=lambda engine: engine["seconds"])["name"]
    assert not any("/" in str(part) for part in (content["machine"]["python"], *content["machine"]["blas"]))


# --- The command

SMALL = ("bench", "--sizes", "6,5,3", "--batch-size", "4", "--samples", "2", "--threads", "1")


def test_the_command_shows_a_table(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    page = run(*SMALL, "--json", written).stdout
    content = json.loads(written.read_text())
    check(content, SCHEMA)
    assert page.startswith("network 6-5-3: relu, softmax, log likelihood cost, float64; batches of 4\non ")
    for part in (
        *engines.NAMES,
        "BP2 to layer 2 (4×3)·(3×5)",
        "large square",
        "GB/s",
        "GFLOP/s",
        f"figures in {written}",
    ):
        assert part in page
    for engine in content["engines"]:
        assert bench_report.duration(engine["seconds"]) in page and bench_report.duration(engine["predicted"]) in page
    assert f"{content['plan']['engine']} (planned)" in page and f"{content['fastest']} is fastest" in page


def test_json_on_the_standard_output_is_alone() -> None:
    check(json.loads(run(*SMALL, "--json", "-").stdout), SCHEMA)


def test_options_reach_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--activation", "sigmoid", "--output", "sigmoid", "--cost", "quadratic", "--dtype", "float32")
    content = json.loads(run(*SMALL, *options, "--density", 0.25, "--json", "-").stdout)
    assert content["network"] == {
        "sizes": [6, 5, 3], "hidden": ["sigmoid"], "output": "sigmoid", "cost": "quadratic", "dtype": "float32",
    }  # fmt: skip
    assert content["density"] == 0.25 and content["batch_size"] == 4 and content["threads"] == 1
    assert {len(engine["samples"]) for engine in content["engines"]} == {2}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--json", "nowhere/b.json"), "there is no folder nowhere"),
        (("--plot", "nowhere/b.png"), "there is no folder nowhere"),
        (("--plot", "b.docx"), "a picture's name ends in"),
        (("--cost", "log_likelihood", "--output", "sigmoid"), "log_likelihood"),
        (("--activation", "rleu"), "rleu"),
    ],
)
def test_refused_in_one_line(arguments: tuple, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "measure", lambda *_, **__: pytest.fail("measured"))
    assert message in fail(*SMALL, *arguments)


def test_usage_errors() -> None:
    for option, value in (("--threads", 0), ("--samples", 0), ("--density", 2), ("--sizes", "6,x")):
        assert option in usage_error("bench", option, value)


# --- What people see


@pytest.mark.parametrize(
    "seconds, shown",
    [
        (2e-10, "0.20 ns"),
        (9.56e-7, "956 ns"),
        (1.25e-5, "12.5 µs"),
        (9.996e-4, "1.00 ms"),
        (0.1, "100 ms"),
        (3, "3.00 s"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert bench_report.duration(seconds) == shown


def test_the_verdict_is_that_of_the_figures() -> None:
    found = measured(samples=1)
    fused, matrix = (
        replace(found.engines[0], name=name, samples=(t,)) for name, t in (("fused", 2.0), ("matrix", 1.0))
    )
    found = replace(found, engines=(fused, matrix), plan=replace(found.plan, engine="fused"))
    assert "matrix is fastest, 1.00 s" in bench_report._verdict(found)
    assert "fused, which is 2.00 times as slow" in bench_report._verdict(found)
    found = replace(found, engines=(replace(fused, samples=(1.05,)), matrix))
    assert bench_report._verdict(found).endswith("The plan takes fused")
    assert bench_report._verdict(replace(found, engines=(matrix,))).endswith("which was not run")


def test_the_picture_shows_every_engine_and_roof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    monkeypatch.setattr(machine, "cores", lambda: 2)
    drawn, write = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **how: (drawn.append(self), write(self, path, **how)))
    found = measured(threads=2)
    bench_report.draw(found, tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    bars, roof = drawn[0].axes
    assert bars.get_xscale() == roof.get_xscale() == roof.get_yscale() == "log"
    lengths = {
        label.get_text(): patch.get_x() + patch.get_width()
        for label, patch in zip(bars.get_yticklabels(), bars.patches, strict=True)
    }
    assert lengths == pytest.approx(
        {engine.name: engine.seconds for engine in found.engines} | {"products alone": found.products_seconds}
    )
    roofs = [line for line in roof.lines if len(line.get_xdata()) == 3]
    assert [line.get_ydata()[-1] for line in roofs] == [square.gflops for square in found.squares]
    points = {line.get_ydata()[0] for line in roof.lines if line.get_marker() == "o"}
    assert {found.gflops(engine) for engine in found.engines} <= points


def test_plot_without_matplotlib_is_refused_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bench, "measure", lambda *_, **__: pytest.fail("measured"))
    assert "--plot needs matplotlib" in fail(*SMALL, "--plot", "a.png")
