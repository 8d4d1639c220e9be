"""What a network is, apart from its parameters: sizes, activations, cost, checked once and never changed."""

import contextlib
import math
import operator
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import memory, parameters
from fastbp.activations import Activation, Function, as_activation
from fastbp.costs import Cost, as_cost

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Architecture:
    """The sizes n_1 … n_L; the activation of each layer 2 … L; the cost; single changed neurons by (l, j)."""

    sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    cost: Cost
    neurons: Mapping[tuple[int, int], Activation]
    dtype: np.dtype

    @property
    def compilable(self) -> bool:
        """True if the compiled kernels know every activation and the cost: none is a user's own function."""
        return self.cost.code >= 0 and all(f.code is not None for f in (*self.activations, *self.neurons.values()))

    def f(self, l: int, z: Any) -> Any:
        """A^l = σ_l(Z^l) for the rows of z, (m, n_l); l counts as in the book."""
        return self._replace_changed(l, z, self.activations[l - 2].f(z), lambda neuron: neuron.f)

    def f_prime(self, l: int, z: Any) -> Any:
        """σ_l'(Z^l) for the rows of z, (m, n_l)."""
        return self._replace_changed(l, z, self.activations[l - 2].f_prime(z), lambda neuron: neuron.f_prime)

    def _replace_changed(self, l: int, z: Any, values: Any, part: Callable[[Activation], Function]) -> Any:
        """A layer's values, with the columns of its single changed neurons computed by their own function."""
        changed = self.changed_in(l)
        if not changed:
            return values
        values = np.array(values, dtype=np.result_type(z))
        for j, neuron in changed:
            values[:, j] = part(neuron)(z[:, j])
        return values

    def changed_in(self, l: int) -> list[tuple[int, Activation]]:
        return [(j, neuron) for (layer, j), neuron in self.neurons.items() if layer == l]


def build(
    sizes: Sequence[int],
    hidden: Any,
    output: Any,
    cost: str,
    neurons: Mapping[tuple[int, int], Any] | None,
    dtype: Any,
) -> Architecture:
    """Check what a user asked for, and hold it. Raises ValueError or TypeError that say what to change."""
    checked = check_sizes(sizes)
    n_hidden = len(checked) - 2
    if isinstance(hidden, list):
        if len(hidden) != n_hidden:
            raise ValueError(
                f"hidden has {len(hidden)} activations, but sizes {list(checked)} have {n_hidden} hidden layers; "
                f"give one each, or a single name for all"
            )
        layers = [as_activation(given, f"hidden[{i}]") for i, given in enumerate(hidden)]
    else:
        layers = [as_activation(hidden, "hidden")] * n_hidden
    if any(layer.name == "softmax" for layer in layers):
        raise ValueError("softmax couples the neurons of a layer and can only be the output; choose another hidden=")
    layers.append(as_activation(output, "output"))
    the_cost = as_cost(cost, layers[-1])
    return Architecture(
        checked, tuple(layers), the_cost, _check_neurons(neurons, checked, the_cost), check_dtype(dtype)
    )


# Looked up, and not parsed by NumPy: of text with commas it makes a structure, and evaluates a part of it.
_DTYPE_NAMES = {
    **dict.fromkeys(("float64", "f8", "d", "double", "float"), "float64"),
    **dict.fromkeys(("float32", "f4", "f", "single"), "float32"),
}


def check_dtype(dtype: Any) -> np.dtype:
    """float64 or float32, by name or as NumPy's own."""
    name = reprlib.repr(dtype)
    if isinstance(dtype, str):
        name = _DTYPE_NAMES.get(dtype.lstrip("<="), name)
    elif dtype is not None:
        with contextlib.suppress(TypeError, ValueError, KeyError):
            name = np.dtype(dtype).name
    if name not in DTYPES:
        raise ValueError(f"dtype must be 'float64' or 'float32', got {name}")
    return np.dtype(name)


def check_sizes(sizes: Any) -> tuple[int, ...]:
    """At least two whole numbers ≥ 1, whose parameters can be held: counted in Python integers, before any array."""
    try:
        checked = tuple(operator.index(n) for n in sizes)
    except TypeError:
        raise TypeError(f"sizes must be whole numbers, one a layer, for example [784, 30, 10]; got {sizes!r}") from None
    if len(checked) < 2:
        raise ValueError(f"sizes={list(checked)} needs at least two layers, an input and an output")
    if min(checked) < 1:
        raise ValueError(f"sizes={list(checked)}: every layer needs at least one neuron")
    n_bytes, limit = 8 * parameters.count(checked), memory.limit()
    if n_bytes > limit:
        raise ValueError(
            f"sizes={reprlib.repr(list(checked))} have {_shown(n_bytes // 8)} parameters, {_shown(n_bytes // 2**20)} "
            f"MiB in float64, and this machine has {_shown(limit // 2**20)} MiB; use smaller layers"
        )
    return checked


def check_batch(built: Architecture, rows: int) -> None:
    """ValueError if the activations, weighted inputs and errors of a mini-batch of so many examples cannot be held."""
    n_bytes, limit = 3 * rows * sum(built.sizes) * built.dtype.itemsize, memory.limit()
    if n_bytes > limit:
        raise ValueError(
            f"a mini-batch of {rows:,} examples takes {_shown(n_bytes // 2**20)} MiB of activations and errors, and "
            f"this machine has {_shown(limit // 2**20)} MiB; use smaller mini-batches"
        )


def _shown(n: int) -> str:
    return f"{n:,}" if n < 10**18 else f"some 10^{int((n.bit_length() - 1) * math.log10(2))}"


def _check_neurons(
    neurons: Mapping[tuple[int, int], Any] | None, sizes: tuple[int, ...], cost: Cost
) -> dict[tuple[int, int], Activation]:
    checked: dict[tuple[int, int], Activation] = {}
    if neurons is not None and not isinstance(neurons, Mapping):
        raise TypeError(f"neurons must map (layer, neuron) to an activation, as {{(2, 0): 'tanh'}}; got {neurons!r}")
    for key, given in (neurons or {}).items():
        if not (isinstance(key, tuple) and len(key) == 2 and all(isinstance(i, int | np.integer) for i in key)):
            raise TypeError(f"neurons needs keys (l, j), layer and neuron, got {key!r}")
        l, j = int(key[0]), int(key[1])
        if not 2 <= l <= len(sizes):
            raise ValueError(f"neurons[{key}]: layer {l} has no activation; layers go from 2 to L={len(sizes)}")
        if not 0 <= j < sizes[l - 1]:
            raise ValueError(f"neurons[{key}]: layer {l} has neurons 0 to {sizes[l - 1] - 1}")
        activation = as_activation(given, f"neurons[{key}]")
        if activation.name == "softmax" and activation.code is not None:
            raise ValueError(f"neurons[{key}]='softmax': softmax is a whole layer's function, not one neuron's")
        if l == len(sizes) and cost.outputs is not None and not cost.goes_with(activation):
            raise ValueError(
                f"neurons[{key}] changes an output neuron, but cost {cost.name!r} needs all outputs to be "
                f"{' or '.join(cost.outputs)}; use cost='quadratic'"
            )
        checked[l, j] = activation
    return checked


def flops(sizes: Sequence[int], m: int) -> int:
    """Floating-point operations of one mini-batch of m dense rows: three products a layer, two for the first."""
    pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
    return 2 * m * (3 * sum(map(math.prod, pairs)) - math.prod(pairs[0]))
