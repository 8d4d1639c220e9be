"""The book's `network2.py`: change `import network2` to `from fastbp.book import network2`.

Chapter 3's network: the cross-entropy, weights that decay, a better start, costs and accuracies epoch by epoch. Inside
it is `fastbp.Network`; `sigmoid`, `sigmoid_prime` and `vectorized_result` can be replaced here, in this module.
"""

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fastbp import architecture as _architecture
from fastbp import bookloop, checks, data, parameters
from fastbp import network as _network
from fastbp.activations import sigmoid
from fastbp.architecture import Architecture
from fastbp.book import jsonfile, monitor
from fastbp.book.owncost import OwnCost, as_number, name_of, own_cost
from fastbp.costs import COSTS, Cost
from fastbp.engines import matrix, plan, reference
from fastbp.errors import ModelFileError
from fastbp.history import History
from fastbp.judging import linear_output
from fastbp.pairs import count_correct

__all__ = [
    "CrossEntropyCost",
    "Network",
    "QuadraticCost",
    "load",
    "sigmoid",
    "sigmoid_prime",
    "vectorized_result",
]

Columns = np.ndarray  # (n, 1)
Pairs = Iterable[tuple[Any, Any]]


def sigmoid_prime(z: Any) -> Any:
    """σ'(z) = σ(z) (1 - σ(z)), elementwise, with what this module calls sigmoid."""
    s = sigmoid(z)
    return s * (1 - s)


def vectorized_result(j: int) -> Columns:
    """The desired output for the digit j: a (10, 1) column of float64, 1.0 in place j and 0.0 elsewhere."""
    e = np.zeros((10, 1))
    e[j] = 1.0
    return e


class QuadraticCost:
    """C = ½ |a - y|², for one example: z, a, y are columns (n_L, 1)."""

    @staticmethod
    def fn(a: Columns, y: Columns) -> float:
        return 0.5 * float(np.sum(np.square(np.subtract(a, y))))

    @staticmethod
    def delta(z: Columns, a: Columns, y: Columns) -> Columns:
        return (a - y) * sigmoid_prime(z)  # BP1


class CrossEntropyCost:
    """C = -Σ y ln a + (1 - y) ln(1 - a), for one example: z, a, y are columns (n_L, 1)."""

    @staticmethod
    def fn(a: Columns, y: Columns) -> float:
        """From outputs alone: 0 ln 0 counts as 0, and where the cost is infinite the largest number stands for it.

        `total_cost` and the monitored costs are computed from z, and are right for saturated outputs too.
        """
        with np.errstate(all="ignore"):
            each = -np.multiply(y, np.log(a)) - np.subtract(1, y) * np.log(np.subtract(1, a))
            return float(np.sum(np.nan_to_num(each)))

    @staticmethod
    def delta(z: Columns, a: Columns, y: Columns) -> Columns:
        return a - y  # BP1: σ' cancels


class _BuiltIn(NamedTuple):
    """A cost of this module: its class, the formula the engines know, and its functions as they are here."""

    kind: Any
    formula: Cost
    fn: Any
    delta: Any


# By the names that files hold.
_BUILT_IN = {
    kind.__name__: _BuiltIn(kind, COSTS[formula], kind.fn, kind.delta)
    for kind, formula in ((QuadraticCost, "quadratic"), (CrossEntropyCost, "cross_entropy"))
}
_vectorized_result = vectorized_result


def _declared(cost: Any) -> Cost:
    """The cost as the engines take costs: a formula they know, unless somebody changed it; TypeError if it is none."""
    ours = _BUILT_IN.get(name_of(cost))
    if ours is None or ours.kind not in (cost, type(cost)) or cost.fn is not ours.fn or cost.delta is not ours.delta:
        return own_cost(cost)
    return ours.formula


class Network(_network.Network):
    """The book's network of chapter 3: sigmoid neurons, a cost of your choice.

    sizes: neurons per layer, the input first: [784, 30, 10].
    cost: CrossEntropyCost, QuadraticCost, or a class or object of your own with fn(a, y), the cost of one example, and
    delta(z, a, y), the error of the output layer; z, a, y are columns (n_L, 1). `net.cost = …` takes effect too.
    dtype, engine, seed: as for fastbp.Network; shuffle: by default Python's random.shuffle.

    Attributes: `num_layers`, `sizes`, `biases`, `weights`, `cost`. The first parameters are drawn by
    `default_weight_initializer`. `fit`, `predict` and `score` work as for fastbp.Network, with the built-in costs.
    """

    cost: Any = CrossEntropyCost
    _plain_sigmoids: ClassVar[tuple[Any, Any]] = (sigmoid, sigmoid_prime)

    def __init__(
        self,
        sizes: Sequence[int],
        cost: Any = CrossEntropyCost,
        *,
        dtype: Any = "float64",
        engine: str = "auto",
        seed: int | None = None,
        shuffle: Callable[[Any], None] | None = None,
    ) -> None:
        self.cost = cost
        super().__init__(sizes, dtype=dtype, engine=engine, seed=seed, shuffle=shuffle)

    def _initialize(self, initializer: str) -> None:
        plan.check_engine(self.engine, self.architecture)  # with the cost, which may be the user's own
        self.default_weight_initializer()

    def _default_shuffle(self) -> Callable[[Any], None]:
        return random.shuffle

    def _module(self) -> ModuleType:
        return sys.modules[__name__]

    # --------------------------------------------------------------------------------------------------------
    # The book's interface
    # --------------------------------------------------------------------------------------------------------

    def default_weight_initializer(self) -> None:
        """Draw biases from N(0, 1) and weights from N(0, 1/n_in), n_in the number of inputs of the neuron."""
        super()._initialize("normal")
        self.weights = [w / np.sqrt(w.shape[1]) for w in self.weights]

    def large_weight_initializer(self) -> None:
        """Draw biases and weights from N(0, 1), as in chapter 1."""
        super()._initialize("normal")

    def SGD(  # type: ignore[override]
        self,
        training_data: Pairs,
        epochs: int,
        mini_batch_size: int,
        eta: float,
        lmbda: float = 0.0,
        evaluation_data: Pairs | None = None,
        monitor_evaluation_cost: bool = False,
        monitor_evaluation_accuracy: bool = False,
        monitor_training_cost: bool = False,
        monitor_training_accuracy: bool = False,
        early_stopping_n: int = 0,
    ) -> tuple[list[float], list[int], list[float], list[int]]:
        """Train by mini-batch stochastic gradient descent; weights decay by (1 - η λ/n) at each step.

        training_data: list of (x, y), columns (n_1, 1) and (n_L, 1); shuffled in place before each epoch. Any other
        iterable is read once. evaluation_data: pairs (x, label). n is the number of training examples; the last
        mini-batch counts with its own length.

        Returns the lists (evaluation_cost, evaluation_accuracy, training_cost, training_accuracy), one entry an epoch,
        empty unless monitored. Costs are means over the data with the term (λ/2n) Σ w², n the length of those data;
        accuracies are counts. early_stopping_n: end after so many epochs without a better accuracy (on the evaluation
        data if that is monitored, else on the training data); 0 runs all epochs.

        Methods and costs of your own are called where the book calls them. Raises ValueError for empty or unfitting
        data, DivergenceError when parameters stop being finite.
        """
        epochs = checks.whole(epochs, "epochs", least=0)
        mini_batch_size = checks.whole(mini_batch_size, "mini_batch_size", least=1)
        stop_after = checks.whole(early_stopping_n, "early_stopping_n", least=0)
        eta, lmbda = checks.number(eta, "eta"), checks.number(lmbda, "lmbda")
        evaluation = None if evaluation_data is None else data.as_list(evaluation_data, "evaluation_data")
        flags = {
            ("evaluation", "cost"): monitor_evaluation_cost,
            ("evaluation", "accuracy"): monitor_evaluation_accuracy,
            ("training", "cost"): monitor_training_cost,
            ("training", "accuracy"): monitor_training_accuracy,
        }
        with bookloop.listed(training_data) as pairs:
            n = len(pairs)
            watch = monitor.Monitor(self, pairs, evaluation, lmbda, flags, stop_after)
            bookloop.run(
                self,
                pairs,
                epochs,
                mini_batch_size,
                eta,
                decay=lmbda / max(n, 1),
                update=lambda mini_batch: self.update_mini_batch(mini_batch, eta, lmbda, n),
                own_steps=self._has_own_cost() or self._is_custom("update_mini_batch", "backprop"),
                monitor=watch,
            )
        return tuple(watch.found[measure] for measure in flags)  # type: ignore[return-value]

    def update_mini_batch(self, mini_batch: Pairs, eta: float, lmbda: float, n: int) -> None:  # type: ignore[override]
        """One step on a list of pairs (x, y): w ← (1 - η λ/n) w - (η/m) Σ ∂C_x/∂w, b ← b - (η/m) Σ ∂C_x/∂b.

        Raises ValueError for an empty or unfitting list; DivergenceError if a parameter would stop being finite, and
        then leaves them as they were.
        """
        n = checks.whole(n, "n", least=1)
        self._descend(mini_batch, eta, decay=checks.number(lmbda, "lmbda") / n)

    def backprop(self, x: Columns, y: Columns) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(nabla_b, nabla_w), layer by layer like `biases` and `weights`: the gradient of the cost C_x of one example.

        With matrices of columns, x (n_1, m) and y (n_L, m), the *sum* over the m examples.
        """
        if not self._has_own_cost():
            return super().backprop(x, y)
        x = self._column(x, 0, "x")
        if x.shape[1] == 1:
            return self._by_own_cost(x.T, [y])
        y = self._column(y, -1, "y")
        if x.shape[1] != y.shape[1] or x.shape[1] == 0:
            raise ValueError(f"x has {x.shape[1]} columns and y has {y.shape[1]}; give one target for each input")
        return self._by_own_cost(x.T, [y[:, [i]] for i in range(y.shape[1])])

    def accuracy(self, data: Pairs, convert: bool = False) -> int:
        """The number of pairs for which the strongest output is the right one.

        convert=False for pairs (x, label), as in validation and test data; True for pairs (x, y) with columns y
        (n_L, 1), as in training data: there the largest entry tells.
        """
        pairs = _as_list(data)
        if self._is_custom("feedforward"):
            wanted = [np.argmax(y) if convert else y for _, y in pairs]
            return sum(int(np.argmax(self.feedforward(x)) == y) for (x, _), y in zip(pairs, wanted, strict=True))
        if not pairs:
            return 0
        X, wanted = _stack_labelled(pairs, self.architecture) if not convert else self._stack(pairs)
        if convert:
            wanted = [int(np.argmax(y)) for y in wanted]
        return count_correct(self._outputs(self._weighted_inputs(X)), wanted)

    @np.errstate(under="ignore")
    def total_cost(self, data: Pairs, lmbda: float, convert: bool = False) -> float:
        """C = (1/n) Σ C_x + (λ/2n) Σ w² over these n examples.

        convert=False for pairs (x, y) with columns y, as in training data; True for pairs (x, label), as in validation
        and test data: the reverse of `accuracy`. Raises ValueError for empty or unfitting data.
        """
        pairs, lmbda = _as_list(data), checks.number(lmbda, "lmbda")
        if not pairs:
            raise ValueError("data is empty; give at least one pair (x, y) (an iterator can be read only once)")
        if self._is_custom("feedforward"):
            name, targets = name_of(self.cost), [y for _, y in pairs]
            if convert:
                targets = list(self.targets_of(targets)[:, :, np.newaxis])
            costs = [self.cost.fn(self.feedforward(x), y) for (x, _), y in zip(pairs, targets, strict=True)]
            values = np.array([as_number(value, name) for value in costs])
        else:
            X, Y = self._stack(pairs, convert)
            Z = self._weighted_inputs(X)
            values = self.architecture.cost.value(Z, self._outputs(Z), Y)
        return monitor.regularised(values, self._parameters()[1], lmbda)

    def save(self, filename: str | Path) -> None:
        """Write sizes, weights, biases and the name of the cost to a JSON file, as the book's program does.

        An old file is replaced only when the new one is complete. Raises ValueError for parameters that are not
        finite, OSError if writing fails.
        """
        sizes = list(self.architecture.sizes)
        biases, weights = parameters.views(sizes, self._theta())
        jsonfile.write(filename, jsonfile.Contents(sizes, biases, weights, name_of(self.cost)))

    def fit(self, X: Any, y: Any, **options: Any) -> History:
        """As `fastbp.Network.fit`, with the built-in costs; TypeError for a cost of your own, which SGD does call."""
        if self._has_own_cost():
            raise TypeError(
                f"fit computes gradients in the engine and would not call {name_of(self.cost)}; train this network "
                f"with SGD, which does"
            )
        return super().fit(X, y, **options)

    # --------------------------------------------------------------------------------------------------------
    # Inside
    # --------------------------------------------------------------------------------------------------------

    @property
    def architecture(self) -> Architecture:
        """Sizes, activations and dtype, with the cost that `cost` is at this moment."""
        if "_built" not in self.__dict__:  # a subclass that sets the book's attributes itself
            self._built = _architecture.build(self.sizes, "sigmoid", "sigmoid", "cross_entropy", None, "float64")
        declared = _declared(self.cost)
        if self._built.cost is not declared and self._built.cost != declared:
            self._built = replace(self._built, cost=declared)
        return self._built

    @architecture.setter
    def architecture(self, built: Architecture) -> None:
        self._built = built

    def _has_own_cost(self) -> bool:
        return isinstance(self.architecture.cost, OwnCost)

    @np.errstate(under="ignore")
    def _by_column(self, x: Columns, y: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """`backprop` of one example as the equations read, with the module's sigmoid."""
        nabla_b, nabla_w = reference.backprop(self._effective_architecture(), *self._parameters(), x, y)
        return [self._cast(nb) for nb in nabla_b], [self._cast(nw) for nw in nabla_w]

    def _by_own_cost(self, X: np.ndarray, targets: list) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The sum of the gradients over the rows of X, (m, n_1), each with a target as the user's cost takes them."""
        X = X.astype(self.dtype, copy=False)
        nabla_b, nabla_w = matrix.backprop(self._effective_architecture(), *self._parameters(), X, targets)  # type: ignore[arg-type]
        return [self._cast(nb) for nb in nabla_b], [self._cast(nw) for nw in nabla_w]

    def _gradient_of_pairs(self, pairs: list) -> tuple[list[np.ndarray], list[np.ndarray]]:
        if not self._has_own_cost():
            return super()._gradient_of_pairs(pairs)
        return self._by_own_cost(*data.stack_inputs(pairs, self.architecture, "mini_batch"))

    def _stack(self, pairs: list, convert: bool = False) -> tuple[np.ndarray, Any]:
        """Pairs as X, (n, n_1), and targets: rows (n, n_L), or a list of the user's own for the user's own cost."""
        built = self.architecture
        if convert:
            X, labels = _stack_labelled(pairs, built)
            return X, self.targets_of(labels)
        if self._has_own_cost():
            return data.stack_inputs(pairs, built, "data")
        examples = data.stack_pairs(pairs, built, "data")
        return examples.X, examples.one_hot(built.sizes[-1], built.dtype)

    def targets_of(self, labels: list) -> np.ndarray:
        """Labels as rows of targets, (n, n_L), by this module's vectorized_result if somebody has replaced it."""
        n_out, convert = self.sizes[-1], self._module().vectorized_result
        if convert is _vectorized_result:
            places = data.as_labels(data.as_real_array(labels, "label"), n_out, "label")
            return np.eye(n_out, dtype=self.dtype)[places]
        return data.stack_columns([convert(label) for label in labels], n_out, "vectorized_result(label)")

    def _weighted_inputs(self, X: np.ndarray) -> np.ndarray:
        """Z^L, (n, n_L), for the rows of X."""
        return matrix.outputs(linear_output(self.architecture), *self._parameters(), X)

    @np.errstate(under="ignore")
    def _outputs(self, Z: np.ndarray) -> np.ndarray:
        """A^L from Z^L, both (n, n_L)."""
        return self.architecture.f(len(self.sizes), Z)


Network._own_methods = {
    name: getattr(Network, name) for name in ("feedforward", "accuracy", "total_cost", "update_mini_batch", "backprop")
}


# In methods whose argument is called data, as in the book.
_as_list = partial(data.as_list, name="data")
_stack_labelled = partial(data.stack_labelled, name="data")


def load(filename: str | Path, cost: Any = None) -> Network:
    """The network in a file that `Network.save`, or the book's own program, has written.

    cost: the cost to give it; needed where the file names one of your own, for a file holds names, not functions.
    First weights are drawn and replaced, as in the book, so that random draws afterwards are the same.

    Raises FileNotFoundError, or ModelFileError if the file is damaged or was written by something else.
    """
    contents = jsonfile.read(filename)
    if cost is None and contents.cost not in _BUILT_IN:
        raise ModelFileError(
            f"cannot load {str(filename)!r}: its cost {contents.cost[:80]!r} is none of {', '.join(_BUILT_IN)}; if it "
            f"is yours, give it: load(filename, cost=…)"
        )
    net = Network(contents.sizes, _BUILT_IN[contents.cost].kind if cost is None else cost)
    net.biases, net.weights = contents.biases, contents.weights
    return net
