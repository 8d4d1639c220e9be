"""Backpropagation of whole mini-batches in plain NumPy: what one writes after reading chapter 2."""

import numpy as np

from benchmarks import contenders
from benchmarks.workloads import EXAMPLES, Data, Order, Workload, masks, sample_weights
from fastbp import parameters


def sigmoid(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-z))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


F = {"sigmoid": sigmoid, "relu": lambda z: np.maximum(z, 0), "softmax": softmax}
SLOPE = {"sigmoid": lambda a: a * (1 - a), "relu": lambda a: a > 0}  # σ'(z), from a = σ(z)


class Contender(contenders.Contender):
    label = "NumPy batch"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        self.X, self.Y = np.ascontiguousarray(data.X, dtype), data.one_hot(workload.sizes[-1], dtype)
        self.theta = theta.astype(dtype)
        self.b, self.w = parameters.views(workload.sizes, self.theta)
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for p in (*self.w, *self.b)]
        self.weights = sample_weights(len(data.labels)).astype(dtype) if workload.weighted else None
        self.rng, self.steps = np.random.default_rng(0), 0

    def masks(self, m: int) -> list[np.ndarray]:
        """Dropout's factors, (m, n_l), for each hidden layer of the next mini-batch."""
        share = self.workload.dropout
        if self.checking:
            return [mask[0] for mask in masks(self.workload, self.dtype, self.steps, 1)]
        kept = (self.rng.random((m, n), np.float32) >= share for n in self.workload.sizes[1:-1])
        return [keep.astype(self.dtype) / self.dtype.type(1 - share) for keep in kept]

    def gradient(self, rows: np.ndarray) -> tuple[list, list]:
        """(nabla_w, nabla_b) of the cost, averaged over these examples."""
        workload, m = self.workload, len(rows)
        A, slopes = [self.X[rows]], []
        dropped = self.masks(m) if workload.dropout else None
        for l, (w, b) in enumerate(zip(self.w, self.b, strict=True), start=1):
            A.append(F[workload.output if l == len(self.w) else workload.hidden](A[-1] @ w.T + b.T))
            if l < len(self.w):
                slopes.append(SLOPE[workload.hidden](A[-1]))
                if dropped is not None:
                    A[-1] *= dropped[l - 1]
        delta = A[-1] - self.Y[rows]
        if workload.cost == "quadratic":
            delta = delta * SLOPE[workload.output](A[-1])
        if self.weights is not None:
            delta *= self.weights[rows, np.newaxis]
        nabla_w, nabla_b = [], []
        for l in reversed(range(len(self.w))):
            nabla_w.insert(0, delta.T @ A[l] / m)
            nabla_b.insert(0, delta.sum(axis=0)[:, np.newaxis] / m)
            if l > 0:
                delta = (delta @ self.w[l]) * slopes[l - 1]
                if dropped is not None:
                    delta *= dropped[l - 1]
        return nabla_w, nabla_b

    def run(self, order: Order) -> None:
        eta, decay = self.workload.eta, self.workload.eta * self.workload.lmbda / EXAMPLES
        for rows in self.batches(order):
            nabla_w, nabla_b = self.gradient(rows)
            self.steps += 1
            if self.workload.optimizer == "adam":
                self.adam([*nabla_w, *nabla_b])
                continue
            for w, b, nw, nb in zip(self.w, self.b, nabla_w, nabla_b, strict=True):
                if decay:
                    w *= 1 - decay
                w -= eta * nw
                b -= eta * nb

    def adam(self, nablas: list) -> None:
        """Kingma and Ba (2015), with the constants every library takes."""
        for p, g, (m, v) in zip((*self.w, *self.b), nablas, self.moments, strict=True):
            m += (1 - 0.9) * (g - m)
            v += (1 - 0.999) * (g * g - v)
            p -= self.workload.eta / (1 - 0.9**self.steps) * m / (np.sqrt(v / (1 - 0.999**self.steps)) + 1e-8)

    def parameters(self) -> np.ndarray:
        return self.theta
