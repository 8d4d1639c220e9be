"""What the commands say to people: plain lines into a file or a pipe, a little more on a terminal."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastbp.judging import Judge
from fastbp.network import Network
from fastbp.progress import show_score

_BAR = 24  # characters of a full bar
_MOST_CLASSES = 30  # rows of the table of an evaluation


def is_terminal(stream: Any) -> bool:
    """Python has None for a stream that its caller has closed."""
    return stream is not None and stream.isatty()


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


@contextlib.contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """A line on the standard error that says what is being done, on a terminal only, and is gone at the end."""
    if not is_terminal(sys.stderr):
        yield lambda what: None
        return
    with Console(stderr=True).status("") as line:
        yield line.update


# --- train


def data_line(facts: dict[str, Any]) -> None:
    """What is learned, and from how many rows."""
    labels = facts["task"] == "classify"
    n_out = facts["sizes"][-1]
    goal = f"{len(facts['classes'])} labels" if labels else "one number" if n_out == 1 else f"{n_out} numbers"
    print(
        f"{facts['data']}: {_counted(facts['training_examples'], 'row')} to train on, "
        f"{facts['validation_examples']:,} held out; {_counted(facts['sizes'][0], 'feature')}, {goal}"
    )
    if facts["task_is_a_guess"]:
        taken, other = ("labels", "regress for quantities") if labels else ("quantities", "classify for labels")
        print(f"{facts['target']!r} holds whole numbers, taken for {taken} (--task {other})")


def opening(facts: dict[str, Any]) -> None:
    """Before training: the data and the network."""
    data_line(facts)
    hidden = ", ".join(dict.fromkeys(facts["hidden"]))
    print(
        f"network {'-'.join(map(str, facts['sizes']))}: {hidden + ', ' if hidden else ''}{facts['output']}, "
        f"{facts['cost'].replace('_', ' ')} cost; eta {facts['eta']:g}, batches of {facts['batch_size']}",
        flush=True,
    )


class Teller:
    """A callback of `fit`: keeps a record of each epoch, counted from 1, and tells people.

    On a terminal a line for the epochs 1, 2, 3, 5, 10, 20, 30, 50, … and the last one, with a bar of the score where
    there is room, above the progress bar; else a line an epoch. `judge` judges training data too, where the records
    shall have them.
    """

    def __init__(self, epochs: int, by_label: bool, judge: Judge | None, silent: bool) -> None:
        self.epochs, self.by_label, self.judge, self.silent = epochs, by_label, judge, silent
        self.records: list[dict[str, Any]] = []
        self.on_terminal = is_terminal(sys.stdout)
        # no bar beside lines that go elsewhere: `fastbp train | tee log` shows the lines
        self.with_bar = is_terminal(sys.stderr) and (self.on_terminal or silent)

    def on_epoch_end(self, network: Network, record: dict[str, Any]) -> None:
        record = record | {"epoch": record["epoch"] + 1}
        if self.judge is not None:
            record["training_cost"], record["training_score"] = self.judge.judge_network(network)
        self.records.append(record)
        if not self.silent and (not self.on_terminal or self._is_milestone(record["epoch"])):
            print(self._line(record), flush=True)

    def state(self) -> dict[str, Any]:
        """The records so far, for a checkpoint."""
        return {"records": [dict(record) for record in self.records]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on after the records of a `state`."""
        self.records = [dict(record) for record in state["records"]]

    def _is_milestone(self, epoch: int) -> bool:
        return epoch == self.epochs or str(epoch).rstrip("0") in ("1", "2", "3", "5")

    def _line(self, record: dict[str, Any]) -> str:
        part = "validation" if "validation_score" in record else "training"
        cost, score = record[f"{part}_cost"], record[f"{part}_score"]
        name = "accuracy " if self.by_label else ""
        on = "" if part == "validation" else " on the training data"
        epoch = f"epoch {record['epoch']:>{len(str(self.epochs))}}/{self.epochs}"
        line = f"{epoch}  cost {_number(cost):>8}  {name}{show_score(score, self.by_label):>8}{on}"
        fits = self.on_terminal and len(line) + 2 + _BAR <= shutil.get_terminal_size().columns
        return f"{line}  {_bar(score)}" if fits else line


def _bar(share: float) -> str:
    """A bar of blocks, an eighth of a character fine."""
    eighths = round(8 * _BAR * min(max(share, 0.0), 1.0)) if np.isfinite(share) else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def closing(facts: dict[str, Any]) -> None:
    """What came of the training, and where it is."""
    seconds = sum(record["seconds"] for record in facts["history"])
    first, last = facts["history"][0]["seconds"], facts["history"][-1]["seconds"]
    compiling = first > max(1.0, 3 * last)
    print(_verdict(facts["result"]))
    print(
        f"{_counted(len(facts['history']), 'epoch')} in {_duration(seconds)} in the {facts['engine']} engine"
        f"{' (compiled for the first time)' if compiling else ''}; "
        f"{_duration(facts['seconds'])} in all"
    )
    if facts["ended"] is not None:
        kept = "" if facts["best_epoch"] is None else f"; the network is that of epoch {facts['best_epoch']}"
        print(f"ended by {facts['ended']}{kept}")
    if facts["saved"] is not None:
        print(f"saved in {facts['saved']}")
    if facts["plot"] is not None:
        print(f"plot in {facts['plot']}")


def _number(value: float) -> str:
    """A number as people read it, at most nine characters wide unless it is huge."""
    if 1e3 <= value < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 1e-2 <= value < 1e3 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.0f} s"


def _verdict(result: dict[str, Any]) -> str:
    rows = f"the {result['examples']:,} {result.get('on', '')} rows".replace("  ", " ")
    if "correct" in result:
        return f"{show_score(result['score'], True)} of {rows} right ({result['correct']:,})"
    error = ", ".join(map(_number, np.atleast_1d(result["rms_error"])))
    return f"{show_score(result['score'], False)} on {rows}; typical error (root mean square) {error}"


def mistakes(images: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> None:
    """On a terminal, pictures of the first few digits, (n, 64) of 0 … 16, that the network reads wrongly."""
    wrong = np.flatnonzero(labels != predictions)[:4]
    if not is_terminal(sys.stdout) or not len(wrong):
        return
    print()
    shades = " ░▒▓█"
    for line in range(8):
        pixels = images[wrong, 8 * line : 8 * line + 8]
        print("   ".join("".join(2 * shades[int(p) // 4] for p in row) for row in pixels))
    print("   ".join(f"{f'a {labels[i]}, read as {predictions[i]}':<16}" for i in wrong))


# --- evaluate


def evaluation(facts: dict[str, Any]) -> None:
    """The score, and for labels how well each is told."""
    print(f"{facts['model']} on {facts['data']}: {_verdict(facts)}")
    if "confusion" not in facts:
        return
    print(f"cost {_number(facts['cost'])}")
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    table.add_column("label")
    for name in ("rows", "right", "accuracy"):
        table.add_column(name, justify="right")
    table.add_column("most often taken for")
    for line in _label_lines(facts["classes"], facts["confusion"])[:_MOST_CLASSES]:
        table.add_row(*map(Text, line))
    print()
    # wide where nobody looks at it, so that no line is broken for a width that does not exist
    console = Console(highlight=False, width=None if is_terminal(sys.stdout) else 200)
    with console.capture() as drawn:  # rich's own output would end the program itself when a pipe is closed
        console.print(table)
    print(drawn.get(), end="")
    left = len(facts["classes"]) - _MOST_CLASSES
    if left > 0:
        print(f"and {left} more; --json has all")


def _label_lines(classes: np.ndarray, confusion: np.ndarray) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for i, (label, row) in enumerate(zip(classes, confusion, strict=True)):
        n, right = int(row.sum()), int(row[i])
        others = row.copy()
        others[i] = 0
        worst = int(np.argmax(others))
        taken = f"{classes[worst]} ({others[worst]})" if others[worst] else ""
        lines.append((str(label), f"{n:,}", f"{right:,}", f"{100 * right / n:.2f} %" if n else "", taken))
    return lines


# --- info


def facts(found: dict[str, Any]) -> None:
    """A line a fact, aligned; what has parts, a line each."""
    for name, value in _flat(found):
        print(f"{name:<22}{value}")


def _flat(found: dict[str, Any]) -> Sequence[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in found.items():
        shown = name.replace("_", " ")
        if isinstance(value, dict):
            lines += [(key, "not set" if part is None else part) for key, part in value.items()]
        elif isinstance(value, list):
            lines += [(shown, ", ".join(f"{key} {part}" for key, part in entry.items())) for entry in value]
        else:
            lines.append((shown, value))
    return lines
