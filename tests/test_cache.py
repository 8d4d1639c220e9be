"""What a process loads and compiles: nothing before it is needed, and nothing twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba.core.config import DISABLE_JIT

ROOT = Path(__file__).resolve().parent.parent

# Trains, in one dtype, on dense or on sparse rows, and tells which kernels came from the cache and which did not.
TRAIN = """
import json, sys
import numpy as np
import fastbp
from fastbp import kernels

X = np.random.default_rng(0).normal(size=(20, 6))
if "sparse" in sys.argv:
    X[X < 0.5] = 0
net = fastbp.Network([6, 5, 3], hidden="tanh", dtype="float32", engine="fused", seed=0, neurons={(2, 1): "gelu"})
net.fit(X, np.arange(20) % 3, epochs=2, eta=0.5, lmbda=0.1, validation_data=(X, np.arange(20) % 3))
stats = {name: kernel.stats for name, kernel in vars(kernels).items() if hasattr(kernel, "stats")}
print(json.dumps({
    "hits": {name: sum(stat.cache_hits.values()) for name, stat in stats.items()},
    "misses": {name: sum(stat.cache_misses.values()) for name, stat in stats.items()},
    "theta": net._theta().tolist(),
}))
"""


def python(source: str, *arguments: str, **environment: str) -> str:
    """What a fresh process prints. Warnings are errors there too."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source, *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_second_process_compiles_nothing(tmp_path: Path) -> None:
    if DISABLE_JIT:
        pytest.skip("nothing is compiled with the JIT off")

    def train(*arguments: str) -> dict[str, Any]:
        return json.loads(python(TRAIN, *arguments, NUMBA_CACHE_DIR=str(tmp_path)))

    first, second, sparse = train(), train(), train("sparse")
    assert first["misses"]["run"] == 1 and first["hits"]["run"] == 0
    assert second["hits"]["run"] == 1
    assert [name for name, misses in second["misses"].items() if misses] == []
    assert second["theta"] == first["theta"]  # and the cached code computes what the compiled code did
    # other data need no other code, but for what compresses them
    assert sparse["hits"]["run"] == 1
    assert [name for name, misses in sparse["misses"].items() if misses] == ["compress_rows"]


LOADED = "import sys; print([name for name in {heavy} if name in sys.modules])"
HEAVY = ["numba", "llvmlite", "scipy", "rich", "typer", "safetensors", "pooch", "threadpoolctl", "pandas", "matplotlib"]


@pytest.mark.parametrize(
    "statement",
    ["import fastbp", "from fastbp import Network", "from fastbp.book import network", "from fastbp import datasets"],
)
def test_an_import_loads_nothing_heavy(statement: str) -> None:
    assert python(f"{statement}; {LOADED.format(heavy=HEAVY)}").strip() == "[]"


def test_the_import_of_a_network_loads_little() -> None:
    """It took 1.5 times as long as `import numpy`: 24 dataclasses, half a millisecond each, numpy.random, pathlib."""
    added = "before = set(sys.modules); from fastbp import Network; print(*sorted(set(sys.modules) - before))"
    loaded = python(f"import sys, numpy; {added}").split()
    ours = {name.removeprefix("fastbp.") for name in loaded if name.partition(".")[0] == "fastbp"}
    layers = {"network", "engines", "data", "initializers", "architecture", "parameters", "costs", "activations"}
    assert ours == {"fastbp", "errors", "checks", "memory", *layers}
    assert [name for name in loaded if name.startswith("numpy")] == []
    assert {"random", "pathlib", "hashlib", "csv"}.isdisjoint(loaded)


def test_the_modules_of_the_engines_are_loaded_when_asked_for() -> None:
    from fastbp import engines

    assert {name: getattr(engines, name).__name__ for name in (*engines.NAMES, "plan")} == {
        name: f"fastbp.engines.{name}" for name in (*engines.NAMES, "plan")
    }
    with pytest.raises(AttributeError, match=r"module 'fastbp\.engines' has no attribute 'matrx'"):
        engines.matrx  # noqa: B018


def test_the_reference_engine_trains_without_numba() -> None:
    train = "net = fastbp.Network([4, 3, 2], engine='reference'); net.fit([[1, 2, 3, 4]], [1], epochs=1, eta=1)"
    assert "numba" not in python(f"import fastbp; {train}; net.predict([[1, 2, 3, 4]]); {LOADED.format(heavy=HEAVY)}")


def test_public_names_are_all_there() -> None:
    names = "[getattr(fastbp, name) for name in fastbp.__all__]; assert set(fastbp.__all__) <= set(dir(fastbp))"
    python(f"import fastbp; {names}")
    with pytest.raises(AttributeError, match="module 'fastbp' has no attribute 'Netwrok'"):
        __import__("fastbp").Netwrok  # noqa: B018
