"""Values as JSON has them: arrays as lists, paths as text, and no number that is none."""

import math
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A copy in JSON's own types; NaN and infinity, which JSON does not have, are null."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
