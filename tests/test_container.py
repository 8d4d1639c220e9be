"""Files of arrays: what goes in comes out, a damaged or hostile file is refused, no fault costs the old file."""

import contextlib
import errno
import fcntl
import functools
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from faults import CALLS, FAULTS, Watched, count_calls, fail_at
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastbp import container, safefile
from fastbp.errors import ModelFileError

save = functools.partial(container.save, kind="fastbp-model")
load = functools.partial(container.load, kind="fastbp-model")
ROOT = Path(container.__file__).parents[1]
STORED = ["f8", "f4", "i8", "i4", "u8", "u4", "u1", "?"]
OLD = {"w": np.arange(6.0).reshape(2, 3)}, {"sizes": [3, 2], "which": "old"}
NEW = {"w": -np.arange(12.0).reshape(4, 3)}, {"sizes": [3, 4], "which": "new"}


def file_bytes(contents: tuple[dict, dict], folder: Path) -> bytes:
    """What `save` writes for these contents."""
    path = folder / "only for its bytes"
    save(path, *contents)
    blob = path.read_bytes()
    path.unlink()
    return blob


def strays(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".tmp"))


def make_stray(path: Path) -> Path:
    stray = path.with_name(f".{path.name}.0123456789abcdef.tmp")
    stray.write_bytes(b"half a model")
    return stray


def assert_same(got: tuple[dict, dict], expected: tuple[dict, dict]) -> None:
    assert got[1] == expected[1]
    assert list(got[0]) == sorted(expected[0])
    for name, array in expected[0].items():
        assert got[0][name].dtype == array.dtype.newbyteorder("=")
        assert got[0][name].shape == array.shape
        assert got[0][name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


# What goes in comes out

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
layouts: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda a: a,
    lambda a: a.T,
    lambda a: a[::-1] if a.ndim else a,
    lambda a: a[..., ::2] if a.ndim else a,
    lambda a: np.asfortranarray(a) if a.ndim else a,
    lambda a: np.broadcast_to(a, (2, *a.shape)),
]
arrays = st.builds(
    lambda array, layout: layout(array),
    hnp.arrays(
        dtype=st.sampled_from([order + code for code in STORED for order in "<>"]),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.sampled_from(layouts),
)
names = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda name: name != "__metadata__")


@settings(deadline=None, max_examples=150)
@given(tensors=st.dictionaries(names, arrays, max_size=4), metadata=st.dictionaries(st.text(), json_values))
def test_what_was_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, tensors: dict, metadata: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "round trip"
    before = {name: array.tobytes() for name, array in tensors.items()}
    save(path, tensors, metadata)
    assert {name: array.tobytes() for name, array in tensors.items()} == before
    got = load(path)
    assert_same(got, (tensors, metadata))
    for array in got[0].values():
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.c_contiguous


@pytest.mark.parametrize("code", STORED)
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 3)])
def test_every_type_with_0_dimensions_and_with_no_elements(tmp_path: Path, code: str, shape: tuple) -> None:
    tensors = {"a": np.ones(shape, code)}
    save(tmp_path / "m", tensors, {})
    assert_same(load(tmp_path / "m"), (tensors, {}))


def test_non_contiguous_arrays_keep_their_values(tmp_path: Path) -> None:
    # safetensors' own NumPy save writes the memory behind an array, so a transposed or strided one comes back
    # with its elements in other places, and without an error.
    base = np.arange(24.0).reshape(4, 6)
    tensors = {"transposed": base.T, "strided": base[::2, 1::2], "reversed": base[::-1, ::-1]}
    save(tmp_path / "m", tensors, {})
    got, _ = load(tmp_path / "m")
    for name, array in tensors.items():
        np.testing.assert_array_equal(got[name], array)


def test_read_only_memmap_and_signalling_values(tmp_path: Path) -> None:
    np.array([-0.0, 5e-324, np.inf, -np.inf, np.nan]).tofile(tmp_path / "raw")
    mapped = np.memmap(tmp_path / "raw", dtype="f8", mode="r")
    save(tmp_path / "m", {"a": mapped}, {})
    assert load(tmp_path / "m")[0]["a"].tobytes() == mapped.tobytes()


def test_metadata_come_back_as_json_holds_them(tmp_path: Path) -> None:
    metadata = {"b": (1, (2.5, None)), "a": {"state": 2**127, "deep": [{"x": True}]}, "é\ud800": "\x00☃"}
    save(tmp_path / "m", {}, metadata)
    _, got = load(tmp_path / "m")
    assert got == {**metadata, "b": [1, [2.5, None]]}
    assert list(got) == ["a", "b", "é\ud800"]


def test_other_programs_read_the_file(tmp_path: Path) -> None:
    save(tmp_path / "m.safetensors", *OLD)
    np.testing.assert_array_equal(
        safetensors.numpy.load_file(tmp_path / "m.safetensors")["w"], OLD[0]["w"], strict=True
    )


def test_the_bytes_depend_on_the_contents_alone(tmp_path: Path) -> None:
    tensors = {name: np.full(3, i, "f4") for i, name in enumerate("zyxabc")}
    metadata = dict.fromkeys("qwerty", 1)
    turned = dict(reversed(tensors.items())), dict(reversed(metadata.items()))
    assert file_bytes((tensors, metadata), tmp_path) == file_bytes(turned, tmp_path)


def test_saving_draws_no_random_number(tmp_path: Path) -> None:
    # A temporary name drawn from `random` would change the order of the next epoch.
    np.random.seed(1)
    before = random.getstate(), np.random.get_state(legacy=False)
    save(tmp_path / "m", *OLD)
    np.testing.assert_equal((random.getstate(), np.random.get_state(legacy=False)), before)


# A file as version 1 wrote it. It must load for ever: if this fails, raise FORMAT_VERSION and read both.
VERSION_1 = (
    b'\xe8\x00\x00\x00\x00\x00\x00\x00{"__metadata__":{"fastbp":"sha256:'
    b'c4947adc19ee48ed0d88ebc0859c251166f6b82556d48cf094abda836d1dc199 {\\"format\\":\\"fastbp-model\\",'
    b'\\"metadata\\":{\\"sizes\\":[1,1]},\\"version\\":1}"},"b":{"dtype":"F32","shape":[1,1],'
    b'"data_offsets":[0,4]}} \x00\x00\xc0?'
)


def test_a_file_of_version_1_loads(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(VERSION_1)
    tensors, metadata = load(tmp_path / "m")
    assert metadata == {"sizes": [1, 1]}
    np.testing.assert_array_equal(tensors["b"], np.array([[1.5]], "f4"), strict=True)


def test_a_header_whose_length_begins_as_a_pickle_does(tmp_path: Path) -> None:
    # Pickles begin with 0x80 and their protocol, and so does the length 0x0380: no ground to refuse a file.
    save(tmp_path / "m", {}, {"filling": ""})
    filling = "x" * (0x0380 + 8 - (tmp_path / "m").stat().st_size)
    save(tmp_path / "m", {}, {"filling": filling})
    assert (tmp_path / "m").read_bytes().startswith(b"\x80\x03")
    assert load(tmp_path / "m") == ({}, {"filling": filling})


def test_importing_it_leaves_safetensors_alone() -> None:
    code = "import sys, fastbp.container; sys.exit('safetensors' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


# What cannot be stored


@pytest.mark.parametrize(
    ("array", "came"),
    [
        (np.zeros(2, complex), "complex128"),
        (np.zeros(2, "f2"), "float16"),
        (np.array([None]), "object"),
        (np.array(["text"]), "<U4"),
        (np.zeros(2, [("x", "f8")]), "'x'"),
        (np.zeros(2, "M8[s]"), "datetime64"),
        (np.ma.zeros(2), "MaskedArray"),
        ([1.0, 2.0], "list"),
        (1.0, "float"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, array: Any, came: str) -> None:
    with pytest.raises(TypeError, match=f"tensor 'a' .*{came}"):
        save(tmp_path / "m", {"a": array}, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "error"), [("__metadata__", ValueError), ("\ud800", ValueError), (1, TypeError)])
def test_names_that_are_refused(tmp_path: Path, name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="name"):
        save(tmp_path / "m", {name: np.zeros(1)}, {})
    assert os.listdir(tmp_path) == []


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 0


endless: list = []
endless.append(endless)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (float("nan"), ValueError, r"metadata\['v'\] is nan"),
        ([0.0, -np.inf], ValueError, r"metadata\['v'\]\[1\] is -inf"),
        ({1: 2}, TypeError, r"metadata\['v'\] has the key 1"),
        (np.int64(3), TypeError, r"metadata\['v'\] is a int64.*\.item\(\)"),
        (np.zeros(2), TypeError, r"ndarray.*into the tensors"),
        ({1, 2}, TypeError, "set"),
        (b"bytes", TypeError, "bytes"),
        (nested(32), ValueError, "more than 32 deep"),
        (endless, ValueError, "holds itself"),
        ("x" * 2**22, ValueError, "put long series into tensors"),
        (10**5000, ValueError, "digits"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_metadata_that_are_refused(tmp_path: Path, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        save(tmp_path / "m", {}, {"v": value})
    assert os.listdir(tmp_path) == []


def test_what_is_just_allowed_is_read_again(tmp_path: Path) -> None:
    for metadata in ({"v": nested(31)}, {"v": "x" * (2**22 - 300)}):
        save(tmp_path / "m", {}, metadata)
        assert load(tmp_path / "m") == ({}, metadata)


# Damage


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small file with escapes in its header and padding after it, where a flipped bit could hide."""
    tensors = {"w\x1b\u00e9": np.array([[0.5, -2.0]]), "b": np.zeros(1, "f4"), "on": np.array([True, False])}
    blob = file_bytes((tensors, {"a": "\u00e9\n", "n": 1e5}), tmp_path_factory.mktemp("small"))
    header = blob[8 : 8 + int.from_bytes(blob[:8], "little")]
    assert b"\\u001b" in header
    assert header.endswith(b" ")
    return blob


def test_truncated_at_every_byte(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "m"
    for size in range(len(small)):
        path.write_bytes(small[:size])
        with pytest.raises(ModelFileError, match="cut short"):
            load(path)


def test_every_bit_flipped(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "m"
    damaged = bytearray(small)
    for position in range(len(small)):
        for bit in range(8):
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(ModelFileError):
                load(path)
            damaged[position] ^= 1 << bit
    path.write_bytes(damaged)
    load(path)


def test_bytes_appended_or_prepended(tmp_path: Path, small: bytes) -> None:
    for blob in (small + b"\0", small + small, b"\0" + small, b"\n" + small):
        (tmp_path / "m").write_bytes(blob)
        with pytest.raises(ModelFileError):
            load(tmp_path / "m")


def test_two_equal_tensors_exchanged(tmp_path: Path) -> None:
    # The bytes of the arrays are all still there: only a checksum that covers the names can tell.
    blob = file_bytes(({"a": np.zeros(2), "b": np.ones(2)}, {}), tmp_path)
    turned = blob.replace(b'"a":{', b'"_":{').replace(b'"b":{', b'"a":{').replace(b'"_":{', b'"b":{')
    (tmp_path / "m").write_bytes(turned)
    with pytest.raises(ModelFileError, match="checksum"):
        load(tmp_path / "m")


# Hostile files: sealed with the right checksum, so that it is another rule that refuses them

ENVELOPE = {"format": "fastbp-model", "metadata": {}, "version": 1}


def sealed(entries: str = "", data: bytes = b"", envelope: str = json.dumps(ENVELOPE)) -> bytes:
    """A file with this JSON after `__metadata__` in its header, this data, and a correct checksum."""
    text = json.dumps(f"sha256:{'0' * 64} {envelope}")
    header = f'{{"__metadata__":{{"fastbp":{text}}}{entries}}}'.encode()
    blob = len(header).to_bytes(8, "little") + header + data
    return blob.replace(b"0" * 64, hashlib.sha256(blob).hexdigest().encode(), 1)


def tensor(name: str, dtype: Any, shape: Any, offsets: Any) -> str:
    return f", {json.dumps(name)}: " + json.dumps({"dtype": dtype, "shape": shape, "data_offsets": offsets})


def refuse(folder: Path, blob: bytes, message: str) -> None:
    path = folder / "m"
    path.write_bytes(blob)
    with pytest.raises(ModelFileError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"cannot load '{path}': ")
    assert len(str(caught.value)) < 600 + len(str(path))


def test_sealed_makes_files_that_load(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(sealed(tensor("a", "U8", [2], [0, 2]), b"\1\2"))
    tensors, metadata = load(tmp_path / "m")
    assert (tensors["a"].tolist(), metadata) == ([1, 2], {})


EIGHT = b"\0" * 8


@pytest.mark.parametrize(
    ("entries", "data", "message"),
    [
        (tensor("a", "F64", [2**60], [0, 8]), EIGHT, "too large for any array"),
        (tensor("a", "F64", [2**40], [0, 2**43]), EIGHT, "cut short"),
        (tensor("a", "F64", [2**40], [0, 8]), EIGHT, "takes 8,796,093,022,208 bytes"),
        (tensor("a", "F64", [2**32, 2**32], [0, 0]), b"", "too large for any array"),
        (tensor("a", "F64", [0, 2**62], [0, 0]), b"", "too large for any array"),
        (tensor("a", "F64", [10**4000], [0, 8]), EIGHT, "too large for any array"),
        (tensor("a", "U8", [8], [0, 8]).replace("[8]", "[" + "9" * 5000 + "]"), EIGHT, "JSON is damaged"),
        (tensor("a", "U8", [1] * 65, [0, 1]), b"\0", "no shape of an array"),
        (tensor("a", "U8", [-8], [0, 8]), EIGHT, "no shape of an array"),
        (tensor("a", "U8", [8.0], [0, 8]), EIGHT, "no shape of an array"),
        (tensor("a", "U8", [True], [0, 1]), b"\0", "no shape of an array"),
        (tensor("a", "U8", "8", [0, 8]), EIGHT, "no shape of an array"),
        (tensor("a", "U8", nested(900), [0, 8]), EIGHT, "no shape of an array"),
        (tensor("a", "U8", [8], [-8, 0]), EIGHT, "data_offsets"),
        (tensor("a", "U8", [8], [8, 0]), EIGHT, "hold -8"),
        (tensor("a", "U8", [8], [0, 8, 8]), EIGHT, r"expected \[begin, end\]"),
        (tensor("a", "U8", [8], None), EIGHT, r"expected \[begin, end\]"),
        (tensor("a", "U8", [8], [10**4000, 10**4000 + 8]), EIGHT, "hole"),
        (tensor("a", "U8", [8], [10, 8]).replace("10", "-0"), EIGHT, "safetensors library refuses"),
        (tensor("a", "U8", [4], [4, 8]), EIGHT, "begins at byte 4 of the data, but 0 is next"),
        (tensor("a", "U8", [4], [0, 4]), EIGHT, "something was appended"),
        (tensor("a", "U8", [4], [0, 4]) + tensor("b", "U8", [5], [3, 8]), EIGHT, "overlap"),
        (tensor("a", "U8", [8], [0, 8]) + tensor("b", "U8", [8], [0, 8]), EIGHT, "overlap"),
        (tensor("a", "U8", [3], [0, 3]) + tensor("b", "U8", [3], [5, 8]), EIGHT, "hole"),
        (tensor("a", "U8", [8], [0, 8]) * 2, EIGHT, "'a' is there twice"),
        (', "a": {"dtype": "U8", "shape": [1], "shape": [8], "data_offsets": [0, 8]}', EIGHT, "there twice"),
        (', "__metadata__": {}', b"", "'__metadata__' is there twice"),
        (', "a": {"dtype": "U8", "shape": [8]}', EIGHT, "expected dtype, shape and data_offsets"),
        (', "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8], "x": 1}', EIGHT, "expected dtype"),
        (', "a": [1, 2]', b"", "expected dtype, shape and data_offsets"),
        (tensor("a", "F16", [4], [0, 8]), EIGHT, "fastbp reads F64, F32"),
        (tensor("a", "object", [1], [0, 8]), EIGHT, "fastbp reads F64, F32"),
        (tensor("a", ["F64"], [1], [0, 8]), EIGHT, "fastbp reads F64, F32"),
        (tensor("a", "BOOL", [2], [0, 2]), b"\1\2", "other bytes than 0 and 1"),
        (', "a": ' + "[" * 100_000 + "]" * 100_000, b"", "nested too deep"),
        (', "a": ' + '{"a":' * 100_000 + "1" + "}" * 100_000, b"", "nested too deep"),
        (', "a": NaN', b"", "NaN is no number"),
        (', "a": -Infinity', b"", "-Infinity is no number"),
        (', "a": ', b"", "JSON is damaged"),
        (tensor("x" * 10**6, "F64", [2], [0, 8]), EIGHT, "takes 16 bytes"),
        (tensor("\x1b[2J", "F64", [2], [0, 8]), EIGHT, r"tensor '\\x1b\[2J'"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_hostile_tensors(tmp_path: Path, entries: str, data: bytes, message: str) -> None:
    refuse(tmp_path, sealed(entries, data), message)


def test_hostile_tensors_take_no_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "m"
    path.write_bytes(sealed(tensor("a", "F64", [2**33], [0, 2**36]), EIGHT))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def envelope(**changes: Any) -> str:
    return json.dumps({**ENVELOPE, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (envelope(version=2), "version 2, but this fastbp reads version 1"),
        (envelope(version=True), "version True"),
        (envelope(version=None), "version None"),
        (envelope(format="fastbp-checkpoint"), "kind 'fastbp-checkpoint'; expected 'fastbp-model'"),
        (envelope(format=["fastbp-model"]), "kind .*expected a name"),
        (envelope(metadata=[1]), "no metadata"),
        (envelope(more=1), "more than metadata"),
        (envelope(metadata=nested(900)), "no metadata"),
        (envelope(metadata={"a": nested(900)}), "more than 32 deep"),
        (envelope(metadata={"a": 12345}).replace("12345", "1e999"), r"metadata\['a'\] is inf"),
        (envelope(metadata={"a": 12345}).replace("12345", "NaN"), "NaN is no number"),
        (envelope(metadata={"a": 12345}).replace("12345", "[" * 10**5 + "]" * 10**5), "nested too deep"),
        (envelope(metadata={"a": 1, "b": 2}).replace('"b"', '"a"'), "'a' is there twice"),
        ("[1]", "a JSON object is expected"),
        ("", "JSON is damaged"),
        ("{} {}", "JSON is damaged"),
    ],
    ids=lambda value: value[:50],
)
def test_hostile_metadata(tmp_path: Path, text: str, message: str) -> None:
    refuse(tmp_path, sealed(envelope=text), message)


def as_file(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def saved_pickle(protocol: int) -> bytes:
    return pickle.dumps({"weights": np.zeros((2, 3)), "sizes": [3, 2]}, protocol)


def saved_npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.zeros(3))
    return buffer.getvalue()


def saved_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "only 0 bytes"),
        (EIGHT, "only 8 bytes"),
        (EIGHT * 2, "announce a header of 0 bytes"),
        (EIGHT + b"{}", "announce a header of 0 bytes"),
        (b"\1" + EIGHT[1:] + b"{}", "announce a header of 1 bytes"),
        (b"\xff" * 100, "announce a header of 18,446,744,073,709,551,615 bytes"),
        ((2**22 + 1).to_bytes(8, "little") + b"{" * (2**22 + 1), "reads headers up to 4,194,304"),
        (as_file(b"[1, 2]"), "does not begin with '{'"),
        (as_file(b' {"__metadata__": {}}'), "does not begin with '{'"),
        (as_file(b'{"\xff": 1}'), "not UTF-8"),
        (as_file(b"{}"), "fastbp did not write it"),
        (as_file(b'{"__metadata__": {"format": "pt"}}'), "fastbp did not write it"),
        (as_file(b'{"__metadata__": {"fastbp": 1}}'), "fastbp did not write it"),
        (as_file(b'{"__metadata__": {"fastbp": "x", "y": "z"}}'), "fastbp did not write it"),
        (as_file(b'{"__metadata__": {"fastbp": "sha256:"}}'), "no checksum"),
        (as_file(b'{"__metadata__":{"fastbp":"sha256:"}}'), "checksum"),
        (safetensors.numpy.save({"a": np.zeros(2)}), "fastbp did not write it"),
        (saved_pickle(2), "Python pickle, which fastbp never opens"),
        (saved_pickle(5), "Python pickle, which fastbp never opens"),
        (saved_pickle(0), "another program wrote it"),
        (b"sepal,petal,kind\n5.1,1.4,setosa\n", "it looks like text"),
        (saved_npz(), "zip archive"),
        (saved_npy(), r"\.npy"),
        (gzip.compress(random.Random(1).randbytes(10**6), mtime=0), "compressed with gzip"),
        (b"\x89HDF\r\n\x1a\n" + EIGHT, "HDF5"),
        (b'{"sizes": [2, 3, 1], "weights": []}', "network2"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_files_of_other_programs(tmp_path: Path, blob: bytes, message: str) -> None:
    refuse(tmp_path, blob, message)


class Bomb:
    def __reduce__(self) -> tuple:
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(tmp_path, pickle.dumps(Bomb(), protocol), "announce a header|only")
    refuse(tmp_path, as_file(pickle.dumps(Bomb(), protocol)), "does not begin with")
    assert os.listdir(tmp_path) == ["m"]


anything = json_values | st.integers(-1, 20) | st.lists(st.integers(-1, 20), max_size=3)


@settings(deadline=None, max_examples=200)
@given(
    entries=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["U8", "BOOL", "F32"]) | anything, anything, anything)
    ),
    data=st.binary(max_size=20),
    text=st.builds(json.dumps, st.fixed_dictionaries(dict.fromkeys(ENVELOPE, anything)) | st.just(ENVELOPE)),
)
def test_any_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, entries: list, data: bytes, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(sealed("".join(tensor(*entry) for entry in entries), data, text))
    with contextlib.suppress(ModelFileError):
        tensors, _ = load(path)
        assert sum(array.nbytes for array in tensors.values()) == len(data)


def test_kinds_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "m"
    container.save(path, *OLD, kind="fastbp-checkpoint")
    assert_same(container.load(path, kind="fastbp-checkpoint"), OLD)
    with pytest.raises(ModelFileError, match="kind 'fastbp-checkpoint'; expected 'fastbp-model'"):
        load(path)


# Paths


def test_paths_that_are_no_model_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        load(tmp_path / "none")
    assert missing.value.filename == str(tmp_path / "none")
    with pytest.raises(FileNotFoundError) as missing:
        save(tmp_path / "no folder" / "m", *OLD)
    assert missing.value.filename == str(tmp_path / "no folder" / "m")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(IsADirectoryError):
        save(tmp_path, *OLD)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        save(tmp_path / "file" / "m", *OLD)
    assert os.listdir(tmp_path) == ["file"]


def test_a_pipe_is_neither_waited_for_nor_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ModelFileError, match="no regular file"):
        load(pipe)
    with pytest.raises(OSError, match="No such device"):  # nobody reads it
        save(pipe, *OLD)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ModelFileError, match="no regular file"):
            save(pipe, *OLD)
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(ModelFileError, match="no regular file"):
        load("/dev/zero")


@pytest.mark.parametrize("convert", [str, Path, os.fsencode])
def test_text_bytes_and_path_objects(tmp_path: Path, convert: Callable[[Path], Any]) -> None:
    path = convert(tmp_path / "m")
    save(path, *OLD)
    assert_same(load(path), OLD)


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save("m", *OLD)
    assert_same(load("m"), OLD)
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "*[a]?"])
def test_awkward_names(tmp_path: Path, name: str) -> None:
    for contents in (OLD, NEW):
        save(tmp_path / name, *contents)
        assert_same(load(tmp_path / name), contents)
    assert os.listdir(tmp_path) == [name]


def test_a_symbolic_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    link, target = tmp_path / "latest", tmp_path / "models" / "m"
    link.symlink_to(Path("models") / "m")
    for contents in (OLD, NEW):  # at first the link leads nowhere
        save(link, *contents)
        assert link.is_symlink()
        assert not target.is_symlink()
        assert_same(load(target), contents)
    assert sorted(os.listdir(tmp_path)) == ["latest", "models"]
    assert os.listdir(tmp_path / "models") == ["m"]


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for action in (lambda: save(tmp_path / "a", *OLD), lambda: load(tmp_path / "a")):
        with pytest.raises(OSError) as caught:
            action()
        assert caught.value.errno == errno.ELOOP
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


# Permissions


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "m"
    before = os.umask(umask)
    try:
        save(path, *OLD)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for mode in (0o644, 0o660, 0o600):
            path.chmod(mode)
            save(path, *NEW)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A folder of somebody whom permissions bind: they do not bind root."""
    with tempfile.TemporaryDirectory() as name:
        save(Path(name) / "warm up", {}, {})  # imports done while all may be read
        os.unlink(Path(name) / "warm up")
        was_root = os.geteuid() == 0
        if was_root:
            os.chown(name, 65534, -1)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if was_root:
                os.seteuid(0)
            os.chmod(name, 0o700)


def test_what_may_not_be_read_or_written(ordinary_user: Path) -> None:
    path = ordinary_user / "m"
    save(path, *OLD)
    blob = path.read_bytes()

    path.chmod(0o444)
    with pytest.raises(PermissionError) as caught:
        save(path, *NEW)
    assert caught.value.filename == str(path)

    path.chmod(0o600)
    ordinary_user.chmod(0o500)
    with pytest.raises(PermissionError) as caught:
        save(path, *NEW)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == blob
    assert os.listdir(ordinary_user) == ["m"]

    path.chmod(0o000)
    with pytest.raises(PermissionError):
        load(path)


def test_a_check_finds_what_a_save_would(ordinary_user: Path) -> None:
    (ordinary_user / "file").touch(0o400)
    os.mkfifo(ordinary_user / "pipe")
    (ordinary_user / "locked").mkdir(0o500)
    bad = [".", "none/m", "file", "file/m", "pipe", "locked/m", "x" * 300]
    for name in bad:
        path = ordinary_user / name
        errors = []
        for action in (lambda path=path: safefile.check(path), lambda path=path: save(path, *OLD)):
            with pytest.raises((OSError, ModelFileError)) as caught:
                action()
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]
    safefile.check(ordinary_user / "new")
    save(ordinary_user / "old", *OLD)
    safefile.check(ordinary_user / "old")
    assert not (ordinary_user / "new").exists()
    assert_same(load(ordinary_user / "old"), OLD)
    (ordinary_user / "locked").chmod(0o700)


# Faults


def save_over_old(path: Path) -> None:
    save(path, *NEW)


@pytest.mark.parametrize("code", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", CALLS)
def test_a_save_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = tmp_path / "m"
    old, new = file_bytes(OLD, tmp_path), file_bytes(NEW, tmp_path)
    path.write_bytes(old)
    make_stray(path)
    called = count_calls(lambda: save_over_old(path), monkeypatch)
    replaced = called.index("replace")
    assert call in called

    for number in [i for i, name in enumerate(called) if name == call]:
        path.write_bytes(old)
        stray = make_stray(path)
        files = fail_at(number, OSError(code, os.strerror(code), "inner name"))
        monkeypatch.setattr(safefile, "_files", files)
        failed = None
        try:
            save(path, *NEW)
        except OSError as error:
            failed = error
        monkeypatch.undo()

        where = f"request {number} ({call})"
        assert files.open_files == 0, where
        if failed:
            assert (failed.errno, failed.filename) == (code, str(path)), where
        # Only the folder's sync can fail after the replacement; where nothing fails, the tidying up or a
        # close did, and those are not worth a model.
        assert path.read_bytes() == (old if failed and number <= replaced else new), where
        assert strays(tmp_path) in ([], [stray.name]), where

        save(path, *NEW)
        assert os.listdir(tmp_path) == ["m"], where


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "make room, or save in another folder"),
        (errno.EDQUOT, "make room"),
        (errno.EACCES, "save where you may write"),
        (errno.EROFS, "save where you may write"),
        (errno.EIO, "the disk may be failing"),
    ],
)
def test_a_failed_save_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str) -> None:
    path = tmp_path / "m"
    save(path, *OLD)
    called = count_calls(lambda: save_over_old(path), monkeypatch)
    for call in ("write", "fsync", "replace"):
        monkeypatch.setattr(safefile, "_files", fail_at(called.index(call), OSError(code, os.strerror(code))))
        with pytest.raises(OSError, match=f"{os.strerror(code)}; {advice}.*{path}"):
            save(path, *NEW)
        monkeypatch.undo()
    monkeypatch.setattr(safefile, "_files", fail_at(called.index("replace") + 2, OSError(code, os.strerror(code))))
    with pytest.raises(OSError, match="the new file is in place, but a power failure may bring the old one back"):
        save(path, *NEW)
    assert_same(load(path), NEW)


def test_the_order_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file that takes the place of the old one before it is on the disk is lost with the power.
    path = tmp_path / "m"
    save(path, *OLD)
    called = count_calls(lambda: save_over_old(path), monkeypatch)
    steps = ["write", "chmod", "fsync", "read", "replace", "close", "fsync", "close"]
    assert called[called.index("write") :] == steps


@pytest.mark.parametrize("code", FAULTS, ids=errno.errorcode.get)
def test_the_faults_that_matter_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / "m"
    save(path, *OLD)
    called = count_calls(lambda: save_over_old(path), monkeypatch)
    silent = set()
    for number, name in enumerate(called):
        monkeypatch.setattr(safefile, "_files", fail_at(number, OSError(code, os.strerror(code))))
        try:
            save(path, *OLD)
        except OSError:
            pass
        else:
            silent.add(name)
        monkeypatch.undo()
    assert silent == {"listdir", "lock", "close"}


@pytest.mark.parametrize("code", FAULTS, ids=errno.errorcode.get)
def test_a_first_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / "m"
    called = count_calls(lambda: save_over_old(path), monkeypatch)
    for number in range(called.index("replace") + 1):
        path.unlink(missing_ok=True)
        monkeypatch.setattr(safefile, "_files", fail_at(number, OSError(code, os.strerror(code))))
        with contextlib.suppress(OSError):
            save(path, *NEW)
        monkeypatch.undo()
        assert os.listdir(tmp_path) in ([], ["m"])
        if path.exists():
            assert_same(load(path), NEW)


def test_a_disk_that_stays_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Then even the new file cannot be removed: the first error is told, and the next save tidies up.
    path = tmp_path / "m"
    save(path, *OLD)
    broken = False

    def step(name: str) -> None:
        nonlocal broken
        broken = broken or name == "write"
        if broken:
            raise OSError(errno.ENOSPC if name == "write" else errno.EIO, name)

    monkeypatch.setattr(safefile, "_files", Watched(step))
    with pytest.raises(OSError) as caught:
        save(path, *NEW)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert_same(load(path), OLD)
    assert len(strays(tmp_path)) == 1
    save(path, *NEW)
    assert os.listdir(tmp_path) == ["m"]


def test_ctrl_c_at_any_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    save(path, *OLD)
    called = count_calls(lambda: save_over_old(path), monkeypatch)
    for number in range(len(called)):
        save(path, *OLD)
        monkeypatch.setattr(safefile, "_files", fail_at(number, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            save(path, *NEW)
        monkeypatch.undo()
        assert_same(load(path), OLD if number <= called.index("replace") else NEW)
        assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("code", FAULTS, ids=errno.errorcode.get)
def test_a_load_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / "m"
    save(path, *OLD)
    called = count_calls(lambda: load(path), monkeypatch)
    assert called == ["open", "fstat", "read", "read", "read", "close"]
    for number in range(len(called) - 1):
        files = fail_at(number, OSError(code, os.strerror(code)))
        monkeypatch.setattr(safefile, "_files", files)
        with pytest.raises(OSError) as caught:
            load(path)
        monkeypatch.undo()
        assert (caught.value.errno, caught.value.filename) == (code, str(path))
        assert files.open_files == 0


class Stingy(safefile.FileSystem):
    """Reads and writes a few bytes at a time, as the system may."""

    def read(self, fd: int, count: int, offset: int) -> bytes:
        return super().read(fd, min(count, 7), offset)

    def write(self, fd: int, data: memoryview) -> int:
        return super().write(fd, data[:7])


def test_reads_and_writes_that_do_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safefile, "_files", Stingy())
    save(tmp_path / "m", *OLD)
    assert_same(load(tmp_path / "m"), OLD)


class Filling(safefile.FileSystem):
    """A disk that has room for `room` bytes more, and takes as many as fit."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, fd: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(fd, data[: self.room])
        self.room -= written
        return written


def test_a_disk_that_fills_up_at_any_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    save(path, *OLD)
    size = len(file_bytes(NEW, tmp_path))
    for room in range(size):
        monkeypatch.setattr(safefile, "_files", Filling(room))
        with pytest.raises(OSError, match="No space left on device; make room"):
            save(path, *NEW)
        monkeypatch.undo()
        assert os.listdir(tmp_path) == ["m"]
    assert_same(load(path), OLD)
    monkeypatch.setattr(safefile, "_files", Filling(size))
    save(path, *NEW)
    assert_same(load(path), NEW)


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A write of 0 bytes without an error must not be tried for ever.
    monkeypatch.setattr(safefile.FileSystem, "write", lambda self, fd, data: 0)
    with pytest.raises(OSError, match="the system wrote nothing"):
        save(tmp_path / "m", *NEW)
    assert os.listdir(tmp_path) == []


class Forgetful(safefile.FileSystem):
    """A disk that stores another bit than it was given."""

    def write(self, fd: int, data: memoryview) -> int:
        damaged = bytearray(data)
        damaged[-1] ^= 1
        return super().write(fd, memoryview(damaged))


def test_what_is_written_wrongly_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "m", *OLD)
    monkeypatch.setattr(safefile, "_files", Forgetful())
    with pytest.raises(OSError, match="what was read back is not what was written"):
        save(tmp_path / "m", *NEW)
    assert_same(load(tmp_path / "m"), OLD)
    assert os.listdir(tmp_path) == ["m"]


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    for at in range(3):
        save(path, *OLD)
        reads = iter(range(10))

        def step(name: str, reads: Iterator[int] = reads, at: int = at) -> None:
            if name == "read" and next(reads) == at:
                os.truncate(path, 4)

        monkeypatch.setattr(safefile, "_files", Watched(step))
        with pytest.raises(ModelFileError, match="while it was being read"):
            load(path)
        monkeypatch.undo()


def test_a_file_replaced_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Header of one file and data of another would be a model that nobody trained.
    path = tmp_path / "m"
    for at in range(6):
        save(path, *OLD)
        count = iter(range(10))

        def step(name: str, count: Iterator[int] = count, at: int = at) -> None:
            if next(count) == at:
                monkeypatch.undo()
                save(path, *NEW)

        monkeypatch.setattr(safefile, "_files", Watched(step))
        assert_same(load(path), NEW if at == 0 else OLD)
        monkeypatch.undo()


def test_a_file_changed_in_place_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    old, new = file_bytes(OLD, tmp_path), file_bytes(NEW, tmp_path)
    for at in (1, 2):
        path.write_bytes(old)
        reads = iter(range(10))

        def step(name: str, reads: Iterator[int] = reads, at: int = at) -> None:
            if name == "read" and next(reads) == at:
                with open(path, "r+b") as file:
                    file.write(new)

        monkeypatch.setattr(safefile, "_files", Watched(step))
        with pytest.raises(ModelFileError):
            load(path)
        monkeypatch.undo()


def test_a_file_larger_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    save(path, {"w": np.zeros(1000)}, {})
    asked: list[int] = []

    class Counting(safefile.FileSystem):
        def read(self, fd: int, count: int, offset: int) -> bytes:
            asked.append(count)
            return super().read(fd, count, offset)

    monkeypatch.setattr(safefile, "_files", Counting())
    monkeypatch.setattr(os, "sysconf", lambda name: 100)  # 100 pages of 100 bytes
    with pytest.raises(ModelFileError, match="this machine has 10,000"):
        load(path)
    assert max(asked) < 1000


def test_a_system_that_does_not_tell_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sysconf(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    save(tmp_path / "m", *OLD)
    monkeypatch.setattr(os, "sysconf", sysconf)
    assert_same(load(tmp_path / "m"), OLD)


def test_an_error_without_a_number_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError("something a FUSE driver says")
    monkeypatch.setattr(safefile, "_files", fail_at(0, error))
    with pytest.raises(OSError) as caught:
        load(tmp_path / "m")
    assert caught.value is error


# Strays and other processes


def test_strays_are_removed_and_other_files_are_not(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    stray = make_stray(path)
    others = [
        ".m.safetensors.tmp",
        ".m.safetensors.0123456789abcdeg.tmp",
        ".m.safetensors.0123456789abcdef0.tmp",
        ".mxsafetensors.0123456789abcdef.tmp",
        ".n.safetensors.0123456789abcdef.tmp",
        "m.safetensors.0123456789abcdef.tmp",
    ]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".m.safetensors.aaaaaaaaaaaaaaaa.tmp").mkdir()
    (tmp_path / ".m.safetensors.bbbbbbbbbbbbbbbb.tmp").symlink_to("/nowhere")
    save(path, *OLD)
    assert not stray.exists()
    assert {*others, path.name} < set(os.listdir(tmp_path))
    assert_same(load(path), OLD)


def test_tidying_up_without_a_save(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save(path, *OLD)
    stray = make_stray(path)
    with open(stray, "rb+") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        safefile.tidy(path)
        assert stray.exists()  # its writer lives
    safefile.tidy(path)
    assert os.listdir(tmp_path) == ["m"]
    safefile.tidy(tmp_path / "no folder" / "m")  # nothing to do, and no error


def test_the_file_of_a_live_save_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m"
    stray = make_stray(path)
    with open(stray, "rb+") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        save(path, *OLD)
        assert stray.exists()
    save(path, *OLD)
    assert not stray.exists()


def test_two_saves_at_once_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # At each request of one save another one runs from beginning to end, tidying up included.
    path = tmp_path / "m"
    save(path, *OLD)
    called = count_calls(lambda: save_over_old(path), monkeypatch)
    for number in range(len(called)):
        count = iter(range(10**6))

        def step(name: str, count: Iterator[int] = count, number: int = number) -> None:
            if next(count) == number:
                outer = safefile._files
                safefile._files = safefile.FileSystem()
                save(path, *OLD)
                safefile._files = outer

        monkeypatch.setattr(safefile, "_files", Watched(step))
        save(path, *NEW)
        monkeypatch.undo()
        assert_same(load(path), NEW if number <= called.index("replace") else OLD)
        assert os.listdir(tmp_path) == ["m"]


def test_a_new_file_that_is_taken_for_a_stray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Between creating and locking it, somebody else's tidying up takes the lock; another name is tried.
    class Held(safefile.FileSystem):
        tries = 0

        def lock(self, fd: int) -> None:
            self.tries += 1
            if self.tries == 1:
                for name in strays(tmp_path):
                    os.unlink(tmp_path / name)
                raise BlockingIOError(errno.EWOULDBLOCK, "held")
            super().lock(fd)

    files = Held()
    monkeypatch.setattr(safefile, "_files", files)
    save(tmp_path / "m", *OLD)
    assert files.tries == 2
    assert_same(load(tmp_path / "m"), OLD)
    assert os.listdir(tmp_path) == ["m"]


def test_a_lock_that_is_never_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Held(safefile.FileSystem):
        def lock(self, fd: int) -> None:
            for name in strays(tmp_path):
                os.unlink(tmp_path / name)
            raise BlockingIOError(errno.EWOULDBLOCK, "held")

    monkeypatch.setattr(safefile, "_files", Held())
    with pytest.raises(BlockingIOError):
        save(tmp_path / "m", *OLD)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    class Lockless(safefile.FileSystem):
        def lock(self, fd: int) -> None:
            raise OSError(code, os.strerror(code))

    path = tmp_path / "m"
    stray = make_stray(path)
    monkeypatch.setattr(safefile, "_files", Lockless())
    save(path, *OLD)
    assert_same(load(path), OLD)
    assert strays(tmp_path) == [stray.name]  # it may be somebody's who is alive


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO], ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    class Unsynced(safefile.FileSystem):
        def fsync(self, fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(code, os.strerror(code))

    monkeypatch.setattr(safefile, "_files", Unsynced())
    unable = contextlib.nullcontext() if code == errno.EINVAL else pytest.raises(OSError)
    with unable:
        save(tmp_path / "m", *OLD)
    assert_same(load(tmp_path / "m"), OLD)


# A process that forks savers and has them killed: by themselves at request `at` (a write when half is
# written), or from outside after `delay` seconds of one save after another. One import serves them all.
KILLER = """
import itertools, os, signal, sys, time
import numpy as np
from fastbp import container, safefile

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Deadly(safefile.FileSystem):
    def __init__(self, at):
        self.left = at

def watch(name):
    plain = getattr(safefile.FileSystem, name)
    def request(self, *arguments):
        if self.left == 0:
            if name == "write":
                plain(self, arguments[0], arguments[1][: len(arguments[1]) // 2])
            die()
        self.left -= 1
        return plain(self, *arguments)
    return request

for name in [name for name in vars(safefile.FileSystem) if not name.startswith("_")]:
    setattr(Deadly, name, watch(name))

def save(path, which):
    container.save(path, {"w": np.full(20_000, which)}, {"which": which}, kind="fastbp-model")

def fork(action):
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return child

root = sys.argv[1]
save(os.path.join(root, "warm up"), 0)
for at in itertools.count():
    os.mkdir(os.path.join(root, f"at {at}"))
    path = os.path.join(root, f"at {at}", "m")
    save(path, 1)

    def save_and_die():
        safefile._files = Deadly(at)
        save(path, 2)

    if os.waitpid(fork(save_and_die), 0)[1] == 0:  # it came to its end
        break

for delay in sys.argv[2:]:
    os.mkdir(os.path.join(root, f"delay {delay}"))
    path = os.path.join(root, f"delay {delay}", "m")
    save(path, 1)

    def save_for_ever():
        for which in itertools.count(2):
            save(path, which)

    child = fork(save_for_ever)
    time.sleep(float(delay))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def run_python(code: str, *arguments: object) -> subprocess.Popen:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    delays = [0.003, 0.007, 0.011, 0.017, 0.023, 0.031, 0.041, 0.053]
    killer = run_python(KILLER, tmp_path, *delays)
    _, errors = killer.communicate(timeout=120)
    assert killer.returncode == 0, errors

    folders = [entry for entry in tmp_path.iterdir() if entry.is_dir()]
    at = [folder for folder in folders if folder.name.startswith("at")]
    assert len(at) > 15
    assert len(folders) == len(at) + len(delays)
    left = seen_new = 0
    for folder in folders:
        tensors, metadata = load(folder / "m")
        which = metadata["which"]
        assert tensors["w"].tolist() == [which] * 20_000
        assert which in (1, 2) or folder not in at
        seen_new += folder in at and which == 2
        assert len(strays(folder)) <= 1
        left += len(strays(folder))
        save(folder / "m", *NEW)
        assert os.listdir(folder) == ["m"]
    assert left >= 6  # several were killed with the new file half-way
    assert seen_new >= 3  # and some after it was in place


SAVER = """
import sys
import numpy as np
from fastbp import container, safefile
which = float(sys.argv[2])
for _ in range(60):
    container.save(sys.argv[1], {"w": np.full(10_000, which)}, {"which": which}, kind="fastbp-model")
"""


def test_two_processes_save_to_one_path(tmp_path: Path) -> None:
    path = tmp_path / "m"
    savers = [run_python(SAVER, path, which) for which in (1, 2)]
    seen: set[float] = set()
    deadline = time.monotonic() + 60
    while any(saver.poll() is None for saver in savers) and time.monotonic() < deadline:
        if path.exists():  # from the first save on there is always a whole file
            tensors, metadata = load(path)
            assert (tensors["w"] == metadata["which"]).all()
            seen.add(metadata["which"])
    for saver in savers:
        _, errors = saver.communicate(timeout=60)
        assert saver.returncode == 0, errors
    assert seen <= {1.0, 2.0}
    assert seen
    assert os.listdir(tmp_path) == ["m"]
