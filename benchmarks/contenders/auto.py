"""What a user of arrays sees: Network.fit, which checks, plans, shuffles and keeps a history."""

import numpy as np
from threadpoolctl import threadpool_limits

import fastbp
from benchmarks.contenders.engines import EngineContender
from benchmarks.workloads import EXAMPLES, Data, Order, Workload


class Contender(EngineContender):
    label = "fastbp fit"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        self.X, self.y = np.ascontiguousarray(data.X, dtype), data.labels
        self.net = fastbp.Network(
            workload.sizes, hidden=workload.hidden, output=workload.output, cost=workload.cost, dtype=dtype
        )
        self.net.biases, self.net.weights = fastbp.parameters.views(workload.sizes, theta.astype(dtype))
        threadpool_limits(threads)

    def run(self, order: Order) -> None:
        workload = self.workload
        np.random.seed(order.seed)
        step = {"eta": workload.eta}
        if workload.optimizer == "adam":
            step = {"optimizer": fastbp.Adam(workload.eta)}
        self.net.fit(
            self.X[: order.n],
            self.y[: order.n],
            epochs=order.epochs,
            batch_size=workload.batch_size,
            lmbda=workload.lmbda * order.n / EXAMPLES,
            verbose=False,
            **step,
        )

    def parameters(self) -> np.ndarray:
        return fastbp.parameters.flatten(self.net.sizes, self.net.biases, self.net.weights, self.dtype)
