"""PyTorch with its compiler around the model and the loss; needs a C++ compiler on the machine."""

from collections.abc import Callable

import torch

from benchmarks.contenders import torch_eager


class Contender(torch_eager.Contender):
    label = "PyTorch compiled"

    def make_loss(self) -> Callable:
        return torch.compile(super().make_loss())
