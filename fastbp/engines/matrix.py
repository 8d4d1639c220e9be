"""Whole mini-batches as matrix products: the version the note leaves out, "similar, but pretty long".

Rows are examples. Each equation is one or two calls of BLAS, into buffers that are used again for every mini-batch.
The activations of large layers run compiled; a user's own functions are called as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastbp import blas, dropout, parameters, threads
from fastbp.activations import Activation
from fastbp.architecture import Architecture
from fastbp.data import Examples, dense, is_sparse
from fastbp.optimizers import Optimizer
from fastbp.regularization import Regularization, limit_norms, seed_state, with_seed


@np.errstate(under="ignore")
def backprop(
    architecture: Architecture, biases: list, weights: list, X: np.ndarray, Y: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(nabla_b, nabla_w) of the cost, summed over the rows of X (m, n_1) and Y (m, n_L); plain NumPy throughout.

    The same equations as `MatrixEngine`, for a single call, where loading the kernels would cost more than it saves.
    """
    Z, A = feedforward(architecture, biases, weights, X)
    deltas = errors(architecture, weights, Z, A, Y)
    nabla_b = [delta.sum(axis=0)[:, np.newaxis] for delta in deltas]  # BP3
    nabla_w = [delta.T @ a for delta, a in zip(deltas, A[:-1], strict=True)]  # BP4
    return nabla_b, nabla_w


@np.errstate(under="ignore")
def feedforward(
    architecture: Architecture, biases: list, weights: list, X: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(Z^2 … Z^L, A^1 … A^L) for the rows of X, each (m, n_l)."""
    A, Z = [X], []
    for l, (b, w) in enumerate(zip(biases, weights, strict=True), start=2):
        Z.append(A[-1] @ w.T + b.T)
        A.append(architecture.f(l, Z[-1]))
    return Z, A


@np.errstate(under="ignore")
def errors(
    architecture: Architecture, weights: list, Z: list, A: list, Y: np.ndarray, counts: np.ndarray | None = None
) -> list[np.ndarray]:
    """Δ^2 … Δ^L, each (m, n_l), from what `feedforward` found and the targets Y, (m, n_L).

    `counts`, (m,), say how many times each example counts.
    """
    L = len(architecture.sizes)
    deltas = [architecture.cost.delta(Z[-1], A[-1], Y, lambda z: architecture.f_prime(L, z))]  # BP1
    if counts is not None:
        deltas[0] = deltas[0] * counts[:, np.newaxis]
    for l in range(L - 1, 1, -1):
        deltas.insert(0, (deltas[0] @ weights[l - 1]) * architecture.f_prime(l, Z[l - 2]))  # BP2
    return deltas


class MatrixEngine:
    """Feedforward and BP1 to BP4 on matrices of m rows; theta is one vector, weights and biases are views of it."""

    name = "matrix"

    def __init__(
        self,
        architecture: Architecture,
        theta: np.ndarray,
        examples: Examples,
        batch_size: int,
        optimizer: Optimizer,
        regularization: Regularization,
    ) -> None:
        self.architecture, self.examples, self.batch_size = architecture, examples, batch_size
        self.regularization = regularization
        dtype, sizes = architecture.dtype, architecture.sizes
        self._theta = theta.copy()
        self.optimizer, self.memory = optimizer, optimizer.remember(theta.size, dtype)
        self.biases, self.weights = parameters.views(sizes, self._theta)
        # One BLAS for every product: NumPy and SciPy each bring a pool of threads, and those of one that has just
        # finished wait by spinning, on the cores that the other needs. On transposes, for BLAS stores by columns.
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self._largest_product = 2.0 * batch_size * max(n * below for below, n in pairs)
        self._gemm = blas.gemm(dtype, self._largest_product)
        self._reserve(batch_size)

    def _reserve(self, m: int) -> None:
        """Buffers A^l, Z^l and Δ^l for m rows, all views of one flat array, as the kernels want them."""
        sizes = self.architecture.sizes
        ends = np.cumsum([m * n for n in (*sizes, *sizes[1:], *sizes[1:])]).tolist()
        work = np.zeros(ends[-1], self.architecture.dtype)
        starts = iter([0, *ends])

        def blocks(sizes: Sequence[int]) -> tuple[list[int], list[np.ndarray]]:
            at = [next(starts) for _ in sizes]
            return at, [work[start : start + m * n].reshape(m, n) for start, n in zip(at, sizes, strict=True)]

        a_at, self._A = blocks(sizes)
        z_at, self._Z = blocks(sizes[1:])
        delta_at, self._delta = blocks(sizes[1:])
        self._dropped = [np.empty_like(a) if self.regularization.dropout else a for a in self._A]
        self._passed = list(self._A)  # what the layer above reads: activations, or what dropout leaves of them
        self._Y = np.empty((m, sizes[-1]), self.architecture.dtype)
        self._layers = [
            _Layer(activation, work, z, a, delta, m, n)
            for activation, z, a, delta, n in zip(
                self.architecture.activations, z_at, a_at[1:], delta_at, sizes[1:], strict=True
            )
        ]

    def _load(self, rows: np.ndarray) -> int:
        """A^1 ← the chosen rows of X, Y ← their targets, and their weights; returns how many."""
        weights = self.examples.weights
        self._weights = None if weights is None else weights[rows].astype(self._A[0].dtype)
        m, X, Y, labels = len(rows), self.examples.X, self.examples.Y, self.examples.labels
        if is_sparse(X):
            X[rows].toarray(out=self._A[0][:m])
        elif X.dtype == self._A[0].dtype:
            np.take(X, rows, axis=0, out=self._A[0][:m], mode="clip")  # any other mode makes a copy first
        else:
            self._A[0][:m] = X[rows]
        if Y is not None:
            self._Y[:m] = Y[rows]
        elif labels is not None:
            self._Y[:m] = 0
            self._Y[np.arange(m), labels[rows]] = 1
        return m

    def _forward(self, m: int, masks: Mapping[int, np.ndarray]) -> None:
        for l, (b, w) in enumerate(zip(self.biases, self.weights, strict=True), start=2):
            z = self._Z[l - 2][:m]
            z[:] = b.T
            self._gemm(
                1, w.T, self._passed[l - 2][:m].T, 1, z.T, trans_a=1, overwrite_c=1
            )  # Z^l = A^(l-1) (W^l)ᵀ + b^l
            self._layers[l - 2].activate(m)
            for j, neuron in self.architecture.changed_in(l):
                self._A[l - 1][:m, j] = neuron.f(z[:, j])
            self._passed[l - 1] = self._A[l - 1]
            if l in masks:
                self._passed[l - 1] = self._dropped[l - 1]
                np.multiply(self._A[l - 1][:m], masks[l], out=self._dropped[l - 1][:m])

    def _times_slope(self, l: int, m: int) -> None:
        """Δ^l ← Δ^l ⊙ σ_l'(Z^l)."""
        z, delta = self._Z[l - 2][:m], self._delta[l - 2][:m]
        changed = [(j, delta[:, j] * neuron.f_prime(z[:, j])) for j, neuron in self.architecture.changed_in(l)]
        self._layers[l - 2].times_slope(m)
        for j, column in changed:
            delta[:, j] = column

    def _errors(self, m: int, masks: Mapping[int, np.ndarray]) -> None:
        """Δ^L … Δ^2 for the mini-batch in the buffers."""
        L = len(self.architecture.sizes)
        np.subtract(self._A[-1][:m], self._Y[:m], out=self._delta[-1][:m])  # BP1
        if self.architecture.cost.outputs is None:
            self._times_slope(L, m)  # BP1
        if self._weights is not None:
            self._delta[-1][:m] *= self._weights[:, np.newaxis]
        for l in range(L - 1, 1, -1):
            delta, above = self._delta[l - 2][:m], self._delta[l - 1][:m]
            self._gemm(1, self.weights[l - 1].T, above.T, 0, delta.T, overwrite_c=1)  # BP2
            self._times_slope(l, m)  # BP2
            if l in masks:
                delta *= masks[l]

    def train(self, order: np.ndarray, eta: np.ndarray, decay: float, step: int = 0) -> None:
        given, built = self.regularization, self.architecture
        with threads.for_products(self._largest_product):
            for i, step_size in enumerate(eta.tolist()):
                rows = order[i * self.batch_size : (i + 1) * self.batch_size]
                self._step(rows, step_size, decay, dropout.masks(given, step + i, len(rows), built.sizes, built.dtype))
                if given.max_norm < np.inf:
                    limit_norms(self.weights, given.max_norm)

    def _step(self, rows: np.ndarray, eta: float, decay: float, masks: Mapping[int, np.ndarray]) -> None:
        m, l1 = self._load(rows), self.regularization.l1
        self._forward(m, masks)
        self._errors(m, masks)
        if self.optimizer.code or l1:
            gradient = self._sum(m)
            gradient /= m
            for nw, w in zip(parameters.views(self.architecture.sizes, gradient)[1], self.weights, strict=True):
                if decay:
                    nw += w.dtype.type(decay) * w
                if l1:
                    nw += w.dtype.type(l1) * np.sign(w)
            self.optimizer.step(self._theta, gradient, self.memory, eta)
            return
        # all errors stand before the first weight moves: BP2 needs W^(l+1) as it was
        for l, (b, w) in enumerate(zip(self.biases, self.weights, strict=True), start=2):
            delta, a = self._delta[l - 2][:m], self._passed[l - 2][:m]
            b[:, 0] -= b.dtype.type(eta / m) * delta.sum(axis=0)  # BP3
            # W ← (1 - ηλ/n) W - (η/m) Δᵀ A in one product
            self._gemm(-eta / m, a.T, delta.T, 1 - eta * decay, w.T, trans_b=1, overwrite_c=1)  # BP4

    @np.errstate(under="ignore")
    def gradient(self, rows: np.ndarray) -> np.ndarray:
        m = self._load(rows)
        self._forward(m, {})
        self._errors(m, {})
        return self._sum(m)

    def _sum(self, m: int) -> np.ndarray:
        """The gradient summed over the mini-batch whose errors stand in the buffers."""
        nabla = np.empty_like(self._theta)
        nabla_b, nabla_w = parameters.views(self.architecture.sizes, nabla)
        for l in range(2, len(self.architecture.sizes) + 1):
            delta = self._delta[l - 2][:m]
            np.sum(delta, axis=0, out=nabla_b[l - 2][:, 0])  # BP3
            a = self._passed[l - 2][:m]
            self._gemm(1, a.T, delta.T, 0, nabla_w[l - 2].T, trans_b=1, overwrite_c=1)  # BP4
        return nabla

    def prepare(self, examples: Examples) -> Any:
        return examples

    def outputs(self, examples: Examples) -> np.ndarray:
        return outputs(self.architecture, self.biases, self.weights, examples.X)

    def theta(self) -> np.ndarray:
        return self._theta.copy()

    def load(self, theta: np.ndarray) -> None:
        self._theta[:] = theta

    def is_finite(self) -> bool:
        return bool(np.isfinite(self._theta).all())

    def save_state(self) -> dict[str, np.ndarray]:
        return {"theta": self._theta.copy(), **self.memory.state(), "seed": seed_state(self.regularization)}

    def restore_state(self, state: dict[str, np.ndarray]) -> None:
        self._theta[:] = state["theta"]
        self.memory.restore(state)
        self.regularization = with_seed(self.regularization, state["seed"])


# Rows of one block of a prediction: the activations of a block stay in the cache, and no copy of the data is made.
BLOCK = 512


@np.errstate(under="ignore")
def outputs(architecture: Architecture, biases: list, weights: list, X: Any) -> np.ndarray:
    """A^L, (n, n_L), for the rows of X, a block at a time."""
    out = np.empty((X.shape[0], architecture.sizes[-1]), architecture.dtype)
    for start in range(0, X.shape[0], BLOCK):
        a = X[start : start + BLOCK]
        a = dense(a)
        a = a.astype(architecture.dtype, copy=False)
        for l, (b, w) in enumerate(zip(biases, weights, strict=True), start=2):
            z = a @ w.T
            z += b.T
            a = architecture.f(l, z)
        out[start : start + BLOCK] = a
    return out


# Entries of a layer's block from which its activation runs compiled: below, NumPy costs less than the other calls of a
# mini-batch, and a run over small layers need not load (or compile) the kernels at all.
COMPILED_FROM = 2048


class _Layer:
    """The elementwise part of one layer on its blocks of the work space, in NumPy, or compiled if that pays."""

    def __init__(
        self, activation: Activation, work: np.ndarray, z_at: int, a_at: int, delta_at: int, rows: int, n: int
    ) -> None:
        self.activation, self.work, self.n = activation, work, n
        self.z_at, self.a_at, self.delta_at = z_at, a_at, delta_at
        self.z, self.a, self.delta = (work[at : at + rows * n].reshape(rows, n) for at in (z_at, a_at, delta_at))
        self.compiled = activation.code is not None and rows * n >= COMPILED_FROM

    def activate(self, m: int) -> None:
        """A ← σ(Z) in the first m rows."""
        if not self.compiled:
            self.a[:m] = self.activation.f(self.z[:m])
            return
        from fastbp import kernels

        if self.activation.code == kernels.SOFTMAX:
            kernels.softmax_rows(self.work, self.z_at, self.a_at, m, 0, m, self.n, self.n)
        else:
            kernels.activate(self.activation.code, self.work, self.z_at, self.a_at, m * self.n)

    def times_slope(self, m: int) -> None:
        """Δ ← Δ ⊙ σ'(Z) in the first m rows."""
        if not self.compiled:
            self.delta[:m] *= self.activation.f_prime(self.z[:m])
            return
        from fastbp import kernels

        kernels.times_derivative(self.activation.code, self.work, self.z_at, self.a_at, self.delta_at, m * self.n)
