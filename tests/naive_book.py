"""The book's network in slow motion: one example at a time, from the equations; what `SGD` must look like from outside.

Method names, random draws, order of the examples and printed lines are those of the book's program, so that a test can
change the same method here and there. Everything inside is written once more, apart from the package.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


class NaiveBook:
    """Sigmoid neurons, quadratic cost. `shuffle` permutes a list in place."""

    def __init__(self, sizes: list[int], shuffle: Callable[[list], None] = np.random.shuffle) -> None:
        self.sizes, self.num_layers, self.shuffle = sizes, len(sizes), shuffle
        self.biases, self.weights = [], []
        for n in sizes[1:]:  # all biases are drawn before the first weight
            self.biases.append(np.random.randn(n, 1))
        for below, n in zip(sizes, sizes[1:], strict=False):
            self.weights.append(np.random.randn(n, below))

    def sigma(self, z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    def sigma_prime(self, z: Any) -> Any:
        return self.sigma(z) * (1 - self.sigma(z))

    def feedforward(self, a: np.ndarray) -> np.ndarray:
        for layer in range(self.num_layers - 1):
            a = self.sigma(self.weights[layer] @ a + self.biases[layer])
        return a

    def cost_derivative(self, output_activations: np.ndarray, y: Any) -> np.ndarray:
        return output_activations - y

    def backprop(self, x: np.ndarray, y: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        a, passed = x, []
        for layer in range(self.num_layers - 1):
            z = self.weights[layer] @ a + self.biases[layer]
            passed.append((a, z))  # what came into the layer, and what it made of it
            a = self.sigma(z)
        slope = self.cost_derivative(a, y)  # ∂C/∂a of the layer in hand
        nabla_b: list[np.ndarray] = []
        nabla_w: list[np.ndarray] = []
        for layer in reversed(range(self.num_layers - 1)):
            below, z = passed[layer]
            delta = slope * self.sigma_prime(z)  # BP1, then BP2
            nabla_b.insert(0, delta)  # BP3
            nabla_w.insert(0, delta @ below.T)  # BP4
            slope = self.weights[layer].T @ delta
        return nabla_b, nabla_w

    def update_mini_batch(self, mini_batch: list, eta: float) -> None:
        gradients = [self.backprop(x, y) for x, y in mini_batch]
        step = eta / len(mini_batch)
        layers = range(self.num_layers - 1)
        self.biases = [self.biases[i] - step * sum(nabla_b[i] for nabla_b, _ in gradients) for i in layers]
        self.weights = [self.weights[i] - step * sum(nabla_w[i] for _, nabla_w in gradients) for i in layers]

    def evaluate(self, test_data: list) -> int:
        return sum(int(np.argmax(self.feedforward(x)) == label) for x, label in test_data)

    def SGD(
        self, training_data: list, epochs: int, mini_batch_size: int, eta: float, test_data: list | None = None
    ) -> None:
        n = len(training_data)
        for epoch in range(epochs):
            self.shuffle(training_data)
            for first in range(0, n, mini_batch_size):
                self.update_mini_batch(training_data[first : first + mini_batch_size], eta)
            if not test_data:
                print(f"Epoch {epoch} complete")
                continue
            print(f"Epoch {epoch}: {self.evaluate(test_data)} / {len(test_data)}")
