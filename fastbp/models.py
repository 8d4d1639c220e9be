"""A network as a file: what is written, and how it is read back, over the file format of `container`."""

import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp import architecture, container, parameters
from fastbp.activations import ACTIVATIONS
from fastbp.errors import ModelFileError

if TYPE_CHECKING:
    from fastbp.network import Network

KIND = "fastbp-model"


def save(network: "Network", path: str | Path) -> None:
    """See `Network.save`."""
    check_savable(network)
    built = network.architecture
    tensors = {"theta": network._theta()}
    classes = network.classes_
    if classes is not None and classes.dtype.kind not in "US":
        tensors["classes"] = np.asarray(classes, np.int64)
    scaling = network.input_scaling
    if scaling is not None:
        tensors["input_shift"], tensors["input_scale"] = (np.asarray(part, np.float64) for part in scaling[1:])
    metadata = {
        "sizes": list(built.sizes),
        "activations": [activation.name for activation in built.activations],
        "cost": built.cost.name,
        "neurons": [[l, j, neuron.name] for (l, j), neuron in built.neurons.items()],
        "dtype": built.dtype.name,
        "engine": network.engine,
        "classes": classes.tolist() if classes is not None and classes.dtype.kind in "US" else None,
    }
    container.save(path, tensors, metadata, kind=KIND)


def check_savable(network: "Network") -> None:
    """ValueError if the network uses functions of the user's own, which a file cannot hold."""
    built = network.architecture
    if not built.compilable:
        own = [f.name for f in (*built.activations, *built.neurons.values()) if f.code is None]
        raise ValueError(
            f"a model file holds names, not functions, and this network uses the functions {', '.join(own)}; keep its "
            f"`biases` and `weights` with numpy.savez instead"
        )


def load(path: str | Path) -> "Network":
    """See `fastbp.load`."""
    tensors, metadata = container.load(path, kind=KIND)
    try:
        return _rebuild(tensors, metadata)
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is a complete file, but not of a network fastbp can build: {error}") from error


def _rebuild(tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> "Network":
    from fastbp.engines import plan
    from fastbp.network import Network

    built = architecture_of(metadata)
    plan.check_engine(metadata["engine"], built)
    theta = tensors["theta"]
    if theta.shape != (parameters.count(built.sizes),) or theta.dtype != built.dtype:
        raise ValueError(
            f"sizes {list(built.sizes)} need {parameters.count(built.sizes)} {built.dtype} parameters, the file has "
            f"{theta.dtype} {theta.shape}"
        )
    if not np.isfinite(theta).all():
        raise ValueError("a parameter is NaN or infinite")
    network = Network.__new__(Network)
    network._set_up(built, metadata["engine"], *parameters.views(built.sizes, theta))
    network.classes_ = _classes(tensors, metadata, built.sizes[-1])
    if "input_shift" in tensors:
        network.input_scaling = (
            "affine",
            _scaling(tensors, "input_shift", built),
            _scaling(tensors, "input_scale", built),
        )
    return network


def architecture_of(metadata: dict[str, Any]) -> architecture.Architecture:
    """What a network was, from its sizes and the names of its parts; ValueError or KeyError if there is no such one."""
    *hidden, output = [_known(name) for name in metadata["activations"]]
    neurons = {(l, j): _known(name) for l, j, name in metadata["neurons"]}
    if len(neurons) != len(metadata["neurons"]):
        raise ValueError("a neuron is changed twice")
    return architecture.build(metadata["sizes"], hidden, output, metadata["cost"], neurons, metadata["dtype"])


def _known(name: Any) -> str:
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation {reprlib.repr(name)} is not one of {', '.join(ACTIVATIONS)}")
    return name


def _classes(tensors: dict[str, np.ndarray], metadata: dict[str, Any], n_out: int) -> np.ndarray | None:
    names, classes = metadata["classes"], tensors.get("classes")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"classes are names or whole numbers, the file has {reprlib.repr(names)}")
        classes = np.array(names, dtype=np.str_)
    if classes is None:
        return None
    if classes.shape != (2 if n_out == 1 else n_out,) or classes.dtype.kind not in "iU":
        raise ValueError(f"{n_out} outputs cannot stand for classes of {classes.dtype} {classes.shape}")
    if not (classes[:-1] < classes[1:]).all():
        raise ValueError("the classes are not sorted, or not distinct")
    return classes


def _scaling(tensors: dict[str, np.ndarray], name: str, built: architecture.Architecture) -> Any:
    array = tensors[name]
    if array.shape not in ((), (built.sizes[0],)) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one finite number, or one for each of {built.sizes[0]} features")
    return float(array) if array.shape == () else array
