"""Numba's disk cache, made harmless: whatever is wrong with it, kernels are compiled again and training goes on.

Numba itself lets many faults of the cache reach the user: a truncated file is an EOFError, a file left by another
version of this package an AttributeError, a full disk an OSError, no writable folder a RuntimeError at import.

And Ctrl-C is heard: LLVM calls back into Python when it has translated a function, and an interrupt that comes
meanwhile is raised in that callback, where no exception can get out; Python would report it and forget it.
"""

import contextlib
import sys
import threading
import warnings
from typing import Any

from llvmlite.binding import ffi
from numba.core.caching import FunctionCache, NullCache


class ForgivingCache(FunctionCache):
    """A cache for which every fault is a miss. What cannot be read is dropped; what cannot be written stays unsaved."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception as fault:  # a damaged pickle can raise anything
            self._drop(fault)
            found = None
        if found is None:  # it is compiled now
            _listen(self)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as fault:
            self._drop(fault)
        _raise_lost_interrupt(self)

    def _drop(self, fault: Exception) -> None:
        """Empty the index, so that the next save starts afresh; if that fails too, go on without."""
        try:
            self.flush()
        except OSError:
            self.disable()
            warn_once(f"the cache of compiled code in {self.cache_path} cannot be used ({fault})")


def use(dispatcher: Any) -> Any:
    """Give a compiled function this cache in the place of Numba's own; without a usable folder, none."""
    try:
        dispatcher._cache = ForgivingCache(dispatcher.py_func)
    except Exception as fault:  # RuntimeError where no folder can be written, OSError and KeyError without a home
        warn_once(f"there is no folder for the cache of compiled code ({fault})")
    return dispatcher


class NotKept(NullCache):
    """In the place of a cache, for what is kept as a part of something else; Ctrl-C is heard here too."""

    def load_overload(self, sig: Any, target_context: Any) -> None:
        _listen(self)

    def save_overload(self, sig: Any, data: Any) -> None:
        _raise_lost_interrupt(self)


def keep_nothing(dispatcher: Any) -> Any:
    """Have what is compiled here not written to disk."""
    dispatcher._cache = NotKept()
    return dispatcher


_compiling: set[int] = set()  # caches of functions that are being compiled, one within another
_lost_interrupt = False
_usual_hook: Any = None  # of exceptions that cannot get out, while we listen to them


def _listen(cache: object) -> None:
    """Take note of an interrupt that gets lost while this function is compiled. Only the main thread gets signals."""
    global _usual_hook
    if threading.current_thread() is not threading.main_thread():
        return
    _compiling.add(id(cache))
    if _usual_hook is None:
        _usual_hook, sys.unraisablehook = sys.unraisablehook, _notice


def _notice(lost: Any) -> None:
    global _lost_interrupt
    if issubclass(lost.exc_type, KeyboardInterrupt):
        _lost_interrupt = True
    elif _usual_hook is not None:
        _usual_hook(lost)


def _raise_lost_interrupt(cache: object) -> None:
    """When a function is compiled: KeyboardInterrupt if one came meanwhile and was lost."""
    global _lost_interrupt, _usual_hook
    if threading.current_thread() is not threading.main_thread():
        return
    _compiling.discard(id(cache))
    if not _compiling and _usual_hook is not None:
        if sys.unraisablehook is _notice:
            sys.unraisablehook = _usual_hook
        _usual_hook = None
    if _lost_interrupt:
        _lost_interrupt = False
        raise KeyboardInterrupt


def recover() -> None:
    """After an exception out of compiled code: give back what a compilation that it broke off has kept.

    An interrupt that waited for LLVM is raised as soon as LLVM is done, before llvmlite has given back its lock, and
    every other thread that compiles would wait for it for ever. Call it where nothing is compiled in this thread.
    """
    global _usual_hook
    if threading.current_thread() is threading.main_thread():
        _compiling.clear()
        if _usual_hook is not None and sys.unraisablehook is _notice:
            sys.unraisablehook = _usual_hook
        _usual_hook = None
    lock = getattr(getattr(ffi.lib, "_lock", None), "_lock", None)
    with contextlib.suppress(RuntimeError, AttributeError):  # RuntimeError when it is no longer, or not, this thread's
        while True:
            lock.release()  # type: ignore[union-attr]


_warned = False


def warn_once(what: str) -> None:
    """Say once in a process that compiled code will not be kept."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"{what}; kernels are compiled anew in every process, some seven seconds each time. Set NUMBA_CACHE_DIR to "
            f"a folder that can be written",
            RuntimeWarning,
            stacklevel=3,
        )
