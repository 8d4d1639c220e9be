"""Whole mini-batches as matrix products of NumPy and BLAS."""

from benchmarks.contenders.engines import EngineContender


class Contender(EngineContender):
    label = "fastbp matrix"
    engine_name = "matrix"
