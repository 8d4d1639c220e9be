"""The book's lists of pairs: stacked in the form the engine reads, with no whole copy of data that are mostly zeros."""

import contextlib
import io
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import architecture, pairs
from fastbp.book import network2
from fastbp.data import ColumnsAsRows
from fastbp.engines import fused, plan

N, SIZES = 500, (24, 5, 3)  # several blocks, the last one not full
DTYPES = ("float32", "float64")


def inputs(density: float = 0.2, dtype: Any = "float32", n: int = N, columns: int = SIZES[0]) -> np.ndarray:
    rng = np.random.default_rng(1)
    X = rng.integers(1, 100, (n, columns)) * (rng.random((n, columns)) < density)
    return (X if np.dtype(dtype).kind in "iub" else X / 128).astype(dtype)


def pairs_of(X: np.ndarray) -> list[tuple[Any, Any]]:
    Y = 0.8 * np.eye(SIZES[-1])[np.arange(len(X)) % SIZES[-1]] + 0.1  # numbers that float32 does not have
    return list(zip(X[:, :, np.newaxis], Y[:, :, np.newaxis], strict=True))


def build(dtype: str, n_in: int = SIZES[0]) -> architecture.Architecture:
    return architecture.build((n_in, *SIZES[1:]), "sigmoid", "sigmoid", "quadratic", None, dtype)


def stacked(given: list, engine: str, dtype: str) -> pairs.StackedPairs:
    made = pairs.StackedPairs(given, build(dtype, len(given[0][0])), "training_data")
    made.suit(engine, build(dtype, len(given[0][0])))
    return made


def train(net: Any, given: list, **options: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        net.SGD(given, 1, 10, 0.5, **options)


@pytest.fixture
def stackings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of columns each time that some are about to be stacked."""
    made: list[int] = []
    init = ColumnsAsRows.__init__

    def counting(self: ColumnsAsRows, columns: Any, *others: Any) -> None:
        made.append(len(columns))
        init(self, columns, *others)

    monkeypatch.setattr(ColumnsAsRows, "__init__", counting)
    return made


def never_whole(*_: Any) -> None:
    raise AssertionError("the inputs were stacked whole")


def columns_of_every_kind() -> Iterator[tuple[str, list]]:
    for dtype in ("float16", "float32", "float64", ">f4", ">f8", "longdouble", "uint8", "int64", "bool"):
        yield dtype, pairs_of(inputs(dtype=dtype))
    X, many = inputs(), inputs(dtype="int64")
    yield "lists", [(x.tolist(), y) for x, y in pairs_of(X)]
    yield "mixed", [*pairs_of(X)[:200], *pairs_of(many)[200:]]
    fortran = np.asfortranarray(X)
    yield "strided", pairs_of(fortran)
    X.flags.writeable = False
    yield "read-only", pairs_of(X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "given"), list(columns_of_every_kind()), ids=lambda value: value if type(value) is str else ""
)
def test_compressed_block_by_block_is_compressed_as_a_whole(
    kind: str, given: list, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = np.hstack([x for x, _ in given]).T.astype(dtype)
    wanted = fused.compress(whole, np.dtype(dtype))
    made = stacked(given, "matrix", dtype)
    X, Y = made.examples.X, made.examples.Y
    np.testing.assert_array_equal(X.astype(dtype), whole)
    assert X.dtype.itemsize <= 8 and X.flags.c_contiguous and X.dtype.isnative
    with monkeypatch.context() as patched:
        patched.setattr(ColumnsAsRows, "whole", lambda self, dtype=None: Y if self.n == SIZES[-1] else never_whole())
        got = stacked(given, "fused", dtype).examples.X
    assert isinstance(got, fused.CompressedRows) and got.shape == whole.shape and got.data.dtype == dtype
    np.testing.assert_array_equal(got.indptr, wanted.indptr)
    np.testing.assert_array_equal(got.indices[: got.nnz], wanted.indices[: wanted.nnz])
    np.testing.assert_array_equal(got.data[: got.nnz], wanted.data[: wanted.nnz])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("own", ["uint8", "float32", "float64"])
def test_rows_without_many_zeros_are_whole_for_every_engine(own: str, dtype: str) -> None:
    X = inputs(density=0.9, dtype=own)
    for engine in ("fused", "matrix", "reference"):
        got = stacked(pairs_of(X), engine, dtype).examples.X
        np.testing.assert_array_equal(got, X.astype(dtype))
        narrow = own if np.dtype(own).itemsize <= np.dtype(dtype).itemsize else dtype
        assert got.dtype == (dtype if engine == "fused" else narrow)  # what the kernels read is not copied once more


@pytest.mark.parametrize("sparse_in_sample", [True, False])
def test_the_sample_only_guesses(sparse_in_sample: bool) -> None:
    """Whether rows are compressed is decided by all entries, as in `fit`: the sample can be unlike the rest."""
    empty, full = inputs(density=0.0, n=1)[0], inputs(density=1.0, n=1)[0]
    n = 3 * 256
    X = np.where((np.arange(n) % 3 == 0)[:, np.newaxis], empty if sparse_in_sample else full, empty)
    if sparse_in_sample:
        X[np.arange(n) % 3 == 1] = full  # a third of all entries: compressed, in arrays that have to grow
    made = stacked(pairs_of(X), "fused", "float64")
    assert made.density == (0.0 if sparse_in_sample else 1.0)
    assert isinstance(made.examples.X, fused.CompressedRows)
    X[np.arange(n) % 3 == 2] = full
    assert isinstance(stacked(pairs_of(X), "fused", "float64").examples.X, np.ndarray)
    for rows, wanted in ((X, np.ndarray), (X * (np.arange(n) % 3 == 0)[:, np.newaxis], fused.CompressedRows)):
        assert type(fused.compress(rows, np.dtype("float64"))) is wanted


def test_arrays_of_compressed_rows_grow() -> None:
    X = inputs(density=0.35, n=1000)
    blocks = [X[first : first + 100] for first in range(0, 1000, 100)]
    X[:300] *= X[:300] > 0.6  # fewer at the beginning
    wanted = fused.compress(X, np.dtype("float32"))
    for density in (0.0, 0.01, 0.35, 1.0):
        got = fused.compress_blocks(blocks, X.shape, np.dtype("float32"), density)
        assert got is not None and len(got.indices) == len(got.data) >= got.nnz
        assert len(got.indices) <= max(got.nnz, plan.SPARSE_BELOW * X.size) + X.shape[1]
        np.testing.assert_array_equal(got.indptr, wanted.indptr)
        np.testing.assert_array_equal(got.indices[: got.nnz], wanted.indices[: got.nnz])
        np.testing.assert_array_equal(got.data[: got.nnz], wanted.data[: got.nnz])


@pytest.mark.parametrize("engine", ["reference", "matrix", "fused"])
@pytest.mark.parametrize("density", [0.2, 0.9])
def test_what_does_not_fit_is_named_by_its_place_in_the_list(density: float, engine: str) -> None:
    row, last = 400, N - 1  # neither is in the first block, nor in the sample of 250 rows

    def spoilt(at: int, x: Any = None, y: Any = None, own: str = "float64") -> list:
        given: list = pairs_of(inputs(density, own))
        given[at] = (given[at][0] if x is None else x, given[at][1] if y is None else y)
        return given

    def with_one(number: float, own: str = "float64") -> np.ndarray:
        x = np.zeros((SIZES[0], 1), own)
        x[7] = number
        return x

    three = np.zeros((3, 1))
    three[1] = np.inf
    for given, error, message in (
        (spoilt(last, with_one(np.nan)), ValueError, rf"training_data inputs has nan in row {last}, column 7; remove"),
        (
            spoilt(row + 1, with_one(-np.inf, "float32"), own="float32"),
            ValueError,
            rf"has -inf in row {row + 1}, column 7",
        ),
        (
            spoilt(last, with_one(1e300)),
            ValueError,
            rf"1e\+300 in row {last}, column 7, too large for float32; scale it",
        ),
        (spoilt(row + 1, y=three), ValueError, rf"training_data targets has inf in row {row + 1}, column 1"),
        (spoilt(last, np.zeros((SIZES[0], 2))), ValueError, rf"training_data inputs\[{last}\] has shape \(24, 2\)"),
        (spoilt(last, y=np.zeros((4, 1))), ValueError, rf"training_data targets\[{last}\] has shape \(4, 1\)"),
        (spoilt(last, with_one(1j, "complex128")), TypeError, "training_data inputs holds complex128 values"),
        (spoilt(last, np.full((SIZES[0], 1), "one")), TypeError, "training_data inputs holds <U32 values"),
        (spoilt(last, np.ma.zeros((SIZES[0], 1))), TypeError, "training_data inputs is a masked array"),
    ):
        net = fastbp.Network(SIZES, dtype="float32", engine=engine)
        before = [w.copy() for w in net.weights]
        with pytest.raises(error, match=message):
            train(net, given)
        assert all(map(np.array_equal, net.weights, before))
        train(net, pairs_of(inputs(density)))  # nothing is left behind of what was refused
        with pytest.raises(error, match=message):
            train(net, given)


@pytest.mark.parametrize("engine", ["reference", "matrix", "fused"])
@pytest.mark.parametrize("own", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.2, 0.9])
def test_the_same_list_is_stacked_once(density: float, dtype: str, own: str, engine: str, stackings: list[int]) -> None:
    """Columns of float64 in a network of float32 too, whose numbers differ from what was stacked by their rounding."""
    X = inputs(density, own)
    if own == "float64":
        X[X != 0] += 1e-13
    given = pairs_of(X)
    net = fastbp.Network(SIZES, dtype=dtype, engine=engine, seed=0)
    train(net, given)
    assert stackings == [N, N]  # inputs and targets
    train(net, given)
    given.reverse()
    train(net, given)
    assert stackings == [N, N]
    given[20][0][3] += 1
    train(net, given)
    assert len(stackings) == 4


@pytest.mark.parametrize("engine", ["matrix", "fused"])
@pytest.mark.parametrize("density", [0.2, 0.9])
@pytest.mark.parametrize(
    "other",
    [
        np.full((24, 1), 0.5),
        np.full((24, 1), 1e300),
        np.full((24, 1), 300),
        np.full((24, 1), 1j),
        np.full((24, 1), np.nan),
    ],
    ids=["halves", "too large", "another dtype", "complex", "nan"],
)
def test_a_column_of_another_kind_in_its_place_is_seen(other: np.ndarray, density: float, engine: str) -> None:
    given: list = [[x, y] for x, y in pairs_of(inputs(density, "uint8"))]
    kept = stacked(given, engine, "float32")
    assert kept.rows_of(given) is not None
    for like in (given[3][0].astype("int64"), given[3][0].astype("float64")):
        given[3][0] = like
        assert kept.rows_of(given) is not None  # the same numbers
    given[3][0] = other
    assert kept.rows_of(given) is None


def test_another_engine_between_two_calls(stackings: list[int]) -> None:
    given = pairs_of(inputs())
    net = fastbp.Network(SIZES, seed=0)
    twin = fastbp.Network(SIZES, seed=0)
    for engine in ("fused", "matrix", "reference", "fused"):
        net.engine = twin.engine = engine
        order = list(given)
        train(net, given)
        train(twin, order)
        twin._training = None
        assert all(map(np.array_equal, net.weights, twin.weights))
        assert [id(pair) for pair in given] == [id(pair) for pair in order]
        assert isinstance(net._training.examples.X, fused.CompressedRows) == (engine == "fused")


@pytest.mark.parametrize("density", [0.2, 0.9])
def test_the_engine_is_chosen_alike_in_both_calls(density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sample each time: the compressed rows know their density exactly, and might tip a balance."""
    asked: list[float] = []
    make_plan = plan.make_plan
    monkeypatch.setattr(plan, "make_plan", lambda built, m, share: (asked.append(share), make_plan(built, m, share))[1])
    X, net = inputs(density), fastbp.Network(SIZES)
    given = pairs_of(X)
    for _ in range(2):
        train(net, given)
    assert asked == [plan.density(X)] * 2


# The share of the data matrix that may be taken beyond the caller's own arrays, and a list of so many pairs, which
# Python's own lists and dicts of them are part of.
SHARE, MANY, COLUMNS = 1.3, 6000, 400


@pytest.mark.parametrize("engine", ["auto", "fused", "matrix"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.2, 0.9])
@pytest.mark.parametrize("program", ["network", "network2"])
def test_the_memory_of_a_list_of_pairs(program: str, density: float, dtype: str, engine: str) -> None:
    """It was 1.65 data matrices for the book's float32 columns, and twice as much while another list came.

    Dense rows that compiled code reads are those of the network's dtype: of float32 columns in a network of float64,
    twice the caller's matrix, and no more.
    """
    if DISABLE_JIT:
        pytest.skip("minutes of plain Python")
    dense_copy = density == 0.9 and engine != "matrix"
    X = inputs(density, dtype if dense_copy else "float32", MANY, COLUMNS)
    kind: Any = fastbp.Network if program == "network" else network2.Network
    net = kind([COLUMNS, *SIZES[1:]], dtype=dtype, engine=engine)
    options: dict[str, Any] = {}
    if program == "network2":
        options = {"lmbda": 1.0, "monitor_training_cost": True, "monitor_training_accuracy": True}
    train(net, pairs_of(X[:20]), **options)  # libraries are loaded
    once, another = pairs_of(X), pairs_of(X)
    tracemalloc.start()
    try:
        for given in (once, once, another):
            tracemalloc.reset_peak()
            train(net, given, **options)
            assert tracemalloc.get_traced_memory()[1] < SHARE * X.nbytes
    finally:
        tracemalloc.stop()
