"""What the commands choose where the user gave nothing: a network that suits the data, its step size, its engine."""

from dataclasses import dataclass

import numpy as np

from fastbp.activations import as_activation
from fastbp.engines.plan import density, plan
from fastbp.lessons import Lesson
from fastbp.network import Network
from fastbp.sources import Rows


@dataclass(frozen=True)
class NetworkOptions:
    """What network to build; None leaves the choice to what it shall learn."""

    sizes: list[int] | None = None
    hidden: list[int] | None = None
    activation: list[str] | None = None
    output: str | None = None
    cost: str | None = None
    init: str | None = None
    engine: str = "auto"
    dtype: str = "float64"
    seed: int = 0


def build(shape: NetworkOptions, rows: Rows, classes: np.ndarray | None) -> Network:
    """The network: inputs and outputs as the data ask, the rest as the user or else the defaults say."""
    assert rows.y is not None
    n_in = rows.X.shape[1]
    n_out = len(classes) if classes is not None else 1 if rows.y.ndim == 1 else rows.y.shape[1]
    sizes = shape.sizes or [n_in, *([30] if shape.hidden is None else shape.hidden), n_out]
    one_for_two = n_out == 2 and classes is not None and sizes[-1] == 1
    if sizes[0] != n_in or (sizes[-1] != n_out and not one_for_two):
        what = f"{n_out} labels" if classes is not None else f"{n_out} number{'s' * (n_out > 1)} a row"
        raise ValueError(
            f"--sizes {','.join(map(str, sizes))} does not fit {rows.name}, which has {n_in} features and {what} to "
            f"learn; begin with {n_in} and end with {n_out}, or give only --hidden"
        )
    if one_for_two and shape.output not in (None, "sigmoid"):
        raise ValueError(f"one output for two labels is a sigmoid's, not --output {shape.output}; end --sizes with 2")
    output, cost = _output_and_cost(shape, classes is not None, one_for_two)
    return _network(shape, sizes, output, cost)


def build_by_sizes(shape: NetworkOptions) -> Network:
    """The network of the sizes given, as it would learn labels."""
    output, cost = _output_and_cost(shape, by_label=True, one_for_two=False)
    return _network(shape, shape.sizes or [], output, cost)


def _output_and_cost(shape: NetworkOptions, by_label: bool, one_for_two: bool) -> tuple[str, str]:
    """What goes with what the user gave; the legal pairs are in `costs`."""
    output, cost = shape.output, shape.cost
    if not by_label:
        return output or "identity", cost or "quadratic"
    if output is None and cost is None:
        output = "sigmoid" if one_for_two else "softmax"
    if output is None:
        output = "softmax" if cost == "log_likelihood" else "sigmoid"
    return output, cost or {"softmax": "log_likelihood", "sigmoid": "cross_entropy"}.get(output, "quadratic")


def _network(shape: NetworkOptions, sizes: list[int], output: str, cost: str) -> Network:
    as_activation(output, "--output")
    hidden = [as_activation(name, "--activation").name for name in shape.activation or ["relu"]]
    if len(hidden) not in (1, len(sizes) - 2):
        raise ValueError(
            f"--activation names {len(hidden)} activations, but there are {len(sizes) - 2} hidden layers; give one "
            f"for all, or one each"
        )
    return Network(
        sizes,
        hidden=hidden if len(hidden) > 1 else hidden[0],
        output=output,
        cost=cost,
        initializer=usual_initializer(hidden) if shape.init is None else shape.init,
        dtype=shape.dtype,
        engine=shape.engine,
        seed=shape.seed,
    )


def usual_initializer(hidden: list[str]) -> str:
    """First weights that suit the activations of the hidden layers."""
    return "scaled" if "sigmoid" in hidden else "he"


def usual_eta(network: Network, classes: np.ndarray | None) -> float:
    """A step size that learned well on digits, MNIST and small tables in batches of 10 (3 is the book's)."""
    flat = any(f.name == "sigmoid" for f in network.architecture.activations[:-1])  # σ' ≤ 1/4: small gradients
    if classes is None:
        return 0.1 if flat else 0.02
    if network.architecture.cost.name == "quadratic":
        return 3.0 if flat else 0.5
    return 0.5 if flat else 0.05


# Seconds it takes to load the compiled kernels, or ten times that to compile them: a command runs once, and a lesson
# shorter than this is over sooner without them.
_LOADING_SECONDS = 1.0


def engine_for_once(network: Network, lesson: Lesson, epochs: int, batch_size: int) -> str:
    """The engine to train in: as the plan says, but no compiled code for less work than it takes to load."""
    if network.engine != "auto":
        return network.engine
    planned = plan(network, batch_size, density(lesson.X))
    batches = epochs * -(-len(lesson.X) // batch_size)
    return "matrix" if batches * planned.seconds["matrix"] < _LOADING_SECONDS else planned.engine
