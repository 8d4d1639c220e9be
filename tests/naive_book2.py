"""The book's chapter 3 in slow motion: one example at a time, what `network2` must look like from outside.

Method names, draws, the order of the examples, printed lines and returned lists are those of the book's program, with
the early stopping of its Python 3 port. Everything inside is written once more, apart from the package.
"""

import random
from typing import Any

import numpy as np


def sigma(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def unit(label: int, n: int) -> np.ndarray:
    return (np.arange(n) == label).astype(float).reshape(n, 1)


class NaiveQuadratic:
    @staticmethod
    def fn(a: np.ndarray, y: np.ndarray) -> float:
        return ((a - y) ** 2).sum() / 2

    @staticmethod
    def delta(z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (a - y) * sigma(z) * (1 - sigma(z))


class NaiveCrossEntropy:
    @staticmethod
    def fn(a: np.ndarray, y: np.ndarray) -> float:
        with np.errstate(all="ignore"):
            terms = y * np.log(a) + (1 - y) * np.log(1 - a)
        return -np.nan_to_num(terms).sum()

    @staticmethod
    def delta(z: np.ndarray, a: np.ndarray, y: np.ndarray) -> np.ndarray:
        return a - y


class NaiveBook2:
    """Sigmoid neurons; `cost` has fn(a, y) and delta(z, a, y) on columns."""

    def __init__(self, sizes: list[int], cost: Any = NaiveCrossEntropy) -> None:
        self.sizes, self.num_layers, self.cost = sizes, len(sizes), cost
        self.default_weight_initializer()

    def large_weight_initializer(self) -> None:
        self.biases = [np.random.randn(n, 1) for n in self.sizes[1:]]
        self.weights = [np.random.randn(n, below) for below, n in zip(self.sizes, self.sizes[1:], strict=False)]

    def default_weight_initializer(self) -> None:
        self.biases = [np.random.randn(n, 1) for n in self.sizes[1:]]
        self.weights = [
            np.random.randn(n, below) / below**0.5 for below, n in zip(self.sizes, self.sizes[1:], strict=False)
        ]

    def sigma(self, z: Any) -> Any:
        return sigma(z)

    def sigma_prime(self, z: Any) -> Any:
        return self.sigma(z) * (1 - self.sigma(z))

    def feedforward(self, a: np.ndarray) -> np.ndarray:
        for w, b in zip(self.weights, self.biases, strict=True):
            a = self.sigma(w @ a + b)
        return a

    def backprop(self, x: np.ndarray, y: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        outputs, sums = [x], []
        for w, b in zip(self.weights, self.biases, strict=True):
            sums.append(w @ outputs[-1] + b)
            outputs.append(self.sigma(sums[-1]))
        errors = [self.cost.delta(sums[-1], outputs[-1], y)]  # BP1
        for layer in reversed(range(1, self.num_layers - 1)):
            errors.insert(0, self.weights[layer].T @ errors[0] * self.sigma_prime(sums[layer - 1]))  # BP2
        return errors, [error @ a.T for error, a in zip(errors, outputs, strict=False)]  # BP3, BP4

    def update_mini_batch(self, mini_batch: list, eta: float, lmbda: float, n: int) -> None:
        gradients = [self.backprop(x, y) for x, y in mini_batch]
        step, keep, layers = eta / len(mini_batch), 1 - eta * lmbda / n, range(self.num_layers - 1)
        biases = [self.biases[i] - step * sum(nabla_b[i] for nabla_b, _ in gradients) for i in layers]
        weights = [keep * self.weights[i] - step * sum(nabla_w[i] for _, nabla_w in gradients) for i in layers]
        self.biases, self.weights = biases, weights

    def accuracy(self, data: list, convert: bool = False) -> int:
        right = 0
        for x, y in data:
            right += int(np.argmax(self.feedforward(x)) == (np.argmax(y) if convert else y))
        return right

    def total_cost(self, data: list, lmbda: float, convert: bool = False) -> float:
        n = len(data)
        costs = [self.cost.fn(self.feedforward(x), unit(y, self.sizes[-1]) if convert else y) for x, y in data]
        return sum(costs) / n + lmbda / (2 * n) * sum((w**2).sum() for w in self.weights)

    def SGD(
        self,
        training_data: list,
        epochs: int,
        mini_batch_size: int,
        eta: float,
        lmbda: float = 0.0,
        evaluation_data: list | None = None,
        monitor_evaluation_cost: bool = False,
        monitor_evaluation_accuracy: bool = False,
        monitor_training_cost: bool = False,
        monitor_training_accuracy: bool = False,
        early_stopping_n: int = 0,
    ) -> tuple[list, list, list, list]:
        n, tests = len(training_data), evaluation_data or []
        found: tuple[list, list, list, list] = ([], [], [], [])
        best = stale = 0
        for epoch in range(epochs):
            random.shuffle(training_data)
            for first in range(0, n, mini_batch_size):
                self.update_mini_batch(training_data[first : first + mini_batch_size], eta, lmbda, n)
            print(f"Epoch {epoch} training complete")
            latest = None
            if monitor_training_cost:
                found[2].append(self.total_cost(training_data, lmbda))
                print("Cost on training data:", found[2][-1])
            if monitor_training_accuracy:
                latest = self.accuracy(training_data, convert=True)
                found[3].append(latest)
                print("Accuracy on training data:", latest, "/", n)
            if monitor_evaluation_cost:
                found[0].append(self.total_cost(tests, lmbda, convert=True))
                print("Cost on evaluation data:", found[0][-1])
            if monitor_evaluation_accuracy:
                latest = self.accuracy(tests)
                found[1].append(latest)
                print("Accuracy on evaluation data:", self.accuracy(tests), "/", len(tests))
            print()
            if early_stopping_n > 0:
                assert latest is not None
                best, stale = (latest, 0) if latest > best else (best, stale + 1)
                if stale == early_stopping_n:
                    break
        return found
