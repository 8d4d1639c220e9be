"""Networks that train at the same time do not disturb each other: BLAS pools are put back, forks work."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.linalg.blas  # noqa: F401  before its pool is looked at
import threadpoolctl
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import threads

ENGINES = ("matrix", pytest.param("fused", marks=pytest.mark.skipif(DISABLE_JIT, reason="slow without compiled code")))


def pools() -> list[int]:
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]


def lesson(n: int = 300, n_in: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, n_in)) * (rng.random((n, n_in)) < 0.3)
    return X, rng.integers(0, 3, n)


def trained(X: Any, y: np.ndarray, seed: int = 0, **arguments: Any) -> fastbp.Network:
    network = fastbp.Network([12, 8, 3], seed=seed, **arguments)
    network.fit(X, y, epochs=3, batch_size=7, eta=0.5, verbose=False)
    return network


def same(network: fastbp.Network, other: fastbp.Network) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(network.weights, other.weights, strict=True))


@pytest.fixture
def several():
    """More than one BLAS thread to begin with, whatever the machine has."""
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        yield pools()


def test_pools_are_put_back_by_the_last_of_two_that_overlap(several):
    first, second = threads.one_for_blas(), threads.one_for_blas()
    first.__enter__()
    second.__enter__()
    assert set(pools()) == {1}
    first.__exit__(None, None, None)
    assert set(pools()) == {1}, "the second still counts on it"
    second.__exit__(None, None, None)
    assert pools() == several


def test_pools_are_put_back_after_an_exception(several):
    with pytest.raises(RuntimeError), threads.one_for_blas():
        raise RuntimeError
    assert pools() == several
    with threads.for_products(threads.WORTH_THREADS):
        assert pools() == several


@pytest.mark.parametrize("engine", ENGINES)
def test_networks_in_many_threads_learn_what_each_learns_alone(engine, several):
    X, y = lesson()
    alone = [trained(X, y, seed, engine=engine) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: trained(X, y, seed, engine=engine), range(8)))
    assert all(map(same, alone, together))
    assert pools() == several


def in_child(results: Any, X: np.ndarray, y: np.ndarray) -> None:
    results.put(trained(X, y, engine="matrix"))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_after_a_fit_can_train_even_if_a_thread_held_the_lock():
    X, y = lesson()
    alone = trained(X, y, engine="matrix")
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    with threads._lock:
        child = context.Process(target=in_child, args=(results, X, y))
        child.start()
    network = results.get()
    child.join()
    assert same(network, alone)
