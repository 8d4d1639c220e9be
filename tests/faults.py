"""A file system whose requests can be counted, and made to fail one by one: every save goes through this seam."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from fastbp import safefile

CALLS = [name for name in vars(safefile.FileSystem) if not name.startswith("_")]
FAULTS = [errno.ENOSPC, errno.EACCES, errno.EIO]


class Watched(safefile.FileSystem):
    """The file system, with `step(name)` called before each request, and the open files counted."""

    def __init__(self, step: Callable[[str], None] = lambda name: None) -> None:
        self.step = step
        self.open_files = 0


def _watch(name: str) -> Callable:
    def request(self: Watched, *arguments: Any) -> Any:
        if name == "close":  # Linux closes a file even where it then reports an error
            self.open_files -= 1
            os.close(*arguments)
            return self.step(name)
        self.step(name)
        result = getattr(safefile.FileSystem, name)(self, *arguments)
        self.open_files += name == "open"
        return result

    return request


for _name in CALLS:
    setattr(Watched, _name, _watch(_name))


def count_calls(action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    called: list[str] = []
    monkeypatch.setattr(safefile, "_files", Watched(called.append))
    action()
    monkeypatch.undo()
    return called


def fail_at(call: int, error: BaseException) -> Watched:
    """A file system whose request number `call` fails, and no other."""
    count = iter(range(10**6))

    def step(name: str) -> None:
        if next(count) == call:
            raise error

    return Watched(step)
