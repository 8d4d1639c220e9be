"""How fast each engine trains a network on this machine, and how fast the machine multiplies and moves numbers.

Samples are taken in turns, one of everything in each round, so that whatever slows the machine for a second slows one
sample of each. A figure is the median of its samples; its spread is half the distance between their quartiles, as a
share of the median.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastbp import architecture as _architecture
from fastbp import checks, engines, machine, threads
from fastbp.architecture import Architecture
from fastbp.data import Examples
from fastbp.engines.plan import SPARSE_BELOW, Plan
from fastbp.engines.plan import plan as make_plan
from fastbp.network import Network

FORMAT, VERSION = "fastbp-bench", 1

SAMPLES = 7
SAMPLE_SECONDS = 0.1
# An engine whose plan predicts more for one mini-batch is left out: a sample would not end.
PATIENCE = 2.0

# The synthetic examples: more than the caches hold, so that rows come from memory as they do in training.
_DATA_BYTES, _MOST_EXAMPLES = 64 * 2**20, 50_000
_SQUARE = 1024  # 2 GFLOP: BLAS is at its best from some 500 on
_SWEEP_BYTES = 32 * 2**20  # each of three arrays

# What makes a figure doubtful, and is said.
_BUSY_LOAD = 0.25  # runnable processes for each core, before the start
_TAKEN = 0.05  # of the time of a sample in which its thread did not run
_WIDE = 0.1  # spread


@dataclass(frozen=True)
class Timing:
    """What was measured of one thing: for each sample the seconds of a repetition; and the threads it could use."""

    samples: tuple[float, ...]
    threads: int

    @property
    def seconds(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median; 0 of a single sample."""
        low, high = np.quantile(self.samples, [0.25, 0.75])
        return float((high - low) / 2 / self.seconds)

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds, "spread": self.spread, "threads": self.threads, "samples": list(self.samples),
        }  # fmt: skip


@dataclass(frozen=True)
class EngineTiming(Timing):
    """A mini-batch in one engine. `first` is the seconds from its creation to the end of its first mini-batch, with
    what it loads, compiles and makes of the data; `predicted` is the plan's time of a mini-batch."""

    name: str
    first: float
    predicted: float

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "first": self.first, "predicted": self.predicted, **super().as_dict()}


@dataclass(frozen=True)
class ProductTiming(Timing):
    """A product of a (rows, steps) and a (steps, columns) matrix by NumPy's BLAS."""

    name: str
    rows: int
    steps: int
    columns: int

    @property
    def gflops(self) -> float:
        """10⁹ operations a second, a multiplication and an addition counted as two."""
        return 2e-9 * self.rows * self.steps * self.columns / self.seconds

    def as_dict(self) -> dict[str, Any]:
        shape = {"rows": self.rows, "steps": self.steps, "columns": self.columns}
        return {"name": self.name, **shape, "gflops": self.gflops, **super().as_dict()}


@dataclass(frozen=True)
class SweepTiming(Timing):
    """a ← b + c over arrays that no cache holds; `bytes` counts the two that are read and the one that is written."""

    bytes: int

    @property
    def gbytes(self) -> float:
        """10⁹ bytes a second, as the STREAM benchmark counts them."""
        return 1e-9 * self.bytes / self.seconds

    def as_dict(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "gbytes": self.gbytes, **super().as_dict()}


@dataclass(frozen=True)
class Benchmark:
    """What `measure` found. `left_out` says of an engine that was not run why; `notes` what makes figures doubtful."""

    sizes: tuple[int, ...]
    hidden: tuple[str, ...]
    output: str
    cost: str
    dtype: str
    batch_size: int
    density: float
    examples: int
    threads: int
    plan: Plan
    engines: tuple[EngineTiming, ...]
    products: tuple[ProductTiming, ...]
    squares: tuple[ProductTiming, ...]
    sweeps: tuple[SweepTiming, ...]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    machine: dict[str, Any] = field(repr=False)

    @property
    def fastest(self) -> EngineTiming:
        return min(self.engines, key=lambda engine: engine.seconds)

    def engine(self, name: str) -> EngineTiming | None:
        return next((engine for engine in self.engines if engine.name == name), None)

    @property
    def products_seconds(self) -> float:
        """The products of one mini-batch, and nothing else."""
        return sum(product.seconds for product in self.products)

    def gflops(self, engine: EngineTiming) -> float:
        """The rate of an engine, in operations of dense rows: one that skips zeros in the data can pass the roof."""
        return 1e-9 * self.plan.flops / engine.seconds

    @property
    def flops_per_byte(self) -> float:
        """Operations for each byte of a mini-batch's rows, parameters, activations and errors, each moved once."""
        rows = self.batch_size * self.sizes[0] * np.dtype(self.dtype).itemsize
        return self.plan.flops / (self.plan.bytes + rows)

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain numbers, strings, lists and dicts, for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "network": {
                "sizes": list(self.sizes), "hidden": list(self.hidden), "output": self.output, "cost": self.cost,
                "dtype": self.dtype,
            },
            "batch_size": self.batch_size,
            "density": self.density,
            "examples": self.examples,
            "threads": self.threads,
            "plan": {
                "engine": self.plan.engine, "reason": self.plan.reason, "flops": self.plan.flops,
                "bytes": self.plan.bytes, "seconds": dict(self.plan.seconds),
            },
            "fastest": self.fastest.name,
            "flops_per_byte": self.flops_per_byte,
            "products_seconds": self.products_seconds,
            "engines": [{**engine.as_dict(), "gflops": self.gflops(engine)} for engine in self.engines],
            "left_out": dict(self.left_out),
            "products": [product.as_dict() for product in self.products],
            "squares": [square.as_dict() for square in self.squares],
            "sweeps": [sweep.as_dict() for sweep in self.sweeps],
            "notes": list(self.notes),
            "machine": self.machine,
        }  # fmt: skip


def measure(
    network: Network,
    batch_size: int = 10,
    *,
    density: float = 1.0,
    threads: int | None = None,
    samples: int = SAMPLES,
    say: Callable[[str], None] = lambda what: None,
) -> Benchmark:
    """Time a mini-batch of this network in every engine that can run it, its bare products, and the machine.

    The data are Gaussian, with a share of `density` that is not zero. threads: the most that an engine may use, by
    default all cores this process may use; small products take one, as in training. samples: of each thing. `say` is
    told what happens. The network is left as it is.

    Raises ValueError or TypeError for a batch size, density, number of threads or of samples that is none.
    """
    plan = make_plan(network, batch_size, density)
    built, cores = network.architecture, machine.cores()
    wanted = cores if threads is None else checks.whole(threads, "threads", least=1)
    samples, count = checks.whole(samples, "samples", least=1), min(wanted, cores)
    _architecture.check_batch(built, plan.batch_size)
    notes = [] if wanted == count else [f"{wanted} threads were asked for, and there are {cores} cores: {count} used"]
    notes += _load_note(cores) + _kernels_note()
    say("making examples")
    examples = _make_examples(built, plan.batch_size, density)
    subjects, timed, left_out = _engines(network, plan, examples, count, say)
    products = _products(built, plan.batch_size, count)
    squares = _squares(built.dtype, count)
    with contextlib.ExitStack() as stack:
        sweeps = [stack.enter_context(_sweep(built.dtype, n)) for n in _one_and(count)]
        subjects += [subject for subject, _ in (*products, *squares, *sweeps)]
        times, taken = _take_turns(subjects, samples, say)
    found: Iterator[tuple[float, ...]] = iter(times)
    benchmark = Benchmark(
        sizes=built.sizes,
        hidden=tuple(activation.name for activation in built.activations[:-1]),
        output=built.activations[-1].name,
        cost=built.cost.name,
        dtype=built.dtype.name,
        batch_size=plan.batch_size,
        density=density,
        examples=len(examples),
        threads=count,
        plan=plan,
        engines=tuple(make(next(found)) for make in timed),
        products=tuple(make(next(found)) for _, make in products),
        squares=tuple(make(next(found)) for _, make in squares),
        sweeps=tuple(make(next(found)) for _, make in sweeps),
        left_out=left_out,
        notes=(),
        machine=_machine(),
    )
    notes += _doubts(benchmark, taken)
    return Benchmark(**{**vars(benchmark), "notes": tuple(notes)})


def _one_and(count: int) -> list[int]:
    """One thread, and all of them where that is more."""
    return [1] if count == 1 else [1, count]


def _make_examples(built: Architecture, batch_size: int, density: float) -> Examples:
    rng, n_in = np.random.default_rng(0), built.sizes[0]
    n = max(batch_size, min(_MOST_EXAMPLES, _DATA_BYTES // (n_in * built.dtype.itemsize)))
    X = rng.standard_normal((n, n_in), built.dtype.type)
    if density < 1:
        X[rng.random((n, n_in), np.float32) >= density] = 0
    return Examples(X, None, rng.integers(built.sizes[-1], size=n))


class Subject(NamedTuple):
    """Something to time: `run(count)` does it count times; `reset` comes before each sample and is not timed."""

    name: str
    threads: int
    run: Callable[[int], Any]
    reset: Callable[[], Any] = lambda: None


def _engines(
    network: Network, plan: Plan, examples: Examples, count: int, say: Callable[[str], None]
) -> tuple[list[Subject], list[Callable[[tuple[float, ...]], EngineTiming]], dict[str, str]]:
    """A subject and a maker of its result for each engine, and why some are left out."""
    built, m = network.architecture, plan.batch_size
    theta, rows = network._theta(), np.random.default_rng(1).permutation(len(examples))
    subjects: list[Subject] = []
    makers: list[Callable[[tuple[float, ...]], EngineTiming]] = []
    left_out = {}
    for name in engines.NAMES:
        predicted = plan.seconds.get(name)
        if predicted is None:
            left_out[name] = "it cannot call a user's own functions"
            continue
        if predicted > PATIENCE:
            left_out[name] = f"one mini-batch would take about {predicted:,.0f} s"
            continue
        say(f"{name}: loading, or compiling for the first time")
        began = time.perf_counter()
        with threads.limited_to(count):
            engine = engines.create(name, built, theta, examples, m)
            run = partial(_train, engine, rows, m)
            run(1)
        first = time.perf_counter() - began
        n_threads = _product_threads(built, m, count) if name == "matrix" else getattr(engine, "threads", 1)
        subjects.append(Subject(name, n_threads, run, partial(engine.restore_state, engine.save_state())))
        makers.append(partial(EngineTiming, threads=n_threads, name=name, first=first, predicted=predicted))
    return subjects, makers, left_out


def _train(engine: engines.Engine, rows: np.ndarray, m: int, count: int) -> None:
    """`count` mini-batches of m rows, in random order; their steps are small, so that numbers stay usual ones."""
    engine.train(np.resize(rows, count * m), np.full(count, 1e-3), 0.0)


def _product_threads(built: Architecture, m: int, count: int) -> int:
    """As many as the matrix engine takes for the largest of its products."""
    largest = 2 * m * max(a * b for a, b in zip(built.sizes[:-1], built.sizes[1:], strict=True))
    return count if largest >= threads.WORTH_THREADS else 1


_ProductTimer = tuple[Subject, Callable[[tuple[float, ...]], ProductTiming]]


def _products(built: Architecture, m: int, count: int) -> list[_ProductTimer]:
    """The products of one mini-batch, with the shapes and the transposed views that the equations have."""
    rng, dtype, n_threads = np.random.default_rng(2), built.dtype.type, _product_threads(built, m, count)
    timers = []
    for l, (below, n) in enumerate(zip(built.sizes[:-1], built.sizes[1:], strict=True), start=2):
        A, W, delta = (rng.standard_normal(shape, dtype) for shape in ((m, below), (n, below), (m, n)))
        named = [(f"feedforward to layer {l}", A, W.T), (f"BP4 of layer {l}", delta.T, A)]
        if l > 2:
            named.append((f"BP2 to layer {l - 1}", delta, W))
        timers += [_product(name, a, b, n_threads) for name, a, b in named]
    return timers


def _squares(dtype: np.dtype, count: int) -> list[_ProductTimer]:
    a, b = np.random.default_rng(3).standard_normal((2, _SQUARE, _SQUARE), dtype.type)
    return [_product("large square", a, b, n) for n in _one_and(count)]


def _product(name: str, a: np.ndarray, b: np.ndarray, n_threads: int) -> _ProductTimer:
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)

    def run(count: int) -> None:
        for _ in range(count):
            np.matmul(a, b, out=out)

    shape = {"rows": a.shape[0], "steps": a.shape[1], "columns": b.shape[1]}
    return Subject(name, n_threads, run), partial(ProductTiming, threads=n_threads, name=name, **shape)


@contextlib.contextmanager
def _sweep(dtype: np.dtype, n_threads: int) -> Iterator[tuple[Subject, Callable[[tuple[float, ...]], SweepTiming]]]:
    """a ← b + c, a part of the arrays for each thread (NumPy lets go of the interpreter's lock)."""
    a, b, c = (np.full(_SWEEP_BYTES // dtype.itemsize, value, dtype) for value in (0, 1, 2))
    parts = [tuple(np.array_split(array, n_threads)[i] for array in (b, c, a)) for i in range(n_threads)]
    with ThreadPoolExecutor(n_threads) as pool:

        def run(count: int) -> None:
            for _ in range(count):
                if n_threads == 1:
                    np.add(b, c, out=a)
                else:
                    list(pool.map(lambda part: np.add(part[0], part[1], out=part[2]), parts))

        yield Subject("sweep", n_threads, run), partial(SweepTiming, threads=n_threads, bytes=3 * a.nbytes)


def _take_turns(
    subjects: Sequence[Subject], samples: int, say: Callable[[str], None]
) -> tuple[list[tuple[float, ...]], float]:
    """Seconds a repetition, sample by sample, of every subject; and the worst median share of time its thread lost.

    Each round begins with another subject.
    """
    say("finding how often to repeat")
    repeats = [_repeats(subject) for subject in subjects]
    times: list[list[float]] = [[] for _ in subjects]
    lost: list[list[float]] = [[] for _ in subjects]
    for turn in range(samples):
        say(f"round {turn + 1} of {samples}")
        for step in range(len(subjects)):
            i = (turn + step) % len(subjects)
            wall, worked = _sample(subjects[i], repeats[i])
            times[i].append(wall / repeats[i])
            if subjects[i].threads == 1:  # one that waits for others does not run either
                lost[i].append(1 - worked / wall)
    return [tuple(each) for each in times], max((statistics.median(each) for each in lost if each), default=0.0)


def _repeats(subject: Subject) -> int:
    """How often to repeat for a sample of SAMPLE_SECONDS."""
    count = 1
    while True:
        wall, _ = _sample(subject, count)
        wanted = max(1, round(SAMPLE_SECONDS * count / wall))
        if wanted <= 2 * count:  # the sample was long enough to tell
            return wanted
        count = min(wanted, 20 * count)


def _sample(subject: Subject, count: int) -> tuple[float, float]:
    """(seconds, seconds in which the thread ran) for so many repetitions."""
    subject.reset()
    with threads.at_most(subject.threads), threads.limited_to(subject.threads):
        worked, began = time.thread_time(), time.perf_counter()
        subject.run(count)
        wall = time.perf_counter() - began
        return wall, time.thread_time() - worked


def _load_note(cores: int) -> list[str]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load <= _BUSY_LOAD * cores:
        return []
    return [
        f"the machine was busy before the start (load average {load:.1f} on {cores} cores): figures are too slow, and "
        f"those of several threads most"
    ]


def _kernels_note() -> list[str]:
    """OpenBLAS heeds this variable: with Haswell's kernels a machine with AVX-512 multiplies at half its speed."""
    other = os.environ.get("OPENBLAS_CORETYPE")
    if not other:
        return []
    return [
        f"OPENBLAS_CORETYPE={other} is set: BLAS takes that processor's kernels, and products and the matrix engine "
        f"may be much faster without it"
    ]


def _doubts(benchmark: Benchmark, taken: float) -> list[str]:
    """What the samples themselves say against the figures."""
    notes = []
    if taken > _TAKEN:
        notes.append(f"other programs took the processor for up to {taken:.0%} of the time: figures are too slow")
    wide = [f"{engine.name} ±{engine.spread:.0%}" for engine in benchmark.engines if engine.spread > _WIDE]
    if wide:
        notes.append(f"samples vary much ({', '.join(wide)}): repeat this on a quiet machine")
    if benchmark.density < SPARSE_BELOW and benchmark.engine("fused"):
        notes.append("fused skips zeros in the data: its rate counts operations that it need not do")
    return notes


def _machine() -> dict[str, Any]:
    facts = machine.facts()
    names = ("fastbp", "system", "python", "packages", "cpu", "cpu_target", "cores", "memory_gib")
    kept = {name: facts[name] for name in names}
    kept["python"] = kept["python"].partition(" at ")[0]  # where it lies is nobody's business
    return kept | {
        "blas": [{key: lib[key] for key in ("internal_api", "version", "architecture")} for lib in facts["blas"]]
    }
