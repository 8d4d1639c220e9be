"""The tables of a run on a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Row
from benchmarks.results import LABELS, Goal, Results, judged, ratio
from benchmarks.workloads import WORKLOADS


def duration(seconds: float) -> str:
    """Three figures and a unit: 15.6 µs, 8.90 ms, 1.20 s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= size or unit == "ns":
            break
    value = seconds / size
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{digits}f} {unit}"


def times(figure: float | None) -> str:
    """A ratio: 5.30×."""
    if figure is None:
        return "–"
    return f"{figure:,.{0 if figure >= 99.5 else 1 if figure >= 9.95 else 2}f}×"


def goal_figure(goal: Goal, figure: float | None) -> str:
    if figure is None:
        return "not measured"
    return {"x": times(figure), "share": f"{100 * figure:.0f} %", "s": f"{figure:.2f} s"}[goal.unit]


def goal_bar(goal: Goal) -> str:
    bar = {"x": f"{goal.bar:g}×", "share": f"{100 * goal.bar:.0f} %", "s": f"{goal.bar:g} s"}[goal.unit]
    return f"{'≤' if goal.at_most else '≥'} {bar}"


def goal_verdict(goal: Goal, figure: float | None) -> str:
    return "–" if figure is None else "met" if goal.met(figure) else "not met"


def print_report(results: Results, console: Console) -> None:
    """A table for each workload and dtype, the start, the memory, and the goals."""
    machine = results.machine
    console.print(f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, Python {machine['python']}")
    if results.kernels:
        console.print(f"BLAS kernels for {' and '.join(results.kernels)}")
    for name, dtype in results.measured():
        console.print(workload_table(results, name, dtype))
    if results.content["start"]:
        table = Table("start", "seconds", "±", title="Start", title_justify="left")
        for row in results.content["start"]:
            table.add_row(row["what"], f"{row['seconds']:.3f}", f"{100 * row['spread']:.0f} %")
        console.print(table)
    if results.content["memory"]:
        table = Table("memory beyond the data", "MB", "of the data", title="Memory", title_justify="left")
        for row in results.content["memory"]:
            table.add_row(
                f"{row['call']}, {row['workload']}, {row['dtype']}",
                f"{row['beyond'] / 1e6:.0f}",
                f"{row['beyond'] / row['data']:.2f}",
            )
        console.print(table)
    if results.sweeps:
        table = Table(*SWEEP_HEADINGS, title="Many networks", title_justify="left")
        for line in sweep_lines(results):
            table.add_row(*line)
        console.print(table)
        for note in sweep_remarks(results):
            console.print(note)
    most = max(results.content["threads"])
    table = Table("goal", "bar", "this run", f"all on {most}", "", title="Goals", title_justify="left")
    for goal, figure, same in judged(results):
        verdict = goal_verdict(goal, figure)
        colour = {"met": "green", "not met": "red"}.get(verdict, "dim")
        everyone = goal_figure(goal, same) if same else ""
        table.add_row(goal.what, goal_bar(goal), goal_figure(goal, figure), everyone, f"[{colour}]{verdict}[/]")
    console.print(table)


def workload_table(results: Results, name: str, dtype: str) -> Table:
    """All contenders of one workload, the fastest first; below it what was not timed or is not the same, and why."""
    base = results.best(name, "reference", dtype) or results.best(name, "per_example", dtype)
    peer = results.best_peer(name, dtype)
    rows = results.select(workload=name, dtype=dtype, part="workloads")
    notes = [f"data: {rows[0]['data']}", *remarks(rows)]
    table = Table(
        title=f"{name} {dtype}: {WORKLOADS[name].title}", caption="\n".join(notes),
        title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1),
    )  # fmt: skip
    table.add_column("contender", no_wrap=True)
    for heading in ("thr", "mini-batch", "±", "× ref.", "× peer", "empty", "warm", "check"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted((row for row in rows if row["status"] == "timed"), key=lambda row: row["seconds"]):
        start = [f"{row[kind]['total']:.1f} s" if kind in row else "–" for kind in ("cold", "warm")]
        table.add_row(
            LABELS[row["contender"]], str(row["threads"]), duration(row["seconds"]), f"{100 * row['spread']:.0f} %",
            times(ratio(base, row)), times(ratio(peer, row)), *start,
            f"{row['check']['error']:.0e}" if "check" in row else "–",
        )  # fmt: skip
    return table


SWEEP_HEADINGS = ("many networks", "threads", "a network", "±", "networks a minute", "× one after another")


def sweep_lines(results: Results) -> list[list[str]]:
    """Those who trained many networks, the fastest first."""
    base = results.swept("one_after_another")
    timed = [row for row in results.sweeps if row["status"] == "timed"]
    return [
        [
            row["label"], str(row["threads"]),
            duration(row["seconds"] / row["networks"]), f"{100 * row['spread']:.0f} %",
            f"{60 * row['networks'] / row['seconds']:,.0f}", times(ratio(base, row)),
        ]
        for row in sorted(timed, key=lambda row: row["seconds"])
    ]  # fmt: skip


def sweep_remarks(results: Results) -> list[str]:
    """What they trained; who does something else, or was not timed, and why."""
    row = results.sweeps[0]
    found = [
        f"{row['networks']} networks of {row['workload']}, {row['dtype']}, one epoch of {row['examples']:,} examples"
    ]
    for row in results.sweeps:
        why = row["caveat"] if row["status"] == "timed" else f"{row['status']}: {row['reason']}"
        found += [f"{row['label']}: {why}"] if why else []
    return found


def remarks(rows: list[Row]) -> list[str]:
    """What was not timed, or is not the same algorithm, and why; how long a user's call was, or a sweep; each once."""
    found = {}
    for row in rows:
        epochs = row.get("sample", {}).get("epochs", 1)
        if row["contender"] in ("auto", "book_sgd", "per_example") and epochs > 1:
            found[f"{LABELS[row['contender']]}: {epochs} epochs a call"] = None
        if row.get("sweep"):
            alone = duration(sorted(row["sweep"])[len(row["sweep"]) // 2])
            found[f"{LABELS[row['contender']]}: one sweep of the optimizer over the parameters, alone: {alone}"] = None
        why = row.get("caveat", "") if row["status"] == "timed" else f"{row['status']}: {row['reason']}"
        if why:
            found[f"{LABELS[row['contender']]}: {why}"] = None
    return list(found)
