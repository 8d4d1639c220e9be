"""The data sets: the right bytes, from the right place, or an error that says what to do."""

import gzip
import hashlib
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import idx_bytes

from fastbp import datasets
from fastbp.datasets import Dataset, load_digits, load_mnist, read_mnist
from fastbp.errors import DataFileError

NAMES = list(datasets._MNIST_FILES)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check(data: Dataset, n_train: int, n_test: int, n_1: int) -> None:
    for X, y, n in ((data.X_train, data.y_train, n_train), (data.X_test, data.y_test, n_test)):
        assert X.shape == (n, n_1) and X.dtype == np.float32 and X.flags.c_contiguous and X.flags.owndata
        assert y.shape == (n,) and y.dtype == np.int64
        assert X.min() == 0 and X.max() <= 1
        assert set(y) == set(range(10))


# --- digits


def test_digits_are_the_published_ones() -> None:
    folder = Path(datasets.__file__).parent / "_data"
    with np.load(folder / "digits.npz", allow_pickle=False) as file:
        X, y = file["X"], file["y"]
    sums = [sha256(X.tobytes()), sha256(y.tobytes())]
    assert sums == [
        "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
        "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
    ]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert all(text in readme for text in (*sums, "E. Alpaydin and C. Kaynak", "CC BY 4.0"))


def test_digits() -> None:
    digits = load_digits()
    check(digits, 1442, 355, 64)
    assert digits.name == "digits" and digits.input_scaling == ("affine", 0.0, 1 / 16)
    assert digits.X_train.max() == 1
    raw = digits.X_train * 16
    np.testing.assert_array_equal(raw, raw.round())


def test_the_split_of_the_digits_is_every_fifth_of_each() -> None:
    with np.load(Path(datasets.__file__).parent / "_data" / "digits.npz") as file:
        X, y = file["X"], file["y"]
    count, train, test = dict.fromkeys(range(10), 0), [], []
    for i, label in enumerate(y.tolist()):
        count[label] += 1
        (test if count[label] % 5 == 0 else train).append(i)
    digits = load_digits()
    for rows, part_X, part_y in (
        (train, digits.X_train, digits.y_train),
        (test, digits.X_test, digits.y_test),
    ):
        np.testing.assert_array_equal(part_X, X[rows] / 16)
        np.testing.assert_array_equal(part_y, y[rows])


def test_each_call_gives_arrays_of_its_own() -> None:
    load_digits().X_train[:] = 7
    assert load_digits().X_train.max() == 1


def test_import_is_light() -> None:
    code = (
        "import sys; from fastbp import datasets; datasets.load_digits(); "
        "print([m for m in ('pooch', 'requests', 'pandas', 'numba', 'scipy', 'pickle5') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- MNIST from a folder


def test_mnist_of_a_folder(fake_mnist: Path) -> None:
    data = load_mnist(fake_mnist)
    check(data, 60_000, 10_000, 784)
    assert data.name == "mnist" and data.input_scaling == ("affine", 0.0, 1 / 255)
    i = np.arange(60_000)
    np.testing.assert_array_equal(data.X_train[i, i % 784], (i % 256 / 255).astype(np.float32))
    np.testing.assert_array_equal(data.y_train, i % 10)


def test_the_recorded_scaling_makes_the_same_inputs_from_raw_pixels() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    for scale in (16, 255):
        recorded = ((pixels - 0.0) * (1 / scale)).astype(np.float32)
        np.testing.assert_array_equal(recorded, pixels / np.float32(scale))


@pytest.mark.parametrize("where", ["argument", "environment"])
@pytest.mark.parametrize("nested", [False, True])
def test_places(fake_mnist: Path, tmp_path: Path, monkeypatch, where: str, nested: bool) -> None:
    (tmp_path / "mnist").symlink_to(fake_mnist, target_is_directory=True)
    monkeypatch.delenv("FASTBP_DATA", raising=False)
    place = tmp_path if nested else tmp_path / "mnist"
    if where == "environment":
        monkeypatch.setenv("FASTBP_DATA", str(place))
        place = None
    assert len(read_mnist(place)[1][0]) == 10_000


@pytest.mark.parametrize("rename", [str, lambda name: name.replace("-idx", ".idx")])
def test_unpacked_files(fake_mnist: Path, tmp_path: Path, rename) -> None:
    for name in NAMES:
        plain = gzip.decompress((fake_mnist / name).read_bytes())
        (tmp_path / rename(name.removesuffix(".gz"))).write_bytes(plain)
    (train, _), (test, _) = read_mnist(tmp_path)
    assert len(train) == 60_000 and len(test) == 10_000


def test_the_folder_given_goes_before_the_environment(fake_mnist: Path, monkeypatch) -> None:
    monkeypatch.setenv("FASTBP_DATA", "/nowhere")
    read_mnist(fake_mnist)


@pytest.mark.parametrize("value", [None, ""])
def test_without_files_the_error_says_what_to_do(monkeypatch, value: str | None) -> None:
    monkeypatch.delenv("FASTBP_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("FASTBP_DATA", value)
    with pytest.raises(FileNotFoundError, match=r"set FASTBP_DATA to the folder that holds mnist/.*download=True"):
        load_mnist()


@pytest.mark.parametrize("download", [False, True])
def test_a_named_place_must_hold_the_files(tmp_path: Path, fake_mnist: Path, download: bool) -> None:
    with pytest.raises(FileNotFoundError, match=f"{NAMES[0]}, {NAMES[1]}, {NAMES[2]}, {NAMES[3]}; set FASTBP_DATA"):
        load_mnist(tmp_path, download=download)
    for name in NAMES[:3]:
        (tmp_path / name).symlink_to(fake_mnist / name)
    with pytest.raises(FileNotFoundError, match=rf"does not hold {NAMES[3]}; set FASTBP_DATA"):
        load_mnist(tmp_path, download=download)


def test_a_pickle_in_the_folder_is_named_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "mnist.pkl.gz").write_bytes(gzip.compress(pickle.dumps([1])))
    with pytest.raises(FileNotFoundError, match=r"mnist\.pkl\.gz is never opened"):
        load_mnist(tmp_path)
    with pytest.raises(DataFileError, match="a Python pickle"):
        load_mnist(tmp_path / "mnist.pkl.gz")


def test_a_file_in_place_of_the_folder(fake_mnist: Path) -> None:
    with pytest.raises(DataFileError, match="found a file; expected a folder"):
        load_mnist(fake_mnist / NAMES[0])


@pytest.mark.parametrize(
    ("name", "data", "code", "found"),
    [
        (NAMES[1], np.zeros(60_000, np.int8), 0x09, r"\(60000,\) of int8; expected \(60000,\) of uint8"),
        (NAMES[1], np.zeros(59_999, np.uint8), 0x08, r"\(59999,\) of uint8"),
        (
            NAMES[3],
            np.full(10_000, 10, np.uint8),
            0x08,
            "the label 10 at place 0; expected labels from 0 to 9",
        ),
        (
            NAMES[2],
            np.zeros((10_000, 784), np.uint8),
            0x08,
            r"\(10000, 784\) of uint8; expected \(10000, 28, 28\)",
        ),
    ],
)
def test_structure(fake_mnist: Path, tmp_path: Path, name: str, data: np.ndarray, code: int, found: str) -> None:
    for other in NAMES:
        (tmp_path / other).symlink_to(fake_mnist / other)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(gzip.compress(idx_bytes(data, code), compresslevel=1))
    with pytest.raises(DataFileError, match=f"{name}: found {found}"):
        load_mnist(tmp_path)


# --- MNIST by download, from a server in this process


class Server:
    """Serves `files` under /good/, answers 404 under any other folder, and notes what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append(self.path)
                body = owner.files.get(self.path.removeprefix("/good/"))
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass  # quiet

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(fake_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    server.files = {name: (fake_mnist / name).read_bytes() for name in NAMES}
    monkeypatch.setattr(datasets, "_MNIST_FILES", {name: sha256(server.files[name]) for name in NAMES})
    monkeypatch.setattr(datasets, "_MNIST_MIRRORS", (server.url + "/gone/", server.url + "/good/"))
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("FASTBP_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def cached(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_download_once_from_the_mirror_that_answers(server: Server, tmp_path: Path) -> None:
    (train, _), _ = read_mnist(download=True)
    assert len(train) == 60_000
    assert server.asked == [f"/{mirror}/{name}" for name in NAMES for mirror in ("gone", "good")]
    assert cached(tmp_path) == sorted(NAMES)
    read_mnist(download=True)
    assert len(server.asked) == 8  # the second time nothing was fetched


def test_a_wrong_checksum_is_refused_and_the_file_removed(server: Server, tmp_path: Path) -> None:
    server.files[NAMES[1]] += b"x"
    with pytest.raises(DataFileError, match=rf"/good/{NAMES[1]}: found a file with another checksum, which is removed"):
        load_mnist(download=True)
    assert cached(tmp_path) == [NAMES[0]]


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    read_mnist(download=True)
    damaged = tmp_path / "cache" / "fastbp" / "mnist" / NAMES[3]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    read_mnist(download=True)
    assert damaged.read_bytes() == server.files[NAMES[3]]


def test_no_mirror_answers(server: Server, tmp_path: Path) -> None:
    server.files = {}
    with pytest.raises(OSError, match=f"could not download {NAMES[0]}: .*/gone/: 404.*/good/: 404.*set FASTBP_DATA"):
        load_mnist(download=True)
    assert cached(tmp_path) == []


def test_a_named_folder_is_never_replaced_by_a_download(server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FASTBP_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        load_mnist(download=True)
    assert server.asked == []


def test_the_pinned_checksums_are_sha256() -> None:
    assert [len(bytes.fromhex(value)) for value in datasets._MNIST_FILES.values()] == [32] * 4


# --- the real files


def test_real_mnist(mnist: Dataset) -> None:
    check(mnist, 60_000, 10_000, 784)
    # Of the unpacked bytes, as published; the training images of a folder may be a reconstruction.
    for array, head, published in (
        (mnist.y_train, (0x801, 60_000), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        (mnist.y_test, (0x801, 10_000), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        (
            mnist.X_test * 255,
            (0x803, 10_000, 28, 28),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
    ):
        assert sha256(np.array(head, ">u4").tobytes() + np.rint(array).astype(np.uint8).tobytes()) == published
    assert mnist.X_train.mean(dtype=np.float64) == pytest.approx(0.1307, abs=1e-4)
    assert mnist.X_train.std(dtype=np.float64) == pytest.approx(0.3081, abs=1e-4)


def test_real_mnist_cut_short(mnist: Dataset, tmp_path: Path, monkeypatch) -> None:
    paths = datasets._find_mnist(None, False)
    for path in paths[1:]:
        shutil.copy(path, tmp_path)
    (tmp_path / paths[0].name).write_bytes(paths[0].read_bytes()[:-1000])
    with pytest.raises(DataFileError, match="train-images-idx3-ubyte"):
        load_mnist(tmp_path)
