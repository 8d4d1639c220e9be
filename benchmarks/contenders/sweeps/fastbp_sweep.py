"""fastbp.sweep over seeds, in threads."""

import tempfile

import numpy as np

import fastbp
from benchmarks.contenders import sweeps
from benchmarks.workloads import Order


class Contender(sweeps.ManyContender):
    label = sweeps.LABELS["fastbp_sweep"]
    package = "fastbp"

    def run(self, order: Order, keep: str | None = None) -> None:
        self.order = order
        spec = sweeps.network_arguments(self.workload, self.dtype) | sweeps.fit_arguments(self.workload, order)
        data = self.X[: order.n], self.labels[: order.n]
        self.result = fastbp.sweep(
            spec, data, seeds=len(self.first), workers=self.threads, keep_models=keep, verbose=False
        )

    def parameters(self) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:  # a sweep leaves scores; its networks it leaves where asked to
            self.run(self.order, keep=folder)
            return np.array([sweeps.theta_of(fastbp.load(row["model"])) for row in self.result])
