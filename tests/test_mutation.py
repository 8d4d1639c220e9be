"""The mutation test's own parts: what it leaves out, what it draws, and that it tells the dead from the survivors."""

import json
from argparse import Namespace
from pathlib import Path

import mutation
import pytest

SOURCE = """\
from somewhere import other

VECTOR_BYTES = 32
KEPT = 4


class _Emitter:
    def load(self):
        return 1 + 2


@intrinsic
def emitted(x):
    return x + 1


@compiled
def kept(x: int | None) -> int | None:
    if x < 0:
        raise ValueError(f"{x + 1} came")
    return x + 1
"""


def test_what_cannot_show_is_left_out() -> None:
    lines = mutation.left_out(SOURCE)
    kept = {number for number, line in enumerate(SOURCE.splitlines(), start=1) if line and number not in lines}
    assert {SOURCE.splitlines()[number - 1].strip() for number in kept} == {
        "KEPT = 4", "def kept(x: int | None) -> int | None:", "if x < 0:", "return x + 1",
    }  # fmt: skip
    line = SOURCE.splitlines().index("def kept(x: int | None) -> int | None:") + 1
    assert (line, SOURCE.splitlines()[line - 1].index("|")) in mutation.annotations(SOURCE)


def test_every_module_and_test_file_is_there() -> None:
    for module, tests in mutation.MODULES.items():
        assert (mutation.ROOT / "fastbp" / f"{module}.py").exists()
        assert all((mutation.ROOT / "tests" / f"{name}.py").exists() for name in tests)


def test_the_sample_is_drawn_by_its_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cosmic_ray")
    monkeypatch.setattr(mutation, "MODULES", {"statetree": ("test_statetree",)})
    drawn = mutation.sample(20, 0)
    assert drawn == mutation.sample(20, 0) != mutation.sample(20, 1)
    assert mutation.fingerprint(drawn) != mutation.fingerprint(drawn[1:])
    assert len({mutant.line for mutant in drawn}) == 20


def test_the_dead_and_the_survivors_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cosmic_ray")
    (tmp_path / "fastbp").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "fastbp" / "__init__.py").write_text("")
    source = "def double(x):\n    return x * 2\n\n\ndef unseen(x):\n    return x * 3\n"
    (tmp_path / "fastbp" / "small.py").write_text(source)
    (tmp_path / "tests" / "test_small.py").write_text(
        "from fastbp.small import double\n\n\ndef test(): assert double(3) == 6\n"
    )
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "MODULES", {"small": ("test_small",)})
    mutants = [m for m in mutation.every_mutant("small") if m.operator == "core/ReplaceBinaryOperator_Mul_Add"]
    outcomes = [mutation.judge(mutant, tmp_path, 60) for mutant in mutants]
    assert [outcome["outcome"] for outcome in outcomes] == ["killed", "survived"]
    assert outcomes[0]["diff"] == ["-    return x * 2", "+    return x + 2"]
    assert (tmp_path / "fastbp" / "small.py").read_text() == source
    with pytest.raises(RuntimeError, match="at fault"):  # no tests at all would kill nothing, or everything
        (tmp_path / "tests" / "test_small.py").write_text("")
        mutation.judge(mutants[0], tmp_path, 60)
    arguments = Namespace(sample=2, seed=0, output=tmp_path / "m.json")
    for outcome in outcomes:
        mutation.record([outcome], "one", arguments)
    content = json.loads(arguments.output.read_text())
    assert (content["judged"], content["killed"], content["score"]) == (2, 1, 0.5)
    mutation.record(outcomes[:1], "two", arguments)  # another sample begins anew
    assert json.loads(arguments.output.read_text())["judged"] == 1
