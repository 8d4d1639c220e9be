"""What `fit` and `score` do around the training loop: targets, validation, progress, records."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import data, engines
from fastbp.activations import ACTIVATIONS
from fastbp.architecture import Architecture
from fastbp.engines import matrix
from fastbp.history import History
from fastbp.optimizers import SGD, Optimizer
from fastbp.order import Order
from fastbp.training import Trainer

if TYPE_CHECKING:
    from fastbp.network import Network


def one_optimizer(eta: float | None, optimizer: Optimizer | None) -> Optimizer:
    """The optimizer that `eta=` or `optimizer=` asks for; exactly one of the two must be given."""
    if (eta is None) == (optimizer is None):
        raise ValueError("give either eta= (the step size) or optimizer=, for example fastbp.Adam(1e-3)")
    if optimizer is None:
        return SGD(float(eta))  # type: ignore[arg-type]
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be an optimizer such as fastbp.Adam(1e-3), got {optimizer!r}")
    return optimizer


def fit(
    network: "Network",
    X: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer,
    lmbda: float,
    validation_data: tuple[Any, Any] | None,
    shuffle: bool,
    callbacks: Sequence[Any],
    verbose: Any,
) -> History:
    """See `Network.fit`."""
    if not np.isfinite(lmbda) or lmbda < 0:
        raise ValueError(f"lmbda must be a finite number ≥ 0, got {lmbda}")
    if not isinstance(shuffle, bool | np.bool_):
        raise TypeError(f"shuffle must be True or False, got {shuffle!r}; Network(…, shuffle=f) takes a function")
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"callbacks must be a list of objects with a method on_epoch_end, got {callbacks!r}")
    for callback in callbacks:
        if not callable(getattr(callback, "on_epoch_end", None)):
            raise TypeError(f"callbacks need a method on_epoch_end(network, record); {callback!r} has none")
    examples, classes = read_examples(network.architecture, X, y)
    judge = None
    if validation_data is not None:
        X_held_out, y_held_out = _pair(validation_data)
        judge = Judge(
            network._effective_architecture(), X_held_out, y_held_out, name="validation_data", classes=classes
        )
    n = len(examples)
    with _progress(epochs, n, verbose, classes is not None) as report:
        engine = network._start_engine(examples, batch_size, optimizer=optimizer)
        trainer = Trainer(engine, min(batch_size, n), decay=lmbda / n)
        history, rows = History(engine=engine.name), np.arange(n)
        positions = list(range(n))  # for a shuffle of the user's own, which may want a list
        order = Order(network._shuffle, positions, list(positions), rows.copy(), compiled=engine.name == "fused")
        watch = None if judge is None else _Watch(judge, engine)
        network.classes_ = classes
        published = False
        try:
            for epoch in range(epochs):
                rows = order.next() if shuffle else rows
                published = False
                began = time.perf_counter()
                trainer.run_epoch(epoch, rows, optimizer.eta, report.examples_done)
                seconds = max(time.perf_counter() - began, 1e-9)
                record = {
                    "epoch": epoch,
                    "eta": optimizer.eta,
                    "seconds": seconds,
                    "examples_per_second": n / seconds,
                }
                if watch is not None:
                    record["validation_cost"], record["validation_score"] = watch.judge(trainer.engine)
                    if network._overrides("feedforward"):
                        network._publish(trainer.engine)
                        record["validation_score"] = watch.of.score(network.outputs(watch.of.examples.X))
                history.epochs.append(record)
                report.epoch_done(record)
                if callbacks:
                    published = True
                    network._publish(trainer.engine)
                    for callback in callbacks:
                        callback.on_epoch_end(network, record)
                    network._take_up(trainer.engine)
        finally:  # after an interrupt or a divergence too: the last finite parameters
            if not published:
                network._publish(trainer.engine)
    return history


def _pair(validation_data: Any) -> tuple[Any, Any]:
    if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
        raise TypeError(f"validation_data must be a pair (X, y), got {type(validation_data).__name__}")
    return validation_data[0], validation_data[1]


def read_examples(
    architecture: Architecture, X: Any, y: Any, prefix: str = "", classes: Any = None
) -> tuple[data.Examples, Any]:
    """Checked examples, and the classes their labels stand for (None for real targets)."""
    shared = X if isinstance(X, data.Shared) else None
    X = data.as_inputs(X, architecture.sizes[0], architecture.dtype, f"{prefix}X")
    targets = data.as_targets(y, X.shape[0], architecture, f"{prefix}y", classes)
    return data.Examples(X, targets.Y, targets.labels, shared), targets.classes


def score(network: "Network", X: Any, y: Any) -> float:
    """See `Network.score`."""
    judge = Judge(network.architecture, X, y, name="score's data", classes=network.classes_)
    return judge.score(network.outputs(judge.examples.X))


class Judge:
    """Examples, and how well a network does on them: its cost, and accuracy for labels or R² for real targets."""

    def __init__(self, architecture: Architecture, X: Any, y: Any, name: str, classes: Any) -> None:
        self.architecture = architecture
        y = _places(y, classes, f"{name}: y")
        self.examples, found = read_examples(architecture, X, y, f"{name}: ", classes)
        self.by_label = classes is not None and found is not None
        self.Y = self.examples.one_hot(architecture.sizes[-1], architecture.dtype)

    def judge_network(self, network: "Network") -> tuple[float, float]:
        """(cost, score) of a network of this architecture with its present parameters."""
        linear = linear_output(self.architecture)
        return self.judge(matrix.outputs(linear, *network._parameters(), self.examples.X))

    def judge(self, Z: np.ndarray) -> tuple[float, float]:
        """(cost, score) from the weighted inputs Z^L, (n, n_L): of a saturated output only z still tells the cost.

        The cost is the mean over the examples, without the term of the L2 regularisation. It is infinite where the
        numbers are too large for the dtype.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            A = self.architecture.f(len(self.architecture.sizes), Z)
            cost = float(np.mean(self.architecture.cost.value(Z, A, self.Y), dtype=np.float64))
            return cost, self.score(A)

    def score(self, A: np.ndarray) -> float:
        """Accuracy in 0 … 1 if the targets are labels, else R² = 1 - Σ (y - a)²/Σ (y - mean y)², over all outputs."""
        if self.by_label and A.shape[1] == 1:
            return float(np.mean((A > 0.5) == (self.Y > 0.5)))
        if self.by_label:
            return float(np.mean(np.argmax(A, axis=1) == self.examples.labels))
        Y = self.Y.astype(np.float64)
        residual, total = np.sum(np.square(Y - A)), np.sum(np.square(Y - Y.mean(axis=0)))
        if total == 0:
            return 1.0 if residual == 0 else -np.inf
        return float(1 - residual / total)


def _places(y: Any, classes: Any, name: str) -> Any:
    """Labels as their places among classes that are whole numbers other than 0, 1, 2 …; any other y as it is."""
    if classes is None or classes.dtype.kind not in "iu" or (classes == np.arange(len(classes))).all():
        return y
    labels = np.asarray(y)
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        return y
    places = np.clip(np.searchsorted(classes, labels), 0, len(classes) - 1)
    unknown = classes[places] != labels
    if unknown.any():
        row = int(np.argmax(unknown))
        raise ValueError(f"{name}[{row}] is {labels[row]}, which is none of the classes {classes.tolist()}")
    return places


def linear_output(architecture: Architecture) -> Architecture:
    """The same network with identity neurons in the output layer: its outputs A^L are the other's Z^L."""
    L = len(architecture.sizes)
    return replace(
        architecture,
        activations=(*architecture.activations[:-1], ACTIVATIONS["identity"]),
        neurons={(l, j): neuron for (l, j), neuron in architecture.neurons.items() if l != L},
    )


class _Watch:
    """A judge beside a running engine: a second engine of its kind, which gives Z^L, takes over the parameters."""

    def __init__(self, judge: Judge, running: engines.Engine) -> None:
        self.of = judge
        linear = linear_output(judge.architecture)
        self.engine = engines.create(running.name, linear, running.theta(), judge.examples.rows(0, 1), 1)
        self.prepared = self.engine.prepare(judge.examples)

    def judge(self, running: engines.Engine) -> tuple[float, float]:
        self.engine.load(running.theta())
        return self.of.judge(self.engine.outputs(self.prepared))


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
def _progress(epochs: int, n: int, verbose: Any, by_label: bool) -> Iterator[_Silent]:
    if isinstance(verbose, _Silent):
        yield verbose
    elif verbose:
        yield _Lines()
    elif verbose is None and epochs and sys.stderr is not None and sys.stderr.isatty():
        with progress_bar(epochs, n, by_label) as bar:
            yield bar
    else:
        yield _Silent()


def show_score(score: float, by_label: bool) -> str:
    """A score as people read it: 97.18 %, or R² 0.9312."""
    return f"{100 * score:.2f} %" if by_label else f"R² {score:.4f}"


# Seconds without a first mini-batch after which the bar says why: nothing but the compiler takes so long.
_PATIENCE = 1.5


@contextlib.contextmanager
def progress_bar(epochs: int, n: int, by_label: bool = True) -> Iterator[_Silent]:
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

        class Bar(_Silent):
            def __init__(self) -> None:
                self.before = 0

            def examples_done(self, count: int) -> None:
                progress.update(task, total=epochs * n, completed=self.before + count)

            def epoch_done(self, record: dict[str, Any]) -> None:
                self.before += n
                score = show_score(record["validation_score"], by_label) if "validation_score" in record else ""
                progress.update(task, epoch=min(record["epoch"] + 2, epochs), score=score)

        yield Bar()
