"""The command `fastbp` as its users meet it: options, reports, files, errors and exit codes."""

import importlib.util
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs_blocks import broken_links
from numba.core.config import DISABLE_JIT
from typer.testing import CliRunner

import fastbp
from fastbp import bench, cli, commands, datasets, lessons, reports, sources
from fastbp.activations import ACTIVATIONS
from fastbp.architecture import DTYPES
from fastbp.costs import COSTS
from fastbp.engines import NAMES
from fastbp.initializers import SCALES

ROOT = Path(__file__).parent.parent
COMMANDS = ("train", "replay", "evaluate", "predict", "plan", "sweep", "bench", "verify", "info")
KINDS = ("setosa", "versicolor", "virginica")
# Small enough for the plain engine, which needs no compiler.
QUICK = ("--engine", "reference", "--epochs", "3")


def run(*arguments: Any, input: str | None = None) -> Any:
    """The result of a command that must succeed."""
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), input=input)
    assert result.exit_code == 0, result.output
    return result


def run_json(*arguments: Any, input: str | None = None) -> Any:
    return json.loads(run(*arguments, "--json", input=input).stdout, parse_constant=pytest.fail)


def fail(*arguments: Any, input: str | None = None) -> str:
    """The one line that a refused command leaves on the standard error, without its "fastbp: "."""
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), input=input)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("fastbp: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("fastbp: ").rstrip("\n")


def usage_error(*arguments: Any) -> str:
    """The one line that is said of a command line that is none."""
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), prog_name="fastbp")
    assert result.exit_code == 2 and not result.stdout, result.output
    assert result.stderr.startswith("fastbp") and result.stderr.count("\n") == 1
    assert result.stderr.endswith(" --help shows what there is)\n")
    return result.stderr


# --- Files


def write_rows(path: Path, rows: Any, header: str | None = None) -> Path:
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(([header] if header else []) + lines) + "\n", encoding="utf-8")
    return path


def flowers() -> tuple[np.ndarray, np.ndarray]:
    """60 flowers of 3 kinds that a small network tells apart, 4 features in very different units."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 20)
    X = rng.normal(size=(60, 4)) * 0.3 + np.array([[0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 1]])[y]
    return np.round(X * [1, 10, 100, 1000] + [0, 5, -300, 0], 3), y


def houses(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Prices that are nearly a linear function of 3 features."""
    rng = np.random.default_rng(1)
    X = np.round(rng.uniform(size=(n, 3)) * [200, 6, 90] + [40, 1, 0], 1)
    return X, np.round(2500 * X[:, 0] + 9000 * X[:, 1] - 900 * X[:, 2] + 5000 * rng.normal(size=n), 2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files of the help pages and of docs/cli.md."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    X, y = flowers()
    names = "sepal_length,sepal_width,petal_length,petal_width"
    write_rows(tmp_path / "iris.csv", [[*x, KINDS[k]] for x, k in zip(X, y, strict=True)], f"{names},species")
    write_rows(tmp_path / "new.csv", X[::10], names)
    X, price = houses()
    write_rows(tmp_path / "houses.csv", np.column_stack([X, price]), "area,rooms,age,price")
    shutil.copy(Path(__file__).parent / "naive_book.py", tmp_path / "network.py")
    digits = datasets.load_digits()
    np.savez(
        tmp_path / "digits.npz",
        x_train=np.uint8(16 * digits.X_train[:300]).reshape(-1, 8, 8),
        y_train=digits.y_train[:300],
        x_test=np.uint8(16 * digits.X_test[:100]).reshape(-1, 8, 8),
        y_test=digits.y_test[:100],
    )
    return tmp_path


@pytest.fixture
def iris_model(folder: Path) -> Path:
    run("train", "--data", "iris.csv", "--save", "iris.model", "--engine", "reference", "--epochs", 20)
    return folder / "iris.model"


# --- Help


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_help_page_has_examples(command: tuple[str, ...]) -> None:
    page = run(*command, "--help").stdout
    assert "Usage: fastbp" in page or "Usage: root" in page
    assert re.search(r"^ Examples:\n\n(   .+\n)+", page, re.MULTILINE)
    assert run(*command, "-h").stdout == page


def test_without_a_command_the_help_page_is_shown() -> None:
    result = CliRunner().invoke(cli.app, [])
    assert "Commands" in result.output and "Examples:" in result.output and result.exit_code == 2


def test_help_needs_neither_numpy_nor_numba_nor_scipy() -> None:
    program = (
        "import sys; sys.argv[1:] = ['train', '--help']\n"
        "from fastbp.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in ('numpy', 'numba', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_what_the_tables_hold() -> None:
    page = " ".join(re.sub("[│─]", " ", run("train", "--help").stdout).split())
    hidden = ", ".join(name for name in ACTIVATIONS if name != "softmax")
    assert f"one each: {hidden}." in page
    assert set(re.search(r"--cost NAME (.*?)\. \[", page)[1].replace(" or ", ", ").split(", ")) == set(COSTS)
    init = re.search(r"First weights: (.*?)\. \[", page)[1].replace(" (the book's)", "")
    assert init.replace(" or ", ", ").split(", ") == list(SCALES)
    assert [engine.value for engine in cli.Engine] == ["auto", *NAMES]
    assert sorted(dtype.value for dtype in cli.Dtype) == sorted(DTYPES)


def example_lines() -> list[str]:
    """The command lines of all help pages and of the docs, each once, in an order in which files come to be."""
    pages = [run(*command, "--help").stdout for command in ((), *((name,) for name in COMMANDS))]
    docs = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("cli.md", "checkpoints.md")]
    text = "\n".join([*pages, *docs])
    lines = re.findall(r"^(?:   |\$ )(.*fastbp .+)$", text.replace("\\\n", " "), re.MULTILINE)
    assert len(lines) > 25
    return [*sorted(dict.fromkeys(lines), key=lambda line: "train" not in line)]


@pytest.mark.skipif(DISABLE_JIT, reason="too slow without compiled kernels")
def test_examples_of_the_help_and_of_the_documentation_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_SAMPLE", 50)  # the training cost of the plots is no matter here
    for name, value in {"SAMPLE_SECONDS": 1e-4, "_SQUARE": 16, "_SWEEP_BYTES": 4096, "_MOST_EXAMPLES": 50}.items():
        monkeypatch.setattr(bench, name, value)  # nor are the figures of a benchmark
    for line in example_lines():
        before, _, after = line.partition("fastbp ")
        arguments = shlex.split(after)
        if "mnist" in arguments:  # has a test of its own
            continue
        text = "".join((folder / "new.csv").read_text().splitlines(keepends=True)[:5]) if before else None
        assert before in ("", "head -5 new.csv | ")
        run(*arguments, input=text)


def test_links_of_the_page() -> None:
    assert not broken_links(ROOT / "docs" / "cli.md")


def test_version() -> None:
    assert run("--version").stdout == f"fastbp {fastbp.__version__}\n"


# --- Train


@pytest.mark.skipif(DISABLE_JIT, reason="too slow without compiled kernels")
def test_train_without_options_reads_95_percent_of_unseen_digits() -> None:
    first, second = run("train"), run("train")
    assert not first.stderr
    lines = first.stdout.splitlines()
    assert lines[0] == "digits: 1,442 rows to train on, 355 held out; 64 features, 10 labels"
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 30
    assert re.fullmatch(r"epoch  1/30  cost +[\d.]+  accuracy +[\d.]+ %", epochs[0])
    scores = [float(line.split()[-2]) for line in epochs]
    assert scores[0] < 90 < 95 <= scores[-1]
    assert f"{scores[-1]:.2f} % of the 355 held-out rows right" in first.stdout
    # the same command, the same network
    assert epochs == [line for line in second.stdout.splitlines() if line.startswith("epoch ")]


@pytest.mark.skipif(DISABLE_JIT, reason="too slow without compiled kernels")
@pytest.mark.parametrize("seed", range(1, 6))
def test_other_seeds_read_95_percent_too(seed: int) -> None:
    assert run_json("train", "--seed", seed)["result"]["score"] >= 0.95


def test_json_is_one_document_that_tells_all(folder: Path) -> None:
    facts = run_json("train", "--data", "iris.csv", *QUICK, "--save", "iris.model", "--plot", "iris.png", "--seed", 7)
    assert facts["classes"] == list(KINDS) and facts["task"] == "classify" and not facts["task_is_a_guess"]
    assert (facts["training_examples"], facts["validation_examples"]) == (48, 12)
    assert facts["sizes"] == [4, 30, 3] and facts["hidden"] == ["relu"]
    assert (facts["output"], facts["cost"], facts["dtype"]) == ("softmax", "log_likelihood", "float64")
    assert (facts["epochs"], facts["batch_size"], facts["seed"], facts["lmbda"]) == (3, 10, 7, 0.0)
    assert (facts["engine"], facts["saved"], facts["plot"]) == ("reference", "iris.model", "iris.png")
    assert [record["epoch"] for record in facts["history"]] == [1, 2, 3]
    last = facts["history"][-1]
    assert facts["result"]["score"] == last["validation_score"] == facts["result"]["correct"] / 12
    assert facts["result"]["cost"] == pytest.approx(last["validation_cost"])
    assert {"training_cost", "training_score", "seconds", "examples_per_second"} <= set(last)


def test_options_reach_the_network(folder: Path) -> None:
    facts = run_json(
        "train", "--data", "iris.csv", "--sizes", "4,8,6,3", "--activation", "tanh,sigmoid", "--output", "sigmoid",
        "--cost", "quadratic", "--init", "normal", "--epochs", 2, "--batch-size", 7, "--eta", 1.5, "--lmbda", 0.1,
        "--engine", "reference", "--dtype", "float32", "--seed", 5, "--save", "a.model",
    )  # fmt: skip
    assert facts["sizes"] == [4, 8, 6, 3] and facts["hidden"] == ["tanh", "sigmoid"] and facts["eta"] == 1.5
    # by hand, with the library
    rows = sources.read("iris.csv")
    classes = lessons.labels_of(rows, "auto")
    net = fastbp.Network(
        [4, 8, 6, 3], hidden=["tanh", "sigmoid"], dtype="float32", engine="reference", seed=5, initializer="normal"
    )
    lesson = lessons.prepare(rows, classes, net, None, "auto")
    history = net.fit(lesson.X, lesson.y, epochs=2, batch_size=7, eta=1.5, lmbda=0.1, validation_data=lesson.held_out)
    assert [record["validation_cost"] for record in facts["history"]] == history["validation_cost"]
    loaded = fastbp.load("a.model")
    assert loaded.dtype == np.float32 and loaded.engine == "reference"
    np.testing.assert_array_equal(loaded.weights[1], net.weights[1])


@pytest.mark.parametrize(
    ("given", "output", "cost"),
    [
        ((), "softmax", "log_likelihood"),
        (("--output", "sigmoid"), "sigmoid", "cross_entropy"),
        (("--output", "tanh"), "tanh", "quadratic"),
        (("--cost", "quadratic"), "sigmoid", "quadratic"),
        (("--cost", "cross_entropy"), "sigmoid", "cross_entropy"),
        (("--cost", "log_likelihood"), "softmax", "log_likelihood"),
    ],
)
def test_output_and_cost_go_together(folder: Path, given: tuple[str, ...], output: str, cost: str) -> None:
    facts = run_json("train", "--data", "iris.csv", *QUICK, *given)
    assert (facts["output"], facts["cost"]) == (output, cost)


@pytest.mark.parametrize(
    ("given", "eta"),
    [
        (("iris.csv",), 0.05),
        (("iris.csv", "--activation", "sigmoid"), 0.5),
        (("iris.csv", "--activation", "sigmoid", "--cost", "quadratic"), 3.0),
        (("iris.csv", "--cost", "quadratic"), 0.5),
        (("houses.csv",), 0.02),
        (("houses.csv", "--activation", "sigmoid"), 0.1),
    ],
)
def test_step_sizes_learn(folder: Path, given: tuple[str, ...], eta: float) -> None:
    facts = run_json("train", "--data", *given, "--engine", "reference", "--epochs", 15)
    assert facts["eta"] == eta
    assert facts["result"]["score"] > 0.8


def test_hidden_and_sizes_without_hidden_layers(folder: Path) -> None:
    assert run_json("train", "--data", "iris.csv", *QUICK, "--hidden", "8,6")["sizes"] == [4, 8, 6, 3]
    assert run_json("train", "--data", "iris.csv", *QUICK, "--sizes", "4,3")["sizes"] == [4, 3]
    assert (
        "network 4-3: softmax, log likelihood cost;"
        in run("train", "--data", "iris.csv", *QUICK, "--sizes", "4,3").stdout
    )


def test_one_output_for_two_labels(folder: Path) -> None:
    X, y = flowers()
    write_rows(folder / "two.csv", [[*x, "yes" if k else "no"] for x, k in zip(X, y, strict=True)])
    arguments = ("--data", "two.csv", "--engine", "reference", "--epochs", 15)
    facts = run_json("train", *arguments, "--sizes", "4,8,1", "--save", "two.model")
    assert (facts["output"], facts["cost"], facts["classes"]) == ("sigmoid", "cross_entropy", ["no", "yes"])
    assert facts["result"]["score"] > 0.9
    assert run_json("evaluate", "two.model", "--data", "two.csv")["score"] > 0.9
    assert run_json("train", *arguments)["sizes"] == [4, 30, 2]
    assert "end --sizes with 2" in fail("train", *arguments, "--sizes", "4,8,1", "--output", "tanh")


def test_training_on_all_rows(folder: Path) -> None:
    result = run("train", "--data", "iris.csv", *QUICK, "--validation", 0)
    assert "60 rows to train on, 0 held out" in result.stdout
    assert re.search(r"epoch 3/3  cost +[\d.]+  accuracy +[\d.]+ % on the training data\n", result.stdout)
    assert "of the 60 training rows right" in result.stdout


def test_npz_with_a_held_out_part_of_its_own(folder: Path) -> None:
    arguments = ("--data", "digits.npz", "--engine", "reference", "--epochs", 15)
    facts = run_json("train", *arguments, "--save", "digits.model")
    assert (facts["training_examples"], facts["validation_examples"]) == (300, 100)
    assert facts["result"]["score"] > 0.8
    assert fastbp.load("digits.model").input_scaling == ("affine", 0.0, 1 / 16)  # bytes are pixels
    found = run_json("evaluate", "digits.model", "--data", "digits.npz")
    assert (found["examples"], found["score"]) == (100, facts["result"]["score"])
    predictions = run_json("predict", "digits.model", "--data", "digits.npz")["predictions"]
    assert np.mean(predictions == datasets.load_digits().y_test[:100]) == found["score"]
    assert "drop --validation" in fail("train", *arguments, "--validation", 0.3)
    assert "drop --validation" in fail("evaluate", "digits.model", "--data", "digits.npz", "--validation", 0.3)


def test_npz_of_numbers_in_two_columns(folder: Path) -> None:
    X, price = houses()
    np.savez(folder / "two.npz", X=X, y=np.column_stack([price, -0.01 * price + 5]))
    facts = run_json("train", "--data", "two.npz", "--engine", "reference", "--epochs", 30, "--save", "two.model")
    assert facts["task"] == "regress" and facts["sizes"] == [3, 30, 2]
    assert facts["result"]["score"] > 0.95
    assert facts["result"]["rms_error"][0] == pytest.approx(100 * facts["result"]["rms_error"][1], rel=0.5)
    line = run("predict", "two.model", "--data", "two.npz").stdout.splitlines()[0]
    assert [float(number) for number in line.split(",")] == pytest.approx([price[0], -0.01 * price[0] + 5], rel=0.2)


def test_one_hot_rows_and_bools_are_labels(folder: Path) -> None:
    X, y = flowers()
    np.savez(folder / "hot.npz", X=X, y=np.eye(3)[y])
    np.savez(folder / "bool.npz", X=X, y=(y == 1)[:, np.newaxis])
    assert run_json("train", "--data", "hot.npz", *QUICK)["classes"] == [0, 1, 2]
    assert run_json("train", "--data", "bool.npz", *QUICK)["classes"] == [0, 1]


def test_scaling(folder: Path) -> None:
    X, _ = flowers()
    learn, _ = lessons.hold_out(sources.read("iris.csv"), 0.2, True)
    run("train", "--data", "iris.csv", *QUICK, "--save", "a.model")
    _, shift, scale = fastbp.load("a.model").input_scaling
    np.testing.assert_allclose(shift, X[learn].mean(axis=0))
    np.testing.assert_allclose(scale, 1 / X[learn].std(axis=0))
    run("train", "--data", "iris.csv", *QUICK, "--save", "a.model", "--scaling", "none", "--eta", 1e-9)
    assert fastbp.load("a.model").input_scaling is None
    run("train", "--data", "digits.npz", *QUICK, "--save", "a.model", "--scaling", "standard")
    assert fastbp.load("a.model").input_scaling[1].shape == (64,)  # some pixels are 0 in every image: scaled by 1
    assert run_json("evaluate", "a.model", "--data", "digits.npz")["score"] > 0.5


def test_a_network_of_numbers_speaks_their_unit(folder: Path) -> None:
    facts = run_json("train", "--data", "houses.csv", "--engine", "reference", "--epochs", 40, "--save", "h.model")
    assert facts["task"] == "regress" and facts["classes"] is None and facts["result"]["score"] > 0.95
    X, price = houses()
    net = fastbp.load("h.model")
    _, shift, scale = net.input_scaling
    held = np.arange(4, 120, 5)
    error = net.predict((X[held] - shift) * scale) - price[held]
    assert facts["result"]["rms_error"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert net.score((X[held] - shift) * scale, price[held]) == pytest.approx(facts["result"]["score"])
    found = run_json("evaluate", "h.model", "--data", "houses.csv", "--validation", 0.2)
    assert found["score"] == pytest.approx(facts["result"]["score"]) and found["examples"] == 24
    text = run("evaluate", "h.model", "--data", "houses.csv").stdout
    assert re.fullmatch(r"h.model on houses.csv: R² 0\.9\d+ on the 120 rows; typical error .* [\d,]+\n", text)


def test_whole_numbers_are_labels_if_few_and_the_user_hears_of_it(folder: Path) -> None:
    X, y = flowers()
    few = write_rows(folder / "few.csv", np.column_stack([X, 3 * y + 2]).astype(object) * np.array([1, 1, 1, 1, 1]))
    few.write_text(few.read_text().replace(".0\n", "\n"))
    result = run("train", "--data", few, *QUICK, "--save", "few.model")
    assert "'4' holds whole numbers, taken for labels (--task regress for quantities)" in result.stdout
    assert set(run("predict", "few.model", "--data", few, "--target", 4).stdout.split()) <= {"2", "5", "8"}
    assert run_json("evaluate", "few.model", "--data", few)["classes"] == [2, 5, 8]
    assert run_json("train", "--data", few, *QUICK, "--task", "regress")["task"] == "regress"
    many = write_rows(folder / "many.csv", [[*x, i] for i, x in enumerate(X)])
    assert "taken for quantities (--task classify for labels)" in run("train", "--data", many, *QUICK).stdout
    real = write_rows(folder / "real.csv", [[*x, f"{k}.0"] for x, k in zip(X, y, strict=True)])
    assert run_json("train", "--data", real, *QUICK)["task"] == "regress"
    assert run_json("train", "--data", real, *QUICK, "--task", "classify")["classes"] == [0, 1, 2]


def test_header_and_target_options(folder: Path) -> None:
    X, y = flowers()
    plain = write_rows(folder / "plain.csv", [[KINDS[k], *x] for x, k in zip(X, y, strict=True)])
    assert run_json("train", "--data", plain, "--target", 0, *QUICK)["training_examples"] == 48
    years = write_rows(folder / "years.csv", np.column_stack([X, y]), "1999,2000,2001,2002,2003")
    assert run_json("train", "--data", years, *QUICK, "--task", "classify", "--header", "yes")["target"] == "2003"
    assert run_json("train", "--data", years, *QUICK, "--header", "no")["target"] == "4"


def test_the_held_out_part_is_every_fifth_of_each_label() -> None:
    digits = datasets.load_digits()
    X, y = np.zeros((1797, 1)), np.concatenate([digits.y_train, digits.y_test])
    learn, held = lessons.hold_out(sources.Rows("d", X, y, "y"), 0.2, by_label=True)
    expected = [i for label in range(10) for i in np.flatnonzero(y == label)[4::5]]
    assert sorted(expected) == held.tolist()
    assert sorted([*learn, *held]) == list(range(1797))
    learn, held = lessons.hold_out(sources.Rows("d", X, y, "y"), 0.25, by_label=False)
    assert held[:3].tolist() == [3, 7, 11]
    learn, held = lessons.hold_out(sources.Rows("d", X, y, "y"), 0.0, by_label=True)
    assert not len(held) and len(learn) == 1797


def test_mnist(fake_mnist: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_DATA", str(fake_mnist))
    (X, y), (X_test, y_test) = datasets.read_mnist()
    some = ((X[:500], y[:500]), (X_test[:200], y_test[:200]))  # of the real size it would take a while
    monkeypatch.setattr(datasets, "read_mnist", lambda download: some)
    facts = run_json("train", "--data", "mnist", "--epochs", 1, "--engine", "reference", "--save", "m")
    assert (facts["sizes"], facts["training_examples"], facts["validation_examples"]) == ([784, 30, 10], 500, 200)
    assert fastbp.load("m").input_scaling == ("affine", 0.0, 1 / 255)
    assert run_json("evaluate", "m", "--data", "mnist")["score"] == facts["result"]["score"]
    assert run("predict", "m", "--data", "mnist").stdout.count("\n") == 200


def test_download_reaches_the_reader(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read_mnist(download: bool) -> None:
        asked.append(download)
        raise OSError("no network here")

    monkeypatch.setattr(datasets, "read_mnist", read_mnist)
    assert fail("train", "--data", "mnist", "--download") == "no network here"
    assert asked == [True]


# --- Evaluate, predict, plan, info


def test_train_evaluate_predict_digits_round_trip(folder: Path) -> None:
    arguments = ("--engine", "reference", "--epochs", 2, "--save", "digits.model")
    trained = run_json("train", *arguments)["result"]
    found = run_json("evaluate", "digits.model")
    assert {key: found[key] for key in ("score", "cost", "correct", "examples")} == {
        key: trained[key] for key in ("score", "cost", "correct", "examples")
    }
    confusion = np.array(found["confusion"])
    assert confusion.sum() == 355 and np.trace(confusion) == trained["correct"]
    predictions = [int(line) for line in run("predict", "digits.model", "--data", "digits").stdout.split()]
    assert np.sum(predictions == datasets.load_digits().y_test) == trained["correct"]


def test_evaluate_shows_what_is_taken_for_what(iris_model: Path) -> None:
    lines = run("evaluate", iris_model, "--data", "iris.csv").stdout.splitlines()
    assert re.fullmatch(r".*iris.model on iris.csv: [\d.]+ % of the 60 rows right \(\d+\)", lines[0])
    assert re.fullmatch(r"cost [\d.]+", lines[1])
    assert lines[3].split() == ["label", "rows", "right", "accuracy", "most", "often", "taken", "for"]
    assert [line.split()[:2] for line in lines[4:7]] == [[kind, "20"] for kind in KINDS]
    found = run_json("evaluate", iris_model, "--data", "iris.csv", "--validation", 0.2)
    assert found["examples"] == 12 and found["classes"] == list(KINDS)


def test_evaluate_cuts_a_long_table(capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.arange(40)
    confusion = np.eye(40, dtype=np.int64)
    confusion[3] = 0
    facts = {"examples": 39, "score": 1.0, "correct": 39, "cost": 0.1, "classes": labels, "confusion": confusion}
    reports.evaluation({"model": "m", "data": "d"} | facts)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "and 10 more; --json has all" and lines[7].split() == ["3", "0", "0"]


def test_predict_writes_labels_of_raw_rows(iris_model: Path, folder: Path) -> None:
    expected = "".join(f"{kind}\n" for kind in np.repeat(KINDS, 2))
    assert run("predict", iris_model, "--data", "new.csv").stdout == expected
    assert run("predict", iris_model, "--data", "-", input=(folder / "new.csv").read_text()).stdout == expected
    assert run("predict", iris_model, "--data", "iris.csv", "--target", "species").stdout.count("\n") == 60
    assert run("predict", iris_model, "--data", "new.csv", "--output", "out.txt").stdout == ""
    assert (folder / "out.txt").read_text() == expected
    np.savez(folder / "new.npz", X=flowers()[0][::10])
    assert run("predict", iris_model, "--data", "new.npz").stdout == expected
    facts = run_json("predict", iris_model, "--data", "new.csv")
    assert facts["predictions"] == expected.split() and facts["classes"] == list(KINDS)
    np.testing.assert_allclose(np.sum(facts["outputs"], axis=1), 1)


def test_a_label_with_a_comma_is_quoted(folder: Path) -> None:
    X, y = flowers()
    names = ['"red, ""large"""', "Grün", "plain"]
    write_rows(folder / "odd.csv", [[*x, names[k]] for x, k in zip(X, y, strict=True)])
    run("train", "--data", "odd.csv", "--engine", "reference", "--epochs", 15, "--save", "odd.model")
    lines = run("predict", "odd.model", "--data", "odd.csv", "--target", 4, "--output", "out.csv")
    assert not lines.stdout
    assert set((folder / "out.csv").read_text(encoding="utf-8").splitlines()) == set(names)
    assert run_json("evaluate", "odd.model", "--data", "odd.csv")["score"] > 0.9


def test_float32_predictions_are_as_short_as_they_are(folder: Path) -> None:
    run("train", "--data", "houses.csv", *QUICK, "--dtype", "float32", "--save", "h.model")
    line = run("predict", "h.model", "--data", "houses.csv", "--target", "price").stdout.splitlines()[0]
    assert len(line) <= 10


def test_a_model_without_a_scaling_gets_digits_as_load_digits_gives_them(folder: Path) -> None:
    digits = datasets.load_digits()
    net = fastbp.Network([64, 10], seed=0, engine="reference")
    net.fit(digits.X_train, digits.y_train, epochs=1, eta=1.0)
    net.save("plain.model")
    assert run_json("evaluate", "plain.model")["score"] == net.score(digits.X_test, digits.y_test)


def test_plan() -> None:
    printed = run("plan", "784,30,10", "--density", 0.19, "--dtype", "float32").stdout
    net = fastbp.Network([784, 30, 10], hidden="relu", output="softmax", cost="log_likelihood", dtype="float32")
    assert printed == f"{fastbp.plan(net, batch_size=10, density=0.19)}\n"
    facts = run_json("plan", "784,30,10", "--batch-size", 3, "--engine", "matrix", "--activation", "tanh")
    assert facts["engine"] == "matrix" and facts["batch_size"] == 3 and facts["hidden"] == ["tanh"]
    assert facts["output"] == "softmax" and set(facts["seconds"]) == set(NAMES)
    assert run_json("plan", "4,1", "--output", "identity")["cost"] == "quadratic"


def test_info_has_what_a_bug_report_needs() -> None:
    facts = run_json("info")
    assert facts["fastbp"] == fastbp.__version__ and facts["packages"]["numpy"] == np.__version__
    assert {"python", "system", "cpu", "cores", "blas", "numba_threads", "environment"} <= set(facts)
    assert facts["blas"] and {"num_threads", "version"} <= set(facts["blas"][0])
    if not DISABLE_JIT:
        assert Path(facts["numba_cache"]).is_absolute()
    text = run("info").stdout
    for name in ("numba", "llvmlite", "scipy", "cpu", "numba cache", "FASTBP_DATA"):
        assert re.search(rf"^{name} +\S", text, re.MULTILINE)


# --- Schedules, early stopping, dropout


def test_patience_stops_and_keeps_the_best(folder: Path) -> None:
    options = ["train", "--data", "iris.csv", "--epochs", 60, "--eta", 1e-9, "--patience", 3]
    lines = run(*options).stdout.splitlines()
    assert "ended by early stopping; the network is that of epoch 1" in lines
    assert any(line.startswith("4 epochs in ") for line in lines)
    facts = run_json(*options)
    assert (facts["ended"], facts["best_epoch"], len(facts["history"])) == ("early stopping", 1, 4)
    assert facts["result"]["score"] == facts["history"][0]["validation_score"]


def test_schedules_of_the_step_size(folder: Path) -> None:
    etas = {
        kind: [
            record["eta"]
            for record in run_json("train", "--data", "iris.csv", "--epochs", 4, "--eta", 0.2, "--schedule", kind)[
                "history"
            ]
        ]
        for kind in ("constant", "cosine", "halve")
    }
    assert etas["constant"] == etas["halve"] == [0.2] * 4
    assert etas["cosine"] == pytest.approx([0.2, 0.1 + 0.1 * 0.5**0.5, 0.1, 0.1 - 0.1 * 0.5**0.5])


def test_dropout_changes_the_training_and_repeats(folder: Path) -> None:
    costs = [
        run_json("train", "--data", "iris.csv", *QUICK, "--dropout", share)["result"]["cost"] for share in (0, 0.5, 0.5)
    ]
    assert costs[0] != costs[1] == costs[2]


@pytest.mark.parametrize("options", [["--patience", 3], ["--schedule", "halve"]])
def test_what_judges_needs_rows_held_out(folder: Path, options: list) -> None:
    error = fail("train", "--data", "iris.csv", *QUICK, *options, "--validation", 0)
    assert f"{' '.join(map(str, options)).removesuffix(' 3')} judges on rows held out; drop --validation 0" in error


# --- The plot


def test_plot_draws_training_and_held_out_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.figure

    drawn = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, path, **_: drawn.append(self))
    run("train", "--data", "iris.csv", *QUICK, "--plot", "a.png")
    run("train", "--data", "houses.csv", *QUICK, "--plot", "a.svg", "--validation", 0)
    (cost, accuracy), (_, r2) = (figure.axes for figure in drawn)
    assert [line.get_label() for line in cost.lines] == ["training data", "held-out data"]
    assert list(cost.lines[0].get_xdata()) == [1, 2, 3]
    assert (accuracy.get_title(), r2.get_title()) == ("accuracy", "R²")
    assert [line.get_label() for line in r2.lines] == ["training data"]


def test_plot_writes_a_picture(folder: Path) -> None:
    assert "plot in a.png" in run("train", "--data", "iris.csv", *QUICK, "--plot", "a.png").stdout
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_is_refused_before_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(fastbp.Network, "fit", lambda *_, **__: pytest.fail("trained"))
    message = fail("train", "--data", "iris.csv", "--plot", "a.png")
    assert message == "--plot needs matplotlib, which is not installed; pip install 'fastbp[plot]'"


# --- Errors


def test_usage_errors_are_one_line_too(folder: Path) -> None:
    assert "No such option: --epoch" in usage_error("train", "--epoch", 3)
    assert "No such command 'fit'" in usage_error("fit")
    assert "Missing argument 'MODEL'" in usage_error("evaluate")
    assert "Missing option '--data'" in usage_error("predict", "a.model")
    assert "'--epochs'" in usage_error("train", "--epochs", "many")
    assert "0 is not at least 1" in usage_error("train", "--epochs", 0)
    assert "-1 is not at least 1" in usage_error("train", "--batch-size", -1)
    assert "nan is not at least 0" in usage_error("train", "--lmbda", "nan")
    assert "-0.1 is not greater than 0" in usage_error("train", "--eta", -0.1)
    assert "0.0 is not greater than 0" in usage_error("sweep", "--grid", "lmbda=0,1", "--eta", 0)
    assert "-5 is not at least 0" in usage_error("train", "--seed", -5)
    assert "1.5 is not a share from 0 to 0.9" in usage_error("train", "--validation", 1.5)
    assert "'--engine'" in usage_error("train", "--engine", "warp")
    assert "'--dtype'" in usage_error("train", "--dtype", "float16")
    assert "'relu' is not a list of whole numbers such as 64,30,10; activations go to --activation" in usage_error(
        "train", "--hidden", "relu"
    )
    assert "'30;10' is not a list of whole numbers such as 64,30,10" in usage_error("train", "--sizes", "30;10")
    assert "every layer needs at least one neuron" in usage_error("plan", "784,0,10")
    assert "drop one of them" in usage_error("train", "--sizes", "64,10", "--hidden", "30")


REFUSED: list[tuple[str, str]] = [
    ("train --data minst", "there is no file minst; --data takes digits, mnist, or a .csv or .npz file"),
    ("train --data .", ". is a folder; --data takes a file (for MNIST: FASTBP_DATA=. and --data mnist)"),
    ("train --target species", "--target and --header are for CSV files, and --data digits is none; drop them"),
    ("train --data digits.npz --target 3", "digits.npz: --target and --header are for CSV files; an .npz holds"),
    ("train --data digits.npz --header yes", "digits.npz: --target and --header are for CSV files; an .npz holds"),
    ("train --data iris.csv --target kind", "found 0 columns named 'kind' among 'sepal_length'"),
    ("train --data iris.csv --target 9", "a target from 0 to 4, not 9"),
    ("train --data iris.csv --target species --header no", "--header no says there are none; give a number"),
    ("train --data mixed.csv", "--header yes or --header no settles it"),
    ("train --data one.csv", "expected a feature and the target at least"),
    ("train --data ragged.csv", "ragged.csv, line 3: found 3 cells; expected 2"),
    ("train --data x.pkl", "a Python pickle"),
    ("train --data empty.npz", "expected an .npz file"),
    ("train --data unlabelled.npz", "expected y beside x"),
    ("train --data nan.npz", "nan.npz: X has nan in row 5, column 0"),
    ("train --data nan.npz --scaling none", "nan.npz: X has nan in row 5, column 0"),
    ("train --data nan-target.npz", "nan-target.npz: the target 'y' is nan in row 3; remove or replace it"),
    ("train --data huge.csv", "huge.csv: column '0' has values too large to be scaled; use another unit"),
    ("train --data huge-target.csv", "huge-target.csv: the target '1' has values too large to be scaled"),
    ("train --data large-target.csv --dtype float32 --engine reference", "the targets are too large for float32"),
    ("train --data same.csv", "the target 'k' is 'a' in every row; there is nothing to tell apart"),
    ("train --data small.csv", "small.csv has too few rows (4) to hold out a share of 0.2; use a larger --validation"),
    ("train --data iris.csv --task regress", "holds labels such as 'setosa', but --task regress needs numbers"),
    ("train --data houses.csv --task classify", "but labels are words or whole numbers; drop --task classify"),
    ("train --data columns.npz --task classify", "the target 'y' has shape (3, 2), but labels are one column"),
    ("train --data words.npz", "holds labels such as 'a', but numbers stand beside them"),
    ("train --validation 0.3", "digits comes with examples to hold out; drop --validation"),
    ("train --data iris.csv --sizes 5,30,3", "iris.csv, which has 4 features and 3 labels to learn; begin with 4 and"),
    ("train --data houses.csv --sizes 3,9,2", "which has 3 features and 1 number a row to learn; begin with 3 and end"),
    ("train --data iris.csv --activation swish", "--activation='swish' is no activation; choose one of sigmoid, tanh"),
    ("train --data iris.csv --activation relu,tanh", "--activation names 2 activations, but there are 1 hidden layers"),
    ("train --data iris.csv --activation softmax", "softmax couples the neurons of a layer and can only be the output"),
    ("train --data iris.csv --output relish", "--output='relish' is no activation; choose one of"),
    ("train --data iris.csv --cost absolute", "cost='absolute' is no cost; choose one of quadratic"),
    ("train --data iris.csv --output tanh --cost cross_entropy", "use output='sigmoid'"),
    ("train --data iris.csv --init zeros", "initializer='zeros' is none of normal, scaled, glorot, he"),
    ("train --data iris.csv --eta inf", "eta must be a finite number, got inf"),
    ("train --data houses.csv --hidden 5 --eta 1e6 --engine reference", "try a smaller step, such as --eta 100000"),
    ("train --data iris.csv --hidden 99999999,99999999", "in float64, and this machine has"),
    ("train --save nowhere/a.model", "--save nowhere/a.model: there is no folder nowhere; make it first"),
    ("train --save .", "--save . is a folder; name a file in it"),
    ("train --plot a.mp3", "--plot a.mp3: a picture's name ends in .png, .svg or .pdf"),
    ("train --data iris.csv --save iris.csv", "--save iris.csv would overwrite what is read from there"),
    ("evaluate no.model", "there is no file no.model; a model comes from fastbp train --save no.model"),
    ("evaluate iris.csv", "iris.csv"),
    ("evaluate cut.model --data iris.csv", "cut.model"),
    ("evaluate iris.model", "the model takes 4 features a row, but digits has 64; give its own with --data"),
    ("evaluate iris.model --data houses.csv", "the model takes 4 features a row, but houses.csv has 3; give its own"),
    ("evaluate iris.model --data numbers.csv", "holds '0.5', but the model knows the labels setosa, versicolor"),
    ("evaluate iris.model --data columns4.npz", "predicts labels, but the target 'y' of columns4.npz has shape (3, 2)"),
    ("evaluate houses.model --data lots.csv", "predicts numbers, 1 a row, but the target 'd' of lots.csv has labels"),
    ("evaluate houses.model --data columns3.npz", "numbers, 1 a row, but the target 'y' of columns3.npz has 2"),
    ("predict iris.model --data iris.csv", "expected a finite number (or --target to leave a column out)"),
    ("predict iris.model --data numbers.csv", "has 5; leave the target column out by naming it with --target"),
    ("predict iris.model --data nan4.npz", "nan4.npz: X has nan in row 1, column 0"),
    ("predict iris.model --data new.csv --output new.csv", "--output new.csv would overwrite what is read from there"),
    ("predict iris.model --data new.csv --output iris.model", "--output iris.model would overwrite what is read"),
    ("predict iris.model --data new.csv --output nowhere/a", "there is no folder nowhere; make it first"),
    ("plan 784,30,10 --output tanh --cost cross_entropy", "use output='sigmoid'"),
    ("plan 99999999,99999999", "this machine has"),
]  # fmt: skip


@pytest.fixture(scope="module")
def refused_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with something wrong in each, and two good models."""
    folder = tmp_path_factory.mktemp("refused")
    X, y = flowers()
    write_rows(folder / "iris.csv", [[*x, KINDS[k]] for x, k in zip(X, y, strict=True)], "sepal_length,b,c,d,species")
    write_rows(folder / "new.csv", X[:3], "a,b,c,d")
    X3, price = houses()
    write_rows(folder / "houses.csv", np.column_stack([X3, price]), "area,rooms,age,price")
    write_rows(folder / "lots.csv", [[*x, "large"] for x in X3], "a,b,c,d")
    write_rows(folder / "numbers.csv", [[*x, 0.5 + k] for x, k in zip(X, y, strict=True)])
    write_rows(folder / "mixed.csv", [["a", 1, 2], [1, 2, 3]])
    write_rows(folder / "one.csv", [[1], [2]])
    write_rows(folder / "ragged.csv", [[1, 2], [3, 4], [5, 6, 7]])
    write_rows(folder / "huge.csv", [[1e308 * (-1) ** i, "ab"[i % 2]] for i in range(20)])
    write_rows(folder / "huge-target.csv", [[i, 1e308 * (-1) ** i] for i in range(20)])
    write_rows(folder / "large-target.csv", [[i, 1e39 * i] for i in range(20)])
    write_rows(folder / "same.csv", [[i, "a"] for i in range(9)], "x,k")
    write_rows(folder / "small.csv", [[i, "ab"[i % 2]] for i in range(4)])
    (folder / "x.pkl").write_bytes(b"\x80\x04K\x01.")
    (folder / "empty.npz").write_bytes(b"")
    nan = np.array([[1.0], [np.nan], [2.0]])
    np.savez(folder / "unlabelled.npz", X=nan)
    np.savez(folder / "nan.npz", X=np.repeat(nan, 5, axis=0), y=np.arange(15) % 2)
    np.savez(folder / "nan4.npz", X=np.repeat(nan, 4, axis=1))
    np.savez(folder / "nan-target.npz", X=np.ones((6, 1)), y=np.array([1.5, 2, 3, np.nan, 4, 5]))
    np.savez(folder / "columns.npz", X=np.ones((3, 1)), y=np.ones((3, 2)))
    np.savez(folder / "columns3.npz", X=X3[:3], y=np.full((3, 2), 0.5))
    np.savez(folder / "columns4.npz", X=X[:3], y=np.full((3, 2), 0.5))
    np.savez(folder / "words.npz", x_train=X, y_train=y, x_test=X[:1], y_test=np.array(["a"]))
    digits = datasets.load_digits()
    np.savez(folder / "digits.npz", X=digits.X_test, y=digits.y_test)
    before = os.getcwd()
    os.chdir(folder)
    try:
        run("train", "--data", "iris.csv", *QUICK, "--save", "iris.model")
        run("train", "--data", "houses.csv", *QUICK, "--save", "houses.model")
    finally:
        os.chdir(before)
    (folder / "cut.model").write_bytes((folder / "iris.model").read_bytes()[:-9])
    return folder


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_refused_in_one_line(refused_folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str) -> None:
    monkeypatch.chdir(refused_folder)
    assert message in fail(*line.split())


def test_a_damaged_pipe_is_called_standard_input(iris_model: Path) -> None:
    assert fail("predict", iris_model, "--data", "-", input="1,2,3\n4,5\n").startswith(
        "standard input, line 2: found 2"
    )


def test_mnist_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTBP_DATA", raising=False)
    assert "add --download to fetch it once (12 MB)" in fail("train", "--data", "mnist")
    monkeypatch.setenv("FASTBP_DATA", str(folder))
    message = fail("train", "--data", "mnist")
    assert str(folder) in message and "set FASTBP_DATA" in message and "download=True" not in message


def test_a_folder_that_must_not_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands.os, "access", lambda path, mode: False)  # root may write anywhere
    assert "you may not write in the folder" in fail("train", "--save", "a.model")


def test_ctrl_c_while_the_command_loads_its_libraries(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It showed a traceback of imports."""
    from fastbp import __main__

    class Interrupt:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "fastbp.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "fastbp.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupt(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "fastbp: stopped\n")


def test_a_file_that_must_not_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole training ran before the write-protected model was found, and what it had learned was lost."""
    Path("a.model").write_text("old")
    monkeypatch.setattr(commands.os, "access", lambda path, mode: mode != os.W_OK or Path(path) != Path("a.model"))
    monkeypatch.setattr(commands.choices, "build", pytest.fail)
    for option in ("--save", "--checkpoint", "--plot"):
        assert fail("train", option, "a.model") == (
            f"{option} a.model is write-protected; choose another name, or change its permissions"
        )
    assert "no regular file" in fail("train", "--save", "/dev/null")
    assert Path("a.model").read_text() == "old"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "a.model"), "a.model: No space left on device"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "not enough memory"),
        (MemoryError("Unable to allocate 9 GiB"), "not enough memory (Unable to allocate 9 GiB); use fewer rows"),
        (ValueError("two\n  lines"), "two lines"),
        (KeyError("x"), "unexpected KeyError: 'x'. This is a mistake in fastbp: please report it"),
    ],
)
def test_any_error_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(commands, "show_info", broken)
    assert message in fail("info")


@pytest.mark.parametrize("arguments", [("train", "--data", "minst"), ("evaluate", "no.model"), ("info",)])
def test_debug_adds_the_traceback(monkeypatch: pytest.MonkeyPatch, folder: Path, arguments: tuple[str, ...]) -> None:
    monkeypatch.setattr("fastbp.machine.facts", lambda: 1 / 0)
    result = CliRunner().invoke(cli.app, [*arguments, "--debug"])
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.splitlines()[-1].startswith("fastbp: ")


def test_numbers_that_json_does_not_have_are_null() -> None:
    text = commands.to_json({"a": np.array([1.5, np.nan]), "b": -np.inf, "c": [{"d": np.float32(2)}], "e": Path("f")})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [1.5, None], "b": None, "c": [{"d": 2.0}], "e": "f"}


def test_main_is_the_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main sets it
    monkeypatch.setattr(sys, "argv", ["anything", "--version"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code and capsys.readouterr().out == f"fastbp {fastbp.__version__}\n"

    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    cli._show_warning(UserWarning("mind\nthe gap"), UserWarning, "file.py", 3)
    assert capsys.readouterr().err == "fastbp: note: mind the gap\n"


# --- Checkpoints


def without_times(document: dict) -> dict:
    history = [{k: v for k, v in record.items() if "second" not in k} for record in document["history"]]
    return {**document, "history": history, "seconds": None, "saved": None}


@pytest.mark.parametrize("every", [None, "2", "3epochs", "1batch", "1s"])
def test_a_resumed_training_ends_as_an_uninterrupted_one(folder: Path, every: str | None) -> None:
    train = ("train", "--data", "iris.csv", "--engine", "reference", "--save", "whole.model")
    whole = run_json(*train, "--epochs", 5)
    how_often = ("--every", every) if every else ()
    half = run_json(*train[:-1], "half.model", "--epochs", 3, "--checkpoint", "c", *how_often)
    assert without_times(half)["history"] == without_times(whole)["history"][:3]
    rest = run_json(*train[:-1], "rest.model", "--epochs", 5, "--resume", "c", "--checkpoint", "c")
    assert without_times(rest) == without_times(whole)
    assert (folder / "rest.model").read_bytes() == (folder / "whole.model").read_bytes()
    lines = run("train", "--data", "iris.csv", "--engine", "reference", "--epochs", 6, "--resume", "c").stdout
    assert "epoch 6/6" in lines and "epoch 5/6" not in lines
    assert [path.name for path in folder.glob(".*")] == []


def test_the_engine_of_a_resumed_training_is_the_checkpoint_s(folder: Path) -> None:
    run("train", "--data", "iris.csv", *QUICK, "--checkpoint", "c")
    assert run_json("train", "--data", "iris.csv", "--epochs", 4, "--resume", "c")["engine"] == "reference"


def test_checkpoints_that_are_refused(folder: Path) -> None:
    train = ("train", "--data", "iris.csv", *QUICK)
    run(*train, "--checkpoint", "c", "--save", "m")
    before = (folder / "c").read_bytes()
    message = fail(*train, "--resume", "c", "--eta", "0.3")
    assert "belongs to another run: optimizer is SGD(eta=0.05" in message
    assert message.endswith("Give the options of the first command")
    assert "X holds other values" in fail(*train, "--resume", "c", "--scaling", "none")
    assert fail(*train, "--resume", "none").startswith("there is no file none; a checkpoint comes from --checkpoint")
    assert "kind 'fastbp-model'" in fail(*train, "--resume", "m")
    assert "would overwrite a file of kind 'fastbp-model'" in fail(*train, "--checkpoint", "m")
    assert "would overwrite what is read" in fail(*train, "--checkpoint", "iris.csv")
    assert "both name c" in fail(*train, "--checkpoint", "c", "--save", "c")
    assert "there is no folder" in fail(*train, "--checkpoint", "no/c")
    assert (folder / "c").read_bytes() == before
    assert "give that too" in usage_error(*train, "--every", "2")
    for every in ("0", "-1", "x", "2weeks", "1.5", "1.5batches", "s", "nans", "2e9s"):
        assert "is not a number of epochs (2), mini-batches" in usage_error(
            *train, "--checkpoint", "c", "--every", every
        )
    (folder / "c").write_bytes(before[:-1])
    assert "cut short" in fail(*train, "--resume", "c")


def test_replay(folder: Path) -> None:
    train = ("train", "--data", "iris.csv", *QUICK, "--batch-size", "7")
    run(*train, "--checkpoint", "c")
    page = run("replay", "c", "--batch", 2, "--data", "iris.csv").stdout
    assert page.startswith("epoch 4, mini-batch 2, 7 in an epoch (from 1)\neta 0.05, cost ")
    document = run_json("replay", "c", "--batch", 2, "--data", "iris.csv")
    assert (document["epoch"], document["batch"], document["batches"]) == (4, 2, 7)
    assert len(document["rows"]) == len(document["costs"]) == 7
    assert [layer["layer"] for layer in document["layers"]] == [2, 3]
    for row in document["rows"]:
        assert re.search(rf"^ *{row} ", page, re.MULTILINE)
    assert fail("replay", "c", "--batch", 8, "--data", "iris.csv") == "--batch 8: epoch 4 has the mini-batches 1 to 7"
    assert "--batch" in usage_error("replay", "c", "--batch", 0)
    assert "X has shape (1442, 64), but the network takes 4 features" in fail("replay", "c", "--batch", 1)
    message = fail("replay", "c", "--batch", 1, "--data", "iris.csv", "--validation", "0.5")
    assert "is of a run on other data: examples differs" in message
    assert fail("replay", "none", "--batch", 1).startswith("there is no file none; a checkpoint comes from")


# --- Ctrl-C, in process


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Ctrl-C at the end of this epoch of `fit`."""
    tell = reports.Teller.on_epoch_end

    def interrupted(self: Any, network: Any, record: dict) -> None:
        if record["epoch"] == epochs:
            raise KeyboardInterrupt
        tell(self, network, record)

    monkeypatch.setattr(reports.Teller, "on_epoch_end", interrupted)


def interrupt(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == 130 and result.stderr.count("\n") == 1
    return result.stderr


def test_ctrl_c_keeps_what_was_learned_where_the_user_wanted_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = ("train", "--data", "houses.csv", "--engine", "reference", "--epochs", "9")
    stop_after(monkeypatch, 5)
    assert interrupt(*train) == "fastbp: stopped after 5 of 9 epochs\n"
    message = interrupt(*train, "--save", "h.model")
    assert message == "fastbp: stopped after 5 of 9 epochs; the network so far is in h.model\n"
    assert run_json("evaluate", "h.model", "--data", "houses.csv")["score"] > 0.5  # in the unit of the prices
    message = interrupt(*train, "--checkpoint", "c")
    assert message == "fastbp: stopped after 5 of 9 epochs; the same command with --resume c goes on\n"
    stop_after(monkeypatch, 0)
    assert "before the first epoch was over; nothing was saved" in interrupt(*train, "--save", "other.model")
    assert not (folder / "other.model").exists()


def test_ctrl_c_outside_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "show_info", stopped)
    assert interrupt("info") == "fastbp: stopped\n"


# --- What a terminal shows, in process


class Terminal:
    """The standard output as a terminal; keeps what is written."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_a_terminal_shows_some_epochs_with_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", terminal)
    teller = reports.Teller(70, by_label=True, judge=None, silent=False)
    for epoch in range(70):
        teller.on_epoch_end(None, {"epoch": epoch, "validation_cost": 0.1, "validation_score": epoch / 70})
    lines = terminal.text.splitlines()
    assert [int(re.search(r"\d+", line)[0]) for line in lines] == [1, 2, 3, 5, 10, 20, 30, 50, 70]
    assert lines[-1] == f"epoch 70/70  cost   0.1000  accuracy  98.57 %  {'█' * 23}▋"
    assert len(teller.records) == 70
    monkeypatch.setenv("COLUMNS", "60")  # no room for a bar
    teller.on_epoch_end(None, {"epoch": 69, "validation_cost": 0.1, "validation_score": 1.0})
    assert terminal.text.splitlines()[-1] == "epoch 70/70  cost   0.1000  accuracy 100.00 %"


def test_bars_and_numbers_of_every_size() -> None:
    assert [reports._bar(share) for share in (0, 1, 2, -1, np.nan, -np.inf, 1 / 192)] == [
        "",
        "█" * 24,
        "█" * 24,
        *[""] * 3,
        "▏",
    ]
    shown = [reports._number(value) for value in (0, 1e-5, 0.0123456, 12.3, 123456.7, 1e300, np.inf)]
    assert shown == ["0", "1e-05", "0.0123", "12.3000", "123,457", "1e+300", "inf"]
    assert (reports._duration(0.123), reports._duration(1234.5)) == ("0.12 s", "1,234 s")


def test_a_terminal_shows_digits_that_were_misread(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    images = np.zeros((6, 64))
    images[1:, :8] = 16
    reports.mistakes(images, np.arange(6), np.array([0, 9, 9, 9, 9, 9]))
    lines = terminal.text.splitlines()
    assert lines[1] == "   ".join(["█" * 16] * 4) and len(lines) == 10
    assert re.split(" {3,}", lines[-1].strip()) == [f"a {i}, read as 9" for i in (1, 2, 3, 4)]
    reports.mistakes(images, np.arange(6), np.arange(6))
    assert terminal.text.count("\n") == 10


# --- Real processes


def environment() -> dict[str, str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": paths, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}


def start(*arguments: str, **options: Any) -> subprocess.Popen:
    command = [sys.executable, "-W", "error", "-m", "fastbp", *arguments]
    return subprocess.Popen(command, env=environment(), text=True, encoding="utf-8", **options)


def test_a_pipe_gets_plain_lines(folder: Path) -> None:
    with start(
        "train", "--data", "iris.csv", *QUICK, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder
    ) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and not errors
    assert "\x1b" not in output and "\r" not in output and output.count("epoch ") == 3


def test_an_error_of_a_process(folder: Path) -> None:
    with start("train", "--data", "minst", stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert errors == "fastbp: there is no file minst; --data takes digits, mnist, or a .csv or .npz file\n"


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    arguments = ("train", "--data", "iris.csv", "--engine", "reference", "--epochs", "100000")
    with start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert not process.stderr.read()


def test_ctrl_c_of_a_process(folder: Path) -> None:
    arguments = ("train", "--data", "iris.csv", "--engine", "reference", "--epochs", "100000", "--save", "a.model")
    with start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder) as process:
        assert process.stdout and process.stderr
        for line in process.stdout:
            if line.startswith("epoch      3/"):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"fastbp: stopped after \d+ of 100000 epochs; the network so far is in a.model\n", errors)
    assert fastbp.load(folder / "a.model").classes_.tolist() == list(KINDS)


def on_terminal(arguments: tuple[str, ...], cwd: Path, until: Callable[[str], bool], **options: Any) -> tuple[int, str]:
    """Run on a pseudo-terminal of 80 columns; (exit code, all that it showed). Ctrl-C once `until(shown)` is true."""
    pty, fcntl, struct, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "struct", "termios"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = start(*arguments, stdin=slave, stderr=slave, cwd=cwd, **({"stdout": slave} | options))
    os.close(slave)
    shown, deadline = "", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            shown += piece.decode("utf-8", errors="replace")
            if until(shown):
                process.send_signal(signal.SIGINT)
                until = lambda _: False  # noqa: E731
        elif process.poll() is not None:
            break
    os.close(master)
    code = process.wait(timeout=60)
    if process.stdout:
        process.stdout.close()
    return code, shown


def test_a_terminal_gets_a_bar_with_the_accuracy_so_far(folder: Path) -> None:
    def has_bar(shown: str) -> bool:
        return re.search(r"epoch \d+/300000 .*━.* \d+\.\d\d %", shown) is not None

    arguments = ("train", "--data", "iris.csv", "--engine", "reference", "--epochs", "300000")
    code, shown = on_terminal(arguments, folder, until=has_bar)
    assert code == 130 and has_bar(shown), shown
    assert re.search(r"epoch +1/300000  cost +[\d.]+  accuracy +[\d.]+ %  █+", shown)
    assert "Traceback" not in shown and shown.rstrip().splitlines()[-1].split("\x1b[2K")[-1].startswith(
        "fastbp: stopped"
    )


def test_a_terminal_gets_the_bar_while_a_program_gets_the_json(folder: Path) -> None:
    arguments = ("train", "--data", "iris.csv", *QUICK, "--json")
    with open(folder / "out.json", "w+", encoding="utf-8") as file:
        code, shown = on_terminal(arguments, folder, until=lambda _: False, stdout=file)
        file.seek(0)
        assert code == 0 and json.load(file)["epochs"] == 3
    assert "starting" in shown or "epoch" in shown
