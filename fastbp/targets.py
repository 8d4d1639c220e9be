"""What is asked of a network beside its labels: how much each example counts, and how sure it shall be."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastbp.architecture import Architecture
from fastbp.data import Examples, as_weights


def weighted(examples: Examples, classes: Any, sample_weight: Any, class_weight: Any) -> Examples:
    """The examples with their weights: `sample_weight` times that of their label in `class_weight`, see `Network.fit`.

    Raises ValueError or TypeError for weights that make no sense, or of labels that are none of `classes`.
    """
    weights = None if sample_weight is None else as_weights(sample_weight, len(examples), "sample_weight")
    if class_weight is not None:
        by_class = _of_classes(examples, classes, class_weight)
        weights = by_class if weights is None else weights * by_class
        as_weights(weights, len(examples), "sample_weight times class_weight")
    return examples if weights is None else replace(examples, weights=weights)


def _of_classes(examples: Examples, classes: Any, given: Any) -> np.ndarray:
    """(n,): the weight of each example's label."""
    if classes is None:
        raise ValueError("class_weight is for labels, and y holds real targets; use sample_weight")
    labels = labels_of(examples)
    if isinstance(given, str) and given == "balanced":
        counts = np.bincount(labels, minlength=len(classes))
        return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[labels]
    if not isinstance(given, Mapping):
        raise TypeError(f"class_weight must be {{label: weight}} or 'balanced', got {given!r}")
    names = classes.tolist()
    unknown = [label for label in given if label not in names]
    if unknown:
        raise ValueError(f"class_weight names {unknown[0]!r}, which is none of the labels {names}")
    return as_weights([given.get(name, 1.0) for name in names], len(names), "class_weight")[labels]


def labels_of(examples: Examples) -> np.ndarray:
    """(n,): the place of each example's label among the classes."""
    if examples.labels is not None:
        return examples.labels
    assert examples.Y is not None
    return examples.Y[:, 0].astype(np.int64)


def smoothed(examples: Examples, classes: Any, architecture: Architecture, epsilon: float) -> Examples:
    """The examples with targets (1 - ε) e_y + ε/n_L, with one output (1 - ε) y + ε/2; the same for ε = 0.

    Szegedy et al., "Rethinking the Inception architecture" (2016), section 7. ValueError for real targets.
    """
    if not epsilon:
        return examples
    if classes is None:
        raise ValueError("label_smoothing is for labels, and y holds real targets; smooth them yourself")
    n_out = architecture.sizes[-1]
    Y = (1 - epsilon) * examples.one_hot(n_out, np.dtype(np.float64)) + epsilon / max(n_out, 2)
    return replace(examples, Y=Y.astype(architecture.dtype), labels=None)
