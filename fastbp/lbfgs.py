"""L-BFGS for small data: the whole cost at once, by SciPy's minimiser, in the place of many small steps.

A quasi-Newton method needs few iterations but all examples in each, and no noise in the cost; so it stands outside
the engines and the schedules, and an epoch of the History is one of its iterations.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastbp import checks, parameters
from fastbp.architecture import Architecture
from fastbp.data import Examples, dense
from fastbp.engines import matrix
from fastbp.errors import DivergenceError
from fastbp.run import Run


@dataclass(frozen=True)
class LBFGS:
    """`optimizer=LBFGS()`: minimise the cost over all examples; `epochs` is the most iterations there may be.

    memory: how many of the last steps the curvature is estimated from. It ends when no entry of the gradient exceeds
    gradient_tolerance, or an iteration lowers the cost by less than cost_tolerance of it. Liu and Nocedal (1989); the
    code is SciPy's L-BFGS-B (Zhu, Byrd, Lu and Nocedal 1997), in float64 whatever the network's dtype.

    batch_size and shuffle have no meaning here. Raises ValueError or TypeError for numbers that make no sense.
    """

    memory: int = 10
    gradient_tolerance: float = 1e-5
    cost_tolerance: float = 1e-9

    def __post_init__(self) -> None:
        checks.whole(self.memory, "memory", least=1, unit="step")
        for name in ("gradient_tolerance", "cost_tolerance"):
            checks.not_negative(getattr(self, name), name)


class Objective:
    """C(θ) = (1/n) Σ w_x C_x + λ/2n Σ w² and its gradient, over all examples, in float64."""

    def __init__(self, architecture: Architecture, examples: Examples, rows: np.ndarray, decay: float) -> None:
        self.architecture, self.decay = replace(architecture, dtype=np.dtype(np.float64)), decay
        examples = examples if len(rows) == len(examples) else examples.take(rows)
        X = dense(examples.X)
        self.X, self.weights = X.astype(np.float64, copy=False), examples.weights
        self.Y = examples.one_hot(architecture.sizes[-1], np.dtype(np.float64))

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        built, n = self.architecture, len(self.X)
        biases, weights = parameters.views(built.sizes, theta)
        with np.errstate(all="ignore"):  # a step too far: the line search comes back from it
            Z, A = matrix.feedforward(built, biases, weights, self.X)
            costs = built.cost.value(Z[-1], A[-1], self.Y)
            deltas = matrix.errors(built, weights, Z, A, self.Y, self.weights)
            cost = float(np.mean(costs if self.weights is None else self.weights * costs))
            gradient = np.empty_like(theta)
            nabla_b, nabla_w = parameters.views(built.sizes, gradient)
            for delta, a, w, nb, nw in zip(deltas, A[:-1], weights, nabla_b, nabla_w, strict=True):
                nb[:, 0] = delta.sum(axis=0) / n  # BP3
                nw[...] = delta.T @ a / n + self.decay * w  # BP4
                cost += 0.5 * self.decay * float(np.sum(np.square(w)))
        return cost, gradient


class FullBatchRun(Run):
    """A run whose epochs are the iterations of L-BFGS."""

    def __init__(self, *parts: Any, rule: LBFGS, objective: Objective, **around: Any) -> None:
        """`parts` and `around` as for `Run`; the order of the examples has no meaning here."""
        super().__init__(*parts, shuffle=False, **around)
        self.rule, self.objective = rule, objective

    def _train(self) -> None:
        from scipy.optimize import minimize

        theta = self.engine.theta().astype(np.float64)
        if not np.isfinite(self.objective(theta)[0]):
            raise DivergenceError(0, 0, "Its cost is infinite from the start; scale the inputs, or begin elsewhere.")
        self._began = time.perf_counter()
        self._begin_epoch()
        result = minimize(
            self.objective, theta, jac=True, method="L-BFGS-B", callback=self._iteration,
            options={
                "maxiter": self.epochs, "maxfun": 20 * self.epochs, "maxcor": self.rule.memory,
                "gtol": self.rule.gradient_tolerance, "ftol": self.rule.cost_tolerance,
            },
        )  # fmt: skip
        if self.history.ended is None and self.epoch < self.epochs:
            self.history.ended = "convergence" if result.success else f"L-BFGS: {result.message}"

    def _iteration(self, intermediate_result: Any) -> None:
        """SciPy's callback after each iteration: an epoch is over."""
        self.engine.load(intermediate_result.x.astype(self.network.dtype))
        self._published = False
        self.step += 1
        self.seconds = time.perf_counter() - self._began
        self.report.examples_done((self.epoch + 1) * self.n_examples)
        before = self.engine.theta()
        self._end_epoch({"objective": float(intermediate_result.fun)})
        if not np.array_equal(before, self.engine.theta()):
            raise ValueError("a callback changed the parameters, which L-BFGS cannot take up in the middle of a search")
        if self.history.ended is not None:
            raise StopIteration
        self._began = time.perf_counter()
        if self.epoch < self.epochs:
            self._begin_epoch()
