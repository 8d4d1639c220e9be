"""The book's training loop: epochs over a list of pairs, in an engine or through methods of the user's own.

Both of the book's programs run it. They differ in the step, for network2 lets the weights decay, and in what they look
at after each epoch, which is a `Monitor`.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, MutableSequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import data, parameters
from fastbp.engines import Engine
from fastbp.errors import DivergenceError, divergence_advice
from fastbp.order import Order
from fastbp.pairs import LabelledPairs, StackedPairs, count_correct, recall
from fastbp.training import Trainer

if TYPE_CHECKING:
    from fastbp.network import Network


class Monitor(ABC):
    """What a program looks at, and prints, after each epoch.

    `methods` names the network's methods that `by_methods` calls. If one of them is a user's own, or the training
    itself runs through the user's methods, by_methods is asked; else by_engine.
    """

    methods: tuple[str, ...] = ()

    @abstractmethod
    def prepare(self, engine: Engine, training: StackedPairs) -> None:
        """Read in, before the first epoch, what by_engine will ask this engine about; ValueError for unfitting data."""

    @abstractmethod
    def by_engine(self, epoch: int, engine: Engine) -> bool:
        """Look at the parameters in the engine; True ends the training."""

    @abstractmethod
    def by_methods(self, epoch: int) -> bool:
        """Look at the network by its own methods; True ends the training."""


class CountCorrect(Monitor):
    """Chapter 1's: "Epoch j: correct / n" for test data, pairs (x, label), and "Epoch j complete" without."""

    def __init__(self, network: "Network", tests: list | None) -> None:
        self.network, self.tests = network, tests
        self.methods = ("evaluate", "feedforward") if tests else ()

    def prepare(self, engine: Engine, training: StackedPairs) -> None:
        if self.tests:
            judged = take_tests(self.network, self.tests, engine, "test_data")
            self.labels, self.inputs = judged.labels, engine.prepare(judged.examples)

    @np.errstate(under="ignore")
    def by_engine(self, epoch: int, engine: Engine) -> bool:
        return self._print(epoch, lambda: count_correct(engine.outputs(self.inputs), self.labels))

    def by_methods(self, epoch: int) -> bool:
        return self._print(epoch, lambda: self.network.evaluate(self.tests or []))

    def _print(self, epoch: int, correct: Callable[[], int]) -> bool:
        if self.tests:
            print(f"Epoch {epoch}: {correct()} / {len(self.tests)}")
        else:
            print(f"Epoch {epoch} complete")
        return False


def take_tests(network: "Network", tests: list, engine: Engine, name: str) -> LabelledPairs:
    """Pairs (x, label) stacked as this engine reads them; those of the network's last call, if they come again."""
    judged, _ = recall(network, "_tests", LabelledPairs, tests, name)
    judged.suit(engine.name, network.architecture)
    network._tests = judged
    return judged


@contextlib.contextmanager
def listed(training_data: Any) -> Iterator[list]:
    """The training data as a list; an array of pairs, or whatever else can be shuffled in place, follows its order."""
    pairs = data.as_list(training_data, "training_data")
    if pairs is training_data:
        yield pairs
        return
    before = list(pairs)
    try:
        yield pairs
    finally:
        place = {id(pair): i for i, pair in enumerate(before)}
        order = [place.get(id(pair), -1) for pair in pairs]
        if len(order) != len(before) or -1 in order:
            pass  # a shuffle of the user's own that did not permute, and was refused
        elif isinstance(training_data, np.ndarray) and training_data.flags.writeable:
            training_data[...] = training_data[order]
        elif isinstance(training_data, MutableSequence):
            for i, pair in enumerate(pairs):
                training_data[i] = pair


def run(
    network: "Network",
    pairs: list,
    epochs: int,
    batch_size: int,
    eta: float,
    *,
    decay: float = 0.0,
    update: Callable[[list], None],
    own_steps: bool,
    monitor: Monitor,
) -> None:
    """Shuffle `pairs` in place, train on them in mini-batches, and let the monitor look, epoch after epoch.

    eta, decay: W ← (1 - η decay) W - (η/m) Σ ∂C/∂W; decay is λ/n. update: the network's update_mini_batch on a list of
    pairs, called for each mini-batch if `own_steps` says that methods of the user's own must take part.

    Raises ValueError for empty or unfitting data, DivergenceError when parameters stop being finite.
    """
    if not pairs:
        raise ValueError("training_data is empty; give at least one pair (x, y) (an iterator can be read only once)")
    if own_steps:
        _run_by_methods(network, pairs, epochs, batch_size, eta, update, monitor)
    else:
        _run_by_engine(network, pairs, epochs, batch_size, eta, decay, monitor)


def _run_by_methods(
    network: "Network",
    pairs: list,
    epochs: int,
    batch_size: int,
    eta: float,
    update: Callable[[list], None],
    monitor: Monitor,
) -> None:
    """The book's loop, through methods a subclass may have overridden."""
    for epoch in range(epochs):
        network._shuffle(pairs)
        for batch, start in enumerate(range(0, len(pairs), batch_size)):
            before = network.biases, network.weights
            try:
                update(pairs[start : start + batch_size])
            except DivergenceError as error:
                raise DivergenceError(epoch, batch, error.advice) from None
            if not parameters.all_finite(*network.biases, *network.weights):
                network.biases, network.weights = before  # whole, unless the user's own step changed them in place
                raise DivergenceError(epoch, batch, divergence_advice(eta))
        if monitor.by_methods(epoch):
            return


def _run_by_engine(
    network: "Network", pairs: list, epochs: int, batch_size: int, eta: float, decay: float, monitor: Monitor
) -> None:
    by_methods = network._is_custom(*monitor.methods)
    training, rows = recall(network, "_training", StackedPairs, pairs, "training_data")
    name = network._choose_engine(len(pairs), batch_size, training.density)

    def start() -> tuple[Engine, Trainer, Order]:
        """From the network's parameters, on the pairs as they are stacked and in the order they stand in."""
        training.suit(name, network.architecture)
        engine = network._start_engine(training.examples, batch_size, name)
        if not by_methods:
            monitor.prepare(engine, training)
        network._training = training
        order = Order(network._shuffle, pairs, training.pairs, rows, compiled=engine.name == "fused")
        return engine, Trainer(engine, min(batch_size, len(training.examples)), decay), order

    engine, trainer, order = start()
    covered = -(-len(pairs) // batch_size) * batch_size  # the book cuts mini-batches by the first length of the list

    def look_again(known: np.ndarray) -> bool:
        """After code of the user's own, which may edit the list and its arrays: start anew if it has done so."""
        nonlocal training, rows, engine, trainer, order
        network._training = training  # their code may have trained on another list meanwhile
        now, rows = recall(network, "_training", StackedPairs, pairs, "training_data")
        if now is training and np.array_equal(rows, known):
            return False
        training = now
        if not published:
            network._publish(engine)
        engine, trainer, order = start()
        return True

    # whether the network holds the engine's parameters, and the list is in the order of the epoch
    published = ordered = False
    try:
        for epoch in range(epochs):
            rows = order.next(visible=by_methods)
            published, ordered = False, by_methods
            if not order.by_index:
                look_again(rows)
            trainer.run_epoch(epoch, rows[:covered], eta)
            if by_methods:
                published = True
                network._publish(engine)
                done = monitor.by_methods(epoch)
                if done or epoch + 1 == epochs:
                    break
                if not look_again(order.rows):
                    network._take_up(engine)
            elif monitor.by_engine(epoch, engine):
                break
    finally:  # after an interrupt or a divergence too: what was learned, and the list as far as it was shuffled
        if not published:
            network._publish(engine)
        if not ordered and order.by_index:  # a shuffle of the user's own has moved the list itself
            order.apply()
            training.left_as(pairs, order.rows)
