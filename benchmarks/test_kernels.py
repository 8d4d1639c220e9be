"""Each hot kernel beside its NumPy twin, on the shapes of workload S1: `pytest benchmarks/test_kernels.py`.

Both write the same result, which is compared before either is timed. A call from Python costs a kernel about half a
microsecond, which it does not pay inside a compiled run: the two cases over compressed rows make ten such calls.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastbp import kernels
from fastbp.activations import ACTIVATIONS

M, N_IN, N_OUT, DENSITY = 10, 784, 32, 0.19
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class Case(NamedTuple):
    """Two functions without arguments; `result()` is what the last of them left."""

    kernel: Callable[[], Any]
    numpy: Callable[[], Any]
    result: Callable[[], np.ndarray]


def _normal(dtype: np.dtype, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def _compressed(dtype: np.dtype, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A matrix as sparse as MNIST: dense, indptr, indices, values."""
    rng = np.random.default_rng(2)
    X = rng.random((rows, N_IN)).astype(dtype) * (rng.random((rows, N_IN)) < DENSITY)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(X, axis=1))])
    return X, indptr, np.nonzero(X)[1].astype(np.int32), X[X != 0]


def product_forward(dtype: np.dtype) -> Case:
    """Z = A W for dense rows."""
    A, W, Z = _normal(dtype, M, N_IN), _normal(dtype, N_IN, N_OUT), np.zeros((M, N_OUT), dtype)
    zero = dtype.type(0)
    a, w, z = A.reshape(-1), W.reshape(-1), Z.reshape(-1)
    return Case(
        lambda: kernels.add_product(z, 0, N_OUT, a, 0, N_IN, 1, w, 0, N_OUT, M, N_OUT, N_IN, zero),
        lambda: np.matmul(A, W, out=Z),
        lambda: Z,
    )


def product_update(dtype: np.dtype) -> Case:
    """W + Aᵀ Δ: BP4 and the step in one; NumPy needs a second array for the gradient."""
    A, D, W = _normal(dtype, M, N_IN), 1e-8 * _normal(dtype, M, N_OUT), _normal(dtype, N_IN, N_OUT)
    one, nabla = dtype.type(1), np.empty_like(W)
    a, d, w = A.reshape(-1), D.reshape(-1), W.reshape(-1)

    def twin() -> None:
        np.matmul(A.T, D, out=nabla)
        np.add(W, nabla, out=W)

    return Case(
        lambda: kernels.add_product(w, 0, N_OUT, a, 0, 1, N_IN, d, 0, N_OUT, N_IN, N_OUT, M, one), twin, lambda: W
    )


def rows_forward(dtype: np.dtype) -> Case:
    """Z = X W for compressed rows, beside NumPy's dense product."""
    X, indptr, indices, values = _compressed(dtype, M)
    W, Z = _normal(dtype, N_IN, N_OUT), np.zeros((M, N_OUT), dtype)
    w, z = W.reshape(-1), Z.reshape(-1)

    def kernel() -> None:
        kernels.clear(z, 0, z.size)
        for i in range(M):
            kernels.gather_rows(z, i * N_OUT, w, 0, N_OUT, indices, values, indptr[i], indptr[i + 1], N_OUT)

    return Case(kernel, lambda: np.matmul(X, W, out=Z), lambda: Z)


def rows_update(dtype: np.dtype) -> Case:
    """W + Xᵀ Δ for compressed rows, beside NumPy's dense product and sum."""
    X, indptr, indices, values = _compressed(dtype, M)
    W, D = _normal(dtype, N_IN, N_OUT), 1e-8 * _normal(dtype, M, N_OUT)
    w, d, nabla = W.reshape(-1), D.reshape(-1), np.empty_like(W)

    def kernel() -> None:
        for i in range(M):
            kernels.scatter_rows(w, 0, N_OUT, d, i * N_OUT, indices, values, indptr[i], indptr[i + 1], N_OUT)

    def twin() -> None:
        np.matmul(X.T, D, out=nabla)
        np.add(W, nabla, out=W)

    return Case(kernel, twin, lambda: W)


def decay(dtype: np.dtype) -> Case:
    """y = keep y + factor x."""
    y, x, keep, factor = _normal(dtype, N_IN * N_OUT), _normal(dtype, N_IN * N_OUT), dtype.type(0.5), dtype.type(-0.25)

    def twin() -> None:
        np.multiply(y, keep, out=y)
        np.add(y, factor * x, out=y)

    return Case(lambda: kernels.combine(y, 0, keep, x, 0, factor, y.size), twin, lambda: y)


def _activation(name: str) -> Callable[[np.dtype], Case]:
    def make(dtype: np.dtype) -> Case:
        activation, size = ACTIVATIONS[name], M * 128
        work = np.concatenate([_normal(dtype, size), np.zeros(size, dtype)])
        z, a = work[:size], work[size:]

        def twin() -> None:
            a[:] = activation.f(z)

        return Case(lambda: kernels.activate(activation.code, work, 0, size, size), twin, lambda: a)

    return make


def _slope(name: str) -> Callable[[np.dtype], Case]:
    def make(dtype: np.dtype) -> Case:
        activation, size = ACTIVATIONS[name], M * 128
        z = _normal(dtype, size)
        work = np.concatenate([z, activation.f(z), np.ones(size, dtype)])
        delta = work[2 * size :]

        def kernel() -> None:
            delta[:] = 1  # or it would sink into the denormal numbers
            kernels.times_derivative(activation.code, work, 0, size, 2 * size, size)

        def twin() -> None:
            delta[:] = 1
            np.multiply(delta, activation.f_prime(z), out=delta)

        return Case(kernel, twin, lambda: delta)

    return make


def softmax(dtype: np.dtype) -> Case:
    """Rows of ten outputs, padded to sixteen."""
    rows, row, n = 128, 16, 10
    work = np.concatenate([_normal(dtype, rows * row), np.zeros(rows * row, dtype)])
    z, a = work[: rows * row].reshape(rows, row)[:, :n], work[rows * row :].reshape(rows, row)[:, :n]

    def twin() -> None:
        a[:] = ACTIVATIONS["softmax"].f(z)

    return Case(lambda: kernels.softmax_rows(work, 0, rows * row, row, rows, n), twin, lambda: a)


def compress(dtype: np.dtype) -> Case:
    """Dense rows to compressed ones, beside scipy.sparse's conversion, the plain alternative."""
    from scipy.sparse import csr_array

    X, indptr, _, wanted = _compressed(dtype, 1000)
    indices, values, out = np.empty(wanted.size + N_IN, np.int32), np.empty(wanted.size + N_IN, dtype), [wanted]
    x = X.reshape(-1)

    def kernel() -> None:
        kernels.compress_rows(x, 1000, N_IN, indptr, indices, values)
        out[0] = values[: wanted.size]

    def twin() -> None:
        out[0] = csr_array(X).data

    return Case(kernel, twin, lambda: out[0])


CASES: dict[str, Callable[[np.dtype], Case]] = {
    "forward, dense": product_forward,
    "update, dense": product_update,
    "forward, compressed rows": rows_forward,
    "update, compressed rows": rows_update,
    "decay": decay,
    **{f"activation {name}": _activation(name) for name in ("sigmoid", "tanh", "relu", "gelu")},
    **{f"derivative {name}": _slope(name) for name in ("sigmoid", "relu")},
    "softmax": softmax,
    "compress": compress,
}


@pytest.mark.parametrize("who", ["kernel", "numpy"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernel(benchmark: Any, name: str, dtype: np.dtype, who: str) -> None:
    benchmark.group = f"{name}, {dtype}"
    results = []
    for side in ("kernel", "numpy"):
        case = CASES[name](dtype)  # a new one: both start from the same arrays
        getattr(case, side)()
        results.append(np.array(case.result()))
    np.testing.assert_allclose(*results, rtol=0, atol=1e3 * np.finfo(dtype).eps)
    benchmark(getattr(CASES[name](dtype), who))
