"""scikit-learn's MLPClassifier, fitted from many seeds by joblib's processes."""

import warnings
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.contenders import sweeps
from benchmarks.contenders.sklearn_mlp import ACTIVATIONS
from benchmarks.workloads import Data, Order, Workload
from fastbp import parameters


def fit(arguments: dict[str, Any], X: np.ndarray, y: np.ndarray, seed: int) -> MLPClassifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return MLPClassifier(**arguments, random_state=seed).fit(X, y)


class Contender(sweeps.ManyContender):
    label = sweeps.LABELS["sklearn_joblib"]
    package = "sklearn"

    def refusal(self, workload: Workload, dtype: np.dtype) -> str:
        return "" if workload.optimizer == "sgd" else "only SGD is compared"

    def caveat(self, workload: Workload) -> str:
        cost = "has no quadratic cost: cross-entropy on the same sigmoid outputs; " * (workload.cost == "quadratic")
        return f"{cost}first weights and orders of its own"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        super().prepare(workload, data, dtype, threads, theta)
        # For an indicator matrix its outputs are sigmoids with cross-entropy, for labels softmax with log-likelihood.
        self.y = data.labels if workload.output == "softmax" else data.one_hot(workload.sizes[-1], np.dtype(np.int64))
        self.arguments = {
            "hidden_layer_sizes": workload.sizes[1:-1], "activation": ACTIVATIONS[workload.hidden], "solver": "sgd",
            "alpha": workload.lmbda * workload.batch_size / len(data.X), "batch_size": workload.batch_size,
            "learning_rate_init": workload.eta, "momentum": 0.0, "nesterovs_momentum": False, "tol": 0.0,
            "n_iter_no_change": 1_000_000,
        }  # fmt: skip
        self.parallel = Parallel(n_jobs=threads).__enter__()  # its processes stay for all runs

    def run(self, order: Order) -> None:
        arguments = {**self.arguments, "max_iter": order.epochs}
        X, y = self.X[: order.n], self.y[: order.n]
        self.models = self.parallel(delayed(fit)(arguments, X, y, seed) for seed in range(len(self.first)))

    def parameters(self) -> np.ndarray:
        def theta(model: MLPClassifier) -> np.ndarray:
            biases, weights = [b[:, np.newaxis] for b in model.intercepts_], [w.T for w in model.coefs_]
            return parameters.flatten(self.workload.sizes, biases, weights, self.dtype)

        return np.array([theta(model) for model in self.models])
