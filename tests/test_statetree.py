"""Any state goes into arrays and JSON and comes back equal; anything else is refused."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastbp import statetree

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
arrays = hnp.arrays(
    st.sampled_from(["f8", "f4", "i8", "u4", "?"]), hnp.array_shapes(min_dims=0, max_dims=2, min_side=0)
)
columns = st.fixed_dictionaries({"epoch": st.integers(0, 99), "cost": st.floats(allow_nan=False), "note": st.text()})
states = st.recursive(
    scalars
    | arrays
    | st.lists(columns, min_size=8, max_size=12)
    | st.lists(st.floats(allow_nan=False), min_size=7, max_size=9)
    | st.lists(st.integers(-(2**66), 2**66), min_size=7, max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/", max_size=3), inner, max_size=4)
    | st.lists(inner, max_size=3).map(tuple),
    max_leaves=10,
)  # fmt: skip


def there_and_back(state: Any) -> Any:
    tensors: dict[str, np.ndarray] = {}
    text = json.dumps(statetree.encode(state, "state", tensors), allow_nan=False)
    assert all(name.startswith("state") for name in tensors)
    back = statetree.decode(json.loads(text), tensors)
    assert not tensors  # each is used once
    return back


def assert_equal(got: Any, expected: Any) -> None:
    assert type(got) is type(expected)
    if isinstance(expected, np.ndarray):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert got.tobytes() == expected.tobytes()
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for key in expected:
            assert_equal(got[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for ours, theirs in zip(got, expected, strict=True):
            assert_equal(ours, theirs)
    else:
        assert repr(got) == repr(expected)  # -0.0 and 0.0 are equal, and not the same


@settings(deadline=None, max_examples=200)
@given(states)
def test_what_goes_in_comes_out(state: Any) -> None:
    assert_equal(there_and_back(state), state)


def test_nan_and_numpy_s_scalars() -> None:
    got = there_and_back({"nan": float("nan"), "n": np.int64(3), "x": np.float32(0.1), "on": np.bool_(True)})
    assert np.isnan(got.pop("nan"))
    assert got == {"n": 3, "x": float(np.float32(0.1)), "on": True}
    assert [type(value) for value in got.values()] == [int, float, bool]


def test_a_long_list_is_an_array_and_records_are_columns() -> None:
    tensors: dict[str, np.ndarray] = {}
    history = [{"epoch": i, "cost": i / 7, "best": None if i else 0} for i in range(1000)]
    text = json.dumps(statetree.encode({"history": history}, "state", tensors))
    assert set(tensors) == {"state/history/epoch", "state/history/cost"}
    assert len(text) < 8 * 1000  # the column that is no array


def test_equal_names_are_told_apart() -> None:
    tensors: dict[str, np.ndarray] = {}
    state = {"a/b": np.zeros(1), "a": {"b": np.ones(1)}}
    statetree.encode(state, "state", tensors)
    assert sorted(tensors) == ["state/a/b", "state/a/b_"]
    assert_equal(there_and_back(state), state)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {1, 2}}, "state/a is a set, but a state holds numbers"),
        ({"a": [0, b"x"]}, "state/a/1 is a bytes"),
        ({"a": {1: 2}}, "state/a has the key 1, but the keys of a state are strings"),
        ({"a": object}, "state/a is a type"),
        ({"a": 1j}, "state/a is a complex"),
    ],
)
def test_what_is_no_state(state: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        statetree.encode(state, "state", {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab", max_size=2) | st.sampled_from(["x", "y"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*statetree._DECODERS, "other"]), inner, max_size=2)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(json_values)
def test_any_json_is_decoded_or_refused(value: Any) -> None:
    with contextlib.suppress(ValueError):
        statetree.decode(value, {"x": np.arange(3.0), "y": np.zeros((2, 2), "u4")})
