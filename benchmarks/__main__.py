"""`python -m benchmarks`: check, time, table, plots, and a JSON file that everything published is generated from."""

import datetime
import sys
from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

import fastbp
from benchmarks import contenders, machine, throughput, workloads
from benchmarks.measure import FULL, QUICK, SHORT, Runner
from benchmarks.report import print_report
from benchmarks.results import FOLDER, FORMAT, Results
from benchmarks.startup import measure_memory, measure_start
from benchmarks.workloads import WORKLOADS, Workload
from fastbp.machine import cores

CURVES = ("fused", "matrix", "reference", "numpy_batch", "torch_eager", "jax_scan")
# float64 is timed where a goal speaks of it, and on dense data beside it.
FLOAT64 = ("S1", "G1", "B1")


class Part(StrEnum):
    workloads = "workloads"
    batch = "batch"
    width = "width"
    start = "start"
    memory = "memory"
    sweep = "sweep"


class Dtype(StrEnum):
    float32 = "float32"
    float64 = "float64"


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Short samples, fewer points: for a first look only.")] = False,
    short: Annotated[
        bool, typer.Option("--short", help="Everything but empty caches of the peers, in samples half as long.")
    ] = False,
    workload: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(WORKLOADS)}; may be repeated. Default: all.")
    ] = None,
    contender: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of {', '.join(contenders.NAMES)}; may be repeated. Default: all "
            "(with --quick and --short no torch_compile)."
        ),
    ] = None,
    dtype: Annotated[
        list[Dtype] | None, typer.Option(help=f"Default: float32, and float64 too for {', '.join(FLOAT64)}.")
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="May be repeated. Default: 1 and the number of CPUs; with --quick only the latter."),
    ] = None,
    part: Annotated[
        list[Part] | None, typer.Option(help="May be repeated. Default: all, or workloads if one is named.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The JSON file; plots are drawn beside it. Default: in benchmarks/results.")
    ] = None,
) -> None:
    """Who trains the same network fastest on this machine? Every result is checked before it is timed."""
    names = _known(workload, tuple(WORKLOADS), "--workload")
    who = _known(contender, contenders.NAMES, "--contender")
    if (quick or short) and not contender:
        who = tuple(name for name in who if name != "torch_compile")  # half a minute a workload
    for count in threads or ():
        if count > cores():
            raise typer.BadParameter(f"--threads {count}: this process may use {cores()} CPUs")
    counts = sorted(set(threads or ({cores()} if quick else {1, cores()})), reverse=True)
    parts = part or ([Part.workloads] if workload or contender else list(Part))
    effort, console = QUICK if quick else SHORT if short else FULL, Console()
    content = {
        "format": FORMAT, "complete": False, "quick": quick, "effort": effort._asdict(), "threads": counts,
        "fastbp": fastbp.__version__, "machine": machine.describe(), "installed": machine.installed(),
        "rows": [], "plans": [], "start": [], "memory": [], "sweep": [],
    }  # fmt: skip
    results = Results(content)
    for warning in _warnings(content["machine"], len(who) * len(counts)):
        console.print(f"[yellow]{warning}[/]")
    path = output or FOLDER / f"{datetime.date.today().isoformat()}{'-quick' if quick else ''}.json"
    with console.status("") as status:
        say = status.update if console.is_terminal else partial(print, file=sys.stderr, flush=True)
        with Runner(effort, say) as runner:
            for _ in _measure(runner, content, parts, names, who, dtype, counts):
                results.write(path)  # a run of an hour or two that is broken off leaves what it has
    content["complete"] = True
    results.write(path)
    print_report(results, console)
    console.print(f"written: {path}")
    try:
        from benchmarks import plots
    except ModuleNotFoundError as error:
        console.print(f"no plots: {error.name} is not installed")
    else:
        for drawn in plots.draw_all(results, path.with_suffix("")):
            console.print(f"drawn:   {drawn}")


def _measure(
    runner: Runner,
    content: dict,
    parts: list[Part],
    names: tuple[str, ...],
    who: tuple[str, ...],
    asked: list[Dtype] | None,
    counts: list[int],
) -> Iterator[None]:
    """Fill `content`, piece by piece."""
    content["versions"], content["pools"] = runner.versions, runner.pools
    effort = runner.effort
    for name in names if Part.workloads in parts else ():
        workload = WORKLOADS[name]
        for dtype in _dtypes(name, asked):
            able = _contenders(workload, who)
            rows = runner.measure(workload, able, dtype, counts, effort.cold, effort.keep)
            content["rows"] += [{"part": "workloads", **row} for row in rows]
            # The plan knows a network and its data, and those of a variant are the plain workload's.
            if any(row["status"] == "timed" for row in rows) and not workload.book and not workload.plain:
                content["plans"].append(_plan(runner, workload, dtype))
            yield
    runner.dismiss()
    if Part.start in parts:
        content["start"] = measure_start(runner)
        yield
    if Part.memory in parts:
        content["memory"] = measure_memory(runner)
        yield
    if Part.sweep in parts:
        extent = throughput.QUICK if content["quick"] else throughput.FULL
        content["sweep"] = throughput.measure_throughput(runner, extent)
        yield
    for curve, points in ((Part.batch, workloads.batch_curve()), (Part.width, workloads.width_curve())):
        able = [name for name in CURVES if name in who]
        for point in points[:: 3 if content["quick"] else 1] if curve in parts else ():
            rows = runner.measure(point, able, "float32", counts[:1], keep=True)  # one process for the whole curve
            content["rows"] += [{"part": curve.value, **row} for row in rows]
            content["plans"].append(_plan(runner, point, "float32"))
            yield
        runner.dismiss()


def _known(given: list[str] | None, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    unknown = [name for name in given or () if name not in known]
    if unknown:
        raise typer.BadParameter(f"{option} {unknown[0]}: choose from {', '.join(known)}")
    return tuple(given) if given else known


def _dtypes(name: str, asked: list[Dtype] | None) -> list[str]:
    if asked:
        return [dtype.value for dtype in asked]
    return [*(["float32"] if name != "B1" else []), *(["float64"] if name in FLOAT64 else [])]


def _warnings(facts: dict, processes: int) -> list[str]:
    """What about this machine would spoil the figures."""
    found = []
    if (facts["load_average"] or 0) > 0.3 * facts["cpus"]:
        found.append(f"This machine is busy (load {facts['load_average']:.1f} on {facts['cpus']} CPUs): expect noise.")
    needed = processes * 0.8  # GiB: a library, and 50,000 x 784 numbers as they are read and once in float64
    if (facts["memory_gib"] or needed) < needed:
        found.append(f"Up to {needed:.0f} GiB of memory are needed; choose fewer --contender, or one of --threads.")
    return found


def _contenders(workload: Workload, who: tuple[str, ...]) -> list[str]:
    """Those that a workload is meant for: the book's call has its own two."""
    return [name for name in who if (name in ("book_sgd", "per_example") if workload.book else name != "book_sgd")]


def _plan(runner: Runner, workload: Workload, dtype: str) -> dict:
    """Which engine `auto` takes for a workload, and the times it predicts."""
    net = fastbp.Network(
        workload.sizes, hidden=workload.hidden, output=workload.output, cost=workload.cost, dtype=np.dtype(dtype)
    )
    plan = fastbp.plan(net, batch_size=workload.batch_size, density=runner.data(workload)[2])
    return {
        "workload": workload.name, "dtype": dtype, "engine": plan.engine, "seconds": plan.seconds,
        "flops": plan.flops, "density": runner.data(workload)[2],
    }  # fmt: skip


app = typer.Typer(add_completion=False)
app.command()(main)

if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
