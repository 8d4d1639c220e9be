"""How a gradient becomes a step."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, the book's: θ ← θ - (η/m) Σ ∂C/∂θ. ValueError if eta is not a finite number."""

    eta: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.eta):
            raise ValueError(f"eta must be a finite number, got {self.eta}")
