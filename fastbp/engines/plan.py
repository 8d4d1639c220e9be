"""Which engine runs a network best, and why: a cost model with committed constants, never a stopwatch.

The same network gets the same engine on every machine and in every run, so that results repeat. The constants are
those of the machine in docs/benchmarks.md; what matters is which engine they favour, not the microseconds.
"""

import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastbp import architecture as _architecture
from fastbp import engines, parameters, threads
from fastbp.architecture import Architecture
from fastbp.data import is_sparse

# Below this share of entries that are not zero, the fused engine's first layer runs over compressed rows: the dense
# product, which vectorises better, overtakes them at about 0.4 (docs/performance-notes.md).
SPARSE_BELOW = 0.4


# Floating-point operations of a mini-batch from which a second thread of the fused engine may repay the waiting for
# each other, some 0.3 µs at every layer, there and back; the clock tells whether it does. From the second number on it
# does in any case: what is lost where another program wants the core too is less than the trials would take.
THREADS_FROM, THREADS_SURE_FROM = 5e5, 2e8


def pace(built: Architecture, batch_size: int) -> threads.Pace:
    """How many threads the fused engine takes for mini-batches of this size. With the JIT off, one."""
    from fastbp.kernels import DISABLE_JIT

    flops = _architecture.flops(built.sizes, batch_size)
    most = 1 if DISABLE_JIT or flops < THREADS_FROM else threads.available()
    return threads.Pace(most, sure=flops >= THREADS_SURE_FROM)


@dataclass(frozen=True)
class Plan:
    """The choice for one network and batch size; printing it shows all.

    flops: floating-point operations of a mini-batch, on dense rows. bytes: parameters, activations and errors it
    touches. seconds: predicted time of a mini-batch, by engine (only those that can run this network).
    """

    engine: str
    batch_size: int
    flops: int
    bytes: int
    seconds: dict[str, float]
    reason: str

    def __str__(self) -> str:
        lines = [
            f"engine      {self.engine}",
            f"because     {self.reason}",
            f"mini-batch  {self.batch_size} examples: {self.flops / 1e6:,.3g} MFLOP, {self.bytes / 1024:,.0f} KiB",
        ]
        lines += [f"predicted   {name:<10} {1e6 * t:>10,.1f} µs" for name, t in sorted(self.seconds.items())]
        return "\n".join(lines)


def check_engine(name: Any, built: Architecture) -> None:
    """ValueError if there is no such engine, or it cannot run this network."""
    if name not in ("auto", *engines.NAMES):
        raise ValueError(f"engine={name!r} is none of auto, {', '.join(engines.NAMES)}")
    if name == "fused" and not built.compilable:
        raise ValueError(
            "engine='fused' compiles whole mini-batches and cannot call a user's own functions; use engine='matrix', "
            "or 'auto', which takes it"
        )


def plan(network: Any, batch_size: int = 10, density: float = 1.0) -> Plan:
    """The plan for a network at this batch size, on data with this share (0 … 1) of entries that are not zero."""
    try:
        batch_size = operator.index(batch_size)
    except TypeError:
        raise TypeError(f"batch_size must be a whole number, got {batch_size!r}") from None
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= density <= 1:
        raise ValueError(f"density is a share of the entries, 0 to 1; got {density}")
    made = make_plan(network.architecture, batch_size, density)
    if network.engine == "auto":
        return made
    reason = f"engine={network.engine!r} was asked for"
    if made.engine != network.engine:
        reason += f"; auto would take {made.engine}"
    return replace(made, engine=network.engine, reason=reason)


def density(X: Any, sample: int = 256) -> float:
    """The share of entries that are not zero, from at most `sample` rows spread evenly over X."""
    if is_sparse(X):
        return X.nnz / max(1, X.shape[0] * X.shape[1])
    rows = X[:: max(1, -(-len(X) // sample))]
    return np.count_nonzero(rows) / max(1, rows.size)


def make_plan(built: Architecture, batch_size: int, density: float) -> Plan:
    """Predict each engine's time for a mini-batch, and take the least."""
    m, sizes, width = batch_size, built.sizes, built.dtype.itemsize
    n_parameters, n_units = parameters.count(sizes), m * sum(sizes)
    seconds = {"reference": _reference_seconds(built, m), "matrix": _matrix_seconds(built, m)}
    if built.compilable:
        seconds["fused"] = _fused_seconds(built, m, density)
    engine = min(seconds, key=seconds.__getitem__)
    reason = {
        "fused": "the least predicted time: compiled mini-batches have next to no overhead, and skip zeros in the data",
        "matrix": "the least predicted time: the products are large enough for BLAS to repay its calls",
        "reference": "the least predicted time: a single example leaves nothing to stack",
    }[engine]
    if not built.compilable:
        reason = "it uses functions of your own, which cannot be compiled; reference and matrix call them"
    return Plan(engine, m, _architecture.flops(sizes, m), width * (n_parameters + 3 * n_units), seconds, reason)


# The constants below were fitted (non-negative least squares on relative errors) to 300 measurements on one core: ten
# networks from [8, 32, 16, 4] to [784, 1024, 10], batch sizes 1 to 250, dense and with 19 % of the entries. Times of
# float64 are twice those of float32 wherever arithmetic or memory counts. Most predictions are within a factor 1.5.


def _reference_seconds(built: Architecture, m: int) -> float:
    return m * (13e-6 * (len(built.sizes) - 1) + 2.2e-9 * parameters.count(built.sizes))


def _matrix_seconds(built: Architecture, m: int) -> float:
    sizes, wide = built.sizes, built.dtype.itemsize / 4
    products = 14e-12 * wide * _architecture.flops(sizes, m)
    if 2 * m * max(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True)) >= threads.WORTH_THREADS:
        products /= 1.6  # two cores on one product
    sweeps = 0.41e-9 * wide * parameters.count(sizes) + 1.4e-9 * wide * m * sum(sizes)
    return 20e-6 + 25e-6 * (len(sizes) - 1) + products + sweeps


# Up to so many bytes of W: seconds for each float32 entry met by a compressed row, by a dense row, and once a product.
_RATES = (
    (300e3, 98e-12, 30e-12, 0.10e-9),
    (1.5e6, 116e-12, 42e-12, 0.21e-9),
    (float("inf"), 116e-12, 42e-12, 0.55e-9),
)


def _fused_seconds(built: Architecture, m: int, density: float) -> float:
    wide = built.dtype.itemsize / 4
    lanes = 32 // built.dtype.itemsize
    padded = [-(-n // lanes) * lanes for n in built.sizes[1:]]
    seconds = 0.4e-6 + 0.2e-6 * len(padded) + 3.5e-9 * wide * m * sum(padded)
    for l, (below, p) in enumerate(zip(built.sizes[:-1], padded, strict=True)):
        entries = below * p
        n_bytes = built.dtype.itemsize * entries  # of W: in the second-level cache, in the third, or beyond
        sparse, dense, once = next(row[1:] for row in _RATES if n_bytes < row[0])
        if l == 0 and density < SPARSE_BELOW:
            seconds += 2 * m * density * entries * wide * sparse
            continue
        seconds += (2 if l == 0 else 3) * entries * wide * (m * dense + once)
        if l > 0 and m >= 4:  # W transposed for BP2
            seconds += 0.4e-9 * entries * wide
    return seconds
