"""Which examples are held out of the training: a share of each label, spread evenly over an order."""

import numpy as np


def hold_out(
    n: int, share: float, strata: np.ndarray | None = None, order: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows held out) of n examples, as sorted indices.

    Of each label in `strata`, (n,), every k-th example in `order` is held out, k = 1/share: with a share of 0.2 the
    5th, 10th, 15th … Without strata, every k-th of all; without an order, in the order of the rows.
    """
    order = np.arange(n) if order is None else order
    places = np.empty(n, np.int64)
    if strata is None:
        places[order] = np.arange(n)
    else:
        codes = np.unique(strata, return_inverse=True)[1][order]
        by_label = np.argsort(codes, kind="stable")
        places[order[by_label]] = np.arange(n) - np.searchsorted(codes[by_label], codes[by_label])
    due = np.floor(np.arange(n + 1) * share + 1e-9)  # of so many examples: 29 of 100 are 0.29, which is a bit less
    held = due[places + 1] > due[places]
    return np.flatnonzero(~held), np.flatnonzero(held)
