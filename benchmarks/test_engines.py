"""Each engine's mini-batch beside one example at a time: `pytest benchmarks/test_engines.py`.

The contenders of `python -m benchmarks` that need no other library, in one process and on little data: a quick look
after a change, not for publication. The result is compared with the reference's before anything is timed.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest

from benchmarks import contenders, workloads
from benchmarks.measure import check_order
from benchmarks.workloads import WORKLOADS, Data, Order, Workload

WHO = ("fused", "matrix", "auto", "reference", "per_example", "numpy_batch")
# The mini-batches of one round.
ROUND = {"S1": 50, "S2": 20, "S3": 100, "G1": 50, "T1": 100, "M1": 5}


@cache
def data(name: str) -> Data:
    return workloads.load(WORKLOADS[name], 5000)


def trained(who: str, workload: Workload, dtype: np.dtype, order: Order) -> contenders.Contender:
    """A contender after these mini-batches. Skips the test if it cannot run them."""
    contender = contenders.load(who)
    refusal = contender.refusal(workload, dtype)
    if refusal:
        pytest.skip(refusal)
    contender.prepare(workload, data(workload.name), dtype, 1, workloads.initial_theta(workload))
    contender.run(order)
    return contender


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ROUND)
def test_mini_batch(benchmark: Any, name: str, dtype: str, who: str) -> None:
    benchmark.group = f"{name}, {dtype}, {ROUND[name]} mini-batches"
    workload, kind = WORKLOADS[name], np.dtype(dtype)
    order, start = check_order(workload), workloads.initial_theta(workload)
    oracle = "reference" if not contenders.load("reference").refusal(workload, kind) else "numpy_batch"
    truth = trained(oracle, workload, np.dtype(np.float64), order).parameters()
    contender = trained(who, workload, kind, order)
    error = np.linalg.norm(contender.parameters() - truth) / np.linalg.norm(truth - start)
    assert error <= contender.tolerance(workload, kind)
    benchmark(contender.run, Order(ROUND[name] * workload.batch_size))
