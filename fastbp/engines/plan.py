"""Which engine runs a network best, and why: a cost model with committed constants, never a stopwatch.

The same network gets the same engine on every machine and in every run, so that results repeat. The constants are
those of the machine in docs/benchmarks.md; what matters is which engine they favour, not the microseconds.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastbp import architecture as _architecture
from fastbp import checks, engines, parameters, threads
from fastbp.architecture import Architecture
from fastbp.data import is_sparse

# Below this share of entries that are not zero, the fused engine's first layer runs over compressed rows: the dense
# product, which vectorises better, overtakes them at about 0.4 (docs/performance-notes.md).
SPARSE_BELOW = 0.4


# Floating-point operations of a mini-batch from which a second thread of the fused engine may repay the waiting for
# each other, some 0.3 µs at every layer, there and back; the clock tells whether it does. From the second number on it
# does in any case: what is lost where another program wants the core too is less than the trials would take.
THREADS_FROM, THREADS_SURE_FROM = 5e5, 2e8


# Two threads share nothing but layer 1, by halves of its inputs, where it is this share of the work or more and has so
# few panels (see kernels.py). An even number of panels can be dealt out as well, and is, where a mini-batch has more
# than so many operations: there the two ways are within 15 % of each other. Below, waiting at every layer costs more
# than doing twice what is above layer 1, much more where the cores are far apart (docs/performance-notes.md).
HALVED_SHARE, HALVED_PANELS, HALVED_FROM, HALVED_EVEN_BELOW = 0.8, 4, 1.5e5, 2e7


def halved(built: Architecture, batch_size: int) -> bool:
    """Whether the fused engine computes layer 1 in halves, by two threads or one: the bits are the same for both."""
    from fastbp.kernels import VECTOR_BYTES

    sizes, panel = built.sizes, 2 * VECTOR_BYTES // built.dtype.itemsize
    panels, flops = -(-sizes[1] // panel), _architecture.flops(sizes, batch_size)
    return (
        flops >= HALVED_FROM
        and (panels % 2 == 1 or flops <= HALVED_EVEN_BELOW)
        and sizes[0] * sizes[1] >= HALVED_SHARE * parameters.count(sizes)
        and panels <= HALVED_PANELS
        and sizes[0] >= 2 * panel
    )


def pace(built: Architecture, batch_size: int) -> threads.Pace:
    """How many threads the fused engine takes for mini-batches of this size. With the JIT off, one."""
    from fastbp.kernels import DISABLE_JIT

    flops = _architecture.flops(built.sizes, batch_size)
    most = threads.available()
    if halved(built, batch_size):
        most = min(most, 2)
    elif flops < THREADS_FROM:
        most = 1
    if DISABLE_JIT:
        most = 1
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
    batch_size = checks.whole(batch_size, "batch_size", least=1)
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
    seconds = {name: _seconds(name, built, m, density) for name in ("reference", "matrix")}
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


# Predicted times are sums of `work` times the constants below: seconds for each unit of each kind of work, on the
# machine of docs/benchmarks.md (512-bit vectors), one thread. `python -m benchmarks.calibrate` measures some 250
# mini-batches and fits them (non-negative least squares on relative errors); half of the predictions are within a
# factor 1.1 (reference: 1.2), the worst is 2.0 off for fused, 2.8 for matrix and 6.3 for reference. Times of float64
# are twice those of float32 wherever arithmetic or memory counts.
SECONDS = {
    "reference": (1.7e-6, 7.4e-6, 4.1e-10),
    "matrix": (2.5e-6, 12.1e-6, 7.4e-12, 0.15e-9, 0.64e-9),
    "fused": (0.063e-6, 0.045e-6, 0.82e-9, 0.41e-9, 7.4e-12, 8e-12, 20e-12, 59e-12, 0.16e-9, 23e-12, 57e-12),
}
# What one of several threads does not share: waiting for the others, at every layer there and back.
WAIT, SHARED = 0.35e-6, 0.9


def work(engine: str, built: Architecture, m: int, density: float = 1.0) -> tuple[float, ...]:
    """How much of each kind of work an engine does for a mini-batch; `SECONDS` has the price of each."""
    return {"reference": _reference_work, "matrix": _matrix_work, "fused": _fused_work}[engine](built, m, density)


def _seconds(engine: str, built: Architecture, m: int, density: float) -> float:
    return sum(units * each for units, each in zip(work(engine, built, m, density), SECONDS[engine], strict=True))


def _reference_work(built: Architecture, m: int, density: float) -> tuple[float, ...]:
    """Calls of NumPy in all, in each layer; parameters."""
    return m, m * (len(built.sizes) - 1), m * parameters.count(built.sizes)


def _matrix_work(built: Architecture, m: int, density: float) -> tuple[float, ...]:
    """Mini-batch; layers; operations; parameters; units."""
    sizes, wide = built.sizes, built.dtype.itemsize / 4
    flops = wide * _architecture.flops(sizes, m)
    if 2 * m * max(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True)) >= threads.WORTH_THREADS:
        flops /= 1.6  # two cores on one product
    return 1, len(sizes) - 1, flops, wide * parameters.count(sizes), wide * m * sum(sizes)


# Bytes of a weight matrix, and bytes of input rows, that the second-level cache holds, and the third.
_CACHES = (700e3, 16e6)


def _fused_work(built: Architecture, m: int, density: float) -> tuple[float, ...]:
    """Mini-batch; layers; units with an exponential, and without; entries of W times rows, dense;
    entries of W once a product, from the second-level cache, from the third, from memory; entries of compressed rows,
    once a panel, and the entries of W that they meet; bytes of input.
    """
    units = [0.0, 0.0]
    for l, n in enumerate(built.sizes[1:]):
        plain = built.activations[l].name in ("relu", "leaky_relu", "identity")
        units[plain] += m * _whole_vectors(built, n) * built.dtype.itemsize / 4
    layers = range(len(built.sizes) - 1)
    products = [sum(kind) for kind in zip(*(_products(built, m, density, l) for l in layers), strict=True)]
    return 1, len(layers), *units, *products


def _products(built: Architecture, m: int, density: float, l: int) -> tuple[float, ...]:
    """The last seven kinds of `_fused_work`, of the layer above layer l alone (0 is the input)."""
    wide, below, p = built.dtype.itemsize / 4, built.sizes[l], _whole_vectors(built, built.sizes[l + 1])
    sparse = density < SPARSE_BELOW
    each = density * (4 + built.dtype.itemsize) if sparse else built.dtype.itemsize
    n_bytes = m * below * each if l == 0 else 0.0
    if l == 0 and sparse:
        panels = -(-p * built.dtype.itemsize // 128)  # of two vectors of 64 bytes
        return 0.0, 0.0, 0.0, 0.0, 2 * m * density * below * panels, 2 * m * density * below * p * wide, n_bytes
    entries, once = (2 if l == 0 else 3) * below * p * wide, [0.0, 0.0, 0.0]
    once[sum(built.dtype.itemsize * below * p > cache for cache in _CACHES)] = entries
    return entries * max(m, 4), *once, 0.0, 0.0, n_bytes  # fewer rows than four wait for each addition


def _whole_vectors(built: Architecture, n: int) -> int:
    """Units with those that fill up the last vector of the layer."""
    lanes = 64 // built.dtype.itemsize
    return -(-n // lanes) * lanes


def _fused_seconds(built: Architecture, m: int, density: float) -> float:
    """By one thread, or by as many as `pace` lets try it if that is sooner."""
    alone, count = _seconds("fused", built, m, density), pace(built, m).most
    if count == 1:
        return alone
    if halved(built, m):
        layer_1 = sum(x * s for x, s in zip(_products(built, m, density, 0), SECONDS["fused"][4:], strict=True))
        return min(alone, alone - layer_1 / 2 + WAIT)
    return min(alone, alone / (1 + SHARED * (count - 1)) + 2 * len(built.sizes) * WAIT)
