"""What keeps a network from learning its examples by heart, apart from the L2 term: L1, a limit of norms, dropout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Regularization:
    """What an engine must know. The values have been checked.

    l1: λ₁/n of the L1 term λ₁/n Σ|w|, whose slope λ₁/n sgn(w) is added to the gradient of the weights, as in the book's
    chapter 3: w ← w - (ηλ₁/n) sgn(w) - …, sgn(0) = 0. max_norm: after each step every neuron's incoming weights are
    scaled down to this Euclidean norm if theirs is greater (Srivastava et al. 2014, section 5.1). dropout: the share of
    the units in hidden layers that a mini-batch leaves out, by masks from `seed`, see `dropout`.
    """

    l1: float = 0.0
    max_norm: float = math.inf
    dropout: float = 0.0
    seed: int = 0


NONE = Regularization()


def seed_state(given: Regularization) -> np.ndarray:
    """The seed as an array, for the state of an engine."""
    return np.array([given.seed], np.uint64)


def with_seed(given: Regularization, state: np.ndarray) -> Regularization:
    """The same with the seed of a `seed_state`."""
    return replace(given, seed=int(state[0]))


def limit_norms(weights: Sequence[np.ndarray], max_norm: float) -> None:
    """Scale rows of each W^l, (n_l, n_{l-1}), whose norm exceeds max_norm down to it, in place."""
    for w in weights:
        norms = np.sqrt(np.sum(np.square(w), axis=1, keepdims=True))
        with np.errstate(divide="ignore"):
            w *= np.minimum(w.dtype.type(1), w.dtype.type(max_norm) / norms)
