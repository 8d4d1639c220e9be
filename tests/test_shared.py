"""Inputs that many fits share: read once, the same bits as ever."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numba.core.config import DISABLE_JIT
from test_at_once import ENGINES, lesson, same, trained

from fastbp import data


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shared_inputs_are_read_once_and_change_no_bit(engine, dtype, monkeypatch):
    X, y = lesson()
    read: list[str] = []
    original = data.cast
    monkeypatch.setattr(data, "cast", lambda array, dtype, name: (read.append(name), original(array, dtype, name))[1])
    shared = data.Shared(X)
    networks = [trained(shared, y, seed, engine=engine, dtype=dtype) for seed in range(3)]
    assert read == ["X"]
    assert all(same(network, trained(X, y, seed, engine=engine, dtype=dtype)) for seed, network in enumerate(networks))
    assert networks[0].score(shared, y) == networks[0].score(X, y)


@pytest.mark.skipif(DISABLE_JIT, reason="slow without compiled code")
def test_shared_inputs_are_compressed_once(monkeypatch):
    from fastbp.engines import fused

    X, y = lesson()
    calls: list[np.dtype] = []
    original = fused.compress
    monkeypatch.setattr(fused, "compress", lambda X, dtype: (calls.append(dtype), original(X, dtype))[1])
    shared = data.Shared(X)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: trained(shared, y, seed, engine="fused"), range(4)))
    assert calls == [np.float64]


def test_shared_inputs_that_do_not_fit_are_refused_each_time():
    X, y = lesson()
    for bad, message in ((data.Shared(X[:, 1:]), "takes 12 features"), (data.Shared(X * np.nan), "has nan in row 0")):
        for _ in range(2):
            with pytest.raises(ValueError, match=message):
                trained(bad, y)


def test_shared_inputs_travel_without_their_lock_and_without_what_was_made_of_them():
    X, y = lesson()
    shared = data.Shared(X)
    trained(shared, y, engine="matrix")
    there = pickle.loads(pickle.dumps(shared))
    np.testing.assert_array_equal(np.asarray(there), X)
    assert len(pickle.dumps(shared)) < X.nbytes + 1000
    assert same(trained(there, y), trained(X, y))


def test_a_thread_waits_for_what_another_is_making():
    shared, made = data.Shared(None), []
    ready = threading.Barrier(4)

    def ask() -> Any:
        ready.wait()
        return shared.once("form", lambda: made.append(1) or object())

    with ThreadPoolExecutor(4) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
    assert len(made) == 1 and len(set(map(id, answers))) == 1
