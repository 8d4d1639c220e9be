"""What a training run leaves behind: one record an epoch, to look at, plot and keep."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastbp.optional import need_pandas

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# Epochs that a printed table shows; of more, those in the middle are left out.
SHOWN = 12


@dataclass(repr=False)
class History:
    """The epochs of one `fit`. Printed, it is a table; `history["validation_score"]` is that column as a list.

    `epochs` holds one dict each:

    - epoch (from 0, as the book prints it), eta (of its first mini-batch), seconds (of its mini-batches),
      examples_per_second; with L-BFGS in the place of eta objective, the cost that it minimises, with the L2 term;
    - with validation data, validation_cost and validation_score (accuracy in 0 … 1 for labels, R² for real targets);
    - with monitor_training=True, training_cost and training_score, and beside validation data gap, the training
      score less the validation score: large where the network learns its examples by heart;
    - with monitor_layers=True, for each layer l = 2 … L (the book's numbers) gradient_norm_l and saturation_l, see
      `diagnostics.layer_report`.

    Costs are means over the examples of what the network is judged by: without dropout, label smoothing or the terms of
    the regularisation. `ended` says what ended the run before its last epoch ("early stopping", "schedule", L-BFGS's
    "convergence" or its complaint), or is None. `best_epoch` is the one whose parameters early stopping has put back,
    or None.
    """

    engine: str
    epochs: list[dict[str, Any]] = field(default_factory=list)
    ended: str | None = None
    best_epoch: int | None = None

    def __getitem__(self, name: str) -> list[Any]:
        """One column, an entry an epoch, None for an epoch without it; KeyError lists the columns there are."""
        if self.epochs and name not in self.columns:
            raise KeyError(f"{name!r} was not recorded; recorded are {', '.join(self.columns)}")
        return [record.get(name) for record in self.epochs]

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def columns(self) -> list[str]:
        """The names of what was recorded, in some epoch at least: a callback need not add to each."""
        return list(dict.fromkeys(name for record in self.epochs for name in record))

    def state(self) -> dict[str, Any]:
        """The records so far, a copy."""
        return {"epochs": [dict(record) for record in self.epochs], "ended": self.ended, "best_epoch": self.best_epoch}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to the records of a `state`."""
        self.epochs[:] = [dict(record) for record in state["epochs"]]
        self.ended, self.best_epoch = state["ended"], state["best_epoch"]

    def to_csv(self, path: str | Path) -> None:
        """Write a line an epoch, below a line with the names of the columns; empty where an epoch has no entry."""
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.epochs)

    def to_frame(self) -> "DataFrame":
        """The records as a pandas DataFrame, epochs as its index; FastbpError without pandas."""
        need_pandas()
        import pandas

        frame = pandas.DataFrame(self.epochs)
        return frame.set_index("epoch") if len(self) else frame

    def plot(self) -> "Figure":
        """Cost and score by epoch, and what else was recorded of the layers; a matplotlib Figure.

        `history.plot().savefig("run.png")`, or as the last line of a notebook's cell. FastbpError without matplotlib.
        """
        from fastbp import plotting

        return plotting.history(self)

    def __repr__(self) -> str:
        last = self.epochs[-1] if self.epochs else {}
        known = [name for name in ("validation_score", "training_score") if name in last]
        facts = [f"{len(self)} epochs", f"engine={self.engine!r}", *(f"{name}={last[name]:.4g}" for name in known[:1])]
        if self.ended:
            facts.append(f"ended by {self.ended}")
        return f"<History: {', '.join(facts)}>"

    def __str__(self) -> str:
        """A table of the epochs, the first and the last of them if there are many."""
        if not self.epochs:
            return repr(self)
        half, records = SHOWN // 2, self.epochs
        some = records if len(records) <= SHOWN else [*records[:half], {}, *records[-half:]]
        rows = [self.columns, *([_shown(record.get(name, "…")) for name in self.columns] for record in some)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        if self.ended:
            best = "" if self.best_epoch is None else f"; the parameters are those of epoch {self.best_epoch}"
            lines.append(f"ended by {self.ended} after {len(self)} epochs{best}")
        return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"
    return str(value)
