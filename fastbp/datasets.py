"""Where examples come from: digits that ship with the package, MNIST, and (read_table) files of your own."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastbp.datafiles import FilePath, read_idx, refusal, refuse_pickle, unpacked
from fastbp.splits import hold_out
from fastbp.tables import Table, read_csv, read_npz, read_table

__all__ = [
    "Dataset",
    "Table",
    "load_digits",
    "load_mnist",
    "read_csv",
    "read_idx",
    "read_mnist",
    "read_npz",
    "read_table",
]


class Dataset(NamedTuple):
    """A training and a test set. X is (n, n_1) float32 in [0, 1], C-contiguous; y is (n,) int64 labels.

    `input_scaling` is ("affine", shift, scale): X was made from the raw pixels by (pixel - shift) * scale.
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    name: str
    input_scaling: tuple[str, float, float]


def load_digits() -> Dataset:
    """1,797 handwritten digits of 8 × 8 pixels, which ship with the package: 1,442 to train, 355 to test.

    X is (n, 64) float32, pixel/16, so `input_scaling` is ("affine", 0.0, 1/16); y is (n,) int64.
    The split is a plain rule without any random draw: of each digit, in file order, the 5th, 10th, 15th …
    example is for the test. Both parts hold the same writers, so a score says nothing about a new hand.

    The data are the test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak
    (1998), UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, under CC BY 4.0.
    """
    with np.load(Path(__file__).parent / "_data" / "digits.npz", allow_pickle=False) as file:
        X, y = file["X"] / np.float32(16), file["y"].astype(np.int64)
    learn, held_out = hold_out(len(y), 0.2, y)
    return Dataset(X[learn], y[learn], X[held_out], y[held_out], "digits", ("affine", 0.0, 1 / 16))


# The SHA-256 of the four files as published, in the order: images, labels; training first.
_MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
# Two public mirrors of the same bytes: the site that published MNIST no longer serves it reliably.
_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_MNIST_ADVICE = (
    f"set FASTBP_DATA to the folder that holds mnist/ with the four IDX files ({', '.join(_MNIST_FILES)}; "
    "gzipped or not), or pass that folder, or pass download=True to fetch them once (12 MB)"
)


def load_mnist(folder: FilePath | None = None, download: bool = False) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 × 28 pixels row by row.

    X is float32, pixel/255, so `input_scaling` is ("affine", 0.0, 1/255). (The book's own loader divides by
    256 and holds 10,000 training images back for validation: see fastbp.book.mnist_loader.)

    The files are looked for in `folder`; without one in the folder that the environment variable FASTBP_DATA
    names; without that, and only with `download=True`, in the user's cache, where they are fetched once and
    held to the published SHA-256. A folder may hold the files or a folder mnist/ with them, gzipped or not,
    and is checked for structure only: types, shapes, and labels from 0 to 9.

    Raises FileNotFoundError if there are no files, saying what to do; DataFileError if one is damaged, of
    another shape, or downloaded with a wrong checksum; OSError if the download fails.
    Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    (train, y_train), (test, y_test) = read_mnist(folder, download)
    scale = np.float32(255)
    return Dataset(train / scale, y_train, test / scale, y_test, "mnist", ("affine", 0.0, 1 / 255))


def read_mnist(
    folder: FilePath | None = None, download: bool = False
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """MNIST unscaled: ((images, labels) for training, the same for test).

    images is (n, 784) uint8, labels (n,) int64, n = 60,000 and 10,000. Arguments and errors: load_mnist.
    """
    images, labels, test_images, test_labels = _find_mnist(folder, download)
    return _read_digits(images, labels, 60_000), _read_digits(test_images, test_labels, 10_000)


def _read_digits(images: Path, labels: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    pixels = _read_bytes(images, (n, 28, 28))
    digits = _read_bytes(labels, (n,))
    if digits.max() > 9:
        raise refusal(labels, f"the label {digits.max()} at place {digits.argmax()}", "labels from 0 to 9")
    return pixels.reshape(n, 784), digits.astype(np.int64)


def _read_bytes(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    data = read_idx(path)
    if data.dtype != np.uint8 or data.shape != shape:
        raise refusal(path, f"{data.shape} of {data.dtype.name}", f"{shape} of uint8, as in MNIST")
    return data


def _find_mnist(folder: FilePath | None, download: bool) -> list[Path]:
    """The four files, in the order of _MNIST_FILES. A place that is named must hold them: a download in its
    stead would hide a mistyped path."""
    place = folder or os.environ.get("FASTBP_DATA")
    if place:
        return _find_in_folder(Path(place).expanduser())
    if download:
        return _download_mnist()
    raise FileNotFoundError(f"MNIST: no folder was given and FASTBP_DATA is not set; {_MNIST_ADVICE}")


def _find_in_folder(root: Path) -> list[Path]:
    if root.is_file():
        with unpacked(root) as (stream, _):
            refuse_pickle(root, stream.read(64))
        raise refusal(root, "a file", f"a folder; {_MNIST_ADVICE}")
    places = {place: [_find_file(place, name) for name in _MNIST_FILES] for place in (root / "mnist", root)}
    place = max(places, key=lambda place: sum(path is not None for path in places[place]))
    missing = [name for name, path in zip(_MNIST_FILES, places[place], strict=True) if path is None]
    if not missing:
        return [path for path in places[place] if path is not None]
    pickles = [path for place in places for path in place.glob("*.pkl*")]
    raise FileNotFoundError(
        f"MNIST: {place} does not hold {', '.join(missing)}; {_MNIST_ADVICE}."
        + (f" {pickles[0]} is never opened: a pickle can run any program." if pickles else "")
    )


def _find_file(folder: Path, name: str) -> Path | None:
    plain = name.removesuffix(".gz")
    names = (name, plain, plain.replace("-idx", ".idx"))  # some unpackers rename
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _download_mnist() -> list[Path]:
    return [_download(name, checksum) for name, checksum in _MNIST_FILES.items()]


def _download(name: str, checksum: str) -> Path:
    """One file in the user's cache, fetched if it is not there with the right checksum.

    pooch writes to a temporary file, compares its SHA-256, and only then moves it into place; a file
    that does not agree is removed.
    """
    import pooch  # only here: a download is rare, and pooch brings requests

    failures = []
    for mirror in _MNIST_MIRRORS:
        try:
            cache = pooch.os_cache("fastbp") / "mnist"
            return Path(pooch.retrieve(mirror + name, f"sha256:{checksum}", fname=name, path=cache))
        except OSError as error:  # no network, no such file, no room: requests' errors are OSErrors too
            failures.append(f"{mirror}: {error}")
        except ValueError as error:
            raise refusal(
                mirror + name,
                f"a file with another checksum, which is removed ({error})",
                f"the published one; try again later, or {_MNIST_ADVICE}",
            ) from error
    raise OSError(f"could not download {name}: {'; '.join(failures)}. Without a network, {_MNIST_ADVICE}")
