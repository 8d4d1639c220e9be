"""What the three engines of fastbp have in common as contenders."""

import numpy as np
from threadpoolctl import threadpool_limits

import fastbp
from benchmarks import contenders
from benchmarks.workloads import EXAMPLES, MASK_SEED, Data, Order, Workload, sample_weights
from fastbp import architecture, engines
from fastbp.data import Examples
from fastbp.optimizers import Optimizer
from fastbp.regularization import Regularization


def optimizer_of(workload: Workload) -> Optimizer:
    return fastbp.Adam(workload.eta) if workload.optimizer == "adam" else fastbp.SGD(workload.eta)


class EngineContender(contenders.Contender):
    """An engine under the training loop: it is given the order and trains, no more."""

    package = "fastbp"
    engine_name = ""

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        built = architecture.build(workload.sizes, workload.hidden, workload.output, workload.cost, None, dtype)
        weights = sample_weights(len(data.labels)) if workload.weighted else None
        examples = Examples(np.ascontiguousarray(data.X, dtype), None, data.labels, weights)
        threadpool_limits(threads)
        self.engine = engines.create(
            self.engine_name, built, theta.astype(dtype), examples, workload.batch_size, optimizer_of(workload),
            Regularization(dropout=workload.dropout, seed=MASK_SEED),
        )  # fmt: skip
        self.steps = 0

    def run(self, order: Order) -> None:
        workload = self.workload
        eta = np.full(order.n // workload.batch_size, workload.eta)
        for rows in order.rows():
            self.engine.train(rows, eta, workload.lmbda / EXAMPLES, self.steps)
            self.steps += len(eta)

    def parameters(self) -> np.ndarray:
        return self.engine.theta()
