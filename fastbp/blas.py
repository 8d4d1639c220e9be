"""The product of matrices by BLAS, without Python's lock: other threads, with other networks, run meanwhile."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

# Floating-point operations from which a call through ctypes is worth its 3 µs more than SciPy's wrapper: below, threads
# wait for each other's Python anyway.
WORTH_RELEASING = 1e6

_LETTERS = ctypes.c_char(b"N"), ctypes.c_char(b"T")


def gemm(dtype: np.dtype, largest: float) -> Callable[..., Any]:
    """gemm(alpha, a, b, beta, c, trans_a=0, trans_b=0, overwrite_c=1): C ← α op(A) op(B) + β C, for large products.

    Of SciPy's BLAS, in this dtype; all matrices in Fortran order (the transposes of C-ordered rows), C is written to in
    its place. `largest`: the operations of the largest product to come.
    """
    from scipy.linalg import blas

    wrapper = blas.dgemm if dtype == np.float64 else blas.sgemm
    return wrapper if largest < WORTH_RELEASING else _unlocked(dtype.name) or wrapper


@functools.cache
def _unlocked(dtype: str) -> Callable[..., Any] | None:
    """The routine that SciPy's wrapper calls, as SciPy hands it to Cython code; None where its integers are not C's."""
    from scipy.linalg import cython_blas

    kind, name = (ctypes.c_double, "dgemm") if dtype == "float64" else (ctypes.c_float, "sgemm")
    capsule = ctypes.py_object(cython_blas.__pyx_capi__[name])
    read_name, read_pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    read_name.restype, read_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    read_pointer.restype, read_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature = read_name(capsule)
    if signature is None or signature.count(b"int *") != 6 or signature.count(b"char *") != 2:
        return None
    routine = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(read_pointer(capsule, signature))
    number, reference = ctypes.c_int, ctypes.byref

    def multiply(
        alpha: float, a: np.ndarray, b: np.ndarray, beta: float, c: np.ndarray,
        trans_a: int = 0, trans_b: int = 0, overwrite_c: int = 1,
    ) -> None:  # fmt: skip
        (m, n), k = c.shape, a.shape[0 if trans_a else 1]
        routine(
            reference(_LETTERS[trans_a]), reference(_LETTERS[trans_b]),
            reference(number(m)), reference(number(n)), reference(number(k)),
            reference(kind(alpha)), a.ctypes.data, reference(number(a.shape[0])),
            b.ctypes.data, reference(number(b.shape[0])),
            reference(kind(beta)), c.ctypes.data, reference(number(m)),
        )  # fmt: skip

    return multiply
