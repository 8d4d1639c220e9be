"""Many networks at once: every combination of some settings, each from several seeds, on all cores or many machines.

A network is trained by one `fit` from beginning to end, on one core; what runs at the same time are different networks.
So each is left with the same parameters, bit for bit, as if it had been trained alone on one core.
"""

import contextlib
import json
import platform
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fastbp
from fastbp import checks, machine
from fastbp.errors import DivergenceError
from fastbp.network import Network
from fastbp.sweeps import progress, workers
from fastbp.sweeps.file import SweepFile, describe
from fastbp.sweeps.result import SweepResult
from fastbp.sweeps.spec import Run, check_arrays, expand
from fastbp.sweeps.spec import plain as in_names_and_numbers
from fastbp.sweeps.workers import one_core

__all__ = ["SweepResult", "sweep"]


def sweep(
    spec: Mapping[str, Any],
    data: tuple[Any, Any],
    *,
    grid: Mapping[str, Iterable[Any]] | None = None,
    configs: Sequence[Mapping[str, Any]] | None = None,
    seeds: int | Iterable[int] = 1,
    validation_data: tuple[Any, ...] | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    keep_models: str | Path | None = None,
    verbose: bool | None = None,
    **arrays: Any,
) -> SweepResult:
    """Train a network for each combination of settings and each seed, many at a time.

    spec: the arguments of Network and of fit that all have in common, {"sizes": [784, 30, 10], "epochs": 5, …}, in
    names and numbers; an optimizer may be an object, or a name with eta beside it. data: (X, y), rows are examples;
    validation_data likewise; further keywords are arrays that fit takes.
    grid: {"eta": [0.1, 0.3], "lmbda": [0, 5]}, every combination; or configs: a list of settings, each put upon the
    spec's. seeds: how many (0, 1, 2, …), or a list of them; each is the seed of a Network.

    executor: None trains in threads of this process, as many as `workers` says (one a core, and never more). Any other
    executor of the kind of concurrent.futures trains elsewhere: processes, Dask's client.get_executor(), mpi4py's
    MPIPoolExecutor. output: a file that gets a line of JSON as each network is done; with resume=True the networks it
    has are not trained again. keep_models: a folder for the trained networks. verbose: True prints a line a network,
    False nothing, None shows a bar on a terminal.

    A network that diverges or fails has a row that says so; the others go on. Before any is trained, every value is
    tried on a mini-batch, so that a wrong one is a ValueError or TypeError at once. FastbpError says that the file is
    there already, or belongs to another sweep; DataFileError, that it is damaged.
    """
    runs = expand(spec, grid, configs, seeds)
    given = _arrays(data, validation_data, arrays)
    if executor is not None and workers is not None:
        raise ValueError("give either executor= or workers=; an executor has its own number of workers")
    if resume and output is None:
        raise ValueError("resume=True goes on with the sweep in a file; name it with output=")
    count = _count(workers)
    with contextlib.ExitStack() as stack:
        file, rows = None, dict[int, dict[str, Any]]()
        if output is not None:
            file = stack.enter_context(SweepFile(output, _header(spec, runs, given), runs, resume))
            rows = {number: row for number, row in file.rows.items() if _stands(row, keep_models)}
        waiting = [run for run in runs if run.number not in rows]
        stack.enter_context(one_core())  # BLAS for all threads and once, not by turns in each
        shared = _try_each_value(waiting, given)
        if file is not None:
            file.begin()
        if keep_models is not None:
            Path(keep_models).mkdir(parents=True, exist_ok=True)
        teller = stack.enter_context(progress.teller(verbose, runs, len(rows)))
        place = stack.enter_context(_place(executor, count, given, shared, keep_models is not None, teller))
        outcomes = stack.enter_context(contextlib.closing(place.train_all(sorted(waiting, key=_work, reverse=True))))
        for row, network in outcomes:
            if keep_models is not None:
                row["model"] = None if network is None else str(_model(keep_models, row))
                if network is not None:
                    network.save(row["model"])
            if file is not None:
                file.add(row)
            rows[row["run"]] = row
            teller.network_done(row)
    return SweepResult([rows[run.number] for run in runs])


def _arrays(data: Any, validation_data: Any, others: dict[str, Any]) -> workers.Arrays:
    """Everything that fit shall be given as arrays, by its names for them."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"data must be a pair (X, y), got {type(data).__name__}")
    check_arrays(others)
    given = {"X": data[0], "y": data[1], **others}
    return given if validation_data is None else {**given, "validation_data": validation_data}


def _count(workers: int | None) -> int:
    cores = machine.cores()
    count = cores if workers is None else checks.whole(workers, "workers", least=1)
    if count > cores:
        warnings.warn(
            f"workers={count} is more than the {cores} cores that this process may use; it has {cores} workers now",
            RuntimeWarning,
            stacklevel=3,
        )
    return min(count, cores)


def _header(spec: Mapping[str, Any], runs: list[Run], arrays: workers.Arrays) -> dict[str, Any]:
    """What the first line of a sweep's file says."""
    settings = {json.dumps(run.settings): run.settings for run in runs}
    packages = {name: version(name) for name in ("numpy", "numba", "scipy")}
    return {
        "spec": {name: in_names_and_numbers(value, name) for name, value in spec.items()},
        "settings": list(settings.values()),
        "seeds": list(dict.fromkeys(run.seed for run in runs)),
        "data": describe(arrays),
        "versions": {"fastbp": fastbp.__version__, "python": platform.python_version(), **packages},
    }


def _stands(row: dict[str, Any], keep_models: str | Path | None) -> bool:
    """Whether a row of an earlier run counts: what failed is tried again, and so is what lacks its model."""
    if row["status"] == "failed":
        return False
    if keep_models is None:
        return True
    path = _model(keep_models, row)
    return row.get("model") == str(path) and path.exists()


def _model(folder: str | Path, row: dict[str, Any]) -> Path:
    return Path(folder) / f"network-{row['run']:04d}.safetensors"


def _work(run: Run) -> float:
    """A measure of a run's length: the longest come first, so that none is left to run alone at the end."""
    sizes = run.arguments["sizes"]
    return float(run.arguments["epochs"]) * sum(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))


def _try_each_value(runs: list[Run], given: workers.Arrays) -> workers.Arrays:
    """Train a mini-batch with each value there is: a wrong one raises here, before anything has been trained.

    Kernels are compiled on the way, by this one thread, and the data brought into the engines' form. Returns the data
    to share.
    """
    shared = workers.share(given)
    tried: set[str] = set()
    for run in runs:
        values = {json.dumps([name, value]) for name, value in run.settings.items()} | {"the spec"}
        if not values <= tried:
            tried |= values
            with contextlib.suppress(workers.SweepIsOver, DivergenceError):
                network = Network(**run.for_network())
                network.fit(**shared, **run.for_fit(), verbose=workers.OneMiniBatch())
    return shared


def _place(
    executor: Any, count: int, given: workers.Arrays, shared: workers.Arrays, keep: bool, teller: progress.Teller
) -> workers.Place:
    if workers.is_here(executor):
        return workers.Here(executor, count, shared, keep, teller.epoch_done)
    kind = workers.OnDask if workers.is_dask(executor) else workers.Elsewhere
    return kind(executor, given, keep)
