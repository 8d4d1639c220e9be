"""The book's way in plain NumPy: columns, one example at a time, new arrays at each step. What fastbp replaces."""

import contextlib
import io

import numpy as np

from benchmarks import contenders
from benchmarks.workloads import EXAMPLES, Data, Order, Workload, load_tests
from fastbp import parameters


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class PlainNetwork:
    """Sigmoid layers trained by stochastic gradient descent, example by example."""

    def __init__(self, biases, weights, cross_entropy, decay):
        self.biases, self.weights = biases, weights
        self.cross_entropy, self.decay = cross_entropy, decay

    def feedforward(self, a):
        for w, b in zip(self.weights, self.biases, strict=True):
            a = sigmoid(np.dot(w, a) + b)
        return a

    def train(self, pairs, epochs, batch_size, eta, tests=None):
        for epoch in range(epochs):
            np.random.shuffle(pairs)
            for start in range(0, len(pairs), batch_size):
                self.step(pairs[start : start + batch_size], eta)
            if tests:
                print(f"Epoch {epoch}: {self.count_correct(tests)} / {len(tests)}")

    def count_correct(self, tests):
        return sum(int(np.argmax(self.feedforward(x)) == label) for x, label in tests)

    def step(self, mini_batch, eta):
        sum_b = [np.zeros(b.shape) for b in self.biases]
        sum_w = [np.zeros(w.shape) for w in self.weights]
        for x, y in mini_batch:
            errors, activations = self.errors_of(x, y)
            sum_b = [s + delta for s, delta in zip(sum_b, errors, strict=True)]
            sum_w = [
                s + np.dot(delta, a.transpose()) for s, delta, a in zip(sum_w, errors, activations[:-1], strict=True)
            ]
        rate = eta / len(mini_batch)
        self.weights = [(1 - eta * self.decay) * w - rate * s for w, s in zip(self.weights, sum_w, strict=True)]
        self.biases = [b - rate * s for b, s in zip(self.biases, sum_b, strict=True)]

    def errors_of(self, x, y):
        """The errors delta of every layer but the input, and all activations, for one example."""
        activations = [x]
        for w, b in zip(self.weights, self.biases, strict=True):
            activations.append(sigmoid(np.dot(w, activations[-1]) + b))
        a = activations[-1]
        errors = [a - y if self.cross_entropy else (a - y) * a * (1 - a)]
        for w, a in zip(self.weights[:0:-1], activations[-2:0:-1], strict=True):
            errors.insert(0, np.dot(w.transpose(), errors[0]) * a * (1 - a))
        return errors, activations


class Contender(contenders.Contender):
    label = "per-example NumPy"

    def refusal(self, workload: Workload, dtype: np.dtype) -> str:
        if (workload.hidden, workload.output, workload.optimizer) != ("sigmoid", "sigmoid", "sgd"):
            return "the book's code knows sigmoid layers and SGD"
        if workload.dropout or workload.weighted:
            return "the book's code knows neither dropout nor weights"
        return "" if dtype == np.float64 else "the book's code computes in float64"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        self.pairs, self.tests = as_pairs(workload, data)
        biases, weights = parameters.views(workload.sizes, theta.copy())
        self.net = PlainNetwork(biases, weights, workload.cost == "cross_entropy", workload.lmbda / EXAMPLES)

    def run(self, order: Order) -> None:
        workload = self.workload
        np.random.seed(order.seed)
        with contextlib.redirect_stdout(io.StringIO()):
            self.net.train(self.pairs[: order.n], order.epochs, workload.batch_size, workload.eta, self.tests)

    def parameters(self) -> np.ndarray:
        return parameters.flatten(self.workload.sizes, self.net.biases, self.net.weights, self.dtype)


def as_pairs(workload: Workload, data: Data) -> tuple[list, list | None]:
    """The book's training list of columns, float32 pixels as its loader has them; and its test list if that is used."""
    columns = data.X[:, :, np.newaxis]
    targets = data.one_hot(workload.sizes[-1], np.dtype(np.float64))[:, :, np.newaxis]
    tests = None
    if workload.book:
        X, labels, _ = load_tests()
        tests = list(zip(X[:, :, np.newaxis], labels, strict=True))
    return list(zip(columns, targets, strict=True)), tests
