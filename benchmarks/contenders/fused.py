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
        # With memories of its own, laid out alike: a sweep changes them.
        powers, first, second, gradient = np.full(2, 0.5), steps.first.copy(), steps.second + 1, steps.gradient.copy()
        steps = steps._replace(powers=powers, first=first, second=second, gradient=gradient)
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
