"""How a gradient becomes a step: one class an optimizer, its rule in plain NumPy over one flat vector of parameters.

`kernels.take_step` is the compiled twin. With an L2 penalty (`lmbda`), the gradient that arrives here has λ/n W added
for the weights, as in PyTorch's `weight_decay`; for plain SGD that is the book's (1 - ηλ/n) W. With momentum or a
gradient's average that is another thing than to shrink the weights beside the step, which SGDW and AdamW do.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from fastbp.schedules import Schedule

# An average of gradients below this counts as 0. The step along it would be far below the rounding of a parameter; but
# the average would sink on to the subnormal numbers and stay there, for 0.9 times the smallest of them is rounded to it
# again, and a processor is slow on those. The rare pixels of MNIST doubled the time of Adam's sweep over S1.
FADED = {"float32": 1e-30, "float64": 1e-300}


@dataclass
class Memory:
    """What an optimizer remembers between steps; `first` and `second` are laid out like theta, or empty."""

    first: np.ndarray
    second: np.ndarray
    powers: np.ndarray = field(default_factory=lambda: np.ones(2))

    def average(self, rate: float, gradient: np.ndarray, share: float = 1.0) -> None:
        """first ← rate · first + share · gradient; 0 where that has FADED."""
        self.first *= self.first.dtype.type(rate)
        self.first += gradient if share == 1 else self.first.dtype.type(share) * gradient
        self.first[np.abs(self.first) < FADED[self.first.dtype.name]] = 0

    def state(self) -> dict[str, np.ndarray]:
        """A copy of all of it, by name."""
        return {"first": self.first.copy(), "second": self.second.copy(), "powers": self.powers.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a `state`, in the same arrays."""
        self.first[:], self.second[:], self.powers[:] = state["first"], state["second"], state["powers"]


@dataclass(frozen=True)
class Optimizer(ABC):
    """The base: a step size eta, or the schedule of one, and rates that must lie where they make sense.

    ValueError where they do not.
    """

    eta: float | Schedule

    # Whether the rule keeps an average of gradients, and one of squared gradients.
    keeps: ClassVar[tuple[bool, bool]] = (False, False)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool | Schedule):
                continue
            if not isinstance(value, int | float | np.number) or not math.isfinite(value):
                raise ValueError(f"{each.name} must be a finite number, got {value!r}")
            if each.name in ("momentum", "beta1", "beta2", "rho") and not 0 <= value < 1:
                raise ValueError(f"{each.name} must lie in [0, 1), got {value}")
            if each.name in ("epsilon", "weight_decay") and value < 0:
                raise ValueError(f"{each.name} must not be negative, got {value}")

    @property
    @abstractmethod
    def code(self) -> int:
        """The rule's number in the compiled kernels."""

    @property
    @abstractmethod
    def coefficients(self) -> tuple[float, float, float, float]:
        """Two rates of averaging (or the momentum), epsilon, decoupled weight decay, as the kernel takes them."""

    def remember(self, size: int, dtype: np.dtype) -> Memory:
        """A fresh memory for so many parameters."""
        first, second = (np.zeros(size if kept else 0, dtype) for kept in self.keeps)
        return Memory(first, second)

    def shrink(self, theta: np.ndarray, eta: float) -> None:
        """Decoupled weight decay: θ ← (1 - η·weight_decay) θ, in place, for the rules that have one."""
        if self.coefficients[3]:
            theta *= theta.dtype.type(1 - eta * self.coefficients[3])

    @abstractmethod
    def step(self, theta: np.ndarray, gradient: np.ndarray, memory: Memory, eta: float) -> None:
        """Change theta in place by one step along the mean gradient."""


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, the book's: θ ← θ - η g, with g the mean of ∂C_x/∂θ over the mini-batch.

    With momentum μ (Polyak 1964): v ← μ v + g, θ ← θ - η v; nesterov (Sutskever et al. 2013): θ ← θ - η (g + μ v).
    Conventions are PyTorch's.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs a momentum, for example momentum=0.9")

    @property
    def code(self) -> int:
        return 0 if not self.momentum else 2 if self.nesterov else 1

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        return self.momentum, 0.0, 0.0, 0.0

    def remember(self, size: int, dtype: np.dtype) -> Memory:
        return Memory(np.zeros(size if self.momentum else 0, dtype), np.zeros(0, dtype))

    def step(self, theta: np.ndarray, gradient: np.ndarray, memory: Memory, eta: float) -> None:
        self.shrink(theta, eta)
        if self.momentum:
            memory.average(self.momentum, gradient)
            gradient = gradient + self.momentum * memory.first if self.nesterov else memory.first
        theta -= theta.dtype.type(eta) * gradient


@dataclass(frozen=True)
class SGDW(SGD):
    """SGD with decoupled weight decay: θ ← (1 - η·weight_decay) θ before SGD's step, for biases too, as in AdamW.

    Loshchilov and Hutter (2019). The decay follows the schedule of η and stays out of the momentum. As in PyTorch's
    AdamW it is a share of η; the paper's λ is weight_decay times the first η. Without momentum it does to the weights
    what the book's L2 term does with λ/n = weight_decay. The default is a usual one beside momentum 0.9, as in
    Zagoruyko and Komodakis (2016).
    """

    weight_decay: float = 5e-4

    @property
    def code(self) -> int:
        return 2 if self.nesterov else 1

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        return self.momentum, 0.0, 0.0, self.weight_decay

    def remember(self, size: int, dtype: np.dtype) -> Memory:
        return Memory(np.zeros(size, dtype), np.zeros(0, dtype))


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """s ← s + g², θ ← θ - η g/(√s + ε). Duchi, Hazan and Singer (2011)."""

    eta: float | Schedule = 0.01
    epsilon: float = 1e-10
    keeps: ClassVar[tuple[bool, bool]] = (False, True)
    code: ClassVar[int] = 3

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        return 0.0, 0.0, self.epsilon, 0.0

    def step(self, theta: np.ndarray, gradient: np.ndarray, memory: Memory, eta: float) -> None:
        memory.second += np.square(gradient)
        theta -= theta.dtype.type(eta) * gradient / (np.sqrt(memory.second) + theta.dtype.type(self.epsilon))


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """s ← ρ s + (1 - ρ) g², θ ← θ - η g/(√s + ε). Tieleman and Hinton (2012); defaults as in PyTorch."""

    eta: float | Schedule = 0.01
    rho: float = 0.99
    epsilon: float = 1e-8
    keeps: ClassVar[tuple[bool, bool]] = (False, True)
    code: ClassVar[int] = 4

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        return 0.0, self.rho, self.epsilon, 0.0

    def step(self, theta: np.ndarray, gradient: np.ndarray, memory: Memory, eta: float) -> None:
        memory.second *= self.rho
        memory.second += theta.dtype.type(1 - self.rho) * np.square(gradient)
        theta -= theta.dtype.type(eta) * gradient / (np.sqrt(memory.second) + theta.dtype.type(self.epsilon))


@dataclass(frozen=True)
class Adam(Optimizer):
    """m ← β₁ m + (1 - β₁) g, v ← β₂ v + (1 - β₂) g², θ ← θ - η m̂/(√v̂ + ε) with m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ).

    Kingma and Ba (2015), with their defaults.
    """

    eta: float | Schedule = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    keeps: ClassVar[tuple[bool, bool]] = (True, True)
    code: ClassVar[int] = 5

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        return self.beta1, self.beta2, self.epsilon, 0.0

    def step(self, theta: np.ndarray, gradient: np.ndarray, memory: Memory, eta: float) -> None:
        as_dtype: Any = theta.dtype.type
        memory.powers *= (self.beta1, self.beta2)
        memory.average(self.beta1, gradient, 1 - self.beta1)
        memory.second *= self.beta2
        memory.second += as_dtype(1 - self.beta2) * np.square(gradient)
        rate, correction = eta / (1 - memory.powers[0]), 1 / math.sqrt(1 - memory.powers[1])
        self.shrink(theta, eta)
        theta -= (
            as_dtype(rate) * memory.first / (np.sqrt(memory.second) * as_dtype(correction) + as_dtype(self.epsilon))
        )


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← (1 - η·weight_decay) θ before Adam's step, for biases too, as in PyTorch.

    Loshchilov and Hutter (2019).
    """

    weight_decay: float = 0.01

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        return self.beta1, self.beta2, self.epsilon, self.weight_decay


PLAIN = SGD(eta=1.0)  # the step sizes come with each call of an engine's train; this names the rule only

BY_NAME: dict[str, type[Optimizer]] = {each.__name__: each for each in (SGD, SGDW, Adagrad, RMSprop, Adam, AdamW)}
