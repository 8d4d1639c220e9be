"""The product of matrices that lets other threads run: the same numbers as SciPy's own wrapper."""

import itertools
import threading
import time

import numpy as np
import pytest
from scipy.linalg import blas as scipy_blas

from fastbp import blas

WRAPPERS = {"float64": scipy_blas.dgemm, "float32": scipy_blas.sgemm}


def matrix(rows: int, columns: int, dtype: str, seed: int) -> np.ndarray:
    return np.asfortranarray(np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype))


@pytest.mark.parametrize("dtype", WRAPPERS)
@pytest.mark.parametrize(("trans_a", "trans_b"), list(itertools.product((0, 1), repeat=2)))
def test_the_numbers_are_those_of_scipys_wrapper(dtype, trans_a, trans_b):
    gemm = blas.gemm(np.dtype(dtype), blas.WORTH_RELEASING)
    for m, n, k in ((1, 1, 1), (7, 5, 9), (1, 6, 4), (64, 30, 100)):
        a = matrix(k, m, dtype, 0) if trans_a else matrix(m, k, dtype, 0)
        b = matrix(n, k, dtype, 1) if trans_b else matrix(k, n, dtype, 1)
        for alpha, beta in ((1, 0), (1, 1), (-0.25, 0.5)):
            c = matrix(m, n, dtype, 2)
            expected = WRAPPERS[dtype](alpha, a, b, beta, c, trans_a=trans_a, trans_b=trans_b)
            gemm(alpha, a, b, beta, c, trans_a=trans_a, trans_b=trans_b, overwrite_c=1)
            np.testing.assert_array_equal(c, expected)


def test_small_products_take_the_wrapper_which_is_called_sooner():
    assert blas.gemm(np.dtype("float32"), blas.WORTH_RELEASING / 2) is scipy_blas.sgemm
    assert blas.gemm(np.dtype("float64"), blas.WORTH_RELEASING / 2) is scipy_blas.dgemm


def test_other_threads_run_during_a_product():
    gemm = blas.gemm(np.dtype("float64"), 1e9)
    if gemm is scipy_blas.dgemm:
        pytest.skip("this SciPy's integers are not C's; its own wrapper is taken")
    a, c = matrix(1500, 1500, "float64", 0), np.zeros((1500, 1500), order="F")
    seconds = []

    def multiply() -> None:
        began = time.perf_counter()
        gemm(1, a, a, 0, c)
        seconds.append(time.perf_counter() - began)

    thread = threading.Thread(target=multiply)
    gaps, last = [], time.perf_counter()
    thread.start()
    while thread.is_alive():
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
    assert max(gaps) < seconds[0] / 2, "Python stood still"
