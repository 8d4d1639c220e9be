"""What several test files share: the real MNIST where FASTBP_DATA names it, and files of its shape."""

import gzip
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastbp.book import mnist_loader
from fastbp.datasets import Dataset, load_mnist

# For `benchmarks`, which is not installed; at the end, so that the installed fastbp is the one under test.
sys.path.append(str(Path(__file__).resolve().parents[1]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:  # a test that asks for the real files need not also remember the marker
        if {"mnist", "book_data"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.mnist)


def _skip_without_mnist() -> None:
    if not os.environ.get("FASTBP_DATA"):
        pytest.skip("set FASTBP_DATA to the folder that holds mnist/")


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    _skip_without_mnist()
    return load_mnist()


@pytest.fixture(scope="session")
def book_data() -> tuple:
    """load_data_wrapper() of the real files, read once; SGD shuffles lists in place, so take book_pairs."""
    _skip_without_mnist()
    return mnist_loader.load_data_wrapper()


@pytest.fixture
def book_pairs(book_data: tuple) -> tuple[list, list, list]:
    """The book's (training, validation, test): fresh lists, to shuffle, of shared arrays, not to write to."""
    training, validation, test = book_data
    return list(training), list(validation), list(test)


@pytest.fixture
def streams_kept() -> Iterator[None]:
    """The global random streams, which resuming sets, are put back for the next test."""
    states = random.getstate(), np.random.get_state(legacy=False)
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def idx_bytes(data: np.ndarray, code: int = 0x08) -> bytes:
    """The IDX file of an array; `code` is the type's byte."""
    big_endian = data.astype(data.dtype.newbyteorder(">"))
    return bytes([0, 0, code, data.ndim]) + np.array(data.shape, ">u4").tobytes() + big_endian.tobytes()


@pytest.fixture(scope="session")
def fake_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four gzipped files of MNIST's names and shapes: image i is blank but for pixel i % 784,
    which is i % 256, and its label is i % 10."""
    folder = tmp_path_factory.mktemp("mnist")
    for part, n in (("train", 60_000), ("t10k", 10_000)):
        i = np.arange(n)
        images = np.zeros((n, 784), np.uint8)
        images[i, i % 784] = i % 256
        for name, data in (
            ("images-idx3", images.reshape(n, 28, 28)),
            ("labels-idx1", (i % 10).astype(np.uint8)),
        ):
            packed = gzip.compress(idx_bytes(data), compresslevel=1, mtime=0)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(packed)
    return folder
