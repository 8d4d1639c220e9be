"""A person's own copy of the book's class: found in their file, run, and located in it when it fails."""

import contextlib
import importlib.machinery
import importlib.util
import inspect
import io
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastbp.errors import FastbpError

_METHODS = ("SGD", "update_mini_batch", "backprop", "feedforward")


class TheirCodeError(FastbpError):
    """A file with a person's own network cannot be run, or holds no network like the book's."""


class Theirs(NamedTuple):
    """The class, its file, and which of the book's programs it is: "network" or "network2"."""

    kind: type
    path: Path
    program: str


def find(path: str | os.PathLike[str]) -> Theirs:
    """Run the file, and find the class in it: `Network`, or the only one with the methods of the book's.

    Raises TheirCodeError if it cannot be run or holds no such class, FileNotFoundError if it is not there.
    """
    path = Path(path)
    if path.is_dir():
        raise TheirCodeError(f"{path} is a folder; name the file in it that holds your Network")
    if not path.exists():
        raise FileNotFoundError(2, "there is no such file; name the one that holds your Network", str(path))
    module = _run_file(path)
    kind = _network_in(module, path)
    missing = [name for name in _METHODS if not callable(getattr(kind, name, None))]
    if missing:
        raise TheirCodeError(f"{path}: class {kind.__name__} has no method {', '.join(missing)}, as the book's has")
    return Theirs(kind, path, _program(kind, path))


def _run_file(path: Path) -> dict[str, Any]:
    """The names a file defines. It may import its neighbours, as when it is run where it stands."""
    name = f"verified_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))  # whatever the file is called
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # and there it stays: their functions may look for it, or be pickled by its name
    sys.path.insert(0, str(path.parent.resolve()))
    wrote_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing is left in their folder
    try:
        with running(path):
            loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = wrote_bytecode
        with contextlib.suppress(ValueError):
            sys.path.remove(str(path.parent.resolve()))
    return vars(module)


def _network_in(names: dict[str, Any], path: Path) -> type:
    if isinstance(names.get("Network"), type):
        return names["Network"]
    classes = {name: value for name, value in names.items() if isinstance(value, type)}
    like = {value for value in classes.values() if all(callable(getattr(value, method, None)) for method in _METHODS)}
    if len(like) == 1:
        return like.pop()
    found = f"its classes are {', '.join(classes)}" if classes else "it defines no class"
    raise TheirCodeError(f"{path} has no class Network, with {', '.join(_METHODS)} as in the book; {found}")


def _program(kind: Any, path: Path) -> str:
    parameters = list(inspect.signature(kind.update_mini_batch).parameters)
    programs = {3: "network", 5: "network2"}  # with self
    if len(parameters) not in programs:
        raise TheirCodeError(
            f"{path}: update_mini_batch takes ({', '.join(parameters[1:])}), but the book's take (mini_batch, eta) or "
            f"(mini_batch, eta, lmbda, n)"
        )
    return programs[len(parameters)]


@contextlib.contextmanager
def running(path: Path) -> Iterator[io.StringIO]:
    """Run their code: what it prints is kept back, its warnings are its own, its errors name the line in their file."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            yield printed
        except TheirCodeError:
            raise
        except SystemExit as error:
            raise TheirCodeError(
                f"{path} ends the program while it is run; put that under if __name__ == '__main__'"
            ) from error
        except SyntaxError as error:
            port = "; it is written for Python 2" if "parentheses in call to 'print'" in str(error.msg) else ""
            at = f", line {error.lineno}" if error.lineno else ""
            raise TheirCodeError(f"{error.filename or path}{at}: {error.msg}{port}") from error
        except Exception as error:
            line = _line_in(path, error)
            where = f"{path}, line {line}" if line else f"{path}"
            raise TheirCodeError(f"{where}: {type(error).__name__}: {error}") from error


def _line_in(path: Path, error: Exception) -> int | None:
    """The last line of their file that was running when the error came."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return lines[-1] if lines else None


def locals_at_return(function: Any, call: Any) -> tuple[Any, dict[str, Any]]:
    """What call() returns, and the local variables with which `function` ended in it."""
    code, found = getattr(function, "__code__", None), {}

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is code:
            found.update(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        return call(), found
    finally:
        sys.setprofile(before)
