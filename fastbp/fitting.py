"""What `fit` and `score` do around the training loop: targets, validation, progress, records."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import data
from fastbp.architecture import Architecture
from fastbp.history import History
from fastbp.optimizers import SGD
from fastbp.training import Trainer

if TYPE_CHECKING:
    from fastbp.network import Network


def one_optimizer(eta: float | None, optimizer: SGD | None) -> SGD:
    """The optimizer that `eta=` or `optimizer=` asks for; exactly one of the two must be given."""
    if (eta is None) == (optimizer is None):
        raise ValueError("give either eta= (the step size) or optimizer=, for example fastbp.SGD(0.1)")
    if optimizer is None:
        return SGD(float(eta))  # type: ignore[arg-type]
    if not isinstance(optimizer, SGD):
        raise TypeError(f"optimizer must be an optimizer such as fastbp.SGD(0.1), got {optimizer!r}")
    return optimizer


def fit(
    network: "Network",
    X: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int,
    optimizer: SGD,
    lmbda: float,
    validation_data: tuple[Any, Any] | None,
    shuffle: bool,
    callbacks: Sequence[Any],
    verbose: bool | None,
) -> History:
    """See `Network.fit`."""
    if not np.isfinite(lmbda) or lmbda < 0:
        raise ValueError(f"lmbda must be a finite number ≥ 0, got {lmbda}")
    for callback in callbacks:
        if not callable(getattr(callback, "on_epoch_end", None)):
            raise TypeError(f"callbacks need a method on_epoch_end(network, record); {callback!r} has none")
    examples, classes = read_examples(network.architecture, X, y)
    judge = None
    if validation_data is not None:
        judge = Judge(network.architecture, *validation_data, name="validation_data", classes=classes)
    n = len(examples)
    engine = network._start_engine(examples, batch_size)
    trainer = Trainer(engine, min(batch_size, n), decay=lmbda / n)
    history, order = History(engine=engine.name), np.arange(n)
    draw = np.random.shuffle if network._rng is None else network._rng.shuffle
    prepared = None if judge is None else engine.prepare(judge.examples)
    network.classes_ = classes
    try:
        with _progress(epochs, n, verbose) as report:
            for epoch in range(epochs):
                if shuffle:
                    draw(order)
                began = time.perf_counter()
                trainer.run_epoch(epoch, order, optimizer.eta, report.examples_done)
                seconds = time.perf_counter() - began
                record = {
                    "epoch": epoch,
                    "eta": optimizer.eta,
                    "seconds": seconds,
                    "examples_per_second": n / seconds,
                }
                if judge is not None:
                    record |= judge.judge(engine.outputs(prepared))
                history.epochs.append(record)
                report.epoch_done(record)
                if callbacks:
                    network._publish(engine)
                    for callback in callbacks:
                        callback.on_epoch_end(network, record)
    finally:  # after an interrupt or a divergence too: the last finite parameters
        network._publish(engine)
    return history


def read_examples(
    architecture: Architecture, X: Any, y: Any, prefix: str = "", classes: Any = None
) -> tuple[data.Examples, Any]:
    """Checked examples, and the classes their labels stand for (None for real targets)."""
    X = data.as_inputs(X, architecture.sizes[0], architecture.dtype, f"{prefix}X")
    targets = data.as_targets(y, X.shape[0], architecture, f"{prefix}y", classes)
    return data.Examples(X, targets.Y, targets.labels), targets.classes


def score(network: "Network", X: Any, y: Any) -> float:
    """See `Network.score`."""
    judge = Judge(network.architecture, X, y, name="score's data", classes=network.classes_)
    return float(judge.score(network.outputs(judge.examples.X)))


class Judge:
    """Held-out examples and how well outputs for them do: accuracy for labels, R² for real targets."""

    def __init__(self, architecture: Architecture, X: Any, y: Any, name: str, classes: Any) -> None:
        self.architecture = architecture
        self.examples, found = read_examples(architecture, X, y, f"{name}: ", classes)
        self.by_label = classes is not None and found is not None
        self.Y = self.examples.one_hot(architecture.sizes[-1], architecture.dtype)

    def score(self, outputs: np.ndarray) -> float:
        """Accuracy in 0 … 1 if the targets are labels, else R² = 1 - Σ (y - a)²/Σ (y - mean y)², over all outputs."""
        if self.by_label and outputs.shape[1] == 1:
            return float(np.mean((outputs > 0.5) == (self.Y > 0.5)))
        if self.by_label:
            return float(np.mean(np.argmax(outputs, axis=1) == self.examples.labels))
        Y = self.Y.astype(np.float64)
        residual, total = np.sum(np.square(Y - outputs)), np.sum(np.square(Y - Y.mean(axis=0)))
        if total == 0:
            return 1.0 if residual == 0 else -np.inf
        return float(1 - residual / total)

    def judge(self, outputs: np.ndarray) -> dict[str, float]:
        return {"validation_score": self.score(outputs)}


class _Silent:
    """Reports nothing."""

    def examples_done(self, count: int) -> None: ...

    def epoch_done(self, record: dict[str, Any]) -> None: ...


class _Lines(_Silent):
    """A plain line an epoch."""

    def epoch_done(self, record: dict[str, Any]) -> None:
        score = f", validation score {record['validation_score']:.4f}" if "validation_score" in record else ""
        print(f"Epoch {record['epoch']}: {record['seconds']:.2f} s{score}", flush=True)


@contextlib.contextmanager
def _progress(epochs: int, n: int, verbose: bool | None) -> Iterator[_Silent]:
    if verbose:
        yield _Lines()
    elif verbose is None and epochs and sys.stderr is not None and sys.stderr.isatty():
        with progress_bar(epochs, n) as bar:
            yield bar
    else:
        yield _Silent()


@contextlib.contextmanager
def progress_bar(epochs: int, n: int) -> Iterator[_Silent]:
    """A bar on the standard error that shows the examples done and the score so far."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[score]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"epoch 1/{epochs}", total=epochs * n, score="")

        class Bar(_Silent):
            def __init__(self) -> None:
                self.before = 0

            def examples_done(self, count: int) -> None:
                progress.update(task, completed=self.before + count)

            def epoch_done(self, record: dict[str, Any]) -> None:
                self.before += n
                done = record["epoch"] + 1
                score = f"{record['validation_score']:.2%}" if "validation_score" in record else ""
                progress.update(task, description=f"epoch {min(done + 1, epochs)}/{epochs}", score=score)

        yield Bar()
