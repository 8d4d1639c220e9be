"""JAX with whole epochs compiled: jit around lax.scan over the mini-batches, data and parameters on the device."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import contenders
from benchmarks.workloads import EXAMPLES, Data, Order, Workload, masks, sample_weights
from fastbp import parameters

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


def cost_of(workload: Workload, layers: list, x: Any, y: Any, weights: Any = None, factors: Any = None) -> Any:
    """The cost of a mini-batch, averaged over its examples of `weights`, (m,), with dropout's factors, one a layer."""
    for l, (w, b) in enumerate(layers[:-1]):
        x = ACTIVATIONS[workload.hidden](x @ w.T + b)
        x = x if factors is None else x * factors[l]
    w, b = layers[-1]
    z = x @ w.T + b
    if workload.cost == "quadratic":
        costs = (jax.nn.sigmoid(z) - y) ** 2 / 2
    elif workload.cost == "cross_entropy":
        costs = jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))
    else:
        costs = -jax.nn.log_softmax(z) * y
    return jnp.sum(costs if weights is None else costs * weights[:, None]) / len(x)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def train(
    workload: Workload, state: Any, X: Any, Y: Any, batches: Any, weights: Any = None, drops: Any = None
) -> Any:  # fmt: skip
    """Every mini-batch of `batches`, (n, m) row numbers.

    weights: of all examples. drops: a key to draw dropout's masks from, or, as a list, dropout's factors, (n, m, n_l)
    for each hidden layer.
    """
    eta, decay = workload.eta, workload.lmbda / EXAMPLES
    if drops is not None and not isinstance(drops, list):
        # all of them at once: within the scan they took 12 % of R1, so 3 %
        shapes = [(*batches.shape, n) for n in workload.sizes[1:-1]]
        keys = jax.random.split(drops, len(shapes))
        drops = [
            jax.random.bernoulli(key, 1 - workload.dropout, shape) for key, shape in zip(keys, shapes, strict=True)
        ]  # fmt: skip

    def gradient(layers: list, now: Any) -> list:
        rows, kept = now
        if kept is not None:
            kept = [X.dtype.type(1 / (1 - workload.dropout)) * keep if keep.dtype == bool else keep for keep in kept]
        of_rows = None if weights is None else weights[rows]
        return jax.grad(partial(cost_of, workload))(layers, X[rows], Y[rows], of_rows, kept)

    def sgd(state: Any, now: Any) -> Any:
        nabla = gradient(state, now)
        return [
            (w - eta * (nw + decay * w) if decay else w - eta * nw, b - eta * nb)
            for (w, b), (nw, nb) in zip(state, nabla, strict=True)
        ], None

    def adam(state: Any, now: Any) -> Any:
        layers, first, second, steps = state
        g = gradient(layers, now)
        steps = steps + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, g)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, g)
        rate, correction = eta / (1 - 0.9**steps), 1 - 0.999**steps
        layers = jax.tree.map(
            lambda p, m, v: (p - rate * m / (jnp.sqrt(v / correction) + 1e-8)).astype(p.dtype), layers, first, second
        )
        return (layers, first, second, steps), None

    return jax.lax.scan(adam if workload.optimizer == "adam" else sgd, state, (batches, drops))[0]


class Contender(contenders.Contender):
    label = "JAX jit + scan"
    package = "jax"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        jax.config.update("jax_enable_x64", bool(dtype == np.float64))
        self.X = jnp.asarray(np.asarray(data.X, dtype))
        self.Y = jnp.asarray(data.one_hot(workload.sizes[-1], dtype))
        self.weights = jnp.asarray(sample_weights(len(data.labels)).astype(dtype)) if workload.weighted else None
        self.key, self.steps = jax.random.key(0, impl="rbg"), 0  # the faster of its generators
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
            drops = self.drops(len(batches)) if self.workload.dropout else None
            self.state = train(self.workload, self.state, self.X, self.Y, batches, self.weights, drops)
        jax.block_until_ready(self.state)

    def drops(self, count: int) -> Any:
        """For dropout in so many mini-batches: a key to draw masks from, or the factors that everyone is given."""
        if self.checking:
            self.steps += count
            return [jnp.asarray(mask) for mask in masks(self.workload, self.dtype, self.steps - count, count)]
        self.key, key = jax.random.split(self.key)
        return key

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
