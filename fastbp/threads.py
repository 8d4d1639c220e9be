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


def count() -> int:
    """The threads that the widest BLAS of this process may use at this moment."""
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
