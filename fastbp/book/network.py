"""The book's `network.py`: change `import network` to `from fastbp.book import network`.

As `fastbp.Network`, but the examples are shuffled by Python's `random.shuffle`, as in the book's repository, and
`sigmoid` and `sigmoid_prime` can be replaced here, in this module.
"""

import random
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from fastbp import network as _network
from fastbp.activations import sigmoid, sigmoid_prime

__all__ = ["Network", "sigmoid", "sigmoid_prime"]


class Network(_network.Network):
    """`fastbp.Network` with the book's shuffle; all its options are open here too."""

    def _default_shuffle(self) -> Callable[[Any], None]:
        return random.shuffle

    def _module(self) -> ModuleType:
        return sys.modules[__name__]
