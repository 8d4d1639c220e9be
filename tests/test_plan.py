"""The plan: which engine, why, and what is refused."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_array

import fastbp
from fastbp import Network, Plan, engines, plan
from fastbp.engines.plan import check_engine, density, make_plan

OWN = (np.sin, np.cos)


# --- the choice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 10, 128])
@pytest.mark.parametrize("sizes", [[784, 30, 10], [8, 32, 16, 4], [784, 512, 512, 10], [2, 1]])
def test_auto_takes_the_least_predicted_time(sizes: list[int], batch_size: int) -> None:
    made = plan(Network(sizes), batch_size=batch_size)
    assert set(made.seconds) == set(engines.NAMES)
    assert made.seconds[made.engine] == min(made.seconds.values()) > 0
    assert made.reason.startswith("the least predicted time")


def test_the_book_s_network_is_compiled() -> None:
    assert plan(Network([784, 30, 10])).engine == "fused"


@pytest.mark.parametrize("where", [{"hidden": OWN}, {"output": OWN}, {"neurons": {(2, 1): OWN}}])
def test_functions_of_one_s_own_are_not_compiled(where: dict) -> None:
    made = plan(Network([784, 30, 10], **where))
    assert set(made.seconds) == {"reference", "matrix"}
    assert made.engine in made.seconds
    assert made.reason == "it uses functions of your own, which cannot be compiled; reference and matrix call them"
    with pytest.raises(ValueError, match="engine='fused' compiles whole mini-batches and cannot call a user's own"):
        Network([784, 30, 10], engine="fused", **where)


def test_training_takes_the_planned_engine() -> None:
    X, Y = np.random.default_rng(0).normal(size=(20, 4)), np.zeros((20, 2))
    for options in ({}, {"hidden": OWN}, {"engine": "reference"}, {"engine": "matrix"}, {"engine": "fused"}):
        net = Network([4, 3, 2], seed=0, **options)
        assert net.fit(X, Y, epochs=1, eta=0.1).engine == plan(net).engine


@pytest.mark.parametrize("engine", engines.NAMES)
def test_an_engine_that_was_asked_for(engine: str) -> None:
    auto, made = plan(Network([784, 30, 10])), plan(Network([784, 30, 10], engine=engine))
    assert made.engine == engine
    assert made.seconds == auto.seconds and made.flops == auto.flops and made.bytes == auto.bytes
    asked = f"engine={engine!r} was asked for"
    assert made.reason == (asked if engine == auto.engine else f"{asked}; auto would take {auto.engine}")


def test_a_plan_never_asks_the_clock() -> None:
    assert len({str(plan(Network([784, 30, 10]), batch_size=10, density=0.2)) for _ in range(5)}) == 1


# --- its figures --------------------------------------------------------------------------------------------


def test_flops() -> None:
    # forward and BP4: 2 m n_l n_{l-1} each, every layer; BP2: the same, but for the first weights
    forward = 2 * 10 * (784 * 30 + 30 * 10)
    assert plan(Network([784, 30, 10]), batch_size=10).flops == 2 * forward + 2 * 10 * 30 * 10
    assert plan(Network([7, 3]), batch_size=5).flops == 2 * (2 * 5 * 7 * 3)


def test_bytes() -> None:
    parameters, units = 784 * 30 + 30 + 30 * 10 + 10, 10 * (784 + 30 + 10)
    assert plan(Network([784, 30, 10]), batch_size=10).bytes == 8 * (parameters + 3 * units)
    assert plan(Network([784, 30, 10], dtype="float32"), batch_size=10).bytes == 4 * (parameters + 3 * units)


def test_times_grow_with_the_work() -> None:
    net = Network([784, 30, 10])
    for name in engines.NAMES:
        by_batch = [plan(net, batch_size=m).seconds[name] for m in (1, 10, 100, 1000)]
        assert by_batch == sorted(by_batch) and by_batch[0] < by_batch[-1]
        single = plan(Network([784, 30, 10], dtype="float32"), batch_size=100).seconds[name]
        assert single <= plan(net, batch_size=100).seconds[name]
    by_density = [plan(net, density=share).seconds["fused"] for share in (0.0, 0.1, 0.3, 1.0)]
    assert by_density == sorted(by_density) and by_density[0] < by_density[-1]


def test_density_of_data() -> None:
    X = np.zeros((10, 4))
    X[:, 0] = 1
    assert density(X) == density(csr_array(X)) == 0.25
    assert density(np.zeros((0, 4))) == density(csr_array((0, 4))) == 0


def test_density_looks_at_256_rows_spread_over_all() -> None:
    class Rows(np.ndarray):
        """Remembers how many rows were looked at."""

        looked: int = 0

        def __getitem__(self, key: slice) -> np.ndarray:  # type: ignore[override]
            rows = self.view(np.ndarray)[key]
            Rows.looked = len(rows)
            return rows

    for n in (1, 255, 256, 257, 511, 512, 100_000):
        X = np.zeros((n, 1)).view(Rows)
        X.view(np.ndarray)[n // 2 :] = 1
        assert density(X) == pytest.approx(0.5, abs=0.01) or n == 1
        assert min(n, 128) <= Rows.looked <= 256


# --- how it reads -------------------------------------------------------------------------------------------


def test_printing() -> None:
    made = Plan("fused", 10, 964_000, 239_000, {"matrix": 1.4e-4, "fused": 2.35e-5, "reference": 1.0e-2}, "so it is")
    assert str(made).splitlines() == [
        "engine      fused",
        "because     so it is",
        "mini-batch  10 examples: 0.964 MFLOP, 233 KiB",
        "predicted   fused            23.5 µs",
        "predicted   matrix          140.0 µs",
        "predicted   reference    10,000.0 µs",
    ]
    assert "\n" not in made.reason


def test_a_plan_is_a_record() -> None:
    made = plan(Network([3, 2]))
    assert isinstance(made, fastbp.Plan) and made.batch_size == 10
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.engine = "matrix"  # type: ignore[misc]
    assert made == make_plan(Network([3, 2]).architecture, 10, 1.0)


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"batch_size": -3}, ValueError, "batch_size must be at least 1, got -3"),
        ({"batch_size": 2.7}, TypeError, "batch_size must be a whole number, got 2.7"),
        ({"batch_size": "10"}, TypeError, "batch_size must be a whole number, got '10'"),
        ({"density": -0.1}, ValueError, "density is a share of the entries, 0 to 1; got -0.1"),
        ({"density": 1.5}, ValueError, "density is a share of the entries, 0 to 1; got 1.5"),
        ({"density": np.nan}, ValueError, "density is a share of the entries, 0 to 1; got nan"),
    ],
)
def test_what_is_refused(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan(Network([3, 2]), **options)


@pytest.mark.parametrize("name", ["Fused", "numba", "", None, 1])
def test_there_is_no_such_engine(name: object) -> None:
    with pytest.raises(ValueError, match=r"engine=.* is none of auto, reference, matrix, fused"):
        check_engine(name, Network([3, 2]).architecture)
    with pytest.raises(ValueError, match=r"engine=.* is none of auto, reference, matrix, fused"):
        Network([3, 2], engine=name)  # type: ignore[arg-type]
