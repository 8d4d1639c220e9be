"""MNIST as the book hands it to a network: pairs of columns, 10,000 training images held back for validation.

The book's repository unpickles mnist.pkl.gz. A pickle can run any program, so this module reads the four
IDX files of MNIST in its place and makes the same arrays from them: the first 50,000 training images to
train, the last 10,000 to validate, pixels divided by 256.
"""

import os

import numpy as np

from fastbp.datasets import read_mnist

Arrays = tuple[np.ndarray, np.ndarray]
Pairs = list[tuple[np.ndarray, np.ndarray]]
LabelledPairs = list[tuple[np.ndarray, int]]

_TRAINING = 50_000


def load_data(folder: str | os.PathLike[str] | None = None, download: bool = False) -> tuple[Arrays, Arrays, Arrays]:
    """Return (training_data, validation_data, test_data), each a pair (X, y).

    X is (n, 784) float32, pixel/256, a row for each image; y is (n,) int64, the digits; n is 50,000, 10,000
    and 10,000. Where the files are looked for, and what is raised without them: fastbp.datasets.load_mnist.
    """
    (images, labels), (test_images, test_labels) = read_mnist(folder, download)
    X = images / np.float32(256)
    return (
        (X[:_TRAINING], labels[:_TRAINING]),
        (X[_TRAINING:], labels[_TRAINING:]),
        (test_images / np.float32(256), test_labels),
    )


def load_data_wrapper(
    folder: str | os.PathLike[str] | None = None, download: bool = False
) -> tuple[Pairs, LabelledPairs, LabelledPairs]:
    """Return (training_data, validation_data, test_data) as lists of pairs (x, y), the form that SGD takes.

    x is a column, (784, 1) float32. In the training data y is a column too, (10, 1) float64, 1.0 for the
    digit and 0.0 elsewhere; in the other two it is the digit itself, an int. Lists as in the book's Python 2
    (not iterators), of 50,000, 10,000 and 10,000 pairs.

    Every x is a view of one row of one contiguous matrix, and every one-hot y of another, in order: stacking
    them again is a copy at the speed of memory.
    """
    (X, y), validation, test = load_data(folder, download)
    return (
        list(zip(_columns(X), _columns(_one_hot(y)), strict=True)),
        _label_pairs(*validation),
        _label_pairs(*test),
    )


def vectorized_result(j: int) -> np.ndarray:
    """The desired output for the digit j: a (10, 1) column of float64, 1.0 in place j and 0.0 elsewhere."""
    e = np.zeros((10, 1))
    e[j] = 1.0
    return e


def _one_hot(y: np.ndarray) -> np.ndarray:
    """vectorized_result for every label, as the rows of one (n, 10) matrix."""
    Y = np.zeros((len(y), 10))
    Y[np.arange(len(y)), y] = 1.0
    return Y


def _columns(X: np.ndarray) -> list[np.ndarray]:
    return list(X.reshape(len(X), -1, 1))  # iterating makes the views: 0.3 µs each


def _label_pairs(X: np.ndarray, y: np.ndarray) -> LabelledPairs:
    return list(zip(_columns(X), y.tolist(), strict=True))
