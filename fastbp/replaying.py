"""Look again at one mini-batch of a run, from its checkpoint: its examples, its cost, the gradient of each layer.

The mini-batches before it are run again, from the state that the checkpoint kept of the beginning of the epoch (or from
the checkpoint's own, where that is nearer). So the parameters are those the run had before this step, to the last bit.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastbp import checks, data, dropout, engines, identity, models, parameters, resuming, streams, targets
from fastbp.architecture import Architecture
from fastbp.engines import matrix, reference
from fastbp.errors import CheckpointError
from fastbp.optimizers import BY_NAME
from fastbp.order import Order
from fastbp.regularization import Regularization
from fastbp.training import Trainer

_SHOWN = 20  # examples that a printed mini-batch shows


@dataclass(frozen=True)
class MiniBatch:
    """A mini-batch of m examples, with the parameters as they were before its step; printed, a page.

    epoch and batch count from 0. rows: the examples, as rows of the X that `fit` was given. costs: that of each
    example, without dropout and label smoothing, as in the History; cost: their mean, each counted as many times as its
    weight says. nabla_b, nabla_w: the gradient of each layer 2 … L, shaped like the network's biases and weights: what
    the step was taken along (dropout's masks, weights and smoothing are in it, the terms of L1 and L2 are not).
    gradient_norms: (|∂C/∂W|, |∂C/∂b|) of each layer. biases, weights: the parameters.
    """

    epoch: int
    batch: int
    n_batches: int
    rows: np.ndarray
    eta: float
    cost: float
    costs: np.ndarray
    nabla_b: list[np.ndarray]
    nabla_w: list[np.ndarray]
    biases: list[np.ndarray]
    weights: list[np.ndarray]

    @property
    def gradient_norms(self) -> list[tuple[float, float]]:
        pairs = zip(self.nabla_w, self.nabla_b, strict=True)
        return [(float(np.linalg.norm(w)), float(np.linalg.norm(b))) for w, b in pairs]

    def facts(self, first: int = 0) -> dict[str, Any]:
        """Plain values for JSON, epochs and mini-batches counted from `first`."""
        layers = enumerate(self.gradient_norms, start=2)
        return {
            "epoch": self.epoch + first,
            "batch": self.batch + first,
            "batches": self.n_batches,
            "rows": self.rows.tolist(),
            "costs": self.costs.tolist(),
            "cost": self.cost,
            "eta": self.eta,
            "layers": [{"layer": l, "gradient_norm_w": w, "gradient_norm_b": b} for l, (w, b) in layers],
        }

    def __str__(self) -> str:
        return self.page()

    def page(self, first: int = 0) -> str:
        """All of it for people, epochs and mini-batches counted from `first`."""
        lines = [
            f"epoch {self.epoch + first}, mini-batch {self.batch + first}, {self.n_batches} in an epoch (from {first})",
            f"eta {self.eta:g}, cost {self.cost:.6g}, {len(self.rows)} examples, the costliest first",
            "",
            f"{'row':>10}  {'cost':>12}",
        ]
        costliest = np.argsort(-self.costs, kind="stable")[:_SHOWN]
        lines += [f"{self.rows[i]:>10}  {self.costs[i]:>12.6g}" for i in costliest]
        if len(self.rows) > _SHOWN:
            lines.append(f"… and {len(self.rows) - _SHOWN} examples that cost less")
        lines += ["", f"{'layer':>10}  {'|∂C/∂W|':>12}  {'|∂C/∂b|':>12}"]
        lines += [f"{l:>10}  {w:>12.6g}  {b:>12.6g}" for l, (w, b) in enumerate(self.gradient_norms, start=2)]
        return "\n".join(lines)


def replay(path: str | os.PathLike[str], X: Any, y: Any, *, batch: int) -> MiniBatch:
    """Mini-batch number `batch` (from 0) of the epoch that the run was in when the checkpoint `path` was written.

    X, y: what `fit` was given. A checkpoint from the end of an epoch shows the next one. No random stream and no file
    is changed.

    Raises CheckpointError for other data, a mini-batch that the epoch does not have, and for what no file can hold (a
    run with functions or an optimizer of the user's own); ModelFileError for a damaged file; DivergenceError if the
    mini-batches before it diverge.
    """
    return open_epoch(path, X, y).show(batch)


def open_epoch(path: str | os.PathLike[str], X: Any, y: Any) -> "Epoch":
    """The epoch that a checkpoint is in; see `replay`."""
    saved = resuming.load(path)
    with resuming.as_file_error(saved.path):
        built = _architecture(saved)
    examples, classes = data.read_examples(built, X, y)
    _check_data(saved, examples, classes)
    with resuming.as_file_error(saved.path):
        weights = saved.state["rule"]["weights"]
        if weights is not None:
            examples = replace(examples, weights=data.as_weights(weights, len(examples), "weights"))
        return Epoch(saved, built, examples, classes)


def architecture_in(path: str | os.PathLike[str]) -> Architecture:
    """The make of the network whose run a checkpoint holds. Raises as `replay` does."""
    saved = resuming.load(path)
    with resuming.as_file_error(saved.path):
        return _architecture(saved)


def _architecture(saved: resuming.Saved) -> Architecture:
    if saved.state["rule"]["by_name"] is not True:
        raise CheckpointError(
            f"{saved.path} is of a network with functions of your own, which no file can hold; it can be resumed, by "
            f"the program that has them, but not be replayed"
        )
    return models.architecture_of(saved.settings)


def _check_data(saved: resuming.Saved, examples: data.Examples, classes: np.ndarray | None) -> None:
    for name, value in identity.of_data(examples, classes).items():
        if saved.settings.get(name) != value:
            raise CheckpointError(f"{saved.path} is of a run on other data: {name} differs; give those of the run")


class Epoch:
    """The epoch that a checkpoint is in, in an engine of its own that stands at the checkpoint or at the beginning."""

    def __init__(self, saved: resuming.Saved, built: Architecture, examples: data.Examples, classes: Any) -> None:
        run, rule = saved.state["run"], saved.state["rule"]
        self.path = saved.path
        self.architecture, self.examples, self.opening = built, examples, saved.state["opening"]
        self.number, self.reached = run["epoch"], run["batch"]
        self.batch_size, self.decay = rule["batch_size"], rule["decay"]
        self.rows = _rows(saved, len(examples))
        if type(self.batch_size) is not int or not 1 <= self.batch_size <= len(self.rows):
            raise ValueError(f"its batch_size is {self.batch_size!r}")
        self.n_batches = -(-len(self.rows) // self.batch_size)
        self.etas = rule["etas"]
        resuming.check_like(self.etas, np.zeros(self.n_batches), "etas")
        resuming.check_like(self.decay, 0.0, "decay")
        for name, value in (("epoch", self.number), ("step", run["step"])):
            resuming.check_like(value, 0, name)
        self.step = run["step"] - run["batch"]
        if type(self.reached) is not int or not 0 <= self.reached <= self.n_batches:
            raise ValueError(f"its batch is {self.reached!r}")
        optimizer = BY_NAME.get(rule["optimizer"])
        if optimizer is None:
            raise CheckpointError(
                f"{saved.path} is of a run with an optimizer that fastbp does not know, {rule['optimizer']!r}; it "
                f"cannot be replayed"
            )
        name = saved.settings["engine"]
        if name not in engines.NAMES:
            raise ValueError(f"there is no engine {name!r}")
        theta, smoothing = np.zeros(parameters.count(built.sizes), built.dtype), rule["label_smoothing"]
        resuming.check_like(smoothing, 0.0, "label_smoothing")
        self.smoothed = targets.smoothed(examples, classes, built, smoothing)
        self.engine = engines.create(
            name, built, theta, self.smoothed, self.batch_size, optimizer(1.0, **rule["rates"]),
            _regularization(rule["regularization"]),
        )  # fmt: skip
        for state in (run["engine"], self.opening):
            if state is not None:
                resuming.check_like(state, self.engine.save_state(), "engine")
        if self.reached and self.opening is None:
            raise ValueError("it does not hold the beginning of its epoch")
        self.engine.restore_state(run["engine"])

    def show(self, batch: int) -> MiniBatch:
        """Mini-batch number `batch`, from 0; this can be asked once, for the engine moves on."""
        batch = checks.whole(batch, "batch")
        if not 0 <= batch < self.n_batches:
            raise CheckpointError(
                f"{self.path} is in epoch {self.number}, which has the mini-batches 0 to {self.n_batches - 1}; "
                f"batch={batch} is none of them"
            )
        first = self.reached
        if batch < first:
            first = 0
            self.engine.restore_state(self.opening)
        m = self.batch_size
        trainer = Trainer(self.engine, m, self.decay)
        trainer.run_epoch(self.number, self.rows[: batch * m], self.etas[:batch], first=first, step=self.step)
        rows, sizes = self.rows[batch * m : (batch + 1) * m], self.architecture.sizes
        biases, weights = parameters.views(sizes, self.engine.theta())
        chosen = self.examples.take(rows)
        counts = np.ones(len(rows)) if chosen.weights is None else chosen.weights
        X = data.dense(chosen.X)
        X = X.astype(self.architecture.dtype, copy=False)
        Y = chosen.one_hot(sizes[-1], self.architecture.dtype)
        Z, A = matrix.feedforward(self.architecture, biases, weights, X)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            costs = np.asarray(self.architecture.cost.value(Z[-1], A[-1], Y), np.float64)
        nabla_b, nabla_w = self._gradient(biases, weights, X, rows, counts, self.step + batch)
        return MiniBatch(
            self.number, batch, self.n_batches, rows, float(self.etas[batch]), float(np.mean(counts * costs)), costs,
            nabla_b, nabla_w, biases, weights,
        )  # fmt: skip

    def _gradient(
        self, biases: list, weights: list, X: np.ndarray, rows: np.ndarray, counts: np.ndarray, step: int
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(nabla_b, nabla_w), the mean over the mini-batch, with dropout's masks: an example at a time."""
        built, m = self.architecture, len(rows)
        masks = dropout.masks(self.engine.regularization, step, m, built.sizes, built.dtype)
        Y = self.smoothed.take(rows).one_hot(built.sizes[-1], built.dtype)
        nabla_b, nabla_w = [np.zeros_like(b) for b in biases], [np.zeros_like(w) for w in weights]
        for i in range(m):
            here = {l: mask[i].reshape(-1, 1) for l, mask in masks.items()}
            x, y = X[i].reshape(-1, 1), Y[i].reshape(-1, 1)
            delta_b, delta_w = reference.backprop(built, biases, weights, x, y, masks=here)
            for total, part in zip((*nabla_b, *nabla_w), (*delta_b, *delta_w), strict=True):
                total += part.dtype.type(counts[i] / m) * part
        return nabla_b, nabla_w


def _regularization(saved: Any) -> Regularization:
    """That of the run; the seed of dropout is part of the engine's state."""
    expected = Regularization()
    known = {name: getattr(expected, name) for name in ("l1", "max_norm", "dropout")}
    resuming.check_like(saved, known, "regularization")
    if not (saved["l1"] >= 0 and saved["max_norm"] > 0 and 0 <= saved["dropout"] < 1):
        raise ValueError(f"its regularization is {saved}")
    return replace(expected, **saved)


def _rows(saved: resuming.Saved, n: int) -> np.ndarray:
    """The order of the examples in the epoch; drawn here, from the saved random state, if the run had not drawn it."""
    run, rule = saved.state["run"], saved.state["rule"]
    rows = run["rows"] if run["begun"] is True else run["order"]["rows"]
    whole = isinstance(rows, np.ndarray) and rows.dtype == np.int64 and rows.ndim == 1
    distinct = np.unique(rows) if whole else np.empty(0, np.int64)
    if not len(distinct) or len(distinct) != len(rows) or distinct[0] < 0 or distinct[-1] >= n:
        raise ValueError("its order of the examples does not hold each of them once")
    if run["begun"] is True or rule["shuffle"] is not True:
        return np.array(rows)
    if saved.state["random"]["shuffle"] is None:
        raise CheckpointError(
            f"{saved.path} was written between two epochs, and the order of the next is drawn by a function of your "
            f"own; replay a checkpoint from within an epoch"
        )
    owner, positions = streams.rebuild(saved.state["random"]["shuffle"]), list(range(n))
    return Order(owner.shuffle, [positions[row] for row in rows], positions, np.array(rows)).next()
