"""One example at a time, as the equations read: the baseline of the ratios."""

from benchmarks.contenders.engines import EngineContender


class Contender(EngineContender):
    label = "fastbp reference"
    engine_name = "reference"
