"""Your own copy of the book's class beside ours: where the two part, by how much, and how fast each is.

Both start from the same seeds and parameters on the same examples. At each mini-batch that is compared, every equation
is held to what went into it in your code, so that a wrong δ is blamed where it arises, and not in all layers below.
"""

import contextlib
import io
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastbp import checks, datasets, retraced
from fastbp.activations import sigmoid, sigmoid_prime
from fastbp.architecture import check_sizes
from fastbp.book import mnist_loader, network, network2
from fastbp.book.owncost import name_of
from fastbp.retraced import Forward, size_of
from fastbp.theirs import TheirCodeError, Theirs, find, locals_at_return, running
from fastbp.verdict import BATCH_SIZE, COMPARED, DECAY, ETA, Difference, Report

# Largest relative difference that counts as rounding, for float64 and for anything shorter.
TOLERANCE, SHORT_TOLERANCE = 1e-8, 1e-3

Pairs = list[tuple[np.ndarray, Any]]


def verify(
    path: str | os.PathLike[str],
    *,
    data: str = "digits",
    hidden: Sequence[int] = (30, 20),
    epochs: int = 3,
    seed: int = 0,
    download: bool = False,
) -> Report:
    """Run the file, which holds a copy of the book's network.py or network2.py, and compare its class with ours.

    data: "digits" or "mnist" (see datasets.load_mnist for where it is looked for, and `download`). hidden: the sizes of
    the hidden layers; two of them, for what is wrong with BP2 may show only from layer to layer. Trains in mini-batches
    of 10. Compares the first parameters, the order of the examples, feedforward and BP1 to BP4 layer by layer, the
    step, the other methods, the accuracies. Random states are left as they were.

    Raises TheirCodeError if the file cannot be run or holds no such class; ValueError for other data, sizes or epochs.
    """
    epochs = checks.whole(epochs, "epochs", least=1)
    training, tests = _read(data, download)
    sizes = list(check_sizes([len(training[0][0]), *hidden, 10]))
    with _random_states_kept():
        return _Comparison(find(path), data, training, tests, sizes, epochs, seed).run()


def _read(data: str, download: bool) -> tuple[Pairs, Pairs]:
    """Training pairs (x, y) and test pairs (x, label)."""
    if data == "mnist":
        training, _, tests = mnist_loader.load_data_wrapper(download=download)
        return training, tests
    if data != "digits":
        raise ValueError(f"verify compares on digits or mnist, got data={data!r}")
    digits = datasets.load_digits()
    X, X_test = (array.astype(np.float64)[:, :, np.newaxis] for array in (digits.X_train, digits.X_test))
    return (
        [(x, mnist_loader.vectorized_result(label)) for x, label in zip(X, digits.y_train.tolist(), strict=True)],
        list(zip(X_test, digits.y_test.tolist(), strict=True)),
    )


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    states = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])


class _Comparison:
    """One run of their SGD, watched from its update_mini_batch and its evaluation; then ours."""

    def __init__(
        self, theirs: Theirs, data: str, training: Pairs, tests: Pairs, sizes: list[int], epochs: int, seed: int
    ) -> None:
        self.theirs, self.training, self.tests, self.sizes = theirs, training, tests, sizes
        self.epochs, self.seed, self.lmbda = epochs, seed, DECAY * len(training)
        self.layers = range(2, len(self.sizes) + 1)
        self.eta, self.with_decay = ETA[theirs.program], theirs.program == "network2"
        self.report = Report(str(theirs.path), theirs.program, data, self.sizes, len(tests), TOLERANCE)
        self.judge = "accuracy" if self.with_decay else "evaluate"
        self.seconds_comparing = 0.0
        self.epoch = self.batch = self.seen = 0
        self.their_counts: list[int] = []

    def run(self) -> Report:
        net = self._build_both()
        self._compare_methods(net)
        states = np.random.get_state(), random.getstate()
        self.orders = _Orders(self.training, *states)
        began = time.perf_counter()
        with running(self.theirs.path):
            self._train(net, list(self.training))
        yours = time.perf_counter() - began - self.seconds_comparing
        self._end_epoch()
        if self.epoch < self.epochs:
            remark = f"your SGD ran {self.epoch} of {self.epochs} epochs through update_mini_batch"
            self._part(Difference("the epochs", remark=remark))
        self.report.shuffle = self.orders.name
        ours, counts = self._train_ours(states)
        self.report.accuracies = list(zip(self.their_counts, counts, strict=False))
        self.report.seconds = yours, ours
        return self.report

    # Theirs

    def _build_both(self) -> Any:
        """Their network, watched; ours, `self.ours`, with the parameters theirs begins with."""
        self._set_seed()
        with running(self.theirs.path):
            self.net = net = self._watched()(list(self.sizes))
            arrays = _parameters(net)
        self._set_seed()
        self.ours = self._our_network(getattr(net, "cost", None))
        self.report.largest = {what: {} for what in ("feedforward", "BP1", "BP2", "BP3", "BP4", "update b", "update w")}
        for name, given, mine in zip(("biases", "weights"), arrays, (self.ours.biases, self.ours.weights), strict=True):
            if [a.shape for a in given] != [a.shape for a in mine]:
                shapes = ", ".join(str(a.shape) for a in given)
                raise TheirCodeError(
                    f"{self.theirs.path}: {name} have shapes {shapes}, where the book's Network({self.sizes}) has "
                    f"{', '.join(str(a.shape) for a in mine)}"
                )
            if any(a.dtype != np.float64 for a in given):
                self.report.tolerance = SHORT_TOLERANCE
        for l in self.layers:
            for name, given, mine in (("b", arrays[0], self.ours.biases), ("w", arrays[1], self.ours.weights)):
                self._see(f"the first {name}", l, given[l - 2], mine[l - 2], "not as the book draws it from this seed")
        self.first = arrays
        return net

    def _compare_methods(self, net: Any) -> None:
        """feedforward, counts and costs of some examples, by their network and ours with its parameters.

        Before training: of saturated outputs the book's own program does not get the cross-entropy right.
        """
        ours = self.ours
        ours.biases, ours.weights = _parameters(net)
        kind, some, tests = self.theirs.kind, self.training[:50], self.tests[:200]
        methods: dict[str, Callable[[Any, Any], Any]] = {
            "feedforward": lambda kind, net: kind.feedforward(net, some[0][0]),
        }
        if self.with_decay:
            methods |= {
                "accuracy(…, convert=True)": lambda kind, net: kind.accuracy(net, some, convert=True),
                "total_cost": lambda kind, net: kind.total_cost(net, some, self.lmbda),
                "total_cost(…, convert=True)": lambda kind, net: kind.total_cost(net, tests, self.lmbda, convert=True),
            }
        for name, call in methods.items():
            if not hasattr(kind, name.partition("(")[0]):
                continue
            with running(self.theirs.path):
                theirs = np.asarray(call(kind, net), np.float64)
            mine = np.asarray(call(type(ours), ours), np.float64)
            size = size_of(theirs, mine) if theirs.shape == mine.shape else np.inf
            if not size <= self.report.tolerance:
                self._part(Difference(f"the method {name}", size=size))

    def _our_network(self, their_cost: Any) -> Any:
        if not self.with_decay:
            return network.Network(self.sizes)
        built_in = {"QuadraticCost": network2.QuadraticCost, "CrossEntropyCost": network2.CrossEntropyCost}
        return network2.Network(self.sizes, built_in.get(name_of(their_cost), their_cost))

    def _set_seed(self) -> None:
        np.random.seed(self.seed)
        random.seed(self.seed)

    def _watched(self) -> type:
        """Their class, with an eye on each step and on each evaluation."""
        watch, kind, judge = self, self.theirs.kind, self.judge

        def update_mini_batch(net: Any, mini_batch: Any, *rest: Any, **options: Any) -> None:
            with watch._comparing():
                mini_batch = list(mini_batch)
                expected = watch._before_update(net, mini_batch)
            kind.update_mini_batch(net, mini_batch, *rest, **options)  # type: ignore[attr-defined]
            with watch._comparing():
                watch._after_update(net, expected)

        def evaluate(net: Any, *arguments: Any, **options: Any) -> Any:
            count = getattr(kind, judge)(net, *arguments, **options)
            with watch._comparing():
                watch._end_epoch(count)
            return count

        return type(kind.__name__, (kind,), {"update_mini_batch": update_mini_batch, judge: evaluate})

    def _train(self, net: Any, pairs: Pairs) -> Any:
        if not self.with_decay:
            return net.SGD(pairs, self.epochs, BATCH_SIZE, self.eta, test_data=self.tests)
        return net.SGD(
            pairs, self.epochs, BATCH_SIZE, self.eta, self.lmbda, evaluation_data=self.tests,
            monitor_evaluation_accuracy=True,
        )  # fmt: skip

    @contextlib.contextmanager
    def _comparing(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds_comparing += time.perf_counter() - began

    def _before_update(self, net: Any, mini_batch: list) -> Any:
        """Compare a mini-batch's examples and gradients; returns what the step should make of the parameters."""
        if self.seen == len(self.training):
            self._end_epoch()  # of a program that evaluates in its own way
        wrong = self.orders.check(self.epoch, self.seen, [pair[0] for pair in mini_batch])
        if wrong:
            self._part(Difference("the order of the examples", self.epoch, self.batch, remark=wrong))
        self.seen += len(mini_batch)
        if self.batch >= COMPARED and self.seen < len(self.training):
            return None
        biases, weights = _parameters(net)
        sums: Any = None
        for x, y in mini_batch:
            (nabla_b, nabla_w), local = locals_at_return(
                self.theirs.kind.backprop,  # type: ignore[attr-defined]
                lambda x=x, y=y: net.backprop(x, y),
            )
            gradients = [np.array(g, np.float64) for g in (*nabla_b, *nabla_w)]
            self._check_shapes(gradients)
            count = len(self.layers)
            forward = retraced.find(local, x, biases, weights, self.report.tolerance)
            self._compare_equations(biases, weights, x, y, gradients[:count], gradients[count:], forward)
            sums = gradients if sums is None else [s + g for s, g in zip(sums, gradients, strict=True)]
        rate, keep = self.eta / len(mini_batch), 1.0
        if self.with_decay:
            keep = 1 - self.eta * self.lmbda / len(self.training)
        before = [*biases, *weights]
        factors = [1.0] * len(biases) + [keep] * len(weights)
        return before, [f * p - rate * s for f, p, s in zip(factors, before, sums, strict=True)]

    def _check_shapes(self, gradients: list[np.ndarray]) -> None:
        expected = [a.shape for a in (*self.ours.biases, *self.ours.weights)]
        found = [g.shape for g in gradients]
        if found != expected:
            raise TheirCodeError(
                f"{self.theirs.path}: backprop returns arrays of shapes {', '.join(map(str, found))}; the book's are "
                f"{', '.join(map(str, expected))}"
            )

    def _compare_equations(
        self, biases: list, weights: list, x: Any, y: Any, nabla_b: list, nabla_w: list, forward: Forward | None
    ) -> None:
        """Hold each equation to what went into it in their code; all are columns (n_l, 1), layer by layer.

        forward: theirs, inside backprop; where it is hidden, the right one stands for it.
        """
        self.report.forward_is_hidden |= forward is None
        activations, zs = forward or retraced.plain_forward(x, biases, weights)
        for l in self.layers if forward else ():
            b, w = biases[l - 2], weights[l - 2]
            self._see("feedforward", l, activations[l - 1], sigmoid(w @ activations[l - 2] + b), "inside backprop")
        L = self.layers[-1]
        delta: Any = None
        for l in reversed(self.layers):
            if l == L:
                expected, equation = self._output_error(zs[-1], activations[-1], y), "BP1"  # BP1
            else:
                expected, equation = (weights[l - 1].T @ delta) * sigmoid_prime(zs[l - 2]), "BP2"  # BP2
            below = activations[l - 2]
            delta = self._their_delta(nabla_b[l - 2], nabla_w[l - 2], below, expected)
            self._see(equation, l, delta, expected)
            self._see("BP3", l, nabla_b[l - 2], delta)  # BP3
            self._see("BP4", l, nabla_w[l - 2], delta @ below.T)  # BP4

    def _output_error(self, z: Any, a: Any, y: Any) -> Any:
        if self.with_decay:
            return self.ours.cost.delta(z, a, y)
        return (a - y) * sigmoid_prime(z)

    def _their_delta(self, nabla_b: np.ndarray, nabla_w: np.ndarray, below: np.ndarray, expected: np.ndarray) -> Any:
        """δ^l in their code, which shows in nabla_b as it is, and in nabla_w = δ aᵀ: the one that is right, if any is.

        If neither is, it is nabla_b: the same wrong δ shows in both, and then BP1 or BP2 is to blame.
        """
        if size_of(nabla_b, expected) <= self.report.tolerance:
            return nabla_b
        squares = float(np.sum(np.square(below)))
        from_weights = nabla_w @ below / squares if squares else nabla_b
        return from_weights if size_of(from_weights, expected) <= self.report.tolerance else nabla_b

    def _after_update(self, net: Any, expected: Any) -> None:
        if expected is not None:
            before, after = expected
            found = [np.array(p, np.float64) for p in (*net.biases, *net.weights)]
            names = [("update b", l) for l in self.layers] + [("update w", l) for l in self.layers]
            for (what, l), old, new, theirs in zip(names, before, after, found, strict=True):
                self._see(what, l, theirs - old, new - old, rounding=self._rounding(old))
        self.batch += 1

    def _end_epoch(self, count: Any = None) -> None:
        """After the last mini-batch of an epoch. network2 asks twice for its accuracy: the second time says nothing."""
        if not self.batch:
            return
        if self.seen != len(self.training):
            left = len(self.training) - self.seen
            remark = f"{self.seen:,} of {len(self.training):,} examples took part; the last mini-batch has {left}"
            self._part(Difference("the mini-batches", self.epoch, self.batch, remark=remark))
        right = self._count_right()
        if count is not None and count != right:
            remark = f"on your network it counts {count} of the test examples right, ours {right}"
            self._part(Difference(f"the method {self.judge}", self.epoch, remark=remark))
        self.their_counts.append(right if count is None else int(count))
        self.epoch, self.batch, self.seen = self.epoch + 1, 0, 0

    def _count_right(self) -> int:
        """How many test examples their network gets right: one at a time, for a tie is decided by the last bit."""
        self.ours.biases, self.ours.weights = _parameters(self.net)
        return sum(int(np.argmax(self.ours.feedforward(x)) == label) for x, label in self.tests)

    def _rounding(self, parameters: np.ndarray) -> float:
        """What rounding does to a step that is taken from these parameters."""
        return 1e-6 * self.report.tolerance * float(np.max(np.abs(parameters), initial=0))

    def _see(self, what: str, layer: int, theirs: Any, ours: Any, remark: str = "", rounding: float = 0.0) -> None:
        """Compare two arrays of one shape."""
        size = size_of(theirs, ours, rounding)
        if what in self.report.largest:
            by_layer = self.report.largest[what]
            by_layer[layer] = max(size, by_layer.get(layer, 0.0))
        if size > self.report.tolerance or np.isnan(size):
            ratio = _ratio(theirs, ours)
            remarks = [remark, f"yours is {ratio:.6g} times ours" if ratio is not None else ""]
            self._part(Difference(what, self.epoch, self.batch, layer, size, "; ".join(filter(None, remarks))))

    def _part(self, difference: Difference) -> None:
        if all(known.what != difference.what for known in self.report.differences):
            self.report.differences.append(difference)

    # Ours

    def _train_ours(self, states: tuple[Any, Any]) -> tuple[float, list[int]]:
        """(seconds, counts) of our SGD from their first parameters, in the order that theirs was found to make."""
        seconds, counts = 0.0, []
        for epochs in (1, self.epochs):  # the first call compiles, or loads what is compiled
            net = self._our_network(self.ours.cost) if self.with_decay else self._our_network(None)
            net._given_shuffle = self.orders.shuffle
            net.biases, net.weights = [b.copy() for b in self.first[0]], [w.copy() for w in self.first[1]]
            np.random.set_state(states[0])
            random.setstate(states[1])
            pairs, remembered, self.epochs = list(self.training), self.epochs, epochs
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                began = time.perf_counter()
                self._train(net, pairs)
                seconds = time.perf_counter() - began
            self.epochs = remembered
            counts = [int(found) for found in re.findall(r": (\d+) / \d+$", printed.getvalue(), re.MULTILINE)]
        return seconds, counts


class _Orders:
    """The orders that the two standard shuffles make of the list, epoch after epoch, beside the one that comes."""

    def __init__(self, training: Pairs, numpy_state: Any, python_state: Any) -> None:
        numpy_stream, python_stream = np.random.RandomState(), random.Random()
        numpy_stream.set_state(numpy_state)
        python_stream.setstate(python_state)
        self.n = len(training)
        self.place = {id(x): i for i, (x, _) in enumerate(training)}
        self.streams = {"random.shuffle": python_stream.shuffle, "np.random.shuffle": numpy_stream.shuffle}
        self.expected = {name: list(range(self.n)) for name in self.streams}
        self.last: list[int] = []
        self.came: list[int] = []
        self.drawn = 0  # epochs

    @property
    def name(self) -> str | None:
        """The shuffle that all has agreed with so far."""
        return next(iter(self.expected), None)

    @property
    def shuffle(self) -> Any:
        """Theirs, as far as it is known."""
        return np.random.shuffle if self.name == "np.random.shuffle" else random.shuffle

    def check(self, epoch: int, start: int, inputs: list) -> str:
        """What is wrong with a mini-batch that begins at place `start` of an epoch; "" if nothing is."""
        if epoch >= self.drawn:
            self.drawn = epoch + 1
            self.last, self.came = self.came, []
            for name, order in self.expected.items():
                self.streams[name](order)
        places = [self.place.get(id(x), -1) for x in inputs]
        self.came += places
        if not self.expected:
            return ""
        end = start + BATCH_SIZE
        still = {name: order for name, order in self.expected.items() if order[start:end] == places}
        self.expected = still
        return "" if still else self._guess(start, places)

    def _guess(self, start: int, places: list[int]) -> str:
        wanted = min(BATCH_SIZE, self.n - start)
        if -1 in places:
            return "it holds copies of the arrays it was given, or others"
        if len(places) != wanted:
            return f"it has {len(places)} examples where ours has {wanted}"
        if places == list(range(start, start + wanted)):
            return "the examples come as they stand in the list: it is not shuffled"
        if places == self.last[start : start + wanted]:
            return "they come as in the epoch before: shuffle at the beginning of each"
        return "neither random.shuffle nor np.random.shuffle makes this order of the list as the epoch before left it"


def _parameters(net: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Copies of (biases, weights)."""
    return [np.array(b) for b in net.biases], [np.array(w) for w in net.weights]


def _ratio(theirs: np.ndarray, ours: np.ndarray) -> float | None:
    """c if theirs is c times ours."""
    squares = float(np.sum(np.square(ours)))
    if not squares:
        return None
    c = float(np.sum(theirs * ours)) / squares
    return c if c and size_of(theirs, c * ours) < 1e-6 else None
