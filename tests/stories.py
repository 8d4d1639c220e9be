"""What tests of the book's interface share: small data, seeds, captured lines, and what a run leaves behind."""

import io
import random
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np

Pairs = list[tuple[np.ndarray, Any]]


def example_pairs(sizes: list[int], n: int, seed: int = 0) -> Pairs:
    """n pairs with a little structure to learn: the label is the largest of the first inputs."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(n, sizes[0], 1))
    columns[rng.random(columns.shape) < 0.3] = 0
    return [(x, np.eye(sizes[-1])[:, [int(np.argmax(x[: sizes[-1]]))]]) for x in columns]


def labelled(pairs: Pairs) -> Pairs:
    return [(x, int(np.argmax(y))) for x, y in pairs]


def seed_everything(seed: int = 12) -> None:
    np.random.seed(seed)
    random.seed(seed)


def printed(action: Callable[[], Any]) -> list[str]:
    with redirect_stdout(io.StringIO()) as out:
        action()
    return out.getvalue().splitlines()


def assert_same_parameters(net: Any, other: Any, rtol: float = 1e-9) -> None:
    for ours, theirs in zip((*net.biases, *net.weights), (*other.biases, *other.weights), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


def positions(pairs: list, original: list) -> list[int]:
    """Where each pair of a shuffled list stood at first, by identity."""
    place = {id(pair): i for i, pair in enumerate(original)}
    return [place[id(pair)] for pair in pairs]


def state_of_generators() -> tuple:
    kind, words, *rest = np.random.get_state()
    return kind, words.tolist(), rest, random.getstate()


def story(make: Callable[[], Any], train: Callable[[Any, Pairs], Any], pairs: Pairs) -> dict[str, Any]:
    """All that a user can see of a training run that starts from the same seeds."""
    seed_everything()
    mine, returned = list(pairs), []
    net = make()
    lines = printed(lambda: returned.append(train(net, mine)))
    return {
        "net": net,
        "lines": lines,
        "returned": returned[0],
        "order": positions(mine, pairs),
        "states": state_of_generators(),
    }


def assert_same_end(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Of two stories: the same parameters, and everything drawn alike."""
    assert_same_parameters(ours["net"], theirs["net"])
    assert ours["order"] == theirs["order"]
    assert ours["states"] == theirs["states"]
