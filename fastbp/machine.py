"""What a bug report and a benchmark need to know of this machine: versions, processor, threads, folders."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import fastbp
from fastbp import memory
from fastbp.threads import cores

_PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "threadpoolctl", "safetensors", "typer", "rich")
_VARIABLES = (
    "FASTBP_DATA",
    "NUMBA_CACHE_DIR",
    "NUMBA_DISABLE_JIT",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "MKL_NUM_THREADS",
)


def facts() -> dict[str, Any]:
    """Everything, as plain values; loads NumPy, SciPy and Numba, to ask them."""
    return {
        "fastbp": fastbp.__version__,
        "folder": str(Path(fastbp.__file__).parent),
        "python": f"{platform.python_version()} ({platform.python_implementation()}) at {sys.executable}",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cpu": cpu_name(),
        "cpu_target": _llvm_target(),
        "cores": cores(),
        "memory_gib": memory.gib(),
        "blas": _blas(),
        "numba_threads": _numba_threads(),
        "numba_cache": _numba_cache(),
        "environment": {name: os.environ.get(name) for name in _VARIABLES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The processor's own name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _llvm_target() -> str:
    import llvmlite.binding

    return str(llvmlite.binding.get_host_cpu_name())


def _blas() -> list[dict[str, Any]]:
    """The libraries of linear algebra in this process, and the threads each would use."""
    import scipy.linalg.blas  # noqa: F401  SciPy brings a library of its own
    import threadpoolctl

    keys = ("internal_api", "version", "num_threads", "architecture", "filepath")
    return [{key: library.get(key) for key in keys} for library in threadpoolctl.threadpool_info()]


def _numba_threads() -> int:
    import numba

    return int(numba.get_num_threads())


def _numba_cache() -> str:
    """The folder where compiled kernels are kept for the next start, or why there is none."""
    from numba.core.config import DISABLE_JIT  # type: ignore[attr-defined]

    if DISABLE_JIT:
        return "none: NUMBA_DISABLE_JIT is set, nothing is compiled"
    try:
        from fastbp import kernels

        stats: Any = kernels.run.stats  # type: ignore[attr-defined]
        return str(stats.cache_path or "none: no folder to write to")
    except Exception as error:  # a cache that cannot be had is what the report is about
        return f"none: {error}"
