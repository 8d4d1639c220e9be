"""How many threads BLAS may use: set for a run, put back after it, also when it fails."""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

# Floating-point operations of the largest product of a mini-batch from which a second BLAS thread repays its
# synchronisation. Below it a pool only harms: where another process wants the cores too, its threads wait for each
# other by spinning, and a mini-batch of 0.2 ms was seen to take 14 to 70 ms (docs/performance-notes.md).
WORTH_THREADS = 10e6


@functools.cache
def _controller() -> Any:
    import scipy.linalg.blas  # noqa: F401  the controller knows what is loaded, and SciPy brings a library of its own
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def for_products(largest: float) -> contextlib.AbstractContextManager[Any]:
    """A context for products of at most so many operations: one thread if they are small, else as things are."""
    return contextlib.nullcontext() if largest >= WORTH_THREADS else one_for_blas()


def at_most(count: int) -> contextlib.AbstractContextManager[Any]:
    """A context in which no BLAS uses more threads than this; for one thread of ours at a time."""
    return _controller().limit(limits=count, user_api="blas")


_lock = threading.Lock()
_inside = 0  # threads of ours that are within `one_for_blas`
_before: Any = None  # how the pools were before the first of them


@contextlib.contextmanager
def one_for_blas() -> Iterator[None]:
    """One BLAS thread, in the whole process, until the last of our threads has left this context.

    Each putting back what it found would not do: of two that overlap, the second has found the first one's limit, and
    would leave it behind for good.
    """
    global _inside, _before
    with _lock:
        if not _inside:
            _before = _controller().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _before.restore_original_limits()


def _forget_other_threads() -> None:
    """In the child of a fork only the forking thread lives on; a lock that another one held would stay shut."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)
