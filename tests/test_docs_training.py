"""The page on training: its code runs as it stands, and what it says of the results holds."""

from pathlib import Path

import pytest
from docs_blocks import python_blocks
from numba.core.config import DISABLE_JIT

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training.md"


@pytest.mark.skipif(DISABLE_JIT, reason="too slow without compiled kernels")
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in python_blocks(PAGE):
        block.run(names)
    printed = capsys.readouterr().out
    assert "validation_score" in printed and "the gradients agree" in printed
    assert names["history"]["training_score"][-1] > 0.9 and len(names["frame"]) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"run.csv", "best.safetensors", "run.png", "history.csv"}
