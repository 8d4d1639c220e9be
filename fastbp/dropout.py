"""Which units a mini-batch leaves out: a pure function of seed, step, layer, row and unit, the same in every engine.

Dropout (Srivastava et al. 2014) in its inverted form: in training each unit of a hidden layer is 0 with probability
`rate`, and else its activation times 1/(1 - rate), so that nothing is to be done when the network predicts. No stream
of random numbers is drawn from: a mask is computed where it is needed, by hashing where it stands, so that any
mini-batch can be computed again alone. `kernels.drop_units` is the compiled twin.
"""

from collections.abc import Sequence

import numpy as np

from fastbp.regularization import Regularization

# 2^64 divided by the golden ratio, and the multipliers of SplitMix64 (Steele, Lea and Flood, 2014).
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
# A hash of 32 bits whose every input bit flips every output bit with probability close to 1/2: C. Wellons, "lowbias32"
# (2018). Two keys in the place of none make a function of its own for each step and layer.
_HASH_1, _HASH_2 = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)


def _mixed(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def keys(seed: int, first: int, count: int, L: int) -> np.ndarray:
    """(count, L, 2) uint32: the keys of the layers 1 … L in the mini-batches first, first + 1, … of a run."""
    steps = np.arange(first, first + count, dtype=np.uint64)
    by_step = _mixed(np.uint64(seed) + _GOLDEN * (steps + np.uint64(1)))
    layers = _GOLDEN * np.arange(1, L + 1, dtype=np.uint64)
    return _mixed(by_step[:, np.newaxis] + layers).view(np.uint32).reshape(count, L, 2)


def threshold(rate: float) -> np.uint32:
    """Hashes below this drop their unit."""
    return np.uint32(round(rate * 2**32))


def mask(key: np.ndarray, m: int, n: int, rate: float, dtype: np.dtype) -> np.ndarray:
    """(m, n): 0 for the units that are dropped, by row of the mini-batch and unit, and 1/(1 - rate) for the others."""
    h = np.arange(m * n, dtype=np.uint32) + key[0]
    h = (h ^ (h >> np.uint32(16))) * _HASH_1 ^ key[1]
    h = (h ^ (h >> np.uint32(15))) * _HASH_2
    h ^= h >> np.uint32(16)
    return np.where(h < threshold(rate), dtype.type(0), dtype.type(1 / (1 - rate))).reshape(m, n)


def masks(given: Regularization, step: int, m: int, sizes: Sequence[int], dtype: np.dtype) -> dict[int, np.ndarray]:
    """The masks, (m, n_l), of each hidden layer l for a mini-batch of a run; none without dropout."""
    if not given.dropout:
        return {}
    key = keys(given.seed, step, 1, len(sizes))[0]
    return {l: mask(key[l - 1], m, sizes[l - 1], given.dropout, dtype) for l in range(2, len(sizes))}
