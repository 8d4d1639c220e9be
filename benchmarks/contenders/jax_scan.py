"""JAX with whole epochs compiled: jit around lax.scan over the mini-batches, data and parameters on the device."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import contenders
from benchmarks.workloads import EXAMPLES, Data, Order, Workload
from fastbp import parameters

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


def cost_of(workload: Workload, layers: list, x: Any, y: Any) -> Any:
    """The cost of a mini-batch, averaged over its examples."""
    for w, b in layers[:-1]:
        x = ACTIVATIONS[workload.hidden](x @ w.T + b)
    w, b = layers[-1]
    z = x @ w.T + b
    if workload.cost == "quadratic":
        return jnp.sum((jax.nn.sigmoid(z) - y) ** 2) / (2 * len(x))
    if workload.cost == "cross_entropy":
        return jnp.sum(jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))) / len(x)
    return -jnp.sum(jax.nn.log_softmax(z) * y) / len(x)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def train(workload: Workload, state: Any, X: Any, Y: Any, batches: Any) -> Any:
    """Every mini-batch of `batches`, (n, m) row numbers."""
    eta, decay = workload.eta, workload.lmbda / EXAMPLES

    def sgd(state: Any, rows: Any) -> Any:
        nabla = jax.grad(partial(cost_of, workload))(state, X[rows], Y[rows])
        return [
            (w - eta * (nw + decay * w) if decay else w - eta * nw, b - eta * nb)
            for (w, b), (nw, nb) in zip(state, nabla, strict=True)
        ], None

    def adam(state: Any, rows: Any) -> Any:
        layers, first, second, steps = state
        g = jax.grad(partial(cost_of, workload))(layers, X[rows], Y[rows])
        steps = steps + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, g)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, g)
        rate, correction = eta / (1 - 0.9**steps), 1 - 0.999**steps
        layers = jax.tree.map(
            lambda p, m, v: (p - rate * m / (jnp.sqrt(v / correction) + 1e-8)).astype(p.dtype), layers, first, second
        )
        return (layers, first, second, steps), None

    return jax.lax.scan(adam if workload.optimizer == "adam" else sgd, state, batches)[0]


class Contender(contenders.Contender):
    label = "JAX jit + scan"
    package = "jax"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        jax.config.update("jax_enable_x64", bool(dtype == np.float64))
        self.X = jnp.asarray(np.asarray(data.X, dtype))
        self.Y = jnp.asarray(data.one_hot(workload.sizes[-1], dtype))
        biases, weights = parameters.views(workload.sizes, theta.astype(dtype))
        layers = [(jnp.array(w), jnp.array(b[:, 0])) for w, b in zip(weights, biases, strict=True)]
        self.state: Any = layers
        if workload.optimizer == "adam":
            self.state = (
                layers,
                jax.tree.map(jnp.zeros_like, layers),
                jax.tree.map(jnp.zeros_like, layers),
                jnp.zeros((), dtype),
            )
        jax.block_until_ready((self.X, self.Y, self.state))

    def run(self, order: Order) -> None:
        for rows in order.rows():
            batches = jnp.asarray(rows.reshape(-1, self.workload.batch_size).astype(np.int32))
            self.state = train(self.workload, self.state, self.X, self.Y, batches)
        jax.block_until_ready(self.state)

    def parameters(self) -> np.ndarray:
        layers = self.state[0] if self.workload.optimizer == "adam" else self.state
        weights, biases = [np.asarray(w) for w, _ in layers], [np.asarray(b)[:, np.newaxis] for _, b in layers]
        return parameters.flatten(self.workload.sizes, biases, weights, self.dtype)

    def bare_products(self) -> Callable[[], None]:
        # XLA takes no strides: a transposed factor is handed over as it lies and named as transposed
        given = contenders.factors(self.workload, self.dtype)
        flags = tuple((not a.flags.c_contiguous, not b.flags.c_contiguous) for a, b in given)
        arrays = [
            (jnp.asarray(a.T if turned_a else a), jnp.asarray(b.T if turned_b else b))
            for (a, b), (turned_a, turned_b) in zip(given, flags, strict=True)
        ]

        @jax.jit
        def products(arrays: Any) -> Any:
            return [
                (a.T if turned_a else a) @ (b.T if turned_b else b)
                for (a, b), (turned_a, turned_b) in zip(arrays, flags, strict=True)
            ]

        return lambda: jax.block_until_ready(products(arrays))
