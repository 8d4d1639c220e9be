"""IDX files, whole and broken: what is written comes back, and nothing else comes back at all."""

import gzip
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import idx_bytes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastbp import memory
from fastbp.datafiles import read_idx
from fastbp.errors import DataFileError

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.idx"


def header(*sizes: int, code: int = 0x08) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


@given(
    data=st.sampled_from(sorted(CODES)).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(max_dims=4, min_side=0, max_side=5))
    ),
    packed=st.booleans(),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, data: np.ndarray, packed: bool) -> None:
    path = tmp_path_factory.mktemp("idx") / "data"
    written = idx_bytes(data, CODES[data.dtype.name])
    path.write_bytes(gzip.compress(written) if packed else written)
    back = read_idx(path)
    assert back.dtype == data.dtype and back.dtype.isnative and back.shape == data.shape
    assert back.tobytes() == data.tobytes()  # bytes: NaN equals itself
    assert back.flags.c_contiguous and back.flags.writeable


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_every_truncation_is_refused(path: Path, pack) -> None:
    whole = pack(idx_bytes(SMALL))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataFileError, match=r"data\.idx: found .*; expected "):
            read_idx(path)


def test_every_flipped_bit_of_the_header_is_refused(path: Path) -> None:
    whole = idx_bytes(SMALL)
    for bit in range(8 * 16):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if (
            flipped[2] == CODES["int8"]
        ):  # the one flip that makes another true header: the reader of MNIST asks for uint8
            assert read_idx(path).dtype == np.int8
            continue
        with pytest.raises(DataFileError):
            read_idx(path)


def test_a_flipped_bit_in_gzip_never_gives_other_data(path: Path) -> None:
    whole = gzip.compress(idx_bytes(SMALL))
    refused = 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            np.testing.assert_array_equal(read_idx(path), SMALL)  # a time stamp, say
        except DataFileError:
            refused += 1
    assert refused > 6 * len(whole)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "the first bytes (none)"),
        (b"\0\0", "the first bytes 00 00"),
        (b"\0\0\x0a\x01" + b"\0" * 8, "the first bytes 00 00 0a 01"),  # 0a is no type
        (b"\0\0\x08\0", "the first bytes 00 00 08 00"),  # no dimensions
        (b"\0\0\x08\xff" + b"\0" * 2000, "the first bytes 00 00 08 ff"),
        (b"P5 28 28 255\n", "the first bytes 50 35 20 32"),
        (header(2, 3)[:10], "6 bytes of sizes"),
        (header(2, 3) + b"12345", "only 5 bytes after the header"),
        (header(2, 3) + b"1234567", "more than 6 bytes after the header"),
        (header(2, 3, code=0x0E) + b"123456", "a file that can hold no more than 18 bytes"),
        (
            header(2**32 - 1, 2**32 - 1, 2**32 - 1),
            "an array declared as (4294967295, 4294967295, 4294967295)",
        ),
        (header(0, 2**32 - 1, 2**32 - 1), "an array declared as (0, 4294967295, 4294967295)"),
        (gzip.compress(header(50_000_000)), "a file that can hold no more than "),
        (gzip.compress(header(6) + b"12345"), "only 5 bytes after the header"),
        (gzip.compress(header(6) + b"1234567"), "more than 6 bytes after the header"),
        (gzip.compress(header(6) + b"123456") + b"tail", "a damaged gzip stream"),
    ],
)
def test_refusals_name_file_found_and_expected(path: Path, content: bytes, found: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DataFileError) as refused:
        read_idx(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: found {found}") and "; expected " in message


def test_gzip_in_several_members(path: Path) -> None:
    whole = idx_bytes(SMALL)
    path.write_bytes(gzip.compress(whole[:7]) + gzip.compress(whole[7:]))
    np.testing.assert_array_equal(read_idx(path), SMALL)


def test_a_gzip_bomb_is_read_no_further_than_its_header_allows(path: Path) -> None:
    path.write_bytes(gzip.compress(header(10) + bytes(100_000_000), compresslevel=1))
    tracemalloc.start()
    try:
        with pytest.raises(DataFileError, match="more than 10 bytes"):
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_a_size_beyond_memory_is_refused_with_the_figure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(idx_bytes(SMALL))
    monkeypatch.setattr(memory, "limit", lambda: 23)
    with pytest.raises(DataFileError, match=r"\(2, 3, 4\), 24 bytes; expected at most 23 bytes"):
        read_idx(path)


class Bomb:
    """Unpickling one of these fails the test."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pickle_is_never_opened(path: Path, pack, protocol: int) -> None:
    path.write_bytes(pack(pickle.dumps((np.zeros(3), Bomb()), protocol)))
    with pytest.raises(DataFileError, match=r"a Python pickle.*four IDX files in place of mnist\.pkl\.gz"):
        read_idx(path)


@pytest.mark.parametrize("name", ["mnist.pkl.gz", "mnist.PKL", "a.pickle", "a.pickle.bz2"])
def test_a_name_is_enough_to_know_a_pickle(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(DataFileError, match="a Python pickle"):
        read_idx(tmp_path / name)


def test_a_missing_file_is_an_ordinary_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(path)
