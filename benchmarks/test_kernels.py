"""Each hot kernel beside its NumPy twin, on the shapes of workload S1: `pytest benchmarks/test_kernels.py`.

Both write the same result, which is compared before either is timed. A call from Python costs a kernel about half a
microsecond, which it does not pay inside a compiled run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastbp import kernels
from fastbp.activations import ACTIVATIONS

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
M, N_IN, DENSITY = 10, 784, 0.19


class Case(NamedTuple):
    """Two functions without arguments; `result()` is what the last of them left."""

    kernel: Callable[[], Any]
    numpy: Callable[[], Any]
    result: Callable[[], np.ndarray]


def _normal(dtype: np.dtype, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def _panel(dtype: np.dtype) -> int:
    """The outputs of a panel: with 64-byte vectors 32 in float32, as many as S1 has, padded."""
    return 2 * kernels.VECTOR_BYTES // dtype.itemsize


def _panelled(A: np.ndarray) -> np.ndarray:
    """(m, n) as the kernels lay it out: panel after panel, the last one padded."""
    p = _panel(A.dtype)
    padded = np.zeros((len(A), -(-A.shape[1] // p) * p), A.dtype)
    padded[:, : A.shape[1]] = A
    return padded.reshape(len(A), -1, p).transpose(1, 0, 2).reshape(-1)


def _compressed(dtype: np.dtype, rows: int) -> tuple[np.ndarray, kernels.Data]:
    """A matrix as sparse as MNIST: dense, and as the kernels take it."""
    rng, none = np.random.default_rng(2), np.empty(0, dtype)
    X = rng.random((rows, N_IN)).astype(dtype) * (rng.random((rows, N_IN)) < DENSITY)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(X, axis=1))])
    labels = np.empty(0, np.int64)
    return X, kernels.Data(
        none, indptr[:-1], indptr[:0], indptr[1:], np.nonzero(X)[1].astype(np.int32), X[X != 0], none, labels, none
    )


def product_forward(dtype: np.dtype) -> Case:
    """Z = b + A W for dense rows, one panel of outputs."""
    p = _panel(dtype)
    A, W, b, Z = _normal(dtype, M, N_IN), _normal(dtype, N_IN, p), _normal(dtype, p), np.zeros((M, p), dtype)
    a, w, z, forward = _panelled(A), W.reshape(-1), Z.reshape(-1), kernels.from_python(kernels.forward_panel)

    def twin() -> None:
        np.matmul(A, W, out=Z)
        np.add(Z, b, out=Z)

    return Case(lambda: forward(z, 0, a, 0, p * M, w, 0, b, 0, M, 2, N_IN), twin, lambda: Z)


def product_update(dtype: np.dtype) -> Case:
    """W + Aᵀ Δ: BP4 and the step in one; NumPy needs a second array for the gradient."""
    p = _panel(dtype)
    A, D, W = _normal(dtype, M, N_IN), 1e-8 * _normal(dtype, M, p), _normal(dtype, N_IN, p)
    one, nabla = dtype.type(1), np.empty_like(W)
    a, d, w, update = _panelled(A), D.reshape(-1), W.reshape(-1), kernels.from_python(kernels.update_panel)

    def twin() -> None:
        np.matmul(A.T, D, out=nabla)
        np.add(W, nabla, out=W)

    return Case(lambda: update(w, 0, a, 0, p * M, d, 0, one, N_IN, 2, M), twin, lambda: W)


def rows_forward(dtype: np.dtype) -> Case:
    """Z = b + X W for compressed rows, beside NumPy's dense product."""
    p, (X, data) = _panel(dtype), _compressed(dtype, M)
    W, b, Z = _normal(dtype, N_IN, p), _normal(dtype, p), np.zeros((M, p), dtype)
    w, z, rows, one = W.reshape(-1), Z.reshape(-1), np.arange(M), dtype.type(1)
    gather = kernels.from_python(kernels.gather_panel)

    def twin() -> None:
        np.matmul(X, W, out=Z)
        np.add(Z, b, out=Z)

    return Case(
        lambda: gather(z, 0, w, 0, data.begins, data.ends, data.indices, data.values, rows, 0, M, 2, one, b, 0, M),
        twin,
        lambda: Z,
    )


def rows_update(dtype: np.dtype) -> Case:
    """W + Xᵀ Δ for compressed rows, beside NumPy's dense product and sum."""
    p, (X, data) = _panel(dtype), _compressed(dtype, M)
    W, D = _normal(dtype, N_IN, p), 1e-8 * _normal(dtype, M, p)
    w, d, rows, one, nabla = W.reshape(-1), D.reshape(-1), np.arange(M), dtype.type(1), np.empty_like(W)
    scatter = kernels.from_python(kernels.scatter_panel)

    def twin() -> None:
        np.matmul(X.T, D, out=nabla)
        np.add(W, nabla, out=W)

    return Case(
        lambda: scatter(w, 0, d, 0, data.begins, data.ends, data.indices, data.values, rows, M, 2, one, 0),
        twin,
        lambda: W,
    )


def decay(dtype: np.dtype) -> Case:
    """y = keep y + factor x."""
    size = N_IN * _panel(dtype)
    y, x, keep, factor = _normal(dtype, size), _normal(dtype, size), dtype.type(0.5), dtype.type(-0.25)
    combine = kernels.from_python(kernels.combine)

    def twin() -> None:
        np.multiply(y, keep, out=y)
        np.add(y, factor * x, out=y)

    return Case(lambda: combine(y, 0, keep, x, 0, factor, y.size), twin, lambda: y)


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

    return Case(lambda: kernels.softmax_rows(work, 0, rows * row, rows, 0, rows, n, row), twin, lambda: a)


def compress(dtype: np.dtype) -> Case:
    """Dense rows to compressed ones, beside scipy.sparse's conversion, the plain alternative."""
    from scipy.sparse import csr_array

    X, data = _compressed(dtype, 1000)
    indptr, wanted = np.append(data.begins, data.ends[-1:]), data.values
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
