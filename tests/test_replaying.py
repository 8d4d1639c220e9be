"""Replay: the mini-batch that a checkpoint shows is the one that the run went through."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import container, resuming, training
from fastbp.errors import CheckpointError, ModelFileError

pytestmark = pytest.mark.usefixtures("streams_kept")
ENGINES = ("reference", "matrix", "fused")
N, M = 43, 5
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 5)) * (rng.random((N, 5)) < 0.6)
Y = np.argmax(X[:, :3], axis=1)


class Step:
    """One mini-batch as the run went through it."""

    def __init__(self, epoch: int, batch: int, rows: np.ndarray, before: np.ndarray) -> None:
        self.epoch, self.batch, self.rows, self.before = epoch, batch, rows, before
        self.after = before


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Every mini-batch of a run, each in a compiled run of its own."""
    seen: list[Step] = []
    train = training.Trainer._train

    def watched(self: training.Trainer, order: np.ndarray, etas: Any, start: int, stop: int, *others: Any) -> None:
        assert stop == start + 1
        epoch = sum(step.batch == start for step in seen)
        rows = order[start * self.batch_size : stop * self.batch_size]
        seen.append(Step(epoch, start, rows.copy(), self.engine.theta()))
        train(self, order, etas, start, stop, *others)
        seen[-1].after = self.engine.theta()

    monkeypatch.setattr(training, "RUN_SECONDS", 0.0)
    monkeypatch.setattr(training.Trainer, "_train", watched)
    return seen


def flat(found: fastbp.MiniBatch, what: str = "parameters") -> np.ndarray:
    biases, weights = (found.biases, found.weights) if what == "parameters" else (found.nabla_b, found.nabla_w)
    return np.concatenate([np.concatenate([b.ravel(), w.ravel()]) for b, w in zip(biases, weights, strict=True)])


def by_layer(theta: np.ndarray) -> np.ndarray:
    """theta in the order of `flat`, whatever its own is."""
    from fastbp import parameters

    biases, weights = parameters.views((5, 4, 3), theta)
    return np.concatenate([np.concatenate([b.ravel(), w.ravel()]) for b, w in zip(biases, weights, strict=True)])


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"eta": 0.5},
    "adam": {"optimizer": fastbp.Adam(fastbp.WarmUp(fastbp.Cosine(0.1, 20, by="step"), 7, by="step")), "lmbda": 0.3},
    "fraction": {"eta": 0.5, "validation_fraction": 0.3},
    "in order": {"eta": 0.5, "shuffle": False},
}
REGULARIZED = {
    "dropout": {"eta": 0.5, "dropout": 0.4, "label_smoothing": 0.1, "class_weight": {1: 3.0}},
    "limits": {"eta": 0.5, "l1": 0.2, "max_norm": 1.5, "sample_weight": np.linspace(0, 2, N)},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [*OPTIONS, *REGULARIZED])
def test_shows_what_the_run_went_through(engine: str, name: str, tmp_path: Path, steps: list[Step]) -> None:
    path = tmp_path / "c"
    options = {**OPTIONS, **REGULARIZED}[name]
    net = fastbp.Network([5, 4, 3], seed=1, engine=engine)
    net.fit(X, Y, epochs=4, batch_size=M, checkpoint=fastbp.Checkpoint(path, every_batches=22), **options)
    kept = resuming.load(path).state["run"]
    assert kept["batch"] == 0  # the end of the run: the next epoch is drawn by replay
    net.fit(X, Y, epochs=5, batch_size=M, resume=path, **options)  # and by the run, when it goes on
    went = list(steps)
    for batch in (0, 3, len([step for step in went if step.epoch == 0]) - 1):
        compare(fastbp.replay(path, X, Y, batch=batch), went, epoch=4, batch=batch, options=options)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", OPTIONS)
def test_any_mini_batch_of_an_epoch_under_way(
    engine: str, name: str, tmp_path: Path, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the checkpoint, at it and after it."""
    path, save = tmp_path / "c", container.save

    def once(where: Any, tensors: dict, metadata: dict, **kind: Any) -> None:
        if len(steps) <= 11:
            save(where, tensors, metadata, **kind)

    monkeypatch.setattr(container, "save", once)
    net = fastbp.Network([5, 4, 3], seed=1, engine=engine)
    net.fit(X, Y, epochs=3, batch_size=M, checkpoint=fastbp.Checkpoint(path, every_batches=11), **OPTIONS[name])
    run = resuming.load(path).state["run"]
    assert run["epoch"] == 1 and run["batch"] > 1
    went = list(steps)
    for batch in (0, 1, run["batch"], run["batch"] + 1):
        compare(fastbp.replay(path, X, Y, batch=batch), went, epoch=1, batch=batch, options=OPTIONS[name])


def compare(found: fastbp.MiniBatch, went: list[Step], epoch: int, batch: int, options: dict) -> None:
    [step] = [step for step in went if (step.epoch, step.batch) == (epoch, batch)]
    assert (found.epoch, found.batch) == (epoch, batch)
    np.testing.assert_array_equal(found.rows, step.rows)
    assert flat(found).tobytes() == by_layer(step.before).tobytes()
    assert found.n_batches == max(step.batch for step in went) + 1
    if options.get("eta") and not options.keys() & {"l1", "max_norm"}:  # plain descent: the step is -η times it
        slope = (by_layer(step.before) - by_layer(step.after)) / found.eta
        np.testing.assert_allclose(flat(found, "gradient"), slope, rtol=1e-9, atol=1e-12)
    norms = [(np.linalg.norm(w), np.linalg.norm(b)) for w, b in zip(found.nabla_w, found.nabla_b, strict=True)]
    np.testing.assert_allclose(found.gradient_norms, norms, rtol=1e-12)
    shown = fastbp.Network([5, 4, 3], seed=1)
    shown.biases, shown.weights, shown.classes_ = found.biases, found.weights, np.arange(3)
    A, onehot = shown.outputs(X[found.rows]), np.eye(3)[Y[found.rows]]
    np.testing.assert_allclose(found.costs, 0.5 * np.sum((A - onehot) ** 2, axis=1), rtol=1e-12)


@pytest.mark.parametrize(
    "shuffle",
    [
        {"seed": None},
        {"seed": None, "shuffle": random.shuffle},
        {"seed": 1, "shuffle": random.Random(3).shuffle},
        {"seed": 1, "shuffle": np.random.RandomState(3).shuffle},
        {"seed": 1, "shuffle": np.random.Generator(np.random.MT19937(3)).shuffle},
        {"seed": 1, "shuffle": np.random.Generator(np.random.SFC64(3)).shuffle},
    ],
)
def test_draws_the_next_order_as_the_run_will(shuffle: dict, tmp_path: Path, steps: list[Step]) -> None:
    path = tmp_path / "c"
    net = fastbp.Network([5, 4, 3], engine="matrix", **shuffle)
    net.fit(X, Y, epochs=2, eta=0.5, batch_size=M, checkpoint=fastbp.Checkpoint(path))
    streams = random.getstate(), np.random.get_state(legacy=False)
    seen = len(steps)
    found = fastbp.replay(path, X, Y, batch=4)
    np.testing.assert_equal((random.getstate(), np.random.get_state(legacy=False)), streams)  # none was moved
    del steps[seen:]
    net.fit(X, Y, epochs=3, eta=0.5, batch_size=M, resume=path)
    compare(found, steps, epoch=2, batch=4, options={"eta": 0.5})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "c"
    net = fastbp.Network([5, 4, 3], seed=1, engine="matrix")
    net.fit(X, Y, epochs=2, eta=0.5, batch_size=M, checkpoint=fastbp.Checkpoint(path))
    return path


def test_what_replay_refuses(kept: Path, tmp_path: Path) -> None:
    for batch in (-1, 9):
        with pytest.raises(CheckpointError, match=f"has the mini-batches 0 to 8; batch={batch} is none of them"):
            fastbp.replay(kept, X, Y, batch=batch)
    with pytest.raises(TypeError, match=r"batch must be a whole number, got 1\.5"):
        fastbp.replay(kept, X, Y, batch=1.5)
    with pytest.raises(CheckpointError, match="run on other data: X differs"):
        fastbp.replay(kept, X + 1, Y, batch=0)
    with pytest.raises(CheckpointError, match="run on other data: y differs"):
        fastbp.replay(kept, X, (Y + 1) % 3, batch=0)
    with pytest.raises(CheckpointError, match="run on other data: examples differs"):
        fastbp.replay(kept, X[1:], Y[1:], batch=0)
    with pytest.raises(FileNotFoundError):
        fastbp.replay(tmp_path / "none", X, Y, batch=0)
    model = tmp_path / "model"
    fastbp.Network([5, 4, 3], seed=1).save(model)
    with pytest.raises(ModelFileError, match="kind 'fastbp-model'"):
        fastbp.replay(model, X, Y, batch=0)


def test_functions_of_the_user_s_own(tmp_path: Path) -> None:
    """They can be resumed by the program that has them, and not be replayed from the file alone."""
    own = (np.tanh, lambda z: 1 - np.tanh(z) ** 2)
    nets = [fastbp.Network([5, 4, 3], hidden=own, seed=1) for _ in range(2)]
    nets[0].fit(X, Y, epochs=3, eta=0.1, checkpoint=fastbp.Checkpoint(tmp_path / "c"))
    nets[1].fit(X, Y, epochs=3, eta=0.1, resume=tmp_path / "c")
    np.testing.assert_array_equal(nets[0].weights[0], nets[1].weights[0])
    with pytest.raises(CheckpointError, match="functions of your own, which no file can hold"):
        fastbp.replay(tmp_path / "c", X, Y, batch=0)

    def backwards(rows: list) -> None:
        rows.reverse()

    net = fastbp.Network([5, 4, 3], seed=1, shuffle=backwards)
    net.fit(X, Y, epochs=2, eta=0.1, checkpoint=fastbp.Checkpoint(tmp_path / "d"))
    with pytest.raises(CheckpointError, match="drawn by a function of your own; replay a checkpoint from within"):
        fastbp.replay(tmp_path / "d", X, Y, batch=0)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("rule/batch_size", 0, "its batch_size is 0"),
        ("rule/batch_size", 10**9, "its batch_size is 1000000000"),
        ("rule/etas", {"list": [0.1]}, "its etas should be an array"),
        ("rule/decay", "much", "its decay is 'much'"),
        ("rule/optimizer", "os.system", "an optimizer that fastbp does not know, 'os.system'"),
        ("rule/optimizer", "Adam", "unexpected keyword"),
        ("rule/rates", {"dict": [["beta9", 1]]}, "beta9"),
        ("rule/regularization", {"dict": [["l1", -1.0], ["max_norm", 1.0], ["dropout", 0.0]]}, "its regularization is"),
        ("rule/regularization", None, "its regularization is None"),
        ("rule/label_smoothing", "some", "its label_smoothing is 'some'"),
        ("rule/weights", {"list": [-1.0]}, "weights"),
        ("rule/by_name", 1, "functions of your own"),
        ("run/batch", 99, "its batch is 99"),
        ("run/batch", 3, "does not hold the beginning of its epoch"),
        ("run/epoch", "one", "its epoch is 'one'"),
        ("run/order/rows", {"list": [1, 2]}, "each of them once"),
        ("random/shuffle/kind", "os.system", "no state of a generator"),
        ("random/shuffle", {"list": []}, "complete file, but not of a run"),
        ("opening", {"dict": []}, "its engine is"),
    ],
)
def test_hostile_checkpoints(kept: Path, tmp_path: Path, where: str, value: Any, message: str) -> None:
    tensors, metadata = container.load(kept, kind=resuming.KIND)
    node, keys = metadata["state"], where.split("/")
    for key in keys[:-1]:
        node = dict(node["dict"])[key]
    assert keys[-1] in dict(node["dict"])
    node["dict"] = [[key, copy.deepcopy(value) if key == keys[-1] else old] for key, old in node["dict"]]
    container.save(tmp_path / "c", tensors, metadata, kind=resuming.KIND)
    with pytest.raises((ModelFileError, CheckpointError), match=message):
        fastbp.replay(tmp_path / "c", X, Y, batch=1)


def test_it_prints_well(kept: Path) -> None:
    found = fastbp.replay(kept, X, Y, batch=8)
    lines = str(found).splitlines()
    assert lines[0] == "epoch 2, mini-batch 8, 9 in an epoch (from 0)"
    assert lines[1].startswith("eta 0.5, cost 0.") and lines[1].endswith("3 examples, the costliest first")
    assert sorted(int(line.split()[0]) for line in lines[4:7]) == sorted(found.rows.tolist())
    assert [line.split()[0] for line in lines[-2:]] == ["2", "3"]
    facts = found.facts(first=1)
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["epoch"], facts["batch"], facts["rows"]) == (3, 9, found.rows.tolist())


def test_many_examples_are_not_all_printed(tmp_path: Path) -> None:
    net = fastbp.Network([5, 4, 3], seed=1, engine="matrix")
    net.fit(X, Y, epochs=1, eta=0.5, batch_size=N, checkpoint=fastbp.Checkpoint(tmp_path / "c"))
    assert "… and 23 examples that cost less" in str(fastbp.replay(tmp_path / "c", X, Y, batch=0))


def test_sparse_rows(tmp_path: Path) -> None:
    import scipy.sparse

    sparse, found = scipy.sparse.csr_matrix(X), []
    for data in (X, sparse):
        path = tmp_path / f"{len(found)}"
        net = fastbp.Network([5, 4, 3], seed=1, engine="matrix")
        net.fit(data, Y, epochs=1, eta=0.5, batch_size=M, checkpoint=fastbp.Checkpoint(path))
        found.append(fastbp.replay(path, data, Y, batch=2))
    np.testing.assert_allclose(flat(found[0], "gradient"), flat(found[1], "gradient"), rtol=1e-9)
