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
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import architecture, kernels, parameters
from fastbp.activations import ACTIVATIONS
from fastbp.costs import COSTS
from fastbp.engines import fused

DTYPES = [np.float32, np.float64]
ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]
EMPTY, NO_LABELS = np.empty(0), np.empty(0, np.int64)


def lanes(dtype: type) -> int:
    return kernels.VECTOR_BYTES // np.dtype(dtype).itemsize


class Block:
    """A (rows, columns) block somewhere in a flat array of other numbers, which no kernel may touch."""

    def __init__(self, rng: np.random.Generator, dtype: type, rows: int, columns: int, gap: int | None = None) -> None:
        self.at, self.row = int(rng.integers(0, 9)), columns + int(rng.integers(0, 9) if gap is None else gap)
        self.flat = rng.normal(size=self.at + rows * self.row + 9).astype(dtype)
        self.inside = np.zeros(self.flat.size, bool)
        for i in range(rows):
            self.inside[self.at + i * self.row : self.at + i * self.row + columns] = True
        self.shape, self.before = (rows, columns), self.flat.copy()

    @property
    def now(self) -> np.ndarray:
        """The block, in float64."""
        return self.flat[self.inside].reshape(self.shape).astype(float)

    def check(self, wanted: Any, tolerance: float) -> None:
        np.testing.assert_allclose(self.now, wanted, rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(self.flat[~self.inside], self.before[~self.inside])


def cases(dtype: type, count: int = 40) -> Iterator[tuple[np.random.Generator, int, int, int]]:
    """(rng, rows, columns, steps): every kind of tile and remainder, then sizes at random; columns in whole vectors."""
    shapes = [(m, c, 3) for m in range(1, 14) for c in range(1, 6)] + [(0, 1, 2), (3, 0, 2), (3, 2, 0), (1, 17, 1)]
    rng = np.random.default_rng(0)
    shapes += [tuple(rng.integers(1, 20, size=3)) for _ in range(count)]
    for seed, (rows, vectors, steps) in enumerate(shapes):
        yield np.random.default_rng(seed), int(rows), int(vectors) * lanes(dtype), int(steps)


# --- products and sums of vectors ---------------------------------------------------------------------------


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_add_product(dtype: type, transposed: bool) -> None:
    for rng, rows, columns, steps in cases(dtype):
        c, b = Block(rng, dtype, rows, columns), Block(rng, dtype, steps, columns)
        a = Block(rng, dtype, *((steps, rows) if transposed else (rows, steps)))
        a_row, a_step = (1, a.row) if transposed else (a.row, 1)
        keep = dtype(rng.choice([0, 1, 0.7, -2]))
        wanted = float(keep) * c.now + (a.now.T if transposed else a.now) @ b.now
        kernels.add_product(
            c.flat, c.at, c.row, a.flat, a.at, a_row, a_step, b.flat, b.at, b.row, rows, columns, steps, keep
        )
        c.check(wanted, 20 * np.finfo(dtype).eps)
        a.check(a.before[a.inside].reshape(a.shape), 0)
        b.check(b.before[b.inside].reshape(b.shape), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_add_product_within_one_array(dtype: type) -> None:
    # as the engine calls it: Z and A in one work space
    n = lanes(dtype)
    work = np.random.default_rng(0).normal(size=20 * n).astype(dtype)
    wanted = work.astype(float)
    product = wanted[: 2 * n].reshape(2, n)[:, :3] @ wanted[2 * n : 5 * n].reshape(3, n)
    wanted[5 * n : 7 * n] += product.ravel()
    kernels.add_product(work, 5 * n, n, work, 0, n, 1, work, 2 * n, n, 2, n, 3, dtype(1))
    np.testing.assert_allclose(work, wanted, rtol=1e-5 if dtype is np.float32 else 1e-14)


def compressed(rng: np.random.Generator, dtype: type, n: int, length: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(indices, values, first, last) of one row among others."""
    first = int(rng.integers(0, 4))
    indices = rng.integers(0, max(n, 1), size=first + length + 3).astype(np.int32)
    return indices, rng.normal(size=indices.size).astype(dtype), first, first + length


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_rows(dtype: type) -> None:
    for rng, n, columns, length in cases(dtype):
        c, w = Block(rng, dtype, 1, columns), Block(rng, dtype, n, columns)
        indices, values, first, last = compressed(rng, dtype, n, length if n else 0)
        wanted = c.now + values[first:last].astype(float) @ w.now[indices[first:last]]
        kernels.gather_rows(c.flat, c.at, w.flat, w.at, w.row, indices, values, first, last, columns)
        c.check(wanted, 20 * np.finfo(dtype).eps)
        w.check(w.before[w.inside].reshape(w.shape), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scatter_rows(dtype: type) -> None:
    for rng, n, columns, length in cases(dtype):
        w, d = Block(rng, dtype, n, columns), Block(rng, dtype, 1, columns)
        indices, values, first, last = compressed(rng, dtype, n, length if n else 0)
        wanted = w.now
        for k, x in zip(indices[first:last], values[first:last], strict=True):  # some rows are named twice
            wanted[k] += float(x) * d.now[0]
        kernels.scatter_rows(w.flat, w.at, w.row, d.flat, d.at, indices, values, first, last, columns)
        w.check(wanted, 20 * np.finfo(dtype).eps)
        d.check(d.before[d.inside].reshape(d.shape), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_combine_and_clear(dtype: type) -> None:
    for rng, rows, columns, _ in cases(dtype, count=5):
        n = rows * columns
        y, x = Block(rng, dtype, 1, n), Block(rng, dtype, 1, n)
        keep, factor = (dtype(v) for v in rng.choice([0, 1, -0.3, 2.5], size=2))
        wanted = float(keep) * y.now + float(factor) * x.now
        kernels.combine(y.flat, y.at, keep, x.flat, x.at, factor, n)
        y.check(wanted, 4 * np.finfo(dtype).eps)
        scaled = float(keep) * x.now
        kernels.combine(x.flat, x.at, keep, x.flat, x.at, dtype(0), n)  # in place, as weights decay
        x.check(scaled, 4 * np.finfo(dtype).eps)
        kernels.clear(y.flat, y.at, n)
        y.check(np.zeros((1, n)), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dot_rows(dtype: type) -> None:
    for rng, rows, columns, m in cases(dtype, count=10):
        c_row = rows + int(rng.integers(0, 5))
        work = np.full(m * c_row + m * columns + 7, np.nan, dtype)
        d, w = rng.normal(size=(m, columns)).astype(dtype), Block(rng, dtype, rows, columns, gap=0)
        work[3 : 3 + d.size] = d.ravel()
        c_at = 3 + d.size
        kernels.dot_rows(work, c_at, c_row, 3, w.flat, w.at, w.row, rows, m)
        got = work[c_at : c_at + m * c_row].reshape(m, c_row)
        np.testing.assert_allclose(got[:, :rows], d.astype(float) @ w.now.T, rtol=0, atol=500 * np.finfo(dtype).eps)
        assert (got[:, rows:] == 0).all()
        assert np.isnan(work[c_at + m * c_row :]).all()


# --- moving numbers about -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(dtype: type) -> None:
    for rng, rows, columns, extra in cases(dtype, count=5):
        w, turned_row = Block(rng, dtype, rows, columns), rows + extra
        work = np.full(5 + columns * turned_row + 3, np.nan, dtype)
        kernels.transpose(w.flat, w.at, w.row, rows, columns, work, 5, turned_row)
        turned = work[5:-3].reshape(columns, turned_row)
        np.testing.assert_array_equal(turned[:, :rows], w.now.T)
        assert (turned[:, rows:] == 0).all() and np.isnan(work[:5]).all() and np.isnan(work[-3:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_inputs(dtype: type) -> None:
    X, rows = np.random.default_rng(0).normal(size=(6, 5)).astype(dtype), np.array([4, 0, 4, 2])
    work = np.full(3 + 20 + 2, np.nan, dtype)
    kernels.gather_inputs(work, 3, X.reshape(-1), rows, 5)
    np.testing.assert_array_equal(work[3:-2].reshape(4, 5), X[rows])
    assert np.isnan(work[:3]).all() and np.isnan(work[-2:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_move_column_there_and_back(dtype: type) -> None:
    work = np.arange(40, dtype=dtype)
    kernels.move_column(work, 2, 7, 35, 1, 4)
    np.testing.assert_array_equal(work[35:39], [2, 9, 16, 23])
    work[35:39] = [-1, -2, -3, -4]
    kernels.move_column(work, 35, 1, 2, 7, 4)
    np.testing.assert_array_equal(work[2:30:7], [-1, -2, -3, -4])


@pytest.mark.parametrize("by_label", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_subtract_targets(dtype: type, by_label: bool) -> None:
    rng, rows, n, row = np.random.default_rng(0), np.array([3, 0, 3, 4]), 3, 8
    Y, labels = rng.normal(size=(5, n)).astype(dtype), np.array([2, 0, 1, 1, 0])
    work = np.full(4 * row + 4 * row + 5, np.nan, dtype)
    a = work[: 4 * row].reshape(4, row)
    a[:, :n] = rng.normal(size=(4, n))  # the padding of a may be anything: here NaN
    targets, given = (EMPTY.astype(dtype), labels) if by_label else (Y.reshape(-1), NO_LABELS)
    kernels.subtract_targets(work, 4 * row, 0, row, n, rows, targets, given)
    delta = work[4 * row : 8 * row].reshape(4, row)
    np.testing.assert_array_equal(
        delta[:, :n], a[:, :n] - (np.eye(n, dtype=dtype)[labels[rows]] if by_label else Y[rows])
    )
    assert (delta[:, n:] == 0).all() and np.isnan(work[8 * row :]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_take_outputs(dtype: type) -> None:
    work, result = np.arange(40, dtype=dtype), np.full(18, np.nan, dtype)
    kernels.take_outputs(work, 5, 8, 4, 3, result, 1)
    np.testing.assert_array_equal(result[3:15].reshape(4, 3), work[5:37].reshape(4, 8)[:, :3])
    assert np.isnan(result[:3]).all() and np.isnan(result[15:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(3, 2), (1, 1), (5, 9, 1, 8), (40, 33, 16, 7)])
def test_pack_and_unpack(sizes: tuple[int, ...], dtype: type) -> None:
    built = architecture.build(sizes, "sigmoid", "sigmoid", "quadratic", None, dtype)
    shape, _ = fused.layout(built, 1)
    theta = np.arange(1, 1 + parameters.count(sizes), dtype=dtype)
    biases, weights = parameters.views(sizes, theta)
    layers = shape.layers
    packed = np.zeros(int(layers[-1, kernels.BIAS_AT] + layers[-1, kernels.PADDED]), dtype)
    kernels.pack(layers, theta, packed)
    assert np.count_nonzero(packed) == theta.size  # the padding stays zero
    for l, (w, b) in enumerate(zip(weights, biases, strict=True), start=1):
        n, below, p = layers[l, kernels.SIZE], layers[l - 1, kernels.SIZE], layers[l, kernels.PADDED]
        assert p % lanes(dtype) == 0 and 0 <= p - n < lanes(dtype)
        at = layers[l, kernels.WEIGHT_AT]
        np.testing.assert_array_equal(packed[at : at + below * p].reshape(below, p)[:, :n], w.T)
        at = layers[l, kernels.BIAS_AT]
        np.testing.assert_array_equal(packed[at : at + n], b[:, 0])
    for scale in (1.0, 0.625):
        back = np.full_like(theta, np.nan)
        kernels.unpack(layers, packed, np.array([scale], dtype), back)
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
        kernels.softmax_rows(work, 1, 1 + 5 * row, row, 5, n)
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
    kernels.softmax_rows(work, 0, 8, 8, 1, 5)
    np.testing.assert_array_equal(work[8:], [0, 0, 0.5, 0.5, 0, 0, 0, 0])
    work[:2] = np.nan, 1
    kernels.softmax_rows(work, 0, 8, 8, 1, 5)
    assert np.isnan(work[8:13]).all()  # a NaN shows in every output


# --- the compiled formulas, to the last place ---------------------------------------------------------------

FORMULAS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[Any], Any]]] = {
    "sigmoid": (lambda z: activated("sigmoid", z), lambda z: 1 / (1 + mpmath.exp(-z))),
    "tanh": (lambda z: activated("tanh", z), mpmath.tanh),
    "softplus": (lambda z: activated("softplus", z), lambda z: mpmath.log1p(mpmath.exp(z))),
    "exp": (lambda z: np.array([kernels.exp_of_negative(x) for x in -np.abs(z)]), lambda z: mpmath.exp(-abs(z))),
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
