"""A run is known by what it is: equal data and arguments look equal however they are written, others do not."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import fastbp
from fastbp import identity
from fastbp.identity import describe, fingerprint

A = np.arange(24.0).reshape(6, 4)


def test_a_fingerprint_is_the_sha_256_of_type_shape_and_numbers() -> None:
    assert fingerprint(A) == hashlib.sha256(b"<f8 (6, 4)\n" + A.tobytes()).hexdigest()


def test_blocks_play_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fingerprint(A)
    for block in (1, 33, 64, 10**6):
        monkeypatch.setattr(identity, "_BLOCK", block)
        assert fingerprint(A) == whole


def test_equal_numbers_have_equal_fingerprints() -> None:
    for same in (A.astype(">f8"), np.asfortranarray(A), A[::-1][::-1], np.repeat(A, 2, axis=1)[:, ::2]):
        assert fingerprint(same) == fingerprint(A)
    fingerprint(np.empty((0, 3))), fingerprint(np.arange(3))


def test_others_have_other_fingerprints() -> None:
    less = A.copy()
    less[5, 3] = np.nextafter(less[5, 3], 0)
    sparse = scipy.sparse.csr_matrix(A)
    others = [A, A.reshape(4, 6), A.astype("f4"), A.astype("i8"), less, A[:5], A[::-1].copy(), sparse, sparse[::-1]]
    assert len({fingerprint(other) for other in others}) == len(others)


@dataclass(frozen=True)
class Part:
    x: Any
    y: Any = 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (np.float64(0.1), "0.1"),
        (np.int32(7), "7"),
        (0.1 + 0.2, "0.30000000000000004"),
        (float("inf"), "inf"),
        (None, None),
        (True, True),
        (np.bool_(False), False),
        ("adam", "adam"),
        (Part(1.0, (None, True)), "Part(x=1, y=[None, True])"),
        ({"a": [1, 2.5]}, "{a: [1, 2.5]}"),
        (fastbp.SGD(0.5), "SGD(eta=0.5, momentum=0, nesterov=False)"),
        (len, "len"),
        (object(), "object"),
        (A, fingerprint(A)),
    ],
)
def test_values_as_texts(value: Any, text: Any) -> None:
    assert describe(value) == text and type(describe(value)) is type(text)


def test_versions_are_texts() -> None:
    assert all(isinstance(version, str) and version for version in identity.versions().values())
    assert identity.versions()["fastbp"] == fastbp.__version__
