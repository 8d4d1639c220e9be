"""Named arrays and a few facts about them in one file, with a checksum that notices a single changed bit.

The format. A safetensors file whose `__metadata__` has exactly one key, `fastbp`, with the value

    sha256:<64 hexadecimal digits> {"format":"fastbp-model","metadata":{...},"version":1}

The digits are the SHA-256 of the whole file, taken with a "0" in the place of each of them. So every byte is covered:
names, types, shapes, data, metadata, the header's length and its padding. With one key and sorted JSON the bytes of a
file depend on its contents alone (several keys would be written in random order). The checksum finds damage, not
malice: anybody can compute it, so a loaded file is held to every other rule too.

`format` says what the file is for: a model (`models`) or a checkpoint (`checkpoint`). How it gets to the disk stands
in `safefile`.
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping
from reprlib import repr as short  # a hostile name may have a million characters
from typing import Any

import numpy as np

from fastbp import memory, safefile
from fastbp.errors import ModelFileError

FORMAT_VERSION = 1

# Hostile JSON grows about 25 times when parsed ("[]," is 3 bytes, an empty list 64): 4 MiB stay near 100 MB.
HEADER_LIMIT = 4 * 2**20
DEPTH_LIMIT = 32  # of the metadata: far below Python's recursion limit, far above what a network needs
NDIM_LIMIT = 64  # NumPy's own

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}

_KEY = "fastbp"
_BLANK = "0" * 64
# Inside a JSON string each quote is escaped, so these bytes cannot be part of a name or of the metadata.
_SEAL = b'"__metadata__":{"fastbp":"sha256:'

# What other programs' files begin with. The first bytes only word a refusal, they never cause one: a sound
# file whose header has 896 bytes begins with 0x80 0x03, as a pickle does.
_STRANGERS = {
    b"\x80": "a Python pickle, which fastbp never opens; make a Network of its arrays and save that",
    b"\x93NUMPY": "one NumPy array (.npy), not a model",
    b"PK\x03\x04": "a zip archive (.npz, PyTorch or Keras); make a Network of its arrays and save that",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"\x89HDF": "HDF5 (an older model of Keras); make a Network of its arrays and save that",
    b"{": "plain JSON; if the book's network2 saved it, load it with fastbp.book.network2.load",
}


def save(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], *, kind: str
) -> None:
    """Write `tensors` and `metadata` to `path`, all or nothing (see `safefile.replace`).

    tensors: arrays of any shape, memory layout and byte order, of float64, float32, int64, int32, uint64, uint32,
    uint8 or bool. metadata: what JSON can hold; tuples come back as lists, and the keys in sorted order. kind: what
    the file is for; `load` must ask for the same.

    Raises TypeError or ValueError for what cannot be stored (nothing was written), ModelFileError if `path` is a
    device or the like, and the system's OSError (FileNotFoundError, PermissionError, ...).
    """
    safefile.replace(path, _pack(tensors, metadata, kind))


def load(path: str | os.PathLike[str], *, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save` wrote: the tensors, as new writable arrays sorted by name, and the metadata.

    What the header claims is held against the file's size before memory is set aside for it. The file is read
    once, and what was read is what is checked and used, so nobody can change it in between.

    Raises ModelFileError if the file is damaged, is no fastbp file of this `kind`, or was made to do harm;
    OSError (FileNotFoundError, IsADirectoryError, PermissionError, ...) if it cannot be read.
    """
    with safefile.naming(path, "cannot load") as name:
        blob, header = _read_file(name)
        _check_seal(blob)
        metadata = _open_envelope(header["__metadata__"][_KEY], kind)
        return _unpack_tensors(blob), metadata


def kind_of(path: str | os.PathLike[str]) -> str:
    """What a file is for, from its header alone; its checksum is not looked at. Raises as `load` does."""
    with safefile.naming(path, "cannot read") as name:
        with safefile.reading(name) as source:
            _, header = _read_header(source)
        return str(_parse_envelope(header["__metadata__"][_KEY])["format"])


# From contents to bytes


def _pack(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], kind: str) -> bytes:
    """The bytes of a whole file."""
    from safetensors import numpy as safetensors

    envelope = {"format": kind, "metadata": _plain(metadata, "metadata"), "version": FORMAT_VERSION}
    text = json.dumps(envelope, sort_keys=True, allow_nan=False, separators=(",", ":"))
    arrays = {_storable_name(name): _storable(name, array) for name, array in tensors.items()}
    blob = safetensors.save(arrays, {_KEY: f"sha256:{_BLANK} {text}"})
    if _header_size(blob) > HEADER_LIMIT:
        raise ValueError(
            f"names, shapes and metadata take a header of {_header_size(blob):,} bytes, and fastbp reads at "
            f"most {HEADER_LIMIT:,}; put long series into tensors"
        )
    start = blob.index(_SEAL) + len(_SEAL)
    return b"".join((blob[:start], _digest(blob, start), blob[start + len(_BLANK) :]))


def _storable_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a tensor must be a string, but {name!r} came")
    if name == "__metadata__":
        raise ValueError("'__metadata__' is taken in a safetensors file; give the tensor another name")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"UTF-8 cannot hold the name {name!r}; give the tensor another name") from None
    return name


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    """The same values, contiguous and little-endian: safetensors writes raw memory, whatever the strides."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"tensor {name!r} must be a plain NumPy array, but a {type(array).__name__} came")
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _DTYPES.values():
        known = ", ".join(each.name for each in _DTYPES.values())
        raise TypeError(f"tensor {name!r} is {array.dtype}, but a model file holds {known}; convert it first")
    return np.asarray(array, dtype=dtype, order="C")  # not ascontiguousarray: it makes a 0-d array 1-d


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """A copy of `value` in dicts, lists, strings, numbers and None: exactly what JSON gives back."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"the metadata is nested more than {DEPTH_LIMIT} deep, or holds itself")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}, but the keys of JSON are strings")
        return {key: _plain(item, f"{where}[{short(key)}]", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, which JSON cannot hold; use None, or put it into a tensor")
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(
        f"{where} is a {type(value).__name__}, which JSON cannot hold; give .item() of a NumPy number, and "
        "put arrays into the tensors"
    )


def _digest(blob: bytes, start: int) -> bytes:
    """The SHA-256, in hexadecimal, of a file in which the place for it begins at `start`."""
    view = memoryview(blob)
    checksum = hashlib.sha256(view[:start])
    checksum.update(_BLANK.encode())
    checksum.update(view[start + len(_BLANK) :])
    return checksum.hexdigest().encode()


# From bytes to contents


def _read_file(name: str) -> tuple[bytes, dict[str, Any]]:
    """The whole file and its header; the header agrees with the size of the file before the rest is read."""
    with safefile.reading(name) as source:
        head, header = _read_header(source)
        _require_memory(source.size)
        return head + source.read(source.size - len(head), len(head)), header


def _read_header(source: safefile.Source) -> tuple[bytes, dict[str, Any]]:
    """The beginning of a file up to its data, as bytes and as what they say."""
    start = source.read(min(source.size, 9), 0)
    _check_start(start, source.size)
    head = start + source.read(8 + _header_size(start) - len(start), len(start))
    header = _parse_header(head[8:])
    _check_layout(header, source.size - len(head))
    return head, header


def _require_memory(size: int) -> None:
    """A sparse file claims terabytes and takes no disk. Loading needs the size twice: as bytes, as arrays."""
    if 2 * size > memory.limit():
        raise ModelFileError(f"loading it takes {2 * size:,} bytes of memory, but this machine has {memory.limit():,}")


def _header_size(start: bytes) -> int:
    """The length of the JSON header, from the 8 bytes before it."""
    return int.from_bytes(start[:8], "little")


def _check_start(start: bytes, size: int) -> None:
    """Look at the first 9 bytes of a file of `size` bytes, before anything is done because of them."""
    if size < 10:  # 8 bytes and {}
        raise ModelFileError(f"it has only {size} bytes; it was cut short, or saving it never ended")
    length = _header_size(start)
    if not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise ModelFileError(
            f"its first 8 bytes announce a header of {length:,} bytes, but the file has {size:,} bytes, and "
            f"fastbp reads headers up to {HEADER_LIMIT:,}; {_guess(start)}"
        )
    if start[8:] != b"{":
        raise ModelFileError(f"its header does not begin with '{{'; {_guess(start)}")


def _guess(start: bytes) -> str:
    for magic, what in _STRANGERS.items():
        if start.startswith(magic):
            return f"it looks like {what}"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "it looks like text: another program wrote it"
    return "it was cut short, or another program wrote it"


def _parse_json(text: str) -> Any:
    """JSON without duplicate keys, NaN and infinity. Raises ModelFileError."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ModelFileError("its JSON is nested too deep") from None
    except ValueError as error:  # JSONDecodeError, too; and a number with more digits than Python converts
        raise ModelFileError(f"its JSON is damaged: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """safetensors accepts equal keys and takes the last: two programs could see two models in one file."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {short(key)} is there twice")
        found[key] = value
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _parse_header(raw: bytes) -> dict[str, Any]:
    """The header as a dict: `__metadata__` is one of ours, and every tensor's entry is sound in itself."""
    try:
        header = _parse_json(raw.decode())
    except UnicodeDecodeError as error:
        raise ModelFileError(f"its header is not UTF-8: {error}") from None
    ours = header.get("__metadata__")  # it is a dict: _check_start saw the "{"
    if not isinstance(ours, dict) or set(ours) != {_KEY} or not isinstance(ours[_KEY], str):
        raise ModelFileError(f"fastbp did not write it: `__metadata__` is {short(ours)}; expected {_KEY!r} with a text")
    for name, entry in header.items():
        if name != "__metadata__":
            _check_entry(short(name), entry)
    return header


def _check_entry(name: str, entry: Any) -> None:
    """One tensor's dtype, shape and data_offsets: each of the right kind, and in agreement."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(f"tensor {name} is {short(entry)}; expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ModelFileError(f"tensor {name} has dtype {short(dtype)}; fastbp reads {', '.join(_DTYPES)}")
    if not _are_counts(shape) or len(shape) > NDIM_LIMIT:
        raise ModelFileError(f"tensor {name} has shape {short(shape)}, which is no shape of an array")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise ModelFileError(f"tensor {name} has data_offsets {short(offsets)}; expected [begin, end]")
    itemsize = _DTYPES[dtype].itemsize
    # The zeros left out, as NumPy does: a (0, 2**62) array has no bytes, but its strides overflow.
    if math.prod(n for n in shape if n) * itemsize > sys.maxsize:
        raise ModelFileError(f"tensor {name} has shape {short(shape)}, too large for any array")
    needed, present = math.prod(shape) * itemsize, offsets[1] - offsets[0]
    if needed != present:
        raise ModelFileError(
            f"tensor {name} of {dtype} with shape {short(shape)} takes {needed:,} bytes, but its "
            f"data_offsets {short(offsets)} hold {short(present)}"
        )


def _are_counts(values: Any) -> bool:
    """Whether it is a list of whole numbers from 0 on (not of `true`, though Python's True is an int)."""
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_layout(header: Mapping[str, Any], data_size: int) -> None:
    """The tensors lie one after the other, without hole or overlap, from the header to the file's end."""
    offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    position = 0
    for name, (begin, end) in sorted(offsets.items(), key=lambda item: item[1]):
        if begin != position:
            raise ModelFileError(
                f"tensor {short(name)} begins at byte {short(begin)} of the data, but {position:,} is next; "
                "tensors may neither overlap nor leave a hole"
            )
        position = end
    if position != data_size:
        raise ModelFileError(
            f"its tensors take {position:,} bytes, but {data_size:,} follow the header; it was cut short, or "
            "something was appended"
        )


def _check_seal(blob: bytes) -> None:
    """Compare the SHA-256 in the file with that of the file."""
    place = blob.find(_SEAL, 8, 8 + _header_size(blob))
    if place < 0:
        raise ModelFileError("it has no checksum; it is damaged, or fastbp did not write it")
    start = place + len(_SEAL)
    written, computed = blob[start : start + len(_BLANK)], _digest(blob, start)
    if written != computed:
        raise ModelFileError(
            f"its checksum is {written[:8]!r}..., but its contents give {computed[:8]!r}...; it is damaged, "
            "or was changed after it was saved: use another copy"
        )


def _parse_envelope(text: str) -> dict[str, Any]:
    """What follows the checksum, if it is of the right version; its "format" is a text."""
    envelope = _parse_json(text[len("sha256:") + len(_BLANK) :])
    if not isinstance(envelope, dict):
        raise ModelFileError(f"{short(envelope)} follows its checksum, where a JSON object is expected")
    version = envelope.get("version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ModelFileError(
            f"its format has version {short(version)}, but this fastbp reads version {FORMAT_VERSION}; "
            "a newer fastbp may read it"
        )
    if not isinstance(envelope.get("format"), str):
        raise ModelFileError(f"it is a file of kind {short(envelope.get('format'))}; expected a name")
    return envelope


def _open_envelope(text: str, kind: str) -> dict[str, Any]:
    """The metadata, from the text with the checksum, if the file is of the right kind and version."""
    envelope = _parse_envelope(text)
    if envelope["format"] != kind:
        raise ModelFileError(f"it is a file of kind {short(envelope['format'])}; expected {kind!r}")
    if set(envelope) != {"format", "metadata", "version"} or not isinstance(envelope["metadata"], dict):
        raise ModelFileError("it has no metadata, or more than metadata")
    try:
        metadata: dict[str, Any] = _plain(envelope["metadata"], "metadata")  # for its depth, and for 1e999
    except ValueError as error:
        raise ModelFileError(str(error)) from None
    return metadata


def _unpack_tensors(blob: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors import numpy as safetensors

    try:
        tensors = safetensors.load(blob)
    except SafetensorError as error:  # it would be stricter than we are, or have changed
        raise ModelFileError(f"the safetensors library refuses it: {error}") from None
    for name, array in tensors.items():
        # A NumPy bool made of any other byte is neither True nor False.
        if array.dtype == bool and array.size and array.view(np.uint8).max() > 1:
            raise ModelFileError(f"tensor {short(name)} is BOOL, but has other bytes than 0 and 1")
    return dict(sorted(tensors.items()))
