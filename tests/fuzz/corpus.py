"""Writes the seed corpus, tests/corpus/: a few small good files for each loader. `python tests/fuzz/corpus.py`

What comes of fuzzing is added by hand, as a file whose name says what it did; this script leaves it alone.
Checkpoints are not kept there: one is resumed on the machine, with the threads and by the version that wrote it.
"""

import atexit
import functools
import gzip
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import fastbp
from fastbp import checkpoint
from fastbp.book import network2

sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzz.targets import CORPUS, TARGETS, learner, lesson


@functools.cache
def folder(name: str) -> Path:
    """Where the good files of a loader lie; those of checkpoints are written first, and gone at the end."""
    if name != "checkpoint":
        return CORPUS / name
    written = Path(tempfile.mkdtemp(prefix="fastbp-fuzz-"))
    atexit.register(shutil.rmtree, written, ignore_errors=True)
    _checkpoints(written)
    return written


def write(corpus: Path) -> None:
    for name in (name for name in TARGETS if name != "checkpoint"):
        (corpus / name).mkdir(parents=True, exist_ok=True)
    _models(corpus / "model")
    _network2(corpus / "network2")
    _idx(corpus / "idx")
    _csv(corpus / "csv")
    _npz(corpus / "npz")


def _models(folder: Path) -> None:
    fastbp.Network([2, 2], seed=0).save(folder / "smallest.model")
    rich = fastbp.Network(
        [3, 4, 2], hidden=["tanh"], output="softmax", cost="log_likelihood", dtype="float32", seed=0,
        neurons={(2, 1): "gelu"},
    )  # fmt: skip
    rich.classes_ = np.array(["no", "yes"])
    rich.input_scaling = ("affine", np.arange(3.0), 0.5)
    rich.save(folder / "everything.model")
    whole = fastbp.Network([1, 2], seed=0)
    whole.classes_ = np.array([3, 7])
    whole.save(folder / "whole-labels.model")


def _checkpoints(folder: Path) -> None:
    """As they are at the beginning of a run, in the middle of an epoch, and at the end of one."""
    kept, write = [], checkpoint.Writer.write

    def write_and_keep(self: checkpoint.Writer, run: Any) -> None:
        write(self, run)
        kept.append(path.read_bytes())

    with tempfile.TemporaryDirectory() as name, mock.patch.object(checkpoint.Writer, "write", write_and_keep):
        path = Path(name) / "a.checkpoint"
        learner().fit(
            *lesson(), epochs=2, batch_size=2, optimizer=fastbp.Adam(0.01), verbose=False,
            checkpoint=fastbp.Checkpoint(path, every_batches=1),
        )  # fmt: skip
    for name, content in (("begin", kept[0]), ("middle", kept[1]), ("end", kept[-1])):
        (folder / f"{name}.checkpoint").write_bytes(content)


def _network2(folder: Path) -> None:
    for name, cost in (("quadratic", network2.QuadraticCost), ("cross-entropy", network2.CrossEntropyCost)):
        np.random.seed(0)
        network2.Network([2, 3, 2], cost).save(folder / f"{name}.json")
    (folder / "whole.json").write_text(
        '{"sizes": [1, 1], "weights": [[[2]]], "biases": [[[-1e-3]]], "cost": "CrossEntropyCost"}'
    )


def _idx(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, code, kind in (("bytes", 8, "u1"), ("shorts", 11, ">i2"), ("floats", 13, ">f4"), ("doubles", 14, ">f8")):
        array = rng.integers(0, 100, (3, 2, 2)).astype(kind)
        data = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        (folder / f"{name}.idx").write_bytes(data)
        if name == "bytes":
            (folder / "packed.idx").write_bytes(gzip.compress(data, mtime=0))
    (folder / "labels.idx").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 2, 3]))


def _csv(folder: Path) -> None:
    for name, text in {
        "header": "a,b,kind\n1,2.5,x\n-3,4e2,y\n",
        "numbers": "1,2,3\n4,5,6\n\n7,8,9\n",
        "quoted": '"a ""b""",c,d\r\n1,2,"x, y"\r\n3,4,"two\nlines"\r\n',
        "semicolons": "\ufeffx;y;z\n1;2;0\n3;4;1\n",
        "tabs": "1\t2\t0.5\n3\t4\t1.5",
    }.items():
        (folder / f"{name}.csv").write_bytes(text.encode())


def _npz(folder: Path) -> None:
    X, y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    for name, packed, arrays in (
        ("plain", False, {"X": X, "y": y}),
        ("packed", True, {"X": X.astype(np.float32), "y": np.array(["a", "b", "a"])}),
        ("keras", False, {"x_train": images, "y_train": y, "x_test": images[:1], "y_test": y[:1]}),
        ("fortran", False, {"X": np.asfortranarray(X), "y": X > 2}),
    ):
        buffer = io.BytesIO()
        (np.savez_compressed if packed else np.savez)(buffer, **arrays)
        (folder / f"{name}.npz").write_bytes(buffer.getvalue())


if __name__ == "__main__":
    write(CORPUS)
