"""How many threads a run may use: those of BLAS, set for a run and put back after it, and those of compiled code."""

import contextlib
import contextvars
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

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


def of_blas() -> int:
    """The threads that the widest BLAS of this process may use at this moment."""
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


_limit: contextvars.ContextVar[int | None] = contextvars.ContextVar("limit of threads", default=None)


def cores() -> int:
    """The cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available() -> int:
    """The threads a run may use: the cores of this process, or fewer if OMP_NUM_THREADS or `limited_to` say so."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    allowed = [cores(), _limit.get() or cores()]
    if asked.isdecimal() and int(asked) > 0:
        allowed.append(int(asked))
    return min(allowed)


@contextlib.contextmanager
def limited_to(count: int) -> Iterator[None]:
    """A context in which this thread's runs use at most so many threads, whatever the machine has."""
    token = _limit.set(count)
    try:
        yield
    finally:
        _limit.reset(token)


# Where compiled threads meet, a cache line each for a word that somebody will not come and for every thread's visits;
# see `kernels.wait`.
_LINE, _BROKEN = 8, 0


def run_together(count: int, work: Callable[[int, np.ndarray], None]) -> None:
    """work(me, sync) in so many threads at once, me = 0 in this one; they meet in `sync`. Raises what one raised.

    Threads live for one run, a tenth of a second: starting one takes 0.1 ms, and none is left behind for a fork.
    """
    sync, errors = np.zeros(_LINE * (1 + count), np.int64), []
    if count == 1:
        work(0, sync)
        return

    def take_part(me: int) -> None:
        try:
            work(me, sync)
        except BaseException as error:  # Ctrl-C reaches the first thread before or after its work
            sync[_BROKEN] = 1  # or the others would wait for ever
            errors.append(error)

    helpers = [threading.Thread(target=take_part, args=(me,), daemon=True) for me in range(1, count)]
    try:
        for helper in helpers:
            helper.start()
        take_part(0)
    except BaseException:
        sync[_BROKEN] = 1
        raise
    finally:
        for helper in helpers:
            if helper.ident is not None:
                helper.join()
    if errors:
        raise errors[0]


class Pace:
    """Finds out by the clock how many threads are faster, one or `most`, and keeps finding out.

    Threads that wait for each other at every mini-batch need a core each: where another program takes one of them, a
    mini-batch of 10 µs was seen to take 100, one of 2 ms no longer than alone. So short pieces of the work are tried
    both ways, now and then again. What is computed does not depend on it, only when it is done.
    """

    # Seconds of a piece, by the faster way. Starting threads takes 0.1 ms, or 0.5 at first: a probe tells whether all
    # is lost, and only a trial which way is faster.
    PROBE, TRIAL, PIECE = 0.002, 0.006, 0.02
    SOONEST, LATEST = 0.1, 2.0  # seconds between two trials of what was slower

    def __init__(self, most: int, sure: bool = False) -> None:
        """With `sure`, all threads always: no trials."""
        self.most, self._by_clock = most, most > 1 and not sure
        self._seconds: dict[int, float] = {}  # for one unit of work, by number of threads; the last that was measured
        self._guess = 0.0  # the same for the first unit, which finds nothing in the caches
        self._wait, self._waited = self.SOONEST, 0.0

    def pieces(self, total: int) -> Iterator[tuple[int, int, int]]:
        """(first, last, threads) of pieces that cover 0 … total - 1; the caller does each before it asks on."""
        done = 0
        while done < total:
            threads, seconds = self._choose() if self._by_clock else (self.most, 0.0)
            last = total
            if self._by_clock:
                each = min(self._seconds.values(), default=self._guess or seconds)
                last = min(total, done + max(1, int(seconds / each)))
            began = time.perf_counter()
            yield done, last, threads
            if self._by_clock:
                self._note(threads, seconds, time.perf_counter() - began, last - done)
            done = last

    @property
    def _faster(self) -> int:
        return min(self._seconds, key=self._seconds.__getitem__)

    def _choose(self) -> tuple[int, float]:
        """(threads, seconds) of the next piece."""
        for threads in (1, self.most):
            if threads not in self._seconds:
                return threads, self.PROBE
        slower = self.most + 1 - self._faster
        if self._waited < self._wait:
            return self._faster, self.PIECE
        return slower, self.TRIAL if self._waited == float("inf") else self.PROBE

    def _note(self, threads: int, asked: float, seconds: float, units: int) -> None:
        others = min((s for count, s in self._seconds.items() if count != threads), default=float("inf"))
        each = seconds / units
        self._waited += seconds
        if not self._guess:
            self._guess = each
        elif asked == self.PIECE:
            before = self._faster
            self._seconds[threads] = each
            if self._faster != before and each < 2 * others:  # not lost, perhaps chance: tried again at once
                self._wait = self._waited = self.SOONEST
        elif asked == self.PROBE and others < each < 2 * others:
            self._seconds[threads] = each
            self._waited = float("inf")  # not lost: the trial follows
        else:
            lost = threads in self._seconds and each > others
            self._seconds[threads] = each
            self._wait, self._waited = (min(2 * self._wait, self.LATEST) if lost else self.SOONEST), 0.0
