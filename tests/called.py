"""Parts of compiled runs, as functions that Python calls: `call.forward_panel(...)`."""

from collections.abc import Callable
from typing import Any

from fastbp import kernels


class _Calls:
    def __getattr__(self, name: str) -> Callable[..., Any]:
        return kernels.from_python(getattr(kernels, name))


call = _Calls()
