"""Which engine runs a network best, and why: a cost model with committed constants, never a stopwatch.

The same network gets the same engine on every machine and in every run, so that results repeat. The constants are
those of the machine in docs/benchmarks.md; what matters is which engine they favour, not the microseconds.
"""

import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastbp import architecture as _architecture
from fastbp import engines
from fastbp.architecture import Architecture
from fastbp.data import is_sparse


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
    m, n_layers, width = batch_size, len(built.sizes) - 1, built.dtype.itemsize
    flops = _architecture.flops(built.sizes, m)
    pairs = list(zip(built.sizes[:-1], built.sizes[1:], strict=True))
    n_parameters = sum((below + 1) * n for below, n in pairs)
    n_units = m * sum(built.sizes)
    seconds = {
        "reference": m * (20e-6 + 45e-6 * n_layers + n_parameters * 12e-9),
        "matrix": 20e-6 + 25e-6 * n_layers + flops / (30e9 / (width / 4)) + n_parameters * 1e-9 + n_units * 1e-9,
    }
    if built.compilable:
        first = 4 * m * pairs[0][0] * pairs[0][1]
        effective = flops - first + first * min(1.0, 2 * density)
        seconds["fused"] = 0.5e-6 + 0.3e-6 * n_layers + effective / (40e9 / (width / 4)) + n_units * 2e-9
        engine = min(seconds, key=seconds.__getitem__)
        reason = {
            "fused": "the least predicted time: Python's and the library's overhead would outweigh the arithmetic",
            "matrix": "the least predicted time: BLAS on all cores outweighs its overhead",
            "reference": "the least predicted time",
        }[engine]
    else:
        engine = min(("reference", "matrix"), key=seconds.__getitem__)
        reason = "it uses functions of your own, which cannot be compiled; reference and matrix call them"
    n_bytes = width * (n_parameters + 3 * n_units)
    return Plan(engine, m, flops, n_bytes, seconds, reason)
