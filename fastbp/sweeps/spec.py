"""Which networks a sweep trains: one set of arguments, and for each network what differs, in names and numbers.

Everything here can be written down as JSON, so that a file of results says what was trained. What cannot (a function
of one's own) cannot be swept.
"""

import copy
import inspect
import itertools
import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from fastbp import optimizers
from fastbp.network import Network

_OPTIMIZERS = {name.lower(): kind for name, kind in optimizers.BY_NAME.items()}
# What a sweep gives itself, and what to say to whoever puts it among the arguments.
_ELSEWHERE = {
    "seed": "the seeds are given to sweep itself: seeds=5, or a list of them",
    "X": "the data are given to sweep itself: sweep(spec, (X, y))",
    "y": "the data are given to sweep itself: sweep(spec, (X, y))",
    "validation_data": "give validation_data=(X, y) to sweep itself",
    "verbose": "give verbose to sweep itself",
    "checkpoint": "all networks would write the same one; a sweep keeps each network that is done: output=FILE",
    "resume": "a sweep resumes as a whole: sweep(…, output=FILE, resume=True)",
}


def _parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


# `shuffle` is fit's, yes or no: which order the examples come in is for the seed to say.
_OF_FIT = _parameters(Network.fit)
_REQUIRED = ("sizes", "epochs")
_OF_NETWORK = [name for name in _parameters(Network.__init__) if name not in _OF_FIT]


@dataclass(frozen=True)
class Run:
    """One network of a sweep. `arguments` are all that Network and fit are given, `settings` those that vary, plain."""

    number: int
    arguments: dict[str, Any]
    settings: dict[str, Any]
    seed: int

    def for_network(self) -> dict[str, Any]:
        return {name: value for name, value in self._own().items() if name in _OF_NETWORK} | {"seed": self.seed}

    def for_fit(self) -> dict[str, Any]:
        """The arguments of fit, an optimizer that was named as an object with the step size eta."""
        given = {name: value for name, value in self._own().items() if name not in _OF_NETWORK}
        optimizer = given.get("optimizer")
        if isinstance(optimizer, str | Mapping):
            eta = {"eta": given.pop("eta")} if given.get("eta") is not None else {}
            given["optimizer"] = named_optimizer(optimizer, eta)
        return given

    def _own(self) -> dict[str, Any]:
        """A copy for this network alone: an object among the arguments may change while it trains."""
        return copy.deepcopy(self.arguments)


def expand(
    spec: Mapping[str, Any],
    grid: Mapping[str, Iterable[Any]] | None,
    configs: Sequence[Mapping[str, Any]] | None,
    seeds: int | Iterable[int],
) -> list[Run]:
    """Every network of a sweep: each combination of the grid's values (or each of `configs`), and for each every seed.

    Raises TypeError or ValueError for a name that neither Network nor fit has, and for a value JSON has no form for.
    """
    varied = _configurations(grid, configs)
    for name in dict.fromkeys(itertools.chain(_mapping(spec, "spec"), *varied)):
        _check_name(name)
    names, every_seed = list(dict.fromkeys(itertools.chain(*varied))), _seeds(seeds)
    runs: list[Run] = []
    seen: dict[str, int] = {}
    for config in varied:
        arguments = {**spec, **config}
        missing = [name for name in _REQUIRED if name not in arguments]
        if missing:
            raise ValueError(f"{missing[0]!r} is missing: give it in spec, or let it vary in grid or configs")
        described = {name: plain(value, name) for name, value in arguments.items()}
        settings = {name: described.get(name) for name in names}
        key = json.dumps(settings, sort_keys=True)
        if key in seen:
            raise ValueError(f"{show_settings(settings) or 'the same setting'} stands twice; drop one of them")
        seen[key] = len(seen)
        for seed in every_seed:
            runs.append(Run(len(runs), arguments, settings, seed))
    return runs


def _configurations(grid: Any, configs: Any) -> list[dict[str, Any]]:
    if grid is not None and configs is not None:
        raise ValueError("give either grid= (every combination of its values) or configs= (a list of settings)")
    if configs is not None:
        if not isinstance(configs, list | tuple) or not configs:
            raise TypeError(f"configs must be a list of mappings such as {{'eta': 0.1}}, got {configs!r}")
        return [dict(_mapping(config, f"configs[{i}]")) for i, config in enumerate(configs)]
    grid = {name: _values(name, values) for name, values in _mapping(grid or {}, "grid").items()}
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _mapping(given: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a mapping from names of arguments to values, got {given!r}")
    return given


def _values(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise TypeError(f"grid[{name!r}] must be a list of values, got {values!r}")
    values = list(values)
    if not values:
        raise ValueError(f"grid[{name!r}] is empty; give at least one value")
    return values


def _seeds(given: Any) -> list[int]:
    try:
        seeds = list(range(operator.index(given))) if not isinstance(given, Iterable) else [*map(operator.index, given)]
    except TypeError:
        raise TypeError(f"seeds must be a whole number (5 is 0, 1, 2, 3, 4) or a list of them, got {given!r}") from None
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be at least one whole number ≥ 0, each once; got {given!r}")
    return seeds


def _check_name(name: Any) -> None:
    if name in _ELSEWHERE:
        raise ValueError(f"{name!r} is none of a network's settings: {_ELSEWHERE[name]}")
    if name not in _OF_NETWORK and name not in _OF_FIT:
        known = [known for known in (*_OF_NETWORK, *_OF_FIT) if known not in _ELSEWHERE]
        raise TypeError(f"{name!r} is an argument of neither Network nor fit; there are {', '.join(known)}")


def check_arrays(arrays: Mapping[str, Any]) -> None:
    """An error for an argument that is none of fit's, or that is not for all networks."""
    for name in arrays:
        if name in _ELSEWHERE:
            _check_name(name)
        if name not in _OF_FIT:
            raise TypeError(f"{name!r} is an argument of neither sweep nor fit")


def named_optimizer(given: str | Mapping[str, Any], eta: Mapping[str, Any]) -> optimizers.Optimizer:
    """The optimizer of a name ("Adam"), or of {"name": "Adam", "beta1": 0.8}, with a step size if one is given."""
    rest = {"name": given} if isinstance(given, str) else dict(given)
    name = rest.pop("name", None)
    if not isinstance(name, str) or name.lower() not in _OPTIMIZERS:
        known = ", ".join(kind.__name__ for kind in _OPTIMIZERS.values())
        raise ValueError(f"optimizer {name!r} is none of {known}")
    try:
        return _OPTIMIZERS[name.lower()](**{**eta, **rest})
    except TypeError as error:
        raise TypeError(f"optimizer {name!r}: {str(error).partition(' ')[2]}") from None


def plain(value: Any, name: str) -> Any:
    """A value as JSON has it; an object such as fastbp.Adam(0.01) as its name and what differs from its defaults.

    TypeError for what has no such form, functions above all.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(part, name) for part in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: plain(part, name) for key, part in value.items()}
        return [plain([*key, part] if isinstance(key, tuple) else [key, part], name) for key, part in value.items()]
    if is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        defaults = {each.name: each.default for each in fields(value)}
        given = {key: part for key, part in parts.items() if defaults[key] is MISSING or part != defaults[key]}
        return {"name": type(value).__name__} | {key: plain(part, name) for key, part in given.items()}
    raise TypeError(
        f"{name}={value!r} cannot be written down in names and numbers, as the record of a sweep must be; with "
        f"functions of your own, train each network with fit"
    )


def show(value: Any) -> str:
    """A plain value as people read it: 784-30-10, Adam(eta=0.01)."""
    if isinstance(value, list) and all(isinstance(part, int | str) for part in value):
        return "-".join(map(str, value))
    if isinstance(value, dict) and "name" in value:
        rest = ", ".join(f"{key}={show(part)}" for key, part in value.items() if key != "name")
        return f"{value['name']}({rest})" if rest else str(value["name"])
    return f"{value:g}" if isinstance(value, float) else "–" if value is None else str(value)


def show_settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={show(value)}" for name, value in settings.items())
