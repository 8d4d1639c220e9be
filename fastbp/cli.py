"""The command `fastbp`: options, examples, errors and exit codes.

What a command does stands in `commands`, which is loaded when one runs: `fastbp --help` must not wait for NumPy.
"""

import io
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from fastbp import __version__

if TYPE_CHECKING:
    from fastbp import commands
    from fastbp.checkpoint import Checkpoint

# Exit codes; the last two as a shell reports a process that a signal ended.
DIFFERENT, FAILED, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141


class _ExamplesAsWritten:
    """Help pages that end with the lines of `epilog` as they are; typer would fill them into paragraphs."""

    epilog: str | None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        epilog, self.epilog = self.epilog, None
        super().format_help(ctx, formatter)  # type: ignore[misc]
        self.epilog = epilog
        typer.echo(epilog)


class Command(_ExamplesAsWritten, TyperCommand):
    """One command."""


class Commands(_ExamplesAsWritten, TyperGroup):
    """All commands, with every error as one line on the standard error; `--debug` adds the traceback."""

    def main(self, *, standalone_mode: bool = True, **more: Any) -> Any:  # type: ignore[override]
        try:
            code = super().main(standalone_mode=False, **more)
        except Exception as error:
            if not standalone_mode or not hasattr(error, "format_message"):
                raise
            ctx = getattr(error, "ctx", None)  # a line that is no command: typer would fill a box with it
            command = "fastbp" if ctx is None else ctx.command_path
            message = " ".join(error.format_message().split())
            typer.echo(f"{command}: {message} ({command} --help shows what there is)", err=True)
            code = FAILED
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:  # typer's own Context, which is not typer.Context
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # a reader that has gone away shows here, not when Python shuts down
            return result
        except KeyboardInterrupt as error:
            raise _end(INTERRUPTED, "stopped", error, ctx) from error
        except BrokenPipeError as error:
            with open(os.devnull, "w") as nowhere:  # for what Python still wants to write at its end
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            raise typer.Exit(PIPE_CLOSED) from error
        except Exception as error:
            if hasattr(error, "exit_code") or isinstance(error, typer.Abort):
                raise  # a usage error, an exit
            code = INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else FAILED
            raise _end(code, _describe(error), error, ctx) from error


def _end(code: int, message: str, error: BaseException, ctx: typer.Context) -> typer.Exit:
    if ctx.meta.get("fastbp.debug"):
        import traceback

        traceback.print_exception(error)
    typer.echo(f"fastbp: {' '.join(message.split())}", err=True)
    return typer.Exit(code)


# Library messages that name arguments of Python functions, as the command line calls them.
_IN_SHELL_WORDS = (
    ("header=True or header=False settles it", "--header yes or --header no settles it"),
    (" (or labelled=False)", ""),
    (
        "Give what the first call of fit was given, or start anew without resume",
        "Give the options of the first command",
    ),
    ("header=False says there are none; give an index", "--header no says there are none; give a number"),
)


def _describe(error: Exception) -> str:
    """One sentence for people. Only what no user can have caused names its type and asks for a report."""
    from fastbp.errors import FastbpError

    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return (
            f"not enough memory ({error}); use fewer rows or a smaller network" if str(error) else "not enough memory"
        )
    if isinstance(error, FastbpError | ValueError | TypeError | OSError | ArithmeticError):
        text = str(error)
        for python, shell in _IN_SHELL_WORDS:
            text = text.replace(python, shell)
        return text
    return (
        f"unexpected {type(error).__name__}: {error}. This is a mistake in fastbp: please report it with what "
        f"`fastbp info` prints and the traceback that --debug shows"
    )


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def examples(*pairs: tuple[str | None, str]) -> str:
    """The end of a help page: command lines that work as they stand, some under a remark."""
    lines = [" Examples:", ""]
    for remark, line in pairs:
        lines += [f"   # {remark}"] if remark else []
        lines.append(f"   {line}")
    return "\n".join([*lines, ""])


# --- Options


class Task(StrEnum):
    auto = "auto"
    classify = "classify"
    regress = "regress"


class Scaling(StrEnum):
    auto = "auto"
    standard = "standard"
    none = "none"


class Header(StrEnum):
    auto = "auto"
    yes = "yes"
    no = "no"


class Engine(StrEnum):
    auto = "auto"
    reference = "reference"
    matrix = "matrix"
    fused = "fused"


class ScheduleKind(StrEnum):
    constant = "constant"
    cosine = "cosine"
    halve = "halve"


class Dtype(StrEnum):
    float64 = "float64"
    float32 = "float32"


@dataclass(frozen=True)
class Sizes:
    """Sizes of layers, as in 64,30,10."""

    values: list[int]


@dataclass(frozen=True)
class Names:
    """Names, as in relu,tanh."""

    values: list[str]


def _values(given: Any) -> Any:
    """The list in what a parser made of an option; None where it was not given."""
    return None if given is None else given.values


def read_sizes(text: str) -> Sizes:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        hint = "; activations go to --activation" if text.replace(",", "").isidentifier() else ""
        raise typer.BadParameter(f"{text!r} is not a list of whole numbers such as 64,30,10{hint}") from None
    if min(sizes) < 1:
        raise typer.BadParameter(f"{text!r}: every layer needs at least one neuron")
    return Sizes(sizes)


@dataclass(frozen=True)
class Every:
    """How often to write a checkpoint: every so many "epochs", "batches" or "seconds"."""

    count: float = 1
    unit: str = "epochs"


_UNITS = {"": "epochs", "epoch": "epochs", "epochs": "epochs", "batch": "batches", "batches": "batches", "s": "seconds"}


def read_every(text: str) -> Every:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = _UNITS.get(text[len(number) :], "")
    try:
        count = float(number) if unit == "seconds" else int(number)
    except ValueError:
        count = 0
    if not unit or not 0 < count < 1e9:
        raise typer.BadParameter(f"{text!r} is not a number of epochs (2), mini-batches (500batches) or seconds (60s)")
    return Every(count, unit)


def read_names(text: str) -> Names:
    return Names([part.strip() for part in text.split(",")])


def _at_least(least: int) -> Callable[[float | None], float | None]:
    """A check of an option's value. (typer's own min= prints the range into the narrow middle of the help page.)"""

    def check(value: float | None) -> float | None:
        if value is not None and not value >= least:
            raise typer.BadParameter(f"{value} is not at least {least}")
        return value

    return check


def _above_0(value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise typer.BadParameter(f"{value} is not greater than 0")
    return value


def _share(most: float) -> Callable[[float | None], float | None]:
    def check(value: float | None) -> float | None:
        if value is not None and not 0 <= value <= most:
            raise typer.BadParameter(f"{value} is not a share from 0 to {most:g}")
        return value

    return check


def _remember_debug(ctx: typer.Context, value: bool) -> bool:
    if value:
        ctx.meta["fastbp.debug"] = True
    return value


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"fastbp {__version__}")
        raise typer.Exit


DATA, NETWORK, TRAINING, RESULT = "Data", "Network", "Training", "Result"


def option(panel: str, name: str, metavar: str, help: str, default: str | None = None, **more: Any) -> Any:
    """An option on a panel of the help page; `default` says there what happens without it."""
    if default is not None:
        help += f" [dim]\\[{default}][/dim]"
    return typer.Option(name, rich_help_panel=panel, metavar=metavar, help=help, show_default=False, **more)


def flag(panel: str, name: str, help: str, **more: Any) -> Any:
    return option(panel, name, " ", help, **more)


DataOption = Annotated[
    str, option(DATA, "--data", "DATA", "digits (built in), mnist, or a .csv or .npz file.", "digits")
]
TargetOption = Annotated[
    str | None,
    option(DATA, "--target", "COLUMN", "CSV: the column to learn, by name, or by number from 0.", "the last"),
]
HeaderOption = Annotated[
    Header, option(DATA, "--header", "yes|no", "CSV: whether the first line names the columns.", "as it looks")
]
TaskOption = Annotated[
    Task, option(DATA, "--task", "KIND", "Learn labels (classify) or numbers (regress).", "as the target looks")
]
ValidationOption = Annotated[
    float | None,
    option(DATA, "--validation", "SHARE", "Of a file: the share of rows to hold out.", "0.2", callback=_share(0.9)),
]
ScalingOption = Annotated[
    Scaling,
    option(
        DATA,
        "--scaling",
        "KIND",
        "Of the features: standard (mean 0, deviation 1) or none.",
        "bytes to 0 … 1, else standard",
    ),
]
DownloadOption = Annotated[bool, flag(DATA, "--download", "Fetch MNIST (12 MB) if it is not here.")]

_engine = option(NETWORK, "--engine", "NAME", "auto, reference, matrix or fused.", "auto")
_dtype = option(NETWORK, "--dtype", "NAME", "float64 or float32, of every computation.", "float64")
HiddenOption = Annotated[
    Sizes | None,
    option(NETWORK, "--hidden", "N,…", "The hidden layers only: 30, or 100,50.", "30", parser=read_sizes),
]
ActivationOption = Annotated[
    Names | None,
    option(
        NETWORK,
        "--activation",
        "NAME,…",
        "Of the hidden layers, one or one each: sigmoid, tanh, relu, leaky_relu, softplus, gelu, silu, identity.",
        "relu",
        parser=read_names,
    ),
]
OutputOption = Annotated[
    str | None,
    option(
        NETWORK,
        "--output",
        "NAME",
        "Activation of the output layer: softmax, or one of the above.",
        "softmax for labels, identity for numbers",
    ),
]
CostOption = Annotated[
    str | None,
    option(NETWORK, "--cost", "NAME", "log_likelihood, cross_entropy or quadratic.", "what suits the output"),
]
InitOption = Annotated[
    str | None,
    option(
        NETWORK,
        "--init",
        "NAME",
        "First weights: normal (the book's), scaled, glorot or he.",
        "scaled for sigmoid, else he",
    ),
]
EngineOption = Annotated[Engine, _engine]
DtypeOption = Annotated[Dtype, _dtype]

_epochs = option(TRAINING, "--epochs", "N", "Times to go through the data.", "30", callback=_at_least(1))
_batch_size = option(TRAINING, "--batch-size", "N", "Examples in a mini-batch.", "10", callback=_at_least(1))
_lmbda = option(TRAINING, "--lmbda", "X", "The book's L2 regularisation.", "0", callback=_at_least(0))
EpochsOption = Annotated[int, _epochs]
BatchSizeOption = Annotated[int, _batch_size]
EtaOption = Annotated[
    float | None, option(TRAINING, "--eta", "X", "The step size.", "what suits the network", callback=_above_0)
]
LmbdaOption = Annotated[float, _lmbda]
DensityOption = Annotated[
    float,
    option(TRAINING, "--density", "SHARE", "Of the inputs that are not zero (MNIST: 0.19).", "1", callback=_share(1.0)),
]
SeedOption = Annotated[
    int, option(TRAINING, "--seed", "N", "Of the first weights and the order.", "0", callback=_at_least(0))
]
JsonOption = Annotated[bool, flag(RESULT, "--json", "Print one JSON document and nothing else.")]
DebugOption = Annotated[
    bool, flag(RESULT, "--debug", "Show the traceback of an error.", callback=_remember_debug, is_eager=True)
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A file that fastbp train --save wrote.")]

# In a sweep, what is not given may vary.
VariedEngineOption = Annotated[Engine | None, _engine]
VariedDtypeOption = Annotated[Dtype | None, _dtype]
VariedEpochsOption = Annotated[int | None, _epochs]
VariedBatchSizeOption = Annotated[int | None, _batch_size]
VariedLmbdaOption = Annotated[float | None, _lmbda]


def plot_option(what: str) -> Any:
    return option(RESULT, "--plot", "FILE.png", f"Draw {what} (needs matplotlib).")


# --- Commands


@app.callback(
    epilog=examples(
        ("watch a network learn handwritten digits", "fastbp train"),
        ("learn the last column of a table, then label new rows", "fastbp train --data iris.csv --save iris.model"),
        (None, "fastbp predict iris.model --data new.csv"),
        ("all options of a command, with examples", "fastbp train --help"),
    )
)
def root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", metavar=" ", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train dense neural networks by backpropagation, fast, on a CPU."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), nl=False)
        raise typer.Exit(FAILED)


@app.command(
    cls=Command,
    epilog=examples(
        ("handwritten digits", "fastbp train"),
        (None, "fastbp train --hidden 100,50 --epochs 60 --save digits.model --plot digits.png"),
        ("a table, with labels or with numbers to learn", "fastbp train --data iris.csv --target species"),
        (None, "fastbp train --data houses.csv --target price --epochs 200"),
        ("MNIST, with the network of the book's chapter 1", "fastbp train --data mnist --download --dtype float32"),
        (None, "fastbp train --data mnist --sizes 784,30,10 --cost quadratic \\"),
        (None, "      --activation sigmoid --init normal --eta 3"),
        ("a long run that survives a crash", "fastbp train --data mnist --checkpoint run.checkpoint --every 60s"),
        (None, "fastbp train --data mnist --resume run.checkpoint"),
    ),
)
def train(
    data: DataOption = "digits",
    target: TargetOption = None,
    header: HeaderOption = Header.auto,
    task: TaskOption = Task.auto,
    validation: ValidationOption = None,
    scaling: ScalingOption = Scaling.auto,
    download: DownloadOption = False,
    sizes: Annotated[
        Sizes | None,
        option(
            NETWORK,
            "--sizes",
            "N,N,…",
            "All layers, the input first: 64,30,10.",
            "from the data and --hidden",
            parser=read_sizes,
        ),
    ] = None,
    hidden: HiddenOption = None,
    activation: ActivationOption = None,
    output: OutputOption = None,
    cost: CostOption = None,
    init: InitOption = None,
    engine: EngineOption = Engine.auto,
    dtype: DtypeOption = Dtype.float64,
    epochs: EpochsOption = 30,
    batch_size: BatchSizeOption = 10,
    eta: EtaOption = None,
    lmbda: LmbdaOption = 0.0,
    schedule: Annotated[
        ScheduleKind,
        option(TRAINING, "--schedule", "KIND", "Of the step size: cosine down to 0, or halved when stuck.", "constant"),
    ] = ScheduleKind.constant,
    patience: Annotated[
        int | None,
        option(
            TRAINING,
            "--patience",
            "N",
            "Stop after N epochs without a better score; keep the best.",
            "all epochs",
            callback=_at_least(1),
        ),
    ] = None,
    dropout: Annotated[
        float,
        option(TRAINING, "--dropout", "SHARE", "Of hidden units left out at each step.", "0", callback=_share(0.9)),
    ] = 0.0,
    seed: SeedOption = 0,
    save: Annotated[Path | None, option(RESULT, "--save", "FILE", "Keep the network in a file.")] = None,
    plot: Annotated[Path | None, plot_option("cost and score by epoch")] = None,
    checkpoint: Annotated[
        Path | None,
        option(RESULT, "--checkpoint", "FILE", "Keep all of the run in a file, now and then, for --resume."),
    ] = None,
    every: Annotated[
        Every | None,
        option(
            RESULT,
            "--every",
            "N",
            "How often: epochs (2), mini-batches (500batches), seconds (60s).",
            "1",
            parser=read_every,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        option(RESULT, "--resume", "FILE", "Go on from a checkpoint, to the same result as without the break."),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a network, and show how well it does on unseen rows.

    Brackets tell what happens without an option.
    """
    from fastbp import commands

    if sizes is not None and hidden is not None:
        raise typer.BadParameter("--sizes gives all layers, --hidden the hidden ones; drop one of them")
    if every is not None and checkpoint is None:
        raise typer.BadParameter("--every says how often to write the file of --checkpoint; give that too")
    commands.train(
        _data(data, target, header, download),
        commands.NetworkOptions(
            sizes=_values(sizes),
            hidden=_values(hidden),
            activation=_values(activation),
            output=output,
            cost=cost,
            init=init,
            engine=engine.value,
            dtype=dtype.value,
            seed=seed,
        ),
        commands.TrainOptions(
            lesson=commands.LessonOptions(task.value, validation, scaling.value),
            epochs=epochs,
            batch_size=batch_size,
            eta=eta,
            lmbda=lmbda,
            schedule=schedule.value,
            patience=patience,
            dropout=dropout,
            save=save,
            plot=plot,
            as_json=as_json,
            checkpoint=None if checkpoint is None else _checkpoint(checkpoint, every or Every()),
            resume=resume,
        ),
    )


def _checkpoint(path: Path, every: Every) -> "Checkpoint":
    from fastbp.checkpoint import Checkpoint

    if every.unit == "seconds":
        return Checkpoint(path, every_seconds=every.count)
    count = int(every.count)
    return Checkpoint(path, every_batches=count) if every.unit == "batches" else Checkpoint(path, every_epochs=count)


def _data(name: str, target: str | None, header: Header, download: bool) -> "commands.DataOptions":
    from fastbp import commands

    first_line = None if header is Header.auto else header is Header.yes
    return commands.DataOptions(name, target, first_line, download)


@app.command(
    cls=Command,
    epilog=examples(
        ("a run that keeps checkpoints, and one of its mini-batches", "fastbp train --checkpoint run.checkpoint"),
        (None, "fastbp replay run.checkpoint --batch 12"),
        ("with the data as train had them", "fastbp train --data iris.csv --checkpoint iris.checkpoint"),
        (None, "fastbp replay iris.checkpoint --batch 3 --data iris.csv"),
    ),
)
def replay(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A file that fastbp train --checkpoint wrote.")
    ],
    batch: Annotated[
        int, option(RESULT, "--batch", "K", "Which mini-batch of the epoch, from 1.", callback=_at_least(1))
    ],
    data: DataOption = "digits",
    target: TargetOption = None,
    header: HeaderOption = Header.auto,
    task: TaskOption = Task.auto,
    validation: ValidationOption = None,
    scaling: ScalingOption = Scaling.auto,
    download: DownloadOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show one mini-batch of the epoch a checkpoint is in: its rows, their costs, the gradient of each layer.

    Rows count from 0, among those that are trained on.
    """
    from fastbp import commands

    commands.replay(
        checkpoint,
        _data(data, target, header, download),
        commands.LessonOptions(task.value, validation, scaling.value),
        batch,
        as_json,
    )


@app.command(
    cls=Command,
    epilog=examples(
        ("on the digits held out", "fastbp evaluate digits.model"),
        ("on a table", "fastbp evaluate iris.model --data iris.csv --target species --validation 0.2"),
    ),
)
def evaluate(
    model: ModelArgument,
    data: DataOption = "digits",
    target: TargetOption = None,
    header: HeaderOption = Header.auto,
    validation: Annotated[
        float | None,
        option(
            DATA,
            "--validation",
            "SHARE",
            "Of a file: only the rows that train holds out.",
            "all rows",
            callback=_share(0.9),
        ),
    ] = None,
    download: DownloadOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Judge a saved network on rows whose labels or numbers are known."""
    from fastbp import commands

    commands.evaluate(model, _data(data, target, header, download), validation or None, as_json)


@app.command(
    cls=Command,
    epilog=examples(
        ("a label or a number for each row", "fastbp predict iris.model --data new.csv"),
        ("from a table that has the target too", "fastbp predict iris.model --data iris.csv --target species"),
        ("from a pipe", "head -5 new.csv | fastbp predict iris.model --data -"),
    ),
)
def predict(
    model: ModelArgument,
    data: Annotated[
        str, option(DATA, "--data", "DATA", "Raw rows: a .csv or .npz file, - for CSV from a pipe, digits or mnist.")
    ],
    target: Annotated[
        str | None, option(DATA, "--target", "COLUMN", "CSV: a column to leave out, by name, or by number from 0.")
    ] = None,
    header: HeaderOption = Header.auto,
    download: DownloadOption = False,
    output: Annotated[
        Path | None, option(RESULT, "--output", "FILE", "Write there instead of the standard output.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a saved network's label or number for each row."""
    from fastbp import commands

    commands.predict(model, _data(data, target, header, download), output, as_json)


@app.command(
    cls=Command,
    epilog=examples(
        ("a small network, and a larger one", "fastbp plan 784,30,10"),
        (None, "fastbp plan 784,512,512,10 --batch-size 250 --dtype float32"),
        ("inputs that are mostly zero, as MNIST's", "fastbp plan 784,30,10 --density 0.19"),
    ),
)
def plan(
    sizes: Annotated[
        Sizes, typer.Argument(parser=read_sizes, metavar="SIZES", help="All layers, the input first: 784,30,10.")
    ],
    activation: ActivationOption = None,
    output: OutputOption = None,
    cost: CostOption = None,
    engine: EngineOption = Engine.auto,
    dtype: DtypeOption = Dtype.float64,
    batch_size: BatchSizeOption = 10,
    density: DensityOption = 1.0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell which engine would run a network, and why."""
    from fastbp import commands

    shape = commands.NetworkOptions(
        sizes=sizes.values,
        activation=_values(activation),
        output=output,
        cost=cost,
        engine=engine.value,
        dtype=dtype.value,
    )
    commands.show_plan(shape, batch_size, density, as_json)


@app.command(
    cls=Command,
    epilog=examples(
        ("which step size, on handwritten digits", "fastbp sweep --grid eta=0.02,0.05,0.1 --seeds 5 --epochs 5"),
        ("networks of one and of two hidden layers, with and without regularisation", "fastbp sweep \\"),
        (None, "      --grid hidden=30,30-20 --grid lmbda=0,1 --seeds 3 --epochs 5 --output results.jsonl"),
        ("go on with a sweep that was broken off", "fastbp sweep \\"),
        (None, "      --grid hidden=30,30-20 --grid lmbda=0,1 --seeds 3 --epochs 5 --output results.jsonl --resume"),
        ("MNIST", "fastbp sweep --grid eta=0.1,0.3,1 --seeds 5 --data mnist --dtype float32"),
    ),
)
def sweep(
    grid: Annotated[
        list[str],
        option(
            TRAINING,
            "--grid",
            "NAME=A,B,…",
            "What to vary: eta, lmbda, hidden (30,100-50), activation, output, cost, init, optimizer, batch-size, "
            "epochs, dtype, engine, or any argument of fit. Once for each name; every combination is trained.",
        ),
    ],
    seeds: Annotated[
        int, option(TRAINING, "--seeds", "N", "Networks of each combination.", "3", callback=_at_least(1))
    ] = 3,
    data: DataOption = "digits",
    target: TargetOption = None,
    header: HeaderOption = Header.auto,
    task: TaskOption = Task.auto,
    validation: ValidationOption = None,
    scaling: ScalingOption = Scaling.auto,
    download: DownloadOption = False,
    hidden: HiddenOption = None,
    activation: ActivationOption = None,
    cost: CostOption = None,
    init: InitOption = None,
    engine: VariedEngineOption = None,
    dtype: VariedDtypeOption = None,
    epochs: VariedEpochsOption = None,
    batch_size: VariedBatchSizeOption = None,
    eta: EtaOption = None,
    lmbda: VariedLmbdaOption = None,
    workers: Annotated[
        int | None, option(TRAINING, "--workers", "N", "Networks at a time.", "one a core", callback=_at_least(1))
    ] = None,
    output: Annotated[
        Path | None,
        option(RESULT, "--output", "FILE.jsonl", "Keep each network's result, a line of JSON, as soon as it is done."),
    ] = None,
    resume: Annotated[bool, flag(RESULT, "--resume", "Go on with the sweep in --output, if it is there.")] = False,
    plot: Annotated[Path | None, plot_option("the scores by setting")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train many networks on all cores, and compare them: the mean of some seeds, and its standard error.

    What is neither varied nor given is as `fastbp train` chooses it.
    """
    from fastbp import commands, sweepcommand

    given = {
        "hidden": _values(hidden),
        "activation": _values(activation),
        "cost": cost,
        "init": init,
        "engine": None if engine is None else engine.value,
        "dtype": None if dtype is None else dtype.value,
        "epochs": epochs,
        "batch-size": batch_size,
        "eta": eta,
        "lmbda": lmbda,
    }
    sweepcommand.sweep(
        _data(data, target, header, download),
        sweepcommand.SweepOptions(
            grid=grid,
            seeds=seeds,
            settings={name: value for name, value in given.items() if value is not None},
            lesson=commands.LessonOptions(task.value, validation, scaling.value),
            workers=workers,
            output=output,
            resume=resume,
            plot=plot,
            as_json=as_json,
        ),
    )


@app.command(
    cls=Command,
    epilog=examples(
        ("a network of the size of the book's first", "fastbp bench"),
        ("one of your own, with a picture", "fastbp bench --sizes 20,64,3 --batch-size 32 --plot bench.png"),
        ("inputs that are mostly zero, as MNIST's", "fastbp bench --density 0.19 --dtype float32"),
    ),
)
def bench(
    sizes: Annotated[
        Sizes,
        option(NETWORK, "--sizes", "N,N,…", "All layers, the input first: 784,30,10.", "784,30,10", parser=read_sizes),
    ] = "784,30,10",  # type: ignore[assignment]  # typer has the parser read it
    activation: ActivationOption = None,
    output: OutputOption = None,
    cost: CostOption = None,
    dtype: DtypeOption = Dtype.float64,
    batch_size: BatchSizeOption = 10,
    density: DensityOption = 1.0,
    threads: Annotated[
        int | None,
        option(TRAINING, "--threads", "N", "The most that an engine may use.", "all cores", callback=_at_least(1)),
    ] = None,
    samples: Annotated[
        int, option(TRAINING, "--samples", "N", "Of each figure; the median is shown.", "7", callback=_at_least(1))
    ] = 7,
    as_json: Annotated[
        Path | None,
        option(RESULT, "--json", "FILE", "Keep all figures in a file; - prints them, and nothing else."),
    ] = None,
    plot: Annotated[Path | None, plot_option("the times and the roofline")] = None,
    debug: DebugOption = False,
) -> None:
    """Time a network in each engine, and this machine's arithmetic and memory, in some ten seconds.

    The examples are synthetic; nothing is trained that you could use.
    """
    from fastbp import commands

    shape = commands.NetworkOptions(
        sizes=sizes.values,
        activation=_values(activation),
        output=output,
        cost=cost,
        dtype=dtype.value,
    )
    commands.show_bench(shape, commands.BenchOptions(batch_size, density, threads, samples, as_json, plot))


@app.command(
    cls=Command,
    epilog=examples(
        ("your own network.py or network2.py, on the digits", "fastbp verify network.py"),
        ("on MNIST, from other random numbers", "fastbp verify network.py --data mnist --seed 1"),
    ),
)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Python file with your class Network. It is run.")],
    data: Annotated[str, option(DATA, "--data", "DATA", "digits (built in) or mnist.", "digits")] = "digits",
    download: DownloadOption = False,
    hidden: Annotated[
        Sizes | None,
        option(NETWORK, "--hidden", "N,…", "The hidden layers: 30, or 100,50.", "30,20", parser=read_sizes),
    ] = None,
    epochs: Annotated[
        int, option(TRAINING, "--epochs", "N", "Times to go through the data.", "3", callback=_at_least(1))
    ] = 3,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run your own copy of the book's class beside ours: where they part, by how much, and how fast.

    FILE is run as a program of yours. The exit code is 1 if the two part.
    """
    from fastbp import commands

    sizes = [30, 20] if hidden is None else hidden.values
    if not commands.verify_file(file, data, sizes, epochs, seed, download, as_json):
        raise typer.Exit(DIFFERENT)


@app.command(cls=Command, epilog=examples((None, "fastbp info"), (None, "fastbp info --json")))
def info(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Print what a bug report needs: versions, processor, threads."""
    from fastbp import commands

    commands.show_info(as_json)


def main() -> None:
    """The entry point of the command line."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # bars and pictures where the encoding has no such signs
    try:
        app(prog_name="fastbp")
    except KeyboardInterrupt:  # before a command had begun
        sys.exit(INTERRUPTED)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line, without the place in the source."""
    typer.echo(f"fastbp: note: {' '.join(str(message).split())}", err=True)
