"""scikit-learn's MLPClassifier.fit, from given parameters: a warm start, with its own shuffle seeded alike."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from benchmarks import contenders
from benchmarks.workloads import Data, Order, Workload
from fastbp import parameters

ACTIVATIONS = {"sigmoid": "logistic", "relu": "relu"}


class Contender(contenders.Contender):
    label = "scikit-learn"
    package = "sklearn"

    def refusal(self, workload: Workload, dtype: np.dtype) -> str:
        if workload.weighted:
            return "weights are not written for it"
        return "has no dropout" if workload.dropout else super().refusal(workload, dtype)

    def caveat(self, workload: Workload) -> str:
        if workload.cost == "quadratic":
            return "has no quadratic cost for a classifier: cross-entropy on the same sigmoid outputs"
        return ""

    def tolerance(self, workload: Workload, dtype: np.dtype) -> float:
        # its Adam adds ε before the correction of the moments, where the paper's text and the others add it after
        return 2e-2 if workload.optimizer == "adam" else super().tolerance(workload, dtype)

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        self.X = np.ascontiguousarray(data.X, dtype)
        # For an indicator matrix its outputs are sigmoids with cross-entropy, for labels softmax with log-likelihood.
        self.y = data.labels if workload.output == "softmax" else data.one_hot(workload.sizes[-1], np.dtype(np.int64))
        self.model = MLPClassifier(
            workload.sizes[1:-1],
            activation=ACTIVATIONS[workload.hidden],
            solver=workload.optimizer,
            alpha=workload.lmbda * workload.batch_size / data.X.shape[0],  # it divides by the mini-batch, the book by n
            batch_size=workload.batch_size,
            learning_rate_init=workload.eta,
            momentum=0.0,
            nesterovs_momentum=False,
            warm_start=True,
            tol=0.0,
            n_iter_no_change=1_000_000,
            max_iter=1,
        )
        threadpool_limits(threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.fit(self.X[:1000], self.y[:1000])  # allocates the parameters
        biases, weights = parameters.views(workload.sizes, theta.astype(dtype))
        self.model.coefs_ = [np.ascontiguousarray(w.T) for w in weights]
        self.model.intercepts_ = [b[:, 0].copy() for b in biases]

    def run(self, order: Order) -> None:
        self.model.set_params(max_iter=order.epochs, random_state=np.random.RandomState(order.seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.fit(self.X[: order.n], self.y[: order.n])

    def parameters(self) -> np.ndarray:
        weights, biases = [w.T for w in self.model.coefs_], [b[:, np.newaxis] for b in self.model.intercepts_]
        return parameters.flatten(self.workload.sizes, biases, weights, self.dtype)
