"""Who trains the networks of a sweep: threads of this process, or whatever an executor has, wherever it is.

Threads share the data. Everywhere else they are sent to each worker once, and shared by the networks it trains.
"""

import concurrent.futures
import contextlib
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastbp import threads
from fastbp.data import Shared
from fastbp.errors import DivergenceError
from fastbp.network import Network
from fastbp.plainjson import plain
from fastbp.progress import Silent
from fastbp.sweeps.result import final_metrics
from fastbp.sweeps.spec import Run

Arrays = dict[str, Any]  # X, y and, it may be, validation_data and others, by fit's names


# --- One network


class Outcome(NamedTuple):
    """What one network came to: its row, and itself if it shall be kept."""

    row: dict[str, Any]
    network: Network | None


def train(arrays: Arrays, run: Run, keep: bool, listener: "Listener") -> Outcome:
    """Train one network from beginning to end, on one core. Whatever happens to it stands in its row."""
    status, message, engine, network, best = "done", "", None, None, None
    began = time.perf_counter()
    try:
        network, arguments = Network(**run.for_network()), run.for_fit()
        with one_core(), np.errstate(all="ignore"):  # said in the row
            history = network.fit(**arrays, **arguments, verbose=listener)
        engine, records = history.engine, history.epochs
        if len(records) < arguments["epochs"]:
            why = history.ended or "the fit ended"
            status, message = "stopped", f"{why} after {len(records)} of {arguments['epochs']} epochs"
        best = history.best_epoch  # whose parameters early stopping has put back
    except DivergenceError as error:
        status, message, records = "diverged", str(error), listener.records
    except Exception as error:  # one network must not hold up the rest
        status, message, records = "failed", f"{type(error).__name__}: {error}", listener.records
    history_of_numbers = [plain(record) for record in records]
    final = next((record for record in history_of_numbers if record["epoch"] == best), None)
    if final is None:
        final = history_of_numbers[-1] if records else {}
    row = {
        "run": run.number, "settings": run.settings, "seed": run.seed, "status": status, "message": message,
        "engine_used": engine, "epochs_done": len(records), "seconds": time.perf_counter() - began,
        "final": final_metrics(final), "history": history_of_numbers,
    }  # fmt: skip
    return Outcome(row, network if keep and status != "failed" else None)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Compiled code and BLAS keep to the thread they are called from: what runs beside it are other networks."""
    with threads.limited_to(1), threads.one_for_blas():
        yield


class Listener(Silent):
    """Hears how a fit goes: keeps the records of its epochs, and ends it once the sweep is over."""

    def __init__(self, over: threading.Event | None = None, epoch_done: Callable[[], None] = lambda: None) -> None:
        self.records: list[dict[str, Any]] = []
        self._over, self._pass_on = over, epoch_done

    def examples_done(self, count: int) -> None:
        if self._over is not None and self._over.is_set():
            raise SweepIsOver

    def epoch_done(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        self._pass_on()


class SweepIsOver(BaseException):
    """Ends a fit between two runs of mini-batches. No Exception: it is no fault of the network."""


class OneMiniBatch(Silent):
    """Ends a fit when it has trained its first mini-batch."""

    def examples_done(self, count: int) -> None:
        raise SweepIsOver


def share(arrays: Arrays) -> Arrays:
    """The same arrays; what is made of the inputs, for checks and for the engines, is made once in this process."""
    shared = {**arrays, "X": Shared(arrays["X"])}
    held_out = arrays.get("validation_data")
    if isinstance(held_out, tuple | list) and held_out:  # anything else is for fit to refuse
        shared["validation_data"] = (Shared(held_out[0]), *held_out[1:])
    return shared


# --- Where


class Place(ABC):
    """Threads, processes or machines that train networks, `at_once` of them at the same time."""

    at_once: int

    @abstractmethod
    def submit(self, run: Run) -> concurrent.futures.Future:
        """Have a network trained. The future's result is its outcome, or None if the worker has not got the data."""

    def train_all(self, runs: list[Run]) -> Generator[Outcome, None, None]:
        """The outcomes in the order in which they come. A few runs wait at the workers, the others here."""
        waiting, running = deque(runs), dict[concurrent.futures.Future, Run]()
        try:
            while waiting or running:
                while waiting and len(running) < 2 * self.at_once:
                    run = waiting.popleft()
                    running[self.submit(run)] = run
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    run, outcome = running.pop(future), future.result()
                    if outcome is None:
                        waiting.appendleft(run)
                    else:
                        yield outcome
        finally:
            for future in running:
                future.cancel()

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *exception: Any) -> None: ...  # noqa: B027  most have nothing to end


def is_here(executor: Any) -> bool:
    return executor is None or isinstance(executor, concurrent.futures.ThreadPoolExecutor)


def is_dask(executor: Any) -> bool:
    return type(executor).__module__.partition(".")[0] == "distributed"


class Here(Place):
    """Threads of this process: the compiled loops, and the products of BLAS, run without Python's lock."""

    def __init__(
        self, executor: Any, count: int, shared: Arrays, keep: bool, epoch_done: Callable[[Run], None]
    ) -> None:
        self.own = concurrent.futures.ThreadPoolExecutor(count, "fastbp-sweep") if executor is None else None
        self.executor = self.own or executor
        self.at_once = self.executor._max_workers
        self.shared, self.keep, self.epoch_done, self.over = shared, keep, epoch_done, threading.Event()

    def submit(self, run: Run) -> concurrent.futures.Future:
        listener = Listener(self.over, lambda: self.epoch_done(run))
        return self.executor.submit(train, self.shared, run, self.keep, listener)

    def __exit__(self, *exception: Any) -> None:
        self.over.set()  # after Ctrl-C, say: what is in training stops where it is
        if self.own is not None:
            self.own.shutdown(cancel_futures=True)


class Parcel:
    """The data on their way to a worker, and there."""

    def __init__(self, arrays: Arrays) -> None:
        self.shared = share(arrays)


class OnDask(Place):
    """The workers of a Dask cluster; its scheduler brings the data to each of them."""

    def __init__(self, executor: Any, arrays: Arrays, keep: bool) -> None:
        client = executor._client
        self.executor, self.keep = executor, keep
        self.at_once = max(1, sum(client.nthreads().values()))
        self.parcel = client.scatter(Parcel(arrays), broadcast=True, hash=False)

    def submit(self, run: Run) -> concurrent.futures.Future:
        return self.executor.submit(_train_from, self.parcel, run, self.keep, pure=False)


class Elsewhere(Place):
    """The workers of any other executor: processes, or the ranks of MPI. The data come with the first runs.

    An executor does not say which worker takes which task. One that finds itself without the data says so, and they
    come with that run when it is submitted again.
    """

    def __init__(self, executor: Any, arrays: Arrays, keep: bool) -> None:
        self.executor, self.keep = executor, keep
        self.at_once = getattr(executor, "num_workers", None) or getattr(executor, "_max_workers", None) or 1
        self.name, self.parcel = secrets.token_hex(8), Parcel(arrays)
        self.submitted: set[int] = set()

    def submit(self, run: Run) -> concurrent.futures.Future:
        with_data = len(self.submitted) < self.at_once or run.number in self.submitted
        self.submitted.add(run.number)
        return self.executor.submit(_train_with, self.name, self.parcel if with_data else None, run, self.keep)


_held: tuple[str, Parcel] | None = None  # what this process was sent last, under the name of its sweep


def _train_from(parcel: Parcel, run: Run, keep: bool) -> Outcome:
    return train(parcel.shared, run, keep, Listener())


def _train_with(name: str, parcel: Parcel | None, run: Run, keep: bool) -> Outcome | None:
    global _held
    held = (name, parcel) if parcel is not None else _held
    if held is None or held[0] != name:
        return None
    _held = held
    return _train_from(held[1], run, keep)
