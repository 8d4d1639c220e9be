"""Checks and times contenders: all of a workload stand ready in processes of their own, and take turns.

Taking turns matters on a machine that is shared: whatever slows it for a second slows everyone's sample of that round.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import workloads
from benchmarks.processes import Process, WorkerError, rest
from benchmarks.workloads import Order, Workload
from fastbp import parameters

Row = dict[str, Any]

# What has nothing for a second thread to do: one example at a time, in Python.
ONE_THREAD = ("reference", "per_example", "book_sgd")
# What does not change with the number of threads.
FINAL = ("not installed", "not supported", "left out")


class Effort(NamedTuple):
    """How long to measure."""

    seconds: float = 0.6  # of one sample
    samples: int = 5
    pause: float = 0.1  # between samples, until the threads that ran have gone to sleep
    cold: bool = True  # whether to start every contender with empty caches too
    keep: bool = False  # whether a contender's process serves all workloads
    slowest: float = 60.0  # what takes longer for one mini-batch is left out
    fit_epochs: int = 10  # of a fit at least, where an epoch is short
    book_epochs: int = 30  # of the book's call
    plain_epochs: int = 6  # of the same by per-example code, which has no start to spread over them
    # Above so many weights times examples the check is made against NumPy batches in float64 instead of the reference,
    # which would take minutes; they are themselves checked against the reference on every smaller workload.
    check_by_reference: float = 3e9
    starts: int = 7  # processes for each figure of the start


FULL = Effort()
SHORT = Effort(
    seconds=0.3, pause=0.05, cold=False, keep=True, slowest=2.0, plain_epochs=2, check_by_reference=3e8, starts=5
)
QUICK = Effort(
    seconds=0.15, samples=3, pause=0.05, cold=False, keep=True, slowest=0.5,
    fit_epochs=1, book_epochs=3, plain_epochs=1, check_by_reference=3e8, starts=3,
)  # fmt: skip


class Runner:
    """Measures workloads. Data, first parameters and caches of compiled code live in a temporary folder."""

    def __init__(self, effort: Effort, say: Callable[[str], None] = print) -> None:
        self.effort, self.say = effort, say
        self._temporary = tempfile.TemporaryDirectory(prefix="fastbp-benchmarks-")
        self.folder = Path(self._temporary.name)
        self._sources: dict[tuple, tuple[Path, str, float]] = {}
        self._oracles: dict[tuple, tuple[np.ndarray, str]] = {}
        self.versions: dict[str, str] = {}
        self.pools: dict[str, list] = {}
        self._kept: dict[tuple[str, int], Process] = {}

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.dismiss()
        self._temporary.cleanup()

    def dismiss(self) -> None:
        """End the processes that were kept for the next workload."""
        for process in self._kept.values():
            process.close()
        self._kept.clear()

    # -- what every contender is given --------------------------------------------------------------------------

    def data(self, workload: Workload) -> tuple[Path, str, float]:
        """The folder that holds the workload's data as .npy files; where they come from; their density."""
        key = (workload.data, workload.sizes[0], workload.sizes[-1])
        if key not in self._sources:
            data = workloads.load(workload)
            folder = self.folder / "-".join(map(str, key))
            folder.mkdir()
            np.save(folder / "X.npy", data.X)
            np.save(folder / "labels.npy", data.labels)
            self._sources[key] = folder, data.source, np.count_nonzero(data.X) / data.X.size
        return self._sources[key]

    def theta(self, workload: Workload) -> Path:
        """The file of the first parameters."""
        path = self.folder / f"theta-{workload.initializer}-{'-'.join(map(str, workload.sizes))}.npy"
        if not path.exists():
            np.save(path, workloads.initial_theta(workload))
        return path

    def prepare(self, process: Process, workload: Workload, dtype: str, threads: int) -> dict:
        return process.ask(
            "prepare",
            workload=list(workload),
            data=str(self.data(workload)[0]),
            dtype=dtype,
            threads=threads,
            theta=str(self.theta(workload)),
        )

    def oracle(self, workload: Workload) -> tuple[np.ndarray, str]:
        """The parameters after the check's mini-batches, in float64, and whose they are."""
        plain, order = workload._replace(book=False, name="", point=0), check_order(workload)
        if plain not in self._oracles:
            names = ["reference", "numpy_batch"]
            if order.n * parameters.count(workload.sizes) > self.effort.check_by_reference:
                names.remove("reference")
            for name in names:
                with Process(1) as process:
                    process.ask("load", contender=name)
                    try:
                        self.prepare(process, plain, "float64", 1)
                    except WorkerError as error:
                        if error.kind != "not supported" or name == names[-1]:
                            raise
                        continue
                    process.ask("run", **order._asdict(), checking=True)
                    self._oracles[plain] = self.parameters(process), f"{name} float64"
                    break
        return self._oracles[plain]

    def parameters(self, process: Process) -> np.ndarray:
        path = self.folder / "parameters.npy"
        process.ask("save", path=str(path))
        return np.load(path)

    # -- one workload -------------------------------------------------------------------------------------------

    def measure(
        self,
        workload: Workload,
        names: Iterable[str],
        dtype: str,
        threads: Sequence[int],
        cold: bool = False,
        keep: bool = False,
    ) -> list[Row]:
        """A row for each contender and number of threads, in processes of their own, all in the same rounds.

        `cold` starts each once more before, with empty caches; `keep` uses the processes again for the next workload.
        """
        rows, ready = [], []
        running: dict[tuple[str, int], Process] = self._kept if keep else {}
        try:
            for name, count in ((name, count) for name in names for count in threads):
                if count != threads[0] and (name in ONE_THREAD or rows[-1]["status"] in FINAL):
                    continue
                self.say(f"{workload.name} {dtype} {count} thread{'s' * (count > 1)}: {name}")
                row: Row = {
                    "workload": workload.name, "point": workload.point, "contender": name, "dtype": dtype,
                    "threads": count, "status": "timed", "reason": "", "data": self.data(workload)[1],
                }  # fmt: skip
                rows.append(row)
                try:
                    self.check_time(workload, name)
                    caches = None
                    if cold:
                        caches = self.folder / "caches" / f"{workload.name}-{name}-{dtype}"
                        if count == threads[0]:
                            began = time.perf_counter()
                            with Process(count, caches) as process:
                                row["cold"] = self.start(process, row, workload, began)
                    began = None
                    if (name, count) not in running:
                        began = time.perf_counter()
                        running[name, count] = Process(count, caches)
                    times = self.start(running[name, count], row, workload, began)
                    if began is not None:
                        row["warm"] = times
                    ready.append((row, running[name, count], self.settle(running[name, count], row, workload)))
                except WorkerError as error:
                    row["status"], row["reason"] = error.kind, error.reason
                    if (name, count) in running and error.kind != "not supported":
                        running.pop((name, count)).close()
            self.take_turns(workload, ready)
        finally:
            if not keep:
                for process in running.values():
                    process.close()
        return rows

    def check_time(self, workload: Workload, name: str) -> None:
        """WorkerError if the reference would take too long for one mini-batch."""
        guess = workload.batch_size * (2e-4 + 6e-9 * parameters.count(workload.sizes))
        if name in ("reference", "per_example") and guess > self.effort.slowest:
            raise WorkerError("left out", f"one mini-batch would take about {guess:.0f} s")

    def start(self, process: Process, row: Row, workload: Workload, began: float | None) -> dict[str, float]:
        """Import (unless `began` is None), prepare, first mini-batches; check the result. The times of each."""
        times = {}
        if began is not None:
            answer = process.ask("load", contender=row["contender"])
            times["import"] = time.perf_counter() - began
            row["label"] = answer["label"]
            self.versions |= answer["versions"]
        answer = self.prepare(process, workload, row["dtype"], row["threads"])
        times["prepare"] = answer["seconds"]
        order = check_order(workload)
        times["first"] = process.ask("run", **order._asdict(), checking=True)["seconds"]
        times["total"] = sum(times.values())
        row["caveat"] = answer["caveat"]
        if not answer["caveat"]:
            truth, whose = self.oracle(workload)
            moved = np.linalg.norm(truth - np.load(self.theta(workload)))
            error = float(np.linalg.norm(self.parameters(process) - truth) / moved)
            row["check"] = {"against": whose, "batches": order.n // workload.batch_size, "error": error}
            if not error <= answer["tolerance"]:
                raise WorkerError("wrong result", f"parameters differ from {whose} by {error:.1e} of the way they went")
        return times

    def settle(self, process: Process, row: Row, workload: Workload) -> Order:
        """The order of one sample: mini-batches or whole epochs that take about `effort.seconds`; run to warm up."""
        if workload.book:
            epochs = self.effort.plain_epochs if row["contender"] == "per_example" else self.effort.book_epochs
            return Order(workload.batches * workload.batch_size, epochs)
        order, least = check_order(workload), self.effort.fit_epochs if row["contender"] == "auto" else 0
        per_batch = process.ask("run", **order._asdict())["seconds"] / count_batches(order, workload)
        for _ in range(2):
            order = self.order_for(per_batch, workload, least)
            if per_batch > 2:
                break  # slow, and nothing left to compile
            process.ask("run", **order._asdict())  # some compile for every number of mini-batches
            seconds = process.ask("run", **order._asdict())["seconds"]
            if seconds > self.effort.seconds / 2:
                break
            per_batch = seconds / count_batches(order, workload)
        return order

    def order_for(self, per_batch: float, workload: Workload, least: int) -> Order:
        """Mini-batches for one sample: part of an epoch, or whole epochs, `least` of them if one is short."""
        wanted = max(1, round(self.effort.seconds / per_batch))
        if wanted < workload.batches and (not least or per_batch * workload.batches > 2):
            return Order(wanted * workload.batch_size)
        return Order(workload.batches * workload.batch_size, max(1, least, round(wanted / workload.batches)))

    def take_turns(self, workload: Workload, ready: list[tuple[Row, Process, Order]]) -> None:
        """Rounds of one sample each, begun by another contender every time."""
        for row, _, order in ready:
            row["samples"], row["products"], row["sweep"] = [], [], []
            row["sample"] = {"batches": count_batches(order, workload), "epochs": order.epochs}
        for turn in range(self.effort.samples):
            self.say(f"{workload.name}: round {turn + 1} of {self.effort.samples}")
            for i in range(len(ready)):
                row, process, order = ready[(turn + i) % len(ready)]
                if row["status"] != "timed" or (turn >= 3 and sum(row["samples"]) > 20):
                    continue
                try:
                    rest(self.effort.pause)
                    seconds = process.ask("run", n=order.n, epochs=order.epochs, seed=10 + turn)["seconds"]
                    row["samples"].append(seconds / count_batches(order, workload))
                    if workload.products:
                        rest(self.effort.pause)
                        answer = process.ask("products", seconds=self.effort.seconds / 4)
                        row["products"].append(answer["seconds"])
                    if workload.plain and row["contender"] == "fused":
                        row["sweep"].append(process.ask("sweep", seconds=self.effort.seconds / 4)["seconds"])
                except WorkerError as error:
                    row["status"], row["reason"] = error.kind, error.reason
        for row, process, _ in ready:
            if row["status"] == "timed":
                row |= spread(row["samples"])
                self.pools[row["contender"]] = process.ask("pools")["pools"]
                if not np.isfinite(self.parameters(process)).all():
                    row["status"], row["reason"] = "failed", "parameters are not finite after the timed runs"


def check_order(workload: Workload) -> Order:
    """A few mini-batches, the same for everyone."""
    return Order(workload.batch_size * max(2, min(10, 500 // workload.batch_size)))


def count_batches(order: Order, workload: Workload) -> int:
    return order.epochs * order.n // workload.batch_size


def spread(samples: list[float]) -> dict[str, float]:
    """Median, and half the distance between the quartiles as a share of it."""
    low, median, high = np.percentile(samples, (25, 50, 75))
    return {"seconds": float(median), "spread": float((high - low) / 2 / median)}
