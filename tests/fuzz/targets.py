"""Every loader as a target: bytes in; a result that keeps the promises, or a refusal; anything else is a fault.

A refusal is one of fastbp's own errors with a message. MemoryError, a crash, a warning, or an array that contradicts
what the loader promises are faults, and so is any other exception.
"""

import hashlib
import os
import random
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastbp
from fastbp import datafiles, datasets
from fastbp.book import network2
from fastbp.errors import FastbpError

CORPUS = Path(__file__).parent.parent / "corpus"


class Target(NamedTuple):
    """One loader: `read` takes a path, `check` asserts what its result promises, `repair` mends a checksum."""

    suffix: str
    read: Callable[[Path], Any]
    check: Callable[[Any, bytes], None]
    repair: Callable[[bytes], bytes | None] = lambda data: None


def _check_network(network: Any, data: bytes) -> None:
    sizes = network.sizes
    assert all(np.isfinite(a).all() for a in (*network.biases, *network.weights))
    assert [w.shape for w in network.weights] == list(zip(sizes[1:], sizes[:-1], strict=True))
    assert sum(a.nbytes for a in (*network.biases, *network.weights)) <= len(data)
    with np.errstate(all="ignore"):  # parameters may be so large that outputs overflow
        assert network.outputs(np.zeros((1, sizes[0]))).shape == (1, sizes[-1])


def lesson() -> tuple[np.ndarray, np.ndarray]:
    """The data of the corpus's checkpoints."""
    return np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.5, -1.0]]), np.array([0, 1, 0, 1])


def learner(**options: Any) -> fastbp.Network:
    """The network of the corpus's checkpoints."""
    return fastbp.Network([2, 2], seed=0, engine="reference", **options)


def _resume(path: Path) -> fastbp.Network:
    """Go on from a checkpoint, an epoch further; the global random streams, which that sets, are put back."""
    python, numpy = random.getstate(), np.random.get_state()
    network = learner()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it comes from another machine, which a test of the corpus may say
            network.fit(*lesson(), epochs=3, batch_size=2, optimizer=fastbp.Adam(0.01), resume=path, verbose=False)
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
    return network


def _check_network2(network: Any, data: bytes) -> None:
    sizes = network.sizes
    assert [w.shape for w in network.weights] == list(zip(sizes[1:], sizes[:-1], strict=True))
    assert [b.shape for b in network.biases] == [(n, 1) for n in sizes[1:]]
    assert all(a.dtype == np.float64 and np.isfinite(a).all() for a in (*network.biases, *network.weights))
    assert sum(a.size for a in (*network.biases, *network.weights)) <= len(data)


def _check_idx(array: np.ndarray, data: bytes) -> None:
    assert array.dtype.kind in "uif" and array.dtype.isnative
    assert array.nbytes <= datafiles.DEFLATE_RATIO * len(data)


def _check_table(table: Any, data: bytes) -> None:
    assert table.X.ndim == 2 and table.X.size and table.X.dtype.kind in "buif"
    assert table.X.nbytes <= datafiles.DEFLATE_RATIO * len(data)
    assert len(table.columns) == table.X.shape[1] and all(isinstance(name, str) for name in table.columns)
    if table.y is not None:
        assert len(table.y) == len(table.X) and table.y.dtype.kind in "buifU"


def _check_csv(table: Any, data: bytes) -> None:
    _check_table(table, data)
    assert np.isfinite(table.X).all() and table.y.ndim == 1
    if table.y.dtype.kind == "f":
        assert np.isfinite(table.y).all()


_SEAL = re.compile(rb'"__metadata__":\{"fastbp":"sha256:(.{64})', re.DOTALL)


def sealed(data: bytes) -> bytes | None:
    """The same file with the checksum that its contents have: damage behind the first door. None if it has no place."""
    place = _SEAL.search(data)
    if place is None:
        return None
    start, end = place.span(1)
    digest = hashlib.sha256(data[:start] + b"0" * 64 + data[end:]).hexdigest().encode()
    return data[:start] + digest + data[end:]


TARGETS = {
    "model": Target(".model", fastbp.load, _check_network, sealed),
    "checkpoint": Target(".checkpoint", _resume, _check_network, sealed),
    "network2": Target(".json", network2.load, _check_network2),
    "idx": Target(".idx", datafiles.read_idx, _check_idx),
    "csv": Target(".csv", datasets.read_csv, _check_csv),
    "npz": Target(".npz", datasets.read_npz, _check_table),
}


class Reader:
    """Gives bytes to a loader as a file, in memory where the system has such a folder."""

    def __init__(self, name: str) -> None:
        self.target = TARGETS[name]
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(prefix="fastbp-fuzz-", dir=shared)
        self.path = Path(self._folder.name) / f"input{self.target.suffix}"

    def read(self, data: bytes) -> bool:
        """True if the bytes were read, False if they were refused. Any other exception is a fault.

        A file with a checksum is read again with the right one, and that is what counts.
        """
        done = self._once(data)
        repaired = self.target.repair(data)
        return done if repaired is None or repaired == data else self._once(repaired)

    def _once(self, data: bytes) -> bool:
        self.path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                result = self.target.read(self.path)
            except FastbpError as refusal:
                assert str(refusal), "a refusal without a word"
                assert len(str(refusal)) < 2000, "a refusal that repeats a hostile file"
                return False
            self.target.check(result, data)
        return True

    def close(self) -> None:
        self._folder.cleanup()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()
