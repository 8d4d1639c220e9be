"""The accuracy that docs/reliability.md publishes: measured anew on fewer arguments, and the published table itself."""

import itertools
import json

import mpmath
import numpy as np
import pytest
import ulp

EACH = set(itertools.product(ulp.FORMULAS, ("float64", "float32"), ("compiled", "plain")))


def lines(result: dict) -> set[tuple[str, str, str]]:
    return {(line["formula"], line["dtype"], line["how"]) for line in result["table"]}


def test_every_formula_keeps_its_bound_over_the_whole_range() -> None:
    result = ulp.measure(each64=1, each32=20, rows=10)
    assert lines(result) > EACH
    beyond = [line for line in result["table"] if not line["ulp"] <= line["bound"]]
    assert not beyond
    # below the normal numbers: at most what is cut off, a little more than the smallest of them
    assert max(line["below_normal"] for line in result["table"]) < 1.11
    assert max(result["oracle_error_float32_units"].values()) < 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_come_from_every_power_of_two(dtype: type) -> None:
    info, z = np.finfo(dtype), ulp.samples(dtype, 2)
    size = np.abs(z[np.abs(z) >= info.tiny]).astype(np.longdouble)
    assert set(np.frexp(size)[1] - 1) == set(range(info.minexp, info.maxexp))
    assert np.isfinite(z).all() and 0 in z and info.smallest_subnormal in z and -info.max in z
    assert (ulp.samples(dtype, 2, negative=True) <= 0).all()


def test_errors_are_counted_in_units_in_the_last_place() -> None:
    # the judge must see an error of a unit and a half, and of any kind
    for dtype in (np.float32, np.float64):
        z = np.array([0.5, 3.0, 1e-5], dtype)
        exact = ulp.by_mpmath(ulp.FORMULAS["tanh"], z)
        with mpmath.workdps(40):
            right = np.array([float(e) for e in exact]).astype(dtype)
        assert ulp.against_mpmath(z, right, exact).ulp <= 0.5
        off = right.copy()
        off[1] += 2 * np.spacing(off[1])
        worst = ulp.against_mpmath(z, off, exact)
        assert 1.5 <= worst.ulp <= 2.5 and worst.at == 3.0
        off[1] = np.nan
        assert ulp.against_mpmath(z, off, exact).ulp == np.inf
    tiny = np.float32(np.finfo(np.float32).tiny)
    assert ulp.judge(*(np.array([x], np.float32) for x in (0, 0, 0.75 * tiny, 0.75 * tiny))).below_normal == 0.75


def test_every_float32_is_every_float32() -> None:
    pieces = ulp.every_float32(negative=False, at_once=1000)
    first, second = next(pieces), next(pieces)
    assert first[0] == 0 and (np.diff(np.concatenate([first, second]).view(np.uint32)) == 1).all()
    pieces = list(ulp.every_float32(negative=True, at_once=1000, start=0x7F7FF000))
    assert pieces[0][0] < 0 and pieces[-1][-1] == np.finfo(np.float32).min
    assert sum(piece.size for piece in pieces) == 0x1000


def test_the_published_table_keeps_its_bounds() -> None:
    published = json.loads(ulp.RESULTS.read_text(encoding="utf-8"))
    assert published["jit"] and {(line["formula"], line["dtype"], line["how"]) for line in published["table"]} >= set(
        EACH
    )
    for line in published["table"]:
        assert line["ulp"] <= line["bound"], line
