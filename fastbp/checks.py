"""Numbers that a user hands in: what they must be, and the words of each refusal."""

import math
import operator
from typing import Any


def whole(value: Any, name: str, least: int | None = None, unit: str = "") -> int:
    """A whole number of any type as an int. TypeError for what is none, ValueError below `least`, if there is one."""
    try:
        number = operator.index(value)
    except TypeError:
        of = f" of {unit}s" if unit else ""
        raise TypeError(f"{name} must be a whole number{of}, got {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {f'{least} {unit}'.rstrip()}, got {number}")
    return number


def number(value: Any, name: str) -> float:
    """A finite number of any type as a float. TypeError for what is none, ValueError for NaN and infinity."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {number}")
    return number


def not_negative(value: Any, name: str) -> None:
    """ValueError unless it is a finite number ≥ 0."""
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number ≥ 0, got {value!r}")
