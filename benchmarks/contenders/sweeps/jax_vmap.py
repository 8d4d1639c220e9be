"""JAX with all networks stacked: jit around lax.scan over the mini-batches, and in each step vmap over the networks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contenders import sweeps
from benchmarks.contenders.jax_scan import cost_of
from benchmarks.workloads import EXAMPLES, Data, Order, Workload
from fastbp import parameters


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def train(workload: Workload, networks: Any, X: Any, Y: Any, batches: Any) -> Any:
    """Every mini-batch of `batches`, (steps, K, m) row numbers: for each of K networks its own."""
    eta, decay = workload.eta, workload.lmbda / EXAMPLES

    def sgd(layers: Any, rows: Any) -> Any:
        nabla = jax.grad(partial(cost_of, workload))(layers, X[rows], Y[rows])
        return [
            (w - eta * (nw + decay * w) if decay else w - eta * nw, b - eta * nb)
            for (w, b), (nw, nb) in zip(layers, nabla, strict=True)
        ]

    return jax.lax.scan(lambda networks, rows: (jax.vmap(sgd)(networks, rows), None), networks, batches)[0]


class Contender(sweeps.ManyContender):
    label = sweeps.LABELS["jax_vmap"]
    package = "jax"

    def refusal(self, workload: Workload, dtype: np.dtype) -> str:
        return "" if workload.optimizer == "sgd" else "only SGD is written for stacked networks"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        super().prepare(workload, data, dtype, threads, theta)
        jax.config.update("jax_enable_x64", bool(dtype == np.float64))
        self.on_device = jnp.asarray(self.X), jnp.asarray(data.one_hot(workload.sizes[-1], dtype))
        self.orders: dict[Order, Any] = {}
        jax.block_until_ready(self.on_device)

    def run(self, order: Order) -> None:
        if order not in self.orders:  # handed over, not timed: the first run of an order is a warm-up
            networks = [sweeps.network(self.workload, self.dtype, seed) for seed in range(len(self.first))]
            rows = np.array([sweeps.rows_of(net, order) for net in networks])  # (K, epochs, n)
            rows = rows.reshape(len(networks), -1, self.workload.batch_size).swapaxes(0, 1)
            self.orders[order] = jnp.asarray(rows.astype(np.int32))
        biases, weights = zip(*(parameters.views(self.workload.sizes, theta) for theta in self.first), strict=True)
        stacked = [
            (jnp.array(w), jnp.array(b)[:, :, 0])
            for w, b in zip(
                map(np.array, zip(*weights, strict=True)), map(np.array, zip(*biases, strict=True)), strict=True
            )
        ]
        self.networks = jax.block_until_ready(train(self.workload, stacked, *self.on_device, self.orders[order]))

    def parameters(self) -> np.ndarray:
        return np.array([
            parameters.flatten(
                self.workload.sizes,
                [np.asarray(b[k])[:, np.newaxis] for _, b in self.networks],
                [np.asarray(w[k]) for w, _ in self.networks],
                self.dtype,
            )
            for k in range(len(self.first))
        ])  # fmt: skip
