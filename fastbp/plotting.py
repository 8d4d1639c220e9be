"""Pictures: how a network learned, by epoch, and how many did, by setting. Needs matplotlib, the extra `plot`."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastbp.errors import FastbpError

if TYPE_CHECKING:
    from fastbp.sweeps.result import Setting


def check(path: Path) -> None:
    """Before any work: FastbpError without matplotlib, ValueError for a name it cannot draw to."""
    if importlib.util.find_spec("matplotlib") is None:
        raise FastbpError("--plot needs matplotlib, which is not installed; pip install 'fastbp[plot]'")
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in kinds:
        raise ValueError(f"--plot {path}: a picture's name ends in .png, .svg or .pdf")


def draw(records: Sequence[dict[str, Any]], path: Path, facts: dict[str, Any]) -> None:
    """Write the picture. records: the epochs of a History, with the training's cost and score beside those held out."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    by_label = facts["task"] == "classify"
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in records]
    for axis, what in zip(axes, ("cost", "score"), strict=True):
        for part, name, style in (("training", "training data", "--"), ("validation", "held-out data", "-")):
            if f"{part}_{what}" in records[0]:
                values = [record[f"{part}_{what}"] for record in records]
                axis.plot(epochs, values, style, label=name, marker="." if len(epochs) < 4 else None)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
    axes[0].set_title(f"cost ({facts['cost'].replace('_', ' ')})")
    axes[1].set_title("accuracy" if by_label else "R²")
    if by_label:
        axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[1].legend()
    sizes = "-".join(map(str, facts["sizes"]))
    figure.suptitle(f"{Path(facts['data']).name}: network {sizes}, η = {facts['eta']:g}, batch {facts['batch_size']}")
    figure.savefig(path, dpi=150)


# From this ratio of the largest to the smallest value on, an axis is logarithmic.
_LOGARITHMIC_FROM = 20


def draw_settings(settings: "list[Setting]", metric: str, x: str | None, path: str | Path | None) -> Any:
    """The mean of a metric and its standard error over the setting `x`; a line for each combination of the others."""
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
