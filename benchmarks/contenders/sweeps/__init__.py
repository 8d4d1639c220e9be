"""Who trains many networks of one kind from many seeds: one small file each.

`prepare` is given the first parameters of all networks, (K, parameters): those of `fastbp.Network(seed=k)`. `run`
trains each of them from there, in the order that its own seed draws; `parameters` are (K, parameters) afterwards.
"""

import numpy as np

import fastbp
from benchmarks import contenders
from benchmarks.workloads import EXAMPLES, Data, Order, Workload
from fastbp import parameters

NAMES = ("one_after_another", "fastbp_sweep", "jax_vmap", "sklearn_joblib")
LABELS = {
    "one_after_another": "fastbp fit, one after another",
    "fastbp_sweep": "fastbp.sweep",
    "jax_vmap": "JAX jit + scan + vmap",
    "sklearn_joblib": "scikit-learn with joblib",
}


class ManyContender(contenders.Contender):
    """What they have in common."""

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        self.X, self.labels = np.ascontiguousarray(data.X, dtype), data.labels
        self.threads, self.first = threads, theta.astype(dtype)


def network(workload: Workload, dtype: np.dtype, seed: int) -> fastbp.Network:
    return fastbp.Network(**network_arguments(workload, dtype), seed=seed)


def network_arguments(workload: Workload, dtype: np.dtype) -> dict:
    return {
        "sizes": list(workload.sizes), "hidden": workload.hidden, "output": workload.output, "cost": workload.cost,
        "initializer": workload.initializer, "dtype": dtype.name,
    }  # fmt: skip


def fit_arguments(workload: Workload, order: Order) -> dict:
    return {
        "epochs": order.epochs, "batch_size": workload.batch_size, "eta": workload.eta,
        "lmbda": workload.lmbda * order.n / EXAMPLES,
    }  # fmt: skip


def theta_of(net: fastbp.Network) -> np.ndarray:
    return parameters.flatten(net.sizes, net.biases, net.weights, net.dtype)


def rows_of(net: fastbp.Network, order: Order) -> np.ndarray:
    """(epochs, n): the order of the examples that a new network's `fit` draws from its seed."""
    rows, out = np.arange(order.n), np.empty((order.epochs, order.n), np.int64)
    for epoch in out:
        net._shuffle(rows)
        epoch[:] = rows
    return out
