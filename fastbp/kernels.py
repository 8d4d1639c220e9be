"""Every line of compiled code: vector products, activations, and whole runs of mini-batches built from them.

All of it stands in one file because Numba's disk cache watches only the file that defines a cached function:
an entry that called into another file would keep running that file's old code after an edit.

Layout. Inside a run the parameters live in one flat vector, `packed`. Layer l keeps its weights *input-major*:
row k holds w[0, k], w[1, k], … , the weights that leave neuron k, followed by zeros up to a whole number of
vectors. So every inner loop below runs along contiguous outputs, forward and update alike. Weighted inputs z,
activations a and errors delta are (m, padded n_l) blocks of one flat buffer, `work`. The padding of the weights and
of delta is zero, always; the padding of z and a is arbitrary and never read across.

Layers count from 0 here (0 is the input). `shape.layers` is a table of integers: row l, columns SIZE, PADDED, ….
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.config import DISABLE_JIT  # type: ignore[attr-defined]
from numba.extending import intrinsic, overload

from fastbp import jitcache

# Two 4-lane float64 or two 8-lane float32 vectors per row saturate AVX2; wider machines split or pair them.
VECTOR_BYTES = 32

# nnan and ninf are left out, so that NaN and infinity keep their meaning (a divergence must show).
_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
# For formulas whose order of operations is their accuracy: rounding by a magic constant, compensated sums.
_EXACT = {"nsz", "contract"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel: cached on disk, free of the GIL, IEEE division, contractions and reassociation allowed."""
    return _compile(function, _FAST)


def compiled_exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a formula as it stands: `compiled` without reassociation."""
    return _compile(function, _EXACT)


def _compile(function: Callable[..., Any], fastmath: set[str]) -> Callable[..., Any]:
    if DISABLE_JIT:
        return function
    return jitcache.use(njit(nogil=True, error_model="numpy", fastmath=fastmath)(function))


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a kernel part of its caller: Numba optimises what a function calls once again for every caller."""
    return njit(inline="always")(function)


def vector_code(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Make an instruction of emitted vector code; its plain twin takes its place when the JIT is off."""

    def choose(emit: Callable[..., Any]) -> Any:
        return plain if DISABLE_JIT else intrinsic(emit)

    return choose


# The columns of `Shape.layers`: one row a layer, the input first.
(
    SIZE,  # n_l
    PADDED,  # n_l rounded up to whole vectors (the input keeps n_1)
    Z_AT,  # where Z^l begins in the work space, an (m, padded n_l) block
    A_AT,  # the same for A^l
    DELTA_AT,  # the same for Δ^l
    WEIGHT_AT,  # where W^l begins in packed, an (n_{l-1}, padded n_l) block
    BIAS_AT,  # where b^l begins in packed
    ACTIVATION,  # the code of σ_l
) = range(8)


class Shape(NamedTuple):
    """What the kernels know of a network and of its work space: one flat array of numbers for all buffers."""

    layers: np.ndarray  # (L, 8) integers, see above
    changed: np.ndarray  # (·, 3): layer, unit and code of each neuron with an activation of its own
    cost: int
    spare_at: int  # where the work space has room for one transposed W, or a column for each changed neuron and two


class Steps(NamedTuple):
    """How gradients become steps: the optimizer's code, its coefficients, and what it remembers between steps."""

    optimizer: int
    coefficients: np.ndarray  # (4,), float64: two rates of averaging (or the momentum), epsilon, decoupled weight decay
    powers: np.ndarray  # (2,), float64: the rates to the power of the number of steps taken
    first: np.ndarray  # the average of gradients, or the velocity, laid out like packed
    second: np.ndarray  # the average of squared gradients
    gradient: np.ndarray  # of the present mini-batch


class Data(NamedTuple):
    """Examples as rows, dense (`dense`, flat) or compressed (`indptr`, `indices`, `values`); the other is empty.

    Targets are rows of numbers (`targets`, flat) or one label each (`labels`); the other is empty.
    """

    dense: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    labels: np.ndarray


# --------------------------------------------------------------------------------------------------------------
# Vector instructions. LLVM does not turn register tiles of scalars into vectors (its SLP pass is off in Numba),
# and its loop vectoriser re-checks aliasing at every short row, so the three inner products of this project are
# written with LLVM vector types. Each has its plain twin, used when the JIT is off and as the test's oracle.
# --------------------------------------------------------------------------------------------------------------


class _Emitter:
    """Emits vector code for one element type: loads, stores, broadcasts, fused multiply-adds, counted loops."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.context, self.builder = context, builder
        self.size = dtype.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.size
        element = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.vector = ir.VectorType(element, self.lanes)
        self.muladd_function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.vector, [self.vector] * 3),
            f"llvm.fmuladd.v{self.lanes}f{8 * self.size}",
        )

    def pointer(self, array_type: Any, array: Any, offset: Any = None) -> Any:
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return data if offset is None else self.builder.gep(data, [offset])

    def at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [self.integer(index) if isinstance(index, int) else index])

    def integer(self, value: int) -> Any:
        return ir.Constant(ir.IntType(64), value)

    def times(self, x: Any, factor: Any) -> Any:
        return self.builder.mul(x, self.integer(factor) if isinstance(factor, int) else factor)

    def load(self, pointer: Any) -> Any:
        value = self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()))
        value.align = self.size
        return value

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer())).align = self.size

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, mask)

    def muladd(self, x: Any, y: Any, z: Any) -> Any:
        return self.builder.call(self.muladd_function, [x, y, z])

    def variable(self, value: Any) -> Any:
        """A local that LLVM keeps in a register."""
        slot = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, slot)
        return slot

    @contextmanager
    def loop(self, first: Any, last: Any) -> Iterator[Any]:
        """A counted loop that LLVM leaves as it is: unrolling the tiles doubled the time to compile, not the speed."""
        builder = self.builder
        head, body, end = (builder.append_basic_block(f"loop_{part}") for part in ("head", "body", "end"))
        counter = self.variable(first)
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.load(counter)
        builder.cbranch(builder.icmp_signed("<", index, last), body, end)
        builder.position_at_end(body)
        yield index
        builder.store(builder.add(index, self.integer(1)), counter)
        again = builder.branch(head)
        rule = builder.module.add_metadata([ir.MetaDataString(builder.module, "llvm.loop.unroll.disable")])
        identity = builder.module.add_metadata([rule])
        identity.operands = (identity, rule)  # LLVM knows a loop's properties by their naming themselves first
        again.set_metadata("llvm.loop", identity)
        builder.position_at_end(end)

    def blocks(self, total: Any, widths: tuple[int, ...], emit: Callable[[Any, int], None]) -> None:
        """Cover 0 … total by blocks of the given widths, widest first; emit(start, width) writes one block."""
        done = self.integer(0)
        for width in widths:
            count = self.builder.sdiv(self.builder.sub(total, done), self.integer(width))
            with self.loop(self.integer(0), count) as block:
                emit(self.builder.add(done, self.times(block, width)), width)
            done = self.builder.add(done, self.times(count, width))


def _plain_add_product(
    c: np.ndarray, c_at: int, c_row: int,
    a: np.ndarray, a_at: int, a_row: int, a_step: int,
    b: np.ndarray, b_at: int, b_row: int,
    rows: int, columns: int, steps: int, keep: Any,
) -> None:  # fmt: skip
    for i in range(rows):
        row = c[c_at + i * c_row : c_at + i * c_row + columns]
        row *= keep
        for t in range(steps):
            row += a[a_at + i * a_row + t * a_step] * b[b_at + t * b_row : b_at + t * b_row + columns]


@vector_code(_plain_add_product)
def _vector_add_product(typingctx, c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, rows, columns, steps, keep):
    i = types.intp
    signature = types.void(c, i, i, a, i, i, i, b, i, i, i, i, i, c.dtype)

    def codegen(context, builder, signature, args):
        c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, rows, columns, steps, keep = args
        e = _Emitter(context, builder, signature.args[0].dtype)
        c = e.pointer(signature.args[0], c, c_at)
        a = e.pointer(signature.args[3], a, a_at)
        b = e.pointer(signature.args[7], b, b_at)
        keep = e.broadcast(keep)

        def tile(i: Any, height: int, j: Any, vectors: int) -> None:
            """A register tile: `height` rows by `vectors` vectors of c, from the first step to the last."""
            c_rows = [e.at(e.at(c, e.times(builder.add(i, e.integer(r)), c_row)), j) for r in range(height)]
            a_rows = [e.at(a, e.times(builder.add(i, e.integer(r)), a_row)) for r in range(height)]
            sums = [
                [e.variable(builder.fmul(keep, e.load(e.at(c_rows[r], v * e.lanes)))) for v in range(vectors)]
                for r in range(height)
            ]
            with e.loop(e.integer(0), steps) as t:
                b_t = e.at(e.at(b, e.times(t, b_row)), j)
                b_vectors = [e.load(e.at(b_t, v * e.lanes)) for v in range(vectors)]
                for r in range(height):
                    a_rt = e.broadcast(builder.load(e.at(a_rows[r], e.times(t, a_step))))
                    for v in range(vectors):
                        builder.store(e.muladd(a_rt, b_vectors[v], builder.load(sums[r][v])), sums[r][v])
            for r in range(height):
                for v in range(vectors):
                    e.store(builder.load(sums[r][v]), e.at(c_rows[r], v * e.lanes))

        def cover(heights: tuple[int, ...], widths: tuple[int, ...]) -> None:
            e.blocks(
                columns,
                tuple(w * e.lanes for w in widths),
                lambda j, w: e.blocks(rows, heights, lambda i, h: tile(i, h, j, w // e.lanes)),
            )

        # 6 x 2 vectors fill 12 of the 16 registers and hide the latency of two multiply-adds a cycle;
        # a few rows have too few sums for that, and take wider tiles.
        with builder.if_else(builder.icmp_signed("<", rows, e.integer(4))) as (few, many):
            with few:
                cover((1,), (4, 1))
            with many:
                cover((6, 4, 2, 1), (2, 1))
        return context.get_dummy_value()

    return signature, codegen


def _plain_gather_rows(
    c: np.ndarray, c_at: int, w: np.ndarray, w_at: int, w_row: int,
    indices: np.ndarray, values: np.ndarray, first: int, last: int, columns: int,
) -> None:  # fmt: skip
    row = c[c_at : c_at + columns]
    for t in range(first, last):
        at = w_at + int(indices[t]) * w_row
        row += values[t] * w[at : at + columns]


@vector_code(_plain_gather_rows)
def _vector_gather_rows(typingctx, c, c_at, w, w_at, w_row, indices, values, first, last, columns):
    i = types.intp
    signature = types.void(c, i, w, i, i, indices, values, i, i, i)

    def codegen(context, builder, signature, args):
        c, c_at, w, w_at, w_row, indices, values, first, last, columns = args
        e = _Emitter(context, builder, signature.args[0].dtype)
        c = e.pointer(signature.args[0], c, c_at)
        w = e.pointer(signature.args[2], w, w_at)
        indices = e.pointer(signature.args[5], indices)
        values = e.pointer(signature.args[6], values)

        def panel(j: Any, width: int) -> None:
            vectors = range(width // e.lanes)
            sums = [e.variable(e.load(e.at(e.at(c, j), v * e.lanes))) for v in vectors]
            with e.loop(first, last) as t:
                k = builder.sext(builder.load(e.at(indices, t)), ir.IntType(64))
                w_k = e.at(e.at(w, e.times(k, w_row)), j)
                x_k = e.broadcast(builder.load(e.at(values, t)))
                for v in vectors:
                    builder.store(e.muladd(x_k, e.load(e.at(w_k, v * e.lanes)), builder.load(sums[v])), sums[v])
            for v in vectors:
                e.store(builder.load(sums[v]), e.at(e.at(c, j), v * e.lanes))

        e.blocks(columns, tuple(v * e.lanes for v in (8, 4, 2, 1)), panel)
        return context.get_dummy_value()

    return signature, codegen


def _plain_scatter_rows(
    w: np.ndarray, w_at: int, w_row: int, d: np.ndarray, d_at: int,
    indices: np.ndarray, values: np.ndarray, first: int, last: int, columns: int,
) -> None:  # fmt: skip
    row = d[d_at : d_at + columns]
    for t in range(first, last):
        at = w_at + int(indices[t]) * w_row
        w[at : at + columns] += values[t] * row


@vector_code(_plain_scatter_rows)
def _vector_scatter_rows(typingctx, w, w_at, w_row, d, d_at, indices, values, first, last, columns):
    i = types.intp
    signature = types.void(w, i, i, d, i, indices, values, i, i, i)

    def codegen(context, builder, signature, args):
        w, w_at, w_row, d, d_at, indices, values, first, last, columns = args
        e = _Emitter(context, builder, signature.args[0].dtype)
        w = e.pointer(signature.args[0], w, w_at)
        d = e.pointer(signature.args[3], d, d_at)
        indices = e.pointer(signature.args[5], indices)
        values = e.pointer(signature.args[6], values)

        def panel(j: Any, width: int) -> None:
            vectors = range(width // e.lanes)
            row = [e.load(e.at(e.at(d, j), v * e.lanes)) for v in vectors]
            with e.loop(first, last) as t:
                k = builder.sext(builder.load(e.at(indices, t)), ir.IntType(64))
                w_k = e.at(e.at(w, e.times(k, w_row)), j)
                x_k = e.broadcast(builder.load(e.at(values, t)))
                for v in vectors:
                    w_kv = e.at(w_k, v * e.lanes)
                    e.store(e.muladd(x_k, row[v], e.load(w_kv)), w_kv)

        e.blocks(columns, tuple(v * e.lanes for v in (8, 4, 2, 1)), panel)
        return context.get_dummy_value()

    return signature, codegen


def _plain_combine(y: np.ndarray, y_at: int, keep: Any, x: np.ndarray, x_at: int, factor: Any, n: int) -> None:
    y[y_at : y_at + n] = keep * y[y_at : y_at + n] + factor * x[x_at : x_at + n]


@vector_code(_plain_combine)
def _vector_combine(typingctx, y, y_at, keep, x, x_at, factor, n):
    signature = types.void(y, types.intp, y.dtype, x, types.intp, y.dtype, types.intp)

    def codegen(context, builder, signature, args):
        y, y_at, keep, x, x_at, factor, n = args
        e = _Emitter(context, builder, signature.args[0].dtype)
        y, x = e.pointer(signature.args[0], y, y_at), e.pointer(signature.args[3], x, x_at)
        keep, factor = e.broadcast(keep), e.broadcast(factor)

        def block(i: Any, width: int) -> None:
            e.store(e.muladd(factor, e.load(e.at(x, i)), builder.fmul(keep, e.load(e.at(y, i)))), e.at(y, i))

        e.blocks(n, (e.lanes,), block)
        return context.get_dummy_value()

    return signature, codegen


def _plain_clear(y: np.ndarray, y_at: int, n: int) -> None:
    y[y_at : y_at + n] = 0


@vector_code(_plain_clear)
def _vector_clear(typingctx, y, y_at, n):
    def codegen(context, builder, signature, args):
        y, y_at, n = args
        e = _Emitter(context, builder, signature.args[0].dtype)
        y = e.pointer(signature.args[0], y, y_at)
        e.blocks(n, (e.lanes,), lambda i, width: e.store(ir.Constant(e.vector, None), e.at(y, i)))
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp), codegen


@intrinsic
def _bits(typingctx, x):
    """The integer with the same bits as a float."""
    integer = types.int32 if x == types.float32 else types.int64
    return integer(x), _bitcast


@intrinsic
def _from_bits(typingctx, x):
    """The float with the same bits as an integer."""
    number = types.float32 if x == types.int32 else types.float64
    return number(x), _bitcast


def _bitcast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.bitcast(args[0], context.get_value_type(signature.return_type))


def _plain_prefetch(x: np.ndarray, first: int, last: int) -> None:
    pass


@vector_code(_plain_prefetch)
def _vector_prefetch(typingctx, x, first, last):
    """Ask for elements first … last - 1 to be brought to the second-level cache; reads nothing, and cannot fail."""

    def codegen(context, builder, signature, args):
        x, first, last = args
        size = signature.args[0].dtype.bitwidth // 8
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        ask = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32]), "llvm.prefetch.p0"
        )
        e = _Emitter(context, builder, types.float32)
        x = e.pointer(signature.args[0], x, first)

        def line(i: Any, width: int) -> None:
            builder.call(ask, [builder.bitcast(e.at(x, i), byte), i32(0), i32(2), i32(1)])

        # one request a cache line of 64 bytes; a last line that is not full comes by the hardware's own foresight
        e.blocks(builder.sub(last, first), (64 // size,), line)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp), codegen


def _plain_compile_once() -> None:
    pass


@vector_code(_plain_compile_once)
def _compile_once(typingctx):
    """Forbid LLVM to inline the function that calls this: each inlined copy would be optimised anew."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@vector_code(_plain_compile_once)
def _part_of_caller(typingctx):
    """Have LLVM inline the function that calls this, however long it is: only then do loops over it vectorise."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("alwaysinline")
        return context.get_dummy_value()

    return types.void(), codegen


@compiled
def add_product(c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, rows, columns, steps, keep):
    """C ← keep C + A B on blocks of flat arrays: C (rows, columns), A (rows, steps), B (steps, columns).

    Element (i, t) of A stands at a_at + i a_row + t a_step, so a transposed block costs nothing. C and B are
    row-contiguous, and `columns` is a whole number of vectors.
    """
    _compile_once()
    _vector_add_product(c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, rows, columns, steps, keep)


@compiled
def gather_rows(c, c_at, w, w_at, w_row, indices, values, first, last, columns):
    """c ← c + x W for one compressed row x: the sum of the rows of W it names, each times its value."""
    _compile_once()
    _vector_gather_rows(c, c_at, w, w_at, w_row, indices, values, first, last, columns)


@compiled
def scatter_rows(w, w_at, w_row, d, d_at, indices, values, first, last, columns):
    """W ← W + xᵀ d for one compressed row x: adds d, times each value, to the row of W the value names."""
    _compile_once()
    _vector_scatter_rows(w, w_at, w_row, d, d_at, indices, values, first, last, columns)


@compiled
def combine(y, y_at, keep, x, x_at, factor, n):
    """y ← keep y + factor x over n elements, n a whole number of vectors."""
    _compile_once()
    _vector_combine(y, y_at, keep, x, x_at, factor, n)


@compiled
def clear(y, y_at, n):
    """y ← 0 over n elements, n a whole number of vectors."""
    _compile_once()
    _vector_clear(y, y_at, n)


# --------------------------------------------------------------------------------------------------------------
# Activations, one scalar formula each; activations.py declares the same in plain NumPy and a table-driven test
# binds the two. NumPy and LLVM have no vectorised exp here, so it is written out: arithmetic only, no branches,
# no tables, which is what the loop vectoriser can widen. `type(x)(1)` is one in x's own precision: a bare 1.0
# is a float64 and would silently promote float32 arithmetic.
# --------------------------------------------------------------------------------------------------------------


def _exp_parts(x: Any) -> tuple[Any, Any]:
    """(s, p) with eˣ = s + s p: s a power of two, p = eʳ - 1 for |r| ≤ ln(2)/2. For x ≤ 0."""
    least = -87.3 if x.itemsize == 4 else -708.3
    held = max(float(x), least) if x == x else float(x)
    n = np.rint(held / math.log(2))
    r = held - n * 6.93147180369123816490e-01 - n * 1.90821492927058770002e-10  # ln 2 in two parts, as below
    return type(x)(0.0 if x < type(x)(least) else 2.0**n), type(x)(np.expm1(r))


@overload(_exp_parts, jit_options={"fastmath": _EXACT, "error_model": "numpy"})
def _compiled_exp_parts(x):
    """x = n ln 2 + r (Cody and Waite: ln 2 in two parts, the first exact in n ln 2), then Taylor's series of eʳ - 1.

    n is rounded by adding 1.5·2^mantissa, after which n also stands in the low bits of the sum. Below the smallest
    argument with a normal result, s is 0: subnormal numbers are slow, and count for nothing here. NaN passes the
    comparisons and stays NaN.
    Seven terms in float32 and thirteen in float64 leave an error below 0.1 units in the last place.
    """

    def exp_parts_float32(x):
        tiny = x < np.float32(-87.3)
        x = np.float32(-87.3) if tiny else x
        shifted = x * np.float32(1.4426950408889634) + np.float32(12582912.0)
        n = shifted - np.float32(12582912.0)
        r = x - n * np.float32(0.693359375) - n * np.float32(-2.1219444005469057e-4)
        q = np.float32(1 / 5040)
        q = q * r + np.float32(1 / 720)
        q = q * r + np.float32(1 / 120)
        q = q * r + np.float32(1 / 24)
        q = q * r + np.float32(1 / 6)
        q = q * r + np.float32(1 / 2)
        s = _from_bits(np.int32((_bits(shifted) << np.int32(23)) + np.int32(0x3F800000)))
        return np.float32(0) if tiny else s, r + (r * r) * q

    def exp_parts_float64(x):
        tiny = x < -708.3
        x = -708.3 if tiny else x
        shifted = x * 1.4426950408889634 + 6755399441055744.0
        n = shifted - 6755399441055744.0
        r = x - n * 6.93147180369123816490e-01 - n * 1.90821492927058770002e-10
        q = 1 / 6227020800
        q = q * r + 1 / 479001600
        q = q * r + 1 / 39916800
        q = q * r + 1 / 3628800
        q = q * r + 1 / 362880
        q = q * r + 1 / 40320
        q = q * r + 1 / 5040
        q = q * r + 1 / 720
        q = q * r + 1 / 120
        q = q * r + 1 / 24
        q = q * r + 1 / 6
        q = q * r + 1 / 2
        s = _from_bits((_bits(shifted) << 52) + 0x3FF0000000000000)
        return 0.0 if tiny else s, r + (r * r) * q

    return exp_parts_float32 if x == types.float32 else exp_parts_float64


@compiled_exact
def exp_of_negative(x):
    """eˣ for x ≤ 0."""
    s, p = _exp_parts(x)
    return s + s * p


@compiled_exact
def quotient(x, x_lost, c, t, t_lost):
    """(q, q_lost) with q + q_lost = (x + x_lost)/(c + t + t_lost): what rounding took from x, t and q, put back.

    For t of either sign with |t| ≤ 1 ≤ c the first difference below is exact, and with fused multiply-adds the next.
    """
    _part_of_caller()
    inverse = type(x)(1) / (c + t)
    q = x * inverse
    return q, ((x - c * q) - q * t + (x_lost - q * t_lost)) * inverse


@compiled_exact
def sigmoid(z):
    """σ(z) = 1/(1 + t) or t/(1 + t), t = e^-|z|, which cannot overflow.

    Plain, the three roundings of t, 1 + t and the quotient add up to 2.4 units in the last place; so each is put back.
    """
    _part_of_caller()
    one, zero = type(z)(1), type(z)(0)
    s, p = _exp_parts(-abs(z))
    t = s + s * p
    t_lost = s * p - (t - s)
    q, q_lost = quotient(one if z >= zero else t, zero if z >= zero else t_lost, one, t, t_lost)
    return q + q_lost


@compiled_exact
def tanh(z):
    """tanh |z| = -e/(2 + e) with e = e^(-2|z|) - 1."""
    _part_of_caller()
    one, two = type(z)(1), type(z)(2)
    s, p = _exp_parts(-two * abs(z))
    e = (s - one) + s * p
    e_lost = s * p - (e - (s - one))
    q, q_lost = quotient(-e, -e_lost, two, e, e_lost)
    y = q + q_lost
    return y if z >= type(z)(0) else -y


@compiled_exact
def softplus(z):
    """ln(1 + eᶻ) = max(z, 0) + ln(1 + t), t = e^-|z|; the logarithm as 2 artanh(u), u = t/(2 + t) ≤ 1/3."""
    _part_of_caller()
    two = type(z)(2)
    s, p = _exp_parts(-abs(z))
    t = s + s * p
    t_lost = s * p - (t - s)
    u, u_lost = quotient(t, t_lost, two, t, t_lost)
    v = u * u
    q = type(z)(1 / 33)
    q = q * v + type(z)(1 / 31)
    q = q * v + type(z)(1 / 29)
    q = q * v + type(z)(1 / 27)
    q = q * v + type(z)(1 / 25)
    q = q * v + type(z)(1 / 23)
    q = q * v + type(z)(1 / 21)
    q = q * v + type(z)(1 / 19)
    q = q * v + type(z)(1 / 17)
    q = q * v + type(z)(1 / 15)
    q = q * v + type(z)(1 / 13)
    q = q * v + type(z)(1 / 11)
    q = q * v + type(z)(1 / 9)
    q = q * v + type(z)(1 / 7)
    q = q * v + type(z)(1 / 5)
    q = q * v + type(z)(1 / 3)
    # the first term of the series stands apart, so that its rounding is the only one that counts
    log = two * (u + (u_lost + u * (v * q)))
    return (z if z > type(z)(0) else type(z)(0)) + log


@compiled_exact
def normal_cdf(z):
    """Φ(z), by the C library's erfc: right in both tails, but not vectorised."""
    return type(z)(0.5) * type(z)(math.erfc(-z * type(z)(0.7071067811865476)))


@compiled_exact
def normal_pdf(z):
    """φ(z) = e^(-z²/2)/√(2π)."""
    return type(z)(0.3989422804014327) * exp_of_negative(type(z)(-0.5) * z * z)


# The codes; activations.py, costs.py and optimizers.py use the same numbers.
SIGMOID, TANH, RELU, LEAKY_RELU, SOFTPLUS, GELU, SILU, IDENTITY, SOFTMAX = range(9)
QUADRATIC, CROSS_ENTROPY, LOG_LIKELIHOOD = range(3)
SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM = range(6)


@compiled_exact
def activate(code, work, z_at, a_at, size):
    """a ← σ(z), elementwise; the branch stands outside the loops so that each of them vectorises."""
    _compile_once()
    z, a = work[z_at : z_at + size], work[a_at : a_at + size]
    if code == SIGMOID:
        for i in range(z.size):
            a[i] = sigmoid(z[i])
    elif code == TANH:
        for i in range(z.size):
            a[i] = tanh(z[i])
    elif code == RELU:
        for i in range(z.size):
            a[i] = z.dtype.type(0) if z[i] <= z.dtype.type(0) else z[i]  # in this order NaN stays NaN
    elif code == LEAKY_RELU:
        for i in range(z.size):
            a[i] = z[i] if z[i] > z.dtype.type(0) else z.dtype.type(0.01) * z[i]
    elif code == SOFTPLUS:
        for i in range(z.size):
            a[i] = softplus(z[i])
    elif code == GELU:
        for i in range(z.size):
            a[i] = z[i] * normal_cdf(z[i])
    elif code == SILU:
        for i in range(z.size):
            a[i] = z[i] * sigmoid(z[i])
    else:
        for i in range(z.size):
            a[i] = z[i]


@compiled_exact
def times_derivative(code, work, z_at, a_at, delta_at, size):
    """delta ← delta ⊙ σ'(z), from a = σ(z) where that is cheaper."""
    _compile_once()
    z, a, delta = work[z_at : z_at + size], work[a_at : a_at + size], work[delta_at : delta_at + size]
    if code == SIGMOID:
        for i in range(z.size):
            delta[i] *= a[i] * (z.dtype.type(1) - a[i])
    elif code == TANH:
        for i in range(z.size):
            delta[i] *= z.dtype.type(1) - a[i] * a[i]
    elif code == RELU:
        for i in range(z.size):
            delta[i] = z.dtype.type(0) if z[i] <= z.dtype.type(0) else delta[i]
    elif code == LEAKY_RELU:
        for i in range(z.size):
            delta[i] = delta[i] if z[i] > z.dtype.type(0) else z.dtype.type(0.01) * delta[i]
    elif code == SOFTPLUS:
        for i in range(z.size):
            delta[i] *= sigmoid(z[i])
    elif code == GELU:
        for i in range(z.size):
            delta[i] *= normal_cdf(z[i]) + z[i] * normal_pdf(z[i])
    elif code == SILU:
        for i in range(z.size):
            s = sigmoid(z[i])
            delta[i] *= s * (z.dtype.type(1) + z[i] * (z.dtype.type(1) - s))


@compiled_exact
def softmax_rows(work, z_at, a_at, row, rows, n):
    """a ← e^(z - max z)/Σ, row by row; `row` is the distance between rows, `n` the units that count."""
    _compile_once()
    for i in range(rows):
        z, a = work[z_at + i * row : z_at + i * row + n], work[a_at + i * row : a_at + i * row + n]
        largest = z[0]
        for j in range(1, n):
            largest = max(largest, z[j])
        total = z.dtype.type(0)
        for j in range(n):
            a[j] = exp_of_negative(z[j] - largest)
            total += a[j]
        for j in range(n):
            a[j] /= total


# --------------------------------------------------------------------------------------------------------------
# The mini-batch: feedforward, BP1 to BP4, update. What runs along rows is a small kernel of its own; what calls
# them is inlined into the one entry at the end. So each piece is compiled once, and LLVM sees no more of it.
# --------------------------------------------------------------------------------------------------------------


@compiled
def gather_inputs(work, at, dense, rows, n):
    """A¹ ← the chosen rows of X, side by side: read twice in a mini-batch, and scattered in memory."""
    _compile_once()
    for i in range(rows.size):
        x = dense[rows[i] * n : (rows[i] + 1) * n]
        a = work[at + i * n : at + (i + 1) * n]
        for k in range(n):
            a[k] = x[k]


@compiled
def move_column(work, source, source_row, target, target_row, m):
    """One unit's entries of an (m, padded n) block, to or from a column of their own."""
    _compile_once()
    for i in range(m):
        work[target + i * target_row] = work[source + i * source_row]


@compiled
def subtract_targets(work, delta_at, a_at, row, n, rows, targets, labels):
    """Δᴸ ← Aᴸ - Y, and zero in the padding; Y by rows of numbers or by one label each."""
    _compile_once()
    by_label = labels.size > 0
    for i in range(rows.size):
        delta = work[delta_at + i * row : delta_at + (i + 1) * row]
        a = work[a_at + i * row : a_at + (i + 1) * row]
        for j in range(row):
            delta[j] = a[j] if j < n else work.dtype.type(0)
        if by_label:
            delta[labels[rows[i]]] -= work.dtype.type(1)
        else:
            y = targets[rows[i] * n : (rows[i] + 1) * n]
            for j in range(n):
                delta[j] -= y[j]


@compiled
def transpose(packed, w_at, w_row, rows, columns, work, turned_at, turned_row):
    """turned ← Wᵀ, its rows padded with zeros to turned_row; eight rows of W at a time, which stay in the cache."""
    _compile_once()
    for first in range(0, turned_row, 8):
        last = min(first + 8, rows)
        for j in range(columns):
            at = turned_at + j * turned_row
            for k in range(first, last):
                work[at + k] = packed[w_at + k * w_row + j]
            for k in range(max(first, last), min(first + 8, turned_row)):
                work[at + k] = work.dtype.type(0)


@compiled
def dot_rows(work, c_at, c_row, d_at, packed, w_at, w_row, rows, m):
    """C ← D Wᵀ by dot products along the rows of W, padding included: for few rows of D."""
    _compile_once()
    for i in range(m):
        c = work[c_at + i * c_row : c_at + (i + 1) * c_row]
        d = work[d_at + i * w_row : d_at + (i + 1) * w_row]
        for k in range(rows):
            w = packed[w_at + k * w_row : w_at + (k + 1) * w_row]
            total = work.dtype.type(0)
            for j in range(w_row):
                total += d[j] * w[j]
            c[k] = total
        for k in range(rows, c_row):
            c[k] = work.dtype.type(0)


@compiled
def take_outputs(work, at, row, m, n, result, first):
    """result ← Aᴸ of the mini-batch, without its padding, from row `first` on."""
    _compile_once()
    for i in range(m):
        for j in range(n):
            result[(first + i) * n + j] = work[at + i * row + j]


@compiled
def prefetch_inputs(data, rows, n):
    """Ask for the inputs of the next mini-batch while this one computes: rows in random order lie far apart."""
    _compile_once()
    sparse = data.indptr.size > 0
    for i in range(rows.size):
        if sparse:
            first, last = data.indptr[rows[i]], data.indptr[rows[i] + 1]
            _vector_prefetch(data.indices, first, last)
            _vector_prefetch(data.values, first, last)
        else:
            _vector_prefetch(data.dense, rows[i] * n, (rows[i] + 1) * n)


@inlined
def activate_layer(shape, work, l, m):
    """Aˡ = σ(Zˡ), with the single changed neurons of the layer."""
    layers, p = shape.layers, shape.layers[l, PADDED]
    z_at, a_at, code = layers[l, Z_AT], layers[l, A_AT], layers[l, ACTIVATION]
    if code == SOFTMAX:
        softmax_rows(work, z_at, a_at, p, m, layers[l, SIZE])
    else:
        activate(code, work, z_at, a_at, m * p)
    for c in range(len(shape.changed)):
        if shape.changed[c, 0] == l:
            unit, column, column_a = shape.changed[c, 1], shape.spare_at, shape.spare_at + m
            move_column(work, z_at + unit, p, column, np.int64(1), m)
            activate(shape.changed[c, 2], work, column, column_a, m)
            move_column(work, column_a, np.int64(1), a_at + unit, p, m)


@compiled
def times_layer_derivative(shape, work, l, m):
    """Δˡ ← Δˡ ⊙ σ'(Zˡ), with the single changed neurons of the layer.

    A changed neuron's errors are taken out before the layer's own σ' and put back after it.
    """
    _compile_once()
    layers, p, one = shape.layers, shape.layers[l, PADDED], np.int64(1)
    z_at, a_at, delta_at = layers[l, Z_AT], layers[l, A_AT], layers[l, DELTA_AT]
    z_column, a_column, first_delta = shape.spare_at, shape.spare_at + m, shape.spare_at + 2 * m
    for c in range(len(shape.changed)):
        if shape.changed[c, 0] == l:
            move_column(work, delta_at + shape.changed[c, 1], p, first_delta + c * m, one, m)
    times_derivative(layers[l, ACTIVATION], work, z_at, a_at, delta_at, m * p)
    for c in range(len(shape.changed)):
        if shape.changed[c, 0] == l:
            unit, delta_column = shape.changed[c, 1], first_delta + c * m
            move_column(work, z_at + unit, p, z_column, one, m)
            move_column(work, a_at + unit, p, a_column, one, m)
            times_derivative(shape.changed[c, 2], work, z_column, a_column, delta_column, m)
            move_column(work, delta_column, one, delta_at + unit, p, m)


@inlined
def forward(shape, packed, scale, work, data, rows):
    """Zˡ = Aˡ⁻¹ (Wˡ)ᵀ + bˡ and Aˡ = σ(Zˡ) for the examples `rows`."""
    layers, m, sparse, one = shape.layers, rows.size, data.indptr.size > 0, packed.dtype.type(1)
    if not sparse:
        gather_inputs(work, layers[0, A_AT], data.dense, rows, layers[0, SIZE])
    for l in range(1, len(layers)):
        p, z_at, w_at, b_at = layers[l, PADDED], layers[l, Z_AT], layers[l, WEIGHT_AT], layers[l, BIAS_AT]
        clear(work, z_at, m * p)
        if l == 1 and sparse:
            for i in range(m):
                first, last = data.indptr[rows[i]], data.indptr[rows[i] + 1]
                gather_rows(work, z_at + i * p, packed, w_at, p, data.indices, data.values, first, last, p)
        else:
            a_at, below = layers[l - 1, A_AT], layers[l - 1, PADDED]
            add_product(work, z_at, p, work, a_at, below, np.int64(1), packed, w_at, p, m, p, layers[l - 1, SIZE], one)
        for i in range(m):
            combine(work, z_at + i * p, scale if l == 1 else one, packed, b_at, one, p)
        activate_layer(shape, work, l, m)


@inlined
def output_error(shape, work, data, rows):
    """Δᴸ = ∇ₐC ⊙ σ'(Zᴸ); where cost and output are a pair (cross-entropy and sigmoid, …) σ' cancels."""
    last = len(shape.layers) - 1
    delta_at, a_at, p = shape.layers[last, DELTA_AT], shape.layers[last, A_AT], shape.layers[last, PADDED]
    subtract_targets(work, delta_at, a_at, p, shape.layers[last, SIZE], rows, data.targets, data.labels)  # BP1
    if shape.cost == QUADRATIC:
        times_layer_derivative(shape, work, last, rows.size)  # BP1


@inlined
def propagate_error(shape, packed, work, l, m):
    """Δˡ = (Δˡ⁺¹ Wˡ⁺¹) ⊙ σ'(Zˡ)."""
    layers, above, turned_at = shape.layers, l + 1, shape.spare_at
    n, p, next_p = layers[l, SIZE], layers[l, PADDED], layers[above, PADDED]
    delta_at, next_at, w_at = layers[l, DELTA_AT], layers[above, DELTA_AT], layers[above, WEIGHT_AT]
    if m < 4:  # transposing W costs as much as three rows of the product
        dot_rows(work, delta_at, p, next_at, packed, w_at, next_p, n, m)
    else:
        next_n, one, step = layers[above, SIZE], packed.dtype.type(1), np.int64(1)
        transpose(packed, w_at, next_p, n, next_n, work, turned_at, p)
        clear(work, delta_at, m * p)
        add_product(work, delta_at, p, work, next_at, next_p, step, work, turned_at, p, m, p, next_n, one)
    times_layer_derivative(shape, work, l, m)  # BP2


@inlined
def accumulate_gradient(shape, work, data, rows, l, into, scale, keep, keep_bias, factor):
    """Wˡ ← keep Wˡ + factor (Δˡ)ᵀ Aˡ⁻¹ and bˡ ← keep_bias bˡ + factor 1ᵀ Δˡ, on the parameters in `into`.

    With `into` the network's own parameters, factor -η/m and keep 1 - ηλ/n, this *is* the step of gradient descent
    with weight decay: no gradient array is ever written. With keep 0 and factor 1/m it writes the gradient.
    Compressed rows only add: there the caller applies keep, and W is scale times what `into` holds.
    Δˡ is multiplied by factor on the way, so it must not be needed again.
    """
    layers, m, one, zero = shape.layers, rows.size, into.dtype.type(1), into.dtype.type(0)
    p, at, w_at, b_at = layers[l, PADDED], layers[l, DELTA_AT], layers[l, WEIGHT_AT], layers[l, BIAS_AT]
    combine(into, b_at, keep_bias, into, b_at, zero, p)
    combine(work, at, factor, work, at, zero, m * p)
    for i in range(m):
        combine(into, b_at, one, work, at + i * p, one, p)  # BP3
    if l == 1 and data.indptr.size > 0:
        combine(work, at, one / scale, work, at, zero, m * p)
        for i in range(m):
            first, last = data.indptr[rows[i]], data.indptr[rows[i] + 1]
            scatter_rows(into, w_at, p, work, at + i * p, data.indices, data.values, first, last, p)  # BP4
    else:
        a_at, below, n = layers[l - 1, A_AT], layers[l - 1, PADDED], layers[l - 1, SIZE]
        add_product(into, w_at, p, work, a_at, np.int64(1), below, work, at, p, n, p, m, keep)  # BP4


@inlined
def backward(shape, packed, work, data, rows, into, scale, keep, keep_bias, factor):
    """BP1 to BP4 from the output down. Wˡ is read for Δˡ⁻¹ before its own step may change it."""
    output_error(shape, work, data, rows)
    for l in range(len(shape.layers) - 1, 0, -1):
        if l > 1:
            propagate_error(shape, packed, work, l - 1, rows.size)
        accumulate_gradient(shape, work, data, rows, l, into, scale, keep, keep_bias, factor)


@compiled
def take_step(packed, gradient, steps, eta):
    """θ ← θ - step, by the optimizer's rule; optimizers.py declares the same rules in plain NumPy, with sources."""
    _compile_once()
    optimizer, coefficients, powers = steps.optimizer, steps.coefficients, steps.powers
    first, second = steps.first, steps.second
    number = packed.dtype.type
    a, b, epsilon = number(coefficients[0]), number(coefficients[1]), number(coefficients[2])
    rest_a, rest_b = number(1.0 - coefficients[0]), number(1.0 - coefficients[1])
    if optimizer == MOMENTUM:
        for i in range(packed.size):
            first[i] = a * first[i] + gradient[i]
            packed[i] -= eta * first[i]
    elif optimizer == NESTEROV:
        for i in range(packed.size):
            first[i] = a * first[i] + gradient[i]
            packed[i] -= eta * (gradient[i] + a * first[i])
    elif optimizer == ADAGRAD:
        for i in range(packed.size):
            second[i] += gradient[i] * gradient[i]
            packed[i] -= eta * gradient[i] / (np.sqrt(second[i]) + epsilon)
    elif optimizer == RMSPROP:
        for i in range(packed.size):
            second[i] = b * second[i] + rest_b * (gradient[i] * gradient[i])
            packed[i] -= eta * gradient[i] / (np.sqrt(second[i]) + epsilon)
    else:
        powers[0] *= coefficients[0]
        powers[1] *= coefficients[1]
        rate, correction = number(eta / (1.0 - powers[0])), number(1.0 / np.sqrt(1.0 - powers[1]))
        decoupled = number(1.0 - eta * coefficients[3])
        for i in range(packed.size):
            first[i] = a * first[i] + rest_a * gradient[i]
            second[i] = b * second[i] + rest_b * (gradient[i] * gradient[i])
            packed[i] = decoupled * packed[i] - rate * first[i] / (np.sqrt(second[i]) * correction + epsilon)


PREDICT, DIFFERENTIATE, TRAIN = range(3)


@compiled
def run(task, shape, packed, scale, work, data, order, batch_size, eta, decay, steps, result):
    """The one compiled entry: consecutive mini-batches of `order`, for one of three tasks.

    TRAIN: a step an entry of `eta`; `decay` is λ/n. Plain gradient descent goes straight into the parameters. Over
    compressed rows its decay of W² is kept in the number scale[0] (W² = scale · packed), for a sweep over W² would cost
    more than the rest of the mini-batch; it is written out each time it has halved. The other optimizers get the mean
    gradient, with λ/n W for the weights, and sweep over all parameters.
    DIFFERENTIATE: result, laid out like packed, ← the gradient summed over the first mini-batch.
    PREDICT: result, flat (order.size, n_L), ← Aᴸ.
    """
    one, zero, output = packed.dtype.type(1), packed.dtype.type(0), shape.layers[len(shape.layers) - 1]
    sparse, w_at = data.indptr.size > 0, shape.layers[1, WEIGHT_AT]
    entries = shape.layers[0, SIZE] * shape.layers[1, PADDED]
    direct = task == TRAIN and steps.optimizer == SGD
    for step in range((order.size + batch_size - 1) // batch_size):
        first = step * batch_size
        rows = order[first : min(first + batch_size, order.size)]
        forward(shape, packed, scale[0], work, data, rows)
        following = order[first + rows.size : min(first + rows.size + batch_size, order.size)]
        prefetch_inputs(data, following, shape.layers[0, SIZE])
        if task == PREDICT:
            take_outputs(work, output[A_AT], output[PADDED], rows.size, output[SIZE], result, first)
            continue
        into, keep, keep_bias, factor, into_scale = result, zero, zero, one, one
        if direct:
            into, keep, keep_bias = packed, one - eta[step] * decay, one
            factor = -eta[step] / packed.dtype.type(rows.size)
            if sparse:
                scale[0] *= keep
                if scale[0] < packed.dtype.type(0.5):
                    combine(packed, w_at, scale[0], packed, w_at, zero, entries)
                    scale[0] = one
            into_scale = scale[0]
        else:
            if task == TRAIN:
                into, factor = steps.gradient, one / packed.dtype.type(rows.size)
            if sparse:
                clear(into, w_at, entries)
        backward(shape, packed, work, data, rows, into, into_scale, keep, keep_bias, factor)
        if task == TRAIN and not direct:
            if decay > zero:
                for l in range(1, len(shape.layers)):
                    at, size = shape.layers[l, WEIGHT_AT], shape.layers[l - 1, SIZE] * shape.layers[l, PADDED]
                    combine(steps.gradient, at, one, packed, at, decay, size)
            take_step(packed, steps.gradient, steps, eta[step])


# --------------------------------------------------------------------------------------------------------------
# In and out of the packed layout, and compressed rows.
# --------------------------------------------------------------------------------------------------------------


@compiled
def pack(layers, theta, packed):
    """packed ← theta (layer by layer: W row by row, then b), weights turned input-major; the padding stays zero."""
    at = 0
    for l in range(1, len(layers)):
        n, below, p, w_at, b_at = (
            layers[l, SIZE], layers[l - 1, SIZE], layers[l, PADDED], layers[l, WEIGHT_AT], layers[l, BIAS_AT]
        )  # fmt: skip
        for j in range(n):
            for k in range(below):
                packed[w_at + k * p + j] = theta[at + j * below + k]
        at += n * below
        for j in range(n):
            packed[b_at + j] = theta[at + j]
        at += n


@compiled
def unpack(layers, packed, scale, theta):
    """theta ← packed, with W² = scale times what is packed."""
    at = 0
    for l in range(1, len(layers)):
        n, below, p, w_at, b_at = (
            layers[l, SIZE], layers[l - 1, SIZE], layers[l, PADDED], layers[l, WEIGHT_AT], layers[l, BIAS_AT]
        )  # fmt: skip
        factor = scale[0] if l == 1 else packed.dtype.type(1)
        for j in range(n):
            for k in range(below):
                theta[at + j * below + k] = factor * packed[w_at + k * p + j]
        at += n * below
        for j in range(n):
            theta[at + j] = packed[b_at + j]
        at += n


@compiled
def count_nonzeros(dense, rows, columns, counts):
    """counts[i] ← the number of entries of row i that are not zero (NaN is not zero)."""
    for i in range(rows):
        count = 0
        for k in range(columns):
            count += dense[i * columns + k] != dense.dtype.type(0)
        counts[i] = count


@compiled
def compress_rows(dense, rows, columns, indptr, indices, values):
    """indices, values ← the entries that are not zero, row by row, at the places `indptr` gives.

    The two arrays have `columns` places to spare at the end: every entry is written, and the next one overwrites it
    unless it counts, so that no branch has to guess where a digit's strokes begin.
    """
    for i in range(rows):
        at = indptr[i]
        for k in range(columns):
            value = dense[i * columns + k]
            indices[at] = k
            values[at] = value
            at += value != dense.dtype.type(0)


@compiled
def same_rows(dense, rows, columns, start, indptr, indices, values):
    """True if these dense rows hold the same numbers as the compressed rows from `start` on, in values' dtype.

    What is stored is not zero, so a row is the same if all that is stored is there, and no more entries than that.
    """
    for i in range(rows):
        row = dense[i * columns : (i + 1) * columns]
        first, last = indptr[start + i], indptr[start + i + 1]
        surplus, wrong = first - last, 0
        for k in range(columns):
            surplus += row[k] != row.dtype.type(0)
        for t in range(first, last):
            wrong += values.dtype.type(row[indices[t]]) != values[t]
        if surplus != 0 or wrong != 0:  # apart: an entry that became zero is one less and one wrong
            return False
    return True


@compiled
def shuffle_like_python(rows, state, at):
    """Permute rows as `random.shuffle` would, from a Mersenne Twister's 624 words and its place; returns the new place.

    Fisher and Yates from the last position down; each index j ≤ i from the top bits of one 32-bit word, drawn again
    while it is too large. M. Matsumoto and T. Nishimura, "Mersenne Twister" (1998), MT19937.
    """
    for i in range(rows.size - 1, 0, -1):
        shift = 32
        while (i + 1) >> (32 - shift) > 0:
            shift -= 1
        j = i + 1
        while j > i:
            if at == 624:
                for k in range(624):
                    mixed = (state[k] & np.uint32(0x80000000)) | (state[(k + 1) % 624] & np.uint32(0x7FFFFFFF))
                    odd = np.uint32(0x9908B0DF) if mixed & np.uint32(1) else np.uint32(0)
                    state[k] = state[(k + 397) % 624] ^ (mixed >> np.uint32(1)) ^ odd
                at = 0
            word = state[at]
            at += 1
            word ^= word >> np.uint32(11)
            word ^= (word << np.uint32(7)) & np.uint32(0x9D2C5680)
            word ^= (word << np.uint32(15)) & np.uint32(0xEFC60000)
            word ^= word >> np.uint32(18)
            j = np.int64(word >> np.uint32(shift))
        kept = rows[i]
        rows[i] = rows[j]
        rows[j] = kept
    return at
