"""What network2's SGD looks at after each epoch: costs and accuracies, and whether to stop early."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastbp import bookloop, engines, parameters
from fastbp.engines import Engine
from fastbp.judging import linear_output
from fastbp.pairs import StackedPairs, count_correct

if TYPE_CHECKING:
    from fastbp.book.network2 import Network

Number = int | float
# What can be monitored, in the order in which it is printed.
MEASURES = (("training", "cost"), ("training", "accuracy"), ("evaluation", "cost"), ("evaluation", "accuracy"))


class Judged(NamedTuple):
    """Examples in the form the engine reads, their targets as rows (m, n_L), and the place of the largest in each."""

    inputs: Any
    Y: np.ndarray
    labels: list[Any]


class Monitor(bookloop.Monitor):
    """Measures costs and accuracies after each epoch, prints them, and keeps them in `found`, a list for each.

    flags: which of MEASURES are wanted. stop_after: the number of epochs without a better accuracy that ends the
    training, 0 for none; it is the accuracy on the evaluation data if that is monitored, else on the training data.
    """

    def __init__(
        self,
        network: "Network",
        training: list,
        evaluation: list | None,
        lmbda: float,
        flags: dict[tuple[str, str], bool],
        stop_after: int,
    ) -> None:
        self.network, self.lmbda, self.stop_after = network, lmbda, stop_after
        self.wanted = [measure for measure in MEASURES if flags[measure]]
        self.found: dict[tuple[str, str], list[Number]] = {measure: [] for measure in MEASURES}
        self.pairs = {"training": training, "evaluation": evaluation or []}
        for on, what in self.wanted:
            if on == "evaluation" and not evaluation:
                raise ValueError(
                    f"monitor_evaluation_{what}=True needs evaluation_data, a list of at least one pair (x, label)"
                )
        accuracies = [measure for measure in self.wanted if measure[1] == "accuracy"]
        if stop_after and not accuracies:
            raise ValueError(
                f"early_stopping_n={stop_after} waits for a better accuracy, and none is monitored; add "
                f"evaluation_data=… and monitor_evaluation_accuracy=True"
            )
        self.watched = accuracies[-1] if stop_after else None
        self.best: Number = 0
        self.waited = 0
        methods = {"cost": "total_cost", "accuracy": "accuracy"}
        self.methods = tuple({name for _, what in self.wanted for name in (methods[what], "feedforward")})

    # The fast way: Z^L of all examples from an engine, once an epoch.

    def prepare(self, engine: Engine, training: StackedPairs) -> None:
        if not self.wanted:
            return
        network, n_out = self.network, self.network.sizes[-1]
        # An engine of the same kind that gives Z^L and takes over the parameters: of a saturated output, whose a is 0
        # or 1, only z tells the cost.
        linear = linear_output(network.architecture)
        self.linear = engines.create(engine.name, linear, engine.theta(), training.examples, 1)
        self.judged: dict[str, Judged] = {}
        for on in {on for on, _ in self.wanted}:
            if on == "training":
                Y = training.examples.one_hot(n_out, network.dtype)
                self.judged[on] = Judged(self.linear.prepare(training.examples), Y, np.argmax(Y, axis=1).tolist())
            else:
                stacked = bookloop.take_tests(network, self.pairs[on], engine, "evaluation_data")
                # only a cost asks what a label is as a column
                needs_targets = (on, "cost") in self.wanted
                Y = network.targets_of(stacked.labels) if needs_targets else np.empty((0, n_out))
                self.judged[on] = Judged(self.linear.prepare(stacked.examples), Y, stacked.labels)

    @np.errstate(under="ignore")
    def by_engine(self, epoch: int, engine: Engine) -> bool:
        if not self.wanted:
            return self._tell(epoch, self._by_method)
        built, theta = self.network.architecture, engine.theta()
        self.linear.load(theta)
        seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for on, judged in self.judged.items():
            Z = self.linear.outputs(judged.inputs)
            seen[on] = Z, built.f(len(built.sizes), Z)

        def measure(on: str, what: str) -> Number:
            (Z, A), judged = seen[on], self.judged[on]
            if what == "accuracy":
                return count_correct(A, judged.labels)
            weights = parameters.views(built.sizes, theta)[1]
            return regularised(built.cost.value(Z, A, judged.Y), weights, self.lmbda)

        return self._tell(epoch, measure)

    # The book's way: by the network's methods, some of which are the user's own.

    def by_methods(self, epoch: int) -> bool:
        return self._tell(epoch, self._by_method)

    def _by_method(self, on: str, what: str) -> Any:
        evaluating = on == "evaluation"
        if what == "cost":
            return self.network.total_cost(self.pairs[on], self.lmbda, convert=evaluating)
        return self.network.accuracy(self.pairs[on], convert=not evaluating)

    def _tell(self, epoch: int, measure: Callable[[str, str], Any]) -> bool:
        print(f"Epoch {epoch} training complete")
        for on, what in self.wanted:
            value = measure(on, what)
            value = value.item() if isinstance(value, np.generic) else value  # json.dump takes plain numbers only
            self.found[on, what].append(value)
            if what == "cost":
                print(f"Cost on {on} data: {value}")
                continue
            if on == "evaluation" and self.network._is_custom("accuracy", "feedforward"):
                shown = measure(on, what)  # the book's program asks twice, and what is the user's own may draw or count
            else:
                shown = value
            print(f"Accuracy on {on} data: {shown} / {len(self.pairs[on])}")
        print()
        return self._is_stalled()

    def _is_stalled(self) -> bool:
        if self.watched is None:
            return False
        accuracy = self.found[self.watched][-1]
        if accuracy > self.best:
            self.best, self.waited = accuracy, 0
        else:
            self.waited += 1
        return self.waited == self.stop_after


def regularised(values: np.ndarray, weights: list[np.ndarray], lmbda: float) -> float:
    """C = (1/n) Σ C_x + (λ/2n) Σ w² from the cost of each of n examples, (n,): the book's chapter 3."""
    with np.errstate(over="ignore", under="ignore"):
        squares = sum(float(np.sum(np.square(w), dtype=np.float64)) for w in weights)
        return float(np.mean(values, dtype=np.float64)) + 0.5 * lmbda / len(values) * squares
