"""Damage to a file, drawn from a seed: the same on every machine, with no other package."""

import random
from collections.abc import Sequence

# What readers trip over: ends of integer types, and the marks of the formats.
NUMBERS = [0, 1, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [
    b"\0", b"\xff\xff\xff\xff", b"\n", b"\r\n", b'"', b",", b";", b"\t", b"nan", b"inf", b"-1", b"1e999", b"1_0", b"0",
    b"{", b"}", b"[[[[", b"\xef\xbb\xbf", b"null", b"true", b"\x1f\x8b\x08", b"PK\x03\x04", b"\x80\x04",
    b"\xed\xa0\x80", b"O", b"F32", b"F64", b"U8", b"'descr': '|O'", b"fortran_order", b"<U999999999", b'"shape":[',
    b"\\ud800", b"99999999999999999999",
]  # fmt: skip


def mutate(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    """One to four changes: bits, bytes, numbers, words, pieces cut, doubled, moved, or taken from another file."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(CHANGES)(data, corpus, rng)
    return data


def _flip_a_bit(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    if not data:
        return b"\1"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _set_a_byte(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _set_a_number(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    number = (rng.choice(NUMBERS) % 2 ** (8 * width)).to_bytes(width, order)  # type: ignore[arg-type]
    at = rng.randrange(len(data) + 1)
    return data[:at] + number + data[at + width :]


def _insert_a_word(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    at, word = rng.randrange(len(data) + 1), rng.choice(WORDS)
    return data[:at] + word + data[at + rng.choice((0, len(word))) :]


def _change_a_digit(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    places = [i for i, byte in enumerate(data) if byte in b"0123456789"]
    if not places:
        return data
    at = rng.choice(places)
    return data[:at] + rng.choice((b"0", b"1", b"9", b"99", b"-1", b"", b"1e9", b"4294967296")) + data[at + 1 :]


def _cut_short(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _cut_a_piece(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    first, last = _piece(data, rng)
    return data[:first] + data[last:]


def _double_a_piece(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    first, last = _piece(data, rng)
    return data[:last] + data[first:last] * rng.choice((1, 1, 3)) + data[last:]


def _move_a_piece(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    first, last = _piece(data, rng)
    rest = data[:first] + data[last:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + data[first:last] + rest[at:]


def _take_from_another(data: bytes, corpus: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(corpus)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _piece(data: bytes, rng: random.Random) -> tuple[int, int]:
    first = rng.randrange(len(data) + 1)
    return first, min(len(data), first + rng.choice((1, 2, 4, 8, 40)))


CHANGES = (
    _flip_a_bit, _set_a_byte, _set_a_number, _insert_a_word, _change_a_digit, _cut_short, _cut_a_piece, _double_a_piece,
    _move_a_piece, _take_from_another,
)  # fmt: skip
