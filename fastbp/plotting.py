"""A picture of how a network learned: cost and score by epoch. Needs matplotlib, the extra `plot`."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastbp.errors import FastbpError


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
