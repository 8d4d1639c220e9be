"""What the three engines of fastbp have in common as contenders."""

import numpy as np
from threadpoolctl import threadpool_limits

import fastbp
from benchmarks import contenders
from benchmarks.workloads import EXAMPLES, Data, Order, Workload
from fastbp import architecture, engines
from fastbp.data import Examples


class EngineContender(contenders.Contender):
    """An engine under the training loop: it is given the order and trains, no more."""

    package = "fastbp"
    engine_name = ""

    def refusal(self, workload: Workload, dtype: np.dtype) -> str:
        if workload.optimizer != "sgd" and not hasattr(fastbp, workload.optimizer.title()):
            return f"fastbp has no {workload.optimizer.title()} yet"
        return super().refusal(workload, dtype)

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        built = architecture.build(workload.sizes, workload.hidden, workload.output, workload.cost, None, dtype)
        examples = Examples(np.ascontiguousarray(data.X, dtype), None, data.labels)
        threadpool_limits(threads)
        step = (fastbp.Adam(workload.eta),) if workload.optimizer == "adam" else ()
        self.engine = engines.create(self.engine_name, built, theta.astype(dtype), examples, workload.batch_size, *step)

    def run(self, order: Order) -> None:
        workload = self.workload
        eta = np.full(order.n // workload.batch_size, workload.eta)
        for rows in order.rows():
            self.engine.train(rows, eta, workload.lmbda / EXAMPLES)

    def parameters(self) -> np.ndarray:
        return self.engine.theta()
