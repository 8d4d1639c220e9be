"""What a user of arrays sees: Network.fit, which checks, plans, shuffles and keeps a history."""

import numpy as np
from threadpoolctl import threadpool_limits

import fastbp
from benchmarks.contenders.engines import EngineContender, optimizer_of
from benchmarks.workloads import EXAMPLES, MASK_SEED, Data, Order, Workload, sample_weights


class Contender(EngineContender):
    label = "fastbp fit"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        self.X, self.y = np.ascontiguousarray(data.X, dtype), data.labels
        self.net = fastbp.Network(
            workload.sizes, hidden=workload.hidden, output=workload.output, cost=workload.cost, dtype=dtype
        )
        self.net.biases, self.net.weights = fastbp.parameters.views(workload.sizes, theta.astype(dtype))
        self.net._draw_seed = lambda: MASK_SEED  # of dropout: nothing else about the call is changed
        self.weights = sample_weights(len(self.y)) if workload.weighted else None
        threadpool_limits(threads)

    def run(self, order: Order) -> None:
        workload = self.workload
        np.random.seed(order.seed)
        self.net.fit(
            self.X[: order.n],
            self.y[: order.n],
            epochs=order.epochs,
            batch_size=workload.batch_size,
            optimizer=optimizer_of(workload),
            dropout=workload.dropout,
            sample_weight=None if self.weights is None else self.weights[: order.n],
            lmbda=workload.lmbda * order.n / EXAMPLES,
            verbose=False,
        )

    def parameters(self) -> np.ndarray:
        return fastbp.parameters.flatten(self.net.sizes, self.net.biases, self.net.weights, self.dtype)
