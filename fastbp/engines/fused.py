"""Whole runs of mini-batches inside one compiled call: gather, feedforward, BP1 to BP4, step.

The equations themselves stand in `kernels.py` (look for `# BP1` … `# BP4`); this module lays out memory for them.
"""

from typing import Any

import numpy as np

from fastbp import kernels, parameters
from fastbp.architecture import Architecture
from fastbp.data import Examples, is_sparse

# Below this share of entries that are not zero, the first layer runs over compressed rows: measured at batch 1 to 128,
# the dense product, which vectorises better, overtakes them at about 0.4 (docs/performance-notes.md).
SPARSE_BELOW = 0.4
# Rows in one block of a prediction.
PREDICTION_BLOCK = 64
_NO_STEPS = np.empty(0)


class FusedEngine:
    """Parameters in the kernels' packed layout, examples as flat arrays, buffers for one mini-batch."""

    name = "fused"

    def __init__(self, architecture: Architecture, theta: np.ndarray, examples: Examples, batch_size: int) -> None:
        self.architecture, self.batch_size = architecture, batch_size
        dtype = architecture.dtype
        self.shape = kernel_shape(architecture)
        self.work = workspace(self.shape, min(batch_size, max(len(examples), 1)), dtype)
        self.data = kernel_data(examples, architecture)
        self.packed = np.zeros(int(self.shape.bias_at[-1] + self.shape.padded[-1]), dtype)
        self.scale = np.ones(1, dtype)
        kernels.pack(self.shape, theta, self.packed)

    def train(self, order: np.ndarray, eta: np.ndarray, decay: float) -> None:
        self._run(kernels.TRAIN, self.work, self.data, order, self.batch_size, self.packed, eta, decay)

    def gradient(self, rows: np.ndarray) -> np.ndarray:
        nabla = np.zeros_like(self.packed)
        self._run(kernels.DIFFERENTIATE, self.work, self.data, rows, self.batch_size, nabla)
        return self._unpack(nabla, np.ones_like(self.scale))

    def prepare(self, examples: Examples) -> tuple[int, kernels.Data]:
        return len(examples), kernel_data(examples, self.architecture)

    def outputs(self, prepared: tuple[int, kernels.Data]) -> np.ndarray:
        (n, data), dtype = prepared, self.architecture.dtype
        out, block = np.empty((n, self.architecture.sizes[-1]), dtype), min(PREDICTION_BLOCK, n)
        self._run(kernels.PREDICT, workspace(self.shape, block, dtype), data, np.arange(n), block, out.reshape(-1))
        return out

    def _run(
        self,
        task: int,
        work: kernels.Work,
        data: kernels.Data,
        order: np.ndarray,
        batch_size: int,
        result: np.ndarray,
        eta: np.ndarray = _NO_STEPS,
        decay: float = 0.0,
    ) -> None:
        dtype, order = self.architecture.dtype, np.ascontiguousarray(order, np.int64)
        kernels.run(
            task, self.shape, self.packed, self.scale, work, data, order, batch_size,
            eta.astype(dtype), dtype.type(decay), result,
        )  # fmt: skip

    def _unpack(self, packed: np.ndarray, scale: np.ndarray) -> np.ndarray:
        theta = np.empty(parameters.count(self.architecture.sizes), packed.dtype)
        kernels.unpack(self.shape, packed, scale, theta)
        return theta

    def theta(self) -> np.ndarray:
        return self._unpack(self.packed, self.scale)

    def is_finite(self) -> bool:
        return bool(np.isfinite(self.packed).all() and np.isfinite(self.scale).all())

    def save_state(self) -> Any:
        return self.packed.copy(), self.scale.copy()

    def restore_state(self, state: Any) -> None:
        self.packed[:], self.scale[:] = state


def kernel_shape(architecture: Architecture) -> kernels.Shape:
    """Where everything lies in the packed layout."""
    lanes = kernels.VECTOR_BYTES // architecture.dtype.itemsize
    sizes = architecture.sizes
    padded = [sizes[0], *(-(-n // lanes) * lanes for n in sizes[1:])]
    weight_at, bias_at, at = [0], [0], 0
    for below, p in zip(sizes[:-1], padded[1:], strict=True):
        weight_at.append(at)
        bias_at.append(at + below * p)
        at += (below + 1) * p
    unit_at = [0, *np.cumsum(padded[:-1]).tolist()]
    codes = [-1, *(activation.code for activation in architecture.activations)]
    changed = [(l - 1, j, neuron.code) for (l, j), neuron in architecture.neurons.items()]

    def integers(values: Any) -> np.ndarray:
        return np.array(list(values), np.int64)

    return kernels.Shape(
        sizes=integers(sizes),
        padded=integers(padded),
        unit_at=integers(unit_at),
        weight_at=integers(weight_at),
        bias_at=integers(bias_at),
        activation=integers(codes),
        cost=architecture.cost.code,
        changed_layer=integers(layer for layer, _, _ in changed),
        changed_unit=integers(unit for _, unit, _ in changed),
        changed_activation=integers(code for _, _, code in changed),
    )


def workspace(shape: kernels.Shape, rows: int, dtype: np.dtype) -> kernels.Work:
    """Buffers for mini-batches of at most `rows` examples."""
    units = int(shape.unit_at[-1] + shape.padded[-1])
    transposed = max(shape.sizes[2:] * shape.padded[1:-1], default=0)
    changed = len(shape.changed_layer)
    counts = (rows * units, rows * units, rows * units, transposed, rows, rows, rows * changed)
    return kernels.Work(*(np.zeros(int(count), dtype) for count in counts))


def kernel_data(examples: Examples, architecture: Architecture) -> kernels.Data:
    """The examples as the kernels take them; rows with many zeros are compressed, once for the whole run."""
    dtype = architecture.dtype
    dense, indptr = np.empty(0, dtype), np.empty(0, np.int64)
    indices, values = np.empty(0, np.int32), np.empty(0, dtype)
    X = examples.X
    if is_sparse(X):
        indptr, indices = X.indptr.astype(np.int64, copy=False), X.indices.astype(np.int32, copy=False)
        values = X.data.astype(dtype, copy=False)
    else:
        X = np.ascontiguousarray(X, None if X.dtype.name in ("float32", "float64") else dtype)
        counts = np.empty(len(X), np.int64)
        kernels.count_nonzeros(_writable(X.reshape(-1)), *X.shape, counts)
        if counts.sum() < SPARSE_BELOW * X.size:
            indptr = np.concatenate([[0], np.cumsum(counts)])
            room = int(indptr[-1]) + X.shape[1]
            indices, values = np.empty(room, np.int32), np.empty(room, dtype)
            kernels.compress_rows(_writable(X.reshape(-1)), *X.shape, indptr, indices, values)
        else:
            dense = X.astype(dtype, copy=False).reshape(-1)
    targets, labels = np.empty(0, dtype), np.empty(0, np.int64)
    if examples.labels is not None:
        labels = examples.labels
    elif examples.Y is not None:
        targets = np.ascontiguousarray(examples.Y, dtype).reshape(-1)
    return kernels.Data(*map(_writable, (dense, indptr, indices, values, targets, labels)))


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
