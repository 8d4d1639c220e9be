"""What came of a sweep: a row for each network, and what the seeds of one setting say together."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastbp.optional import need_pandas
from fastbp.plainjson import plain
from fastbp.sweeps.spec import show

# Of an epoch's record, what is no result.
_NO_METRICS = ("epoch", "eta", "seconds", "examples_per_second")
# Columns of the printed table at most; all of them are in `rows` and in the CSV.
_MOST_METRICS = 4


@dataclass(frozen=True)
class Mean:
    """A mean over `n` seeds and its standard error, s/√n with s the sample's deviation; without one for n = 1."""

    mean: float
    error: float | None
    n: int

    def __str__(self) -> str:
        if self.error is None:
            return f"{self.mean:.4g}"
        if self.error <= 1e-14 * abs(self.mean):  # all alike, to the rounding of their mean
            return f"{self.mean:.4g} ± 0"
        digits = max(0, 1 - math.floor(math.log10(self.error)))  # two figures of the error, the mean as far as that
        return f"{self.mean:.{digits}f} ± {self.error:.{digits}f}" if digits < 9 else f"{self.mean:g} ± {self.error:g}"


@dataclass(frozen=True)
class Setting:
    """The networks that differ only by their seed. `metrics` are means over those that were trained to the end."""

    settings: dict[str, Any]
    networks: int
    statuses: dict[str, int]
    metrics: dict[str, Mean]


@dataclass(frozen=True)
class SweepResult:
    """The networks of a sweep, in the order of the grid, a dict each.

    `run` its number, `settings` what varies, `seed`, `status`: "done"; "stopped" before the last epoch, as it was told
    to; "diverged" or "failed", and then `message` says how. `engine_used`, `epochs_done`, `seconds`; `final`, the
    metrics of the last epoch, or of the one whose parameters were put back; `history`, every epoch's record; `model`,
    the file of the parameters if they were kept.
    Numbers that are not finite are None, as in the file of a sweep.
    """

    rows: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    @property
    def metrics(self) -> list[str]:
        """The names of what was recorded of the last epoch, scores before costs before the rest."""
        names = dict.fromkeys(name for row in self.rows for name in row["final"])
        return sorted(names, key=lambda name: ("score" not in name, "cost" not in name))

    def by_setting(self) -> list[Setting]:
        """The rows put together over the seeds, in the order of the grid."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            groups.setdefault(json.dumps(row["settings"]), []).append(row)
        return [
            Setting(
                rows[0]["settings"],
                len(rows),
                dict(Counter(row["status"] for row in rows)),
                {name: mean for name in [*self.metrics, "seconds"] if (mean := _mean(name, rows))},
            )
            for rows in groups.values()
        ]

    def best(self, metric: str | None = None) -> Setting:
        """The setting with the best mean of a metric (by default the first): the largest score, the least cost.

        Only settings of which no network diverged or failed are judged, if there are any. ValueError if no network has
        the metric.
        """
        metric = metric or next(iter(self.metrics), None)
        judged = [setting for setting in self.by_setting() if metric in setting.metrics]
        if metric is None or not judged:
            raise ValueError(f"no network has {metric or 'a metric; give validation_data'!r}; there are {self.metrics}")
        sound = [setting for setting in judged if not _spoilt(setting)]
        sign = -1 if "cost" in metric or metric == "seconds" else 1
        return max(sound or judged, key=lambda setting: sign * setting.metrics[metric].mean)

    def __str__(self) -> str:
        """A line for each setting: mean ± standard error over the seeds, and how many networks did not get that far."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        settings, metrics = self.by_setting(), self.metrics[:_MOST_METRICS]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        for name in self.rows[0]["settings"]:
            table.add_column(Text(name), justify="right")
        for name in ("networks", *metrics, "seconds"):
            table.add_column(Text(name), justify="right")
        troubled = any(set(setting.statuses) != {"done"} for setting in settings)
        if troubled:
            table.add_column("of which")
        for setting in settings:
            cells = [show(value) for value in setting.settings.values()]
            cells += [str(setting.networks), *(str(setting.metrics.get(name, "–")) for name in metrics)]
            cells.append(f"{setting.metrics['seconds'].mean:.2f}" if "seconds" in setting.metrics else "–")
            if troubled:
                others = {status: n for status, n in setting.statuses.items() if status != "done"}
                cells.append(", ".join(f"{n} {status}" for status, n in others.items()))
            table.add_row(*map(Text, cells))
        console = Console(width=400, color_system=None, force_terminal=False)
        with console.capture() as drawn:
            console.print(table)
        return "\n".join(line.rstrip() for line in drawn.get().splitlines()).strip("\n")

    def flat(self) -> list[dict[str, Any]]:
        """The rows without their histories, all on one level: a column for each setting and each metric."""
        names, kept = self.metrics, any("model" in row for row in self.rows)
        return [
            {"run": row["run"]}
            | {name: show(part) if isinstance(part, list | dict) else part for name, part in row["settings"].items()}
            | {key: row[key] for key in ("seed", "status", "message", "engine_used", "epochs_done", "seconds")}
            | {name: row["final"].get(name) for name in names}
            | ({"model": row.get("model")} if kept else {})
            for row in self.rows
        ]  # fmt: skip

    def to_csv(self, path: str | Path) -> None:
        """Write `flat` as CSV with a header; what a network does not have is an empty cell."""
        rows = self.flat()
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def to_json(self, path: str | Path) -> None:
        """Write everything, histories and means included, as one JSON document."""
        Path(path).write_text(json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def as_dict(self) -> dict[str, Any]:
        """What `to_json` writes."""
        settings = [
            {
                "settings": setting.settings, "networks": setting.networks, "statuses": setting.statuses,
                "metrics": {name: vars(mean) for name, mean in setting.metrics.items()},
            }
            for setting in self.by_setting()
        ]  # fmt: skip
        return plain({"settings": settings, "networks": self.rows})

    def to_frame(self) -> Any:
        """`flat` as a pandas DataFrame; FastbpError without pandas."""
        need_pandas()
        import pandas

        return pandas.DataFrame(self.flat())

    def plot(self, metric: str | None = None, x: str | None = None, path: str | Path | None = None) -> Any:
        """A metric's mean and standard error over a setting `x`, a line for each combination of the others.

        By default the first metric over the first setting that takes several numbers. Returns matplotlib's Figure, and
        writes it to `path` if that is given. Raises ValueError for names there are not; FastbpError without matplotlib.
        """
        from fastbp import plotting

        metric = metric or next(iter(self.metrics), None)
        if metric is None or not any(metric in setting.metrics for setting in self.by_setting()):
            raise ValueError(f"no network has {metric or 'a metric; give validation_data'!r}; there are {self.metrics}")
        names = list(self.rows[0]["settings"])
        if x is not None and x not in names:
            raise ValueError(f"x={x!r} is no setting of this sweep; there are {', '.join(names) or 'none'}")
        return plotting.draw_settings(self.by_setting(), metric, x or self._axis(), path)

    def _axis(self) -> str | None:
        settings = [row["settings"] for row in self.rows]
        several = [name for name in settings[0] if len({json.dumps(each[name]) for each in settings}) > 1]
        numbers = [name for name in several if all(_is_number(each[name]) for each in settings)]
        return next(iter([*numbers, *several, *settings[0]]), None)


def final_metrics(record: dict[str, Any]) -> dict[str, Any]:
    """Of an epoch's record, the numbers that are results."""
    return {
        name: value
        for name, value in record.items()
        if name not in _NO_METRICS and (_is_number(value) or value is None)
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spoilt(setting: Setting) -> bool:
    return bool({"diverged", "failed"} & set(setting.statuses))


def _mean(name: str, rows: list[dict[str, Any]]) -> Mean | None:
    """Over the rows that came to their end and have this metric."""
    ended = [row for row in rows if row["status"] in ("done", "stopped")]
    values = [row["seconds"] if name == "seconds" else row["final"].get(name) for row in ended]
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None
    return Mean(float(known.mean()), error, len(known))
