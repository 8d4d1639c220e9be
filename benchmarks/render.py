"""docs/benchmarks.md, its pictures and the README's table, from a results file: `python -m benchmarks.render`.

No figure in either is typed by hand; run this again after every run that is to be published.
"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.contenders import PEERS
from benchmarks.processes import ROOT
from benchmarks.report import (
    SWEEP_HEADINGS,
    duration,
    goal_bar,
    goal_figure,
    goal_verdict,
    remarks,
    sweep_lines,
    sweep_remarks,
    times,
)
from benchmarks.results import ENGINES, LABELS, Results, judged, plan_points, ratio, share_of_products
from benchmarks.workloads import WORKLOADS

METHOD = """\
Every contender starts from the same parameters, sees the same mini-batches in the same order and does the \
same work. After its first few mini-batches its parameters are compared with those of the reference, one \
example at a time in float64; who differs is not timed ("check" below: the distance, as a share of the way \
the parameters went). Where there is dropout (R1), everyone is given the same masks for this comparison; in \
what is timed, NumPy, PyTorch and JAX draw their own, as in a program of their users. Each runs in a process \
of its own; all of a workload stand ready at once and take turns, {samples} rounds of about {seconds:g} s, \
so that a slow second of the machine falls on all alike. "±" is half the distance between the quartiles. \
"Empty" and "warm" are the seconds from the start of the process to the first few mini-batches done, reading \
the data not counted: with no compiled code on disk, and with that of an earlier process. `fastbp fit` and \
`Network.SGD` are timed as called, checks, shuffling and planning included, and scikit-learn's `fit` \
likewise; the others are handed the order."""

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"


def main(
    results: Annotated[Path | None, typer.Argument(help="A results file; by default the newest.")] = None,
    docs: Annotated[Path, typer.Option(help="The folder for benchmarks.md and images/benchmarks/.")] = ROOT / "docs",
    readme: Annotated[Path, typer.Option(help="The file with the two markers.")] = ROOT / "README.md",
) -> None:
    """Generate docs/benchmarks.md, its pictures, and the README's table from a results file."""
    from benchmarks import plots

    run = Results.read(results) if results else Results.latest()
    if run.content["quick"] or not run.content["complete"]:
        kind = "a quick run" if run.content["quick"] else "a run that was broken off"
        typer.echo(f"warning: these are the results of {kind}, not to be published")
    pictures = [path.name for path in plots.draw_all(run, docs / "images" / "benchmarks")]
    (docs / "benchmarks.md").write_text(page(run, pictures))
    typer.echo(f"written: {docs / 'benchmarks.md'}, {len(pictures)} pictures")
    text = readme.read_text() if readme.exists() else ""
    if BEGIN in text and END in text:
        readme.write_text(between_markers(text, summary(run, pictures)))
        typer.echo(f"written: the table in {readme}")
    else:
        typer.echo(f"{readme} has no {BEGIN} … {END}; nothing written there")


def between_markers(text: str, block: str) -> str:
    """`text` with everything between the two markers replaced."""
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{block}\n{END}{rest.split(END, 1)[1]}"


def table(headings: list[str], rows: list[list[str]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are text, the others numbers."""
    rule = ["---" if i < left else "---:" for i in range(len(headings))]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in [headings, rule, *rows])


# -- the pieces ------------------------------------------------------------------------------------------------


def glance(run: Results) -> str:
    """One line for each workload: one example at a time, the best library, fastbp."""
    rows = []
    for name, dtype in run.measured():
        work = WORKLOADS[name]
        base = run.best(name, "per_example" if work.book else "reference", dtype)
        peer = run.best_peer(name, dtype)
        ours = run.best(name, "book_sgd", dtype) if work.book else run.best_engine(name, dtype)
        if ours is None:
            continue
        call = "the book's call on its list, evaluation and printing included" if work.book else work.title
        call += f", {ours['data']}"
        rows.append([
            f"**{name}** {call}", dtype,
            duration(base["seconds"]) if base else "–",
            f"{duration(peer['seconds'])} ({LABELS[peer['contender']]})" if peer else "–",
            f"**{duration(ours['seconds'])}** ({LABELS[ours['contender']].removeprefix('fastbp ')})",
            times(ratio(base, ours)), times(ratio(peer, ours)),
        ])  # fmt: skip
    headings = ["one example at a time", "best library", "fastbp", "× the first", "× the library"]
    return table(["time of a mini-batch", "", *headings], rows, left=2)


def losses(run: Results) -> list[str]:
    """Where a library is faster than every engine of fastbp, and every goal that is missed."""
    found = []
    for name, dtype in run.measured():
        for count in run.content["threads"]:
            ours = run.best_engine(name, dtype, count)
            faster = [
                f"{LABELS[peer]} by {times(gap)}"
                for peer in PEERS
                if ours and (gap := ratio(ours, run.best(name, peer, dtype, count))) and gap > 1
            ]
            if faster:
                found.append(f"{name} {dtype} on {count} thread{'s' * (count > 1)}: {', '.join(faster)}.")
    for part, unit in (("batch", "batch size"), ("width", "width")):
        rows = run.select(part=part, status="timed")
        lost: dict[str, list[str]] = {}
        for point in sorted({row["point"] for row in rows}):
            here = {row["contender"]: row["seconds"] for row in rows if row["point"] == point}
            ours = min((here[name] for name in ENGINES if name in here), default=None)
            if ours and min(here.values()) < ours:
                winner = min(here, key=here.__getitem__)
                lost.setdefault(LABELS[winner], []).append(f"{point} (by {times(ours / here[winner])})")
        found += [f"{label} at {unit} {', '.join(points)}." for label, points in lost.items()]
    return found


def missed(run: Results) -> list[str]:
    return [
        f"{goal.what}: {goal_figure(goal, figure)}, the goal is {goal_bar(goal)}."
        for goal, figure, _ in judged(run)
        if figure is not None and not goal.met(figure)
    ]


def setting(run: Results) -> str:
    """The machine and the versions, in one paragraph."""
    machine = run.machine
    versions = ", ".join(f"{name} {version}" for name, version in run.content["installed"].items() if version)
    absent = [name for name, version in run.content["installed"].items() if not version]
    missing = f" Not installed, so not compared: {', '.join(absent)}." if absent else ""
    kernels = f", BLAS kernels for {' and '.join(run.kernels)}" if run.kernels else ""
    load = machine["load_average"] or 0
    busy = f" The machine was busy, load average {load:.1f} at the start." if load > 0.3 * machine["cpus"] else ""
    if not run.content["complete"]:
        missing += " The run was broken off: what it did not come to is not on the page."
    return (
        f"Measured {machine['date']} on {machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, Python "
        f"{machine['python']}, {versions}{kernels}; fastbp {run.content['fastbp']}, commit {machine['commit']}."
        f"{missing}{busy}"
    )


def summary(run: Results, pictures: list[str]) -> str:
    """What stands in the README between the markers."""
    parts = [glance(run)]
    if "batch.png" in pictures:
        parts.append("![Speed-up against the batch size](docs/images/benchmarks/batch.png)")
    lost = losses(run)
    if lost:
        parts.append("Where we lose:\n\n" + "\n".join(f"- {line}" for line in lost))
    parts.append(
        f"{setting(run)} Ratios hold within this run; absolute times are this machine's. All of it, with the goals "
        "that are missed: [docs/benchmarks.md](docs/benchmarks.md), generated from "
        f"`{_source(run)}` by `python -m benchmarks.render`."
    )
    return "\n\n".join(parts)


def _source(run: Results) -> str:
    path = run.path
    if path is None:
        return "results"
    return str(path.resolve().relative_to(ROOT)) if path.resolve().is_relative_to(ROOT) else path.name


def page(run: Results, pictures: list[str]) -> str:
    """docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        f"Generated from `{_source(run)}` by `python -m benchmarks.render`; not edited by hand.",
        setting(run),
        "## At a glance",
        glance(run),
        _picture(pictures, "workloads", "Time of a mini-batch, every contender, every workload"),
        "## Where we lose",
        "\n".join(f"- {line}" for line in losses(run)) or "In this run, no library was faster than the best engine.",
        "Goals this run misses:\n\n" + "\n".join(f"- {line}" for line in missed(run))
        if missed(run)
        else "No goal that this run measured is missed.",
        "## Goals",
        "Everyone at the number of threads that suits them best; in brackets, everyone at "
        f"{max(run.content['threads'])} threads.",
        _goals(run),
        "## How it is measured",
        METHOD.format(**run.content["effort"]),
    ]
    for name, dtype in run.measured():
        parts += _workload(run, name, dtype)
    for part, title in (("batch", "Batch size"), ("width", "Width"), ("products", "Share of the bare products")):
        if f"{part}.png" in pictures:
            parts += [f"## {title}", _picture(pictures, part, title), _curve(run, part)]
    if run.content["start"]:
        rows = [[row["what"], f"{row['seconds']:.3f}", f"{100 * row['spread']:.0f} %"] for row in run.content["start"]]
        parts += ["## Start", table(["", "seconds", "±"], rows)]
    if run.content["memory"]:
        rows = [
            [
                f"`{row['call']}`, {row['workload']}, {row['dtype']}", f"{row['data'] / 1e6:.0f} MB",
                f"{row['beyond'] / 1e6:.0f} MB", f"{row['beyond'] / row['data']:.2f}",
            ]
            for row in run.content["memory"]
        ]  # fmt: skip
        parts += [
            "## Memory",
            "The peak of a training run beyond what was in use before it, against the data matrix it was given.",
            table(["", "data", "beyond", "share"], rows),
        ]
    if run.sweeps:
        parts += [
            "## Many networks",
            "The same network from many seeds, each trained by itself: how many a machine trains in a minute. Every "
            "network of a sweep is the one that its own `fit` gives, to the last bit; JAX's are the same to rounding.",
            table(["", *SWEEP_HEADINGS[1:]], sweep_lines(run)),
            "\n".join(f"- {note}." for note in sweep_remarks(run)),
        ]
    if run.content["plans"]:
        parts += [
            "## The plan",
            'What `engine="auto"` takes for each measured network, and how well its prediction holds.',
            _plans(run),
        ]
    parts += [
        "## Do it yourself",
        "```\npip install -e '.[bench]'\npython -m benchmarks            # the whole of it; --quick for a first look\n"
        "python -m benchmarks.render     # this page, its pictures, the README's table\n"
        "pytest benchmarks/              # each kernel beside its NumPy twin, each engine beside the reference\n```\n\n"
        "Set `FASTBP_DATA` to the folder that holds `mnist/`; without it synthetic images of the same shape and "
        "density are used, and the tables say so.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _goals(run: Results) -> str:
    rows = []
    for goal, figure, same in judged(run):
        shown = goal_figure(goal, figure) + (f" ({goal_figure(goal, same)})" if same else "")
        rows.append([goal.what, goal_bar(goal), shown, goal_verdict(goal, figure)])
    return table(["goal", "bar", "this run", ""], rows)


def _picture(pictures: list[str], name: str, title: str) -> str:
    return f"![{title}](images/benchmarks/{name}.png)" if f"{name}.png" in pictures else ""


def _workload(run: Results, name: str, dtype: str) -> list[str]:
    rows = run.select(workload=name, dtype=dtype, part="workloads")
    base = run.best(name, "reference", dtype) or run.best(name, "per_example", dtype)
    peer = run.best_peer(name, dtype)
    lines = []
    for row in sorted((row for row in rows if row["status"] == "timed"), key=lambda row: row["seconds"]):
        share = share_of_products(row)
        lines.append([
            LABELS[row["contender"]], str(row["threads"]), duration(row["seconds"]), f"{100 * row['spread']:.0f} %",
            times(ratio(base, row)), times(ratio(peer, row)),
            *(f"{row[kind]['total']:.1f} s" if kind in row else "–" for kind in ("cold", "warm")),
            f"{row['check']['error']:.0e}" if "check" in row else "–",
            *([f"{100 * share:.0f} %"] if share else []),
        ])  # fmt: skip
    headings = ["", "threads", "a mini-batch", "±", "× reference", "× best peer", "empty", "warm", "check"]
    if lines and len(lines[0]) > len(headings):
        headings.append("of its products")
    notes = [f"Data: {rows[0]['data']}.", *(f"{note}." for note in remarks(rows))]
    return [
        f"### {name}, {dtype}",
        f"{WORKLOADS[name].title}.",
        table(headings, lines) if lines else "",
        "\n".join(f"- {note}" for note in notes),
    ]


def _curve(run: Results, part: str) -> str:
    """The figures behind a curve."""
    rows = run.select(part=part, status="timed")
    names = [name for name in LABELS if any(row["contender"] == name for row in rows)]
    lines = []
    for point in sorted({row["point"] for row in rows}):
        here = {row["contender"]: row["seconds"] for row in rows if row["point"] == point}
        lines.append([str(point), *(duration(here[name]) if name in here else "–" for name in names)])
    return table([part, *(LABELS[name] for name in names)], lines) if lines else ""


def _plans(run: Results) -> str:
    rows = [
        [
            f"{point['workload']}, {point['dtype']}", point["engine"], point["fastest"], times(point["loss"]),
            duration(point["predicted"]), duration(point["measured"]), times(point["off"]),
        ]
        for point in plan_points(run)
    ]  # fmt: skip
    return table(["", "takes", "fastest", "time against the fastest", "predicted", "measured", "apart"], rows, left=3)


app = typer.Typer(add_completion=False)
app.command()(main)

if __name__ == "__main__":
    app(prog_name="python -m benchmarks.render")
