"""How far a fit is: nothing, a line an epoch, or a bar on the terminal."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


class Silent:
    """Reports nothing. Examples are counted from the beginning of the run, over all epochs."""

    def examples_done(self, count: int) -> None: ...

    def epoch_done(self, record: dict[str, Any]) -> None: ...


class Lines(Silent):
    """A plain line an epoch."""

    def epoch_done(self, record: dict[str, Any]) -> None:
        score = f", validation score {record['validation_score']:.4f}" if "validation_score" in record else ""
        print(f"Epoch {record['epoch']}: {record['seconds']:.2f} s{score}", flush=True)


@contextlib.contextmanager
def reporting(epochs: int, n: int, verbose: Any, by_label: bool) -> Iterator[Silent]:
    """What `fit(verbose=…)` asks for, of n examples an epoch; a report of the caller's own is taken as it is."""
    if isinstance(verbose, Silent):
        yield verbose
    elif verbose:
        yield Lines()
    elif verbose is None and epochs and sys.stderr is not None and sys.stderr.isatty():
        with bar(epochs, n, by_label) as shown:
            yield shown
    else:
        yield Silent()


def show_score(score: float, by_label: bool) -> str:
    """A score as people read it: 97.18 %, or R² 0.9312."""
    return f"{100 * score:.2f} %" if by_label else f"R² {score:.4f}"


# Seconds without a first mini-batch after which the bar says why: nothing but the compiler takes so long.
_PATIENCE = 1.5


@contextlib.contextmanager
def bar(epochs: int, n: int, by_label: bool = True) -> Iterator[Silent]:
    """A bar on the standard error that shows the examples done and the score so far, and is gone at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class What(ProgressColumn):
        def render(self, task: Task) -> Text:
            if task.total is None:  # nothing done yet
                slow = (task.elapsed or 0.0) > _PATIENCE
                return Text("compiling (first time only)" if slow else "starting")
            return Text(f"epoch {task.fields['epoch']}/{epochs}")

    class Score(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(task.fields["score"])

    columns = (What(), BarColumn(), Score(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, epoch=1, score="")

        class Bar(Silent):
            def examples_done(self, count: int) -> None:
                progress.update(task, total=epochs * n, completed=count)

            def epoch_done(self, record: dict[str, Any]) -> None:
                score = show_score(record["validation_score"], by_label) if "validation_score" in record else ""
                progress.update(task, epoch=min(record["epoch"] + 2, epochs), score=score)

        yield Bar()
