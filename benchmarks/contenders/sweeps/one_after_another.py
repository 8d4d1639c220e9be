"""Network.fit in a loop: what a user does without a sweep."""

import numpy as np

from benchmarks.contenders import sweeps
from benchmarks.workloads import Order


class Contender(sweeps.ManyContender):
    label = sweeps.LABELS["one_after_another"]
    package = "fastbp"

    def run(self, order: Order) -> None:
        X, y = self.X[: order.n], self.labels[: order.n]
        self.networks = [sweeps.network(self.workload, self.dtype, seed) for seed in range(len(self.first))]
        for net in self.networks:
            net.fit(X, y, **sweeps.fit_arguments(self.workload, order), verbose=False)

    def parameters(self) -> np.ndarray:
        return np.array([sweeps.theta_of(net) for net in self.networks])
