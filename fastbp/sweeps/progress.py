"""What a sweep says while it runs: nothing, a line a network, or one bar for all of them."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from fastbp.sweeps.spec import Run, show_settings


class Teller:
    """Hears of epochs, from any thread, and of networks; says nothing."""

    def epoch_done(self, run: Run) -> None: ...

    def network_done(self, row: dict[str, Any]) -> None: ...


class _Lines(Teller):
    def __init__(self, total: int, done: int) -> None:
        self.total, self.done = total, done

    def network_done(self, row: dict[str, Any]) -> None:
        self.done += 1
        metric = next(
            (f", {name} {value:.4f}" for name, value in row["final"].items() if "score" in name and value), ""
        )
        what = show_settings({**row["settings"], "seed": row["seed"]})
        print(f"{self.done}/{self.total}  {what}: {row['status']}{metric}, {row['seconds']:.2f} s", flush=True)


@contextlib.contextmanager
def teller(verbose: bool | None, runs: list[Run], done: int) -> Iterator[Teller]:
    """`done` networks of `runs` stand already, in the file of an earlier run."""
    if verbose:
        yield _Lines(len(runs), done)
    elif verbose is None and done < len(runs) and sys.stderr is not None and sys.stderr.isatty():
        with _bar(len(runs), done) as bar:
            yield bar
    else:
        yield Teller()


@contextlib.contextmanager
def _bar(total: int, done: int) -> Iterator[Teller]:
    """A bar on the standard error, gone at the end: networks done, and the shares of those in training."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[trouble]}"),
        TimeRemainingColumn(),
    )
    # drawing needs Python's lock, which the threads that train need too
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as progress:
        task = progress.add_task(f"{done}/{total} networks", total=total, completed=done, trouble="")

        class Bar(Teller):
            def __init__(self) -> None:
                self.done, self.trouble = done, dict[str, int]()
                self.shares: dict[int, float] = {}
                self.lock = threading.Lock()

            def epoch_done(self, run: Run) -> None:
                with self.lock:
                    self.shares[run.number] = self.shares.get(run.number, 0.0) + 1 / run.arguments["epochs"]
                    progress.update(task, completed=self.done + sum(self.shares.values()))

            def network_done(self, row: dict[str, Any]) -> None:
                with self.lock:
                    self.done += 1
                    self.shares.pop(row["run"], None)
                    if row["status"] in ("diverged", "failed"):
                        self.trouble[row["status"]] = self.trouble.get(row["status"], 0) + 1
                    progress.update(
                        task,
                        description=f"{self.done}/{total} networks",
                        completed=self.done + sum(self.shares.values()),
                        trouble=", ".join(f"{n} {status}" for status, n in self.trouble.items()),
                    )

        yield Bar()
