"""Every line of compiled code: vector products, activations, and whole runs of mini-batches built from them.

All of it stands in one file because Numba's disk cache watches only the file that defines a cached function:
an entry that called into another file would keep running that file's old code after an edit.

Layout. Inside a run the parameters live in one flat vector, `packed`, and every (rows, units) block is cut into
*panels* of `PANEL` units, two vectors wide: panel after panel, each with its rows one after the other. Element (i, j)
of a block of m rows stands at (j // PANEL)·PANEL·m + i·PANEL + j % PANEL. The rows of W are the neurons below
(*input-major*: row k holds the weights that leave neuron k), the rows of z, a and delta are examples. So every inner
loop below runs along contiguous outputs, a panel of W stays in the cache while all rows pass it, and no two rows are a
power of two apart, where they would drive each other out of the cache. The padding of the weights and of delta is
zero, always; the padding of z and a is arbitrary and never read across.

Threads. All of a run's threads call it alike, with a number of their own, `me`, and each does its share of every
block (`mine`): some of the panels, so that a weight is read and changed by one core, or some of the rows where there
are too few panels. Between layers they wait for each other. Nobody adds up what another has begun: the bits do not
depend on the number of threads.

Halves. Where layer 1 is nearly all of the work and a mini-batch takes microseconds, two threads share that layer alone:
each has half of the inputs, and the rows of W¹ that belong to them, and does everything above for itself, with
parameters and buffers of its own. They meet once in a mini-batch, to add up what the two halves give to Z¹. One thread
alone adds up the same two halves.

Layers count from 0 here (0 is the input). `shape.layers` is a table of integers: row l, columns SIZE, PADDED, ….
"""

import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.config import CPU_FEATURES, CPU_NAME, DISABLE_JIT  # type: ignore[attr-defined]
from numba.extending import intrinsic, overload

from fastbp import jitcache


def _vector_bytes() -> int:
    """The width of a vector register: 64 bytes with AVX-512, else 32 (narrower machines work in pairs)."""
    features = CPU_FEATURES  # as Numba compiles for: the user may have asked for another machine than this
    if features is None:
        features = "" if CPU_NAME else llvmlite.binding.get_host_cpu_features().flatten()
    return 64 if "+avx512f" in features else 32


VECTOR_BYTES = _vector_bytes()
_IS_X86 = llvmlite.binding.get_default_triple().startswith("x86_64")

# nnan and ninf are left out, so that NaN and infinity keep their meaning (a divergence must show).
_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
# For formulas whose order of operations is their accuracy: rounding by a magic constant, compensated sums.
_EXACT = {"nsz", "contract"}
# For sweeps of which each thread takes a part: every operation rounded alike, within a vector and beside one.
_AS_WRITTEN = {"nsz"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that Python calls: cached on disk, free of the GIL, IEEE division, any order of additions."""
    return _compile(function, _FAST, called=True)


def compiled_exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a formula that Python calls as it stands: `compiled` without reassociation."""
    return _compile(function, _EXACT, called=True)


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of what is `compiled`: alone, it is not kept on disk, and has no way in from Python.

    To unpack Python's arguments took more code than most parts themselves; see `from_python`.
    """
    return _compile(function, _FAST, called=False)


def inner_exact(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part as it stands: `inner` without reassociation."""
    return _compile(function, _EXACT, called=False)


def inner_as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part as it stands, without fused multiply-adds."""
    return _compile(function, _AS_WRITTEN, called=False)


def _compile(function: Callable[..., Any], fastmath: set[str], called: bool) -> Callable[..., Any]:
    if DISABLE_JIT:
        return function
    # Without the counting of references (_nrt): kernels own no memory, and counting took a fifth of the time of S1.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath, "_nrt": False}
    options |= {"no_cfunc_wrapper": True, "no_cpython_wrapper": not called}
    dispatcher = njit(**options)(function)
    return jitcache.use(dispatcher) if called else jitcache.keep_nothing(dispatcher)


@functools.cache
def from_python(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A part, or a function of vector code, as a function that Python can call: for tests and benchmarks."""
    if DISABLE_JIT:
        return kernel

    def call(*arguments):
        return kernel(*arguments)

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _FAST, "_nrt": False}
    return njit(**options)(call)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a kernel part of its caller: Numba optimises what a function calls once again for every caller."""
    return njit(inline="always")(function)


def vector_code(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of emitted code: the decorated emit(e, *arguments) writes its body.

    An array arrives there as the pointer to its first number, a whole number as 64 bits, any other number as one of the
    first array's type. LLVM compiles the body once and never inlines it, for each copy would be optimised anew. With
    the JIT off the plain twin, of the same arguments, takes its place.
    """

    def choose(emit: Callable[..., Any]) -> Any:
        return plain if DISABLE_JIT else intrinsic(_typed(emit, inspect.signature(plain)))

    return choose


def _typed(emit: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """What Numba asks of an intrinsic: the types of its arguments, and what writes a call of it."""

    def typed(typingctx: Any, *given: Any) -> tuple[Any, Callable[..., Any]]:
        number = given[0].dtype

        def taken_as(t: Any) -> Any:
            return t if isinstance(t, types.Array) else types.intp if isinstance(t, types.Integer) else number

        kinds = [taken_as(t) for t in given]
        name = ".".join(["fastbp", emit.__name__, *(str(t.dtype) for t in kinds if isinstance(t, types.Array))])

        def call(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            values = [
                context.make_array(t)(context, builder, x).data if isinstance(t, types.Array) else x
                for t, x in zip(kinds, arguments, strict=True)
            ]
            function = builder.module.globals.get(name)
            if function is None:
                function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [x.type for x in values]), name)
                function.linkage = "linkonce_odr"  # whoever calls it brings it along; one of them stays
                function.attributes.add("noinline")
                body = ir.IRBuilder(function.append_basic_block())
                emit(_Emitter(body, number), *function.args)
                body.ret_void()
            builder.call(function, values)
            return context.get_dummy_value()

        return types.void(*kinds), call

    first = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [first, *signature.parameters.values()]
    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typed.__name__ = emit.__name__
    return typed


# The columns of `Shape.layers`: one row a layer, the input first.
(
    SIZE,  # n_l
    PADDED,  # n_l rounded up to whole panels
    Z_AT,  # where Z^l begins in the work space, an (m, padded n_l) block
    A_AT,  # the same for A^l
    PASSED_AT,  # the same for what layer l + 1 reads of it: A^l itself, or what dropout leaves of it
    DELTA_AT,  # the same for Δ^l
    WEIGHT_AT,  # where W^l begins in packed, an (n_{l-1}, padded n_l) block
    BIAS_AT,  # where b^l begins in packed
    TURNED_AT,  # where the work space has room for Wᵀ, a (padded n_l, padded n_{l-1}) block
    ACTIVATION,  # the code of σ_l
) = range(10)


class Shape(NamedTuple):
    """What the kernels know of a network and of its work space: one flat array of numbers for all buffers."""

    layers: np.ndarray  # (L, 10) integers, see above
    changed: np.ndarray  # (·, 3): layer, unit and code of each neuron with an activation of its own
    cost: int
    panel: int  # the units of a panel, PANEL
    middle: int  # the inputs of the first half
    zeros_at: int  # where the work space has a panel of zeros
    spare_at: int  # where it has room for three columns for each changed neuron


class Steps(NamedTuple):
    """How gradients become steps: the optimizer's code, its coefficients, and what it remembers between steps."""

    optimizer: int
    coefficients: np.ndarray  # (4,), float64: two rates of averaging (or the momentum), epsilon, decoupled weight decay
    powers: np.ndarray  # (2,), float64: the rates to the power of the number of steps taken
    first: np.ndarray  # the average of gradients, or the velocity, laid out like packed
    second: np.ndarray  # the average of squared gradients
    gradient: np.ndarray  # of the present mini-batch


class Rules(NamedTuple):
    """The regularisation beside λ/n: see `regularization.Regularization`."""

    l1: float
    max_norm: float  # infinity for none
    keys: np.ndarray  # (steps, L, 2) uint32: dropout's keys for each mini-batch of a run and each layer; empty for none
    threshold: np.uint32  # of the hashes, see `dropout.mask`
    factor: float  # 1/(1 - dropout)


class Data(NamedTuple):
    """Examples as rows, dense (`dense`, flat) or compressed; the other is empty.

    Entries begins[i] … ends[i] - 1 of `indices` and `values` are compressed row i, and from middles[i] on those of the
    second half of the inputs; `middles` is empty if nobody asks for halves. Targets are rows of numbers (`targets`,
    flat) or one label each (`labels`); the other is empty. `weights` say how many times each example counts; empty for
    once.
    """

    dense: np.ndarray
    begins: np.ndarray
    middles: np.ndarray
    ends: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


# --------------------------------------------------------------------------------------------------------------
# Vector instructions. LLVM does not turn register tiles of scalars into vectors (its SLP pass is off in Numba),
# and its loop vectoriser re-checks aliasing at every short row, so the three inner products of this project are
# written with LLVM vector types. Each has its plain twin, used when the JIT is off and as the test's oracle.
# --------------------------------------------------------------------------------------------------------------


# How many examples are asked for before they are needed. The memory answers within half a microsecond, and each takes
# 0.2 µs or more.
AHEAD = 10


class _Emitter:
    """Emits vector code for one element type: loads, stores, broadcasts, fused multiply-adds, counted loops."""

    def __init__(self, builder: Any, dtype: Any) -> None:
        self.builder = builder
        self.size = dtype.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.size
        self.panel = 2 * self.lanes
        element = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.vector = ir.VectorType(element, self.lanes)
        self.muladd_function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.vector, [self.vector] * 3),
            f"llvm.fmuladd.v{self.lanes}f{8 * self.size}",
        )

    def at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [self.integer(index) if isinstance(index, int) else index])

    def integer(self, value: int) -> Any:
        return ir.Constant(ir.IntType(64), value)

    def times(self, x: Any, factor: Any) -> Any:
        return self.builder.mul(x, self.integer(factor) if isinstance(factor, int) else factor)

    def plus(self, x: Any, y: Any) -> Any:
        return self.builder.add(x, self.integer(y) if isinstance(y, int) else y)

    def load_integer(self, pointer: Any) -> Any:
        return self.builder.sext(self.builder.load(pointer), ir.IntType(64))

    def load(self, pointer: Any) -> Any:
        value = self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()))
        value.align = self.size
        return value

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer())).align = self.size

    def store_rows(self, sums: list[list[Any]], pointer: Any) -> None:
        """Write a tile of variables, row after row, a panel apart."""
        for r, row in enumerate(sums):
            for v, total in enumerate(row):
                self.store(self.builder.load(total), self.at(pointer, r * self.panel + v * self.lanes))

    def add_outer(self, sums: list[list[Any]], column: Any, apart: int, row: Any) -> None:
        """To a tile of variables, add the outer product of a column of numbers, so far apart, and a row of vectors."""
        vectors = [self.load(self.at(row, v * self.lanes)) for v in range(len(sums[0]))]
        for r, totals in enumerate(sums):
            factor = self.broadcast(self.builder.load(self.at(column, r * apart)))
            for vector, total in zip(vectors, totals, strict=True):
                self.builder.store(self.muladd(factor, vector, self.builder.load(total)), total)

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, mask)

    def lanes_that_are(self, relation: str, limit: Any) -> Any:
        """A mask of the lanes whose number, 0, 1, …, is < or == limit."""
        i32 = ir.IntType(32)
        numbers = ir.Constant(ir.VectorType(i32, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed(relation, numbers, self.broadcast(self.builder.trunc(limit, i32)))

    def load_some(self, pointer: Any, mask: Any) -> Any:
        """A vector of which only these lanes are read; the others are zero."""
        pointer, zero = self.builder.bitcast(pointer, self.vector.as_pointer()), ir.Constant(self.vector, None)
        align = ir.Constant(ir.IntType(32), self.size)
        kind = ir.FunctionType(self.vector, [pointer.type, align.type, mask.type, self.vector])
        name = f"llvm.masked.load.v{self.lanes}f{8 * self.size}.p0"
        load = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(load, [pointer, align, mask, zero])

    def is_true(self, number: Any) -> Any:
        return self.builder.icmp_signed("!=", number, self.integer(0))

    def muladd(self, x: Any, y: Any, z: Any) -> Any:
        return self.builder.call(self.muladd_function, [x, y, z])

    def prefetch(self, x: Any, size: int, first: Any, last: Any) -> None:
        """Ask for numbers first … last - 1 of x, of so many bytes each."""
        x = self.at(x, first)
        # one request a cache line of 64 bytes; a last line that is not full comes by the hardware's own foresight
        lines = self.builder.sub(last, first)
        self.blocks(lines, (64 // size,), lambda i, width: self.prefetch_line(self.at(x, i)))

    def prefetch_line(self, place: Any) -> None:
        """Ask for what stands there to be brought to the first-level cache; reads nothing, and cannot fail."""
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        ask = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        self.builder.call(ask, [self.builder.bitcast(place, byte), i32(0), i32(3), i32(1)])

    @contextmanager
    def row_ahead(self, rows: Any, i: Any, ahead: int, known: Any) -> Iterator[Any]:
        """Code for the example that stands so many places after place i of `rows`, if that is known."""
        place = self.plus(i, ahead)
        with self.builder.if_then(self.builder.icmp_signed("<", place, known)):
            yield self.builder.load(self.at(rows, place))

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

    def blocks(self, total: Any, widths: Sequence[int], emit: Callable[[Any, int], None], first: Any = None) -> None:
        """Cover first … total by blocks of the given widths, widest first; emit(start, width) writes one block."""
        done = self.integer(0) if first is None else first
        for width in widths:
            count = self.builder.sdiv(self.builder.sub(total, done), self.integer(width))
            with self.loop(self.integer(0), count) as block:
                emit(self.builder.add(done, self.times(block, width)), width)
            done = self.builder.add(done, self.times(count, width))

    def one_or_two(self, vectors: Any, emit: Callable[[int], None]) -> None:
        """Code for a whole panel, and for one of which only the first vector counts."""
        with self.builder.if_else(self.builder.icmp_signed("==", vectors, self.integer(1))) as (one, two):
            with one:
                emit(1)
            with two:
                emit(2)


def _tiles(e: _Emitter, rows: Any, tile: Callable[[Any, int], None]) -> None:
    """Cover `rows` by register tiles of up to ten rows (six where there are 16 registers) by two vectors.

    Two multiply-adds can begin in every cycle, and each takes four: a tile of fewer than four rows waits. So the rows
    are dealt evenly to as few tiles as will do, and there is code for every height.
    """
    b, integer = e.builder, e.integer
    highest = 10 if VECTOR_BYTES == 64 else 6
    count = b.sdiv(e.plus(rows, highest - 1), integer(highest))
    divisor = b.select(b.icmp_signed("==", count, integer(0)), integer(1), count)
    height, higher = b.sdiv(rows, divisor), b.srem(rows, divisor)  # so many tiles are one row higher
    with e.loop(integer(0), count) as t:
        one_more = b.icmp_signed("<", t, higher)
        first = b.add(b.mul(t, height), b.select(one_more, t, higher))
        after = b.append_basic_block("tiled")
        choice = b.switch(b.add(height, b.zext(one_more, ir.IntType(64))), after)
        for h in range(1, highest + 1):
            case = b.append_basic_block(f"tile_{h}")
            choice.add_case(integer(h), case)
            b.position_at_end(case)
            tile(first, h)
            b.branch(after)
        b.position_at_end(after)


def _plain_forward_panel(
    c: np.ndarray, c_at: int, a: np.ndarray, a_at: int, a_jump: int, b: np.ndarray, b_at: int,
    start: np.ndarray, start_at: int, rows: int, vectors: int, steps: int,
) -> None:  # fmt: skip
    n = VECTOR_BYTES // c.itemsize
    panel, used = 2 * n, vectors * n
    for i in range(rows):
        row = start[start_at : start_at + used].copy()
        for t in range(steps):
            row += a[a_at + t // panel * a_jump + i * panel + t % panel] * b[b_at + t * panel : b_at + t * panel + used]
        c[c_at + i * panel : c_at + i * panel + used] = row


@vector_code(_plain_forward_panel)
def forward_panel(e, c, c_at, a, a_at, a_jump, b, b_at, start, start_at, rows, vectors, steps):
    """C ← start + A B for one panel: C (rows, panel), A (rows, steps) in panels a_jump apart, B (steps, panel).

    Of the panel's two vectors only so many are computed. `start` is one row, added to all.
    """
    c, a = e.at(c, c_at), e.at(a, a_at)
    b, start = e.at(b, b_at), e.at(start, start_at)
    jumps = e.builder.sdiv(e.plus(steps, e.panel - 1), e.integer(e.panel))

    def tile(i: Any, height: int, width: int) -> None:
        c_i, a_i = e.at(c, e.times(i, e.panel)), e.at(a, e.times(i, e.panel))
        sums = [[e.variable(e.load(e.at(start, v * e.lanes))) for v in range(width)] for _ in range(height)]
        with e.loop(e.integer(0), jumps) as jump:
            done = e.times(jump, e.panel)
            rest, a_jumped = e.builder.sub(steps, done), e.at(a_i, e.times(jump, a_jump))
            count = e.builder.select(e.builder.icmp_signed("<", rest, e.integer(e.panel)), rest, e.integer(e.panel))
            b_jumped = e.at(b, e.times(done, e.panel))
            with e.loop(e.integer(0), count) as t:
                b_t, a_t = e.at(b_jumped, e.times(t, e.panel)), e.at(a_jumped, t)
                e.add_outer(sums, a_t, e.panel, b_t)
        e.store_rows(sums, c_i)

    e.one_or_two(vectors, lambda width: _tiles(e, rows, lambda i, height: tile(i, height, width)))


def _plain_update_panel(
    c: np.ndarray, c_at: int, a: np.ndarray, a_at: int, a_jump: int, b: np.ndarray, b_at: int,
    keep: Any, rows: int, vectors: int, steps: int,
) -> None:  # fmt: skip
    n = VECTOR_BYTES // c.itemsize
    panel, used = 2 * n, vectors * n
    for k in range(rows):
        row = c[c_at + k * panel : c_at + k * panel + used]
        row[:] = keep * row if keep != 0 else 0
        for t in range(steps):
            row += a[a_at + k // panel * a_jump + k % panel + t * panel] * b[b_at + t * panel : b_at + t * panel + used]


@vector_code(_plain_update_panel)
def update_panel(e, c, c_at, a, a_at, a_jump, b, b_at, keep, rows, vectors, steps):
    """C ← keep C + Aᵀ B for one panel: C (rows, panel), A (steps, rows) in panels a_jump apart, B (steps, panel)."""
    c, a = e.at(c, c_at), e.at(a, a_at)
    b = e.at(b, b_at)
    zero = ir.Constant(e.vector, None)
    forget, keep = e.builder.fcmp_ordered("==", keep, ir.Constant(keep.type, 0.0)), e.broadcast(keep)
    jumps = e.builder.sdiv(e.plus(rows, e.panel - 1), e.integer(e.panel))

    def tile(c_k: Any, a_k: Any, height: int, width: int) -> None:
        sums = []
        for r in range(height):
            kept = [e.builder.fmul(keep, e.load(e.at(c_k, r * e.panel + v * e.lanes))) for v in range(width)]
            # not 0 times what stands there, which may be NaN
            sums.append([e.variable(e.builder.select(forget, zero, vector)) for vector in kept])
        # a tile of many steps has time to ask for the next one's part of C, which may be in no cache
        with e.builder.if_then(e.builder.icmp_signed(">=", steps, e.integer(64))):
            for line in range(2 * height if width == 2 else 0):
                e.prefetch_line(e.at(c_k, height * e.panel + line * e.lanes))
        with e.loop(e.integer(0), steps) as t:
            at = e.times(t, e.panel)
            e.add_outer(sums, e.at(a_k, at), 1, e.at(b, at))
        e.store_rows(sums, c_k)

    def panels(width: int) -> None:
        with e.loop(e.integer(0), jumps) as jump:
            done = e.times(jump, e.panel)
            rest, a_jumped = e.builder.sub(rows, done), e.at(a, e.times(jump, a_jump))
            count = e.builder.select(e.builder.icmp_signed("<", rest, e.integer(e.panel)), rest, e.integer(e.panel))
            c_jumped = e.at(c, e.times(done, e.panel))

            def one(k: Any, height: int) -> None:
                tile(e.at(c_jumped, e.times(k, e.panel)), e.at(a_jumped, k), height, width)

            _tiles(e, count, one)

    e.one_or_two(vectors, panels)


def _plain_gather_panel(
    z: np.ndarray, z_at: int, w: np.ndarray, w_at: int, begins: np.ndarray, ends: np.ndarray, indices: np.ndarray,
    values: np.ndarray, rows: np.ndarray, first: int, last: int, vectors: int, scale: Any, bias: np.ndarray,
    bias_at: int, known: int,
) -> None:  # fmt: skip
    n = VECTOR_BYTES // z.itemsize
    panel, used = 2 * n, vectors * n
    for i in range(first, last):
        total = np.zeros(used, z.dtype)
        for t in range(begins[rows[i]], ends[rows[i]]):
            at = w_at + int(indices[t]) * panel
            total += values[t] * w[at : at + used]
        z[z_at + i * panel : z_at + i * panel + used] = scale * total + bias[bias_at : bias_at + used]


@vector_code(_plain_gather_panel)
def gather_panel(
    e, z, z_at, w, w_at, begins, ends, indices, values, rows, first, last, vectors, scale, bias, bias_at, known
):
    """Z ← scale X W + b for one panel and the compressed rows first … last - 1 of the mini-batch.

    Examples lie anywhere in memory: with each row one that comes AHEAD rows later is asked for, and where one twice as
    far begins, as long as there are that many known; all of a mini-batch at once would wait for each other.
    """
    z, w = e.at(z, z_at), e.at(w, w_at)
    compressed = _EmitterOfRows(e, begins, ends, indices, values, rows)
    bias, scale = e.at(bias, bias_at), e.broadcast(scale)

    def panel(width: int) -> None:
        with e.loop(first, last) as i:
            # four sums for each vector: a single one would wait for its last addition, four cycles, every time
            sums = [[e.variable(ir.Constant(e.vector, None)) for _ in range(width)] for _ in range(4)]

            def entry(t: Any, which: int) -> None:
                k, x_k = compressed.entry(t)
                w_k = e.at(w, e.times(k, e.panel))
                for v in range(width):
                    total = sums[which][v]
                    e.builder.store(e.muladd(x_k, e.load(e.at(w_k, v * e.lanes)), e.builder.load(total)), total)

            compressed.for_row(i, entry)
            for v in range(width):
                a, b, c, d = (e.builder.load(four[v]) for four in sums)
                total = e.builder.fadd(e.builder.fadd(a, b), e.builder.fadd(c, d))
                at = e.plus(e.times(i, e.panel), v * e.lanes)
                e.store(e.muladd(scale, total, e.load(e.at(bias, v * e.lanes))), e.at(z, at))
            with e.row_ahead(rows, i, AHEAD, known) as row:
                compressed.prefetch(row)
            with e.row_ahead(rows, i, 2 * AHEAD, known) as row:
                e.prefetch_line(e.at(begins, row))
                e.prefetch_line(e.at(ends, row))

    e.one_or_two(vectors, panel)


def _plain_scatter_panel(
    w: np.ndarray, w_at: int, d: np.ndarray, d_at: int, begins: np.ndarray, ends: np.ndarray, indices: np.ndarray,
    values: np.ndarray, rows: np.ndarray, m: int, vectors: int, factor: Any, known: int,
) -> None:  # fmt: skip
    n = VECTOR_BYTES // w.itemsize
    panel, used = 2 * n, vectors * n
    for i in range(m):
        row = factor * d[d_at + i * panel : d_at + i * panel + used]
        for t in range(begins[rows[i]], ends[rows[i]]):
            at = w_at + int(indices[t]) * panel
            w[at : at + used] += values[t] * row


@vector_code(_plain_scatter_panel)
def scatter_panel(e, w, w_at, d, d_at, begins, ends, indices, values, rows, m, vectors, factor, known):
    """W ← W + factor Xᵀ Δ for one panel and the m compressed rows X of the mini-batch; see `gather_panel`."""
    w, d = e.at(w, w_at), e.at(d, d_at)
    compressed = _EmitterOfRows(e, begins, ends, indices, values, rows)
    factor = e.broadcast(factor)

    def panel(width: int) -> None:
        with e.loop(e.integer(0), m) as i:
            d_i = e.at(d, e.times(i, e.panel))
            row = [e.builder.fmul(factor, e.load(e.at(d_i, v * e.lanes))) for v in range(width)]

            def entry(t: Any, which: int) -> None:
                k, x_k = compressed.entry(t)
                w_k = e.at(w, e.times(k, e.panel))
                for v in range(width):
                    w_kv = e.at(w_k, v * e.lanes)
                    e.store(e.muladd(x_k, row[v], e.load(w_kv)), w_kv)

            compressed.for_row(i, entry)
            with e.row_ahead(rows, i, AHEAD, known) as later:
                compressed.prefetch(later)

    e.one_or_two(vectors, panel)


def _plain_turn_panel(
    turned: np.ndarray, turned_at: int, w: np.ndarray, w_at: int, w_jump: int, zeros: np.ndarray, zeros_at: int,
    rows: int, columns: int,
) -> None:  # fmt: skip
    panel = 2 * VECTOR_BYTES // w.itemsize
    for j in range(columns):
        at = w_at + j // panel * w_jump + j % panel
        row = turned[turned_at + j * panel : turned_at + (j + 1) * panel]
        row[:rows], row[rows:] = w[at : at + rows * panel : panel], 0


@vector_code(_plain_turn_panel)
def turn_panel(e, turned, turned_at, w, w_at, w_jump, zeros, zeros_at, rows, columns):
    """Turned (columns, panel) ← Wᵀ for one panel of the neurons below: W (rows, columns) in panels w_jump apart.

    Where that panel holds fewer neurons than it has places, the rest is read from `zeros`.
    """
    turned, w = e.at(turned, turned_at), e.at(w, w_at)
    zeros = e.at(zeros, zeros_at)
    strips = e.builder.sdiv(e.plus(columns, e.lanes - 1), e.integer(e.lanes))

    def pick(x: Any, y: Any, lanes: list[int]) -> Any:
        return e.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), e.lanes), lanes))

    with e.loop(e.integer(0), strips) as strip:
        j = e.times(strip, e.lanes)
        w_j = e.at(
            e.at(w, e.times(e.builder.sdiv(j, e.integer(e.panel)), w_jump)), e.builder.srem(j, e.integer(e.panel))
        )
        for first in (0, e.lanes):
            block = []
            for k in range(first, first + e.lanes):
                there = e.builder.icmp_signed("<", e.integer(k), rows)
                block.append(e.load(e.builder.select(there, e.at(w_j, k * e.panel), zeros)))
            # swap the off-diagonal halves of blocks of 2 x 2, then 4 x 4, … numbers
            for half in (2**power for power in range(e.lanes.bit_length() - 1)):
                for k in (k for k in range(e.lanes) if not k & half):
                    x, y, lanes = block[k], block[k + half], range(e.lanes)
                    block[k] = pick(x, y, [t if not t & half else e.lanes + t - half for t in lanes])
                    block[k + half] = pick(x, y, [t + half if not t & half else e.lanes + t for t in lanes])
            for k, row in enumerate(block):
                e.store(row, e.at(turned, e.plus(e.times(e.plus(j, k), e.panel), first)))


def _plain_sum_rows(y: np.ndarray, y_at: int, keep: Any, d: np.ndarray, d_at: int, rows: int, vectors: int) -> None:
    n = VECTOR_BYTES // y.itemsize
    total = y[y_at : y_at + vectors * n]
    total[:] = keep * total if keep != 0 else 0
    for i in range(rows):
        total += d[d_at + 2 * i * n : d_at + (2 * i + vectors) * n]


@vector_code(_plain_sum_rows)
def sum_rows(e, y, y_at, keep, d, d_at, rows, vectors):
    """y ← keep y + the sum of so many rows of one panel."""
    y, d = e.at(y, y_at), e.at(d, d_at)
    zero = ir.Constant(e.vector, None)
    forget, keep = e.builder.fcmp_ordered("==", keep, ir.Constant(keep.type, 0.0)), e.broadcast(keep)
    with e.loop(e.integer(0), vectors) as v:
        y_v, d_v = e.at(y, e.times(v, e.lanes)), e.at(d, e.times(v, e.lanes))
        total = e.variable(e.builder.select(forget, zero, e.builder.fmul(keep, e.load(y_v))))
        with e.loop(e.integer(0), rows) as i:
            e.builder.store(e.builder.fadd(e.builder.load(total), e.load(e.at(d_v, e.times(i, e.panel)))), total)
        e.store(e.builder.load(total), y_v)


def _plain_add_halves(
    z: np.ndarray, z_at: int, halves: np.ndarray, x_at: int, y_at: int, bias: np.ndarray, bias_at: int, rows: int
) -> None:
    panel = 2 * VECTOR_BYTES // z.itemsize
    for i in range(0, rows * panel, panel):
        x, y = halves[x_at + i : x_at + i + panel], halves[y_at + i : y_at + i + panel]
        z[z_at + i : z_at + i + panel] = x + y + bias[bias_at : bias_at + panel]


@vector_code(_plain_add_halves)
def add_halves(e, z, z_at, halves, x_at, y_at, bias, bias_at, rows):
    """Z ← X + Y + b for so many rows of one panel; X and Y stand in `halves`."""
    z, x = e.at(z, z_at), e.at(halves, x_at)
    y, bias = e.at(halves, y_at), e.at(bias, bias_at)
    row = [e.load(e.at(bias, v * e.lanes)) for v in range(2)]
    with e.loop(e.integer(0), rows) as i:
        for v, b in enumerate(row):
            at = e.plus(e.times(i, e.panel), v * e.lanes)
            both = e.builder.fadd(e.load(e.at(x, at)), e.load(e.at(y, at)))
            e.store(e.builder.fadd(both, b), e.at(z, at))


def _plain_dot_rows(
    c: np.ndarray, c_at: int, d: np.ndarray, d_at: int, d_jump: int, w: np.ndarray, w_at: int, w_jump: int,
    rows: int, panels: int,
) -> None:  # fmt: skip
    panel = 2 * VECTOR_BYTES // c.itemsize
    for k in range(rows):
        total = c.dtype.type(0)
        for g in range(panels):
            d_g, w_g = d_at + g * d_jump, w_at + g * w_jump + k * panel
            total += d[d_g : d_g + panel] @ w[w_g : w_g + panel]
        c[c_at + k] = total


@vector_code(_plain_dot_rows)
def dot_rows(e, c, c_at, d, d_at, d_jump, w, w_at, w_jump, rows, panels):
    """c ← W d: the rows of W, in panels w_jump apart, by one row d in panels d_jump apart, padding included."""
    c, d = e.at(c, c_at), e.at(d, d_at)
    w = e.at(w, w_at)
    add_up = cgutils.get_or_insert_function(
        e.builder.module,
        ir.FunctionType(e.vector.element, [e.vector.element, e.vector]),
        f"llvm.vector.reduce.fadd.v{e.lanes}f{8 * e.size}",
    )
    with e.loop(e.integer(0), rows) as k:
        sums = [e.variable(ir.Constant(e.vector, None)) for _ in range(2)]
        with e.loop(e.integer(0), panels) as g:
            d_g, w_g = e.at(d, e.times(g, d_jump)), e.at(w, e.plus(e.times(g, w_jump), e.times(k, e.panel)))
            for v, total in enumerate(sums):
                x, y = e.load(e.at(d_g, v * e.lanes)), e.load(e.at(w_g, v * e.lanes))
                e.builder.store(e.muladd(x, y, e.builder.load(total)), total)
        total = e.builder.fadd(e.builder.load(sums[0]), e.builder.load(sums[1]))
        in_any_order = e.builder.call(add_up, [ir.Constant(e.vector.element, 0.0), total], fastmath=("reassoc",))
        e.builder.store(in_any_order, e.at(c, k))


def _plain_spread_rows(
    a: np.ndarray, a_at: int, a_jump: int, x: np.ndarray, x_at: int, x_jump: int, n: int, rows: np.ndarray,
    first: int, last: int, known: int,
) -> None:  # fmt: skip
    panel = 2 * VECTOR_BYTES // a.itemsize
    for i in range(first, last):
        row = x[x_at + rows[i] * x_jump : x_at + rows[i] * x_jump + n]
        for at in range(0, n, panel):
            width, to = min(panel, n - at), a_at + at // panel * a_jump + i * panel
            a[to : to + width] = row[at : at + width]


@vector_code(_plain_spread_rows)
def spread_rows(e, a, a_at, a_jump, x, x_at, x_jump, n, rows, first, last, known):
    """A ← n columns of rows first … last - 1 of a mini-batch out of X, rows x_jump apart, into panels a_jump apart."""
    a, x = e.at(a, a_at), e.at(x, x_at)

    def move(source: Any, target: Any, width: int) -> None:
        if width == 1:
            e.builder.store(e.builder.load(source), target)
        for v in range(width // e.lanes):
            e.store(e.load(e.at(source, v * e.lanes)), e.at(target, v * e.lanes))

    with e.loop(first, last) as i:
        x_i = e.at(x, e.times(e.builder.load(e.at(rows, i)), x_jump))
        a_i = e.at(a, e.times(i, e.panel))
        whole = e.builder.sdiv(n, e.integer(e.panel))
        with e.loop(e.integer(0), whole) as g:
            move(e.at(x_i, e.times(g, e.panel)), e.at(a_i, e.times(g, a_jump)), e.panel)
        x_rest, a_rest = e.at(x_i, e.times(whole, e.panel)), e.at(a_i, e.times(whole, a_jump))
        rest = e.builder.srem(n, e.integer(e.panel))
        e.blocks(rest, (e.lanes, 1), lambda at, width: move(e.at(x_rest, at), e.at(a_rest, at), width))
        with e.row_ahead(rows, i, AHEAD, known) as row:
            e.prefetch(e.at(x, e.times(row, x_jump)), e.size, e.integer(0), n)


class _EmitterOfRows:
    """Emits code that visits the entries of compressed rows."""

    def __init__(self, e: _Emitter, begins: Any, ends: Any, indices: Any, values: Any, rows: Any) -> None:
        self.e, self.begins, self.ends = e, begins, ends
        self.indices, self.values, self.rows = indices, values, rows

    def entry(self, t: Any) -> tuple[Any, Any]:
        """(the input's number, its value in every lane) of entry t."""
        value = self.e.builder.load(self.e.at(self.values, t))
        return self.e.load_integer(self.e.at(self.indices, t)), self.e.broadcast(value)

    def prefetch(self, row: Any) -> None:
        """Ask for the entries of an example."""
        first, last = self.e.builder.load(self.e.at(self.begins, row)), self.e.builder.load(self.e.at(self.ends, row))
        self.e.prefetch(self.indices, 4, first, last)
        self.e.prefetch(self.values, self.e.size, first, last)

    def for_row(self, i: Any, emit: Callable[[Any, int], None]) -> None:
        """emit(t, which) for the entries t of the row that `rows` has at i, in their order; which = 0 … 3 in turn."""
        e, builder = self.e, self.e.builder
        row = builder.load(e.at(self.rows, i))
        first, last = builder.load(e.at(self.begins, row)), builder.load(e.at(self.ends, row))
        fours = builder.sdiv(builder.sub(last, first), e.integer(4))
        with e.loop(e.integer(0), fours) as four:
            for which in range(4):
                emit(e.plus(builder.add(first, e.times(four, 4)), which), which)
        with e.loop(builder.add(first, e.times(fours, 4)), last) as t:
            emit(t, 0)


def _plain_combine(y: np.ndarray, y_at: int, keep: Any, x: np.ndarray, x_at: int, factor: Any, n: int) -> None:
    y[y_at : y_at + n] = keep * y[y_at : y_at + n] + factor * x[x_at : x_at + n]


@vector_code(_plain_combine)
def combine(e, y, y_at, keep, x, x_at, factor, n):
    """y ← keep y + factor x over n elements, n a whole number of vectors."""
    y, x = e.at(y, y_at), e.at(x, x_at)
    keep, factor = e.broadcast(keep), e.broadcast(factor)

    def block(i: Any, width: int) -> None:
        e.store(e.muladd(factor, e.load(e.at(x, i)), e.builder.fmul(keep, e.load(e.at(y, i)))), e.at(y, i))

    e.blocks(n, (e.lanes,), block)


def _plain_clear(y: np.ndarray, y_at: int, n: int) -> None:
    y[y_at : y_at + n] = 0


@vector_code(_plain_clear)
def clear(e, y, y_at, n):
    """y ← 0 over n elements, n a whole number of vectors."""
    y = e.at(y, y_at)
    e.blocks(n, (e.lanes,), lambda i, width: e.store(ir.Constant(e.vector, None), e.at(y, i)))


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


def _inside(emit: Callable[..., Any]) -> Callable[..., Any]:
    """Make an intrinsic that changes how the function it stands in is compiled or run; nothing with the JIT off."""
    return (lambda *arguments: None) if DISABLE_JIT else intrinsic(emit)


@_inside
def flush_subnormals(typingctx):
    """Have what is smaller than every normal number count as 0; returns how things were, for `as_before`.

    Each operation on one of these takes x86 a hundred times as long as another; Adam's averages of squares of small
    gradients fill up with them. Other processors are left as they are.
    """

    def codegen(context, builder, signature, args):
        if not _IS_X86:
            return ir.Constant(ir.IntType(32), 0)
        place = cgutils.alloca_once(builder, ir.IntType(32))
        _control_register(builder, "stmxcsr", place)
        before = builder.load(place)
        results_and_operands = ir.Constant(ir.IntType(32), 0x8040)  # the bits that flush the one and the other
        builder.store(builder.or_(before, results_and_operands), place)
        _control_register(builder, "ldmxcsr", place)
        return before

    return types.int32(), codegen


@_inside
def as_before(typingctx, before):
    """Undo `flush_subnormals`: what called us counts on them."""

    def codegen(context, builder, signature, args):
        if _IS_X86:
            place = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(args[0], place)
            _control_register(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), codegen


def _control_register(builder: Any, instruction: str, place: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{instruction}")
    builder.call(function, [builder.bitcast(place, byte)])


@_inside
def _compile_once(typingctx):
    """Forbid LLVM to inline the function that calls this: each inlined copy would be optimised anew."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@_inside
def _part_of_caller(typingctx):
    """Have LLVM inline the function that calls this, however long it is: only then do loops over it vectorise."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("alwaysinline")
        return context.get_dummy_value()

    return types.void(), codegen


def _plain_wait(sync: np.ndarray, me: int, threads: int) -> None:
    if threads > 1:
        raise RuntimeError("with the JIT off there is one thread")


# Looks at the others' progress before a waiting thread lets the system give its core to another one: 20 to 50 µs.
_PATIENCE = 1024


@vector_code(_plain_wait)
def wait(e, sync, me, threads):
    """Wait until all threads of a run are here, by looking again and again.

    `sync`, (8 + 8·threads,) integers, each that counts in a cache line of its own: whether somebody never will come
    (then nobody waits), and how often each thread was here.
    """
    b = e.builder
    with b.if_then(b.icmp_signed(">", threads, e.integer(1))):
        visits = e.at(sync, 8)
        my_visits = e.at(visits, e.times(me, 8))
        this_time = e.plus(b.load(my_visits), 1)
        b.store_atomic(this_time, my_visits, "release", 8)
        looks = e.variable(e.integer(0))
        with e.loop(e.integer(0), threads) as other:
            look, again, give_way, after = (
                b.append_basic_block(f"wait_{part}") for part in ("look", "again", "give_way", "after")
            )
            its_visits = e.at(visits, e.times(other, 8))
            b.branch(look)
            b.position_at_end(look)
            missing = b.icmp_signed("<", b.load_atomic(its_visits, "acquire", 8), this_time)
            whole = b.icmp_signed("==", b.load_atomic(sync, "monotonic", 8), e.integer(0))
            b.cbranch(b.and_(missing, whole), again, after)
            b.position_at_end(again)
            b.store(e.plus(b.load(looks), 1), looks)
            _breathe(b)
            tired = b.srem(b.load(looks), e.integer(_PATIENCE))
            b.cbranch(b.icmp_signed("==", tired, e.integer(0)), give_way, look)
            b.position_at_end(give_way)
            if sys.platform != "win32":
                kind = ir.FunctionType(ir.IntType(32), [])
                b.call(cgutils.get_or_insert_function(b.module, kind, "sched_yield"), [])
            b.branch(look)
            b.position_at_end(after)


def _breathe(builder: Any) -> None:
    """The processor's own instruction for a loop that waits, where it has one."""
    if _IS_X86:
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])


# What a thread has of the inputs. NumPy numbers, as some below: for literals Numba compiles what is called once more.
FIRST, SECOND, WHOLE = map(np.int64, range(3))


@inlined
def inputs_of(shape, half):
    """(first, last): this half of the inputs are those from first to last - 1."""
    n = shape.layers[0, SIZE]
    return shape.middle if half == SECOND else 0, shape.middle if half == FIRST else n


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


@inner_exact
def exp_of_negative(x):
    """eˣ for x ≤ 0."""
    s, p = _exp_parts(x)
    return s + s * p


@inner_exact
def quotient(x, x_lost, c, t, t_lost):
    """(q, q_lost) with q + q_lost = (x + x_lost)/(c + t + t_lost): what rounding took from x, t and q, put back.

    For t of either sign with |t| ≤ 1 ≤ c the first difference below is exact, and with fused multiply-adds the next.
    """
    _part_of_caller()
    inverse = type(x)(1) / (c + t)
    q = x * inverse
    return q, ((x - c * q) - q * t + (x_lost - q * t_lost)) * inverse


@inner_exact
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


@inner_exact
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


@inner_exact
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


@inner_exact
def normal_cdf(z):
    """Φ(z), by the C library's erfc: right in both tails, but not vectorised."""
    return type(z)(0.5) * type(z)(math.erfc(-z * type(z)(0.7071067811865476)))


@inner_exact
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
        for i in range(z.size):  # a product: a choice between delta and 0 becomes a branch, mostly guessed wrong
            delta[i] *= z.dtype.type(0) if z[i] <= z.dtype.type(0) else z.dtype.type(1)
    elif code == LEAKY_RELU:
        for i in range(z.size):
            delta[i] *= z.dtype.type(1) if z[i] > z.dtype.type(0) else z.dtype.type(0.01)
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
def softmax_rows(work, z_at, a_at, m, first, last, n, panel):
    """a ← e^(z - max z)/Σ in the rows first … last - 1 of (m, n) blocks in panels of this many units."""
    _compile_once()
    for i in range(first, last):
        largest = work[z_at + i * panel]
        for j in range(0, n, panel):
            at = z_at + j * m + i * panel
            for z in work[at : at + min(panel, n - j)]:
                largest = max(largest, z)
        total = work.dtype.type(0)
        for j in range(0, n, panel):
            at, width = j * m + i * panel, min(panel, n - j)
            z, a = work[z_at + at : z_at + at + width], work[a_at + at : a_at + at + width]
            part = work.dtype.type(0)  # a panel at a time: one sum over 100 outputs was up to 5.8 units off
            for k in range(width):
                a[k] = exp_of_negative(z[k] - largest)
                part += a[k]
            total += part
        for j in range(0, n, panel):
            at = a_at + j * m + i * panel
            a = work[at : at + min(panel, n - j)]
            for k in range(a.size):
                a[k] /= total


# --------------------------------------------------------------------------------------------------------------
# The mini-batch: feedforward, BP1 to BP4, update. What runs along rows is a small kernel of its own; what calls
# them is inlined into the one entry at the end. So each piece is compiled once, and LLVM sees no more of it.
# `rows` are the examples of the mini-batch, of which a thread takes first … last - 1; `known` of them and of those that
# follow in the order may be asked for early, and `again` once more by every further panel.
# --------------------------------------------------------------------------------------------------------------


def _plain_move_column(work: np.ndarray, source: int, source_row: int, target: int, target_row: int, m: int) -> None:
    for i in range(m):
        work[target + i * target_row] = work[source + i * source_row]


@vector_code(_plain_move_column)
def move_column(e, work, source, source_row, target, target_row, m):
    """One unit's entries of m rows, to or from a column of their own."""
    with e.loop(e.integer(0), m) as i:
        x = e.builder.load(e.at(work, e.plus(source, e.times(i, source_row))))
        e.builder.store(x, e.at(work, e.plus(target, e.times(i, target_row))))


def _plain_subtract_targets(
    work: np.ndarray, delta_at: int, a_at: int, targets: np.ndarray, labels: np.ndarray, weights: np.ndarray,
    rows: np.ndarray, first: int, last: int, n: int, j: int, factor: Any, labelled: bool, weighted: bool,
    known: int,
) -> None:  # fmt: skip
    panel = 2 * VECTOR_BYTES // work.itemsize
    width = min(panel, n - j)
    for i in range(first, last):
        row, delta = rows[i], work[delta_at + i * panel : delta_at + (i + 1) * panel]
        y = labels[row] - j == np.arange(width) if labelled else targets[row * n + j : row * n + j + width]
        counted = factor * weights[row] if weighted else factor
        delta[:width], delta[width:] = counted * (work[a_at + i * panel :][:width] - y), 0


@vector_code(_plain_subtract_targets)
def subtract_targets(
    e, work, delta_at, a_at, targets, labels, weights, rows, first, last, n, j, factor, labelled, weighted, known
):
    """Δ ← factor (A - Y) for one panel, from unit j of n on, and rows first … last - 1; zero in the padding.

    Y stands in rows of numbers or in one label each. If weighted, factor counts times each example's weight. Those that
    come later are asked for, see `gather_panel`.
    """
    b, zero = e.builder, ir.Constant(e.vector, None)
    ones, delta, a = ir.Constant(e.vector, [1.0] * e.lanes), e.at(work, delta_at), e.at(work, a_at)
    with e.loop(first, last) as i:
        row, counted = b.load(e.at(rows, i)), e.variable(factor)
        with b.if_then(e.is_true(weighted)):
            b.store(b.fmul(factor, b.load(e.at(weights, row))), counted)
        counted = e.broadcast(b.load(counted))
        for v in range(2):
            unit, y = e.plus(j, v * e.lanes), e.variable(zero)
            used, at = e.lanes_that_are("<", b.sub(n, unit)), e.plus(e.times(i, e.panel), v * e.lanes)
            with b.if_else(e.is_true(labelled)) as (by_label, by_numbers):
                with by_label:
                    b.store(b.select(e.lanes_that_are("==", b.sub(b.load(e.at(labels, row)), unit)), ones, zero), y)
                with by_numbers:
                    b.store(e.load_some(e.at(targets, e.plus(e.times(row, n), unit)), used), y)
            difference = b.fmul(counted, b.fsub(e.load(e.at(a, at)), b.load(y)))
            e.store(b.select(used, difference, zero), e.at(delta, at))
        with e.row_ahead(rows, i, AHEAD, known) as row:
            for x in (e.at(labels, row), e.at(weights, row), e.at(targets, e.plus(e.times(row, n), j))):
                e.prefetch_line(x)  # one that is empty is asked for somewhere else: no harm


# The multipliers of `dropout.mask`, once more: compiled code is stamped by this file alone.
_HASH_1, _HASH_2 = 0x7FEB352D, 0x846CA68B


def _unit_hash(place: Any, key_1: Any, key_2: Any) -> Any:
    h = (int(place) + int(key_1)) % 2**32
    h = (h ^ h >> 16) * _HASH_1 % 2**32 ^ int(key_2)
    h = (h ^ h >> 15) * _HASH_2 % 2**32
    return h ^ h >> 16


@overload(_unit_hash, jit_options={"fastmath": _FAST, "error_model": "numpy"})
def _compiled_unit_hash(place, key_1, key_2):
    """32 bits that decide whether a unit is dropped: the hash of `dropout.mask`, whose comments name its source."""
    first, second = np.uint32(_HASH_1), np.uint32(_HASH_2)

    def unit_hash(place, key_1, key_2):
        h = np.uint32(np.uint32(place) + key_1)
        h = np.uint32(np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * first) ^ key_2)
        h = np.uint32(np.uint32(h ^ (h >> np.uint32(15))) * second)
        return np.uint32(h ^ (h >> np.uint32(16)))

    return unit_hash


@inner
def drop_units(shape, work, at, l, m, part, rules, step):
    """Multiply my part of layer l's block at `at` by dropout's mask for mini-batch `step` of those that have keys.

    `dropout.mask` is its plain twin.

    Rows of a panel are one run of numbers, which a single loop goes through: over rows of a panel each, short as they
    are, LLVM would not vectorise.
    """
    _compile_once()
    key_1, key_2, factor = rules.keys[step, l, 0], rules.keys[step, l, 1], work.dtype.type(rules.factor)
    panel, n, width, threshold = shape.panel, shape.layers[l, SIZE], 0, rules.threshold
    while 1 << width < panel:
        width += 1
    for j in range(part.first_panel * panel, part.last_panel * panel, panel):
        block = work[at + j * m + part.first_row * panel : at + j * m + part.last_row * panel]
        for i in range(block.size):
            place = (part.first_row + (i >> width)) * n + j + (i & (panel - 1))
            block[i] *= block.dtype.type(0) if _unit_hash(place, key_1, key_2) < threshold else factor


@inner
def pass_on(shape, work, l, m, part):
    """Copy my part of Aˡ to where layer l + 1 reads it."""
    _compile_once()
    panel, a_at, passed_at = shape.panel, shape.layers[l, A_AT], shape.layers[l, PASSED_AT]
    size = (part.last_row - part.first_row) * panel
    for j in range(part.first_panel * panel, part.last_panel * panel, panel):
        at = j * m + part.first_row * panel
        move_column(work, a_at + at, 1, passed_at + at, 1, size)


@inner
def limit_norms(shape, packed, work, l, first, last, m, scale, max_norm):
    """Scale down to max_norm what is greater of the norms of incoming weights, for the panels first … last - 1.

    W is `scale` times what is packed. Δˡ, which nobody needs after the step, holds the sums meanwhile.
    """
    _compile_once()
    layers, panel, below = shape.layers, shape.panel, shape.layers[l - 1, SIZE]
    for g in range(first, last):
        w_at, sums_at = layers[l, WEIGHT_AT] + g * panel * below, layers[l, DELTA_AT] + g * panel * m
        clear(work, sums_at, panel)
        sums = work[sums_at : sums_at + panel]
        for k in range(below):
            row = packed[w_at + k * panel : w_at + (k + 1) * panel]
            for j in range(panel):
                sums[j] += row[j] * row[j]
        for j in range(panel):
            norm = scale * np.sqrt(sums[j])
            sums[j] = max_norm / norm if norm > max_norm else work.dtype.type(1)
        for k in range(below):
            row = packed[w_at + k * panel : w_at + (k + 1) * panel]
            for j in range(panel):
                row[j] *= sums[j]
        clear(work, sums_at, panel)


@inner
def transpose(shape, packed, work, l, g, place):
    """Wᵀ ← W of layer l, for panel g of the neurons below, padded with zeros, in this place of the room for panels."""
    _compile_once()
    layers, panel = shape.layers, shape.panel
    n, below, k = layers[l, SIZE], layers[l - 1, SIZE], g * panel
    turned_at, w_at = layers[l, TURNED_AT] + place * panel * layers[l, PADDED], layers[l, WEIGHT_AT] + k * panel
    turn_panel(work, turned_at, packed, w_at, panel * below, work, shape.zeros_at, min(panel, below - k), n)


@inner
def take_outputs(shape, work, m, part, result, at):
    """result ← Aᴸ, my part of it, without its padding; the mini-batch's row 0 goes to row `at`."""
    _compile_once()
    output, panel = shape.layers[len(shape.layers) - 1], shape.panel
    n = output[SIZE]
    for i in range(part.first_row, part.last_row):
        for j in range(part.first_panel * panel, min(part.last_panel * panel, n)):
            result[(at + i) * n + j] = work[output[A_AT] + j // panel * panel * m + i * panel + j % panel]


class Part(NamedTuple):
    """A thread's share of an (m, n) block: the panels from first_panel on and, of these, the rows from first_row on."""

    first_panel: int
    last_panel: int
    first_row: int
    last_row: int


@inlined
def share(total, me, threads):
    """(first, last): of so many equal pieces of work, those from first to last - 1 are mine."""
    if threads == 1:  # divisions are slow
        return 0, total
    return total * me // threads, total * (me + 1) // threads


@inlined
def mine(shape, l, m, me, threads):
    """My share of the blocks of layer l: whole panels if they can be dealt evenly, else whole rows."""
    return deal(shape.layers[l, PADDED] // shape.panel, shape.layers[l, ACTIVATION] == SOFTMAX, m, me, threads)


@inner
def deal(panels, by_row, m, me, threads):
    """See `mine`; softmax needs the whole of a row. Within its caller: as calls of their own these took half of S3."""
    _part_of_caller()
    if threads == 1:
        return Part(0, panels, 0, m)
    even = panels % threads == 0 or panels >= 4 * threads
    if even and not by_row:
        first, last = share(panels, me, threads)
        return Part(first, last, 0, m)
    first, last = share(m, me, threads)
    return Part(0, panels, first, last)


@inlined
def vectors_of(shape, n, j):
    """How many vectors of the panel that begins at unit j hold units of a layer of n."""
    return 1 if 2 * (n - j) <= shape.panel else 2


@inner
def activate_layer(shape, work, l, m, part):
    """Aˡ = σ(Zˡ) for my part, with the single changed neurons of the layer."""
    _compile_once()
    layers, panel, height = shape.layers, shape.panel, part.last_row - part.first_row
    z_at, a_at, code = layers[l, Z_AT], layers[l, A_AT], layers[l, ACTIVATION]
    if code == SOFTMAX:
        softmax_rows(work, z_at, a_at, m, part.first_row, part.last_row, layers[l, SIZE], panel)
    elif height == m:
        at = part.first_panel * panel * m
        activate(code, work, z_at + at, a_at + at, (part.last_panel - part.first_panel) * panel * m)
    else:
        for g in range(part.first_panel, part.last_panel):
            at = (g * m + part.first_row) * panel
            activate(code, work, z_at + at, a_at + at, height * panel)
    for c in range(len(shape.changed)):
        unit, column = shape.changed[c, 1], shape.spare_at + 3 * c * m + part.first_row
        if shape.changed[c, 0] == l and part.first_panel <= unit // panel < part.last_panel:
            at = (unit // panel * m + part.first_row) * panel + unit % panel
            move_column(work, z_at + at, panel, column, 1, height)
            activate(shape.changed[c, 2], work, column, column + m, height)
            move_column(work, column + m, 1, a_at + at, panel, height)


@inner
def times_layer_derivative(shape, work, l, m, part):
    """Δˡ ← Δˡ ⊙ σ'(Zˡ) for my part, with the single changed neurons of the layer.

    A changed neuron's errors are taken out before the layer's own σ' and put back after it.
    """
    _compile_once()
    layers, panel, height = shape.layers, shape.panel, part.last_row - part.first_row
    z_at, a_at, delta_at, code = layers[l, Z_AT], layers[l, A_AT], layers[l, DELTA_AT], layers[l, ACTIVATION]
    for c in range(len(shape.changed)):
        unit, column = shape.changed[c, 1], shape.spare_at + 3 * c * m + part.first_row
        if shape.changed[c, 0] == l and part.first_panel <= unit // panel < part.last_panel:
            at = (unit // panel * m + part.first_row) * panel + unit % panel
            move_column(work, delta_at + at, panel, column + 2 * m, 1, height)
    if height == m:
        at = part.first_panel * panel * m
        size = (part.last_panel - part.first_panel) * panel * m
        times_derivative(code, work, z_at + at, a_at + at, delta_at + at, size)
    else:
        for g in range(part.first_panel, part.last_panel):
            at = (g * m + part.first_row) * panel
            times_derivative(code, work, z_at + at, a_at + at, delta_at + at, height * panel)
    for c in range(len(shape.changed)):
        unit, column = shape.changed[c, 1], shape.spare_at + 3 * c * m + part.first_row
        if shape.changed[c, 0] == l and part.first_panel <= unit // panel < part.last_panel:
            at = (unit // panel * m + part.first_row) * panel + unit % panel
            move_column(work, z_at + at, panel, column, 1, height)
            move_column(work, a_at + at, panel, column + m, 1, height)
            times_derivative(shape.changed[c, 2], work, column, column + m, column + 2 * m, height)
            move_column(work, column + 2 * m, 1, delta_at + at, panel, height)


@inlined
def add_up_halves(shape, packed, scale, work, data, rows, known, again, halves, at, me, threads, sync):
    """Z¹ = X (W¹)ᵀ + b¹, what each half of the inputs adds apart: a half by each of two threads, or both by one.

    The halves, blocks like Z¹, stand one after the other in `halves` from `at` on.
    """
    layers, panel, m, sparse = shape.layers, shape.panel, rows.size, data.begins.size > 0
    n, below, size, w_at = layers[1, SIZE], layers[0, SIZE], m * layers[1, PADDED], layers[1, WEIGHT_AT]
    for half in range(2):
        if threads == 1 or half == me:
            first, last = inputs_of(shape, half)
            begins = data.middles if threads == 1 and half == SECOND else data.begins
            ends = data.middles if threads == 1 and half == FIRST else data.ends
            a_at = layers[0, A_AT] + first * m
            if not sparse:
                spread_rows(work, a_at, panel * m, data.dense, first, below, last - first, rows, 0, m, known)
            for j in range(0, n, panel):
                to, from_w, vectors = at + half * size + j * m, w_at + j * below, vectors_of(shape, n, j)
                if sparse:
                    gather_panel(
                        halves, to, packed, from_w, begins, ends, data.indices, data.values, rows, 0, m,
                        vectors, scale, work, shape.zeros_at, known if j == 0 else again,
                    )  # fmt: skip
                else:
                    forward_panel(
                        halves, to, work, a_at, panel * m, packed, from_w + first * panel, work, shape.zeros_at,
                        m, vectors, last - first,
                    )  # fmt: skip
    wait(sync, me, threads)
    for j in range(0, n, panel):
        z_at, b_at = layers[1, Z_AT] + j * m, layers[1, BIAS_AT] + j
        add_halves(work, z_at, halves, at + j * m, at + size + j * m, packed, b_at, m)


@inlined
def forward(shape, packed, scale, work, data, rows, known, again, halved, rules, step, me, threads, sync):
    """Zˡ = Aˡ⁻¹ (Wˡ)ᵀ + bˡ and Aˡ = σ(Zˡ) for the examples `rows`; W² is scale times what is packed.

    If halved, Z¹ stands there already. Where the layout has room for it, the layer above reads what dropout leaves of
    Aˡ (all of it, if step is negative).
    """
    layers, panel, m, sparse = shape.layers, shape.panel, rows.size, data.begins.size > 0
    if not sparse and not halved:
        n = layers[0, SIZE]
        first, last = share(m, me, threads)
        spread_rows(work, layers[0, A_AT], panel * m, data.dense, 0, n, n, rows, first, last, known)
        wait(sync, me, threads)
    for l in range(1, len(layers)):
        n, below, part = layers[l, SIZE], layers[l - 1, SIZE], mine(shape, l, m, me, threads)
        for g in range(part.first_panel, part.first_panel if l == 1 and halved else part.last_panel):
            j = g * panel
            z_at, w_at, vectors = layers[l, Z_AT] + j * m, layers[l, WEIGHT_AT] + j * below, vectors_of(shape, n, j)
            b_at, first, last = layers[l, BIAS_AT] + j, part.first_row, part.last_row
            if l == 1 and sparse:
                gather_panel(
                    work, z_at, packed, w_at, data.begins, data.ends, data.indices, data.values, rows, first, last,
                    vectors, scale, packed, b_at, known if g == part.first_panel else again,
                )  # fmt: skip
            else:
                a_at, to = layers[l - 1, PASSED_AT] + first * panel, z_at + first * panel
                forward_panel(
                    work, to, work, a_at, panel * m, packed, w_at, packed, b_at, last - first, vectors, below
                )  # fmt: skip
        activate_layer(shape, work, l, m, part)
        if layers[l, PASSED_AT] != layers[l, A_AT]:
            pass_on(shape, work, l, m, part)
            if step >= 0:
                drop_units(shape, work, layers[l, PASSED_AT], l, m, part, rules, step)
        if l < len(layers) - 1:
            wait(sync, me, threads)


@inlined
def output_error(shape, work, data, rows, known, part, factor):
    """Δᴸ = ∇ₐC ⊙ σ'(Zᴸ) in my part; where cost and output are a pair (cross-entropy and sigmoid, …) σ' cancels.

    All errors are factor times those of the book: BP2 passes it on, and BP3 and BP4 find it in what they add.
    """
    last, m, panel = len(shape.layers) - 1, rows.size, shape.panel
    n, delta_at, a_at = shape.layers[last, SIZE], shape.layers[last, DELTA_AT], shape.layers[last, A_AT]
    for j in range(part.first_panel * panel, part.last_panel * panel, panel):
        subtract_targets(
            work, delta_at + j * m, a_at + j * m, data.targets, data.labels, data.weights, rows, part.first_row,
            part.last_row, n, j, factor, data.labels.size, data.weights.size, known,
        )  # BP1  # fmt: skip
    if shape.cost == QUADRATIC:
        times_layer_derivative(shape, work, last, m, part)  # BP1


@inlined
def propagate_error(shape, packed, work, l, m, rules, step, me, threads):
    """Δˡ = (Δˡ⁺¹ Wˡ⁺¹) ⊙ σ'(Zˡ), without the units that dropout left out (none, if step is negative)."""
    layers, panel, n, next_n = shape.layers, shape.panel, shape.layers[l, SIZE], shape.layers[l + 1, SIZE]
    delta_at, next_at, w_at = layers[l, DELTA_AT], layers[l + 1, DELTA_AT], layers[l + 1, WEIGHT_AT]
    part = mine(shape, l, m, me, threads)
    for g in range(part.first_panel, part.last_panel):
        k = g * panel
        if m < TRANSPOSED_FROM:
            for i in range(part.first_row, part.last_row):
                to, above = delta_at + k * m + i * panel, layers[l + 1, PADDED] // panel
                clear(work, to, panel)
                dot_rows(
                    work, to, work, next_at + i * panel, panel * m, packed, w_at + k * panel, panel * n,
                    min(panel, n - k), above,
                )  # fmt: skip
        else:
            # A panel that all rows pass here is turned just before, in one place for all of them: in the cache. Where
            # threads share out rows, `run` has turned all panels.
            place = g
            if part.last_row - part.first_row == m:
                place = part.first_panel
                transpose(shape, packed, work, l + 1, g, place)
            offset = part.first_row * panel
            turned_at = layers[l + 1, TURNED_AT] + place * panel * layers[l + 1, PADDED]
            forward_panel(
                work, delta_at + k * m + offset, work, next_at + offset, panel * m, work, turned_at,
                work, shape.zeros_at, part.last_row - part.first_row, 2, next_n,
            )  # fmt: skip
    times_layer_derivative(shape, work, l, m, part)  # BP2
    if step >= 0:
        drop_units(shape, work, delta_at, l, m, part, rules, step)


@inlined
def accumulate_gradient(shape, work, data, half, rows, again, l, into, scale, keep, keep_bias, me, threads):
    """Wˡ ← keep Wˡ + (Δˡ)ᵀ Aˡ⁻¹ and bˡ ← keep_bias bˡ + 1ᵀ Δˡ, on the parameters in `into`: my share of them.

    Of W¹ only the rows of this half of the inputs. With `into` the network's own parameters, errors times -η/m and keep
    1 - ηλ/n, this *is* the step of gradient descent with weight decay: no gradient array is ever written. With keep 0
    it writes the gradient. Compressed rows only add: there the caller applies keep, and W is 1/scale times what `into`
    holds.
    """
    layers, panel, m, sparse = shape.layers, shape.panel, rows.size, data.begins.size > 0
    n, below, delta_at = layers[l, SIZE], layers[l - 1, SIZE], layers[l, DELTA_AT]
    w_at, b_at, a_at = layers[l, WEIGHT_AT], layers[l, BIAS_AT], layers[l - 1, PASSED_AT]
    first_k, last_k = inputs_of(shape, half) if l == 1 else (0, below)
    panels, groups = layers[l, PADDED] // panel, (last_k - first_k + panel - 1) // panel
    first, last = share(panels, me, threads)
    for g in range(first, last):
        j = g * panel
        vectors = vectors_of(shape, n, j)
        sum_rows(into, b_at + j, keep_bias, work, delta_at + j * m, m, vectors)  # BP3
        if l == 1 and sparse:
            scatter_panel(
                into, w_at + j * below, work, delta_at + j * m, data.begins, data.ends, data.indices, data.values, rows,
                m, vectors, scale, m if g == first else again,
            )  # BP4  # fmt: skip
    if not (l == 1 and sparse):
        first, last = share(panels * groups, me, threads)
        first_g, last_g = (0, panels) if threads == 1 else (first // groups, (last + groups - 1) // groups)
        at_once = groups  # divisions are slow
        if groups * m * panel * into.itemsize > PASSED_BYTES:
            at_once = max(1, PASSED_BYTES // (m * panel * into.itemsize))
        for group in range(0, groups, at_once):
            for g in range(first_g, last_g):
                j, k = g * panel, first_k + max(group, first - g * groups) * panel
                k_end = min(first_k + min(group + at_once, last - g * groups) * panel, last_k)
                if k < k_end:
                    update_panel(
                        into, w_at + j * below + k * panel, work, a_at + k * m, panel * m, work, delta_at + j * m,
                        keep, k_end - k, vectors_of(shape, n, j), m,
                    )  # BP4  # fmt: skip


@inner_as_written
def take_step(packed, first, last, steps, eta, decay, l1):
    """θ ← θ - step for the parameters first … last - 1, by the optimizer's rule, along gradient + decay θ + l1 sgn θ.

    optimizers.py declares the same rules in plain NumPy, with sources.
    """
    _compile_once()
    optimizer, coefficients, powers = steps.optimizer, steps.coefficients, steps.powers
    number = packed.dtype.type
    a, b, epsilon = number(coefficients[0]), number(coefficients[1]), number(coefficients[2])
    rest_a, rest_b = number(1.0 - coefficients[0]), number(1.0 - coefficients[1])
    decoupled = number(1.0 - eta * coefficients[3])
    zero, faded = number(0), number(1e-30 if packed.itemsize == 4 else 1e-300)  # see optimizers.FADED
    theta, g = packed[first:last], steps.gradient[first:last]
    if decay != number(0):
        for i in range(theta.size):
            g[i] += decay * theta[i]
    if l1 != number(0):
        for i in range(theta.size):
            g[i] += l1 * np.sign(theta[i])
    if optimizer == SGD:
        for i in range(theta.size):
            theta[i] -= eta * g[i]
    elif optimizer == MOMENTUM:
        v = steps.first[first:last]
        for i in range(theta.size):
            average = a * v[i] + g[i]
            v[i] = zero if abs(average) < faded else average
            theta[i] = decoupled * theta[i] - eta * v[i]
    elif optimizer == NESTEROV:
        v = steps.first[first:last]
        for i in range(theta.size):
            average = a * v[i] + g[i]
            v[i] = zero if abs(average) < faded else average
            theta[i] = decoupled * theta[i] - eta * (g[i] + a * v[i])
    elif optimizer == ADAGRAD:
        s = steps.second[first:last]
        for i in range(theta.size):
            s[i] += g[i] * g[i]
            theta[i] -= eta * g[i] / (np.sqrt(s[i]) + epsilon)
    elif optimizer == RMSPROP:
        s = steps.second[first:last]
        for i in range(theta.size):
            s[i] = b * s[i] + rest_b * (g[i] * g[i])
            theta[i] -= eta * g[i] / (np.sqrt(s[i]) + epsilon)
    else:
        v, s = steps.first[first:last], steps.second[first:last]
        rate, correction = number(eta / (1.0 - powers[0])), number(1.0 / np.sqrt(1.0 - powers[1]))
        for i in range(theta.size):
            average = a * v[i] + rest_a * g[i]
            v[i] = zero if abs(average) < faded else average
            s[i] = b * s[i] + rest_b * (g[i] * g[i])
            theta[i] = decoupled * theta[i] - rate * v[i] / (np.sqrt(s[i]) * correction + epsilon)


PREDICT, DIFFERENTIATE, TRAIN = range(3)
# So many bytes of examples or of A stay in the second-level cache while all panels of W pass them.
PASSED_BYTES = 2**19
# Rows of a mini-batch from which BP2 transposes W, which costs as much as three rows of the product.
TRANSPOSED_FROM = 4


@compiled
def run(
    task, shape, packed, scale, work, data, order, batch_size, eta, decay, steps, rules, result, halves, me, threads,
    sync,
):  # fmt: skip
    """The one compiled entry: consecutive mini-batches of `order`, for one of three tasks.

    TRAIN: a step an entry of `eta`; `decay` is λ/n. Plain gradient descent goes straight into the parameters. Over
    compressed rows its decay of W² is kept in the number scale[0] (W² = scale · packed), for a sweep over W² would cost
    more than the rest of the mini-batch; it is written out each time it has halved. The other optimizers get the mean
    gradient, with λ/n W for the weights, and sweep over all parameters; so does plain gradient descent with an L1 term.
    DIFFERENTIATE: result, laid out like packed, ← the gradient summed over the first mini-batch.
    PREDICT: result, flat (order.size, n_L), ← Aᴸ.

    All `threads` call it with the same arguments but `me`; they meet in `sync`. If there is room in `halves`, for four
    blocks like Z¹, layer 1 is computed in halves: then `threads` are one, or two that each have a packed, scale, work
    and steps of their own, in which their half of W¹ counts, and data whose compressed rows are their half.
    """
    before = flush_subnormals()
    number, layers, panel = packed.dtype.type, shape.layers, shape.panel
    one, zero = number(1), number(0)
    sparse, w_at, below, depth = data.begins.size > 0, layers[1, WEIGHT_AT], layers[0, SIZE], len(layers)
    halved, half, crew, hand = halves.size > 0, WHOLE, threads, me
    if halved:  # whatever is dealt out below, each thread does all of it
        half, crew, hand = (WHOLE if threads == 1 else me), 1, 0
    first_k, last_k = inputs_of(shape, half)
    l1, max_norm = number(rules.l1), number(rules.max_norm)
    direct = task == TRAIN and steps.optimizer == SGD and l1 == zero
    my_scale = scale[0]
    for step in range((order.size + batch_size - 1) // batch_size):
        start = step * batch_size
        rows = order[start : min(start + batch_size, order.size)]
        m, known = rows.size, order.size - start  # of which the first m are this mini-batch
        # compressed rows that every panel asks for: those of a mini-batch that the cache will not keep
        again = m if m * data.values.size * (4 + packed.itemsize) > PASSED_BYTES * max(1, data.begins.size) else 0
        if task != PREDICT and m >= TRANSPOSED_FROM and crew > 1:
            for l in range(2, depth):
                part = mine(shape, l - 1, m, hand, crew)
                if part.last_row - part.first_row < m:
                    first, last = share(layers[l - 1, PADDED] // panel, hand, crew)
                    for g in range(first, last):
                        transpose(shape, packed, work, l, g, g)
        drop_at = step if task == TRAIN and rules.keys.size > 0 else -1
        if halved:  # in one of two places by turns: the other thread may still read what was added up last
            place = step % 2 * (halves.size // 2)
            add_up_halves(shape, packed, my_scale, work, data, rows, known, again, halves, place, me, threads, sync)
        forward(shape, packed, my_scale, work, data, rows, known, again, halved, rules, drop_at, hand, crew, sync)
        part = mine(shape, depth - 1, m, hand, crew)
        if task == PREDICT:
            take_outputs(shape, work, m, part, result, start)
            wait(sync, hand, crew)
            continue

        into, keep, keep_bias, factor, into_scale = result, zero, zero, one, one
        if direct:
            into, keep, keep_bias, factor = packed, one - eta[step] * decay, one, -eta[step] / number(m)
        elif task == TRAIN:
            into, factor = steps.gradient, one / number(m)
        output_error(shape, work, data, rows, known, part, factor)
        for l in range(depth - 2, 0, -1):
            wait(sync, hand, crew)
            propagate_error(shape, packed, work, l, m, rules, drop_at, hand, crew)
        wait(sync, hand, crew)  # no weight may move before all errors stand

        if sparse:
            first, last = share(layers[1, PADDED] // panel, hand, crew)
            my_scale *= keep if direct else one
            for g in range(first, last):
                at, size = w_at + (g * below + first_k) * panel, (last_k - first_k) * panel
                if not direct:
                    clear(into, at, size)
                elif my_scale < number(0.5):
                    combine(packed, at, my_scale, packed, at, zero, size)
            my_scale = one if my_scale < number(0.5) else my_scale
            into_scale = one / my_scale if direct else one
        for l in range(depth - 1, 0, -1):
            accumulate_gradient(shape, work, data, half, rows, again, l, into, into_scale, keep, keep_bias, hand, crew)
        if task == TRAIN and not direct:
            if hand == 0:
                steps.powers[0] *= steps.coefficients[0]
                steps.powers[1] *= steps.coefficients[1]
            wait(sync, hand, crew)
            for l in range(1, depth):
                first, last = share(layers[l - 1, SIZE] * layers[l, PADDED], hand, crew)
                at, jump, pieces = layers[l, WEIGHT_AT], 0, 1
                if l == 1 and half != WHOLE:
                    first, last, jump, pieces = (
                        first_k * panel,
                        last_k * panel,
                        below * panel,
                        layers[1, PADDED] // panel,
                    )
                for _ in range(pieces):
                    take_step(packed, at + first, at + last, steps, eta[step], decay, l1)
                    at += jump
                first, last = share(layers[l, PADDED], hand, crew)
                take_step(packed, layers[l, BIAS_AT] + first, layers[l, BIAS_AT] + last, steps, eta[step], zero, zero)
        if task == TRAIN and max_norm < np.inf:
            wait(sync, hand, crew)  # for all of the step
            for l in range(1, depth):
                first, last = share(layers[l, PADDED] // panel, hand, crew)
                limit_norms(shape, packed, work, l, first, last, m, my_scale if l == 1 else one, max_norm)
        wait(sync, hand, crew)
    if hand == 0:
        scale[0] = my_scale
    as_before(before)


# --------------------------------------------------------------------------------------------------------------
# Compressed rows, and the order of the examples.
# --------------------------------------------------------------------------------------------------------------


@compiled
def find_middles(begins, ends, indices, middle, middles):
    """middles[i] ← where in compressed row i, in ascending order, the inputs from `middle` on begin."""
    for i in range(middles.size):
        below = 0
        for t in range(begins[i], ends[i]):
            below += indices[t] < middle
        middles[i] = begins[i] + below


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
