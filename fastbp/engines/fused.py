"""Whole runs of mini-batches inside one compiled call: gather, feedforward, BP1 to BP4, step.

The equations themselves stand in `kernels.py` (look for `# BP1` … `# BP4`); this module lays out memory for them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import dropout, jitcache, kernels, parameters, threads
from fastbp.architecture import Architecture
from fastbp.data import Examples, is_sparse
from fastbp.engines import plan
from fastbp.optimizers import Optimizer
from fastbp.regularization import Regularization, seed_state, with_seed

# Rows in one block of a prediction.
PREDICTION_BLOCK = 64
# Floating-point operations in one compiled call of a prediction: 0.2 s where it runs worst.
PREDICTION_FLOPS = 500_000_000
_NO_STEPS = np.empty(0)
_NO_RULES = kernels.Rules(0.0, np.inf, dropout.keys(0, 0, 0, 2), dropout.threshold(0.0), 1.0)


class FusedEngine:
    """Parameters in the kernels' packed layout, examples as flat arrays, buffers for one mini-batch."""

    name = "fused"

    def __init__(
        self,
        architecture: Architecture,
        theta: np.ndarray,
        examples: Examples,
        batch_size: int,
        optimizer: Optimizer,
        regularization: Regularization,
    ) -> None:
        self.architecture, self.examples, self.batch_size = architecture, examples, batch_size
        self.regularization = regularization
        dtype = architecture.dtype
        self.shape, self.work = layout(architecture, batch_size, bool(regularization.dropout))
        self.data = kernel_data(examples, architecture)
        last = self.shape.layers[-1]
        self.packed = aligned_zeros(int(last[kernels.BIAS_AT] + last[kernels.PADDED]), dtype)
        self.scale = np.ones(1, dtype)
        kernels.pack(self.shape, theta, self.packed)
        memory = optimizer.remember(self.packed.size, dtype)
        gradient = aligned_zeros(self.packed.size if optimizer.code or regularization.l1 else 0, dtype)
        self.pace, self.prediction_pace = plan.pace(architecture, batch_size), plan.pace(architecture, PREDICTION_BLOCK)
        self.steps = kernels.Steps(
            optimizer.code,
            np.array(optimizer.coefficients),
            memory.powers,
            memory.first,
            memory.second,
            gradient,
        )

    def train(self, order: np.ndarray, eta: np.ndarray, decay: float, step: int = 0) -> None:
        network, m = (self.shape, self.packed, self.scale), self.batch_size
        for first, last, count in self.pace.pieces(len(eta)):
            rows, steps, rules = order[first * m : last * m], eta[first:last], self._rules(step + first, last - first)
            self._run(count, kernels.TRAIN, *network, self.work, self.data, rows, m, self.packed, steps, decay, rules)

    def _rules(self, step: int, count: int) -> kernels.Rules:
        """The regularisation of mini-batches step, step + 1, … of the run."""
        given = self.regularization
        count = count if given.dropout else 0
        return kernels.Rules(
            given.l1, given.max_norm, dropout.keys(given.seed, step, count, len(self.architecture.sizes)),
            dropout.threshold(given.dropout), 1 / (1 - given.dropout),
        )  # fmt: skip

    def gradient(self, rows: np.ndarray) -> np.ndarray:
        nabla = np.zeros_like(self.packed)
        network = self.shape, self.packed, self.scale
        self._run(1, kernels.DIFFERENTIATE, *network, self.work, self.data, rows, self.batch_size, nabla)
        return self._unpack(nabla, np.ones_like(self.scale))

    def prepare(self, examples: Examples) -> tuple[int, kernels.Data]:
        data = self.data if examples.X is self.examples.X else kernel_data(examples, self.architecture)
        return len(examples), data

    def outputs(self, prepared: tuple[int, kernels.Data]) -> np.ndarray:
        (n, data), dtype = prepared, self.architecture.dtype
        out, block = np.empty((n, self.architecture.sizes[-1]), dtype), min(PREDICTION_BLOCK, n)
        shape, work = layout(self.architecture, block)
        packed, scale = self.packed, self.scale
        if scale[0] != 1 and data.indptr.size == 0:  # only compressed rows keep W² as a multiple of what is packed
            packed, scale = self._written_out(), np.ones_like(scale)
        each = 2 * parameters.count(self.architecture.sizes)
        at_once = block * max(1, PREDICTION_FLOPS // (each * block))
        for start in range(0, n, at_once):  # back to Python now and then: Ctrl-C
            stop = min(start + at_once, n)
            for first, last, count in self.prediction_pace.pieces(-(-(stop - start) // block)):
                rows = np.arange(start + first * block, min(start + last * block, stop))
                result = out[rows[0] : rows[-1] + 1].reshape(-1)
                self._run(count, kernels.PREDICT, shape, packed, scale, work, data, rows, block, result)
        return out

    def _written_out(self) -> np.ndarray:
        """A copy of the packed parameters with W² itself."""
        packed, layers = self.packed.copy(), self.shape.layers
        packed[layers[1, kernels.WEIGHT_AT] : layers[1, kernels.BIAS_AT]] *= self.scale[0]
        return packed

    def _run(
        self,
        count: int,
        task: int,
        shape: kernels.Shape,
        packed: np.ndarray,
        scale: np.ndarray,
        work: np.ndarray,
        data: kernels.Data,
        order: np.ndarray,
        batch_size: int,
        result: np.ndarray,
        eta: np.ndarray = _NO_STEPS,
        decay: float = 0.0,
        rules: kernels.Rules = _NO_RULES,
    ) -> None:
        dtype, order = self.architecture.dtype, _writable(np.ascontiguousarray(order, np.int64))
        arguments = (
            task, shape, packed, scale, work, data, order, batch_size, eta.astype(dtype), dtype.type(decay),
            self.steps, rules, result,
        )  # fmt: skip
        try:
            threads.run_together(count, lambda me, sync: kernels.run(*arguments, me, count, sync))
        except BaseException:
            jitcache.recover()  # Ctrl-C, most likely in the middle of compiling
            raise

    def _unpack(self, packed: np.ndarray, scale: np.ndarray) -> np.ndarray:
        theta = np.empty(parameters.count(self.architecture.sizes), packed.dtype)
        kernels.unpack(self.shape, packed, scale, theta)
        return theta

    def theta(self) -> np.ndarray:
        return self._unpack(self.packed, self.scale)

    def load(self, theta: np.ndarray) -> None:
        kernels.pack(self.shape, theta, self.packed)
        self.scale[0] = 1

    def is_finite(self) -> bool:
        return bool(np.isfinite(self.packed).all() and np.isfinite(self.scale).all())

    def _changing(self) -> dict[str, np.ndarray]:
        steps = self.steps
        memory = {"first": steps.first, "second": steps.second, "powers": steps.powers}
        return {"packed": self.packed, "scale": self.scale, **memory}

    def save_state(self) -> dict[str, np.ndarray]:
        changing = {name: array.copy() for name, array in self._changing().items()}
        return {**changing, "seed": seed_state(self.regularization)}

    def restore_state(self, state: dict[str, np.ndarray]) -> None:
        for name, array in self._changing().items():
            array[...] = state[name]
        self.regularization = with_seed(self.regularization, state["seed"])


def layout(architecture: Architecture, rows: int, dropping: bool = False) -> tuple[kernels.Shape, np.ndarray]:
    """Where everything lies in the packed parameters and in the work space, and a work space for so many rows.

    With `dropping` there is room beside each hidden layer for what dropout leaves of it.
    """
    panel = 2 * kernels.VECTOR_BYTES // architecture.dtype.itemsize
    sizes = architecture.sizes
    padded = [_round_up(n, panel) for n in sizes]
    layers = np.zeros((len(sizes), 10), np.int64)
    layers[:, kernels.SIZE], layers[:, kernels.PADDED] = sizes, padded
    codes = [activation.code for activation in architecture.activations]
    layers[1:, kernels.ACTIVATION] = codes  # type: ignore[assignment]  # all known: the engine was checked
    at = 0
    for l, p in enumerate(padded):
        for column in (kernels.A_AT,) if l == 0 else (kernels.Z_AT, kernels.A_AT, kernels.DELTA_AT):
            layers[l, column] = at
            at += rows * p
        layers[l, kernels.PASSED_AT] = layers[l, kernels.A_AT]
        if dropping and 0 < l < len(sizes) - 1:
            layers[l, kernels.PASSED_AT] = at
            at += rows * p
        if l > 1:
            layers[l, kernels.TURNED_AT] = at
            at += padded[l - 1] * p
    zeros_at, spare_at, at = at, at + panel, 0
    for l in range(1, len(sizes)):
        layers[l, kernels.WEIGHT_AT] = at
        layers[l, kernels.BIAS_AT] = at = at + sizes[l - 1] * padded[l]
        at += padded[l]
    changed = [(l - 1, j, neuron.code) for (l, j), neuron in architecture.neurons.items()]
    return (
        kernels.Shape(
            layers, np.array(changed, np.int64).reshape(-1, 3), architecture.cost.code, panel, zeros_at, spare_at
        ),
        aligned_zeros(spare_at + 3 * rows * len(changed), architecture.dtype),
    )


def aligned_zeros(n: int, dtype: np.dtype) -> np.ndarray:
    """Zeros that begin on a line of the cache, as NumPy's need not: vectors across two lines cost twice."""
    line = 64 // dtype.itemsize
    room = np.zeros(n + line, dtype)
    first = -room.ctypes.data % 64 // dtype.itemsize
    return room[first : first + n]


def _round_up(n: int, lanes: int) -> int:
    return -(-n // lanes) * lanes


def kernel_data(examples: Examples, architecture: Architecture) -> kernels.Data:
    """The examples as the kernels take them; rows with many zeros are compressed, once for the whole run."""
    dtype = architecture.dtype
    dense, indptr = np.empty(0, dtype), np.empty(0, np.int64)
    indices, values = np.empty(0, np.int32), np.empty(0, dtype)
    X = examples.inputs_as("compressed", dtype, lambda: compress(examples.X, dtype))
    if is_sparse(X):
        indptr, indices = X.indptr.astype(np.int64, copy=False), X.indices.astype(np.int32, copy=False)
        values = X.data.astype(dtype, copy=False)
    else:
        dense = X.astype(dtype, copy=False).reshape(-1)
    targets, labels = np.empty(0, dtype), np.empty(0, np.int64)
    if examples.labels is not None:
        labels = examples.labels
    elif examples.Y is not None:
        targets = np.ascontiguousarray(examples.Y, dtype).reshape(-1)
    weights = np.empty(0, dtype) if examples.weights is None else examples.weights.astype(dtype)
    return kernels.Data(*map(_writable, (dense, indptr, indices, values, targets, labels, weights)))


@dataclass(frozen=True)
class CompressedRows:
    """The entries of a matrix that are not zero, row by row: row i has data[indptr[i] : indptr[i + 1]].

    What scipy calls CSR, under the same names, without the import of scipy (0.15 s).
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    shape: tuple[int, int]

    @property
    def nnz(self) -> int:
        return int(self.indptr[-1])


def compress(X: Any, dtype: np.dtype) -> Any:
    """The rows of X compressed, in this dtype, if enough entries are zero; else X as it is."""
    if is_sparse(X):
        return X
    X = np.ascontiguousarray(X, None if X.dtype.name in ("float32", "float64") else dtype)
    compressed = compress_blocks([X], X.shape, dtype)
    return X if compressed is None else compressed


def compress_blocks(
    blocks: Iterable[np.ndarray], shape: tuple[int, int], dtype: np.dtype, density: float = 0.0
) -> CompressedRows | None:
    """Rows that come a block at a time, compressed, in this dtype; None as soon as too few entries are zero.

    The dense matrix, of this shape, is never there. density: the share of entries that are not zero, as far as it is
    known, so that the arrays need not grow.
    """
    (n, columns), done = shape, 0
    limit = plan.SPARSE_BELOW * (n * columns)
    indptr = np.zeros(n + 1, np.int64)
    indices, values = np.empty(0, np.int32), np.empty(0, dtype)
    for block in blocks:
        kind = None if block.dtype.name in ("float32", "float64") else dtype
        flat, end = _writable(np.ascontiguousarray(block, kind).reshape(-1)), done + len(block)
        counts = indptr[done + 1 : end + 1]
        kernels.count_nonzeros(flat, *block.shape, counts)
        counts[0] += indptr[done]
        np.cumsum(counts, out=counts)
        nnz = int(indptr[end])
        if nnz >= limit:
            return None
        if nnz + columns > len(indices):  # a row to spare at the end, as the kernel wants
            # a quarter more than it looks like: what is not written to takes no memory, but growing takes both
            expected = nnz if end == n else min(limit, 1.25 * n * max(density * columns, nnz / end))
            indices, values = (_longer(array, int(expected) + columns, indptr[done]) for array in (indices, values))
        kernels.compress_rows(flat, *block.shape, indptr[done : end + 1], indices, values)
        done = end
    return CompressedRows(indptr, indices, values, shape)


def _longer(array: np.ndarray, size: int, used: int) -> np.ndarray:
    """A longer array that begins like this one."""
    longer = np.empty(size, array.dtype)
    longer[:used] = array[:used]
    return longer


class _Memory:
    """Presents an array's memory as writable; holds the array, so that the memory stays."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        pointer, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (pointer, False)}


def _writable(array: np.ndarray) -> np.ndarray:
    """A view of a read-only array (a memory map, say) that claims to be writable; others as they are.

    Numba compiles every kernel once more for read-only arguments. The kernels only read from data.
    """
    return array if array.flags.writeable else np.asarray(_Memory(array))
