"""Whole runs of mini-batches inside one compiled call."""

import functools
from collections.abc import Callable

import numpy as np

from benchmarks.contenders.engines import EngineContender


class Contender(EngineContender):
    label = "fastbp fused"
    engine_name = "fused"

    def bare_sweep(self) -> Callable[[int], None]:
        packed, steps = self.engine.own.packed.copy(), self.engine.own.steps
        # With memories of its own, laid out alike, for a sweep changes them; and with a gradient, for without one the
        # averages of squares would fade into subnormal numbers, which are slow.
        first, second, gradient = steps.first.copy(), steps.second.copy(), np.full_like(steps.gradient, 1e-3)
        steps = steps._replace(powers=np.full(2, 0.5), first=first, second=second, gradient=gradient)
        eta, zero = packed.dtype.type(self.workload.eta), packed.dtype.type(0)
        return lambda times: _sweeps()(times, packed, steps, eta, zero)


@functools.cache
def _sweeps() -> Callable:
    """Compiled, for a call from Python takes as long as some sweeps."""
    from numba import njit

    from fastbp import kernels

    @njit
    def sweep(times, packed, steps, eta, zero):
        for _ in range(times):
            kernels.take_step(packed, 0, packed.size, steps, eta, zero, zero)

    return sweep
