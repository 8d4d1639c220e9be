"""The note's `Network`, method by method, and the array interface that grew from it: fit, predict, save.

Someone with the book's code changes one import. What they can see is as it was: the random streams, the printed
lines, lists of plain arrays, methods to override. What happens inside a call of `SGD` is left to the engines.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

# What a network is. Training and engines are loaded where they are first used: `from fastbp import Network` takes 1.1
# times as long as `import numpy`, and 1.5 times with all of them (half a millisecond a dataclass, eight numpy.random).
# tests/test_cache.py holds the list.
from fastbp import activations, checks, data, engines, initializers, parameters
from fastbp import architecture as _architecture
from fastbp.activations import Activation, sigmoid, sigmoid_prime
from fastbp.architecture import Architecture
from fastbp.errors import DivergenceError, divergence_advice

if TYPE_CHECKING:
    from pathlib import Path

    from fastbp.checkpoint import Checkpoint
    from fastbp.history import History
    from fastbp.lbfgs import LBFGS
    from fastbp.optimizers import Optimizer
    from fastbp.pairs import LabelledPairs, StackedPairs
    from fastbp.regularization import Regularization
    from fastbp.schedules import Schedule
    from fastbp.stopping import EarlyStopping

__all__ = ["Network", "load", "sigmoid", "sigmoid_prime"]

Columns = np.ndarray  # (n, 1), or (n, m) for m of them
Pairs = Iterable[tuple[Any, Any]]
Shuffle = Callable[[Any], None]


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

    # The methods that users replace, as they are here: any other in their place is called where the book calls it.
    _own_methods: ClassVar[dict[str, Any]] = {}
    # The sigmoid and its derivative as this class's module has them, unless somebody patches them there.
    _plain_sigmoids: ClassVar[tuple[Any, Any]] = (sigmoid, sigmoid_prime)
    # What a subclass lacks whose __init__ sets the book's four attributes itself, and does not call this one.
    engine = "auto"
    classes_: np.ndarray | None = None
    input_scaling: tuple[str, Any, Any] | None = None
    _rng: "np.random.Generator | None" = None
    _given_shuffle: Shuffle | None = None
    # The lists of the last call of SGD, stacked; the next call on the same lists compares, and takes them up again.
    _training: "StackedPairs | None" = None
    _tests: "LabelledPairs | None" = None

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
        shuffle: Shuffle | None = None,
    ) -> None:
        built = _architecture.build(sizes, hidden, output, cost, neurons, dtype)
        engines.plan.check_engine(engine, built)
        if shuffle is not None and not callable(shuffle):
            raise TypeError(f"shuffle must be a callable that permutes a list in place, got {shuffle!r}")
        if seed is not None:
            self._rng = np.random.default_rng(checks.whole(seed, "seed", least=0))
        self._set_up(built, engine, [], [])
        self._given_shuffle = shuffle
        self._initialize(initializer)

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
        self.input_scaling = None

    def _initialize(self, initializer: str) -> None:
        """Draw first parameters, from NumPy's global state or the network's own generator."""
        source = np.random.standard_normal if self._rng is None else self._rng.standard_normal
        biases, weights = initializers.draw(initializer, self.sizes, source)
        self.biases, self.weights = list(map(self._cast, biases)), list(map(self._cast, weights))

    @functools.cached_property
    def architecture(self) -> Architecture:
        """Sizes, activations, cost and dtype, checked; here for a network that only has the book's `sizes`."""
        return _architecture.build(self.sizes, "sigmoid", "sigmoid", "quadratic", None, "float64")

    @functools.cached_property
    def dtype(self) -> np.dtype:
        return self.architecture.dtype

    def _default_shuffle(self) -> Shuffle:
        return np.random.shuffle

    @property
    def _shuffle(self) -> Shuffle:
        if self._given_shuffle is not None:
            return self._given_shuffle
        return self._default_shuffle() if self._rng is None else self._rng.shuffle

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: without the stacked data; the global shuffles by name, or a copy would have its own."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("_training", "_tests")}
        for name, shuffle in _global_shuffles().items():
            if state.get("_given_shuffle") == shuffle:
                state["_given_shuffle"] = name
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        given = state.get("_given_shuffle")
        if isinstance(given, str):
            state = {**state, "_given_shuffle": _global_shuffles()[given]}
        self.__dict__.update(state)

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

    @np.errstate(under="ignore")
    def feedforward(self, a: Columns) -> Columns:
        """The output a^L, (n_L, 1), if `a`, (n_1, 1), is input; (n_L, m) for m columns at once.

        Raises ValueError for other shapes (a 1-D vector would broadcast to nonsense), NaN and infinity.
        """
        a = self._column(a, 0, "a")
        return self._cast(engines.reference.feedforward(self._effective_architecture(), *self._parameters(), a))

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

        Overridden methods (in a subclass, or on the instance or the class) are called where the book calls them; with
        an update_mini_batch, backprop, cost_derivative or sigmoid of your own that is one example at a time.

        Raises ValueError for empty or unfitting data, DivergenceError when parameters stop being finite.
        """
        from fastbp import bookloop

        epochs = checks.whole(epochs, "epochs", least=0)
        mini_batch_size = checks.whole(mini_batch_size, "mini_batch_size", least=1)
        eta = checks.number(eta, "eta")
        tests = None if test_data is None else data.as_list(test_data, "test_data")
        with bookloop.listed(training_data) as pairs:
            bookloop.run(
                self,
                pairs,
                epochs,
                mini_batch_size,
                eta,
                update=lambda mini_batch: self.update_mini_batch(mini_batch, eta),
                own_steps=self._is_custom("update_mini_batch", "backprop", "cost_derivative"),
                monitor=bookloop.CountCorrect(self, tests),
            )

    def update_mini_batch(self, mini_batch: Pairs, eta: float) -> None:
        """One step of gradient descent on a list of pairs (x, y): θ ← θ - (η/m) Σ ∂C_x/∂θ.

        Raises ValueError for an empty or unfitting list; DivergenceError if a parameter would stop being finite, and
        then leaves them as they were.
        """
        self._descend(mini_batch, eta, decay=0.0)

    def _descend(self, mini_batch: Pairs, eta: float, decay: float) -> None:
        """One step: w ← (1 - η decay) w - (η/m) Σ ∂C_x/∂w and b ← b - (η/m) Σ ∂C_x/∂b; decay is λ/n."""
        pairs = data.as_list(mini_batch, "mini_batch")
        if not pairs:
            raise ValueError("mini_batch is empty; give at least one pair (x, y) (an iterator can be read only once)")
        biases, weights = self.biases, self.weights
        if self._is_custom("backprop", "cost_derivative"):
            nabla_b = [np.zeros(b.shape) for b in biases]
            nabla_w = [np.zeros(w.shape) for w in weights]
            for x, y in pairs:
                delta_nabla_b, delta_nabla_w = self.backprop(x, y)
                nabla_b = [nb + dnb for nb, dnb in zip(nabla_b, delta_nabla_b, strict=True)]
                nabla_w = [nw + dnw for nw, dnw in zip(nabla_w, delta_nabla_w, strict=True)]
        else:
            biases, weights = self._parameters()
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # said once, by DivergenceError
                nabla_b, nabla_w = self._gradient_of_pairs(pairs)
        eta = checks.number(eta, "eta")
        rate, keep = eta / len(pairs), 1 - eta * decay
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            weights = [self._cast(keep * w - rate * nw) for w, nw in zip(weights, nabla_w, strict=True)]
            biases = [self._cast(b - rate * nb) for b, nb in zip(biases, nabla_b, strict=True)]
        if not parameters.all_finite(*biases, *weights):
            raise DivergenceError(None, None, divergence_advice(eta))
        self.biases, self.weights = biases, weights

    def _gradient_of_pairs(self, pairs: list) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The sum over a mini-batch of ∂C/∂b and ∂C/∂w; ValueError for pairs that do not fit."""
        return self._gradient(data.stack_pairs(pairs, self.architecture, "mini_batch"))

    def backprop(self, x: Columns, y: Columns) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(nabla_b, nabla_w), layer by layer like `biases` and `weights`: the gradient of the cost C_x of one example.

        With matrices of columns, x (n_1, m) and y (n_L, m), the *sum* over the m examples, by BP1 to BP4 on whole
        matrices. Computed in the network's engine; "auto" takes plain NumPy here, since a single call would not repay
        the loading of compiled code. Raises ValueError for shapes that do not fit.
        """
        x = self._column(x, 0, "x")
        if self._overrides("cost_derivative") and x.shape[1] == 1:
            return self._by_column(x, y)  # what y may be is between the user's own cost and the user's own data
        y = self._column(y, -1, "y")
        if x.shape[1] != y.shape[1]:
            raise ValueError(f"x has {x.shape[1]} columns and y has {y.shape[1]}; give one target for each input")
        if x.shape[1] == 0:
            raise ValueError(f"x has shape {x.shape}: no column; give at least one example")
        if not self._is_custom("cost_derivative") and (x.shape[1] > 1 or self.engine not in ("auto", "reference")):
            return self._gradient(data.Examples(np.ascontiguousarray(x.T), y.T))
        nabla_b, nabla_w = self._by_column(x[:, :1], y[:, :1])
        for i in range(1, x.shape[1]):
            delta_b, delta_w = self._by_column(x[:, [i]], y[:, [i]])
            nabla_b = [nb + dnb for nb, dnb in zip(nabla_b, delta_b, strict=True)]
            nabla_w = [nw + dnw for nw, dnw in zip(nabla_w, delta_w, strict=True)]
        return nabla_b, nabla_w

    @np.errstate(under="ignore")
    def _by_column(self, x: Columns, y: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """`backprop` of one example as the equations read, with a cost_derivative or sigmoid of the user's own."""
        own = self.cost_derivative if self._is_custom("cost_derivative") else None
        nabla_b, nabla_w = engines.reference.backprop(self._effective_architecture(), *self._parameters(), x, y, own)
        return [self._cast(nb) for nb in nabla_b], [self._cast(nw) for nw in nabla_w]

    @np.errstate(under="ignore")
    def _gradient(self, examples: data.Examples) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The sum over examples of ∂C/∂b and ∂C/∂w, in the network's engine."""
        built = self.architecture
        engines.plan.check_engine(self.engine, built)
        if self.engine == "auto":
            X, Y = examples.X.astype(built.dtype, copy=False), examples.one_hot(built.sizes[-1], built.dtype)
            nabla_b, nabla_w = engines.matrix.backprop(built, *self._parameters(), X, Y)
            return [self._cast(nb) for nb in nabla_b], [self._cast(nw) for nw in nabla_w]
        engine = engines.create(self.engine, built, self._theta(), examples, len(examples))
        return parameters.views(built.sizes, engine.gradient(np.arange(len(examples))))

    def evaluate(self, test_data: Pairs) -> int:
        """The number of pairs (x, label) for which the strongest output is the label's."""
        pairs = data.as_list(test_data, "test_data")
        if self._is_custom("feedforward"):
            return sum(int(np.argmax(self.feedforward(x)) == y) for x, y in pairs)
        if not pairs:
            return 0
        from fastbp.pairs import count_correct

        X, labels = data.stack_labelled(pairs, self.architecture, "test_data")
        return count_correct(engines.matrix.outputs(self.architecture, *self._parameters(), X), labels)

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
        eta: "float | Schedule | None" = None,
        optimizer: "Optimizer | LBFGS | None" = None,
        lmbda: float = 0.0,
        l1: float = 0.0,
        max_norm: float | None = None,
        dropout: float = 0.0,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | str | None = None,
        label_smoothing: float = 0.0,
        validation_data: tuple[Any, ...] | None = None,
        validation_fraction: float | None = None,
        early_stopping: "EarlyStopping | None" = None,
        shuffle: bool = True,
        callbacks: Sequence[Any] = (),
        monitor_training: bool = False,
        monitor_layers: bool = False,
        verbose: Any = None,
        checkpoint: "Checkpoint | None" = None,
        resume: "str | Path | None" = None,
    ) -> "History":
        """Train on the rows of X, (n, n_1), and the targets y, (n,) labels or numbers, or (n, n_L).

        Whole numbers 0 … n_L-1, strings and one-hot rows are labels (`classes_` holds them afterwards); anything else
        are real targets. With one output, whole numbers 0 and 1 are labels if it is a sigmoid.

        eta, the step size of plain SGD; or optimizer=fastbp.Adam(1e-3), say. Either takes a schedule in the place of
        the number: eta=fastbp.Cosine(0.5, 30). optimizer=fastbp.LBFGS() takes all examples at once.

        lmbda: the book's L2 regularisation, for plain SGD W ← (1 - ηλ/n) W at each step, n the number of examples
        trained on. l1: λ of the L1 regularisation, which takes (ηλ/n) sgn(W) from W. max_norm: after each step, every
        neuron's incoming weights are scaled down to this norm if theirs is greater. dropout: the share of hidden units
        left out of each mini-batch, at random, none when the network predicts; the others count 1/(1 - dropout) times.
        The masks' seed is drawn once at the beginning, from the network's generator, or without a seed from NumPy's
        global one.

        sample_weight: (n,) numbers ≥ 0, how many times each example counts: the step is along (1/m) Σ w_x ∂C_x/∂θ,
        with m the number of rows of the mini-batch, as in Keras. class_weight: {label: weight}, 1 for those not
        named, or "balanced" for n/(classes · examples of the label); it multiplies the sample_weight.
        label_smoothing ε: the target of a label is 1 - ε for its output, and ε/n_L more for all (with one output, ε/2).

        validation_data: (X, y) or (X, y, weights), judged after each epoch. Or validation_fraction: that share of the
        examples is held out of the training and judged, of each label its share; the network's own shuffle (its
        seed's, or the global stream that it shuffles with) draws them once, before the first epoch.
        early_stopping: EarlyStopping(monitor="validation_score", patience=5, …) ends the run and restores the best.
        callbacks: objects with a method on_epoch_end(network, record), see `Callback`.
        monitor_training: record cost and score of the examples trained on too; monitor_layers: gradient norms and
        saturation of each layer. See `History`.
        verbose: True prints a line an epoch, False nothing, None shows a progress bar if the standard error is a
        terminal.

        checkpoint=fastbp.Checkpoint(path, every_seconds=60) keeps all of the run in a file, now and then; resume=path
        goes on from such a file to the same bits as if the run had never stopped. It takes the network's parameters
        from there, and sets the random streams to where they were, Python's and NumPy's global ones too. All other
        arguments must be those of the first call; only `epochs`, which counts all epochs, may be greater.

        X in the network's dtype and C order is used as it is, without a copy. The arrays are never changed. Returns the
        History of the epochs. Raises ValueError or TypeError for data that do not fit, before anything is changed;
        DivergenceError when a parameter stops being finite, with the last finite parameters kept; CheckpointError if
        the checkpoint belongs to another run, ModelFileError if it is damaged. A subclass with an
        update_mini_batch, backprop or cost_derivative of its own is refused: fit would not call them.
        """
        from fastbp import fitting
        from fastbp.schedules import Schedule

        for name in ("update_mini_batch", "backprop", "cost_derivative"):
            if self._overrides(name):
                raise TypeError(
                    f"fit computes gradients in the engine and would not call this network's own {name}; train it with "
                    f"SGD, which does"
                )
        step = eta if eta is None or isinstance(eta, Schedule) else checks.number(eta, "eta")
        options = fitting.Options(
            epochs=checks.whole(epochs, "epochs", least=0), batch_size=checks.whole(batch_size, "batch_size", least=1),
            optimizer=fitting.one_optimizer(step, optimizer), lmbda=checks.number(lmbda, "lmbda"),
            l1=checks.number(l1, "l1"), max_norm=None if max_norm is None else checks.number(max_norm, "max_norm"),
            dropout=checks.number(dropout, "dropout"),
            sample_weight=sample_weight, class_weight=class_weight,
            label_smoothing=checks.number(label_smoothing, "label_smoothing"),
            validation_data=validation_data, validation_fraction=validation_fraction, early_stopping=early_stopping,
            shuffle=shuffle, callbacks=callbacks, monitor_training=monitor_training, monitor_layers=monitor_layers,
            verbose=verbose, checkpoint=checkpoint, resume=resume,
        )  # fmt: skip
        return fitting.fit(self, X, y, options)

    def outputs(self, X: Any) -> np.ndarray:
        """A^L, (n, n_L), for the rows of X, (n, n_1). Raises ValueError for shapes that do not fit, NaN, infinity."""
        X = data.as_inputs(X, self.architecture.sizes[0], self.architecture.dtype)
        if not self._overrides("feedforward"):
            return engines.matrix.outputs(self._effective_architecture(), *self._parameters(), X)
        rows = data.dense(X)
        return self._cast(np.vstack([self.feedforward(row.reshape(-1, 1)).reshape(1, -1) for row in rows]))

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

    def save(self, path: "str | Path") -> None:
        """Write the network to one safetensors file; an old file is replaced only when the new one is complete.

        Raises ValueError if it uses functions of the user's own, which a file cannot hold; OSError if writing fails.
        """
        from fastbp import models

        models.save(self, path)

    # --------------------------------------------------------------------------------------------------------
    # Inside
    # --------------------------------------------------------------------------------------------------------

    def _draw_seed(self) -> int:
        """A seed for something random besides the order, from the stream that drew the parameters."""
        if self._rng is not None:
            return int(self._rng.integers(2**63))
        return int(np.random.randint(2**63, dtype=np.uint64))

    def _theta(self) -> np.ndarray:
        """The parameters as one new vector; ValueError if the user's own arrays do not fit, or are not finite."""
        built = self.architecture
        theta = parameters.flatten(built.sizes, self.biases, self.weights, built.dtype)
        if not np.isfinite(theta).all():
            for name, arrays in (("biases", self.biases), ("weights", self.weights)):
                for i, array in enumerate(arrays):
                    data.check_finite(self._cast(np.asarray(array)), f"{name}[{i}]")
        return theta

    def _parameters(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(biases, weights), checked and in the network's dtype: the lists may hold arrays of the user's own."""
        built = self.architecture
        return parameters.checked(built.sizes, self.biases, self.weights, built.dtype)

    def _publish(self, engine: engines.Engine) -> None:
        """New lists of views of a new vector: what a user took from the old ones stays as it was."""
        self.biases, self.weights = parameters.views(self.architecture.sizes, engine.theta())

    def _choose_engine(self, n: int, batch_size: int, density: float) -> str:
        built = self._effective_architecture()
        engines.plan.check_engine(self.engine, built)
        if self.engine != "auto":
            return self.engine
        return engines.plan.make_plan(built, min(batch_size, n), density).engine

    def _start_engine(
        self,
        examples: data.Examples,
        batch_size: int,
        name: str | None = None,
        optimizer: "Optimizer | None" = None,
        regularization: "Regularization | None" = None,
    ) -> engines.Engine:
        built, rows = self._effective_architecture(), min(batch_size, len(examples))
        _architecture.check_batch(built, rows)
        name = name or self._choose_engine(len(examples), batch_size, engines.plan.density(examples.X))
        return engines.create(name, built, self._theta(), examples, rows, optimizer, regularization)

    def _take_up(self, engine: engines.Engine) -> None:
        """Let the engine go on with what a user's own code has put in the place of the parameters it published."""
        theta = self._theta()
        if not np.array_equal(theta, engine.theta()):
            engine.load(theta)

    def _cast(self, array: np.ndarray) -> np.ndarray:
        return array.astype(self.architecture.dtype, copy=False)

    def _column(self, x: Any, layer: int, name: str) -> np.ndarray:
        built = self.architecture
        if type(x) is np.ndarray and x.dtype == built.dtype and x.ndim == 2 and len(x) == built.sizes[layer]:
            data.check_finite(x, name)  # the usual case, without detours: students call feedforward in a loop
            return x
        array = data.as_columns(x, built.sizes[layer], name)
        with np.errstate(over="ignore"):
            columns = self._cast(array)
        data.check_finite(columns, name, before_cast=array)
        return columns

    def _is_custom(self, *methods: str) -> bool:
        """True if one of the methods is not ours, or the module's sigmoid was replaced."""
        return self._sigmoid_is_patched() or self._overrides(*methods)

    def _overrides(self, *methods: str) -> bool:
        """True if a subclass, the instance or a change to the class has put another function in a method's place."""
        own = self._own_methods
        return any(
            name in self.__dict__ or getattr(type(self), name) is not own[name] for name in methods if name in own
        )

    def _module(self) -> ModuleType:
        """The module whose `sigmoid` and `sigmoid_prime` this class computes with; students patch them there."""
        return sys.modules[__name__]

    def _sigmoid_is_patched(self) -> bool:
        module = self._module()
        return (module.sigmoid, module.sigmoid_prime) != self._plain_sigmoids

    def _effective_architecture(self) -> Architecture:
        """The architecture, with a patched sigmoid in the place of the built-in one."""
        if not self._sigmoid_is_patched():
            return self.architecture
        module, built = self._module(), self.architecture
        prime = module.sigmoid_prime
        if prime is activations.sigmoid_prime:

            def prime(z: Any) -> Any:  # the book's is written with whatever its module calls sigmoid
                return module.sigmoid(z) * (1 - module.sigmoid(z))

        own = Activation("sigmoid", module.sigmoid, prime, None, 0, 1)

        def swap(activation: Activation) -> Activation:
            return own if activation.code == 0 else activation

        return replace(
            built,
            activations=tuple(map(swap, built.activations)),
            neurons={key: swap(activation) for key, activation in built.neurons.items()},
        )


Network._own_methods = {
    name: Network.__dict__[name]
    for name in ("feedforward", "evaluate", "cost_derivative", "update_mini_batch", "backprop")
}


def _global_shuffles() -> dict[str, Shuffle]:
    """The shuffles that draw from global streams, by name; loaded here, for NumPy loads numpy.random on first use."""
    import random

    return {"numpy.random.shuffle": np.random.shuffle, "random.shuffle": random.shuffle}


def load(path: "str | Path") -> Network:
    """The network saved in a file by `Network.save`.

    Raises FileNotFoundError, or ModelFileError if the file is damaged or was written by something else.
    """
    from fastbp import models

    return models.load(path)


def _winners(outputs: np.ndarray) -> np.ndarray:
    """The strongest output of each row; with one output, 1 where it passes one half."""
    return (outputs[:, 0] > 0.5).astype(np.int64) if outputs.shape[1] == 1 else np.argmax(outputs, axis=1)
