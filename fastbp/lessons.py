"""From raw rows to what a network learns, and back: labels, the held-out part, the scaling of inputs and targets.

A network learns best on scaled numbers, but its users have raw ones. So rows stay raw as long as they can, and one
function, `scaled`, takes them to the network's inputs: in training, in evaluation and in prediction, as the model
file says. Targets that were scaled are scaled back in the weights of the output layer, once and for all.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import data, splits
from fastbp.architecture import Architecture
from fastbp.network import Network
from fastbp.sources import BUILT_IN, Rows, Scaling

# Whole numbers with more distinct values than this are taken for quantities, unless the user says they are labels.
MOST_LABELS = 20
# Rows scaled at a time: float64 on the way, without a second copy of the data.
_BLOCK = 4096


@dataclass(frozen=True)
class Lesson:
    """Examples ready for `fit`: scaled inputs, and targets that are places of `classes`, or numbers.

    Numbers are (raw - y_shift) / y_scale, one shift and scale for each output; y_scale is None if they are raw.
    """

    X: np.ndarray
    y: np.ndarray
    held_out: tuple[np.ndarray, np.ndarray] | None
    classes: np.ndarray | None
    scaling: Scaling
    y_shift: Any = 0.0
    y_scale: Any = None

    def raw_targets(self, y: np.ndarray) -> np.ndarray:
        """Labels by name, or numbers in their own unit."""
        if self.classes is not None:
            return self.classes[y]
        return y if self.y_scale is None else y * self.y_scale + self.y_shift

    def finish(self, network: Network) -> None:
        """Make the trained network one for raw rows: its labels, its input scaling, and targets in their own unit.

        A linear output z = W a + b has learned (y - shift)/scale, so scale·W and scale·b + shift give y itself.
        Raises ValueError where those would overflow the network's dtype.
        """
        network.input_scaling, network.classes_ = self.scaling, self.classes
        if self.y_scale is None:
            return
        n_out = network.sizes[-1]
        scale, shift = (np.broadcast_to(part, n_out)[:, np.newaxis] for part in (self.y_scale, self.y_shift))
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            w = (network.weights[-1] * scale).astype(network.dtype)
            b = (network.biases[-1] * scale + shift).astype(network.dtype)
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise ValueError(f"the targets are too large for {network.dtype}; use --dtype float64, or another unit")
        network.weights, network.biases = [*network.weights[:-1], w], [*network.biases[:-1], b]


def prepare(rows: Rows, classes: np.ndarray | None, built: Architecture, validation: float | None, kind: str) -> Lesson:
    """Hold rows out (or take those that come with the data), and scale inputs and targets for a network so built.

    validation: the share to hold out, None for 0.2; kind: see `find_scaling`. Raises ValueError that names the option.
    """
    assert rows.y is not None
    X, y = rows.X, rows.y
    X_held, y_held = rows.test or (X[:0], y[:0])
    check_finite(rows, (X, y), (X_held, y_held))  # by the rows of the file, before any are held out
    if rows.test is None:
        learn, held = hold_out(rows, 0.2 if validation is None else validation, classes is not None)
        X, y, X_held, y_held = X[learn], y[learn], X[held], y[held]
    elif validation is not None:
        raise ValueError(f"{rows.name} comes with examples to hold out; drop --validation")
    assert y_held is not None
    scaling = find_scaling(rows, X, kind)
    X, X_held = (scaled(part, scaling, built.dtype) for part in (X, X_held))
    if classes is not None:
        y, y_held = (np.searchsorted(classes, part) for part in (y, y_held))
        return Lesson(X, y, (X_held, y_held) if len(X_held) else None, classes, scaling)
    y, y_held = (part.astype(np.float64) for part in (y, y_held))
    y_shift, y_scale = _target_scaling(rows, y, built)
    if y_scale is not None:
        y, y_held = ((part - y_shift) / y_scale for part in (y, y_held))
    return Lesson(X, y, (X_held, y_held) if len(X_held) else None, None, scaling, y_shift, y_scale)


# --- Labels or numbers


def labels_of(rows: Rows, task: str) -> np.ndarray | None:
    """The sorted distinct labels if y holds labels, None if it holds numbers; `task` (classify, regress) settles it.

    By itself: strings are labels, so are whole numbers with at most MOST_LABELS distinct values; all else is numbers.
    """
    assert rows.y is not None
    parts = [part for part in (rows.y, None if rows.test is None else rows.test[1]) if part is not None]
    kinds = {part.dtype.kind for part in parts}
    what = f"the target {rows.target!r}"
    if "U" in kinds and (task == "regress" or kinds != {"U"}):
        example = next(part.flat[0] for part in parts if part.dtype.kind == "U")
        needs = "--task regress needs numbers" if task == "regress" else "numbers stand beside them"
        raise ValueError(f"{what} holds labels such as {str(example)!r}, but {needs}")
    several = any(part.ndim != 1 for part in parts)
    if task == "regress" or (task == "auto" and (several or "f" in kinds)):
        return None
    if several:
        raise ValueError(f"{what} has shape {rows.y.shape}, but labels are one column; drop --task classify")
    labels = np.unique(np.concatenate(parts))
    if task == "auto" and "U" not in kinds and len(labels) > MOST_LABELS:
        return None
    if "f" in kinds:
        odd = labels[~np.isfinite(labels) | (labels != np.rint(labels)) | (np.abs(labels) >= 2**53)]
        if len(odd):
            raise ValueError(f"{what} holds {odd[0]:g}, but labels are words or whole numbers; drop --task classify")
    if len(labels) < 2:
        raise ValueError(f"{what} is {str(labels[0])!r} in every row; there is nothing to tell apart")
    return labels if "U" in kinds else labels.astype(np.int64)


def is_a_guess(rows: Rows, task: str) -> bool:
    """Whether `labels_of` had to guess: whole numbers may be either."""
    return task == "auto" and rows.name not in BUILT_IN and rows.y is not None and rows.y.dtype.kind in "iu"


def check_finite(rows: Rows, *parts: tuple[np.ndarray, Any]) -> None:
    """ValueError naming the first NaN or infinity of raw (X, y); y may be None. Only an .npz can hold them."""
    for X, y in parts:
        if X.dtype.kind == "f":
            data.check_finite(X, f"{rows.name}: X")
        if y is not None and y.dtype.kind == "f" and not np.isfinite(y).all():
            row = int(np.argmin(np.isfinite(y).reshape(len(y), -1).all(axis=1)))
            raise ValueError(f"{rows.name}: the target {rows.target!r} is {y[row]} in row {row}; remove or replace it")


# --- What is held out


def hold_out(rows: Rows, share: float, by_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows held out) as sorted indices: a plain rule, without any random draw.

    Of each label, in file order, every k-th row is held out, k = 1/share: with a share of 0.2 the 5th, 10th, 15th …
    (the rule of `load_digits`). Without labels, every k-th row of all.
    """
    assert rows.y is not None
    n = len(rows.y)
    learn, held = splits.hold_out(n, share, rows.y if by_label else None)
    if share and not len(held):
        raise ValueError(
            f"{rows.name} has too few rows ({n}) to hold out a share of {share:g}; use a larger --validation, or "
            f"--validation 0 to train on all"
        )
    return learn, held


# --- From raw numbers to scaled ones


def find_scaling(rows: Rows, X: np.ndarray, kind: str) -> Scaling:
    """The scaling for training on raw X, (n, n_1): pixels (bytes) to [0, 1], all else to mean 0 and deviation 1.

    kind: "auto" as above; "standard" for mean 0 and deviation 1 in any case; "none" to leave the numbers alone.
    """
    if kind == "none":
        return None
    if kind == "auto" and rows.pixels is not None:
        return rows.pixels
    if kind == "auto" and X.dtype == np.uint8:
        return ("affine", 0.0, 1 / max(1, int(X.max())))
    shift, deviation = _mean_and_deviation(X)
    bad = ~(np.isfinite(shift) & np.isfinite(deviation))
    if bad.any():
        column = int(np.argmax(bad))
        name = rows.columns[column] if rows.columns else column
        raise ValueError(f"{rows.name}: column {name!r} has values too large to be scaled; use another unit")
    return ("affine", shift, 1 / deviation)


def _mean_and_deviation(array: np.ndarray) -> tuple[Any, Any]:
    """Of each column, in float64. A constant column, whose deviation is zero or a rounding error, gets 1."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        mean, deviation = array.mean(axis=0, dtype=np.float64), array.std(axis=0, dtype=np.float64)
        return mean, np.where(deviation <= np.maximum(1e-12 * np.abs(mean), 1e-300), 1.0, deviation)


def _target_scaling(rows: Rows, y: np.ndarray, built: Architecture) -> tuple[Any, Any]:
    """(mean, deviation) of each column of targets, where a linear output can take them back afterwards."""
    if built.activations[-1].name != "identity" or built.neurons:
        return 0.0, None
    shift, scale = _mean_and_deviation(y)
    if not (np.isfinite(shift) & np.isfinite(scale)).all():
        raise ValueError(f"{rows.name}: the target {rows.target!r} has values too large to be scaled; use another unit")
    return shift, scale


def scaled(X: np.ndarray, scaling: Scaling, dtype: np.dtype) -> np.ndarray:
    """x' = (x - shift) * scale in the network's dtype, computed in float64; X is left alone.

    What is too large for the dtype becomes infinite, and is refused where inputs are checked.
    """
    _, shift, scale = scaling or ("affine", 0.0, 1.0)
    out = np.empty(X.shape, dtype)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for start in range(0, len(X), _BLOCK):
            block = X[start : start + _BLOCK].astype(np.float64)
            block -= shift
            block *= scale
            out[start : start + _BLOCK] = block
    return out
