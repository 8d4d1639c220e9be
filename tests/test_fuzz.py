"""Every loader on a few thousand damaged files: a short run of the fuzzers, the same each time, without Atheris."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzz import corpus, mutations, targets
from fuzz.targets import CORPUS, TARGETS, Reader, sealed

import fastbp
from fastbp.errors import DataFileError

# Inputs for each loader; `FASTBP_FUZZ=100000 pytest tests/test_fuzz.py` looks longer.
INPUTS = int(os.environ.get("FASTBP_FUZZ", "1500"))


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(corpus.folder(name).iterdir())]


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_as_promised_or_refused(name: str) -> None:
    files, rng, read = seeds(name), random.Random(name), 0
    with Reader(name) as reader:
        for i in range(INPUTS):
            data = mutations.mutate(files[i % len(files)], files, rng)
            try:
                read += reader.read(data)
            except BaseException:
                print(f"input {i} of {name}: {data!r}")
                raise
    # were all refused at the first door, nothing behind it would be tested, and were all read, nothing was damaged
    assert 0 < read < INPUTS


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_small_and_good(name: str) -> None:
    files = seeds(name)
    assert len(files) >= 3 and max(map(len, files)) < 20_000
    with Reader(name) as reader:
        assert all(map(reader.read, files))


def test_the_script_writes_the_corpus(tmp_path: Path) -> None:
    corpus.write(tmp_path)
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert written <= {path.relative_to(CORPUS) for path in CORPUS.rglob("*")}
    for place in written:
        assert (tmp_path / place).stat().st_size == pytest.approx((CORPUS / place).stat().st_size, rel=0.2), place


def test_every_change_changes_something() -> None:
    rng = random.Random(0)
    for change in mutations.CHANGES:
        for data in (b"", b"1"):  # nothing, or next to nothing, to change
            change(data, [b""], rng)
        assert len({change(b"12,345\n" * 5, [b"abc", b""], rng) for _ in range(50)}) > 5, change
    one, two = (mutations.mutate(b"some,text 12\n", [b"x"], random.Random(5)) for _ in range(2))
    assert one == two


def test_a_repaired_seal_lets_damage_in(tmp_path: Path) -> None:
    data = (CORPUS / "model" / "smallest.model").read_bytes()
    assert sealed(data) == data and sealed(b"no place") is None
    damaged = data[:-1] + bytes([data[-1] ^ 1])
    path = tmp_path / "a.model"
    path.write_bytes(damaged)
    with pytest.raises(fastbp.ModelFileError, match="checksum"):
        fastbp.load(path)
    path.write_bytes(sealed(damaged))
    weights = np.concatenate([a.ravel() for a in (*fastbp.load(path).weights, *fastbp.load(path).biases)])
    path.write_bytes(data)
    whole = np.concatenate([a.ravel() for a in (*fastbp.load(path).weights, *fastbp.load(path).biases)])
    assert (weights != whole).sum() == 1


def _raises(error: Exception) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    "error",
    [ValueError("any other"), MemoryError(), UserWarning("a warning"), DataFileError(""), DataFileError("x" * 5000)],
)
def test_a_fault_is_not_taken_for_a_refusal(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "csv", TARGETS["csv"]._replace(read=_raises(error)))
    with Reader("csv") as reader, pytest.raises((type(error), AssertionError)):
        reader.read(b"1,2\n")


def test_a_result_that_breaks_its_promise_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = targets.datasets.Table(np.array([[np.nan]]), np.array([1]), ["a"], "b")
    monkeypatch.setitem(TARGETS, "csv", TARGETS["csv"]._replace(read=lambda path: bad))
    with Reader("csv") as reader, pytest.raises(AssertionError):
        reader.read(b"1,2\n")
