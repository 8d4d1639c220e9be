"""What `fit` and `score` do around the training loop: targets, the examples held out, the engine, the run."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import checks, data, progress, splits, targets
from fastbp.history import History
from fastbp.improvement import check_recorded
from fastbp.judging import Judge, Layers, Validation
from fastbp.lbfgs import LBFGS, FullBatchRun, Objective
from fastbp.optimizers import PLAIN, SGD, Optimizer
from fastbp.order import Order
from fastbp.regularization import Regularization
from fastbp.run import Run
from fastbp.schedules import Schedule, as_schedule, monitored
from fastbp.stopping import EarlyStopping
from fastbp.training import Trainer

if TYPE_CHECKING:
    from fastbp.checkpoint import Checkpoint, Keeper
    from fastbp.network import Network


def one_optimizer(eta: float | Schedule | None, optimizer: Optimizer | LBFGS | None) -> Optimizer | LBFGS:
    """The optimizer that `eta=` or `optimizer=` asks for; exactly one of the two must be given."""
    if (eta is None) == (optimizer is None):
        raise ValueError("give either eta= (the step size) or optimizer=, for example fastbp.Adam(1e-3)")
    if optimizer is None:
        return SGD(eta)  # type: ignore[arg-type]
    if not isinstance(optimizer, Optimizer | LBFGS):
        raise TypeError(f"optimizer must be an optimizer such as fastbp.Adam(1e-3), got {optimizer!r}")
    return optimizer


_OTHERS = "fastbp.Adam(1e-3), say"


@dataclass(frozen=True)
class Options:
    """What a call of `Network.fit` asks for, apart from the data; described there, checked here."""

    epochs: int
    batch_size: int
    optimizer: Optimizer | LBFGS
    lmbda: float = 0.0
    l1: float = 0.0
    max_norm: float | None = None
    dropout: float = 0.0
    sample_weight: Any = None
    class_weight: Mapping[Any, float] | str | None = None
    label_smoothing: float = 0.0
    validation_data: Any = None
    validation_fraction: float | None = None
    early_stopping: EarlyStopping | None = None
    shuffle: bool = True
    callbacks: Sequence[Any] = ()
    monitor_training: bool = False
    monitor_layers: bool = False
    verbose: Any = None  # or a `progress.Silent` of the caller
    checkpoint: "Checkpoint | None" = None
    resume: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name in ("lmbda", "l1"):
            checks.not_negative(getattr(self, name), name)
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a share, at least 0 and less than 1; got {getattr(self, name)}")
        if self.max_norm is not None and self.max_norm <= 0:
            raise ValueError(f"max_norm must be greater than 0, got {self.max_norm}")
        if not isinstance(self.shuffle, bool | np.bool_):
            raise TypeError(
                f"shuffle must be True or False, got {self.shuffle!r}; Network(…, shuffle=f) takes a function"
            )
        if not isinstance(self.callbacks, list | tuple):
            raise TypeError(f"callbacks must be a list of objects with a method on_epoch_end, got {self.callbacks!r}")
        for callback in self.callbacks:
            if not callable(getattr(callback, "on_epoch_end", None)):
                raise TypeError(f"callbacks need a method on_epoch_end(network, record); {callback!r} has none")
        self._check_validation()
        if isinstance(self.optimizer, LBFGS):
            for name in ("l1", "max_norm", "dropout", "checkpoint", "resume"):
                if getattr(self, name):
                    raise ValueError(f"LBFGS() minimises a smooth cost in one search, without {name}; use {_OTHERS}")

    def _check_validation(self) -> None:
        share, given = self.validation_fraction, self.validation_data
        if given is not None and (not isinstance(given, tuple | list) or len(given) not in (2, 3)):
            raise TypeError(f"validation_data must be a pair (X, y) or (X, y, weights), got {type(given).__name__}")
        if share is not None:
            if given is not None:
                raise ValueError("give either validation_data or validation_fraction, not both")
            if not isinstance(share, int | float) or not 0 < share < 1:
                raise ValueError(f"validation_fraction is a share of the examples between 0 and 1, got {share!r}")
        stopping = self.early_stopping
        if stopping is not None and not isinstance(stopping, EarlyStopping):
            raise TypeError(f"early_stopping must be fastbp.EarlyStopping(…), got {stopping!r}")
        looked_at = [
            monitored(getattr(self.optimizer, "eta", 0.0)),
            *(getattr(each, "monitor", None) for each in self.callbacks),
        ]
        if stopping is not None:
            looked_at.append(stopping.monitor)
        for name in looked_at:
            held_out = given is not None or share is not None
            check_recorded(name, held_out, self.monitor_training, self.monitor_layers)

    def of_the_run(self) -> dict[str, Any]:
        """Those that must be the same for a run to go on from a checkpoint, by name."""
        others = ("epochs", "callbacks", "verbose", "checkpoint", "resume", "validation_data", "sample_weight")
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in others}


# Examples on which the layers are looked at after each epoch.
_LAYER_SAMPLE = 256


def fit(network: "Network", X: Any, y: Any, options: Options) -> History:
    """See `Network.fit`."""
    examples, classes = data.read_examples(network.architecture, X, y)
    examples = targets.weighted(examples, classes, options.sample_weight, options.class_weight)
    built, by_label = network._effective_architecture(), classes is not None
    keeper = None
    if options.checkpoint is not None or options.resume is not None:
        from fastbp.checkpoint import Keeper

        keeper = Keeper(options.checkpoint, options.resume)
    rows, judge = _held_out(network, examples, classes, options, keeper)
    n, rule = len(rows), options.optimizer
    batch_size, decay = min(options.batch_size, n), options.lmbda / n
    with progress.reporting(options.epochs, n, options.verbose, by_label) as report:
        smoothed = targets.smoothed(examples, classes, built, options.label_smoothing)
        name = None if keeper is None else keeper.engine_for(network)
        step = PLAIN if isinstance(rule, LBFGS) else rule
        if isinstance(rule, LBFGS):
            name, batch_size = _beside_lbfgs(network), 1
        draws = keeper is None or not keeper.is_resuming  # else the seed of dropout is in the checkpoint
        engine = network._start_engine(smoothed, batch_size, name, step, _regularization(network, options, n, draws))
        monitors: list[Any] = [] if judge is None else [Validation(judge, engine)]
        if options.monitor_training:
            own = Judge(built, examples, by_label, None if n == len(examples) else rows)
            monitors.append(Validation(own, engine, "training"))
        if options.monitor_layers:
            monitors.append(Layers(built, examples.take(rows[:: -(-n // _LAYER_SAMPLE)])))
        parts = (
            network,
            Trainer(engine, batch_size, decay),
            _order(network, len(examples), rows, compiled=engine.name == "fused"),
            as_schedule(step.eta).begin(),
        )
        around: dict[str, Any] = {
            "epochs": options.epochs,
            "report": report,
            "monitors": monitors,
            "callbacks": options.callbacks,
            "stopping": None if options.early_stopping is None else options.early_stopping.begin(),
        }
        if isinstance(rule, LBFGS):
            run: Run = FullBatchRun(*parts, **around, rule=rule, objective=Objective(built, smoothed, rows, decay))
        else:
            run = Run(*parts, **around, shuffle=bool(options.shuffle))
        if keeper is not None:
            held = None if judge is None else judge.examples
            arguments = {**options.of_the_run(), "weights": examples.weights}
            arguments["validation weights"] = None if held is None else held.weights
            keeper.attach(run, examples, held, classes, arguments)
        network.classes_ = classes
        return run.go()


def _held_out(
    network: "Network", examples: data.Examples, classes: Any, options: Options, keeper: "Keeper | None"
) -> tuple[np.ndarray, Judge | None]:
    """The rows to train on, and the judge of the examples that are held out, or given beside them, if there are any."""
    built, rows = network._effective_architecture(), np.arange(len(examples))
    if options.validation_data is not None:
        X, y, *weights = options.validation_data
        return rows, Judge.read(built, X, y, "validation_data", classes, weights[0] if weights else None)
    if options.validation_fraction is None:
        return rows, None
    known = None if keeper is None else keeper.rows_of(len(examples))
    by_label = classes is not None
    rows, held_out = known or _split(network, examples, by_label, options.validation_fraction)
    return rows, Judge(built, examples.take(held_out), by_label)


def _beside_lbfgs(network: "Network") -> str:
    """The engine that judges a network trained by L-BFGS, which computes in plain NumPy."""
    if network.engine not in ("auto", "matrix"):
        raise ValueError(f"LBFGS() computes all examples as matrices; engine={network.engine!r} cannot, use 'auto'")
    return "matrix"


def _regularization(network: "Network", options: Options, n: int, draws: bool) -> Regularization:
    """What the engine must know; if `draws`, the seed of dropout's masks is drawn here."""
    if options.dropout and len(network.architecture.sizes) < 3:
        raise ValueError(f"dropout={options.dropout:g} leaves out hidden units, but the network has no hidden layer")
    seed = network._draw_seed() if options.dropout and draws else 0
    limit = np.inf if options.max_norm is None else options.max_norm
    return Regularization(options.l1 / n, limit, options.dropout, seed)


def _order(network: "Network", n: int, rows: np.ndarray, compiled: bool = False) -> Order:
    """The order of these rows of n, as the network shuffles; a shuffle of the user's own may want a list."""
    positions = list(range(n))
    return Order(network._shuffle, [positions[row] for row in rows.tolist()], positions, rows.copy(), compiled)


def _split(network: "Network", examples: data.Examples, by_label: bool, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows held out): one shuffle by the network, of which each label gives its share."""
    n, labels = len(examples), targets.labels_of(examples) if by_label else None
    learn, held_out = splits.hold_out(n, share, labels, _order(network, n, np.arange(n)).next())
    if not len(held_out) or not len(learn):
        raise ValueError(
            f"validation_fraction={share:g} of {n} examples leaves {len(held_out)} to judge on and {len(learn)} to "
            f"learn from; use another share, or validation_data=(X, y)"
        )
    return learn, held_out


def score(network: "Network", X: Any, y: Any) -> float:
    """See `Network.score`."""
    judge = Judge.read(network.architecture, X, y, name="score's data", classes=network.classes_)
    return judge.score(network.outputs(judge.examples.X))
