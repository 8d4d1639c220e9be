"""A results file, and what can be read off it: times, ratios, and which goals are met."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contenders import OURS, PEERS
from benchmarks.measure import Row
from benchmarks.workloads import WORKLOADS

FOLDER = Path(__file__).parent / "results"
FORMAT = 1
ENGINES = ("fused", "matrix")
LABELS = {
    "fused": "fastbp fused",
    "matrix": "fastbp matrix",
    "reference": "fastbp reference",
    "auto": "fastbp fit",
    "book_sgd": "fastbp Network.SGD",
    "per_example": "per-example NumPy",
    "numpy_batch": "NumPy batch",
    "sklearn_mlp": "scikit-learn",
    "torch_eager": "PyTorch eager",
    "torch_compile": "PyTorch compiled",
    "jax_scan": "JAX jit + scan",
}


class Results:
    """One run of `python -m benchmarks`."""

    def __init__(self, content: dict[str, Any], path: Path | None = None) -> None:
        if content.get("format") != FORMAT:
            raise ValueError(f"{path or 'results'}: format {content.get('format')!r}, but this program reads {FORMAT}")
        self.content, self.path = content, path
        self.rows: list[Row] = content["rows"]

    @classmethod
    def read(cls, path: Path) -> "Results":
        return cls(json.loads(path.read_text()), path)

    @classmethod
    def latest(cls) -> "Results":
        """The newest file in benchmarks/results by the date inside. FileNotFoundError if there is none."""
        found = [cls.read(path) for path in FOLDER.glob("*.json")]
        if not found:
            raise FileNotFoundError(f"no results in {FOLDER}; run python -m benchmarks first")
        return max(found, key=lambda results: results.content["machine"]["date"])

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.content, indent=1) + "\n")

    @property
    def machine(self) -> dict[str, Any]:
        return self.content["machine"]

    @property
    def kernels(self) -> list[str]:
        """The processors whose kernels the BLAS of the contenders took; none in files of before that was recorded."""
        found = {pool.get("architecture") for pools in self.content["pools"].values() for pool in pools}
        return sorted(found - {None})

    def select(self, **wanted: Any) -> list[Row]:
        """The rows with these values; `part` is workloads, batch or width."""
        return [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]

    def best(self, workload: str, contender: str, dtype: str, threads: int | None = None) -> Row | None:
        """A contender's row at the number of threads that suits it best, or at the given one; None if not timed."""
        rows = self.select(workload=workload, contender=contender, dtype=dtype, status="timed")
        rows = [row for row in rows if threads in (None, row["threads"])]
        return min(rows, key=lambda row: row["seconds"], default=None)

    def best_of(self, contenders: tuple[str, ...], workload: str, dtype: str, threads: int | None = None) -> Row | None:
        """The fastest of several contenders; what runs another algorithm does not count."""
        rows = [row for name in contenders if (row := self.best(workload, name, dtype, threads))]
        rows = [row for row in rows if not row["caveat"]]
        return min(rows, key=lambda row: row["seconds"], default=None)

    def best_peer(self, workload: str, dtype: str, threads: int | None = None) -> Row | None:
        return self.best_of(PEERS, workload, dtype, threads)

    def best_engine(self, workload: str, dtype: str, threads: int | None = None) -> Row | None:
        return self.best_of(ENGINES, workload, dtype, threads)

    def dtypes(self, workload: str) -> list[str]:
        return sorted({row["dtype"] for row in self.select(workload=workload)})

    def measured(self) -> list[tuple[str, str]]:
        """(workload, dtype) of the tables, in the order of the workloads."""
        return [(name, dtype) for name in WORKLOADS for dtype in self.dtypes(name)]

    @property
    def sweeps(self) -> list[Row]:
        """Who trained many networks; none in files of before that was measured."""
        return self.content.get("sweep", [])

    def swept(self, contender: str) -> Row | None:
        """The timed row of one of them."""
        timed = (row for row in self.sweeps if row["contender"] == contender and row["status"] == "timed")
        return next(timed, None)

    def started(self, what: str) -> float | None:
        """Median seconds of a row of the start."""
        return next((row["seconds"] for row in self.content["start"] if row["what"] == what), None)


def seconds_of(row: Row | None) -> float | None:
    return None if row is None else row["seconds"]


def ratio(slow: Row | float | None, fast: Row | float | None) -> float | None:
    """How many times faster; None where one of the two was not measured."""
    slow, fast = (seconds_of(x) if isinstance(x, dict) else x for x in (slow, fast))
    return None if not slow or not fast else slow / fast


Measure = Callable[[Results, int | None], float | None]


class Goal(NamedTuple):
    """A bar: the figure that `measure` finds (None if this run does not have it) must reach it, or stay below.

    `measure(results, threads)`: with None, everyone at the number of threads that suits them best.
    """

    what: str
    bar: float
    measure: Measure
    at_most: bool = False
    unit: str = "x"

    def met(self, figure: float) -> bool:
        return figure <= self.bar if self.at_most else figure >= self.bar


def _against(contender: str, workload: str, dtype: str, ours: str = "engine") -> Measure:
    def measure(results: Results, threads: int | None) -> float | None:
        if ours == "engine":
            mine = results.best_engine(workload, dtype, threads)
        else:
            mine = results.best(workload, ours, dtype, threads)
        if contender == "best peer":
            return ratio(results.best_peer(workload, dtype, threads), mine)
        return ratio(results.best(workload, contender, dtype, threads), mine)

    return measure


def _product_share(workload: str) -> Measure:
    def measure(results: Results, threads: int | None) -> float | None:
        row = results.best_engine(workload, "float32", results.machine["cpus"])
        return None if row is None else share_of_products(row)

    return measure


def share_of_products(row: Row) -> float | None:
    """The time of a mini-batch's bare products over that of the mini-batch: 1 would be nothing but products."""
    if not row.get("products"):
        return None
    return sorted(row["products"])[len(row["products"]) // 2] / row["seconds"]


def _features_cost(workload: str) -> Measure:
    """A mini-batch with everything on, over that of plain gradient descent and one sweep of the optimizer."""

    def measure(results: Results, threads: int | None) -> float | None:
        row = results.best(workload, "fused", "float32", threads)
        plain = results.best(WORKLOADS[workload].plain, "fused", "float32", threads)
        if row is None or plain is None or not row.get("sweep"):
            return None
        return row["seconds"] / (plain["seconds"] + sorted(row["sweep"])[len(row["sweep"]) // 2])

    return measure


def _start_ratio(results: Results, threads: int | None) -> float | None:
    return ratio(results.started("from fastbp import Network"), results.started("import numpy"))


def _start(what: str) -> Measure:
    return lambda results, threads: results.started(what)


def _sweep_share(results: Results, threads: int | None) -> float | None:
    return ratio(results.swept("fastbp_sweep"), results.swept("one_after_another"))


def _memory(results: Results, threads: int | None) -> float | None:
    return max((row["beyond"] / row["data"] for row in results.content["memory"]), default=None)


def plan_points(results: Results) -> list[dict[str, Any]]:
    """For each network that was planned and measured: the engine taken, how much slower than the fastest, and how far
    its time lies from the predicted one (as a factor ≥ 1)."""
    points = []
    for plan in results.content["plans"]:
        key = {"workload": plan["workload"], "dtype": plan["dtype"]}
        timed = {name: row["seconds"] for name in OURS[:3] if (row := results.best(**key, contender=name))}
        if plan["engine"] not in timed:
            continue
        seconds, predicted = timed[plan["engine"]], plan["seconds"][plan["engine"]]
        points.append({
            **key, "engine": plan["engine"], "fastest": min(timed, key=timed.__getitem__),
            "loss": seconds / min(timed.values()), "off": max(seconds / predicted, predicted / seconds),
            "predicted": predicted, "measured": seconds,
        })  # fmt: skip
    return points


def _worst(key: str) -> Measure:
    return lambda results, threads: max((point[key] for point in plan_points(results)), default=None)


GOALS = (
    Goal("S1 float32 against the per-example reference", 60, _against("reference", "S1", "float32")),
    Goal("S1 float32 against JAX", 5, _against("jax_scan", "S1", "float32")),
    Goal("S1 float32 against PyTorch", 30, _against("torch_eager", "S1", "float32")),
    Goal("S1 float64, fit, against the per-example reference", 35, _against("reference", "S1", "float64", "auto")),
    Goal("S1 float64, fit, against JAX", 4, _against("jax_scan", "S1", "float64", "auto")),
    Goal("the book's call, 30 epochs, against its way", 30, _against("per_example", "B1", "float64", "book_sgd")),
    Goal("S2 float32 against the best peer", 4, _against("best peer", "S2", "float32")),
    Goal("S3 float32 against the best peer", 4, _against("best peer", "S3", "float32")),
    Goal("T1 float32 against the best peer", 4, _against("best peer", "T1", "float32")),
    Goal("M1 float32 against the best peer", 2, _against("best peer", "M1", "float32")),
    Goal("S1 with Adam (A1), float32, against JAX", 3, _against("jax_scan", "A1", "float32")),
    Goal("S1 with Adam, dropout, weights (R1), float32, against JAX", 3, _against("jax_scan", "R1", "float32")),
    Goal("A1 float32 against S1 and one sweep of Adam", 1.15, _features_cost("A1"), at_most=True),
    Goal("R1 float32 against S1 and one sweep of Adam", 1.15, _features_cost("R1"), at_most=True),
    Goal("L1 float32 against the best peer", 1.3, _against("best peer", "L1", "float32")),
    Goal("X1 float32 against the best peer", 1.3, _against("best peer", "X1", "float32")),
    Goal("L1 float32, share of the bare products' rate", 0.9, _product_share("L1"), unit="share"),
    Goal("X1 float32, share of the bare products' rate", 0.9, _product_share("X1"), unit="share"),
    Goal("dense Gaussian input, S1's shape, float32, against JAX", 3, _against("jax_scan", "G1", "float32")),
    Goal("`from fastbp import Network` against `import numpy`", 1.5, _start_ratio, at_most=True),
    Goal("first epoch of S1, warm cache", 1.5, _start("first epoch, warm cache, float32"), at_most=True, unit="s"),
    Goal("first epoch of S1, empty cache", 10, _start("first epoch, empty cache, float32"), at_most=True, unit="s"),
    Goal("memory beyond the caller's arrays, in data matrices", 1.3, _memory, at_most=True),
    Goal("many networks in a sweep, share of the time of one after another", 0.6, _sweep_share, True, "share"),
    Goal("the plan's engine against the fastest, worst point", 1.1, _worst("loss"), at_most=True),
    Goal("the plan's time against the measured, worst point", 1.5, _worst("off"), at_most=True),
)


def judged(results: Results) -> list[tuple[Goal, float | None, float | None]]:
    """Every goal and its figure in this run; for ratios between contenders also with everyone at the most threads."""
    most = max(results.content["threads"])
    out = []
    for goal in GOALS:
        figure, same = goal.measure(results, None), goal.measure(results, most)
        out.append((goal, figure, same if same != figure else None))
    return out
