"""A benchmark as people see it: tables on the terminal, and a picture of bars and of the roofline."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastbp.bench import Benchmark, EngineTiming, ProductTiming, Timing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

COLOURS = {"reference": "#777777", "matrix": "#5b9bec", "fused": "#0b4fb3"}
_INK, _PRODUCTS, _ROOF = "#444444", "#1b8a5a", "#c98a00"


def duration(seconds: float) -> str:
    """Three digits and a unit: 12.5 µs, 3.01 s."""
    units = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    unit = next((unit for unit, size in units.items() if seconds >= 0.9995 * size), "ns")
    value = seconds / units[unit]
    return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def _spread(timing: Timing) -> str:
    return f"±{100 * timing.spread:.0f} %"


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def title(found: Benchmark) -> str:
    """The network and its mini-batches in a line."""
    hidden = ", ".join(dict.fromkeys(found.hidden))
    dense = "" if found.density == 1 else f", {found.density:.0%} of the inputs not zero"
    return (
        f"network {'-'.join(map(str, found.sizes))}: {hidden + ', ' if hidden else ''}{found.output}, "
        f"{found.cost.replace('_', ' ')} cost, {found.dtype}; batches of {found.batch_size}{dense}"
    )


def show(found: Benchmark) -> None:
    """Print everything: the engines, the products and the memory they are held against, and what to doubt."""
    from rich.console import Console

    print(title(found))
    print(f"on {found.machine['cpu']}, {_threads(found.threads)}")
    console = Console(highlight=False, width=200)  # on a narrow terminal a line is broken, but no figure is cut short
    with console.capture() as drawn:  # rich's own output would end the program itself when a pipe is closed
        for table in (_engine_table(found), _machine_table(found)):
            console.print()
            console.print(table)
    print(drawn.get())
    print(_verdict(found))
    for name, reason in found.left_out.items():
        print(f"{name} was left out: {reason}")
    for note in found.notes:
        print(f"note: {note}")


def _table(first: str, *others: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _engine_table(found: Benchmark) -> "Table":
    table = _table(
        "engine", "mini-batch", "spread", "predicted", "examples/s", "GFLOP/s", "of products", "× slowest", "first time"
    )
    slowest = max(engine.seconds for engine in found.engines)
    for engine in found.engines:
        table.add_row(
            engine.name + (" (planned)" if engine.name == found.plan.engine else ""),
            duration(engine.seconds),
            _spread(engine),
            duration(engine.predicted),
            f"{found.batch_size / engine.seconds:,.0f}",
            f"{found.gflops(engine):.3g}",
            f"{found.products_seconds / engine.seconds:.0%}",
            f"{slowest / engine.seconds:.3g}",
            duration(engine.first),
        )
    return table


def _machine_table(found: Benchmark) -> "Table":
    table = _table("this machine", "time", "spread", "rate", "threads")
    for product in (*found.products, *found.squares):
        table.add_row(_shape(product), *_figures(product, f"{product.gflops:.3g} GFLOP/s"))
    for sweep in found.sweeps:
        name = f"sum of two arrays of {sweep.bytes / 3 / 2**20:.0f} MiB"
        table.add_row(name, *_figures(sweep, f"{sweep.gbytes:.3g} GB/s"))
    return table


def _shape(product: ProductTiming) -> str:
    return f"{product.name} ({product.rows}×{product.steps})·({product.steps}×{product.columns})"


def _figures(timing: Timing, rate: str) -> tuple[str, ...]:
    return duration(timing.seconds), _spread(timing), rate, str(timing.threads)


def _verdict(found: Benchmark) -> str:
    fastest = found.fastest
    line = f"{fastest.name} is fastest, {duration(fastest.seconds)} a mini-batch; its products alone take BLAS "
    line += duration(found.products_seconds)
    planned = found.engine(found.plan.engine)
    if planned is None:
        return f"{line}. The plan takes {found.plan.engine}, which was not run"
    if planned.seconds <= 1.1 * fastest.seconds:  # the goal of the plan: within 10 %
        return f"{line}. The plan takes {planned.name}"
    times = planned.seconds / fastest.seconds
    return f"{line}. The plan takes {planned.name}, which is {times:.2f} times as slow here"


# --- The picture


def draw(found: Benchmark, path: Path) -> None:
    """Write the picture: the time of a mini-batch in each engine, and where each stands below the machine's roof."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    bars, roof = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_bars(bars, found)
    _draw_roof(roof, found)
    figure.suptitle(title(found), fontsize=10.5, color=_INK)
    about = f"{found.machine['cpu']}, {_threads(found.threads)}; medians of {len(found.engines[0].samples)} samples"
    doubt = "".join("; " + note.partition(" (")[0].partition(":")[0] for note in found.notes[:1])
    figure.supxlabel(about + doubt, fontsize=8.5, color=_INK)
    figure.savefig(path, dpi=150)


def _draw_bars(axes: "Axes", found: Benchmark) -> None:
    rows: list[tuple[str, float, str, Any]] = [
        (engine.name, engine.seconds, COLOURS[engine.name], _quartiles(engine)) for engine in found.engines
    ]
    rows.append(("products alone", found.products_seconds, _PRODUCTS, None))
    rows.sort(key=lambda row: row[1])
    floor = 0.5 * rows[0][1]
    for y, (_, seconds, colour, error) in enumerate(rows):
        axes.barh(y, seconds - floor, left=floor, color=colour, height=0.62)
        axes.annotate(
            duration(seconds), (seconds, y), xytext=(7, 0), textcoords="offset points", va="center", color=_INK
        )
        if error is not None:
            axes.hlines(y, *error, color="black", lw=1.5)
    for engine in found.engines:
        y = next(i for i, row in enumerate(rows) if row[0] == engine.name)
        axes.plot(engine.predicted, y - 0.39, "v", color=_INK, ms=5, mfc="white")
    axes.plot([], [], "v", color=_INK, ms=5, mfc="white", label="predicted by the plan")
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(floor, 5 * max(rows[-1][1], *(engine.predicted for engine in found.engines)))
    axes.xaxis.set_major_formatter(lambda x, _: duration(x).replace(".00", "").replace(".0", ""))
    axes.xaxis.set_minor_formatter(lambda x, _: "")
    axes.set_title("time of a mini-batch", fontsize=10, loc="left")
    axes.legend(fontsize=8.5, frameon=False, loc="upper right")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _quartiles(engine: EngineTiming) -> tuple[float, float]:
    width = engine.spread * engine.seconds
    return engine.seconds - width, engine.seconds + width


def _draw_roof(axes: "Axes", found: Benchmark) -> None:
    """Rates against operations for each byte. Left of a roof's bend memory limits, right of it arithmetic."""
    at = found.flops_per_byte
    left, right = min(0.1, at / 4), max(400.0, 30 * at)
    for square, sweep, style in zip(found.squares, found.sweeps, ("--", "-"), strict=False):
        bend = square.gflops / sweep.gbytes
        name = f"{_threads(square.threads)}: {square.gflops:.0f} GFLOP/s, {sweep.gbytes:.0f} GB/s"
        heights = [left * sweep.gbytes, square.gflops, square.gflops]
        axes.plot([left, bend, right], heights, style, color=_ROOF, lw=1.6, label=name)
    axes.legend(fontsize=8.5, frameon=False, loc="upper left")  # above the roof, where nothing can stand
    rates = [(engine.name, found.gflops(engine), COLOURS[engine.name]) for engine in found.engines]
    rates.append(("products alone", 1e-9 * found.plan.flops / found.products_seconds, _PRODUCTS))
    axes.axvline(at, color="#dddddd", lw=1, zorder=0)
    places = _apart([rate for _, rate, _ in rates])
    for (name, rate, colour), place in zip(rates, places, strict=True):
        axes.plot(at, rate, "o", color=colour, ms=7)
        axes.annotate(
            f"{name}: {rate:.3g}", (at, rate), xytext=(1.25 * at, place), va="center", color=colour, fontsize=9
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    lowest = min([rate for _, rate, _ in rates] + [left * sweep.gbytes for sweep in found.sweeps])
    axes.set_ylim(0.5 * lowest, 5 * max([square.gflops for square in found.squares] + [rate for _, rate, _ in rates]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("operations for each byte of rows, parameters, activations and errors", fontsize=9)
    axes.set_title("roofline: GFLOP/s", fontsize=10, loc="left")
    axes.grid(alpha=0.2)


def _apart(rates: list[float]) -> list[float]:
    """Heights for the names of these rates: near them, and a line apart on the logarithmic scale."""
    heights = list(rates)
    order = sorted(range(len(rates)), key=rates.__getitem__)
    for below, i in zip(order, order[1:], strict=False):
        heights[i] = max(heights[i], 1.45 * heights[below])
    return heights
