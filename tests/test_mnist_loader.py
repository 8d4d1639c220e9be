"""The book's loader: the shapes, types and values of the original, without its pickle."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from fastbp.book import mnist_loader
from fastbp.errors import DataFileError


def test_load_data_has_the_shapes_and_values_of_the_original(fake_mnist: Path) -> None:
    training, validation, test = mnist_loader.load_data(fake_mnist)
    for (X, y), n, first in ((training, 50_000, 0), (validation, 10_000, 50_000), (test, 10_000, 0)):
        i = first + np.arange(n)
        assert X.shape == (n, 784) and X.dtype == np.float32 and X.flags.c_contiguous
        assert y.dtype == np.int64
        np.testing.assert_array_equal(y, i % 10)
        np.testing.assert_array_equal(X[np.arange(n), i % 784], i % 256 / 256)
        assert np.count_nonzero(X) == np.count_nonzero(i % 256)


def test_wrapper_gives_lists_of_pairs_of_columns(fake_mnist: Path) -> None:
    training, validation, test = mnist_loader.load_data_wrapper(fake_mnist)
    assert [type(pairs) for pairs in (training, validation, test)] == [list, list, list]
    assert [len(pairs) for pairs in (training, validation, test)] == [50_000, 10_000, 10_000]
    for k in (0, 1, 777, 49_999):
        x, y = training[k]
        assert x.shape == (784, 1) and x.dtype == np.float32
        assert x[k % 784] == k % 256 / 256
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y, mnist_loader.vectorized_result(k % 10))
    for pairs, first in ((validation, 50_000), (test, 0)):
        for k in (0, 9_999):
            x, y = pairs[k]
            assert x.shape == (784, 1) and x.dtype == np.float32
            assert type(y) is int and y == (first + k) % 10


def test_columns_are_views_of_the_rows_of_one_matrix(fake_mnist: Path) -> None:
    for pairs in mnist_loader.load_data_wrapper(fake_mnist):
        for column in range(2 if isinstance(pairs[0][1], np.ndarray) else 1):
            arrays = [pair[column] for pair in pairs]
            assert len({id(a.base) for a in arrays}) == 1
            assert all(a.flags.c_contiguous for a in arrays[:100])
            steps = np.diff([a.__array_interface__["data"][0] for a in arrays])
            assert set(steps) == {arrays[0].nbytes}


@pytest.mark.parametrize("j", range(10))
def test_vectorized_result(j: int) -> None:
    e = mnist_loader.vectorized_result(j)
    assert e.shape == (10, 1) and e.dtype == np.float64
    assert e[j] == 1.0 and e.sum() == 1.0


def test_finds_the_files_that_fastbp_data_names(fake_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_DATA", str(fake_mnist))
    assert len(mnist_loader.load_data()[0][0]) == 50_000
    monkeypatch.delenv("FASTBP_DATA")
    with pytest.raises(FileNotFoundError, match="set FASTBP_DATA"):
        mnist_loader.load_data_wrapper()


def test_the_books_own_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(DataFileError, match="a Python pickle"):
        mnist_loader.load_data(path)


def test_real_pairs(book_pairs: tuple[list, list, list], mnist) -> None:
    training, validation, test = book_pairs
    for pairs, X, y in (
        (training, mnist.X_train[:50_000], mnist.y_train[:50_000]),
        (validation, mnist.X_train[50_000:], mnist.y_train[50_000:]),
        (test, mnist.X_test, mnist.y_test),
    ):
        labels = [int(np.argmax(y)) if isinstance(y, np.ndarray) else y for _, y in pairs]
        assert labels == y.tolist()
        np.testing.assert_allclose(np.hstack([x for x, _ in pairs[:50]]).T * 256, X[:50] * 255, rtol=1e-6)
    # The first training labels, as printed in every tutorial of MNIST.
    assert [int(np.argmax(y)) for _, y in training[:10]] == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
