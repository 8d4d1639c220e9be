"""PyTorch as its tutorials write it: modules, autograd, an optimizer; data in memory, mini-batches by index."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from benchmarks import contenders
from benchmarks.workloads import EXAMPLES, Data, Order, Workload, masks, sample_weights
from fastbp import parameters

ACTIVATIONS = {"sigmoid": torch.nn.Sigmoid, "relu": torch.nn.ReLU}


class Dropout(torch.nn.Dropout):
    """PyTorch's own, unless the factors are given."""

    given: torch.Tensor | None = None

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        return super().forward(a) if self.given is None else a * self.given


class Contender(contenders.Contender):
    label = "PyTorch eager"
    package = "torch"

    def prepare(self, workload: Workload, data: Data, dtype: np.dtype, threads: int, theta: np.ndarray) -> None:
        self.remember(workload, dtype)
        torch.set_num_threads(threads)
        self.X = torch.from_numpy(np.array(data.X, dtype))
        if workload.cost == "log_likelihood":
            self.Y = torch.from_numpy(data.labels)
        else:
            self.Y = torch.from_numpy(data.one_hot(workload.sizes[-1], dtype))
        biases, weights = parameters.views(workload.sizes, theta.astype(dtype))
        self.weights = torch.from_numpy(sample_weights(len(data.labels)).astype(dtype)) if workload.weighted else None
        self.layers = []
        for w, b in zip(weights, biases, strict=True):
            layer = torch.nn.Linear(*reversed(w.shape), dtype=self.X.dtype)
            layer.weight.data, layer.bias.data = torch.tensor(w), torch.tensor(b[:, 0])
            self.layers.append(layer)
        modules = []
        for layer in self.layers[:-1]:
            modules += [layer, ACTIVATIONS[workload.hidden]()]
            modules += [Dropout(workload.dropout)] if workload.dropout else []
        self.model, self.steps = torch.nn.Sequential(*modules, self.layers[-1]), 0
        decay = [
            {"params": [layer.weight for layer in self.layers], "weight_decay": workload.lmbda / EXAMPLES},
            {"params": [layer.bias for layer in self.layers], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.Adam if workload.optimizer == "adam" else torch.optim.SGD
        self.optimizer = optimizer(decay, lr=workload.eta, fused=True)
        self.loss = self.make_loss()

    def make_loss(self) -> Callable:
        """The cost of a mini-batch, averaged over its examples, from the output layer's z."""
        model, cost = self.model, self.workload.cost

        def loss(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
            z = model(x)
            if weights is not None:
                return weighted(z, y, weights) / len(x)
            if cost == "quadratic":
                return functional.mse_loss(torch.sigmoid(z), y, reduction="sum") / (2 * len(x))
            if cost == "cross_entropy":
                return functional.binary_cross_entropy_with_logits(z, y, reduction="sum") / len(x)
            return functional.cross_entropy(z, y)

        def weighted(z: torch.Tensor, y: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            if cost == "quadratic":
                return functional.mse_loss(torch.sigmoid(z), y, reduction="none").sum(1).dot(weights) / 2
            if cost == "cross_entropy":
                return functional.binary_cross_entropy_with_logits(z, y, reduction="none").sum(1).dot(weights)
            return functional.cross_entropy(z, y, reduction="none").dot(weights)

        return loss

    def run(self, order: Order) -> None:
        loss, optimizer, weights = self.loss, self.optimizer, self.weights
        for epoch in torch.from_numpy(order.rows()):
            for rows in epoch.split(self.workload.batch_size):
                self.set_masks()
                optimizer.zero_grad()
                loss(self.X[rows], self.Y[rows], None if weights is None else weights[rows]).backward()
                optimizer.step()

    def set_masks(self) -> None:
        """Give the dropout of each layer its factors for the next mini-batch, where results are compared."""
        layers = [module for module in self.model if isinstance(module, Dropout)] if self.checking else []
        for layer, mask in zip(layers, masks(self.workload, self.dtype, self.steps, 1) if layers else [], strict=True):
            layer.given = torch.from_numpy(mask[0])
        self.steps += self.checking

    def parameters(self) -> np.ndarray:
        weights = [layer.weight.detach().numpy() for layer in self.layers]
        biases = [layer.bias.detach().numpy()[:, np.newaxis] for layer in self.layers]
        return parameters.flatten(self.workload.sizes, biases, weights, self.dtype)

    def bare_products(self) -> Callable[[], None]:
        # from_numpy keeps the strides: a transposed factor stays a transposed view
        products = [
            (torch.from_numpy(a), torch.from_numpy(b), torch.empty(a.shape[0], b.shape[1], dtype=self.X.dtype))
            for a, b in contenders.factors(self.workload, self.dtype)
        ]

        def multiply() -> None:
            for a, b, out in products:
                torch.mm(a, b, out=out)

        return multiply
