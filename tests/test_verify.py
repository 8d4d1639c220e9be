"""`fastbp verify` on right copies of the book's classes, and on copies with one thing broken in each."""

import json
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs_blocks import python_blocks
from numba.core.config import DISABLE_JIT
from typer.testing import CliRunner

from fastbp.cli import app
from fastbp.theirs import TheirCodeError, find
from fastbp.verdict import Report
from fastbp.verify import verify

HERE = Path(__file__).parent
CHAPTER_2, CHAPTER_3 = ((HERE / name).read_text() for name in ("naive_book.py", "naive_book2.py"))
# The costs and local variables by the names that the book gives them.
CHAPTER_3 = CHAPTER_3.replace("NaiveQuadratic", "QuadraticCost").replace("NaiveCrossEntropy", "CrossEntropyCost")
BOOK_NAMES = CHAPTER_3.replace("outputs", "activations").replace("sums", "zs")


def copy_of(source: str, folder: Path, *changes: tuple[str, str], name: str = "mine.py") -> Path:
    """A file with a copy in which each old text stands exactly once and is replaced."""
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("source", "program", "shuffle"),
    [
        (CHAPTER_2, "network", "np.random.shuffle"),
        (CHAPTER_2.replace("np.random.shuffle", "random.shuffle").replace("import numpy", "import random, numpy"),
         "network", "random.shuffle"),
        (CHAPTER_3, "network2", "random.shuffle"),
        (BOOK_NAMES, "network2", "random.shuffle"),
        ((HERE / "naive_book2.py").read_text(), "network2", "random.shuffle"),  # with costs of its own
    ],
)  # fmt: skip
def test_right_copies_are_the_same(tmp_path: Path, source: str, program: str, shuffle: str) -> None:
    states = np.random.get_state()[1].tolist(), random.getstate()
    report = verify(copy_of(source, tmp_path), epochs=2)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states
    assert report.same and report.differences == [] and not report.forward_is_hidden
    assert (report.program, report.shuffle, report.tolerance) == (program, shuffle, 1e-8)
    assert len(report.accuracies) == 2 and all(yours == ours for yours, ours in report.accuracies)
    layers = {what: sorted(by_layer) for what, by_layer in report.largest.items()}
    assert layers.pop("BP1") == [4] and layers.pop("BP2") == [2, 3]
    assert set(map(tuple, layers.values())) == {(2, 3, 4)}
    assert all(size < 1e-9 for by_layer in report.largest.values() for size in by_layer.values())
    assert min(report.seconds) > 0
    text = str(report)
    assert f"the same: parameters, order ({shuffle})" in text and "times as fast" in text and " *" not in text


# What is broken: the copy, its changes, what must be found first and in which layer, and what else differs.
SHUFFLE = "            self.shuffle(training_data)\n"
ORDER = "the order of the examples"
LAST = "self.num_layers - 2"
BROKEN: dict[str, tuple[str, list[tuple[str, str]], str, int | None, set[str]]] = {
    "BP1 without σ'": (
        CHAPTER_2,
        [("slope * self.sigma_prime(z)", f"(slope if layer == {LAST} else slope * self.sigma_prime(z))")],
        "BP1", 4, set(),
    ),
    "BP1 with its sign turned": (CHAPTER_3, [("        return a - y\n", "        return y - a\n")], "BP1", 4, set()),
    "BP2 without σ'": (
        CHAPTER_2,
        [("slope * self.sigma_prime(z)", f"(slope if layer < {LAST} else slope * self.sigma_prime(z))")],
        "BP2", 3, set(),
    ),
    "BP2 wrong in layer 2 only": (
        CHAPTER_3,
        [("self.sigma_prime(sums[layer - 1]))", "self.sigma_prime(sums[layer - 1]) * (1 if layer > 1 else 2))")],
        "BP2", 2, set(),
    ),
    "BP3 twice as large": (CHAPTER_2, [("insert(0, delta)", "insert(0, 2 * delta)")], "BP3", 4, set()),
    "BP3 in the first layer only": (
        CHAPTER_2, [("insert(0, delta)", "insert(0, delta if layer else 0 * delta)")], "BP3", 2, set(),
    ),
    "BP4 from rounded activations": (CHAPTER_2, [("delta @ below.T", "delta @ below.T.round(2)")], "BP4", 4, set()),
    "a layer without biases in backprop": (
        BOOK_NAMES,
        [("zs.append(w @ activations[-1] + b)", "zs.append(w @ activations[-1] + b * (len(b) != 20))")],
        "feedforward", 3, set(),
    ),
    "a layer without biases, kept as pairs": (
        CHAPTER_2,
        [("z = self.weights[layer] @ a + self.biases[layer]",
          "z = self.weights[layer] @ a + self.biases[layer] * (len(self.biases[layer]) != 20)")],
        "feedforward", 3, set(),
    ),
    "feedforward without biases": (
        CHAPTER_2,
        [("            a = self.sigma(self.weights[layer] @ a + self.biases[layer])\n        return a\n",
          "            a = self.sigma(self.weights[layer] @ a)\n        return a\n")],
        "the method feedforward", None, {"the method evaluate"},
    ),
    "a step not divided by the length": (CHAPTER_2, [("eta / len(mini_batch)", "eta")], "update b", 2, {"update w"}),
    "a step always divided by ten": (CHAPTER_2, [("eta / len(mini_batch)", "eta / 10")], "update b", 2, {"update w"}),
    "biases that stay": (
        CHAPTER_3, [("self.biases, self.weights = biases, weights", "self.weights = weights")], "update b", 2, set(),
    ),
    "biases that decay": (
        CHAPTER_3, [("biases = [self.biases[i]", "biases = [keep * self.biases[i]")], "update b", 2, set(),
    ),
    "weights that do not decay": (CHAPTER_3, [("keep * self.weights[i]", "self.weights[i]")], "update w", 2, set()),
    "a decay by the mini-batch": (
        CHAPTER_3, [("eta * lmbda / n,", "eta * lmbda / len(mini_batch),")], "update w", 2, set(),
    ),
    "no shuffle": (CHAPTER_2, [(SHUFFLE, "")], ORDER, None, set()),
    "one shuffle only": (
        CHAPTER_2, [(SHUFFLE, f"            if epoch == 0:\n    {SHUFFLE}")], ORDER, None, set(),
    ),
    "a shuffle of another kind": (
        CHAPTER_2, [(SHUFFLE, "            training_data.sort(key=lambda pair: pair[0].sum())\n")], ORDER, None, set(),
    ),
    "a last mini-batch left out": (
        CHAPTER_2, [("n = len(training_data)", "n = len(training_data) - 9")], "the mini-batches", None, set(),
    ),
    "other first weights": (
        CHAPTER_3, [("np.random.randn(n, below) / below**0.5", "np.random.randn(n, below) / below")],
        "the first w", 2, set(),
    ),
    "evaluate with argmin": (
        CHAPTER_2, [("np.argmax(self.feed", "np.argmin(self.feed")], "the method evaluate", None, set(),
    ),
    "the L2 term for each example": (
        CHAPTER_3, [("lmbda / (2 * n)", "lmbda / 2")],
        "the method total_cost", None, {"the method total_cost(…, convert=True)"},
    ),
    "accuracy of training data": (
        CHAPTER_3, [("np.argmax(y) if convert", "np.argmin(y) if convert")],
        "the method accuracy(…, convert=True)", None, set(),
    ),
}  # fmt: skip


# Ways to write the feedforward inside backprop: the names and the containers are the writer's own.
WALK = """        outputs, sums = [x], []
        for w, b in zip(self.weights, self.biases, strict=True):
            sums.append(w @ outputs[-1] + b)
            outputs.append(self.sigma(sums[-1]))
"""
WAYS = {
    "lists": WALK,
    "tuples": WALK + "        sums, outputs = tuple(sums), tuple(outputs)\n",
    "dicts": WALK + "        sums, outputs = dict(enumerate(sums)), dict(enumerate(outputs))\n",
}


@pytest.mark.parametrize("bias", ["b", "b * (len(b) != 20)"])
@pytest.mark.parametrize("way", WAYS)
def test_the_feedforward_is_found_whatever_holds_it(tmp_path: Path, way: str, bias: str) -> None:
    walk = WAYS[way].replace("outputs[-1] + b)", f"outputs[-1] + {bias})")
    ends = [
        (
            "errors = [self.cost.delta(sums[-1], outputs[-1], y)]",
            "errors = [self.cost.delta(sums[L], outputs[L + 1], y)]",
        )
    ]
    ends += [
        ("for error, a in zip(errors, outputs, strict=False)]", "for error, a in zip(errors, below, strict=False)]")
    ]
    before = "        L = self.num_layers - 2\n        below = [outputs[i] for i in range(L + 1)]\n"
    report = verify(copy_of(CHAPTER_3, tmp_path, (WALK, walk + before), *ends), epochs=1)
    assert not report.forward_is_hidden and sorted(report.largest["feedforward"]) == [2, 3, 4]
    if bias == "b":
        assert report.same
    else:
        assert [(each.what, each.layer) for each in report.differences] == [("feedforward", 3)]


def test_activations_alone_tell_the_slopes(tmp_path: Path) -> None:
    alone = [
        ("outputs, sums = [x], []", "outputs = [x]"),
        ("            sums.append(w @ outputs[-1] + b)\n            outputs.append(self.sigma(sums[-1]))",
         "            outputs.append(self.sigma(w @ outputs[-1] + b))"),
        ("self.cost.delta(sums[-1], outputs[-1], y)", "outputs[-1] - y"),
        ("self.sigma_prime(sums[layer - 1]))", "outputs[layer] * (1 - outputs[layer]))"),
    ]  # fmt: skip
    report = verify(copy_of(CHAPTER_3, tmp_path, *alone), epochs=1)
    assert report.same and not report.forward_is_hidden
    wrong = [*alone[:-1], ("self.sigma_prime(sums[layer - 1]))", "outputs[layer] * (2 - outputs[layer]))")]
    report = verify(copy_of(CHAPTER_3, tmp_path, *wrong), epochs=1)
    assert [difference.what for difference in report.differences] == ["BP2"]


def test_a_feedforward_that_is_hidden_is_not_claimed_to_be_right(tmp_path: Path) -> None:
    inside = "        return errors, [error @ a.T for error, a in zip(errors, outputs, strict=False)]"
    changes = [
        (inside, "        found = errors, [error @ a.T for error, a in zip(errors, outputs, strict=False)]\n"
                 "        del outputs, sums\n        return found"),
    ]  # fmt: skip
    report = verify(copy_of(CHAPTER_3, tmp_path, *changes), epochs=1)
    assert report.same and report.forward_is_hidden and report.largest["feedforward"] == {}
    assert "feedforward is not all of it: its a and z are not among the variables of your backprop" in str(report)
    biases = ("sums.append(w @ outputs[-1] + b)", "sums.append(w @ outputs[-1] + b * (len(b) != 20))")
    report = verify(copy_of(CHAPTER_3, tmp_path, *changes, biases), epochs=1)
    assert not report.same and "feedforward" not in {difference.what for difference in report.differences}


# Where and with which remark some of them are found.
REMARKS = {
    "BP3 twice as large": (0, 0, "yours is 2 times ours"),
    "BP1 with its sign turned": (0, 0, "yours is -1 times ours"),
    "a step not divided by the length": (0, 0, "yours is 10 times ours"),
    "a step always divided by ten": (0, 144, "yours is 0.2 times ours"),
    "no shuffle": (0, 0, "as they stand in the list: it is not shuffled"),
    "one shuffle only": (1, 0, "as in the epoch before"),
    "a shuffle of another kind": (0, 0, "neither random.shuffle nor np.random.shuffle"),
    "a last mini-batch left out": (0, 144, "1,440 of 1,442 examples took part; the last mini-batch has 2"),
    "other first weights": (0, 0, "not as the book draws it from this seed; yours is 0.125 times ours"),
}


@pytest.mark.skipif(DISABLE_JIT, reason="too slow without compiled kernels")
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found_where_it_is(tmp_path: Path, name: str) -> None:
    source, changes, what, layer, others = BROKEN[name]
    epoch, batch, remark = REMARKS.get(name, (0, 0, ""))
    report = verify(copy_of(source, tmp_path, *changes), epochs=epoch + 1)
    first = report.differences[0]
    assert (first.what, first.layer) == (what, layer)
    assert {other.what for other in report.differences[1:]} == others
    assert not report.same and f"they part first in {what}" in str(report)
    if name in REMARKS:
        assert (first.epoch, first.batch) == (epoch, batch)
        assert remark in first.remark and remark in str(first)


def test_two_things_broken_are_both_found(tmp_path: Path) -> None:
    changes = [("insert(0, delta)", "insert(0, 2 * delta)"), ("eta / len(mini_batch)", "eta")]
    report = verify(copy_of(CHAPTER_2, tmp_path, *changes), epochs=1)
    assert [difference.what for difference in report.differences] == ["BP3", "update b", "update w"]
    assert report.largest["BP3"] == pytest.approx({2: 1, 3: 1, 4: 1})
    assert report.largest["update w"] == pytest.approx({2: 9, 3: 9, 4: 9})


def test_a_list_that_is_copied_is_no_difference(tmp_path: Path) -> None:
    """As the Python 3 ports do."""
    change = (
        "        n, tests = len(training_data)",
        "        training_data = list(training_data)\n        n, tests = len(training_data)",
    )
    assert verify(copy_of(CHAPTER_3, tmp_path, change), epochs=2).same


def test_float32_is_held_to_a_wider_tolerance(tmp_path: Path) -> None:
    changes = [("self.biases.append(np.random.randn(n, 1))", "self.biases.append(np.random.randn(n, 1).astype('f'))")]
    changes += [("np.random.randn(n, below))", "np.random.randn(n, below).astype('f'))")]
    report = verify(copy_of(CHAPTER_2, tmp_path, *changes), epochs=1)
    assert report.tolerance == 1e-3 and report.differences == []


def test_a_program_that_evaluates_in_its_own_way(tmp_path: Path) -> None:
    change = ("{self.evaluate(test_data)}", "{sum(int(np.argmax(self.feedforward(x)) == y) for x, y in test_data)}")
    report = verify(copy_of(CHAPTER_2, tmp_path, change), epochs=3)
    assert report.same and len(report.accuracies) == 3


def test_neighbours_are_imported_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "my_functions.py").write_text("import numpy as np\n\ndef squash(z):\n    return 1 / (1 + np.exp(-z))\n")
    source = "from my_functions import squash\n" + CHAPTER_2
    path = copy_of(source, tmp_path, ("return 1 / (1 + np.exp(-z))", "return squash(z)"))
    before = list(sys.path)
    assert verify(path, epochs=1).same
    assert sys.path == before and sorted(p.name for p in tmp_path.iterdir()) == ["mine.py", "my_functions.py"]
    del sys.modules["my_functions"]


# --- files that cannot be compared --------------------------------------------------------------------------

BAD: dict[str, tuple[str, str]] = {
    "no class": ("x = 1\n", r"mine.py has no class Network, with SGD, .*; it defines no class"),
    "other classes": ("class A: pass\nclass B: pass\n", "its classes are A, B"),
    "no methods": ("class Network: pass\n", "class Network has no method SGD, update_mini_batch, backprop, feedf"),
    "a wrong name": ("import numpy\n\nnumpy.nothing\n", r"mine.py, line 3: AttributeError: .*nothing"),
    "a missing module": ("import no_such_module\n", "mine.py, line 1: ModuleNotFoundError: No module named"),
    "Python 2": ("print 'Epoch'\n", "mine.py, line 1: Missing parentheses.*written for Python 2"),
    "broken syntax": ("def f(:\n", "mine.py, line 1: "),
    "a file of bytes": ("a = 1\0\n", "mine.py: source code string cannot contain null bytes"),  # said "line None"
    "an exit": ("import sys\nsys.exit(3)\n", "mine.py ends the program"),
    "another signature": (
        CHAPTER_2.replace("(self, mini_batch: list, eta: float)", "(self, mini_batch: list)"),
        r"update_mini_batch takes \(mini_batch\), but the book's take \(mini_batch, eta\) or",
    ),
    "a failing backprop": (CHAPTER_2.replace("delta @ below.T", "delta @ below"), r"mine.py, line \d+: ValueError"),
    "arrays of other shapes": (
        CHAPTER_2.replace("insert(0, delta)", "insert(0, delta.ravel())"),
        r"backprop returns arrays of shapes \(30,\), .*; the book's are \(30, 1\)",
    ),
    "parameters of other shapes": (
        CHAPTER_2.replace("self.biases.append(np.random.randn(n, 1))", "self.biases.append(np.random.randn(n))"),
        r"biases have shapes \(30,\), .*where the book's .* has \(30, 1\)",
    ),
    "no attributes": (CHAPTER_2.replace("self.biases", "self.b"), "mine.py: AttributeError: .*biases"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_files_that_cannot_be_compared(tmp_path: Path, name: str) -> None:
    source, said = BAD[name]
    path = copy_of(source, tmp_path)
    with pytest.raises(TheirCodeError, match=said):
        verify(path, epochs=1)


def test_other_arguments_that_do_not_fit(tmp_path: Path) -> None:
    path = copy_of(CHAPTER_2, tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        verify(tmp_path / "missing.py")
    with pytest.raises(TheirCodeError, match="is a folder; name the file"):
        verify(tmp_path)
    for options, said in (
        ({"data": "iris"}, "digits or mnist"),
        ({"epochs": 0}, "at least 1"),
        ({"hidden": [0]}, "one neuron"),
    ):
        with pytest.raises(ValueError, match=said):
            verify(path, **options)  # type: ignore[arg-type]


def test_a_class_by_any_name_is_found(tmp_path: Path) -> None:
    assert find(copy_of(CHAPTER_2, tmp_path)).kind.__name__ == "NaiveBook"
    both = CHAPTER_2 + "\n\nclass Network(NaiveBook):\n    pass\n"
    assert find(copy_of(both, tmp_path)).kind.__name__ == "Network"


# --- the command --------------------------------------------------------------------------------------------


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_the_command_says_that_it_runs_the_file(tmp_path: Path) -> None:
    path = copy_of(CHAPTER_2, tmp_path)
    result = run(path, "--epochs", 1)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"running {path}, a program of yours"
    assert "beside fastbp.book.network: Network([64, 30, 20, 10]) on digits" in result.stdout


def test_the_command_fails_with_1_if_the_two_part(tmp_path: Path) -> None:
    result = run(
        copy_of(CHAPTER_2, tmp_path, ("insert(0, delta)", "insert(0, 2 * delta)")), "--epochs", 1, "--hidden", 8
    )
    assert result.exit_code == 1
    assert "they part first in BP3, in epoch 0, mini-batch 0, layer 3: a relative difference of 1;" in result.stdout


def test_the_command_as_json(tmp_path: Path) -> None:
    result = run(copy_of(CHAPTER_3, tmp_path), "--epochs", 1, "--seed", 4, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and document["same"] is True
    assert document["largest"]["BP1"].keys() == {"4"} and document["speed_up"] > 0


@pytest.mark.parametrize("content", ["x = 1\n", "import no_such_module\n", "class Network: pass\n", None])
def test_the_command_fails_with_2_and_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    result = run(path)
    assert result.exit_code == 2 and result.stderr.startswith("fastbp: ") and result.stderr.count("\n") == 1
    assert str(path) in result.stderr


def test_on_mnist(book_data: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastbp.book import mnist_loader

    training, _, tests = book_data
    monkeypatch.setattr(mnist_loader, "load_data_wrapper", lambda download: (training[:2_005], [], tests[:500]))
    report = verify(copy_of(CHAPTER_2, tmp_path), data="mnist", hidden=[30], epochs=2)
    assert report.same and report.sizes == [784, 30, 10] and report.n_tests == 500
    assert all(yours == ours for yours, ours in report.accuracies)
    assert isinstance(report, Report)


def test_a_file_under_another_ending(tmp_path: Path) -> None:
    shutil.copy(HERE / "naive_book.py", tmp_path / "network.txt")
    assert verify(tmp_path / "network.txt", epochs=1).same


def without_rounding(line: str) -> str:
    return re.sub(r"\d\.\de-1\d|0\.0e\+00", "rounding", line)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Its Python, and the report at its top, from a copy with half of BP2."""
    monkeypatch.chdir(tmp_path)
    page = HERE.parent / "docs" / "verify.md"
    wrong = f"slope * self.sigma_prime(z) * (1 if layer == {LAST} else 0.5)"
    copy_of(CHAPTER_2, tmp_path, ("slope * self.sigma_prime(z)", wrong), name="network.py")
    shown = page.read_text(encoding="utf-8").split("```console\n")[1].split("\n...\n```")[0].splitlines()
    assert shown[0] == "$ fastbp verify network.py"
    printed = CliRunner().invoke(app, shown[0].split()[2:]).stdout.splitlines()
    assert [without_rounding(line) for line in printed[: len(shown) - 1]] == [without_rounding(x) for x in shown[1:]]
    for block in python_blocks(page):
        block.run({})
    assert "BP2 0 0 3 0.5" in capsys.readouterr().out
