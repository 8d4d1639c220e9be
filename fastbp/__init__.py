"""fastbp: backpropagation in whole mini-batches; the book's Network, and a fast trainer of dense networks."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each public name lives. Modules are imported when a name is first asked for: `import fastbp` loads NumPy only.
_HOMES = {
    "Network": "network",
    "load": "network",
    "sigmoid": "activations",
    "sigmoid_prime": "activations",
    "SGD": "optimizers",
    "Adagrad": "optimizers",
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "RMSprop": "optimizers",
    "History": "history",
    "Plan": "engines.plan",
    "plan": "engines.plan",
    "DivergenceError": "errors",
    "FastbpError": "errors",
    "ModelFileError": "errors",
    "DataFileError": "errors",
    "bench": "",
    "datasets": "",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from fastbp import bench as bench
    from fastbp import datasets as datasets
    from fastbp.activations import sigmoid as sigmoid
    from fastbp.activations import sigmoid_prime as sigmoid_prime
    from fastbp.engines.plan import Plan as Plan
    from fastbp.engines.plan import plan as plan
    from fastbp.errors import DataFileError as DataFileError
    from fastbp.errors import DivergenceError as DivergenceError
    from fastbp.errors import FastbpError as FastbpError
    from fastbp.errors import ModelFileError as ModelFileError
    from fastbp.history import History as History
    from fastbp.network import Network as Network
    from fastbp.network import load as load
    from fastbp.optimizers import SGD as SGD
    from fastbp.optimizers import Adagrad as Adagrad
    from fastbp.optimizers import Adam as Adam
    from fastbp.optimizers import AdamW as AdamW
    from fastbp.optimizers import RMSprop as RMSprop


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastbp' has no attribute {name!r}")
    home = _HOMES[name]
    value = importlib.import_module(f"fastbp.{home or name}")
    if home:
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
