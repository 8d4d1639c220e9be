"""How well a network does: its cost and its score on examples, at the end of a training or after each epoch of it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import data, diagnostics, engines, parameters
from fastbp.activations import ACTIVATIONS
from fastbp.architecture import Architecture
from fastbp.engines import matrix

if TYPE_CHECKING:
    from fastbp.network import Network
    from fastbp.run import Run


class Judge:
    """Examples, and how well a network does on them: its cost, and accuracy for labels or R² for real targets."""

    def __init__(
        self, architecture: Architecture, examples: data.Examples, by_label: bool, rows: np.ndarray | None = None
    ) -> None:
        """With `rows`, only those rows of the examples are judged."""
        self.architecture, self.examples, self.by_label, self.rows = architecture, examples, by_label, rows
        Y, labels = examples.one_hot(architecture.sizes[-1], architecture.dtype), examples.labels
        self.Y = Y if rows is None else Y[rows]
        self.labels = labels if rows is None or labels is None else labels[rows]
        weights = examples.weights
        self.weights = weights if rows is None or weights is None else weights[rows]

    @classmethod
    def read(cls, architecture: Architecture, X: Any, y: Any, name: str, classes: Any, weights: Any = None) -> "Judge":
        """A judge of X, (n, n_1), and y as in `fit`, whose labels stand for `classes`; `name` says in errors which."""
        y = data.places(y, classes, f"{name}: y")
        examples, found = data.read_examples(architecture, X, y, f"{name}: ", classes)
        if weights is not None:
            examples = replace(examples, weights=data.as_weights(weights, len(examples), f"{name}: weights"))
        return cls(architecture, examples, by_label=classes is not None and found is not None)

    def judge_network(self, network: "Network") -> tuple[float, float]:
        """(cost, score) of a network of this architecture with its present parameters."""
        linear = linear_output(self.architecture)
        return self.judge(matrix.outputs(linear, *network._parameters(), self.examples.X))

    def judge(self, Z: np.ndarray) -> tuple[float, float]:
        """(cost, score) from the weighted inputs Z^L, (n, n_L): of a saturated output only z still tells the cost.

        The cost is the mean over the examples of C_x times the example's weight, without the terms of the
        regularisation. It is infinite where the numbers are too large for the dtype.
        """
        Z = Z if self.rows is None else Z[self.rows]
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            A = self.architecture.f(len(self.architecture.sizes), Z)
            costs = self.architecture.cost.value(Z, A, self.Y)
            if self.weights is not None:
                costs = self.weights * costs
            return float(np.mean(costs, dtype=np.float64)), self._score(A)

    def score(self, A: np.ndarray) -> float:
        """Accuracy in 0 … 1 if the targets are labels, else R² = 1 - Σ (y - a)²/Σ (y - mean y)², over all outputs.

        With weights, sums and means over the examples are weighted.
        """
        return self._score(A if self.rows is None else A[self.rows])

    def _score(self, A: np.ndarray) -> float:
        if self.by_label and A.shape[1] == 1:
            return self._mean((A > 0.5)[:, 0] == (self.Y > 0.5)[:, 0])
        if self.by_label:
            return self._mean(np.argmax(A, axis=1) == self.labels)
        Y = self.Y.astype(np.float64)
        if self.weights is None:
            residual, total = np.sum(np.square(Y - A)), np.sum(np.square(Y - Y.mean(axis=0)))
        else:
            weights = self.weights[:, np.newaxis]
            mean = np.sum(weights * Y, axis=0) / np.sum(weights)
            residual, total = np.sum(weights * np.square(Y - A)), np.sum(weights * np.square(Y - mean))
        if total == 0:
            return 1.0 if residual == 0 else -np.inf
        return float(1 - residual / total)

    def _mean(self, right: np.ndarray) -> float:
        return float(np.mean(right) if self.weights is None else np.average(right, weights=self.weights))


def linear_output(architecture: Architecture) -> Architecture:
    """The same network with identity neurons in the output layer: its outputs A^L are the other's Z^L."""
    L = len(architecture.sizes)
    return replace(
        architecture,
        activations=(*architecture.activations[:-1], ACTIVATIONS["identity"]),
        neurons={(l, j): neuron for (l, j), neuron in architecture.neurons.items() if l != L},
    )


class _Watch:
    """A judge beside a running engine: a second engine of its kind, which gives Z^L, takes over the parameters.

    The running engine prepares the examples: those it trains on are there already.
    """

    def __init__(self, judge: Judge, running: engines.Engine) -> None:
        self.of = judge
        linear = linear_output(judge.architecture)
        self.engine = engines.create(running.name, linear, running.theta(), judge.examples.rows(0, 1), 1)
        self.prepared = running.prepare(judge.examples)

    @np.errstate(under="ignore")
    def judge(self, running: engines.Engine) -> tuple[float, float]:
        self.engine.load(running.theta())
        return self.of.judge(self.engine.outputs(self.prepared))


class Validation:
    """The monitor of data held out: cost and score after each epoch, by the network's own feedforward if it has one."""

    def __init__(self, judge: Judge, running: engines.Engine, part: str = "validation") -> None:
        self.watch, self.part = _Watch(judge, running), part

    def __call__(self, run: "Run", record: dict[str, Any]) -> dict[str, Any]:
        cost, score = self.watch.judge(run.engine)
        if run.network._overrides("feedforward"):
            run.network._publish(run.engine)
            score = self.watch.of.score(run.network.outputs(self.watch.of.examples.X))
        found = {f"{self.part}_cost": cost, f"{self.part}_score": score}
        if self.part == "training" and "validation_score" in record:
            found["gap"] = score - record["validation_score"]
        return found


class Layers:
    """The monitor of the layers: gradient norms and saturation after each epoch, on a few of the examples."""

    def __init__(self, architecture: Architecture, examples: data.Examples) -> None:
        X = data.dense(examples.X)
        self.architecture, self.X = architecture, X.astype(architecture.dtype, copy=False)
        self.Y = examples.one_hot(architecture.sizes[-1], architecture.dtype)

    def __call__(self, run: "Run", record: dict[str, Any]) -> dict[str, Any]:
        biases, weights = parameters.views(self.architecture.sizes, run.engine.theta())
        return diagnostics.report_on(self.architecture, biases, weights, self.X, self.Y).record()
