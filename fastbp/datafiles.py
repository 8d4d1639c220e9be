"""Reading a file that may be damaged or may lie: the checks that all readers share, and the IDX format.

Nothing here ever unpickles. A declared size is a Python integer, checked before memory is taken; whatever is
wrong with a file is a DataFileError that names the file, what was found and what was expected.
"""

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastbp import memory
from fastbp.errors import DataFileError

FilePath = str | os.PathLike[str]

GZIP = b"\x1f\x8b"
DEFLATE_RATIO = 1032  # deflate's best: 258 bytes from 2 bits; a file that promises more is lying
_CHUNK = 1 << 20
_PICKLE_NAMES = re.compile(r"\.(pkl|pickle)(\.(gz|bz2|xz))?$", re.IGNORECASE)
# Protocols 2 to 5 begin with a byte of their own; 0 and 1 are text that soon names a module.
_PICKLE_MAGIC = re.compile(rb"\x80[\x02-\x05]|.*c(numpy|copy_reg|__builtin__|builtins)\b", re.DOTALL)


def clipped(text: str, most: int = 300) -> str:
    """Text from a file, short enough for a message: a hostile cell or name may have a million characters."""
    return text if len(text) <= most else f"{text[: 2 * most // 3]} … {text[-most // 3 :]}"


def refusal(place: FilePath, found: str, expected: str) -> DataFileError:
    """The one form of every refusal; `place` is the file, and the line where there is one."""
    return DataFileError(f"{os.fspath(place)}: found {clipped(found)}; expected {clipped(expected)}")


def refuse_pickle(path: FilePath, head: bytes) -> None:
    """Refuse a pickle by its name or its first bytes (already gunzipped)."""
    if _PICKLE_NAMES.search(Path(path).name) or _PICKLE_MAGIC.match(head):
        raise pickle_refusal(path)


def pickle_refusal(place: FilePath) -> DataFileError:
    return refusal(
        place,
        "a Python pickle, which can run any program when it is opened, so fastbp never opens one",
        "plain arrays. For MNIST, use the four IDX files in place of mnist.pkl.gz (see datasets.load_mnist); "
        "for other data, write numpy.savez(file, X=X, y=y) with numbers, in the program that made the pickle",
    )


def refuse_oversize(path: FilePath, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse an array that this machine cannot hold. Python integers, so nothing overflows; a size of 0
    counts as 1, because NumPy multiplies the others all the same and fails on them."""
    nbytes = itemsize * math.prod(max(size, 1) for size in shape)
    if nbytes > memory.limit():
        raise refusal(
            path,
            f"an array declared as {shape}, {nbytes:,} bytes",
            f"at most {memory.limit():,} bytes, the memory of this machine",
        )


_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: FilePath) -> np.ndarray:
    """Read one IDX file (the format of MNIST), plain or gzipped, told apart by content.

    Returns an array of the declared shape and type, in native byte order. Reads at most the bytes that the
    header allows. Raises DataFileError if header and length disagree, if the file is damaged or something
    else, or if it declares more than this machine's memory; OSError if it cannot be opened.
    The format: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
    """
    with unpacked(path) as (stream, ceiling):
        dtype, shape = _read_idx_header(path, stream)
        refuse_oversize(path, shape, dtype.itemsize)
        nbytes = dtype.itemsize * math.prod(shape)
        expected = f"{nbytes:,} bytes of data, as its header says for {shape} of {dtype.name}"
        if nbytes > ceiling:
            raise refusal(path, f"a file that can hold no more than {ceiling:,} bytes", expected)
        data = np.empty(nbytes, np.uint8)
        got = _fill(stream, data)
        if got < nbytes:
            raise refusal(path, f"only {got:,} bytes after the header", expected)
        if stream.read(1):  # this read also makes gzip compare its checksum
            raise refusal(path, f"more than {nbytes:,} bytes after the header", expected)
    return data.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def unpacked(path: FilePath) -> Iterator[tuple[BinaryIO | gzip.GzipFile, int]]:
    """The bytes of a file, gunzipped if it is gzipped, with the most bytes that they can come to."""
    with open(path, "rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        packed = raw.read(2) == GZIP
        raw.seek(0)
        if not packed:
            yield raw, size
            return
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield stream, DEFLATE_RATIO * size
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise refusal(path, f"a damaged gzip stream ({error})", "a complete gzip file") from error


def _read_idx_header(path: FilePath, stream: BinaryIO | gzip.GzipFile) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or not 1 <= magic[3] <= 32:
        refuse_pickle(path, magic + stream.read(60))
        raise refusal(
            path,
            f"the first bytes {magic.hex(' ') or '(none)'}",
            "an IDX file: 00 00, a type (08, 09, 0b, 0c, 0d or 0e), and 1 to 32 dimensions",
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise refusal(path, f"{len(sizes)} bytes of sizes", f"{4 * magic[3]}, for {magic[3]} dimensions")
    return np.dtype(_IDX_TYPES[magic[2]]), tuple(np.frombuffer(sizes, ">u4").tolist())


def _fill(stream: BinaryIO | gzip.GzipFile, data: np.ndarray) -> int:
    """Fill a uint8 array, and say how many bytes came. In pieces, so that gzip buffers little beside it."""
    view, got = data.data, 0
    while got < len(view):
        piece = stream.readinto(view[got : got + _CHUNK])  # type: ignore[union-attr]
        if not piece:
            break
        got += piece
    return got
