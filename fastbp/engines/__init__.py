"""One way to run mini-batches, three times: as the equations read, as matrix products, and compiled.

An engine takes an architecture, theta and examples; `train` runs consecutive mini-batches in the order it is given and
keeps the new parameters to itself until `theta()` is asked for them. Engines draw nothing at random and read no
clock: whatever engine runs, the same order and the same steps leave the same parameters behind, to rounding.
"""

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastbp.architecture import Architecture
from fastbp.data import Examples

if TYPE_CHECKING:
    from fastbp.engines import matrix as matrix
    from fastbp.engines import plan as plan
    from fastbp.engines import reference as reference
    from fastbp.optimizers import Optimizer
    from fastbp.regularization import Regularization

NAMES = ("reference", "matrix", "fused")


class Engine(Protocol):
    """What the training loop asks of an engine."""

    name: str
    regularization: "Regularization"

    def __init__(
        self,
        architecture: Architecture,
        theta: np.ndarray,
        examples: Examples,
        batch_size: int,
        optimizer: "Optimizer",
        regularization: "Regularization",
    ) -> None:
        """Take a copy of theta. No mini-batch will hold more than batch_size examples."""

    def train(self, order: np.ndarray, eta: np.ndarray, decay: float, step: int = 0) -> None:
        """Run mini-batches of batch_size rows of `order`, the last one maybe shorter, one step size in eta each.

        Plain SGD: W ← (1 - η·decay) W - (η/m) Σ ∂C/∂W and b ← b - (η/m) Σ ∂C/∂b; decay is λ/n. Other optimizers step
        along the mean gradient, to which decay · W is added for the weights. If the examples have weights, each counts
        that many times in the sum, while m stays the number of rows. `step` is the number in the run of the first
        mini-batch, from which dropout has its masks.
        """

    def gradient(self, rows: np.ndarray) -> np.ndarray:
        """The sum over these examples (at most batch_size) of ∂C/∂theta times their weights, laid out like theta.

        Without dropout and the terms of the regularisation.
        """

    def prepare(self, examples: Examples) -> Any:
        """Other examples in the form this engine reads, for `outputs`."""

    def outputs(self, prepared: Any) -> np.ndarray:
        """A^L for examples once prepared, (n, n_L), with the present parameters."""

    def theta(self) -> np.ndarray:
        """A copy of the present parameters."""

    def load(self, theta: np.ndarray) -> None:
        """Go on from other parameters; what the optimizer remembers stays."""

    def is_finite(self) -> bool:
        """False if any parameter is NaN or infinite."""

    def save_state(self) -> dict[str, np.ndarray]:
        """A copy of everything `train` changes, exactly, for `restore_state` of an engine made in the same way."""

    def restore_state(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a saved state."""


def create(
    name: str,
    architecture: Architecture,
    theta: np.ndarray,
    examples: Examples,
    batch_size: int,
    optimizer: "Optimizer | None" = None,
    regularization: "Regularization | None" = None,
) -> Engine:
    """The engine of this name, ready to train, by plain gradient descent without regularisation if none are given.

    Each is imported when first asked for (fused brings Numba).
    """
    from fastbp.optimizers import PLAIN
    from fastbp.regularization import NONE

    kind: type[Engine]
    if name == "reference":
        from fastbp.engines.reference import ReferenceEngine as kind
    elif name == "matrix":
        from fastbp.engines.matrix import MatrixEngine as kind
    else:
        from fastbp.engines.fused import FusedEngine as kind
    return kind(architecture, theta, examples, batch_size, optimizer or PLAIN, regularization or NONE)


def __getattr__(name: str) -> Any:
    """The modules of this package, each imported when first asked for."""
    if name in (*NAMES, "plan"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
