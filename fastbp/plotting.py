"""Pictures: how a network learned, by epoch, and how many did, by setting. Needs matplotlib, the extra `plot`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastbp.optional import need_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastbp.history import History
    from fastbp.sweeps.result import Setting


def check(path: Path) -> None:
    """Before any work: FastbpError without matplotlib, ValueError for a name it cannot draw to."""
    need_matplotlib("--plot")
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in kinds:
        raise ValueError(f"--plot {path}: a picture's name ends in .png, .svg or .pdf")


def draw(records: Sequence[dict[str, Any]], path: Path, facts: dict[str, Any]) -> None:
    """Write the picture. records: the epochs of a History, with the training's cost and score beside those held out."""
    from matplotlib.ticker import PercentFormatter

    by_label = facts["task"] == "classify"
    figure, axes = _axes(2)
    _cost_and_score(axes[0], axes[1], records)
    axes[0].set_title(f"cost ({facts['cost'].replace('_', ' ')})")
    axes[1].set_title("accuracy" if by_label else "R²")
    if by_label:
        axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    sizes = "-".join(map(str, facts["sizes"]))
    figure.suptitle(f"{Path(facts['data']).name}: network {sizes}, η = {facts['eta']:g}, batch {facts['batch_size']}")
    figure.savefig(path, dpi=150)


def history(of: "History") -> "Figure":
    """See `History.plot`."""
    need_matplotlib("plot")
    judged = any(name.endswith(("cost", "score")) for name in of.columns)
    by_layer = [
        (prefix, title)
        for prefix, title in (("gradient_norm_", "norm of the gradient"), ("saturation_", "saturated"))
        if any(name.startswith(prefix) for name in of.columns)
    ]
    figure, axes = _axes(2 * judged + len(by_layer) or 1)
    if judged:
        _cost_and_score(axes[0], axes[1], of.epochs)
        axes[0].set_title("cost")
        axes[1].set_title("score")
        if of.best_epoch is not None:
            for axis in axes[:2]:
                axis.axvline(of.best_epoch, color="0.6", linestyle=":", zorder=0, label="best epoch")
            axes[1].legend()
    elif not by_layer:
        name, title = ("eta", "step size") if "eta" in of.columns else ("objective", "cost minimised")
        _curve(axes[0], of.epochs, name, title, "-")
        axes[0].set_title(title)
    for axis, (prefix, title) in zip(axes[2 * judged :], by_layer, strict=False):
        for name in of.columns:
            if name.startswith(prefix):
                _curve(axis, of.epochs, name, f"layer {name.removeprefix(prefix)}", "-")
        if prefix == "gradient_norm_":
            axis.set_yscale("log")
        axis.set_title(title)
        axis.legend()
    return figure


def _axes(count: int) -> tuple["Figure", Any]:
    """A figure with so many empty plots by epoch, side by side."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4 * count, 3.6), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
    return figure, axes


def _cost_and_score(cost: "Axes", score: "Axes", records: Sequence[dict[str, Any]]) -> None:
    for axis, what in ((cost, "cost"), (score, "score")):
        for part, label, style in (("training", "training data", "C0--"), ("validation", "held-out data", "C1-")):
            _curve(axis, records, f"{part}_{what}", label, style)
    score.legend()


def _curve(axis: "Axes", records: Sequence[dict[str, Any]], name: str, label: str, style: str) -> None:
    """One column by epoch, if it was recorded."""
    if records and name in records[0]:
        epochs = [record["epoch"] for record in records]
        values = [record[name] for record in records]
        axis.plot(epochs, values, style, label=label, marker="." if len(epochs) < 4 else None)


# From this ratio of the largest to the smallest value on, an axis is logarithmic.
_LOGARITHMIC_FROM = 20


def draw_settings(settings: "list[Setting]", metric: str, x: str | None, path: str | Path | None) -> Any:
    """See `SweepResult.plot`."""
    need_matplotlib("plot")
    from matplotlib.figure import Figure

    from fastbp.sweeps.spec import show, show_settings

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    judged = [setting for setting in settings if metric in setting.metrics]
    places: list[Any] = [None if x is None else setting.settings.get(x) for setting in judged]
    numbers = all(isinstance(place, int | float) for place in places)
    lines: dict[str, list[tuple[Any, float, float]]] = {}
    for place, setting in zip(places, judged, strict=True):
        others = {name: value for name, value in setting.settings.items() if name != x}
        mean = setting.metrics[metric]
        point = (place if numbers else show(place), mean.mean, mean.error or 0.0)
        lines.setdefault(show_settings(others), []).append(point)
    for label, points in lines.items():
        if numbers:  # the grid may name them in any order
            points.sort()
        at, means, errors = (list(column) for column in zip(*points, strict=True))
        axis.errorbar(at, means, errors, marker="o", capsize=3, label=label or None)
    if numbers and min(places) > 0 and max(places) >= _LOGARITHMIC_FROM * min(places):
        axis.set_xscale("log")
    axis.set_xlabel(x or "")
    axis.set_ylabel(metric.replace("_", " "))
    axis.grid(alpha=0.3)
    if any(lines):
        axis.legend()
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
