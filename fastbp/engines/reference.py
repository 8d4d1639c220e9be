"""One example at a time, as the equations read: the baseline of every benchmark and the oracle of every test."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastbp import dropout, parameters
from fastbp.activations import sigmoid_prime
from fastbp.architecture import Architecture
from fastbp.data import Examples, is_sparse
from fastbp.optimizers import Optimizer
from fastbp.regularization import Regularization, limit_norms, seed_state, with_seed


def feedforward(architecture: Architecture, biases: list, weights: list, a: np.ndarray) -> np.ndarray:
    """The output columns a^L, (n_L, m), for input columns a^1, (n_1, m)."""
    for l, (b, w) in enumerate(zip(biases, weights, strict=True), start=2):
        a = _on_column(architecture, l, np.dot(w, a) + b)
    return a


def backprop(
    architecture: Architecture,
    biases: list,
    weights: list,
    x: np.ndarray,
    y: np.ndarray,
    cost_derivative: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    masks: Mapping[int, np.ndarray] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(nabla_b, nabla_w), layer by layer, of the cost C_x of one example: columns x (n_1, 1) and y (n_L, 1).

    `cost_derivative(a, y)`, a user's own ∂C/∂a, takes the place of the architecture's cost. `masks` are dropout's:
    masks[l], (n_l, 1), is what the activations of layer l are multiplied by.
    """
    masks = masks or {}
    # 1. Input, and 2. feedforward
    activation = x
    activations, zs, outputs = [x], [], [x]
    for l, (b, w) in enumerate(zip(biases, weights, strict=True), start=2):
        z = np.dot(w, activation) + b
        zs.append(z)
        activation = _on_column(architecture, l, z)
        outputs.append(activation)
        activation = activation * masks[l] if l in masks else activation
        activations.append(activation)
    # 3. Output error
    L = len(architecture.sizes)
    nabla_b: list[Any] = [None] * (L - 1)
    nabla_w: list[Any] = [None] * (L - 1)
    if cost_derivative is not None:
        delta = _error_from(architecture, cost_derivative(activations[-1], y), zs[-1], activations[-1])  # BP1
    elif architecture.cost.outputs is None:
        delta = (activations[-1] - y) * _slope(architecture, L, zs[-1], activations[-1])  # BP1
    else:
        delta = activations[-1] - y  # BP1: σ' cancels
    nabla_b[-1] = delta  # BP3
    nabla_w[-1] = np.dot(delta, activations[-2].T)  # BP4
    # 4. Backpropagate the error, and 5. gradients
    for l in range(L - 1, 1, -1):
        delta = np.dot(weights[l - 1].T, delta) * _slope(architecture, l, zs[l - 2], outputs[l - 1])  # BP2
        delta = delta * masks[l] if l in masks else delta
        nabla_b[l - 2] = delta  # BP3
        nabla_w[l - 2] = np.dot(delta, activations[l - 2].T)  # BP4
    return nabla_b, nabla_w


def _error_from(architecture: Architecture, slope: np.ndarray, z: np.ndarray, a: np.ndarray) -> np.ndarray:
    """δ^L from any ∂C/∂a: times σ'(z), or through softmax's Jacobian ∂a_i/∂z_j = a_i (1[i = j] - a_j)."""
    if architecture.activations[-1].name == "softmax":
        return a * (slope - np.sum(slope * a, axis=0))
    return slope * _slope(architecture, len(architecture.sizes), z, a)


def _elementwise(architecture: Architecture, l: int) -> bool:
    """True where layer l applies one function to every entry, whichever way the array lies."""
    return architecture.activations[l - 2].name != "softmax" and not (
        architecture.neurons and architecture.changed_in(l)
    )


def _on_column(architecture: Architecture, l: int, z: np.ndarray) -> np.ndarray:
    """a^l = σ_l(z^l) of columns; where it matters, the tables work on rows."""
    if _elementwise(architecture, l):
        return architecture.activations[l - 2].f(z)
    return architecture.f(l, z.T).T


def _slope(architecture: Architecture, l: int, z: np.ndarray, a: np.ndarray) -> np.ndarray:
    """σ_l'(z^l) of columns; the book's sigmoid from a, which the feedforward has left behind."""
    if not _elementwise(architecture, l):
        return architecture.f_prime(l, z.T).T
    activation = architecture.activations[l - 2]
    return a * (1 - a) if activation.f_prime is sigmoid_prime else activation.f_prime(z)


class ReferenceEngine:
    """The book's loop: for each mini-batch, backprop of each example, a sum, a step."""

    name = "reference"

    def __init__(
        self,
        architecture: Architecture,
        theta: np.ndarray,
        examples: Examples,
        batch_size: int,
        optimizer: Optimizer,
        regularization: Regularization,
    ) -> None:
        self.architecture, self.batch_size, self.optimizer = architecture, batch_size, optimizer
        self.regularization, self.example_weights = regularization, examples.weights
        self.memory = optimizer.remember(theta.size, architecture.dtype)
        self.biases, self.weights = parameters.views(architecture.sizes, theta.copy())
        self.X = examples.X
        self.Y = examples.one_hot(architecture.sizes[-1], architecture.dtype)

    def _column(self, X: Any, i: int) -> np.ndarray:
        """Row i of X as a column of the network's dtype; compressed rows are written out one at a time."""
        row = X[i].toarray().ravel() if is_sparse(X) else X[i]
        return row.astype(self.architecture.dtype, copy=False).reshape(-1, 1)

    def train(self, order: np.ndarray, eta: np.ndarray, decay: float, step: int = 0) -> None:
        given = self.regularization
        for i, step_size in enumerate(eta):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            masks = dropout.masks(given, step + i, len(rows), self.architecture.sizes, self.architecture.dtype)
            nabla_b, nabla_w = self._sum_over(rows, masks)
            if self.optimizer.code:
                self._step(nabla_b, nabla_w, len(rows), step_size, decay)
            else:
                self._descend(nabla_b, nabla_w, len(rows), step_size, decay)
            if given.max_norm < np.inf:
                limit_norms(self.weights, given.max_norm)

    def _descend(self, nabla_b: list, nabla_w: list, m: int, eta: float, decay: float) -> None:
        """The book's step of gradient descent."""
        dtype, l1 = self.architecture.dtype.type, self.regularization.l1
        rate, keep = dtype(eta / m), dtype(1 - eta * decay)
        if l1:
            nabla_w = [nw + dtype(m * l1) * np.sign(w) for w, nw in zip(self.weights, nabla_w, strict=True)]
        self.weights = [keep * w - rate * nw for w, nw in zip(self.weights, nabla_w, strict=True)]
        self.biases = [b - rate * nb for b, nb in zip(self.biases, nabla_b, strict=True)]

    def _step(self, nabla_b: list, nabla_w: list, m: int, eta: float, decay: float) -> None:
        """One step of an optimizer that looks at all parameters as one vector."""
        dtype, l1 = self.architecture.dtype.type, self.regularization.l1
        mean_b = [nb / m for nb in nabla_b]
        mean_w = [nw / m + dtype(decay) * w for w, nw in zip(self.weights, nabla_w, strict=True)]
        if l1:
            mean_w = [nw + dtype(l1) * np.sign(w) for w, nw in zip(self.weights, mean_w, strict=True)]
        theta = self.theta()
        self.optimizer.step(theta, self._flat(mean_b, mean_w), self.memory, eta)
        self.biases, self.weights = parameters.views(self.architecture.sizes, theta)

    def _sum_over(self, rows: np.ndarray, masks: Mapping[int, np.ndarray]) -> tuple[list, list]:
        nabla_b = [np.zeros_like(b) for b in self.biases]
        nabla_w = [np.zeros_like(w) for w in self.weights]
        for place, i in enumerate(rows):
            delta_b, delta_w = backprop(
                self.architecture,
                self.biases,
                self.weights,
                self._column(self.X, i),
                self.Y[i].reshape(-1, 1),
                masks={l: mask[place].reshape(-1, 1) for l, mask in masks.items()},
            )
            if self.example_weights is not None:
                weight = self.architecture.dtype.type(self.example_weights[i])
                delta_b, delta_w = [weight * dnb for dnb in delta_b], [weight * dnw for dnw in delta_w]
            nabla_b = [nb + dnb for nb, dnb in zip(nabla_b, delta_b, strict=True)]
            nabla_w = [nw + dnw for nw, dnw in zip(nabla_w, delta_w, strict=True)]
        return nabla_b, nabla_w

    @np.errstate(under="ignore")
    def gradient(self, rows: np.ndarray) -> np.ndarray:
        return self._flat(*self._sum_over(rows, {}))

    def prepare(self, examples: Examples) -> Any:
        return examples

    @np.errstate(under="ignore")
    def outputs(self, examples: Examples) -> np.ndarray:
        out = np.empty((len(examples), self.architecture.sizes[-1]), self.architecture.dtype)
        for i in range(len(examples)):
            out[i] = feedforward(self.architecture, self.biases, self.weights, self._column(examples.X, i))[:, 0]
        return out

    def _flat(self, biases: list, weights: list) -> np.ndarray:
        return parameters.flatten(self.architecture.sizes, biases, weights, self.architecture.dtype)

    def theta(self) -> np.ndarray:
        return self._flat(self.biases, self.weights)

    def load(self, theta: np.ndarray) -> None:
        self.biases, self.weights = parameters.views(self.architecture.sizes, theta.copy())

    def is_finite(self) -> bool:
        return all(bool(np.isfinite(p).all()) for p in (*self.biases, *self.weights))

    def save_state(self) -> dict[str, np.ndarray]:
        return {"theta": self.theta(), **self.memory.state(), "seed": seed_state(self.regularization)}

    def restore_state(self, state: dict[str, np.ndarray]) -> None:
        self.load(state["theta"])
        self.memory.restore(state)
        self.regularization = with_seed(self.regularization, state["seed"])
