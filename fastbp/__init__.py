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
    "SGDW": "optimizers",
    "Adagrad": "optimizers",
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "RMSprop": "optimizers",
    "Constant": "schedules",
    "Cosine": "schedules",
    "Exponential": "schedules",
    "HalveWhenStuck": "schedules",
    "Schedule": "schedules",
    "Step": "schedules",
    "WarmUp": "schedules",
    "CSVLog": "callbacks",
    "Callback": "callbacks",
    "JSONLog": "callbacks",
    "ModelCheckpoint": "callbacks",
    "EarlyStopping": "stopping",
    "LBFGS": "lbfgs",
    "History": "history",
    "SweepResult": "sweeps",
    "sweep": "sweeps",
    "Plan": "engines.plan",
    "plan": "engines.plan",
    "Checkpoint": "checkpoint",
    "MiniBatch": "replaying",
    "replay": "replaying",
    "CheckpointError": "errors",
    "DivergenceError": "errors",
    "FastbpError": "errors",
    "ModelFileError": "errors",
    "DataFileError": "errors",
    "bench": "",
    "datasets": "",
    "diagnostics": "",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from fastbp import bench as bench
    from fastbp import datasets as datasets
    from fastbp import diagnostics as diagnostics
    from fastbp.activations import sigmoid as sigmoid
    from fastbp.activations import sigmoid_prime as sigmoid_prime
    from fastbp.callbacks import Callback as Callback
    from fastbp.callbacks import CSVLog as CSVLog
    from fastbp.callbacks import JSONLog as JSONLog
    from fastbp.callbacks import ModelCheckpoint as ModelCheckpoint
    from fastbp.checkpoint import Checkpoint as Checkpoint
    from fastbp.engines.plan import Plan as Plan
    from fastbp.engines.plan import plan as plan
    from fastbp.errors import CheckpointError as CheckpointError
    from fastbp.errors import DataFileError as DataFileError
    from fastbp.errors import DivergenceError as DivergenceError
    from fastbp.errors import FastbpError as FastbpError
    from fastbp.errors import ModelFileError as ModelFileError
    from fastbp.history import History as History
    from fastbp.lbfgs import LBFGS as LBFGS
    from fastbp.network import Network as Network
    from fastbp.network import load as load
    from fastbp.optimizers import SGD as SGD
    from fastbp.optimizers import SGDW as SGDW
    from fastbp.optimizers import Adagrad as Adagrad
    from fastbp.optimizers import Adam as Adam
    from fastbp.optimizers import AdamW as AdamW
    from fastbp.optimizers import RMSprop as RMSprop
    from fastbp.replaying import MiniBatch as MiniBatch
    from fastbp.replaying import replay as replay
    from fastbp.schedules import Constant as Constant
    from fastbp.schedules import Cosine as Cosine
    from fastbp.schedules import Exponential as Exponential
    from fastbp.schedules import HalveWhenStuck as HalveWhenStuck
    from fastbp.schedules import Schedule as Schedule
    from fastbp.schedules import Step as Step
    from fastbp.schedules import WarmUp as WarmUp
    from fastbp.stopping import EarlyStopping as EarlyStopping
    from fastbp.sweeps import SweepResult as SweepResult
    from fastbp.sweeps import sweep as sweep


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
