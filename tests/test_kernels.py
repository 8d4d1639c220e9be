"""Every compiled kernel against NumPy, and the compiled formulas against 60-digit values.

With the JIT off the same tests judge the plain twins that take the kernels' place.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import naive
import numpy as np
import pytest
from called import call
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import architecture, kernels, parameters
from fastbp.activations import ACTIVATIONS
from fastbp.costs import COSTS
from fastbp.engines import fused

DTYPES = [np.float32, np.float64]
ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]
NO_LABELS = np.empty(0, np.int64)


def lanes(dtype: type) -> int:
    return kernels.VECTOR_BYTES // np.dtype(dtype).itemsize


def panel(dtype: type) -> int:
    return 2 * lanes(dtype)


def panelled(block: np.ndarray, dtype: type, padding: float = 0.0) -> np.ndarray:
    """A (rows, units) block as the kernels lay it out: (panels, rows, panel) of this dtype, flattened."""
    p = panel(dtype)
    rows, units = block.shape
    out = np.full((rows, -(-units // p) * p), padding, dtype)
    out[:, :units] = block
    return out.reshape(rows, out.shape[1] // p, p).transpose(1, 0, 2).reshape(-1)


def unpanelled(flat: np.ndarray, rows: int, units: int, dtype: type) -> np.ndarray:
    """Back to (rows, units), in float64."""
    return flat.reshape(-1, rows, panel(dtype)).transpose(1, 0, 2).reshape(rows, -1)[:, :units].astype(float)


class Place:
    """A block somewhere in a flat array of other numbers, which no kernel may touch."""

    def __init__(self, rng: np.random.Generator, dtype: type, block: np.ndarray) -> None:
        self.shape, self.at, self.size = block.shape, int(rng.integers(0, 9)), block.size
        self.flat = rng.normal(size=self.at + block.size + 9).astype(dtype)
        self.flat[self.at : self.at + block.size] = block.reshape(-1)
        self.before = self.flat.copy()

    @property
    def now(self) -> np.ndarray:
        return self.flat[self.at : self.at + self.size].reshape(self.shape).astype(float)

    def check(self, wanted: Any, tolerance: float) -> None:
        np.testing.assert_allclose(self.now, wanted, rtol=tolerance, atol=tolerance)
        outside = np.ones(self.flat.size, bool)
        outside[self.at : self.at + self.size] = False
        np.testing.assert_array_equal(self.flat[outside], self.before[outside])


def cases(dtype: type, count: int = 30) -> Iterator[tuple[np.random.Generator, int, int]]:
    """(rng, rows, steps): every kind of tile and remainder, less and more than a panel of steps, then at random."""
    p = panel(dtype)
    shapes = [(m, 3) for m in (*range(14), 16, 18, 20, 22, 26, 30, p - 1, p, p + 1)]
    shapes += [(2, s) for s in (0, 1, p - 1, p, p + 1, 2 * p, 2 * p + 3)]
    rng = np.random.default_rng(0)
    shapes += [tuple(rng.integers(1, 3 * p, size=2)) for _ in range(4 if DISABLE_JIT else count)]
    for seed, (rows, steps) in enumerate(shapes):
        yield np.random.default_rng(seed), int(rows), int(steps)


# --- products and sums of vectors ---------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_panel(dtype: type, vectors: int) -> None:
    p, used = panel(dtype), vectors * lanes(dtype)
    for rng, rows, steps in cases(dtype):
        capacity = rows + int(rng.integers(0, 3))  # a thread may do some of the rows only
        A = rng.normal(size=(capacity, steps)).astype(dtype)
        a = Place(rng, dtype, panelled(A, dtype, np.nan)[np.newaxis])  # the padding is never read
        b, start = Place(rng, dtype, rng.normal(size=(steps, p))), Place(rng, dtype, rng.normal(size=(1, p)))
        c = Place(rng, dtype, np.full((rows, p), np.nan))
        wanted = np.full((rows, p), np.nan)
        wanted[:, :used] = (start.now + A[:rows].astype(float) @ b.now)[:, :used]
        call.forward_panel(
            c.flat, c.at, a.flat, a.at, p * capacity, b.flat, b.at, start.flat, start.at, rows, vectors, steps
        )
        c.check(wanted, 20 * np.finfo(dtype).eps * (1 + steps**0.5))


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_update_panel(dtype: type, vectors: int) -> None:
    p, used = panel(dtype), vectors * lanes(dtype)
    for rng, steps, rows in cases(dtype):
        A = rng.normal(size=(steps, rows)).astype(dtype)
        a = Place(rng, dtype, panelled(A, dtype, np.nan)[np.newaxis])
        b, c = Place(rng, dtype, rng.normal(size=(steps, p))), Place(rng, dtype, rng.normal(size=(rows, p)))
        keep = dtype(rng.choice([0, 1, 0.7, -2]))
        if keep == 0:
            c.flat[c.at : c.at + c.size] = np.nan  # what is not kept may be anything
        wanted = c.now
        wanted[:, :used] = (np.nan_to_num(float(keep) * c.now) + A.T.astype(float) @ b.now)[:, :used]
        call.update_panel(c.flat, c.at, a.flat, a.at, p * steps, b.flat, b.at, keep, rows, vectors, steps)
        c.check(wanted, 20 * np.finfo(dtype).eps * (1 + steps**0.5))


def compressed(rng: np.random.Generator, dtype: type, rows: int, n: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """A matrix with rows of every length, none and one entry among them: dense, and (begins, ends, indices, values)."""
    X = rng.normal(size=(rows, n)) * (rng.random((rows, n)) < rng.random((rows, 1)))
    X = X.astype(dtype)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(X, axis=1))])
    return X, (indptr[:-1], indptr[1:], np.nonzero(X)[1].astype(np.int32), X[X != 0])


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_panel(dtype: type, vectors: int) -> None:
    p, used = panel(dtype), vectors * lanes(dtype)
    for rng, n, m in cases(dtype, count=10):
        X, entries = compressed(rng, dtype, 7, n)
        rows, scale = rng.integers(0, 7, size=m), dtype(rng.choice([1, 0.6]))
        first = int(rng.integers(0, m + 1))
        w, bias = Place(rng, dtype, rng.normal(size=(n, p))), Place(rng, dtype, rng.normal(size=(1, p)))
        z = Place(rng, dtype, np.full((m, p), np.nan))
        wanted = z.now
        Z = float(scale) * X[rows].astype(float) @ w.now + bias.now
        wanted[first:, :used] = Z[first:, :used]
        place, start = (z.flat, z.at, w.flat, w.at), (bias.flat, bias.at)
        known = 3 * m  # more rows follow, which are asked for and not read
        call.gather_panel(*place, *entries, np.tile(rows, 3), first, m, vectors, scale, *start, known)
        z.check(wanted, 50 * np.finfo(dtype).eps * (1 + n**0.5))


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_panel(dtype: type, vectors: int) -> None:
    p, used = panel(dtype), vectors * lanes(dtype)
    for rng, n, m in cases(dtype, count=10):
        X, entries = compressed(rng, dtype, 7, n)
        rows, factor = rng.integers(0, 7, size=m), dtype(rng.choice([1, -0.6]))  # some rows come twice
        w, d = Place(rng, dtype, rng.normal(size=(n, p))), Place(rng, dtype, rng.normal(size=(m, p)))
        wanted = w.now
        wanted[:, :used] += (float(factor) * X[rows].T.astype(float) @ d.now)[:, :used]
        call.scatter_panel(w.flat, w.at, d.flat, d.at, *entries, rows, m, vectors, factor, m)
        w.check(wanted, 50 * np.finfo(dtype).eps * (1 + m**0.5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_input_named_twice_in_a_row_counts_twice(dtype: type) -> None:
    p = panel(dtype)
    indices, values = np.array([1, 0, 1], np.int32), np.array([2, 5, 3], dtype)
    row = np.array([0]), np.array([3]), indices, values
    w, z, rows, one = np.ones(2 * p, dtype), np.zeros(p, dtype), np.array([0]), dtype(1)
    call.gather_panel(z, 0, w, 0, *row, rows, 0, 1, 2, one, np.zeros(p, dtype), 0, 1)
    np.testing.assert_array_equal(z, np.full(p, 10))
    call.scatter_panel(w, 0, np.ones(p, dtype), 0, *row, rows, 1, 2, one, 0)
    np.testing.assert_array_equal(w.reshape(2, p), [[6] * p, [6] * p])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sum_rows(dtype: type) -> None:
    p = panel(dtype)
    for rng, rows, _ in cases(dtype, count=5):
        y, d = Place(rng, dtype, rng.normal(size=(1, p))), Place(rng, dtype, rng.normal(size=(rows, p)))
        vectors, keep = int(rng.integers(1, 3)), dtype(rng.choice([0, 1, 0.3]))
        wanted = y.now
        if keep == 0:
            y.flat[y.at : y.at + p] = np.nan
            wanted[:, vectors * lanes(dtype) :] = np.nan
        used = slice(0, vectors * lanes(dtype))
        wanted[0, used] = float(keep) * wanted[0, used] + d.now[:, used].sum(axis=0)
        call.sum_rows(y.flat, y.at, keep, d.flat, d.at, rows, vectors)
        y.check(wanted, 10 * np.finfo(dtype).eps * (1 + rows))


@pytest.mark.parametrize("dtype", DTYPES)
def test_combine_and_clear(dtype: type) -> None:
    for seed, n in enumerate(lanes(dtype) * np.arange(7)):
        rng = np.random.default_rng(seed)
        y, x = Place(rng, dtype, rng.normal(size=(1, n))), Place(rng, dtype, rng.normal(size=(1, n)))
        keep, factor = (dtype(v) for v in rng.choice([0, 1, -0.3, 2.5], size=2))
        wanted = float(keep) * y.now + float(factor) * x.now
        call.combine(y.flat, y.at, keep, x.flat, x.at, factor, n)
        y.check(wanted, 4 * np.finfo(dtype).eps)
        scaled = float(keep) * x.now
        call.combine(x.flat, x.at, keep, x.flat, x.at, dtype(0), n)  # in place, as weights decay
        x.check(scaled, 4 * np.finfo(dtype).eps)
        if n > 0:
            rest = y.now * (np.arange(n) < lanes(dtype))
            call.clear(y.flat, y.at + lanes(dtype), n - lanes(dtype))
            y.check(rest, 0)
        call.clear(y.flat, y.at, n)
        y.check(np.zeros((1, n)), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dot_rows(dtype: type) -> None:
    p = panel(dtype)
    for rng, rows, units in cases(dtype, count=5):
        W, x = rng.normal(size=(rows, units)).astype(dtype), rng.normal(size=(1, units)).astype(dtype)
        w, d, panels = Place(rng, dtype, panelled(W, dtype)[np.newaxis]), panelled(x, dtype), -(-units // p)
        c = Place(rng, dtype, np.full((1, rows), np.nan))
        call.dot_rows(c.flat, c.at, d, 0, p, w.flat, w.at, p * rows, rows, panels)
        c.check((W.astype(float) @ x[0].astype(float))[np.newaxis], 500 * np.finfo(dtype).eps)


# --- moving numbers about -----------------------------------------------------------------------------------


def laid_out(sizes: tuple[int, ...], dtype: type, rows: int) -> tuple[kernels.Shape, np.ndarray]:
    """The shape and the work space, full of NaN, of a network."""
    built = architecture.build(sizes, "sigmoid", "sigmoid", "quadratic", None, dtype)
    shape, work = fused.layout(built, rows)
    work[:] = np.nan
    work[shape.zeros_at : shape.zeros_at + shape.panel] = 0
    return shape, work


@pytest.mark.parametrize("dtype", DTYPES)
def test_spread_rows(dtype: type) -> None:
    p = panel(dtype)
    for n in (1, lanes(dtype) - 1, lanes(dtype), p - 1, p, p + 1, 3 * p + lanes(dtype) + 2):
        X, rows = np.random.default_rng(0).normal(size=(6, n)).astype(dtype), np.array([4, 0, 4, 2])
        panels = -(-n // p)
        work = np.full(3 + panels * 4 * p + 2, np.nan, dtype)
        call.spread_rows(work, 3, 4 * p, X.reshape(-1), 0, n, n, rows, 1, 4, 4)
        got = unpanelled(work[3:-2], 4, panels * p, dtype)
        np.testing.assert_array_equal(got[1:, :n], X[rows[1:]])
        assert np.isnan(got[0]).all() and np.isnan(got[:, n:]).all()  # the first row is another thread's
        assert np.isnan(work[:3]).all() and np.isnan(work[-2:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(dtype: type) -> None:
    p = panel(dtype)
    for n, below in ((1, 1), (3, p), (p, p + 1), (2 * p + 5, 3 * p - 2)):
        shape, work = laid_out((2, below, n), dtype, 3)
        W = np.random.default_rng(0).normal(size=(below, n)).astype(dtype)
        packed = np.zeros(shape.layers[2, kernels.BIAS_AT] + 9, dtype)
        at = shape.layers[2, kernels.WEIGHT_AT]
        packed[at : at + below * shape.layers[2, kernels.PADDED]] = panelled(W, dtype)
        panels = -(-below // p)
        for g in range(panels):
            call.transpose(shape, packed, work, 2, g, g)
        at = shape.layers[2, kernels.TURNED_AT]
        padded = int(shape.layers[2, kernels.PADDED])
        turned = unpanelled(work[at : at + panels * p * padded], padded, panels * p, dtype)
        np.testing.assert_array_equal(turned[:n, :below], W.T.astype(float))
        assert (turned[:n, below:] == 0).all()
        call.transpose(shape, packed, work, 2, panels - 1, 0)  # in the place of another
        np.testing.assert_array_equal(work[at : at + p * padded], work[at + (panels - 1) * p * padded :][: p * padded])
        work[at : at + turned.size], work[shape.zeros_at : shape.zeros_at + p] = np.nan, np.nan
        assert np.isnan(work).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_move_column_there_and_back(dtype: type) -> None:
    work = np.arange(40, dtype=dtype)
    call.move_column(work, 2, 7, 35, 1, 4)
    np.testing.assert_array_equal(work[35:39], [2, 9, 16, 23])
    work[35:39] = [-1, -2, -3, -4]
    call.move_column(work, 35, 1, 2, 7, 4)
    np.testing.assert_array_equal(work[2:30:7], [-1, -2, -3, -4])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("by_label", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_subtract_targets(dtype: type, by_label: bool, weighted: bool) -> None:
    p, none, factor = panel(dtype), np.empty(0, dtype), dtype(-0.5)
    for n in (1, 3, lanes(dtype), lanes(dtype) + 1, p, p + 3):
        rng, rows = np.random.default_rng(n), np.array([3, 0, 3, 4])
        Y, labels = rng.normal(size=(5, n)).astype(dtype), np.array([n - 1, 0, n // 3, n // 2, 0])
        A, weights = rng.normal(size=(4, n)).astype(dtype), rng.random(5).astype(dtype) if weighted else none
        work = np.concatenate([panelled(A, dtype, np.nan)] * 2)  # the padding of a may be anything
        size = work.size // 2
        targets, given = (none, labels) if by_label else (Y.reshape(-1).copy(), NO_LABELS)
        for j in range(0, n, p):
            for first, last in ((0, 1), (1, 4)):
                call.subtract_targets(
                    work, size + 4 * j, 4 * j, targets, given, weights, rows, first, last, n, j, factor,
                    given.size, weights.size, last,
                )  # fmt: skip
        delta = unpanelled(work[size:], 4, size // 4, dtype)
        counted = (factor * weights[rows] if weighted else np.full(4, factor, dtype))[:, np.newaxis]
        wanted = counted * (A - (np.eye(n, dtype=dtype)[labels[rows]] if by_label else Y[rows]))
        np.testing.assert_array_equal(delta[:, :n], wanted)
        assert (delta[:, n:] == 0).all()
        np.testing.assert_array_equal(work[:size], panelled(A, dtype, np.nan))


@pytest.mark.parametrize("dtype", DTYPES)
def test_take_outputs(dtype: type) -> None:
    p = panel(dtype)
    for n in (3, p + 2):
        shape, work = laid_out((2, n), dtype, 4)
        A, at = np.random.default_rng(0).normal(size=(4, n)).astype(dtype), shape.layers[1, kernels.A_AT]
        work[at : at + 4 * -(-n // p) * p] = panelled(A, dtype, np.nan)
        result = np.full(6 * n, np.nan, dtype)
        call.take_outputs(shape, work, 4, kernels.Part(0, -(-n // p), 1, 4), result, 1)
        got = result.reshape(6, n)
        np.testing.assert_array_equal(got[2:5], A[1:])
        assert np.isnan(got[:2]).all() and np.isnan(got[5]).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_parts_of_all_threads_are_the_whole(dtype: type, threads: int) -> None:
    p = panel(dtype)
    for n in (1, p, 2 * p, 3 * p + 1, 13 * p):
        shape, _ = laid_out((2, n), dtype, 7)
        done = np.zeros((-(-n // p), 7), int)
        for me in range(threads):
            part = kernels.mine(shape, 1, 7, me, threads)
            done[part.first_panel : part.last_panel, part.first_row : part.last_row] += 1
        assert (done == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(3, 2), (1, 1), (5, 9, 1, 8), (40, 33, 16, 7)])
def test_pack_and_unpack(sizes: tuple[int, ...], dtype: type) -> None:
    shape, _ = laid_out(sizes, dtype, 1)
    theta = np.arange(1, 1 + parameters.count(sizes), dtype=dtype)
    biases, weights = parameters.views(sizes, theta)
    layers = shape.layers
    packed = np.zeros(int(layers[-1, kernels.BIAS_AT] + layers[-1, kernels.PADDED]), dtype)
    fused.pack(shape, theta, packed)
    assert np.count_nonzero(packed) == theta.size  # the padding stays zero
    for l, (w, b) in enumerate(zip(weights, biases, strict=True), start=1):
        n, below, padded = layers[l, kernels.SIZE], layers[l - 1, kernels.SIZE], layers[l, kernels.PADDED]
        assert padded % panel(dtype) == 0 and 0 <= padded - n < panel(dtype)
        at = layers[l, kernels.WEIGHT_AT]
        np.testing.assert_array_equal(unpanelled(packed[at : at + below * padded], below, n, dtype), w.T)
        at = layers[l, kernels.BIAS_AT]
        np.testing.assert_array_equal(packed[at : at + n], b[:, 0])
    for scale in (1.0, 0.625):
        back = np.full_like(theta, np.nan)
        fused.unpack(shape, packed, np.array([scale], dtype), back)
        wanted = theta.copy()
        wanted[: sizes[0] * sizes[1]] *= dtype(scale)  # of the first weights alone
        np.testing.assert_array_equal(back, wanted)


# --- compressed rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_compressing_rows(density: float, dtype: type, to: type) -> None:
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(7, 11)) * (rng.random((7, 11)) < density)).astype(dtype)
    X[2], X[4], X[1, 3] = 0, 5, -0.0
    counts = np.full(7, -1)
    kernels.count_nonzeros(X.reshape(-1), 7, 11, counts)
    np.testing.assert_array_equal(counts, np.count_nonzero(X, axis=1))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    indices, values = np.empty(indptr[-1] + 11, np.int32), np.empty(indptr[-1] + 11, to)
    kernels.compress_rows(X.reshape(-1), 7, 11, indptr, indices, values)
    for i, row in enumerate(X):
        own = slice(indptr[i], indptr[i + 1])
        np.testing.assert_array_equal(indices[own], np.flatnonzero(row))
        np.testing.assert_array_equal(values[own], row[row != 0].astype(to))
    for start, rows in ((0, 7), (2, 3), (6, 1), (3, 0)):
        part = X[start : start + rows]
        same = kernels.same_rows(part.reshape(-1), rows, 11, start, indptr, indices, values)
        assert same
        for i, j in np.ndindex(part.shape):
            # An entry that became zero once went unseen: one less, and one wrong, made nought.
            other = part.copy()
            other[i, j] = 0 if other[i, j] else 1e-3
            assert not kernels.same_rows(other.reshape(-1), rows, 11, start, indptr, indices, values)
            other[i, j] = part[i, j] + dtype(0.5)
            assert not kernels.same_rows(other.reshape(-1), rows, 11, start, indptr, indices, values)


def test_nan_counts_as_an_entry() -> None:
    counts = np.zeros(1, np.int64)
    kernels.count_nonzeros(np.array([0.0, np.nan, -0.0]), 1, 3, counts)
    assert counts[0] == 1


@pytest.mark.parametrize("n", [0, 1, 2, 3, 64, 65, 1000, 5000])
def test_shuffle_like_python(n: int) -> None:
    # two words short of a new block of the twister at the start, so that it is drawn in the middle
    generator = random.Random(n)
    for _ in range(622):
        generator.getrandbits(32)
    version, words, gauss = generator.getstate()
    state, rows = np.array(words[:-1], np.uint32), np.arange(n)
    at = kernels.shuffle_like_python(rows, state, words[-1])
    wanted = list(range(n))
    generator.shuffle(wanted)
    assert rows.tolist() == wanted
    assert generator.getstate() == (version, (*state.tolist(), at), gauss)


# --- activations: the same functions as the declared ones ---------------------------------------------------


def test_codes_are_those_of_the_declarations() -> None:
    assert {name: getattr(kernels, name.upper()) for name in ACTIVATIONS} == {n: f.code for n, f in ACTIVATIONS.items()}
    assert {name: getattr(kernels, name.upper()) for name in COSTS} == {name: cost.code for name, cost in COSTS.items()}


def activated(name: str, z: np.ndarray) -> np.ndarray:
    """The compiled σ(z), in the middle of a work space."""
    n = z.size
    work = np.full(2 * n + 9, -7, z.dtype)
    work[3 : 3 + n] = z
    kernels.activate(ACTIVATIONS[name].code, work, 3, 6 + n, n)
    np.testing.assert_array_equal(work[3 : 3 + n], z)
    assert (work[:3] == -7).all() and (work[3 + n : 6 + n] == -7).all() and (work[6 + 2 * n :] == -7).all()
    return work[6 + n : 6 + 2 * n]


def sloped(name: str, z: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """The compiled delta ⊙ σ'(z)."""
    n = z.size
    work = np.concatenate([z, activated(name, z), delta, [-7]]).astype(z.dtype)
    kernels.times_derivative(ACTIVATIONS[name].code, work, 0, n, 2 * n, n)
    np.testing.assert_array_equal(work[:n], z)
    assert work[-1] == -7
    return work[2 * n : 3 * n]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations_are_the_declared_ones(name: str, dtype: type) -> None:
    declared, rng = ACTIVATIONS[name], np.random.default_rng(0)
    for n in (0, 1, 3, 7, 8, 9, 31, 200):  # vectors, and what is left over
        z = rng.normal(scale=4, size=n).astype(dtype)
        z[:2] = 0
        delta = rng.normal(size=n).astype(dtype)
        tolerance = 20 * np.finfo(dtype).eps
        scale = 1 + np.square(z.astype(float)) if name == "gelu" else 1
        a, slope = declared.f(z.astype(float)), declared.f_prime(z.astype(float))
        assert (np.abs(activated(name, z) - a) <= tolerance * scale * (np.abs(a) + np.finfo(dtype).tiny)).all()
        assert (np.abs(sloped(name, z, delta) - delta * slope) <= tolerance * np.abs(delta)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_rows(dtype: type) -> None:
    for n, row in ((1, 8), (3, 8), (8, 8), (10, 16), (33, 40)):
        z = np.random.default_rng(n).normal(scale=10, size=(5, n)).astype(dtype)
        z[0] = 7  # all alike
        work = np.full(2 * 5 * row + 1, np.nan, dtype)  # the padding may be anything
        blocks = work[1:].reshape(2, 5, row)
        blocks[0, :, :n] = z
        kernels.softmax_rows(work, 1, 1 + 5 * row, 5, 0, 5, n, row)
        np.testing.assert_array_equal(blocks[0, :, :n], z)
        assert np.isnan(blocks[:, :, n:]).all()
        with mpmath.workdps(40):
            e = [[mpmath.exp(mpmath.mpf(float(x))) for x in row] for row in z]
            exact = np.array([[float(x / sum(row)) for x in row] for row in e])
        # 4 units in the last place of max |z|: its rounding becomes relative in the exponential
        limit = 4 * np.spacing(np.abs(z).max(axis=1, keepdims=True)) * exact + 4 * np.finfo(dtype).eps * exact
        assert (np.abs(blocks[1, :, :n] - exact) <= limit + np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_rows_far_apart(dtype: type) -> None:
    largest = np.finfo(dtype).max / 2
    z = np.array([1e4, -1e4, largest, largest, -largest, 0, 0, 0], dtype)
    work = np.concatenate([z, np.zeros(8, dtype)])
    kernels.softmax_rows(work, 0, 8, 1, 0, 1, 5, 8)
    np.testing.assert_array_equal(work[8:], [0, 0, 0.5, 0.5, 0, 0, 0, 0])
    work[:2] = np.nan, 1
    kernels.softmax_rows(work, 0, 8, 1, 0, 1, 5, 8)
    assert np.isnan(work[8:13]).all()  # a NaN shows in every output


# --- the compiled formulas, to the last place ---------------------------------------------------------------

FORMULAS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[Any], Any]]] = {
    "sigmoid": (lambda z: activated("sigmoid", z), lambda z: 1 / (1 + mpmath.exp(-z))),
    "tanh": (lambda z: activated("tanh", z), mpmath.tanh),
    "softplus": (lambda z: activated("softplus", z), lambda z: mpmath.log1p(mpmath.exp(z))),
    "exp": (lambda z: np.array([call.exp_of_negative(x) for x in -np.abs(z)]), lambda z: mpmath.exp(-abs(z))),
}
# Without fused multiply-adds, which a plain twin has not, what is put back is itself rounded.
ULP = 4 if DISABLE_JIT else 2


def whole_range(dtype: type) -> np.ndarray:
    """From the smallest subnormal to where e^z overflows; about the odd multiples of ln(2)/2, where e^z changes its
    power of two; and the worst arguments found among ten million."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    last = -np.log(float(info.tiny))
    half_log2 = (np.arange(-140, 140) + 0.5) * np.log(2)
    z = np.concatenate(
        [
            rng.uniform(-last, last, 400),
            rng.uniform(-3, 3, 400),
            rng.uniform(-40, 40, 400),
            10.0 ** rng.uniform(np.log10(float(info.smallest_subnormal)), 0, 200) * rng.choice([-1, 1], 200),
            half_log2[np.abs(half_log2) < last],
            [-7.624349484509054, -3.4649613663663885, -2.7487723826518984, -18.541740104512296, 0.17541118176830528],
            [-3.455389, -1.2812454, 8.491062, -0.16951261, -16.98011, -86.647896, 0.30138198],
        ]
    )
    return z.astype(dtype)


def ulps(got: np.ndarray, exact: list[Any], dtype: type) -> np.ndarray:
    """|got - exact| in units in the last place of exact; below the normal numbers, in units of their smallest."""
    info = np.finfo(dtype)
    with mpmath.workdps(60):
        errors = []
        for g, e in zip(got, exact, strict=True):
            exponent = mpmath.floor(mpmath.log(abs(e), 2)) if e else -10_000
            unit = mpmath.mpf(2) ** (exponent - info.nmant) if exponent >= info.minexp else mpmath.mpf(float(info.tiny))
            errors.append(float(abs(mpmath.mpf(float(g)) - e) / unit))
    return np.array(errors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_units_in_the_last_place(name: str, dtype: type) -> None:
    # Plain formulas were 2.4 (sigmoid) and 2.7 (softplus) units off at worst: the roundings of e^-|z|, of the
    # denominator and of the quotient add up.
    z = whole_range(dtype)
    compiled, exactly = FORMULAS[name]
    with mpmath.workdps(60):
        exact = [exactly(mpmath.mpf(float(x))) for x in z]
    errors = ulps(compiled(z), exact, dtype)
    assert errors.max() <= ULP, z[errors.argmax()]


@pytest.mark.parametrize("name", naive.ANALYTIC.keys() & FORMULAS.keys())
def test_units_in_the_last_place_of_many_float32(name: str) -> None:
    if DISABLE_JIT:
        pytest.skip("a million arguments need the JIT")
    z = np.random.default_rng(1).uniform(-87, 87, 1_000_000).astype(np.float32)
    z[::2] /= 20
    exact = ACTIVATIONS[name].f(z.astype(np.float64))  # to some 1e-16, a billionth of a unit
    assert (np.abs(activated(name, z) - exact) / np.spacing(np.abs(exact).astype(np.float32))).max() <= ULP


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_special_arguments(name: str, dtype: type) -> None:
    info = np.finfo(dtype)
    z = np.array([np.nan, info.max, -info.max, 1e4, -1e4, info.smallest_subnormal, 0.0, -0.0] * 3, dtype)
    with np.errstate(all="ignore"):  # with the JIT off, NumPy's scalars may speak
        a, slope = activated(name, z), sloped(name, z, np.ones_like(z))
        wanted, wanted_slope = ACTIVATIONS[name].f(z.astype(float)), ACTIVATIONS[name].f_prime(z.astype(float))
    assert np.isnan(a[::8]).all() and not np.isnan(np.delete(a, np.s_[::8])).any()
    np.testing.assert_allclose(a, wanted, rtol=4 * info.eps, atol=info.tiny)
    np.testing.assert_allclose(
        np.delete(slope, np.s_[::8]), np.delete(wanted_slope, np.s_[::8]), rtol=0, atol=2 * info.eps
    )


INFINITE: dict[str, list[float]] = {
    "sigmoid": [0, 1],
    "tanh": [-1, 1],
    "softplus": [0, np.inf],
    "relu": [0, np.inf],
    "identity": [-np.inf, np.inf],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", INFINITE)
def test_infinity(name: str, dtype: type) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(activated(name, np.array([-np.inf, np.inf] * 9, dtype)), INFINITE[name] * 9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_products_with_z_vanish_in_the_left_tail(name: str, dtype: type) -> None:
    # e^x was once held at the smallest normal number: times z = -1e308 that made silu -3.3.
    z = -np.logspace(2.95, np.log10(float(np.finfo(dtype).max)) - 1e-3, 40).astype(dtype)
    with np.errstate(all="ignore"):
        assert (activated(name, z) == 0).all()
        assert (sloped(name, z, np.ones_like(z)) == 0).all()


# --- how often they are compiled ----------------------------------------------------------------------------


def test_one_compilation_per_dtype_whatever_the_data() -> None:
    if DISABLE_JIT:
        pytest.skip("nothing is compiled with the JIT off")
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 6)) * (rng.random((30, 6)) < 0.3)
    read_only = X.copy()
    read_only.flags.writeable = False
    for dtype in ("float32", "float64"):
        for form in (X, X + 1, read_only, np.asfortranarray(X), X[::-1], X.astype(">f8"), X.astype(int), csr_matrix(X)):
            for y in (np.arange(30) % 3, np.eye(3)[np.arange(30) % 3], rng.normal(size=(30, 3))):
                net = fastbp.Network([6, 5, 3], dtype=dtype, engine="fused", seed=0, neurons={(2, 1): "tanh"})
                net.fit(form, y, epochs=1, eta=0.1, lmbda=0.1, validation_data=(form, y))
    assert len(kernels.run.signatures) <= 2
