"""How many networks a minute: S1 from many seeds, one after another, in a sweep, and as other libraries would do it.

Every network is trained from its first parameters for one epoch. As everywhere here, who differs is not timed, and all
stand ready in processes of their own and take turns.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.contenders import sweeps
from benchmarks.measure import Row, Runner, spread
from benchmarks.processes import Process, WorkerError, rest
from benchmarks.workloads import EXAMPLES, WORKLOADS, Order, Workload
from fastbp.machine import cores

DTYPE = "float32"
BASE = "one_after_another"
CHECK = Order(100)


class Extent(NamedTuple):
    """How many networks, trained on how many examples, timed how often."""

    networks: int = 32
    examples: int = EXAMPLES
    samples: int = 5
    longest: float = 20.0  # seconds of a sample, above which there is no run to warm up, and no more than two samples


FULL, QUICK = Extent(), Extent(networks=8, examples=10_000, samples=3)


def measure_throughput(runner: Runner, extent: Extent, names: tuple[str, ...] = sweeps.NAMES) -> list[Row]:
    """A row for each contender: seconds for all networks, or why there are none."""
    workload, threads = WORKLOADS["S1"], cores()
    first = first_parameters(workload, extent.networks)
    np.save(runner.folder / "many.npy", first)
    rows: list[Row] = []
    ready: list[tuple[Row, Process]] = []
    truth = None
    try:
        for name in names:
            runner.say(f"many networks: {sweeps.LABELS[name]}")
            row: Row = {
                "contender": name, "label": sweeps.LABELS[name], "workload": workload.name, "dtype": DTYPE,
                "threads": threads, "networks": extent.networks, "examples": extent.examples, "status": "timed",
                "reason": "", "caveat": "", "samples": [],
            }  # fmt: skip
            rows.append(row)
            process = Process(threads)
            ready.append((row, process))
            try:
                trained = start(runner, process, row, workload)
                truth = trained if name == BASE else truth
                check(row, trained, truth, first)
                row["guess"] = warm_up(process, extent)
            except WorkerError as error:
                row["status"], row["reason"] = error.kind, error.reason
        take_turns(runner, ready, extent)
    finally:
        for _, process in ready:
            process.close()
    return rows


def first_parameters(workload: Workload, networks: int) -> np.ndarray:
    """(networks, parameters): those of fastbp.Network with the seeds 0, 1, 2, …"""
    return np.array(
        [sweeps.theta_of(sweeps.network(workload, np.dtype(DTYPE), seed)) for seed in range(networks)], np.float64
    )


def start(runner: Runner, process: Process, row: Row, workload: Workload) -> np.ndarray:
    """The networks after their first few mini-batches."""
    runner.versions |= process.ask("load", contender=f"sweeps.{row['contender']}")["versions"]
    answer = process.ask(
        "prepare", workload=list(workload), data=str(runner.data(workload)[0]), dtype=DTYPE, threads=row["threads"],
        theta=str(runner.folder / "many.npy"),
    )  # fmt: skip
    row["caveat"], row["tolerance"] = answer["caveat"], answer["tolerance"]
    process.ask("run", **CHECK._asdict())
    return runner.parameters(process)


def check(row: Row, trained: np.ndarray, truth: np.ndarray | None, first: np.ndarray) -> None:
    """Every network against its own fit: a sweep's to the last bit, another library's as far as float32 goes."""
    if row["caveat"] or truth is None:
        return
    error = float(np.max(np.linalg.norm(trained - truth, axis=1) / np.linalg.norm(truth - first, axis=1)))
    row["check"] = {"against": sweeps.LABELS[BASE], "batches": CHECK.n // WORKLOADS["S1"].batch_size, "error": error}
    allowed = 0.0 if row["contender"] == "fastbp_sweep" else row["tolerance"]
    if not error <= allowed:
        raise WorkerError("wrong result", f"parameters differ by {error:.1e} of the way they went")


def warm_up(process: Process, extent: Extent) -> float:
    """Seconds that a sample will take, about; after it everything is compiled."""
    part = Order(min(1000, extent.examples))
    process.ask("run", **part._asdict())
    guess = process.ask("run", **part._asdict())["seconds"] * extent.examples / part.n
    if guess < extent.longest:
        guess = process.ask("run", n=extent.examples, epochs=1, seed=0)["seconds"]
    return guess


def take_turns(runner: Runner, ready: list[tuple[Row, Process]], extent: Extent) -> None:
    for turn in range(extent.samples):
        runner.say(f"many networks: round {turn + 1} of {extent.samples}")
        for row, process in ready:
            if row["status"] != "timed" or (turn >= 2 and row["guess"] > extent.longest):
                continue
            rest(runner.effort.pause)
            try:
                row["samples"].append(process.ask("run", n=extent.examples, epochs=1, seed=0)["seconds"])
            except WorkerError as error:
                row["status"], row["reason"] = error.kind, error.reason
    for row, _ in ready:
        if row["status"] == "timed":
            row |= spread(row["samples"])
