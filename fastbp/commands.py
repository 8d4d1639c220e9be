"""What the commands of `fastbp` do once their options are read: prepare the data, call the library, report."""

import csv
import io
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastbp
from fastbp import choices, lessons, replaying, reports, safefile, sources
from fastbp.architecture import Architecture
from fastbp.checkpoint import Checkpoint
from fastbp.choices import NetworkOptions
from fastbp.engines.plan import plan as make_plan
from fastbp.errors import DivergenceError, FastbpError
from fastbp.judging import Judge
from fastbp.lessons import Lesson
from fastbp.network import Network, load
from fastbp.plainjson import plain
from fastbp.schedules import Cosine, HalveWhenStuck, Schedule
from fastbp.sources import Rows
from fastbp.stopping import EarlyStopping

# The training cost of a plot is judged on at most so many rows, spread evenly over the data.
_SAMPLE = 10_000


class Stopped(FastbpError):
    """Ctrl-C came during training; the message says what became of the work."""


@dataclass(frozen=True)
class DataOptions:
    """How to read the examples."""

    name: str
    target: str | None = None
    header: bool | None = None
    download: bool = False

    def read(self, labelled: bool = True) -> Rows:
        return sources.read(self.name, self.target, labelled=labelled, header=self.header, download=self.download)


@dataclass(frozen=True)
class LessonOptions:
    """How rows become examples."""

    task: str
    validation: float | None
    scaling: str

    def labels_of(self, rows: Rows) -> np.ndarray | None:
        return lessons.labels_of(rows, self.task)

    def prepare(self, rows: Rows, classes: np.ndarray | None, built: Architecture) -> Lesson:
        return lessons.prepare(rows, classes, built, self.validation, self.scaling)

    def facts(self, rows: Rows, lesson: Lesson) -> dict[str, Any]:
        """What is learned, and from how much."""
        return {
            "fastbp": fastbp.__version__,
            "data": rows.name,
            "target": rows.target,
            "task": "regress" if lesson.classes is None else "classify",
            "task_is_a_guess": lessons.is_a_guess(rows, self.task),
            "classes": lesson.classes,
            "training_examples": len(lesson.X),
            "validation_examples": 0 if lesson.held_out is None else len(lesson.held_out[0]),
        }


@dataclass(frozen=True)
class TrainOptions:
    """How to train it, and where to leave the result."""

    lesson: LessonOptions
    epochs: int
    batch_size: int
    eta: float | None
    lmbda: float
    schedule: str
    patience: int | None
    dropout: float
    save: Path | None
    plot: Path | None
    as_json: bool
    checkpoint: Checkpoint | None = None
    resume: Path | None = None


@dataclass(frozen=True)
class BenchOptions:
    """What to time, how often, and where to leave the result."""

    batch_size: int
    density: float
    threads: int | None
    samples: int
    json: Path | None
    plot: Path | None


# --- train


def train(data: DataOptions, shape: NetworkOptions, options: TrainOptions) -> None:
    """Train a network on data, show how it learns, and leave it, a picture or a document where the user asks."""
    began = time.perf_counter()
    _check_destinations(data, options)
    rows = data.read()
    classes = options.lesson.labels_of(rows)
    network = choices.build(shape, rows, classes)
    lesson = options.lesson.prepare(rows, classes, network.architecture)
    eta = choices.usual_eta(network, classes) if options.eta is None else options.eta
    if lesson.held_out is None and (options.patience is not None or options.schedule == "halve"):
        what = "--schedule halve" if options.patience is None else "--patience"
        raise ValueError(f"{what} judges on rows held out; drop --validation 0")
    facts = {
        **options.lesson.facts(rows, lesson),
        **_network_facts(network),
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "eta": eta,
        "lmbda": options.lmbda,
        "schedule": options.schedule,
        "patience": options.patience,
        "dropout": options.dropout,
        "seed": shape.seed,
    }
    if not options.as_json:
        reports.opening(facts)
    teller = _teller(network, lesson, options)
    if options.resume is None:  # else the checkpoint says which engine
        network.engine = choices.engine_for_once(network, lesson, options.epochs, options.batch_size)
    try:
        history = network.fit(
            lesson.X, lesson.y, epochs=options.epochs, batch_size=options.batch_size, eta=_schedule(eta, options),
            lmbda=options.lmbda, dropout=options.dropout, validation_data=lesson.held_out,
            early_stopping=None if options.patience is None else EarlyStopping(patience=options.patience),
            callbacks=[teller], verbose=None if teller.with_bar else False,
            checkpoint=options.checkpoint, resume=options.resume,
        )  # fmt: skip
    except KeyboardInterrupt as interrupt:
        raise _wind_up(network, lesson, teller, options) from interrupt
    except DivergenceError as error:
        raise _in_epochs_from_1(error, eta) from error
    finally:
        network.engine = shape.engine
    lesson.finish(network)
    facts |= {"engine": history.engine, "result": _result(network, lesson), "history": teller.records}
    facts |= {"ended": history.ended, "best_epoch": None if history.best_epoch is None else history.best_epoch + 1}
    if options.save is not None:
        network.save(options.save)
    if options.plot is not None:
        from fastbp import plotting

        plotting.draw(teller.records, options.plot, facts)
    facts |= {"seconds": time.perf_counter() - began, "saved": options.save, "plot": options.plot}
    if options.as_json:
        write_json(facts)
        return
    reports.closing(facts)
    if rows.name == "digits" and rows.test is not None and lesson.held_out is not None:
        reports.mistakes(rows.test[0], rows.test[1], network.predict(lesson.held_out[0]))


def _schedule(eta: float, options: TrainOptions) -> float | Schedule:
    """The step size as it shall change: not at all, down to 0 over the epochs, or halved when the score is stuck."""
    if options.schedule == "cosine":
        return Cosine(eta, options.epochs)
    return HalveWhenStuck(eta) if options.schedule == "halve" else eta


def _in_epochs_from_1(error: DivergenceError, eta: float) -> FastbpError:
    assert error.epoch is not None and error.batch is not None  # training says where
    return FastbpError(
        f"training diverged in epoch {error.epoch + 1}, mini-batch {error.batch + 1}: a parameter became NaN or "
        f"infinite; try a smaller step, such as --eta {eta / 10:g}"
    )


def _check_destinations(data: DataOptions, options: TrainOptions) -> None:
    """What would spoil the end of a training is found before its beginning."""
    kept = None if options.checkpoint is None else Path(os.fsdecode(options.checkpoint.path))
    paths = {"--save": options.save, "--plot": options.plot, "--checkpoint": kept}
    for name, path in paths.items():
        if path is not None:
            check_destination(name, path, Path(data.name))
            twin = next((other for other in paths if other != name and paths[other] == path), None)
            if twin is not None:
                raise ValueError(f"{name} and {twin} both name {path}; choose another name for one of them")
    if options.save is not None:
        safefile.check(options.save)
    if options.resume is not None and not options.resume.exists():
        raise ValueError(f"there is no file {options.resume}; a checkpoint comes from --checkpoint {options.resume}")
    if options.plot is not None:
        from fastbp import plotting

        plotting.check(options.plot)


def check_destination(option: str, path: Path, *inputs: Path) -> None:
    """ValueError if no file can be written there, or one that is read would be lost."""
    if any(path.exists() and other.exists() and path.samefile(other) for other in inputs):
        raise ValueError(f"{option} {path} would overwrite what is read from there; choose another name")
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{option} {path}: you may not write in the folder {path.parent}; choose another")
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"{option} {path} is write-protected; choose another name, or change its permissions")


def _teller(network: Network, lesson: Lesson, options: TrainOptions) -> reports.Teller:
    judge = None
    if options.plot is not None or lesson.held_out is None:
        some = slice(None, None, -(-len(lesson.X) // _SAMPLE))
        places = None if lesson.classes is None else np.arange(len(lesson.classes))
        judge = Judge.read(network.architecture, lesson.X[some], lesson.y[some], "the training data", places)
    return reports.Teller(options.epochs, lesson.classes is not None, judge, silent=options.as_json)


def _wind_up(network: Network, lesson: Lesson, teller: reports.Teller, options: TrainOptions) -> Stopped:
    """After Ctrl-C: what was learned goes where the user wanted it."""
    done = len(teller.records)
    what = f"stopped after {done} of {options.epochs} epochs" if done else "stopped before the first epoch was over"
    kept = None if options.checkpoint is None else Path(os.fsdecode(options.checkpoint.path))
    if options.save is not None and done:
        lesson.finish(network)
        network.save(options.save)
        what += f"; the network so far is in {options.save}"
    if kept is not None and kept.exists():
        return Stopped(f"{what}; the same command with --resume {kept} goes on")
    return Stopped(what if done else f"{what}; nothing was saved")


def _network_facts(network: Network) -> dict[str, Any]:
    built = network.architecture
    return {
        "sizes": network.sizes,
        "hidden": [activation.name for activation in built.activations[:-1]],
        "output": built.activations[-1].name,
        "cost": built.cost.name,
        "dtype": built.dtype.name,
    }


def _result(network: Network, lesson: Lesson) -> dict[str, Any]:
    """How the finished network does, in the targets' own unit, on the rows held out (or, without any, on all)."""
    X, y = lesson.held_out or (lesson.X, lesson.y)
    on = "training" if lesson.held_out is None else "held-out"
    return {"on": on, **_judge(network, X, lesson.raw_targets(y), "the data")}


def _judge(network: Network, X: np.ndarray, y: np.ndarray, name: str) -> dict[str, Any]:
    """Score and cost on scaled inputs and raw targets; and what people count: right answers, or the typical error."""
    cost, score = Judge.read(network.architecture, X, y, name, network.classes_).judge_network(network)
    found: dict[str, Any] = {"examples": len(y), "score": score, "cost": cost}
    if network.classes_ is not None:
        return found | {"correct": round(score * len(y))}
    error = network.predict(X).astype(np.float64) - y
    with np.errstate(over="ignore"):
        return found | {"rms_error": np.sqrt(np.mean(np.square(error), axis=0))}


# --- replay


def replay(checkpoint: Path, data: DataOptions, lesson: LessonOptions, batch: int, as_json: bool) -> None:
    """Show one mini-batch of the epoch a checkpoint is in, on the data and with the options that train had."""
    if not checkpoint.exists():
        raise ValueError(f"there is no file {checkpoint}; a checkpoint comes from fastbp train --checkpoint")
    built = replaying.architecture_in(checkpoint)
    rows = data.read()
    prepared = lesson.prepare(rows, lesson.labels_of(rows), built)
    epoch = replaying.open_epoch(checkpoint, prepared.X, prepared.y)
    if not 1 <= batch <= epoch.n_batches:
        raise ValueError(f"--batch {batch}: epoch {epoch.number + 1} has the mini-batches 1 to {epoch.n_batches}")
    found = epoch.show(batch - 1)
    if as_json:
        write_json({"checkpoint": checkpoint, "data": rows.name, **found.facts(first=1)})
    else:
        print(found.page(first=1))


# --- evaluate and predict


def evaluate(model: Path, data: DataOptions, validation: float | None, as_json: bool) -> None:
    """Judge a saved network on labelled rows: those that a data set holds out, or all rows of a file."""
    network = _load(model)
    rows = data.read()
    assert rows.y is not None
    X, y = rows.X, rows.y
    if rows.test is not None and validation is not None:
        raise ValueError(f"{rows.name} comes with held-out examples, which are taken; drop --validation")
    if rows.test is not None:
        X, y = rows.test
    elif validation is not None:
        _, held = lessons.hold_out(rows, validation, network.classes_ is not None)
        X, y = X[held], y[held]
    X = _inputs(network, rows, X)
    y = _targets_for(network, rows, y)
    facts: dict[str, Any] = {"model": model, "data": rows.name, **_judge(network, X, y, rows.name)}
    if network.classes_ is not None:
        places = [np.searchsorted(network.classes_, labels) for labels in (y, network.predict(X))]
        confusion = np.zeros((len(network.classes_),) * 2, np.int64)
        np.add.at(confusion, tuple(places), 1)
        facts |= {"classes": network.classes_, "confusion": confusion}
    if as_json:
        write_json(facts)
    else:
        reports.evaluation(facts)


def predict(model: Path, data: DataOptions, output: Path | None, as_json: bool) -> None:
    """Write what a saved network makes of raw rows: a label or a number a line, in the order of the rows."""
    network = _load(model)
    if output is not None:
        check_destination("--output", output, model, Path(data.name))
    rows = data.read(labelled=False)
    X = _inputs(network, rows, rows.X if rows.test is None else rows.test[0])
    predictions = network.predict(X)
    if as_json:
        facts = {"model": model, "data": rows.name, "classes": network.classes_, "predictions": predictions}
        text = to_json(facts | {"outputs": network.outputs(X)})
    else:
        text = _as_lines(predictions)
    if output is not None:
        output.write_text(text, encoding="utf-8", newline="")
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="strict")  # a label that the output cannot spell is an error, not a "?"
    print(text, end="")


def _load(model: Path) -> Network:
    if not model.exists():
        raise ValueError(f"there is no file {model}; a model comes from fastbp train --save {model}")
    return load(model)


def _inputs(network: Network, rows: Rows, X: np.ndarray) -> np.ndarray:
    """Raw rows as this network takes them."""
    n_in, n = network.sizes[0], X.shape[1]
    if n != n_in:
        hint = "leave the target column out by naming it with --target" if n == n_in + 1 else "give its own with --data"
        raise ValueError(f"the model takes {n_in} features a row, but {rows.name} has {n}; {hint}")
    lessons.check_finite(rows, (X, None))
    # a network saved without a scaling learned from numbers as its user had them: load_digits and load_mnist scale
    scaling = network.input_scaling
    if scaling is None and rows.name in sources.BUILT_IN:
        scaling = rows.pixels
    return lessons.scaled(X, scaling, network.dtype)


def _targets_for(network: Network, rows: Rows, y: np.ndarray) -> np.ndarray:
    """Targets of the kind this network has learned; ValueError if they are of another."""
    what, classes = f"the target {rows.target!r} of {rows.name}", network.classes_
    if classes is None:
        n_out, n = network.sizes[-1], y.shape[1] if y.ndim == 2 else 1
        if y.dtype.kind == "U" or n != n_out:
            has = "labels" if y.dtype.kind == "U" else f"{n} a row"
            raise ValueError(f"the model predicts numbers, {n_out} a row, but {what} has {has}")
        return y.astype(np.float64)
    if y.ndim != 1:
        raise ValueError(f"the model predicts labels, but {what} has shape {y.shape}; give one label a row")
    if classes.dtype.kind == "U":
        y = y.astype(str)
    known = np.isin(y, classes)
    if not known.all():
        some = ", ".join(map(str, classes[:10])) + (", …" if len(classes) > 10 else "")
        raise ValueError(f"{what} holds {str(y[np.argmin(known)])!r}, but the model knows the labels {some}")
    return y if y.dtype.kind == "U" else y.astype(np.int64)


def _as_lines(predictions: np.ndarray) -> str:
    """One line a row; a label with a comma or a quote is quoted as in CSV, several numbers stand side by side."""
    text = io.StringIO()
    rows = predictions[:, np.newaxis] if predictions.ndim == 1 else predictions
    csv.writer(text, lineterminator="\n").writerows(map(list, rows))
    return text.getvalue()


# --- verify


def verify_file(
    path: Path, data: str, hidden: list[int], epochs: int, seed: int, download: bool, as_json: bool
) -> bool:
    """Compare a user's own copy of the book's class with ours; True if they are the same."""
    from fastbp.verify import verify

    if not as_json:
        print(f"running {path}, a program of yours", flush=True)
    report = verify(path, data=data, hidden=hidden, epochs=epochs, seed=seed, download=download)
    if as_json:
        write_json({"same": report.same, **asdict(report), "speed_up": report.speed_up})
    else:
        print(report)
    return report.same


# --- plan, bench and info


def show_plan(shape: NetworkOptions, batch_size: int, density: float, as_json: bool) -> None:
    """Print which engine a network would run in, and why."""
    network = choices.build_by_sizes(shape)
    plan = make_plan(network, batch_size=batch_size, density=density)
    if as_json:
        write_json({**_network_facts(network), "density": density, **asdict(plan)})
    else:
        print(plan)


def show_bench(shape: NetworkOptions, options: BenchOptions) -> None:
    """Time a network in every engine beside what the machine can do, and show it as a table, a file and a picture."""
    from fastbp import bench, bench_report

    printed = options.json is not None and str(options.json) == "-"
    if options.json is not None and not printed:
        check_destination("--json", options.json)
    if options.plot is not None:
        from fastbp import plotting

        check_destination("--plot", options.plot)
        plotting.check(options.plot)
    network = choices.build_by_sizes(shape)
    with reports.status() as say:
        found = bench.measure(
            network, options.batch_size, density=options.density, threads=options.threads, samples=options.samples,
            say=say,
        )  # fmt: skip
    if printed:
        write_json(found.as_dict())
    else:
        bench_report.show(found)
    if options.json is not None and not printed:
        options.json.write_text(to_json(found.as_dict()), encoding="utf-8")
        print(f"figures in {options.json}")
    if options.plot is not None:
        bench_report.draw(found, options.plot)
        if not printed:
            print(f"plot in {options.plot}")


def show_info(as_json: bool) -> None:
    """Print what a bug report needs."""
    from fastbp import machine

    facts = machine.facts()
    if as_json:
        write_json(facts)
    else:
        reports.facts(facts)


# --- JSON


def write_json(facts: dict[str, Any]) -> None:
    print(to_json(facts), end="")


def to_json(facts: dict[str, Any]) -> str:
    """One document, a line for each fact and each epoch; numbers that JSON does not have (NaN, infinity) are null."""

    def line(value: Any) -> str:
        return json.dumps(plain(value), allow_nan=False)

    def lines(value: Any) -> str:
        several = isinstance(value, list) and value and isinstance(value[0], dict)
        return "[\n    " + ",\n    ".join(map(line, value)) + "\n  ]" if several else line(value)

    return "{\n" + ",\n".join(f"  {line(name)}: {lines(value)}" for name, value in facts.items()) + "\n}\n"
