"""A network in a file: what comes back is the network, and a hostile file brings nothing but a refusal."""

import copy
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp
from fastbp import container, models
from fastbp.book import network as book
from fastbp.errors import ModelFileError

SIZES = [5, 4, 3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def examples(n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5))
    return X, np.argmax(X[:, :3], axis=1)


def there_and_back(net: fastbp.Network, path: Path) -> fastbp.Network:
    net.save(path)
    return fastbp.load(path)


def assert_equal(loaded: fastbp.Network, net: fastbp.Network) -> None:
    assert loaded.architecture == net.architecture
    assert (loaded.sizes, loaded.num_layers, loaded.dtype, loaded.engine) == (
        net.sizes,
        net.num_layers,
        net.dtype,
        net.engine,
    )
    for ours, theirs in zip((*loaded.biases, *loaded.weights), (*net.biases, *net.weights), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.flags.writeable
        np.testing.assert_array_equal(ours, theirs)


NETWORKS: dict[str, dict[str, Any]] = {
    "the book's": {},
    "float32": {"dtype": "float32"},
    "cross-entropy": {"cost": "cross_entropy"},
    "log-likelihood": {"cost": "log_likelihood", "output": "softmax", "hidden": "relu"},
    "linear output": {"output": "identity", "hidden": "tanh"},
    "every hidden activation": {
        "sizes": [5, 2, 3, 4, 3, 4, 3, 4, 3],
        "hidden": ["tanh", "relu", "leaky_relu", "softplus", "gelu", "silu", "identity"],
    },
    "changed neurons": {"neurons": {(2, 3): "tanh", (3, 0): "identity", (2, 0): "relu"}},
    "no hidden layer": {"sizes": [5, 3]},
    "reference": {"engine": "reference"},
    "matrix": {"engine": "matrix"},
    "fused": {"engine": "fused"},
    "scaled start": {"initializer": "scaled"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip(name: str, path: Path) -> None:
    options = dict(NETWORKS[name])
    net = fastbp.Network(options.pop("sizes", SIZES), seed=3, **options)
    X, y = examples()
    loaded = there_and_back(net, path)
    assert_equal(loaded, net)
    np.testing.assert_array_equal(loaded.outputs(X), net.outputs(X))
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    assert repr(loaded) == repr(net)
    # what is trained on from here is the same, bit for bit
    for network in (net, loaded):
        network.fit(X, y, epochs=2, batch_size=5, eta=0.1, shuffle=False)
    assert_equal(loaded, net)
    assert_equal(there_and_back(net, path), net)


def test_the_file_of_a_network_depends_on_the_network_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fastbp.Network(SIZES, seed=3).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_saving_draws_nothing_and_changes_nothing(path: Path) -> None:
    net = fastbp.Network(SIZES)
    weights, states = net.weights, (np.random.get_state()[1].tolist(), book.random.getstate())
    copies = copy.deepcopy(weights)
    there_and_back(net, path)
    assert net.weights is weights and (np.random.get_state()[1].tolist(), book.random.getstate()) == states
    for ours, theirs in zip(weights, copies, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", [fastbp.Network, book.Network, type("Mine", (fastbp.Network,), {})])
def test_a_loaded_network_is_a_plain_network(kind: type, path: Path) -> None:
    X, y = examples()
    pairs = [(x[:, np.newaxis], np.eye(3)[:, [t]]) for x, t in zip(X, y, strict=True)]
    net = kind(SIZES)
    with redirect_stdout(io.StringIO()):
        net.SGD(pairs, 1, 5, 1.0)
        loaded = there_and_back(net, path)
        assert type(loaded) is fastbp.Network
        assert_equal(loaded, net)
        np.random.seed(5)
        loaded.SGD(list(pairs), 2, 5, 1.0, test_data=[(pairs[0][0], 1)])  # shuffled by NumPy's global generator
        twin = fastbp.Network(SIZES)
        twin.biases, twin.weights = copy.deepcopy((net.biases, net.weights))
        np.random.seed(5)
        twin.SGD(list(pairs), 2, 5, 1.0)
    assert_equal(loaded, twin)


@pytest.mark.parametrize("labels", ["numbers", "names", "none", "two names", "numbers of one's own"])
def test_classes(labels: str, path: Path) -> None:
    X, y = examples()
    net = fastbp.Network([5, 1] if labels == "two names" else SIZES, seed=1)
    target: Any = {
        "numbers": y,
        "names": np.array(["bee", "Ähre", "犬"])[y],
        "none": np.eye(3)[y] * 0.5,
        "two names": np.array(["no", "yes"])[(y > 0).astype(int)],
        "numbers of one's own": y,
    }[labels]
    net.fit(X, target, epochs=3, eta=1.0)
    if labels == "numbers of one's own":
        net.classes_ = np.array([-4, 10, 300])
    loaded = there_and_back(net, path)
    if net.classes_ is None:
        assert loaded.classes_ is None
    else:
        assert loaded.classes_.tolist() == net.classes_.tolist()
    assert loaded.predict(X).tolist() == net.predict(X).tolist()
    if labels != "numbers of one's own":
        assert loaded.score(X, target) == net.score(X, target)


@pytest.mark.parametrize(
    ("shift", "scale"), [(0.0, 1 / 256), (np.arange(5.0), 2.0), (1.0, np.full(5, 0.1)), (np.zeros(5), np.ones(5))]
)
def test_input_scaling(shift: Any, scale: Any, path: Path) -> None:
    net = fastbp.Network(SIZES)
    net.input_scaling = ("affine", shift, scale)
    kind, *loaded = there_and_back(net, path).input_scaling
    assert kind == "affine"
    for ours, theirs in zip(loaded, (shift, scale), strict=True):
        assert type(ours) is (float if np.ndim(theirs) == 0 else np.ndarray)
        np.testing.assert_array_equal(ours, theirs)


def test_without_input_scaling(path: Path) -> None:
    assert there_and_back(fastbp.Network(SIZES), path).input_scaling is None


# --- what cannot be saved -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["hidden", "output", "neurons"])
def test_functions_of_ones_own_are_refused(where: str, path: Path) -> None:
    def bump(z: Any) -> Any:
        return np.exp(-np.square(z))

    own = (bump, lambda z: -2 * z * bump(z))
    net = fastbp.Network(SIZES, **{where: {(2, 1): own} if where == "neurons" else own})
    with pytest.raises(ValueError, match=r"holds names, not functions, .* uses the functions bump.*savez"):
        net.save(path)
    assert not path.exists()


def test_parameters_that_are_none_are_refused_and_the_old_file_stays(path: Path) -> None:
    net = fastbp.Network(SIZES)
    net.save(path)
    before = path.read_bytes()
    net.weights[0][2, 1] = np.nan
    with pytest.raises(ValueError, match=r"weights\[0\] has nan in row 2, column 1"):
        net.save(path)
    net.weights[0] = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"weights\[0\] has shape \(2, 2\)"):
        net.save(path)
    assert path.read_bytes() == before


def test_missing_files_and_strangers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fastbp.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelFileError, match="text"):
        fastbp.load(tmp_path / "text")
    container.save(tmp_path / "other", {}, {}, kind="something-else")
    with pytest.raises(ModelFileError):
        fastbp.load(tmp_path / "other")


# --- hostile files ------------------------------------------------------------------------------------------


def contents() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and metadata of a good file, with everything in it."""
    found: dict[str, Any] = {}
    net = fastbp.Network(SIZES, neurons={(2, 1): "tanh"}, seed=0)
    net.input_scaling = ("affine", 0.5, np.ones(5))

    def keep(path: Any, tensors: dict, metadata: dict, *, kind: str) -> None:
        found.update(tensors=dict(tensors), metadata=dict(metadata))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.container, "save", keep)
        net.save("anywhere")
    return found["tensors"], found["metadata"]


def load_with(path: Path, tensors: dict, metadata: Any) -> fastbp.Network:
    container.save(path, tensors, metadata, kind=models.KIND)
    return fastbp.load(path)


def test_the_contents_used_below_are_good(path: Path) -> None:
    tensors, metadata = contents()
    assert load_with(path, tensors, metadata).sizes == SIZES


HOSTILE_METADATA: dict[str, tuple[Any, str]] = {
    "no sizes": (("sizes", ...), "sizes"),
    "sizes are none": (("sizes", None), "sizes must be whole numbers"),
    "sizes are text": (("sizes", "543"), "sizes must be whole numbers"),
    "sizes are fractions": (("sizes", [5, 4.5, 3]), "sizes must be whole numbers"),
    "one layer": (("sizes", [5]), "at least two layers"),
    "a layer of none": (("sizes", [5, 0, 3]), "at least one neuron"),
    "negative sizes": (("sizes", [5, -4, 3]), "at least one neuron"),
    "huge sizes": (("sizes", [2**40, 2**40, 3]), "this machine has"),
    "absurd sizes": (("sizes", [10**300, 10**300, 3]), "this machine has"),
    "other sizes": (("sizes", [5, 3, 3]), "sizes \\[5, 3, 3\\] need 30 float64 parameters, the file has"),
    "too many layers": (("sizes", [5, 4, 3, 3]), "activations"),
    "no activations": (("activations", []), "activations|unpack"),
    "unknown activation": (("activations", ["sigmoid", "os.system"]), "'os.system' is not one of sigmoid"),
    "dunder": (("activations", ["__class__", "sigmoid"]), "'__class__' is not one of"),
    "softmax within": (("activations", ["softmax", "sigmoid"]), "softmax couples"),
    "activation is a list": (("activations", [["sigmoid"], "sigmoid"]), "is not one of"),
    "activations are text": (("activations", "ss"), "'s' is not one of"),
    "unknown cost": (("cost", "eval"), "cost='eval' is no cost"),
    "cost is a list": (("cost", ["quadratic"]), "unhashable|cost"),
    "cost is none": (("cost", None), "is no cost"),
    "cost that does not fit": (("cost", "log_likelihood"), "needs output='softmax'"),
    "no neurons": (("neurons", ...), "neurons"),
    "neurons are numbers": (("neurons", [1, 2]), "unpack|iter"),
    "neuron beyond the layer": (("neurons", [[2, 4, "tanh"]]), "layer 2 has neurons 0 to 3"),
    "neuron in the input": (("neurons", [[1, 0, "tanh"]]), "layer 1 has no activation"),
    "neuron with unknown function": (("neurons", [[2, 0, "exec"]]), "'exec' is not one of"),
    "neuron at a fraction": (("neurons", [[2, 0.5, "tanh"]]), "neurons needs keys"),
    "neuron twice": (("neurons", [[2, 0, "tanh"], [2, 0, "relu"]]), "a neuron is changed twice"),
    "neuron at a list": (("neurons", [[[2], 0, "tanh"]]), "unhashable|neurons"),
    "half precision": (("dtype", "float16"), "dtype must be 'float64' or 'float32'"),
    "object dtype": (("dtype", "O"), "dtype must be"),
    "nonsense dtype": (("dtype", "import os"), "dtype must be"),
    "a dtype that NumPy would evaluate": (("dtype", "1,"), "dtype must be"),
    "a dtype beyond reading": (("dtype", "f" * 100_000), "dtype must be"),
    "another dtype": (("dtype", "float32"), "need 39 float32 parameters, the file has float64"),
    "unknown engine": (("engine", "gpu"), "engine='gpu' is none of auto"),
    "engine is a list": (("engine", ["fused"]), "is none of auto"),
    "classes too few": (("classes", ["a", "b"]), "3 outputs cannot stand for classes"),
    "classes nested": (("classes", [["a"], ["b"], ["c"]]), "classes are names"),
    "classes of numbers": (("classes", [1, 2, 3]), "classes are names"),
    "classes are text": (("classes", "abc"), "classes are names"),
    "classes twice": (("classes", ["a", "a", "b"]), "not sorted, or not distinct"),
    "classes unsorted": (("classes", ["c", "a", "b"]), "not sorted"),
}
HOSTILE_TENSORS: dict[str, tuple[str, Any, str]] = {
    "no theta": ("theta", ..., "theta"),
    "theta too short": ("theta", np.zeros(38), "need 39 float64 parameters"),
    "theta as a matrix": ("theta", np.zeros((39, 1)), "need 39 float64 parameters"),
    "theta not finite": ("theta", np.full(39, np.nan), "a parameter is NaN or infinite"),
    "theta of integers": ("theta", np.zeros(39, np.int64), "the file has int64"),
    "classes as a matrix": ("classes", np.zeros((3, 3), np.int64), "cannot stand for classes of int64"),
    "classes of fractions": ("classes", np.array([0.0, np.nan, 2]), "cannot stand for classes of float64"),
    "classes unsorted": ("classes", np.array([2, 1, 0]), "not sorted"),
    "no scale": ("input_scale", ..., "input_scale"),
    "shift not finite": ("input_shift", np.array(np.nan), "input_shift must be one finite number"),
    "scale not finite": ("input_scale", np.full(5, np.inf), "input_scale must be one finite number"),
    "scale of another length": ("input_scale", np.ones(4), "one for each of 5 features"),
    "scale as a matrix": ("input_scale", np.ones((5, 1)), "one for each of 5 features"),
}


@pytest.mark.parametrize("name", HOSTILE_METADATA)
def test_hostile_metadata(name: str, path: Path) -> None:
    tensors, metadata = contents()
    (key, value), said = HOSTILE_METADATA[name]
    metadata.pop(key) if value is ... else metadata.update({key: value})
    with pytest.raises(ModelFileError, match=rf"model.safetensors.*(not of a network fastbp can build.*)?({said})"):
        load_with(path, tensors, metadata)


@pytest.mark.parametrize("name", HOSTILE_TENSORS)
def test_hostile_tensors(name: str, path: Path) -> None:
    tensors, metadata = contents()
    key, value, said = HOSTILE_TENSORS[name]
    tensors.pop(key) if value is ... else tensors.update({key: value})
    with pytest.raises(ModelFileError, match=said):
        load_with(path, tensors, metadata)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(sorted(contents()[1])), value=JSON)
def test_any_metadata_is_a_network_or_refused(key: str, value: Any) -> None:
    tensors, metadata = contents()
    try:
        with pytest.MonkeyPatch.context() as patch:  # without the disk
            patch.setattr(models.container, "load", lambda path, kind: (tensors, metadata | {key: value}))
            net = fastbp.load("its-name")
    except ModelFileError as error:
        assert "its-name" in str(error)
    else:
        assert net.outputs(np.ones((1, 5))).shape == (1, 3)


@pytest.mark.parametrize("call", [lambda net, path: net.save(path), lambda net, path: fastbp.load(path)])
def test_paths_that_are_folders(call: Callable, tmp_path: Path) -> None:
    with pytest.raises((OSError, ModelFileError)):
        call(fastbp.Network(SIZES), tmp_path)
