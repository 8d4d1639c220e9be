"""Whole runs of mini-batches inside one compiled call: gather, feedforward, BP1 to BP4, step.

The equations themselves stand in `kernels.py` (look for `# BP1` … `# BP4`); this module lays out memory for them.
"""

from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Own:
    """What a thread that trains writes to: packed parameters, the scale of W², the optimizer's memory, buffers."""

    packed: np.ndarray
    scale: np.ndarray
    steps: kernels.Steps
    work: np.ndarray

    @property
    def changing(self) -> dict[str, np.ndarray]:
        """All that a mini-batch leaves to the next."""
        steps = self.steps
        memory = {"first": steps.first, "second": steps.second, "powers": steps.powers}
        return {"packed": self.packed, "scale": self.scale, **memory}

    def another(self) -> "Own":
        """As much memory for another thread."""

        def room(array: np.ndarray) -> np.ndarray:
            return aligned_zeros(array.size, array.dtype)

        given = self.steps
        steps = given._replace(
            powers=room(given.powers), first=room(given.first), second=room(given.second), gradient=room(given.gradient)
        )
        return Own(room(self.packed), room(self.scale), steps, room(self.work))


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
        self.shape, work = layout(architecture, batch_size, bool(regularization.dropout))
        last = self.shape.layers[-1]
        packed = aligned_zeros(int(last[kernels.BIAS_AT] + last[kernels.PADDED]), dtype)
        pack(self.shape, theta, packed)
        memory = optimizer.remember(packed.size, dtype)
        gradient = aligned_zeros(packed.size if optimizer.code or regularization.l1 else 0, dtype)
        steps = kernels.Steps(
            optimizer.code, np.array(optimizer.coefficients), memory.powers, memory.first, memory.second, gradient
        )
        self.own = Own(packed, np.ones(1, dtype), steps, work)
        self.data = kernel_data(examples, architecture)
        # The norm of a neuron's weights is of all its inputs, not of a half.
        halved = plan.halved(architecture, batch_size) and regularization.max_norm == np.inf
        if halved:
            self.shape, self.data = in_halves(self.shape, self.data)
        self.halves = aligned_zeros(4 * batch_size * int(self.shape.layers[1, kernels.PADDED]) if halved else 0, dtype)
        self.other: Own | None = None  # the second thread's, if layer 1 is halved
        self.pace, self.prediction_pace = plan.pace(architecture, batch_size), plan.pace(architecture, PREDICTION_BLOCK)

    def train(self, order: np.ndarray, eta: np.ndarray, decay: float, step: int = 0) -> None:
        m, result, halves = self.batch_size, self.own.packed, self.halves
        for first, last, count in self.pace.pieces(len(eta)):
            rows, steps, rules = order[first * m : last * m], eta[first:last], self._rules(step + first, last - first)
            by_halves = count > 1 and halves.size > 0
            parts = self._halves() if by_halves else [(self.own, self.data)] * count
            self._run(kernels.TRAIN, self.shape, parts, rows, m, result, halves, steps, decay, rules)
            if by_halves:
                self._take_back()

    def _halves(self) -> list[tuple[Own, kernels.Data]]:
        """What each of two threads writes to, a copy of all that is here for the second, and its half of the inputs."""
        if self.other is None:
            self.other = self.own.another()
        for name, array in self.own.changing.items():
            self.other.changing[name][...] = array
        first, second = self.data, self.data
        if self.data.middles.size:
            first, second = first._replace(ends=first.middles), second._replace(begins=second.middles)
        return [(self.own, first), (self.other, second)]

    def _take_back(self) -> None:
        """Copy what the other thread has changed: all that belongs to its half of W². The rest it did as we did."""
        assert self.other is not None
        layer, panel, below = self.shape.layers[1], self.shape.panel, self.architecture.sizes[0]
        for name, array in self.own.changing.items():
            if array.size == self.own.packed.size:
                where = slice(layer[kernels.WEIGHT_AT], layer[kernels.BIAS_AT])
                mine, its = (x[where].reshape(-1, below, panel) for x in (array, self.other.changing[name]))
                mine[:, self.shape.middle :] = its[:, self.shape.middle :]

    def _rules(self, step: int, count: int) -> kernels.Rules:
        """The regularisation of mini-batches step, step + 1, … of the run."""
        given = self.regularization
        count = count if given.dropout else 0
        return kernels.Rules(
            given.l1, given.max_norm, dropout.keys(given.seed, step, count, len(self.architecture.sizes)),
            dropout.threshold(given.dropout), 1 / (1 - given.dropout),
        )  # fmt: skip

    def gradient(self, rows: np.ndarray) -> np.ndarray:
        nabla = np.zeros_like(self.own.packed)
        self._run(kernels.DIFFERENTIATE, self.shape, [(self.own, self.data)], rows, self.batch_size, nabla)
        return self._unpack(nabla, np.ones_like(self.own.scale))

    def prepare(self, examples: Examples) -> tuple[int, kernels.Data]:
        data = self.data if examples.X is self.examples.X else kernel_data(examples, self.architecture)
        return len(examples), data

    def outputs(self, prepared: tuple[int, kernels.Data]) -> np.ndarray:
        (n, data), dtype = prepared, self.architecture.dtype
        out, block = np.empty((n, self.architecture.sizes[-1]), dtype), min(PREDICTION_BLOCK, n)
        shape, work = layout(self.architecture, block)
        packed, scale = self.own.packed, self.own.scale
        if scale[0] != 1 and data.begins.size == 0:  # only compressed rows keep W² as a multiple of what is packed
            packed, scale = self._written_out(), np.ones_like(scale)
        own = Own(packed, scale, self.own.steps, work)
        each = 2 * parameters.count(self.architecture.sizes)
        at_once = block * max(1, PREDICTION_FLOPS // (each * block))
        for start in range(0, n, at_once):  # back to Python now and then: Ctrl-C
            stop = min(start + at_once, n)
            for first, last, count in self.prediction_pace.pieces(-(-(stop - start) // block)):
                rows = np.arange(start + first * block, min(start + last * block, stop))
                result = out[rows[0] : rows[-1] + 1].reshape(-1)
                self._run(kernels.PREDICT, shape, [(own, data)] * count, rows, block, result)
        return out

    def _written_out(self) -> np.ndarray:
        """A copy of the packed parameters with W² itself."""
        packed, layers = self.own.packed.copy(), self.shape.layers
        packed[layers[1, kernels.WEIGHT_AT] : layers[1, kernels.BIAS_AT]] *= self.own.scale[0]
        return packed

    def _run(
        self,
        task: int,
        shape: kernels.Shape,
        parts: Sequence[tuple[Own, kernels.Data]],
        order: np.ndarray,
        batch_size: int,
        result: np.ndarray,
        halves: np.ndarray | None = None,
        eta: np.ndarray = _NO_STEPS,
        decay: float = 0.0,
        rules: kernels.Rules = _NO_RULES,
    ) -> None:
        """Mini-batches of `order`, by as many threads as there are `parts`."""
        dtype, order = self.architecture.dtype, _writable(np.ascontiguousarray(order, np.int64))
        eta, halves, count = eta.astype(dtype), np.empty(0, dtype) if halves is None else halves, len(parts)

        def take_part(me: int, sync: np.ndarray) -> None:
            own, data = parts[me]
            kernels.run(
                task, shape, own.packed, own.scale, own.work, data, order, batch_size, eta, dtype.type(decay),
                own.steps, rules, result, halves, me, count, sync,
            )  # fmt: skip

        try:
            threads.run_together(count, take_part)
        except BaseException:
            jitcache.recover()  # Ctrl-C, most likely in the middle of compiling
            raise

    def _unpack(self, packed: np.ndarray, scale: np.ndarray) -> np.ndarray:
        theta = np.empty(parameters.count(self.architecture.sizes), packed.dtype)
        unpack(self.shape, packed, scale, theta)
        return theta

    def theta(self) -> np.ndarray:
        return self._unpack(self.own.packed, self.own.scale)

    def load(self, theta: np.ndarray) -> None:
        pack(self.shape, theta, self.own.packed)
        self.own.scale[0] = 1

    def is_finite(self) -> bool:
        return bool(np.isfinite(self.own.packed).all() and np.isfinite(self.own.scale).all())

    def save_state(self) -> dict[str, np.ndarray]:
        changing = {name: array.copy() for name, array in self.own.changing.items()}
        return {**changing, "seed": seed_state(self.regularization)}

    def restore_state(self, state: dict[str, np.ndarray]) -> None:
        for name, array in self.own.changing.items():
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
    single = np.array(changed, np.int64).reshape(-1, 3)
    shape = kernels.Shape(layers, single, architecture.cost.code, panel, 0, zeros_at, spare_at)
    return shape, aligned_zeros(spare_at + 3 * rows * len(changed), architecture.dtype)


def pack(shape: kernels.Shape, theta: np.ndarray, packed: np.ndarray) -> None:
    """packed ← theta (layer by layer: W row by row, then b), weights turned input-major; the padding stays zero."""
    for w, b, panels, bias in _packed_views(shape, theta, packed):
        for g, panel in enumerate(panels):
            rows = w[g * shape.panel : (g + 1) * shape.panel]
            panel[:, : len(rows)] = rows.T
        bias[...] = b


def unpack(shape: kernels.Shape, packed: np.ndarray, scale: np.ndarray, theta: np.ndarray) -> None:
    """theta ← packed, with W² = scale times what is packed."""
    factor = scale[0]
    for w, b, panels, bias in _packed_views(shape, theta, packed):
        for g, panel in enumerate(panels):
            rows = w[g * shape.panel : (g + 1) * shape.panel]
            np.multiply(panel[:, : len(rows)].T, factor, out=rows)
        b[...] = bias
        factor = scale.dtype.type(1)


def _packed_views(shape: kernels.Shape, theta: np.ndarray, packed: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Of each layer: W and b in theta; W in packed as (panels, n_{l-1}, units of a panel), and b there."""
    sizes = shape.layers[:, kernels.SIZE].tolist()
    biases, weights = parameters.views(sizes, theta)
    for layer, below, w, b in zip(shape.layers[1:], sizes, weights, biases, strict=False):
        w_at, b_at = layer[kernels.WEIGHT_AT], layer[kernels.BIAS_AT]
        yield w, b[:, 0], packed[w_at:b_at].reshape(-1, below, shape.panel), packed[b_at : b_at + len(b)]


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
    dense, indptr, middles = np.empty(0, dtype), np.empty(0, np.int64), np.empty(0, np.int64)
    indices, values = np.empty(0, np.int32), np.empty(0, dtype)
    X = examples.inputs_as("compressed", dtype, lambda: compress(examples.X, dtype))
    if is_sparse(X):
        X = X if X.has_sorted_indices else X.sorted_indices()
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
    return kernels.Data(
        *map(_writable, (dense, indptr[:-1], middles, indptr[1:], indices, values, targets, labels, weights))
    )


# Compressed rows that are looked at to find the middle.
_SAMPLE = 1000


def in_halves(shape: kernels.Shape, data: kernels.Data) -> tuple[kernels.Shape, kernels.Data]:
    """With the inputs in two halves, the same work each: of dense rows whole panels, of compressed rows by entries."""
    n, panel = int(shape.layers[0, kernels.SIZE]), shape.panel
    if not data.begins.size:
        return shape._replace(middle=n // 2 // panel * panel), data
    last = data.ends[:_SAMPLE][-1]
    entries = np.cumsum(np.bincount(data.indices[:last], minlength=n))
    middle = int(np.searchsorted(entries, entries[-1] / 2)) + 1
    middles = np.empty_like(data.begins)
    kernels.find_middles(data.begins, data.ends, data.indices, middle, middles)
    return shape._replace(middle=middle), data._replace(middles=middles)


@dataclass(frozen=True)
class CompressedRows:
    """The entries of a matrix that are not zero, row by row: row i has data[indptr[i] : indptr[i + 1]].

    What scipy calls CSR, under the same names, without the import of scipy (0.15 s).
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    shape: tuple[int, int]
    has_sorted_indices = True

    @property
    def nnz(self) -> int:
        return int(self.indptr[-1])


def compress(X: Any, dtype: np.dtype) -> Any:
    """The rows of X compressed, in this dtype, if enough entries are zero; else X as it is."""
    if is_sparse(X):
        return X
    X = np.ascontiguousarray(X, None if X.dtype.name in ("float32", "float64") else dtype)
    flat, counts = _writable(X.reshape(-1)), np.empty(len(X), np.int64)
    kernels.count_nonzeros(flat, *X.shape, counts)
    if counts.sum() >= plan.SPARSE_BELOW * X.size:
        return X
    indptr = np.concatenate([[0], np.cumsum(counts)])
    room = int(indptr[-1]) + X.shape[1]
    indices, values = np.empty(room, np.int32), np.empty(room, dtype)
    kernels.compress_rows(flat, *X.shape, indptr, indices, values)
    return CompressedRows(indptr, indices, values, X.shape)


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
