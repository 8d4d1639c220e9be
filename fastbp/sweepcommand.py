"""What `fastbp sweep` does: settings as the command line names them, a lesson for all networks, a table."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastbp
from fastbp import choices, commands, reports
from fastbp.errors import FastbpError
from fastbp.lessons import Lesson
from fastbp.network import Network
from fastbp.sources import Rows
from fastbp.sweeps import SweepResult
from fastbp.sweeps.spec import show_settings

# What an option or a --grid calls otherwise than Network and fit do.
_SHELL_NAMES = {"hidden": "activation", "initializer": "init"}
_OF_NETWORK = ("hidden", "activation", "output", "cost", "init", "engine", "dtype")


@dataclass(frozen=True)
class SweepOptions:
    """What varies, how it is trained, and where to leave the result. `settings` are the options that were given."""

    grid: Sequence[str]
    seeds: int
    settings: Mapping[str, Any]
    lesson: commands.LessonOptions
    workers: int | None
    output: Path | None
    resume: bool
    plot: Path | None
    as_json: bool


def sweep(data: commands.DataOptions, options: SweepOptions) -> None:
    """Train every combination from every seed, and show what the seeds of each say together."""
    began = time.perf_counter()
    _check_destinations(data, options)
    grid = read_grid(options.grid, options.settings)
    rows = data.read()
    classes = options.lesson.labels_of(rows)
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    described = [_describe({**options.settings, **values}, rows, classes) for values in combinations]
    lesson = _lesson([network for network, _ in described], rows, classes, options)
    spec, configs = _in_common([arguments for _, arguments in described], grid)
    facts = {
        **options.lesson.facts(rows, lesson),
        "settings": len(configs),
        "seeds": options.seeds,
    }
    if not options.as_json:
        reports.data_line({**facts, "sizes": described[0][0].sizes})
        print(_counted(len(configs), options.seeds), flush=True)
    try:
        result = fastbp.sweep(
            spec, (lesson.X, lesson.y), configs=configs, seeds=options.seeds, validation_data=lesson.held_out,
            workers=options.workers, output=options.output, resume=options.resume,
        )  # fmt: skip
    except KeyboardInterrupt as interrupt:
        if options.output is None:
            raise
        raise commands.Stopped(
            f"stopped; the networks that were done are in {options.output}, and --resume goes on from there"
        ) from interrupt
    result = SweepResult([{**row, "settings": _in_shell_words(row["settings"])} for row in result])
    if options.plot is not None:
        result.plot(path=options.plot)
    if options.as_json:
        commands.write_json({**facts, "spec": _in_shell_words(spec), **_documents(result), **_places(options)})
    else:
        _report(result, options, time.perf_counter() - began)
    if not any(row["status"] in ("done", "stopped") for row in result):
        raise FastbpError(f"no network was trained to the end; the first: {result.rows[0]['message']}")


def _check_destinations(data: commands.DataOptions, options: SweepOptions) -> None:
    if options.output is not None:
        commands.check_destination("--output", options.output, Path(data.name))
        if options.output.exists() and not options.resume:
            raise ValueError(f"--output {options.output} is there already; add --resume, or choose another name")
    elif options.resume:
        raise ValueError("--resume goes on with the sweep in a file; name it with --output")
    if options.plot is not None:
        from fastbp import plotting

        commands.check_destination("--plot", options.plot, Path(data.name))
        plotting.check(options.plot)


# --- Settings


def read_grid(texts: Sequence[str], given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{"eta": [0.1, 0.3]} from "eta=0.1,0.3"; ValueError for what is no such list, or is given by an option too."""
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        name = name.strip().lower().removeprefix("--").replace("_", "-")
        if not sign or not name or not all(part.strip() for part in values.split(",")):
            raise ValueError(f"--grid {text}: expected a name and its values, such as eta=0.1,0.3")
        if name in grid:
            raise ValueError(f"--grid {name} is given twice; name all its values at once: {name}=A,B")
        if name in given:
            raise ValueError(f"--grid {name} gives what --{name} gives too; drop one of them")
        grid[name] = [_value(name, part.strip()) for part in values.split(",")]
    return grid


def _value(name: str, text: str) -> Any:
    """A value in a grid: 0.1, 100-50 (layers), relu-tanh (one each), adam, true."""
    if name == "hidden":
        try:
            return [int(part) for part in text.split("-")]
        except ValueError:
            raise ValueError(
                f"--grid hidden={text}: expected layers such as 100-50 (activations go to activation=)"
            ) from None
    if name == "activation":
        return text.split("-")
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _describe(settings: Mapping[str, Any], rows: Rows, classes: Any) -> tuple[Network, dict[str, Any]]:
    """One network, and the arguments of Network and fit for it: what is not given as `fastbp train` chooses it."""
    rest = {name.replace("-", "_"): value for name, value in settings.items() if name not in _OF_NETWORK}
    shape = choices.NetworkOptions(**{name: settings[name] for name in _OF_NETWORK if name in settings})
    network = choices.build(shape, rows, classes)
    built = network.architecture
    hidden = [activation.name for activation in built.activations[:-1]]
    of_network = {
        "sizes": network.sizes,
        "hidden": hidden[0] if len(set(hidden)) == 1 else hidden,
        "output": built.activations[-1].name,
        "cost": built.cost.name,
        "initializer": choices.usual_initializer(hidden) if shape.init is None else shape.init,
        "dtype": built.dtype.name,
        "engine": shape.engine,
    }
    rest.setdefault("epochs", 30)
    if "eta" not in rest and rest.get("optimizer", "sgd") == "sgd":
        rest["eta"] = choices.usual_eta(network, classes)
    return network, {**of_network, **rest}


def _in_common(described: list[dict[str, Any]], grid: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all have in common, and for each what the grid names, in its order, and what follows from that."""
    names = list(dict.fromkeys(itertools.chain(*described)))
    places = ["sizes" if name == "hidden" else name for name in grid]
    varied = sorted(
        (
            name
            for name in names
            if _shell_name(name) in places or len({repr(each.get(name)) for each in described}) > 1
        ),
        key=lambda name: places.index(_shell_name(name)) if _shell_name(name) in places else len(places),
    )
    spec = {name: described[0][name] for name in names if name not in varied}
    return spec, [{name: arguments[name] for name in varied if name in arguments} for arguments in described]


def _shell_name(name: str) -> str:
    return _SHELL_NAMES.get(name, name.replace("_", "-"))


def _in_shell_words(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_shell_name(name): value for name, value in settings.items()}


def _lesson(networks: list[Network], rows: Rows, classes: Any, options: SweepOptions) -> Lesson:
    """The examples, the same for all networks, in the widest of their dtypes."""
    if options.lesson.validation == 0:
        raise ValueError("a sweep is judged on rows held out; give --validation a share above 0")
    linear = {network.architecture.activations[-1].name == "identity" for network in networks}
    if classes is None and len(linear) > 1:
        raise ValueError("numbers to learn are scaled for --grid output=identity and for no other; sweep over one")
    widest = max(networks, key=lambda network: network.dtype.itemsize)
    return options.lesson.prepare(rows, classes, widest.architecture)


# --- The report


def _counted(settings: int, seeds: int) -> str:
    networks = settings * seeds
    return f"{_several(settings, 'setting')} × {_several(seeds, 'seed')}: {_several(networks, 'network')}"


def _several(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n > 1 else ''}"


def _report(result: SweepResult, options: SweepOptions, seconds: float) -> None:
    print(f"\n{result}\n")
    if len(result.by_setting()) > 1 and result.metrics:
        best = result.best()
        metric = result.metrics[0]
        print(f"best {metric.replace('_', ' ')}: {best.metrics[metric]} with {show_settings(best.settings)}")
    messages = dict.fromkeys(row["message"] for row in result if row["status"] == "failed")
    for message in itertools.islice(messages, 3):
        print(f"failed: {message}")
    print(f"{_several(len(result), 'network')} in {seconds:.1f} s")
    for what, place in _places(options).items():
        if place is not None:
            print(f"{what} in {place}")


def _places(options: SweepOptions) -> dict[str, Any]:
    return {"results": options.output, "plot": options.plot}


def _documents(result: SweepResult) -> dict[str, Any]:
    document = result.as_dict()
    return {"by_setting": document["settings"], "networks": document["networks"]}
