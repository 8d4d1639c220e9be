"""A run as one object: its state taken at any mini-batch and restored in a new run continues to the same bits."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import data, run, training

GO = run.Run.go
ENGINES = ("reference", "matrix", "fused")


def examples(n: int = 43) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5)) * (rng.random((n, 5)) < 0.6)
    return X, np.argmax(X[:, :3], axis=1)


class Counts:
    """A callback with a state of its own."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_train_begin(self, network: Any) -> None:
        self.calls.append("begin")

    def on_epoch_begin(self, network: Any, epoch: int) -> None:
        self.calls.append(f"epoch {epoch}")

    def on_epoch_end(self, network: Any, record: dict) -> None:
        self.calls.append(f"end {record['epoch']}")

    def on_train_end(self, network: Any, history: fastbp.History) -> None:
        self.calls.append(f"over {len(history)}")

    def state(self) -> dict[str, Any]:
        return {"calls": list(self.calls)}

    def restore(self, state: dict[str, Any]) -> None:
        self.calls = list(state["calls"])


class Takes:
    """A pause that takes the state wherever it is called, and asks to be called after each third mini-batch."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int, dict, Any]] = []

    def due(self, this: run.Run) -> int:
        return 3 * (this.batch // 3 + 1)

    def on_pause(self, this: run.Run) -> None:
        random = this.network._rng.bit_generator.state  # type: ignore[union-attr]
        self.taken.append((this.epoch, this.batch, this.state(), copy.deepcopy(random)))


def arrays_in(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(part)


def without_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_arrays(part) for key, part in value.items() if not isinstance(part, np.ndarray)}
    return [without_arrays(part) for part in value] if isinstance(value, list) else value


def seen(state: dict[str, Any]) -> int:
    return len(state["callbacks"][0]["calls"])


OPTIONS: dict[str, dict[str, Any]] = {
    "decay": {"eta": fastbp.Exponential(1.0, 0.9, by="step"), "lmbda": 2.0},
    "adam": {"optimizer": fastbp.Adam(fastbp.WarmUp(fastbp.HalveWhenStuck(0.05, patience=1), 7, by="step"))},
    "momentum": {"optimizer": fastbp.SGD(fastbp.Cosine(0.3, 5), momentum=0.9)},
    "regularised": {"eta": 0.5, "dropout": 0.3, "l1": 0.1, "max_norm": 2.0, "sample_weight": np.linspace(0, 2, 43)},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_goes_on_from_any_state(engine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = examples()
    options = {"epochs": 4, "batch_size": 5, "validation_data": (X[:9], y[:9]), **OPTIONS[name]}
    pauses, started = Takes(), run.Run.__init__

    def with_pause(self: run.Run, *args: Any, **given: Any) -> None:
        started(self, *args, **given, pauses=[pauses])

    monkeypatch.setattr(run.Run, "__init__", with_pause)
    net, callback = fastbp.Network([5, 4, 3], seed=1, engine=engine), Counts()
    history = net.fit(X, y, callbacks=[callback], **options)
    monkeypatch.undo()
    assert callback.calls[:3] == ["begin", "epoch 0", "end 0"] and callback.calls[-1] == "over 4"
    assert {batch for _, batch, *_ in pauses.taken} >= {0, 3, 6, 9}
    middle = [taken for taken in pauses.taken if taken[1] in (0, 6, 9)]
    for epoch, batch, state, random in middle:
        json.dumps(without_arrays(state), allow_nan=False)
        assert state["step"] == 9 * epoch + batch
        kept = copy.deepcopy(state)
        other, again = fastbp.Network([5, 4, 3], seed=2, engine=engine), Counts()

        def resumed(self: run.Run, state: dict = state, random: Any = random) -> fastbp.History:
            self.restore(state)
            self.network._rng.bit_generator.state = random  # type: ignore[union-attr]
            return GO(self)

        monkeypatch.setattr(run.Run, "go", resumed)
        later = other.fit(X, y, callbacks=[again], **options)
        monkeypatch.undo()
        for ours, theirs in zip((*net.biases, *net.weights), (*other.biases, *other.weights), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for column in ("epoch", "eta", "validation_cost", "validation_score"):
            assert history[column] == later[column]
        assert again.calls == [*state["callbacks"][0]["calls"], "begin", *callback.calls[seen(state) :]]
        for before, after in zip(arrays_in(kept), arrays_in(state), strict=True):
            np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_mini_batch_has_its_own_step_size(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine mini-batches with nine step sizes are nine fits of one each; and where runs end plays no part."""
    X, y = examples()
    eta = fastbp.Exponential(2.0, 0.7, by="step")
    whole, parts, single = (fastbp.Network([5, 4, 3], seed=1, engine=engine) for _ in range(3))
    whole.fit(X, y, epochs=1, batch_size=5, eta=eta, shuffle=False)
    for step in range(9):
        rows = slice(5 * step, 5 * step + 5)
        parts.fit(X[rows], y[rows], epochs=1, batch_size=5, eta=2.0 * 0.7**step, shuffle=False)
    monkeypatch.setattr(training, "RUN_SECONDS", 0.0)
    single.fit(X, y, epochs=1, batch_size=5, eta=eta, shuffle=False)
    for a, b, c in zip(whole.weights, parts.weights, single.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
        np.testing.assert_array_equal(a, c)


def test_divergence_names_the_step_size_of_its_mini_batch() -> None:
    X, _ = examples()
    net = fastbp.Network([5, 3], output="identity", seed=1)
    with pytest.raises(fastbp.DivergenceError, match=r"than eta=1e\+250"):
        net.fit(X, X[:, :3] + 1, epochs=2, batch_size=10, eta=fastbp.Exponential(1e150, 1e100, by="step"))


def test_a_callback_needs_on_epoch_end_and_no_more() -> None:
    class Short:
        def on_epoch_end(self, network: Any, record: dict) -> None: ...

    X, y = examples()
    fastbp.Network([5, 3], seed=1).fit(X, y, epochs=1, eta=0.1, callbacks=[Short()])
    with pytest.raises(TypeError, match="callbacks need a method on_epoch_end"):
        fastbp.Network([5, 3], seed=1).fit(X, y, epochs=1, eta=0.1, callbacks=[object()])


def test_what_a_callback_changes_at_the_beginning_is_trained_on() -> None:
    class Clears:
        def on_train_begin(self, network: Any) -> None:
            network.weights[0][...] = 0

        def on_epoch_end(self, network: Any, record: dict) -> None: ...

    X, y = examples()
    nets = [fastbp.Network([5, 4, 3], seed=1) for _ in range(2)]
    nets[0].weights[0][...] = 0
    nets[0].fit(X, y, epochs=2, eta=0.5)
    nets[1].fit(X, y, epochs=2, eta=0.5, callbacks=[Clears()])
    np.testing.assert_array_equal(nets[0].weights[1], nets[1].weights[1])


def test_the_loop_takes_one_step_size_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """`SGD` gives a number, `fit` an array."""
    X, y = examples()
    thetas = []
    for eta in (0.5, np.full(9, 0.5)):
        net = fastbp.Network([5, 4, 3], seed=1, engine="matrix")
        read, _ = data.read_examples(net.architecture, X, y)
        trainer = training.Trainer(net._start_engine(read, 5), 5)
        trainer.run_epoch(0, np.arange(len(X)), eta)
        thetas.append(trainer.engine.theta())
    np.testing.assert_array_equal(*thetas)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_carries_the_split_and_early_stopping(engine: str, tmp_path: Path) -> None:
    class Dies:
        def on_epoch_end(self, network: Any, record: dict) -> None:
            if record["epoch"] == 3:
                raise MemoryError

        def state(self) -> dict:
            return {}

        def restore(self, state: dict) -> None:
            self.on_epoch_end = lambda network, record: None  # type: ignore[method-assign]

    X, y = examples(80)
    options: dict[str, Any] = {
        "epochs": 12,
        "batch_size": 7,
        "optimizer": fastbp.Adam(0.05),
        "validation_fraction": 0.25,
        "early_stopping": fastbp.EarlyStopping("validation_cost", patience=2, minimum_delta=1e-4),
        "monitor_training": True,
    }
    whole, cut, again = (fastbp.Network([5, 4, 3], seed=1, engine=engine) for _ in range(3))
    history = whole.fit(X, y, **options)
    path = tmp_path / "run.checkpoint"
    with pytest.raises(MemoryError):
        cut.fit(X, y, callbacks=[Dies()], checkpoint=fastbp.Checkpoint(path, every_batches=5), **options)
    later = again.fit(X, y, callbacks=[Dies()], resume=path, **options)
    np.testing.assert_array_equal(whole._theta(), again._theta())
    for column in ("validation_cost", "training_score", "gap"):
        assert history[column] == later[column]
    assert history.best_epoch == later.best_epoch
    with pytest.raises(fastbp.CheckpointError, match=r"validation_fraction is 0.25 in the checkpoint, but 0.2 here"):
        again.fit(X, y, callbacks=[Dies()], resume=path, **{**options, "validation_fraction": 0.2})
