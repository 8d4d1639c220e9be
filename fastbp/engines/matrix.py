"""Whole mini-batches as matrix products: the version the note leaves out, "similar, but pretty long".

Rows are examples. Each equation is one or two calls of BLAS, into buffers that are used again for every mini-batch.
Activations the compiled kernels know run there; a user's own functions are called as they are.
"""

from typing import Any

import numpy as np

from fastbp import parameters
from fastbp.activations import Activation
from fastbp.architecture import Architecture
from fastbp.data import Examples, is_sparse


def backprop(
    architecture: Architecture, biases: list, weights: list, X: np.ndarray, Y: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(nabla_b, nabla_w) of the cost, summed over the rows of X (m, n_1) and Y (m, n_L); plain NumPy throughout.

    The same equations as `MatrixEngine`, for a single call, where loading the kernels would cost more than it saves.
    """
    A, Z = [X], []
    for l, (b, w) in enumerate(zip(biases, weights, strict=True), start=2):
        Z.append(A[-1] @ w.T + b.T)
        A.append(architecture.f(l, Z[-1]))
    L = len(architecture.sizes)
    delta = architecture.cost.delta(Z[-1], A[-1], Y, lambda z: architecture.f_prime(L, z))  # BP1
    nabla_b: list[np.ndarray] = []
    nabla_w: list[np.ndarray] = []
    for l in range(L, 1, -1):
        nabla_b.insert(0, delta.sum(axis=0)[:, np.newaxis])  # BP3
        nabla_w.insert(0, delta.T @ A[l - 2])  # BP4
        if l > 2:
            delta = (delta @ weights[l - 2]) * architecture.f_prime(l - 1, Z[l - 3])  # BP2
    return nabla_b, nabla_w


class MatrixEngine:
    """Feedforward and BP1 to BP4 on matrices of m rows; theta is one vector, weights and biases are views of it."""

    name = "matrix"

    def __init__(self, architecture: Architecture, theta: np.ndarray, examples: Examples, batch_size: int) -> None:
        from scipy.linalg import blas

        self.architecture, self.examples, self.batch_size = architecture, examples, batch_size
        dtype, sizes = architecture.dtype, architecture.sizes
        self._theta = theta.copy()
        self.biases, self.weights = parameters.views(sizes, self._theta)
        self._gemm = blas.dgemm if dtype == np.float64 else blas.sgemm
        self._reserve(min(batch_size, len(examples)))
        self._activate = [_in_place(activation) for activation in architecture.activations]

    def _reserve(self, m: int) -> None:
        """Buffers A^l, Z^l and Δ^l for m rows."""
        dtype, sizes = self.architecture.dtype, self.architecture.sizes
        self._A = [np.empty((m, n), dtype) for n in sizes]
        self._Z = [np.empty((m, n), dtype) for n in sizes[1:]]
        self._delta = [np.empty((m, n), dtype) for n in sizes[1:]]
        self._Y = np.empty((m, sizes[-1]), dtype)

    def _load(self, rows: np.ndarray) -> int:
        """A^1 ← the chosen rows of X, Y ← their targets; returns how many."""
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

    def _forward(self, m: int) -> None:
        for l, (b, w) in enumerate(zip(self.biases, self.weights, strict=True), start=2):
            z = self._Z[l - 2][:m]
            np.matmul(self._A[l - 2][:m], w.T, out=z)  # Z^l = A^(l-1) (W^l)ᵀ + b^l
            z += b.T
            self._activate[l - 2][0](z, self._A[l - 1][:m])
            for j, neuron in self.architecture.changed_in(l):
                self._A[l - 1][:m, j] = neuron.f(z[:, j])

    def _times_slope(self, l: int, m: int) -> None:
        """Δ^l ← Δ^l ⊙ σ_l'(Z^l)."""
        z, a, delta = self._Z[l - 2][:m], self._A[l - 1][:m], self._delta[l - 2][:m]
        changed = [(j, delta[:, j] * neuron.f_prime(z[:, j])) for j, neuron in self.architecture.changed_in(l)]
        self._activate[l - 2][1](z, a, delta)
        for j, column in changed:
            delta[:, j] = column

    def _errors(self, m: int) -> None:
        """Δ^L … Δ^2 for the mini-batch in the buffers."""
        L = len(self.architecture.sizes)
        np.subtract(self._A[-1][:m], self._Y[:m], out=self._delta[-1][:m])  # BP1
        if self.architecture.cost.outputs is None:
            self._times_slope(L, m)  # BP1
        for l in range(L - 1, 1, -1):
            np.matmul(self._delta[l - 1][:m], self.weights[l - 1], out=self._delta[l - 2][:m])  # BP2
            self._times_slope(l, m)  # BP2

    def train(self, order: np.ndarray, eta: np.ndarray, decay: float) -> None:
        for step, step_size in enumerate(eta.tolist()):
            m = self._load(order[step * self.batch_size : (step + 1) * self.batch_size])
            self._forward(m)
            self._errors(m)
            # all errors stand before the first weight moves: BP2 needs W^(l+1) as it was
            for l, (b, w) in enumerate(zip(self.biases, self.weights, strict=True), start=2):
                delta, a = self._delta[l - 2][:m], self._A[l - 2][:m]
                b[:, 0] -= b.dtype.type(step_size / m) * delta.sum(axis=0)  # BP3
                # W ← (1 - ηλ/n) W - (η/m) Δᵀ A in one product, on transposes because BLAS stores by columns
                self._gemm(-step_size / m, a.T, delta.T, 1 - step_size * decay, w.T, trans_b=1, overwrite_c=1)  # BP4

    def gradient(self, rows: np.ndarray) -> np.ndarray:
        m = self._load(rows)
        self._forward(m)
        self._errors(m)
        nabla = np.empty_like(self._theta)
        nabla_b, nabla_w = parameters.views(self.architecture.sizes, nabla)
        for l in range(2, len(self.architecture.sizes) + 1):
            delta = self._delta[l - 2][:m]
            np.sum(delta, axis=0, out=nabla_b[l - 2][:, 0])  # BP3
            np.matmul(delta.T, self._A[l - 2][:m], out=nabla_w[l - 2])  # BP4
        return nabla

    def prepare(self, examples: Examples) -> Any:
        return examples

    def outputs(self, examples: Examples) -> np.ndarray:
        return outputs(self.architecture, self.biases, self.weights, examples.X)

    def theta(self) -> np.ndarray:
        return self._theta.copy()

    def is_finite(self) -> bool:
        return bool(np.isfinite(self._theta).all())

    def save_state(self) -> Any:
        return self._theta.copy()

    def restore_state(self, state: Any) -> None:
        self._theta[:] = state


# Rows of one block of a prediction: the activations of a block stay in the cache, and no copy of the data is made.
BLOCK = 512


def outputs(architecture: Architecture, biases: list, weights: list, X: Any) -> np.ndarray:
    """A^L, (n, n_L), for the rows of X, a block at a time."""
    out = np.empty((X.shape[0], architecture.sizes[-1]), architecture.dtype)
    for start in range(0, X.shape[0], BLOCK):
        a = X[start : start + BLOCK]
        a = a.toarray() if is_sparse(a) else a
        a = a.astype(architecture.dtype, copy=False)
        for l, (b, w) in enumerate(zip(biases, weights, strict=True), start=2):
            z = a @ w.T
            z += b.T
            a = architecture.f(l, z)
        out[start : start + BLOCK] = a
    return out


def _in_place(activation: Activation) -> tuple[Any, Any]:
    """(f, slope) of a layer: f(z, a) writes a = σ(z), slope(z, a, delta) multiplies delta by σ'(z)."""
    if activation.code is None:

        def f(z: np.ndarray, a: np.ndarray) -> None:
            a[...] = activation.f(z)

        def slope(z: np.ndarray, a: np.ndarray, delta: np.ndarray) -> None:
            delta *= activation.f_prime(z)

        return f, slope
    from fastbp import kernels

    code = activation.code
    if code == kernels.SOFTMAX:

        def softmax(z: np.ndarray, a: np.ndarray) -> None:
            kernels.softmax_rows(z.reshape(-1), a.reshape(-1), 0, z.shape[1], z.shape[0], z.shape[1])

        return softmax, None

    def compiled_f(z: np.ndarray, a: np.ndarray) -> None:
        kernels.activate(code, z.reshape(-1), a.reshape(-1), 0, z.size)

    def compiled_slope(z: np.ndarray, a: np.ndarray, delta: np.ndarray) -> None:
        kernels.times_derivative(code, z.reshape(-1), a.reshape(-1), delta.reshape(-1), 0, z.size)

    return compiled_f, compiled_slope
