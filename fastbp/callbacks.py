"""What a training run calls along the way: your own code, logs, saved models.

A callback is any object with a method `on_epoch_end(network, record)`; `Callback` names the other moments. A log or a
saved model is whole at every moment: a line is written at once, a model replaces the old file only when it is complete.
"""

import csv
import io
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastbp.improvement import Best
from fastbp.plainjson import plain

if TYPE_CHECKING:
    from fastbp.history import History
    from fastbp.network import Network


class Callback:
    """The moments of a run; override those you want. What a method changes in the network is trained on.

    A callback that remembers something can have `state()`, which returns it as JSON-able values and NumPy arrays, and
    `restore(state)`; a run that is resumed from a checkpoint then finds it as it was.
    """

    def on_train_begin(self, network: "Network") -> None:
        """Before the first epoch (once more in a process that resumes, after `restore`)."""

    def on_epoch_begin(self, network: "Network", epoch: int) -> None:
        """Before each epoch; epochs count from 0."""

    def on_epoch_end(self, network: "Network", record: dict[str, Any]) -> None:
        """After each epoch. `record` is its entry in the History; what is added to it stays there."""

    def on_train_end(self, network: "Network", history: "History") -> None:
        """After the last epoch, with early stopping's best parameters in place; not after an error or Ctrl-C."""


class _Log(Callback, ABC):
    """A file with a line an epoch. Each line is opened, written and closed, so that it is there whatever comes next."""

    def __init__(self, path: str | Path, append: bool = False) -> None:
        self.path, self.append = Path(path), append
        self._written: int | None = None  # bytes that a run resumed from a checkpoint had written

    def on_train_begin(self, network: "Network") -> None:
        with open(self.path, "ab") as file:
            if self._written is not None:
                file.truncate(min(self._written, file.tell()))  # what came after the checkpoint comes again
            elif not self.append:
                file.truncate(0)
        self._written = None

    def on_epoch_end(self, network: "Network", record: dict[str, Any]) -> None:
        with open(self.path, "ab") as file:
            file.write(self._lines(record, is_empty=file.tell() == 0).encode())

    @abstractmethod
    def _lines(self, record: dict[str, Any], is_empty: bool) -> str:
        """What the file gets for an epoch's record."""

    def state(self) -> dict[str, Any]:
        return {"bytes": self.path.stat().st_size if self.path.exists() else 0}

    def restore(self, state: dict[str, Any]) -> None:
        self._written = state["bytes"]


class JSONLog(_Log):
    """Writes each epoch's record as one line of JSON (https://jsonlines.org).

    append=False begins with an empty file. Numbers that JSON does not have (NaN, infinity) become null. Raises OSError
    before any training if the file cannot be written.
    """

    def _lines(self, record: dict[str, Any], is_empty: bool) -> str:
        return json.dumps(plain(record), allow_nan=False) + "\n"


class CSVLog(_Log):
    """Writes each epoch's record as one line of CSV below a line with the names of the columns, those of the first.

    A record without one of them leaves its place empty. append=False begins with an empty file; append=True goes on
    below what is there. Raises OSError before any training if the file cannot be written, ValueError for a record with
    a column that the file does not have.
    """

    def _lines(self, record: dict[str, Any], is_empty: bool) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = list(record)
        if is_empty:
            writer.writerow(columns)
        else:
            with open(self.path, encoding="utf-8", newline="") as file:
                columns = next(csv.reader(file), [])
            if not set(record) <= set(columns):
                raise ValueError(
                    f"{self.path} has the columns {', '.join(columns)}, but this epoch's record has "
                    f"{', '.join(record)}; log to another file, or add to each record from the first epoch on"
                )
        writer.writerow([record.get(name, "") for name in columns])
        return text.getvalue()


class ModelCheckpoint(Callback):
    """Saves the network after each epoch, or (save_best_only) after each that was the best so far, with `net.save`.

    path may hold columns of the record: "epoch-{epoch:03d}.safetensors" keeps a file each, a plain name the newest.
    monitor and mode are as in `EarlyStopping`. A saved model is what `fastbp.load` reads; it predicts and can be
    trained further, but it does not resume a run in the middle.

    Raises ValueError for a column that is not recorded, or a network that cannot be saved; OSError if writing fails.
    """

    def __init__(
        self,
        path: str | Path,
        monitor: str = "validation_score",
        save_best_only: bool = False,
        mode: str | None = None,
        minimum_delta: float = 0.0,
    ) -> None:
        self.path, self.save_best_only = str(path), save_best_only
        self.best = Best(monitor, minimum_delta=minimum_delta, mode=mode)

    @property
    def monitor(self) -> str | None:
        """The column this looks at."""
        return self.best.monitor if self.save_best_only else None

    def on_train_begin(self, network: "Network") -> None:
        from fastbp import models

        models.check_savable(network)

    def on_epoch_end(self, network: "Network", record: dict[str, Any]) -> None:
        if self.save_best_only and not self.best.note(record):
            return
        try:
            path = self.path.format(**record)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"path={self.path!r}: {error} is no column of {', '.join(record)}") from None
        network.save(path)

    def state(self) -> dict[str, Any]:
        return {"best": self.best.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.best.restore(state["best"])
