"""The note's `Network`, method by method, and the array interface that grew from it: fit, predict, save.

Someone with the book's code changes one import. What they can see is as it was: the random streams, the printed
lines, lists of plain arrays, methods to override. What happens inside a call of `SGD` is left to the engines.
"""

import operator
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fastbp import architecture as _architecture
from fastbp import data, engines, initializers, optimizers, parameters
from fastbp.activations import Activation, sigmoid, sigmoid_prime
from fastbp.architecture import Architecture
from fastbp.engines import matrix, plan, reference
from fastbp.history import History
from fastbp.order import Order
from fastbp.training import Trainer

__all__ = ["Network", "load", "sigmoid", "sigmoid_prime"]

Columns = np.ndarray  # (n, 1), or (n, m) for m of them
Pairs = Iterable[tuple[Any, Any]]


class Network:
    """A dense network trained by stochastic gradient descent and backpropagation.

    sizes: neurons per layer, the input first: [784, 30, 10].
    hidden: activation of the hidden layers, a name or (f, f_prime); or a list, one each.
    output: activation of the output layer; softmax only here.
    cost: "quadratic" (any elementwise output), "cross_entropy" (sigmoid), "log_likelihood" (softmax).
    initializer: "normal" (the book's), "scaled" (÷√n_in), "glorot", "he".
    neurons: {(l, j): activation} replaces single neurons; l is the book's layer number, j counts from 0.
    dtype: "float64" or "float32", of every parameter and every computation.
    engine: "auto", "reference", "matrix" or "fused"; `fastbp.plan(net)` tells what auto takes, and why.
    seed: None draws from NumPy's global state, as the note does; an integer makes a generator of the network's own.
    shuffle: a callable that permutes a list in place; by default np.random.shuffle, or the seed's generator.

    Attributes, as in the book: `num_layers`, `sizes`, `biases` [(n_l, 1), …], `weights` [(n_l, n_{l-1}), …]. Both
    lists hold plain arrays: assign to them or into them, the next call sees it; training puts new lists in their
    place, so that `best = net.weights` is a true snapshot.

    Raises ValueError or TypeError that say which argument to change, and to what.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        hidden: Any = "sigmoid",
        output: Any = "sigmoid",
        cost: str = "quadratic",
        initializer: str = "normal",
        neurons: Mapping[tuple[int, int], Any] | None = None,
        dtype: Any = "float64",
        engine: str = "auto",
        seed: int | None = None,
        shuffle: Callable[[Any], None] | None = None,
    ) -> None:
        built = _architecture.build(sizes, hidden, output, cost, neurons, dtype)
        plan.check_engine(engine, built)
        if shuffle is not None and not callable(shuffle):
            raise TypeError(f"shuffle must be a callable that permutes a list in place, got {shuffle!r}")
        self._rng = None if seed is None else np.random.default_rng(seed)
        source = np.random.standard_normal if self._rng is None else self._rng.standard_normal
        biases, weights = initializers.draw(initializer, built.sizes, source)
        self._set_up(built, engine, biases, weights)
        self._shuffle = shuffle or self._default_shuffle()

    def _set_up(self, built: Architecture, engine: str, biases: list, weights: list) -> None:
        self.architecture = built
        self.engine = engine
        self.num_layers = len(built.sizes)
        self.sizes = list(built.sizes)
        self.biases = [b.astype(built.dtype, copy=False) for b in biases]
        self.weights = [w.astype(built.dtype, copy=False) for w in weights]
        # The labels the outputs stand for; None where the outputs are numbers.
        self.classes_ = np.arange(self.sizes[-1]) if self.sizes[-1] > 1 else None
        # ("affine", shift, scale): how raw inputs became X, kept for whoever loads the model.
        self.input_scaling: tuple[str, Any, Any] | None = None

    def _default_shuffle(self) -> Callable[[Any], None]:
        return np.random.shuffle if self._rng is None else self._rng.shuffle

    @property
    def dtype(self) -> np.dtype:
        return self.architecture.dtype

    def __repr__(self) -> str:
        built = self.architecture
        hidden = [activation.name for activation in built.activations[:-1]]
        changed = f", neurons={ {key: f.name for key, f in built.neurons.items()} }" if built.neurons else ""
        return (
            f"{type(self).__name__}({self.sizes}, hidden={hidden}, output={built.activations[-1].name!r}, "
            f"cost={built.cost.name!r}{changed}, dtype={built.dtype.name!r}, engine={self.engine!r})"
        )

    # --------------------------------------------------------------------------------------------------------
    # The book's interface
    # --------------------------------------------------------------------------------------------------------

    def feedforward(self, a: Columns) -> Columns:
        """The output a^L, (n_L, 1), if `a`, (n_1, 1), is input; (n_L, m) for m columns at once.

        Raises ValueError for other shapes (a 1-D vector would broadcast to nonsense), NaN and infinity.
        """
        a = self._column(a, 0, "a")
        return reference.feedforward(self._effective_architecture(), self.biases, self.weights, a)

    def SGD(
        self,
        training_data: Pairs,
        epochs: int,
        mini_batch_size: int,
        eta: float,
        test_data: Pairs | None = None,
    ) -> None:
        """Train by mini-batch stochastic gradient descent, and print a line an epoch.

        training_data: list of (x, y), columns (n_1, 1) and (n_L, 1); shuffled in place before each epoch. Any other
        iterable is read once. test_data: pairs (x, label); after each epoch "Epoch j: correct / n" is printed.
        A last mini-batch that is not full counts with its own length.

        A subclass that overrides update_mini_batch, backprop, cost_derivative, feedforward or evaluate is trained one
        example at a time through its own methods. Raises ValueError for empty or unfitting data, DivergenceError when
        parameters stop being finite.
        """
        epochs = _whole(epochs, "epochs", least=0)
        mini_batch_size = _whole(mini_batch_size, "mini_batch_size", least=1)
        eta = optimizers.SGD(float(eta)).eta
        pairs = training_data if isinstance(training_data, list) else list(training_data)
        tests = None if test_data is None else test_data if isinstance(test_data, list) else list(test_data)
        if self._is_custom("update_mini_batch", "backprop", "cost_derivative"):
            self._sgd_by_methods(pairs, epochs, mini_batch_size, eta, tests)
        else:
            self._sgd_by_engine(pairs, epochs, mini_batch_size, eta, tests)

    def _sgd_by_methods(self, pairs: list, epochs: int, batch_size: int, eta: float, tests: list | None) -> None:
        """The book's loop, through methods a subclass may have overridden."""
        if not pairs:
            raise ValueError(
                "training_data is empty; give at least one pair (x, y) (an iterator can be read only once)"
            )
        for epoch in range(epochs):
            self._shuffle(pairs)
            for start in range(0, len(pairs), batch_size):
                self.update_mini_batch(pairs[start : start + batch_size], eta)
            self._print_epoch(epoch, tests, lambda: self.evaluate(tests or []))

    def _sgd_by_engine(self, pairs: list, epochs: int, batch_size: int, eta: float, tests: list | None) -> None:
        examples = data.stack_pairs(pairs, self.architecture, "training_data")
        engine = self._start_engine(examples, batch_size)
        trainer, order = Trainer(engine, min(batch_size, len(pairs))), Order(self._shuffle, pairs)
        own_evaluate = self._is_custom("evaluate", "feedforward")
        if tests and not own_evaluate:
            X, labels = data.stack_labelled(tests, self.architecture, "test_data")
            prepared = engine.prepare(data.Examples(X))

        def correct() -> int:
            if own_evaluate:
                self._publish(engine)
                return self.evaluate(tests or [])
            return _count_correct(engine.outputs(prepared), labels)

        try:
            for epoch in range(epochs):
                trainer.run_epoch(epoch, order.next(visible=own_evaluate), eta)
                self._print_epoch(epoch, tests, correct)
        finally:  # after an interrupt or a divergence too: what was learned, and the list as far as it was shuffled
            self._publish(engine)
            order.apply()

    @staticmethod
    def _print_epoch(epoch: int, tests: list | None, correct: Callable[[], int]) -> None:
        if tests:
            print(f"Epoch {epoch}: {correct()} / {len(tests)}")
        else:
            print(f"Epoch {epoch} complete")

    def update_mini_batch(self, mini_batch: Pairs, eta: float) -> None:
        """One step of gradient descent on a list of pairs (x, y): θ ← θ - (η/m) Σ ∂C_x/∂θ."""
        pairs = list(mini_batch)
        if self._is_custom("backprop", "cost_derivative"):
            nabla_b = [np.zeros(b.shape) for b in self.biases]
            nabla_w = [np.zeros(w.shape) for w in self.weights]
            for x, y in pairs:
                delta_nabla_b, delta_nabla_w = self.backprop(x, y)
                nabla_b = [nb + dnb for nb, dnb in zip(nabla_b, delta_nabla_b, strict=True)]
                nabla_w = [nw + dnw for nw, dnw in zip(nabla_w, delta_nabla_w, strict=True)]
        else:
            examples = data.stack_pairs(pairs, self.architecture, "mini_batch")
            nabla_b, nabla_w = self._gradient(examples)
        rate = eta / len(pairs)
        self.weights = [self._cast(w - rate * nw) for w, nw in zip(self.weights, nabla_w, strict=True)]
        self.biases = [self._cast(b - rate * nb) for b, nb in zip(self.biases, nabla_b, strict=True)]

    def backprop(self, x: Columns, y: Columns) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(nabla_b, nabla_w), layer by layer like `biases` and `weights`: the gradient of the cost C_x of one example.

        With matrices of columns, x (n_1, m) and y (n_L, m), the *sum* over the m examples, by BP1 to BP4 on whole
        matrices. Computed in the network's engine; "auto" takes plain matrix products here, since a single call
        would not repay the loading of compiled code. Raises ValueError for shapes that do not fit.
        """
        x, y = self._column(x, 0, "x"), self._column(y, -1, "y")
        if x.shape[1] != y.shape[1]:
            raise ValueError(f"x has {x.shape[1]} columns and y has {y.shape[1]}; give one target for each input")
        if self._is_custom("cost_derivative"):
            columns = [
                reference.backprop(
                    self._effective_architecture(),
                    self.biases,
                    self.weights,
                    x[:, [i]],
                    y[:, [i]],
                    self.cost_derivative,
                )
                for i in range(x.shape[1])
            ]
            return tuple([sum(parts) for parts in zip(*nablas, strict=True)] for nablas in zip(*columns, strict=True))  # type: ignore[return-value]
        return self._gradient(data.Examples(np.ascontiguousarray(x.T), y.T))

    def _gradient(self, examples: data.Examples) -> tuple[list[np.ndarray], list[np.ndarray]]:
        built = self.architecture
        if self.engine == "auto":
            X = examples.X.astype(built.dtype, copy=False)
            return matrix.backprop(built, self.biases, self.weights, X, examples.one_hot(self.sizes[-1], built.dtype))
        engine = engines.create(self.engine, built, self._theta(), examples, len(examples))
        return parameters.views(built.sizes, engine.gradient(np.arange(len(examples))))

    def evaluate(self, test_data: Pairs) -> int:
        """The number of pairs (x, label) for which the strongest output is the label's."""
        pairs = list(test_data)
        if self._is_custom("feedforward"):
            return sum(int(np.argmax(self.feedforward(x)) == y) for x, y in pairs)
        if not pairs:
            return 0
        X, labels = data.stack_labelled(pairs, self.architecture, "test_data")
        return _count_correct(matrix.outputs(self.architecture, self.biases, self.weights, X), labels)

    def cost_derivative(self, output_activations: Columns, y: Columns) -> Columns:
        """∂C_x/∂a for the output activations, (n_L, 1); for the quadratic cost, the book's a - y."""
        return self.architecture.cost.derivative(output_activations, y)

    # --------------------------------------------------------------------------------------------------------
    # Arrays: rows are examples
    # --------------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int,
        batch_size: int = 10,
        eta: float | None = None,
        optimizer: optimizers.SGD | None = None,
        lmbda: float = 0.0,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Any] = (),
        verbose: bool | None = None,
    ) -> History:
        """Train on the rows of X, (n, n_1), and the targets y; see `data.as_targets` for what y may be.

        eta, or optimizer=fastbp.SGD(eta): the step size. lmbda: the book's L2 regularisation, W ← (1 - ηλ/n) W at each
        step, n the number of examples. validation_data: (X, y), judged after each epoch. callbacks: objects with a
        method on_epoch_end(network, record). verbose: True prints a line an epoch, False nothing, None shows a
        progress bar if the standard error is a terminal.

        X in the network's dtype and C order is used as it is, without a copy. The arrays are never changed. Returns the
        History of the epochs. Raises ValueError or TypeError for data that do not fit, before anything is changed;
        DivergenceError when a parameter stops being finite, with the last finite parameters kept.
        """
        from fastbp import fitting

        return fitting.fit(
            self, X, y, epochs=_whole(epochs, "epochs", least=0), batch_size=_whole(batch_size, "batch_size", least=1),
            optimizer=fitting.one_optimizer(eta, optimizer), lmbda=lmbda, validation_data=validation_data,
            shuffle=shuffle, callbacks=callbacks, verbose=verbose,
        )  # fmt: skip

    def outputs(self, X: Any) -> np.ndarray:
        """A^L, (n, n_L), for the rows of X, (n, n_1). Raises ValueError for shapes that do not fit, NaN, infinity."""
        X = data.as_inputs(X, self.sizes[0], self.dtype)
        self._theta()  # the arrays may be the user's own: check their shapes
        return matrix.outputs(self.architecture, self.biases, self.weights, X)

    def predict(self, X: Any) -> np.ndarray:
        """Labels, (n,), for the rows of X if the network learned labels (`classes_`); else values, (n, n_L) or (n,)."""
        out = self.outputs(X)
        if self.classes_ is None:
            return out[:, 0] if out.shape[1] == 1 else out
        return self.classes_[_winners(out)]

    def score(self, X: Any, y: Any) -> float:
        """Accuracy in 0 … 1 for labels; R², the share of the targets' variance explained, for real targets."""
        from fastbp import fitting

        return fitting.score(self, X, y)

    def save(self, path: str | Path) -> None:
        """Write the network to one safetensors file; an old file is replaced only when the new one is complete.

        Raises ValueError if it uses functions of the user's own, which a file cannot hold; OSError if writing fails.
        """
        from fastbp import models

        models.save(self, path)

    # --------------------------------------------------------------------------------------------------------
    # Inside
    # --------------------------------------------------------------------------------------------------------

    def _theta(self) -> np.ndarray:
        """The parameters as one new vector; ValueError if the user has put arrays of other shapes in their place."""
        return parameters.flatten(self.sizes, self.biases, self.weights, self.dtype)

    def _publish(self, engine: engines.Engine) -> None:
        """New lists of views of a new vector: what a user took from the old ones stays as it was."""
        self.biases, self.weights = parameters.views(self.sizes, engine.theta())

    def _start_engine(self, examples: data.Examples, batch_size: int) -> engines.Engine:
        name = self.engine
        if name == "auto":
            name = plan.make_plan(self.architecture, batch_size, plan.density(examples.X)).engine
        return engines.create(name, self.architecture, self._theta(), examples, min(batch_size, len(examples)))

    def _cast(self, array: np.ndarray) -> np.ndarray:
        return array.astype(self.dtype, copy=False)

    def _column(self, x: Any, layer: int, name: str) -> np.ndarray:
        columns = self._cast(data.as_columns(x, self.sizes[layer], name))
        data.check_finite(columns, name)
        return columns

    def _is_custom(self, *methods: str) -> bool:
        """True if a subclass or the instance has its own version of a method, or the module's sigmoid was replaced."""
        return self._sigmoid_is_patched() or any(
            name in self.__dict__ or getattr(type(self), name) is not getattr(Network, name) for name in methods
        )

    def _module(self) -> ModuleType:
        """The module whose `sigmoid` and `sigmoid_prime` this class computes with; students patch them there."""
        return sys.modules[__name__]

    def _sigmoid_is_patched(self) -> bool:
        module = self._module()
        return module.sigmoid is not sigmoid or module.sigmoid_prime is not sigmoid_prime

    def _effective_architecture(self) -> Architecture:
        """The architecture, with a patched sigmoid in the place of the built-in one."""
        if not self._sigmoid_is_patched():
            return self.architecture
        from dataclasses import replace

        module, built = self._module(), self.architecture
        own = Activation("sigmoid", module.sigmoid, module.sigmoid_prime, None, 0, 1)

        def swap(activation: Activation) -> Activation:
            return own if activation.code == 0 else activation

        return replace(
            built,
            activations=tuple(map(swap, built.activations)),
            neurons={key: swap(activation) for key, activation in built.neurons.items()},
        )


def load(path: str | Path) -> Network:
    """The network saved in a file by `Network.save`.

    Raises FileNotFoundError, or ModelFileError if the file is damaged or was written by something else.
    """
    from fastbp import models

    return models.load(path)


def _whole(value: Any, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def _winners(outputs: np.ndarray) -> np.ndarray:
    """The strongest output of each row; with one output, 1 where it passes one half."""
    return (outputs[:, 0] > 0.5).astype(np.int64) if outputs.shape[1] == 1 else np.argmax(outputs, axis=1)


def _count_correct(outputs: np.ndarray, labels: list[Any]) -> int:
    return sum(int(x == y) for x, y in zip(np.argmax(outputs, axis=1).tolist(), labels, strict=True))
