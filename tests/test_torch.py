"""The whole of a training against PyTorch in float64: random networks and regularisation, every rule, every engine."""

from typing import Any

import numpy as np
import pytest

from fastbp import architecture, dropout, engines, parameters
from fastbp.data import Examples
from fastbp.optimizers import SGD, SGDW, Adagrad, Adam, AdamW, Optimizer, RMSprop
from fastbp.regularization import Regularization

torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to compare with it")
F = torch.nn.functional

ACTIVATIONS = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softplus": F.softplus, "gelu": F.gelu, "silu": F.silu,
    "identity": lambda z: z, "relu": torch.relu, "leaky_relu": F.leaky_relu,
}  # fmt: skip
OUTPUTS = [
    ("sigmoid", "quadratic"), ("sigmoid", "cross_entropy"), ("softmax", "log_likelihood"), ("tanh", "quadratic"),
    ("identity", "quadratic"),
]  # fmt: skip


def rules(eta: float) -> list[Optimizer]:
    return [
        SGD(eta), SGD(eta, momentum=0.9), SGD(eta, momentum=0.8, nesterov=True), SGDW(eta, weight_decay=0.2),
        SGDW(eta, momentum=0.9, weight_decay=0.1), Adagrad(eta), RMSprop(eta), Adam(eta), AdamW(eta, weight_decay=0.1),
    ]  # fmt: skip


class Case:
    """One random choice of everything, and five epochs of it."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)

        def one_of(*values: Any) -> Any:
            return values[rng.integers(len(values))]

        self.sizes = [*rng.integers(1, 40, rng.integers(1, 4)).tolist(), int(rng.integers(2, 20))]
        self.hidden = [one_of(*ACTIVATIONS) for _ in self.sizes[1:-1]]
        self.output, self.cost = one_of(*OUTPUTS)
        n = int(rng.integers(5, 60))
        self.m = m = int(rng.integers(1, n + 1))
        known = rules(float(10 ** rng.uniform(-3, -1.3)))
        self.rule = known[seed % len(known)]
        self.decay = one_of(0.0, 0.01, 0.3)
        hidden = len(self.sizes) > 2
        self.given = Regularization(
            one_of(0.0, 0.01), one_of(np.inf, 1.5), one_of(0.0, 0.3, 0.7) if hidden else 0.0, int(rng.integers(2**40))
        )  # fmt: skip
        self.weights = one_of(None, rng.uniform(0, 2, n))
        self.X = rng.normal(size=(n, self.sizes[0])) * (rng.random((n, self.sizes[0])) < one_of(0.2, 1.0))
        labels = rng.integers(0, self.sizes[-1], n)
        self.Y = np.eye(self.sizes[-1])[labels]
        self.labels = one_of(None, labels)
        self.built = architecture.build(
            self.sizes, self.hidden or "sigmoid", self.output, self.cost, None, "float64"
        )  # fmt: skip
        self.theta = 0.5 * rng.normal(size=parameters.count(self.sizes))
        self.first = int(rng.integers(1000))
        self.orders = [rng.permutation(n) for _ in range(5)]
        self.etas = self.rule.eta * rng.uniform(0.5, 1.5, (5, -(-n // m)))

    def by_engine(self, name: str) -> np.ndarray:
        Y = self.Y if self.labels is None else None
        examples = Examples(self.X, Y, self.labels, self.weights)
        engine = engines.create(name, self.built, self.theta, examples, self.m, self.rule, self.given)
        for epoch, order in enumerate(self.orders):
            engine.train(order, self.etas[epoch], self.decay, self.first + epoch * self.etas.shape[1])
        return engine.theta()

    def by_torch(self) -> np.ndarray:
        biases, weights = (
            [torch.tensor(p, requires_grad=True) for p in part]
            for part in parameters.views(self.sizes, self.theta.copy())
        )
        self.b, self.w = biases, weights
        rule, kind = self.rule, type(self.rule).__name__
        options = {name: getattr(rule, name) for name in ("momentum", "nesterov") if isinstance(rule, SGD)}
        if isinstance(rule, AdamW):
            options["weight_decay"] = rule.weight_decay
        optimizer = getattr(torch.optim, "SGD" if kind == "SGDW" else kind)([*biases, *weights], lr=1.0, **options)
        step = self.first
        for epoch, order in enumerate(self.orders):
            for i, eta in enumerate(self.etas[epoch].tolist()):
                optimizer.param_groups[0]["lr"] = eta
                optimizer.zero_grad()
                self.objective(order[i * self.m : (i + 1) * self.m], step).backward()
                with torch.no_grad():
                    if isinstance(rule, SGDW):  # PyTorch has none
                        for p in (*biases, *weights):
                            p *= 1 - eta * rule.weight_decay
                    optimizer.step()
                    for w in weights:
                        norms = w.norm(dim=1, keepdim=True)
                        w *= torch.where(norms > self.given.max_norm, self.given.max_norm / norms, 1.0)
                step += 1
        plain = [[p.detach().numpy() for p in part] for part in (biases, weights)]
        return parameters.flatten(self.sizes, *plain, np.dtype(np.float64))

    def objective(self, rows: np.ndarray, step: int) -> Any:
        masks = dropout.masks(self.given, step, len(rows), self.sizes, np.dtype(np.float64))
        a = torch.tensor(self.X[rows])
        for l, name in enumerate(self.hidden, start=2):
            a = ACTIVATIONS[name](a @ self.w[l - 2].T + self.b[l - 2].T)
            a = a * torch.tensor(masks[l]) if l in masks else a
        z, y = a @ self.w[-1].T + self.b[-1].T, torch.tensor(self.Y[rows])
        if self.cost == "quadratic":
            costs = ((ACTIVATIONS[self.output](z) - y) ** 2).sum(1) / 2
        elif self.cost == "cross_entropy":
            costs = F.binary_cross_entropy_with_logits(z, y, reduction="none").sum(1)
        else:
            costs = F.cross_entropy(z, y, reduction="none")
        if self.weights is not None:
            costs = costs * torch.tensor(self.weights[rows])
        penalty = sum(self.decay / 2 * (w**2).sum() + self.given.l1 * w.abs().sum() for w in self.w)
        return costs.sum() / len(rows) + penalty


@pytest.mark.parametrize("seed", range(36))
def test_everything_at_once_is_torch_s(seed: int) -> None:
    case = Case(seed)
    expected = case.by_torch()
    assert np.isfinite(expected).all() and np.max(np.abs(expected - case.theta)) > 1e-3
    for name in engines.NAMES:
        # 250 cases lay within 1.2e-9: a relu that is 0 to rounding is on or off
        np.testing.assert_allclose(case.by_engine(name), expected, rtol=0, atol=1e-7 * np.max(np.abs(expected)))
