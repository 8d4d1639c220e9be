"""Hot kernels stay vectorised: their machine code is looked at, for a slower kernel passes every other test."""

import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import pytest
from numba import njit, types
from numba.core.config import CPU_NAME, DISABLE_JIT

from fastbp import kernels

pytestmark = pytest.mark.skipif(
    DISABLE_JIT or CPU_NAME is not None or "+fma" not in llvmlite.binding.get_host_cpu_features().flatten(),
    reason="needs code compiled for a machine with x86's fused multiply-add",
)

FULL = "zmm" if kernels.VECTOR_BYTES == 64 else "ymm"  # what the emitted vectors must fill
WIDE = "[yz]mm"  # what LLVM's own vectoriser may choose


def packed(instruction: str, register: str = WIDE) -> str:
    """A pattern for an instruction on whole registers of numbers of dtype {p}, packed: not one on a single number."""
    return rf"\b{instruction}p{{p}}\s.*%{register}"


FMA = r"vfmadd\d+"

# Kernel, arguments ({x} an array, {s} a number of the dtype), pattern, and how often it is there at the least.
EMITTED = {
    # the highest tile: ten rows (six without AVX-512) of two vectors
    "forward_panel": ("x i x i i x i x i i i i", FMA, 20 if kernels.VECTOR_BYTES == 64 else 12),
    "update_panel": ("x i x i i x i s i i i", FMA, 20 if kernels.VECTOR_BYTES == 64 else 12),
    "gather_panel": ("x i x i q q k x q i i i s x i i", FMA, 8),  # four entries of a row, two vectors
    "scatter_panel": ("x i x i q q k x q i i s i", FMA, 8),
    "dot_rows": ("x i x i i x i i i i", FMA, 2),
    "combine": ("x i s x i s i", FMA, 1),
    "add_halves": ("x i x i i x i i", "vadd", 2),
    "sum_rows": ("x i s x i i i", "vadd", 1),
}
BY_LLVM = {
    "activate": ("i x i i i", FMA, 1),
    "times_derivative": ("i x i i i i", "vmul", 1),
}


def assembly(kernel: Callable[..., Any], signature: tuple) -> str:
    """What a kernel becomes, compiled now: what comes from the cache has no assembly to show."""
    if not hasattr(kernel, "py_func"):  # vector code
        kernel, signature = kernels.from_python(kernel), (types.StarArgTuple.from_types(signature),)
    options = {name: value for name, value in kernel.targetoptions.items() if name not in ("cache", "nopython")}
    fresh = njit(**options)(kernel.py_func)
    fresh.compile(signature)
    return fresh.inspect_asm(signature)


def code(kernel: Callable[..., Any], arguments: str, dtype: str) -> str:
    """The same for arguments of the kinds in EMITTED."""
    kinds = {
        "i": types.intp, "s": getattr(types, dtype), "x": types.Array(getattr(types, dtype), 1, "C"),
        "q": types.Array(types.int64, 1, "C"), "k": types.Array(types.int32, 1, "C"),
    }  # fmt: skip
    return assembly(kernel, tuple(kinds[kind] for kind in arguments.split()))


def count(pattern: str, dtype: str, text: str) -> int:
    return len(re.findall(pattern.format(p="s" if dtype == "float32" else "d"), text))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EMITTED)
def test_emitted_vectors_fill_the_registers(name: str, dtype: str) -> None:
    arguments, instruction, least = EMITTED[name]
    found = count(packed(instruction, FULL), dtype, code(getattr(kernels, name), arguments, dtype))
    assert found >= least


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BY_LLVM)
def test_llvm_vectorises_the_elementwise_loops(name: str, dtype: str) -> None:
    arguments, instruction, least = BY_LLVM[name]
    assert count(packed(instruction), dtype, code(getattr(kernels, name), arguments, dtype)) >= least


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sweep_of_adam_is_vectorised(dtype: str) -> None:
    """Its square roots and quotients are most of its time; whole registers of them are taken at once."""

    x, number = types.Array(getattr(types, dtype), 1, "C"), getattr(types, dtype)
    doubles = types.Array(types.float64, 1, "C")
    steps = types.NamedTuple((types.int64, doubles, doubles, x, x, x), kernels.Steps)
    signature = (x, types.intp, types.intp, steps, number, number, number)
    found = assembly(kernels.take_step, signature)
    assert count(packed("vsqrt"), dtype, found) >= 1
    assert count(packed("vdiv"), dtype, found) >= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loop_that_cannot_be_vectorised_is_told_apart(dtype: str) -> None:
    def chain(x: Any) -> None:
        for i in range(1, x.size):
            x[i] = x[i - 1] * x[i] + x[i - 1]

    kernel = njit(fastmath={"contract"})(chain)
    found = assembly(kernel, (types.Array(getattr(types, dtype), 1, "C"),))
    assert re.search(FMA + "s[sd]", found)  # it does multiply and add, one number at a time
    assert count(packed(FMA), dtype, found) == 0
