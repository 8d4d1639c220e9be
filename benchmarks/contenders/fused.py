"""Whole runs of mini-batches inside one compiled call."""

from benchmarks.contenders.engines import EngineContender


class Contender(EngineContender):
    label = "fastbp fused"
    engine_name = "fused"
