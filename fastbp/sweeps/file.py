"""The file that a sweep writes while it runs: what is trained, then a line of JSON for each network that is done.

A process can be killed at any moment. Each line is written in one piece and brought to the disk before the next, so
that the worst that can be left behind is one last line without its end, which is cut off when the sweep is resumed.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastbp.data import Shared
from fastbp.errors import DataFileError, FastbpError
from fastbp.identity import fingerprint
from fastbp.sweeps.spec import Run, show_settings

FORMAT = "fastbp sweep 1"


class SweepFile:
    """The rows of one sweep in a file. `rows` are those found there, by number."""

    def __init__(self, path: str | Path, header: Mapping[str, Any], runs: list[Run], resume: bool) -> None:
        """header: what is trained on what, in JSON's own types; with `resume`, it must be the file's, versions aside.

        Raises FastbpError if the file is there and must not be (or is in use), or is another sweep's; DataFileError if
        it is damaged. Writes nothing yet.
        """
        self.path, self.header, self.rows = Path(path), {"format": FORMAT, **header}, dict[int, dict[str, Any]]()
        self._stream: BinaryIO | None = None
        if not self.path.exists():
            if not self.path.parent.is_dir():
                raise FastbpError(f"{self.path}: there is no folder {self.path.parent}; make it first")
            return
        if not resume:
            raise FastbpError(
                f"{self.path} is there already; go on with the sweep in it (resume=True), or choose another name"
            )
        stream = open(self.path, "r+b")  # noqa: SIM115  kept open, and locked, until close
        try:
            _lock(stream, self.path)
            whole = self._read(stream, runs)
            stream.truncate(whole)
            stream.seek(whole)
        except BaseException:
            stream.close()
            raise
        self._stream = stream

    def _read(self, stream: BinaryIO, runs: list[Run]) -> int:
        """Take up the lines that are complete; the number of bytes they have."""
        content = stream.read()
        *lines, torn = content.split(b"\n")
        if not lines:
            if not _line(self.header).startswith(torn):
                raise FastbpError(f"{self.path} is no file of a sweep; choose another name")
            return 0
        self._compare(_parse(lines[0], self.path, 1))
        for number, line in enumerate(lines[1:], start=2):
            row = _parse(line, self.path, number)
            at = row.get("run")
            if type(at) is not int or not 0 <= at < len(runs):
                raise DataFileError(f"{self.path}, line {number}: there is no network {at!r} in this sweep")
            if (row.get("settings"), row.get("seed")) != (runs[at].settings, runs[at].seed) or "status" not in row:
                expected = show_settings({**runs[at].settings, "seed": runs[at].seed})
                raise DataFileError(f"{self.path}, line {number}: network {at} is not the one with {expected}")
            self.rows[at] = row
        return len(content) - len(torn)

    def _compare(self, found: dict[str, Any]) -> None:
        if found.get("format") != FORMAT:
            raise FastbpError(f"{self.path} is no file of a sweep that this version can resume; choose another name")
        for name, ours in self.header.items():
            if name not in ("versions", "format") and found.get(name) != ours:
                raise FastbpError(
                    f"{self.path} belongs to another sweep: its {name} is {_short(found.get(name))}, here it is "
                    f"{_short(ours)}; give the same, or choose another name"
                )
        theirs, ours = found.get("versions"), self.header.get("versions")
        if theirs != ours:
            warnings.warn(
                f"{self.path} was begun with {_short(theirs)}, and goes on with {_short(ours)}: the last digits of "
                f"the two parts may differ",
                RuntimeWarning,
                stacklevel=4,
            )

    def begin(self) -> None:
        """Make the file, with its first line, if it is not there."""
        if self._stream is None:
            try:
                self._stream = open(self.path, "xb")  # noqa: SIM115  kept open, and locked, until close
            except FileExistsError:
                raise FastbpError(f"{self.path} has just been made by another process; choose another name") from None
            _lock(self._stream, self.path)
        if self._stream.tell() == 0:
            self._write(self.header)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row. Raises OSError if the disk does not take it; the rows before are safe."""
        self._write(row)

    def _write(self, row: dict[str, Any]) -> None:
        assert self._stream is not None
        self._stream.write(_line(row))
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def __enter__(self) -> "SweepFile":
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):  # what `add` could not write, said there, it cannot write here either
                self._stream.close()


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}, line {number} is damaged: {error}") from None
    if not isinstance(row, dict):
        raise DataFileError(f"{path}, line {number} is damaged: expected a JSON object")
    return row


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 200 else text[:197] + "..."


def _lock(stream: BinaryIO, path: Path) -> None:
    """Two processes that append to one file would tear each other's lines. Where there are no locks, nothing."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FastbpError(f"{path} is being written by another sweep; wait for it, or choose another name") from None
    except OSError:  # a file system that has none
        pass


# --- The data, so that a sweep is not resumed on others


def describe(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Each array (of a tuple, each part) by its type, its shape and a SHA-256 of its numbers, whatever its order."""
    return {
        name: ", ".join(f"{array.dtype.name} {array.shape} sha256:{fingerprint(array)}" for array in _arrays(value))
        for name, value in arrays.items()
        if value is not None
    }


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, Shared):
        yield from _arrays(value.X)
    elif isinstance(value, tuple):  # validation_data
        for part in value:
            yield from _arrays(part)
    elif hasattr(value, "tocsr"):
        rows = value.tocsr()
        yield from (rows.indptr, rows.indices, rows.data)
    else:
        array = np.atleast_1d(value)
        yield array.astype(str) if array.dtype.kind in "OT" else array
