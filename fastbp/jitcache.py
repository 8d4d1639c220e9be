"""Numba's disk cache, made harmless: whatever is wrong with it, kernels are compiled again and training goes on.

Numba itself lets many faults of the cache reach the user: a truncated file is an EOFError, a file left by another
version of this package an AttributeError, a full disk an OSError, no writable folder a RuntimeError at import.
"""

import warnings
from typing import Any

from numba.core.caching import FunctionCache


class ForgivingCache(FunctionCache):
    """A cache for which every fault is a miss. What cannot be read is dropped; what cannot be written stays unsaved."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as fault:  # a damaged pickle can raise anything
            self._drop(fault)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as fault:
            self._drop(fault)

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


_warned = False


def warn_once(what: str) -> None:
    """Say once in a process that compiled code will not be kept."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"{what}; kernels are compiled anew in every process, some ten seconds each time. Set NUMBA_CACHE_DIR to a "
            f"folder that can be written",
            RuntimeWarning,
            stacklevel=3,
        )
