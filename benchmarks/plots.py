"""The pictures of a run: bars per workload, two curves, and the share of the bare products' rate."""

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.measure import Row
from benchmarks.report import duration
from benchmarks.results import ENGINES, LABELS, Results, ratio, share_of_products
from benchmarks.workloads import WORKLOADS

# fastbp is blue, what it replaces grey, the libraries each a colour of their own.
COLOURS = {
    "fused": "#0b4fb3",
    "matrix": "#5b9bec",
    "auto": "#0b4fb3",
    "book_sgd": "#0b4fb3",
    "reference": "#777777",
    "per_example": "#777777",
    "numpy_batch": "#1b8a5a",
    "sklearn_mlp": "#c98a00",
    "torch_eager": "#d1402f",
    "torch_compile": "#e58a7f",
    "jax_scan": "#7d3fb0",
}
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "grid.color": "#e4e4e4",
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
}
INK = "#444444"
_WIDEST = 120  # per cent: products alone can be a little slower than within the training, never much


def draw_all(results: Results, folder: Path) -> list[Path]:
    """The plots this run has rows for, as PNG files in `folder`."""
    drawn = []
    with matplotlib.rc_context(STYLE):
        for name, draw in PLOTS.items():
            figure = draw(results)
            if figure is not None:
                folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(folder / f"{name}.png")
                plt.close(figure)
                drawn.append(folder / f"{name}.png")
    return drawn


def footnote(results: Results) -> str:
    machine = results.machine
    quick = ", a quick run" if results.content["quick"] else ""
    return f"{machine['cpu'].split(' (')[0]}, {machine['cpus']} CPUs, {machine['date'][:10]}{quick}"


def draw_workloads(results: Results) -> Figure | None:
    """A panel for each workload: the time of a mini-batch on a logarithmic scale, the fastest on top."""
    panels = [
        (name, dtype) for name, dtype in results.measured() if dtype == "float32" or WORKLOADS[name].book
    ]  # fmt: skip
    panels = [(name, dtype, _bars(results, name, dtype)) for name, dtype in panels]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    pairs = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(len(panel[2]) for panel in pair) + 2.2 for pair in pairs]
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.6 * columns, 0.27 * sum(heights)), squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for i, (name, dtype, bars) in enumerate(panels):
        _draw_panel(axes.flat[i], results, name, dtype, bars, max(len(panel[2]) for panel in pairs[i // columns]))
    figure.get_layout_engine().set(h_pad=0.1, hspace=0.0)
    about = "time of a mini-batch, and how many times faster than one example at a time; float32 (B1: float64)"
    more = f"each at its best number of threads; hatched: another cost, see the table; {footnote(results)}"
    figure.supxlabel(f"{about}\n{more}", fontsize=10, color=INK)
    return figure


def _bars(results: Results, name: str, dtype: str) -> list[Row]:
    rows = [row for contender in LABELS if (row := results.best(name, contender, dtype))]
    return sorted(rows, key=lambda row: row["seconds"])


def _draw_panel(ax: Axes, results: Results, name: str, dtype: str, bars: list[Row], places: int) -> None:
    floor = 10 ** np.floor(np.log10(bars[0]["seconds"] * 0.7))
    base = results.best(name, "reference", dtype) or results.best(name, "per_example", dtype)
    for y, row in enumerate(bars):
        colour, fast = COLOURS[row["contender"]], ratio(base, row)
        hatch = "//" if row.get("caveat") else None
        ax.barh(y, row["seconds"] - floor, left=floor, color=colour, height=0.72, hatch=hatch, edgecolor="white", lw=0)
        times = f"  {fast:,.{0 if fast >= 9.5 else 1}f}×" if fast and row is not base else ""
        ax.text(row["seconds"] * 1.12, y, duration(row["seconds"]), va="center", color=colour, fontweight="bold")
        ax.annotate(
            times, (row["seconds"] * 1.12, y), xytext=(52, 0), textcoords="offset points", va="center", color=INK
        )
    ax.set_xscale("log")
    ax.set_xlim(floor, bars[-1]["seconds"] * 12)
    ax.set_ylim(places - 0.4, -0.6)  # bars of the same height as in the panel beside it
    ax.set_yticks(range(len(bars)), [LABELS[row["contender"]] for row in bars])
    for tick, row in zip(ax.get_yticklabels(), bars, strict=True):
        tick.set_color(COLOURS[row["contender"]])
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.spines["left"].set_visible(False)
    work = WORKLOADS[name]
    about = f"[{', '.join(map(str, work.sizes))}], batch {work.batch_size}"
    ax.set_title(f"{name}  {f'{work.plain} with ' + ', '.join(work.step) if work.plain else about}")


def _short(seconds: float) -> str:
    """1 µs, 10 ms: no digits after the point."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= 0.999 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:g} s"


def draw_batch(results: Results) -> Figure | None:
    """How many times faster than one example at a time, against the batch size."""
    rows = results.select(part="batch", status="timed")
    base = {row["point"]: row["seconds"] for row in rows if row["contender"] == "reference"}
    lines = _lines(rows, lambda row: base[row["point"]] / row["seconds"] if row["point"] in base else None)
    if not lines:
        return None
    figure, ax = plt.subplots(figsize=(8.2, 5.0))
    _draw_lines(ax, results, lines)
    ax.set_title(f"[784, 30, 10] on {_data(rows)}, float32: speed-up over one example at a time")
    ax.set_xlabel(f"examples in a mini-batch\n{_threads(rows)}, {footnote(results)}", color=INK)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}×"))
    return figure


def draw_width(results: Results) -> Figure | None:
    """The time of a mini-batch against the width of two hidden layers."""
    rows = results.select(part="width", status="timed")
    lines = _lines(rows, lambda row: row["seconds"])
    if not lines:
        return None
    figure, ax = plt.subplots(figsize=(8.2, 5.0))
    _draw_lines(ax, results, lines)
    ax.set_title(f"[784, w, w, 10] on {_data(rows)}, batch 100, float32: time of a mini-batch")
    ax.set_xlabel(f"width w of the hidden layers\n{_threads(rows)}, {footnote(results)}", color=INK)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _short(y)))
    return figure


def _data(rows: list[Row]) -> str:
    return "MNIST" if rows[0]["data"] == "MNIST" else "synthetic images"


def _threads(rows: list[Row]) -> str:
    count = max(row["threads"] for row in rows)
    return f"{count} thread{'s' * (count > 1)}"


def _lines(rows: list[Row], value: Callable[[Row], float | None]) -> dict[str, tuple[list, list, list]]:
    """By contender: points, values, names of the workloads."""
    lines: dict[str, tuple[list, list, list]] = {}
    for row in sorted(rows, key=lambda row: row["point"]):
        y = value(row)
        if y is not None:
            for part, entry in zip(
                lines.setdefault(row["contender"], ([], [], [])), (row["point"], y, row["workload"]), strict=True
            ):
                part.append(entry)
    return lines


def _draw_lines(ax: Axes, results: Results, lines: dict[str, tuple[list, list, list]]) -> None:
    """Lines with their names at the right end, and a ring around what the plan takes."""
    plans = {plan["workload"]: plan["engine"] for plan in results.content["plans"]}
    rings: tuple[list, list] = ([], [])
    for name, (x, y, workloads) in lines.items():
        weight, size, layer = (2.4, 4.5, 3) if name in ENGINES else (1.6, 3.5, 2)
        ax.plot(x, y, color=COLOURS[name], lw=weight, marker="o", ms=size, zorder=layer)
        for xi, yi, workload in zip(x, y, workloads, strict=True):
            if plans.get(workload) == name:
                rings[0].append(xi)
                rings[1].append(yi)
    ax.scatter(*rings, s=110, facecolors="none", edgecolors="#222222", lw=1.1, zorder=4)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    points = sorted({point for x, _, _ in lines.values() for point in x})
    ax.set_xticks(points, [f"{point}" for point in points])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(LogLocator(10))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    low, high = np.log10(ax.get_ylim())
    ends = {name: (x[-1], y[-1]) for name, (x, y, _) in lines.items() if x[-1] == points[-1]}
    line = 0.055 * (high - low)
    for (name, (x, y)), at in zip(ends.items(), _spread(ends, line, low, high - line / 2), strict=True):
        ax.annotate(
            LABELS[name], (x, y), xytext=(points[-1] * 1.3, 10**at), color=COLOURS[name], va="center",
            fontweight="bold" if name in ENGINES else "normal", annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": COLOURS[name], "lw": 0.6, "alpha": 0.6,
                "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5),
            },
        )  # fmt: skip
    for name, (x, y, _) in lines.items():
        if name not in ends:  # it was too slow for the last points
            ax.annotate(
                LABELS[name], (x[-1], y[-1]), xytext=(0, 8), textcoords="offset points", ha="center",
                color=COLOURS[name], bbox={"color": "white", "alpha": 0.8, "pad": 0.5},
            )  # fmt: skip
    if rings[0]:
        note = '○ what engine="auto" takes'
        ax.text(0.99, 0.02, note, transform=ax.transAxes, ha="right", color="#222222", fontsize=10)


def _spread(ends: dict[str, tuple[float, float]], gap: float, low: float, high: float) -> list[float]:
    """Heights (logarithms) for labels near the ends of their lines: `gap` apart, from `low` to `high`."""
    wanted = np.log10([y for _, y in ends.values()])
    order = np.argsort(wanted)
    placed = wanted[order].astype(float)
    for _ in range(500):
        for i in np.flatnonzero(np.diff(placed) < gap - 1e-9):
            middle = (placed[i] + placed[i + 1]) / 2
            placed[i], placed[i + 1] = middle - gap / 2, middle + gap / 2
        placed = np.clip(placed, low, high)
    out = np.empty(len(placed))
    out[order] = placed
    return out.tolist()


def draw_products(results: Results) -> Figure | None:
    """How much of a large mini-batch is matrix products: 100 % is the rate the same products reach alone."""
    threads = results.machine["cpus"]
    panels = []
    for name in (name for name, work in WORKLOADS.items() if work.products):
        rows = [results.best(name, contender, "float32", threads) for contender in LABELS]
        rows = [row for row in rows if row and share_of_products(row) and row["contender"] != "reference"]
        if rows:
            panels.append((name, sorted(rows, key=share_of_products, reverse=True)))
    if not panels:
        return None
    flops = {plan["workload"]: plan["flops"] for plan in results.content["plans"]}
    heights = [len(rows) + 1.8 for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8.2, 0.33 * sum(heights) + 0.3), squeeze=False, sharex=True,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for ax, (name, rows) in zip(axes.flat, panels, strict=True):
        for y, row in enumerate(rows):
            share, colour = share_of_products(row), COLOURS[row["contender"]]
            ax.barh(y, 100 * share, color=colour, height=0.72)
            inside = share > 0.5
            ax.text(
                min(100 * share, _WIDEST) + (-1 if inside else 1), y, f"{100 * share:.0f} %", va="center",
                ha="right" if inside else "left", color="white" if inside else colour, fontweight="bold",
            )  # fmt: skip
            if name in flops:
                rate, bare = (flops[name] / seconds / 1e9 for seconds in (row["seconds"], row["seconds"] * share))
                text = f"{rate:,.0f} of {bare:,.0f} GFLOP/s"
                ax.text(1.02, y, text, transform=ax.get_yaxis_transform(), va="center", color=INK)
        ax.axvline(90, color="#222222", lw=1, ls=(0, (4, 3)), zorder=0)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_yticks(range(len(rows)), [LABELS[row["contender"]] for row in rows])
        for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
            tick.set_color(COLOURS[row["contender"]])
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        work = WORKLOADS[name]
        ax.set_title(f"{name}  [{', '.join(map(str, work.sizes))}], batch {work.batch_size}, float32")
    axes.flat[-1].set_xlim(0, _WIDEST)
    axes.flat[-1].set_xticks(range(0, 101, 10), [f"{x} %" if x % 20 == 0 else "" for x in range(0, 101, 10)])
    about = "rate of training as a share of its products alone, dashed: the goal"
    axes.flat[-1].set_xlabel(f"{about}\n{threads} threads, {footnote(results)}", color=INK)
    return figure


PLOTS: dict[str, Callable[[Results], Figure | None]] = {
    "workloads": draw_workloads,
    "batch": draw_batch,
    "width": draw_width,
    "products": draw_products,
}
