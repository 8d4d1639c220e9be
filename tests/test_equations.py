"""docs/equations.md keeps its word: its code runs, its corrections hold, its links and tags lead somewhere."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs_blocks import Block, broken_links, links, prose, python_blocks

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "equations.md"
PICTURES = sorted((ROOT / "docs" / "images").glob("*.svg"))
SHARED, *BLOCKS = python_blocks(PAGE)


def in_order() -> list[Any]:
    return [pytest.param(block, id=f"line-{block.line}") for block in BLOCKS]


# --- the code of the page -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    names: dict[str, Any] = {}
    SHARED.run(names)
    return names


@pytest.mark.parametrize("block", in_order())
def test_block_runs_after_the_ones_above_it(block: Block, namespace: dict[str, Any]) -> None:
    block.run(namespace)


@pytest.mark.parametrize("block", in_order())
def test_block_needs_only_the_first(block: Block) -> None:
    names: dict[str, Any] = {}
    SHARED.run(names)
    block.run(names)


@pytest.mark.parametrize("block", in_order())
def test_block_asserts_something(block: Block) -> None:
    assert re.search(r"^\s*assert ", block.source, flags=re.MULTILINE)


# --- the five corrections, in the test's own words ----------------------------------------------------------
#
# The network here is written apart from the page's, so that one mistake cannot hide in both: weighted inputs by
# einsum, a function for each neuron, slopes from Richardson's combination of two central differences.

TOLERANCE = 1e-7  # the right formula is within this of the measured slope,
APART = 1e-6  # the note's is at least this far off; the smallest of the cases below is at 5e-6
Function = Callable[[Any], Any]
Neuron = tuple[Function, Function]  # f and f'


def logistic(t: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * t))


def logistic_prime(t: Any) -> Any:
    return 0.25 / np.cosh(0.5 * t) ** 2


LOGISTIC: Neuron = (logistic, logistic_prime)
TANH: Neuron = (np.tanh, lambda t: 1 / np.cosh(t) ** 2)
LINEAR: Neuron = (lambda t: t, lambda t: 1.0)


class Net:
    """weights[i][j, k], biases[i][j] and neurons[i][j] belong to layer i + 2 of the book."""

    def __init__(self, sizes: list[int], seed: int, neuron: Neuron = LOGISTIC) -> None:
        rng = np.random.default_rng(seed)
        self.weights = [rng.normal(size=(n, k)) for k, n in pairwise(sizes)]
        self.biases = [rng.normal(size=n) for n in sizes[1:]]
        self.neurons = [[neuron] * n for n in sizes[1:]]
        self.x, self.y = rng.normal(size=sizes[0]), rng.uniform(size=sizes[-1])

    def run(self, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        zs, activations = [], [x]
        for w, b, layer in zip(self.weights, self.biases, self.neurons, strict=True):
            zs.append(np.einsum("jk,k->j", w, activations[-1]) + b)
            activations.append(np.array([f(t) for (f, _), t in zip(layer, zs[-1], strict=True)]))
        return zs, activations

    def cost(self) -> float:
        return 0.5 * float(np.sum(np.square(self.run(self.x)[1][-1] - self.y)))

    def slopes(self, i: int, zs: list[np.ndarray]) -> np.ndarray:
        return np.array([f_prime(t) for (_, f_prime), t in zip(self.neurons[i], zs[i], strict=True)])


def measured(cost: Callable[[], float], p: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """∂cost/∂p from steps h and 2h, whose leading errors cancel; about 1e-11 off at these sizes."""
    result = np.empty_like(p)
    for at, kept in np.ndenumerate(p.copy()):
        values = []
        for step in (h, -h, 2 * h, -2 * h):
            p[at] = kept + step
            values.append(cost())
        p[at] = kept
        near, far = (values[0] - values[1]) / (2 * h), (values[2] - values[3]) / (4 * h)
        result[at] = (4 * near - far) / 3
    return result


def distance(u: np.ndarray, v: np.ndarray) -> float:
    assert u.shape == v.shape
    return float(np.max(np.abs(u - v)))


@pytest.fixture(params=range(3))
def seed(request: pytest.FixtureRequest) -> Iterator[int]:
    yield request.param


def test_slip_a_weighted_input_takes_the_previous_activations(seed: int) -> None:
    """The note: z^l = w^l a^l + b^l. With layers of one size the product exists, and is another number."""
    net = Net([4, 4, 4], seed)
    _, (_, a2, a3) = net.run(net.x)
    truth = measured(net.cost, net.biases[1])

    def error(z: np.ndarray) -> np.ndarray:
        return (a3 - net.y) * logistic_prime(z)

    assert distance(error(net.weights[1] @ a2 + net.biases[1]), truth) < TOLERANCE
    assert distance(error(net.weights[1] @ a3 + net.biases[1]), truth) > APART


def test_slip_b_linear_neurons_keep_bp3(seed: int) -> None:
    """The note: with linear neurons ∂C/∂b = 1. It is δ."""
    net = Net([3, 5, 4, 2], seed, LINEAR)
    _, activations = net.run(net.x)
    delta = activations[-1] - net.y
    for i in (2, 1, 0):
        truth = measured(net.cost, net.biases[i])
        assert distance(delta, truth) < TOLERANCE
        assert distance(np.ones_like(delta), truth) > APART
        assert distance(np.outer(delta, activations[i]), measured(net.cost, net.weights[i])) < TOLERANCE
        delta = net.weights[i].T @ delta


def test_slip_c_last_entry_is_a_derivative_too(seed: int) -> None:
    """The note: A = [σ'(z_1) … f'(z_j0) … σ(z_N)]. The last entry is σ'(z_N)."""
    net = Net([3, 5, 2], seed)
    net.neurons[0][2] = TANH
    zs, (_, _, a3) = net.run(net.x)
    back = net.weights[1].T @ ((a3 - net.y) * net.slopes(1, zs))
    right = net.slopes(0, zs)
    wrong = np.append(right[:-1], logistic(zs[0][-1]))
    truth = measured(net.cost, net.biases[0])
    assert distance(back * right, truth) < TOLERANCE
    assert distance(back * wrong, truth) > APART


@pytest.mark.parametrize("j0", range(3))
def test_slip_d_modified_output_neuron_changes_bp1(seed: int, j0: int) -> None:
    """The note changes BP2 alone. For an output neuron f' belongs in BP1, and every layer below feels it."""
    net = Net([3, 4, 4, 3], seed)
    net.neurons[2][j0] = TANH
    zs, activations = net.run(net.x)
    right = (activations[-1] - net.y) * net.slopes(2, zs)
    wrong = (activations[-1] - net.y) * logistic_prime(zs[2])
    for i in (2, 1, 0):
        truth = measured(net.cost, net.biases[i])
        assert distance(right, truth) < TOLERANCE
        assert distance(wrong, truth) > APART
        if i > 0:
            right, wrong = (net.weights[i].T @ delta * net.slopes(i - 1, zs) for delta in (right, wrong))


@pytest.mark.parametrize("layer", [2, 3])
def test_modified_hidden_neuron_changes_bp2(seed: int, layer: int) -> None:
    """What the note says of hidden neurons is right."""
    net = Net([3, 4, 4, 3], seed)
    net.neurons[layer - 2][1] = TANH
    zs, activations = net.run(net.x)
    delta = (activations[-1] - net.y) * net.slopes(2, zs)
    for i in (2, 1, 0):
        assert distance(delta, measured(net.cost, net.biases[i])) < TOLERANCE
        assert distance(np.outer(delta, activations[i]), measured(net.cost, net.weights[i])) < TOLERANCE
        if i > 0:
            delta = net.weights[i].T @ delta * net.slopes(i - 1, zs)


def test_slip_e_update_sums_over_the_examples(seed: int) -> None:
    """The note: Σ_i ∂C_{X_j}/∂w. Of the two readings only Σ_i ∂C_{X_i}/∂w steps down the mini-batch's gradient."""
    net, rng, m, eta = Net([3, 4, 2], seed), np.random.default_rng(seed + 100), 4, 0.5
    batch = [(rng.normal(size=3), rng.uniform(size=2)) for _ in range(m)]
    w = net.weights[0]

    def nabla_w(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        zs, (_, _, a3) = net.run(x)
        delta = (a3 - y) * net.slopes(1, zs)
        return np.outer(net.weights[1].T @ delta * net.slopes(0, zs), x)

    def cost() -> float:
        return sum(0.5 * float(np.sum(np.square(net.run(x)[1][-1] - y))) for x, y in batch) / m

    truth = w - eta * measured(cost, w)
    assert distance(w - eta / m * sum(nabla_w(*batch[i]) for i in range(m)), truth) < TOLERANCE
    for j in range(m):
        assert distance(w - eta / m * sum(nabla_w(*batch[j]) for i in range(m)), truth) > APART


# --- the places the page points at --------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["BP1", "BP2", "BP3", "BP4"])
@pytest.mark.parametrize("path", ["fastbp/engines/reference.py", "fastbp/engines/matrix.py", "fastbp/kernels.py"])
def test_each_equation_is_found_in_each_engine(path: str, tag: str) -> None:
    assert path in PAGE.read_text(encoding="utf-8")
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.search(rf"\S.*  # {tag}\b", line)], f"no line of {path} ends with '# {tag}'"


def test_links_and_images_exist() -> None:
    assert broken_links(PAGE) == []
    assert {f"images/{picture.name}" for picture in PICTURES} <= set(links(PAGE)), "a picture that no page shows"


def test_inline_formulas_survive_markdown() -> None:
    """Between dollars Markdown may still see escapes and emphasis: `\\,` loses its backslash, `}_k` can open italics.

    Displayed formulas stand in ```math fences, which are safe.
    """
    text = re.sub(r"`[^`\n]*`", "", prose(PAGE))
    assert "$$" not in text
    formulas = list(re.finditer(r"\$([^$]*)\$", text))
    assert len(formulas) > 100 and text.count("$") == 2 * len(formulas)
    for formula in formulas:
        inside, before, after = formula[1], text[formula.start() - 1], text[formula.end() : formula.end() + 1]
        assert inside == inside.strip() and "\n" not in inside, inside
        assert not re.search(r"\\[^A-Za-z]|[*<|]|[^A-Za-z0-9]_", inside), inside
        assert not before.isalnum() and not after.isalnum(), inside


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_picture_reads_on_any_page(picture: Path) -> None:
    """A title and a description for those who cannot see it, a white rounded ground, nothing from elsewhere."""
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.parse(picture).getroot()
    assert root.find(f"{svg}title") is not None and root.find(f"{svg}desc") is not None
    ground = root.find(f"{svg}rect")
    assert ground is not None and ground.get("fill") == "#ffffff" and float(ground.get("rx", "0")) > 0
    width, height = (float(number) for number in root.get("viewBox", "").split()[2:])
    assert float(ground.get("width", "0")) >= width - 2 and float(ground.get("height", "0")) >= height - 2
    source = picture.read_text(encoding="utf-8")
    assert not re.search(r"<script|<image|<foreignObject|href=|url\(", source)
    assert min(float(size) for size in re.findall(r"font-size:\s*([\d.]+)px", source)) >= 14
