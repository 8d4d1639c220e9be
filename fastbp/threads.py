"""How many threads BLAS may use: set for a run, put back after it, also when it fails."""

import contextlib
import functools
from typing import Any

# Floating-point operations of the largest product of a mini-batch from which a second BLAS thread repays its
# synchronisation. Below it a pool only harms: where another process wants the cores too, its threads wait for each
# other by spinning, and a mini-batch of 0.2 ms was seen to take 14 to 70 ms (docs/performance-notes.md).
WORTH_THREADS = 10e6


@functools.cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def for_products(largest: float) -> contextlib.AbstractContextManager[Any]:
    """A context for products of at most so many operations: one thread if they are small, else as things are."""
    if largest >= WORTH_THREADS:
        return contextlib.nullcontext()
    return _controller().limit(limits=1, user_api="blas")


def at_most(count: int) -> contextlib.AbstractContextManager[Any]:
    """A context in which no BLAS uses more threads than this, NumPy's and SciPy's alike."""
    import scipy.linalg.blas  # noqa: F401  what is not loaded yet cannot be held back

    return _controller().limit(limits=count, user_api="blas")
