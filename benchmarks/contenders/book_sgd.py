"""The book's call on the book's list: Network.SGD with stacking, shuffling, evaluation and printing."""

import contextlib
import io

import numpy as np

import fastbp
from benchmarks import contenders
from benchmarks.contenders.per_example import as_pairs
from benchmarks.workloads import Data, Order, Workload


class Contender(contenders.Contender):
    label = "fastbp Network.SGD"
    package = "fastbp"

    def refusal(self, workload: Workload, dtype: np.dtype) -> str:
        if not workload.book:
            return "the book's call is timed on the book's workload, B1"
        return "" if dtype == np.float64 else "the book's code computes in float64"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        self.pairs, self.tests = as_pairs(workload, data)
        self.net = fastbp.Network(workload.sizes)
        self.net.biases, self.net.weights = fastbp.parameters.views(workload.sizes, theta.copy())

    def run(self, order: Order) -> None:
        workload = self.workload
        np.random.seed(order.seed)
        with contextlib.redirect_stdout(io.StringIO()):
            self.net.SGD(self.pairs[: order.n], order.epochs, workload.batch_size, workload.eta, self.tests)

    def parameters(self) -> np.ndarray:
        return fastbp.parameters.flatten(self.net.sizes, self.net.biases, self.net.weights, self.dtype)
