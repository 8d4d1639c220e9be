"""`python -m benchmarks.calibrate`: measures mini-batches of all kinds and fits the plan's constants to them.

Prints what to put into fastbp/engines/plan.py, and how far off the predictions would be. A few minutes, on a machine
that has nothing else to do.
"""

import functools
import itertools
import os
import sys
import time
from collections.abc import Iterator

import numpy as np
from scipy.optimize import nnls
from threadpoolctl import threadpool_limits

from benchmarks.processes import FOREIGN_KERNELS
from fastbp import architecture, data, engines, parameters, threads
from fastbp.architecture import Architecture
from fastbp.engines import plan

SIZES = (
    (8, 32, 16, 4), (20, 8, 3), (64, 64, 10), (100, 300, 100, 10), (784, 8, 8, 10), (784, 30, 10), (784, 100, 10),
    (784, 128, 64, 10), (784, 400, 10), (784, 512, 512, 10), (784, 1024, 1024, 10), (784, 2048, 2048, 10),
)  # fmt: skip
BATCH_SIZES = (1, 2, 4, 10, 32, 100, 250, 1000)
SECONDS = 0.15  # for each measurement
N = 20_000  # examples: more than the caches hold of the book's, as in most training


@functools.lru_cache(2)
def inputs(n_in: int, dtype: str, density: float) -> np.ndarray:
    """Normal numbers, but for a share of zeros."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, n_in), np.float32).astype(dtype)
    X[rng.random(X.shape) >= density] = 0
    return X


def networks() -> Iterator[tuple[Architecture, int, float]]:
    """Architecture, batch size, share of the inputs that are not zero."""
    for i, (sizes, m) in enumerate(itertools.product(SIZES, BATCH_SIZES)):
        for dtype, density in itertools.product(("float32", "float64"), (0.19, 1.0)):
            if m * parameters.count(sizes) < 2e9 and (dtype == "float32" or i % 3 == 0):
                hidden = "relu" if i % 2 else "sigmoid"
                yield architecture.build(sizes, hidden, "sigmoid", "quadratic", None, dtype), m, density


def measure(engine: str, built: Architecture, m: int, density: float) -> float:
    """Seconds of a mini-batch, on one thread: the median of as many runs as fit."""
    rng, n = np.random.default_rng(0), N
    X = inputs(built.sizes[0], built.dtype.name, density)
    theta = (0.1 * rng.standard_normal(parameters.count(built.sizes))).astype(built.dtype)
    order, samples, end = rng.permutation(n), [], time.perf_counter() + SECONDS
    most = 2e9 / architecture.flops(built.sizes, m) if engine == "fused" else 20
    steps = max(1, min(n // m, int(most)))
    with threads.limited_to(1):
        made = engines.create(engine, built, theta, data.Examples(X, None, rng.integers(0, built.sizes[-1], n)), m)
        made.train(order[:m], np.full(1, 1e-3), 0.0)
        while len(samples) < 3 or time.perf_counter() < end:
            began = time.perf_counter()
            made.train(order[: steps * m], np.full(steps, 1e-3), 0.0)
            samples.append((time.perf_counter() - began) / steps)
    return float(np.median(samples))


def fit(engine: str) -> None:
    """Measure an engine, print its constants and how far off they are."""
    works, seconds = [], []
    for built, m, density in networks():
        if engine != "fused" and (
            density < 1 or parameters.count(built.sizes) > 2e6 or (engine, m) == ("reference", 1000)
        ):
            continue
        works.append(plan.work(engine, built, m, density))
        seconds.append(measure(engine, built, m, density))
    A = np.array(works) / np.array(seconds)[:, np.newaxis]
    prices, _ = nnls(A, np.ones(len(A)))
    off = np.maximum(A @ prices, 1 / (A @ prices))
    print(f'    "{engine}": ({", ".join(f"{price:.3g}" for price in prices)}),', flush=True)
    print(f"    # {len(A)} measurements; off by a factor {np.median(off):.2f}, at worst {off.max():.2f}", flush=True)


if __name__ == "__main__":
    foreign = [name for name in FOREIGN_KERNELS if os.environ.get(name)]
    if foreign:
        sys.exit(f"{', '.join(foreign)} would have BLAS take another processor's kernels; unset that first")
    with threadpool_limits(1):
        for engine in ("fused", "matrix", "reference"):
            fit(engine)
