"""docs/reliability.md: each row has tests, they exist, and the page is the one its script writes."""

import ast
import copy
import json
from pathlib import Path

import pytest
import reliability
from reliability import ROWS

TESTS = Path(__file__).parent


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("number", range(1, 25))
def test_each_row_has_tests_that_exist(number: int) -> None:
    row = ROWS[number - 1]
    assert row.tests
    for test in row.tests:
        file, _, name = reliability.node(test).partition("::")
        assert name in functions(TESTS / file), f"row {number}: there is no {file}::{name}"


def test_there_are_24_rows() -> None:
    assert len(ROWS) == 24 and len({row.what for row in ROWS}) == 24


def test_the_page_is_the_one_its_script_writes() -> None:
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.page(), "run python tests/reliability.py"


def test_results_that_are_missing_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reliability, "RESULTS", tmp_path)
    page = reliability.page()
    assert "Not measured yet" in page and "Not run yet" in page
    assert all(f"`{reliability.node(test)}`" in page for row in ROWS for test in row.tests)


def test_results_are_shown(tmp_path: Path) -> None:
    mutant = {
        "module": "tables", "operator": "core/AddNot", "occurrence": 0, "line": 7, "outcome": "survived",
        "seconds": 1.0,
        "diff": ["-    a = b | c", "+    a = b & c"],
    }  # fmt: skip
    found = {"sample": 300, "seed": 0, "cosmic_ray": "8", "judged": 2, "killed": 1, "score": 0.5}
    text = reliability._mutation({**found, "mutants": [mutant, {**mutant, "outcome": "killed"}]})
    assert "1 of 2 mistakes were noticed, 50% (the first of a sample of 300 with seed 0;" in text
    assert "50% (a sample with seed 0;" in reliability._mutation({**found, "sample": 2, "mutants": []})
    assert "| tables.py:7 | `a = b \\| c` → `a = b & c` |" in text
    soak = {
        "rounds": 1234, "seconds": 1200, "growth_mb_in_10_minutes": 0.1234, "limit": 1, "upper_end": 0.2,
        "descriptors": [7, 7], "threads": [1, 2], "strays": ["x"], "date": "2026-01-01", "machine": "one",
    }  # fmt: skip
    text = reliability._soak(soak)
    assert "1,234 networks" in text and "0.12 MB" in text and "threads 1 → 2" in text and "stray files 1" in text
    assert "45 trainings" in reliability._kills({"kills": 45, "differing": 0})
    published = json.loads((reliability.RESULTS / "ulp.json").read_text(encoding="utf-8"))
    changed = copy.deepcopy(published)
    changed["table"][0]["ulp"] = 1.2345
    assert "1.23 |" in reliability._ulp(changed) and reliability._ulp(changed) != reliability._ulp(published)
