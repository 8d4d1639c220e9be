"""How many units in the last place each formula is off, compiled and plain, over the whole range of both dtypes.

    python tests/ulp.py                     # some ten seconds: samples of every power of two
    python tests/ulp.py --exhaustive        # float32: each of the four thousand million numbers, an hour

It stands with the tests, whose oracle and bounds it shares, and not with the benchmarks, which measure speed. The
oracle of float64 is mpmath with 40 digits, on samples from each power of two. For float32 it is NumPy in float64, which
is itself held to mpmath on such samples: its error, some 1e-16, is a thousand millionth of a unit.

Results about and below the smallest normal number, 1.2e-38 or 2.2e-308, are judged absolutely, in units of it: below
e^-87.3 = 1.03 and e^-708.3 = 1.10 times that number the compiled exponential returns zero.
"""

import argparse
import json
import math
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mpmath
import numpy as np
from numba import njit
from numba.core.config import DISABLE_JIT

import fastbp
from fastbp import architecture, engines, kernels, parameters
from fastbp.activations import ACTIVATIONS
from fastbp.costs import COSTS
from fastbp.data import Examples

RESULTS = Path(__file__).parent / "results" / "ulp.json"
DIGITS = 40

# Where the compiled exponential is cut off.
LEAST = {"float32": -87.3, "float64": -708.3}

# The bounds. In the plain formulas the roundings of NumPy's exp (2.5 units in float32), of 1 + e^-z and of a quotient
# add up. With the JIT off, without fused multiply-adds, what a compiled formula puts back is itself rounded.
COMPILED, COMPILED_PLAIN_TWIN, PLAIN = 2.0, 4.0, 4.0
# Of max |z|, for rows of up to 33 entries, and of 100: one sum over all of those was up to 5.8 off.
ROWS, LONG = 4.0, 100


class Formula(NamedTuple):
    """An elementwise formula: its exact value, its value in float64, and the two that are measured."""

    exact: Callable[[Any], Any]
    float64: Callable[[np.ndarray], np.ndarray]
    compiled: Callable[[np.ndarray], np.ndarray]
    plain: Callable[[np.ndarray], np.ndarray]
    negative: bool = False  # defined for z ≤ 0 only


def _activated(name: str) -> Callable[[np.ndarray], np.ndarray]:
    def compute(z: np.ndarray) -> np.ndarray:
        work = np.concatenate([z, np.empty_like(z)])
        kernels.activate(ACTIVATIONS[name].code, work, 0, z.size, z.size)
        return work[z.size :]

    return compute


@njit
def _exp_of_each(x, out):  # the kernel takes one number; a call from Python for each would take minutes
    for i in range(x.size):
        out[i] = kernels.exp_of_negative(x[i])


def _compiled_exp(z: np.ndarray) -> np.ndarray:
    out = np.empty_like(z)
    _exp_of_each(z, out)
    return out


FORMULAS = {
    "sigmoid": Formula(
        lambda z: 1 / (1 + mpmath.exp(-z)),
        lambda z: np.where(z >= 0, 1.0, np.exp(-np.abs(z))) / (1 + np.exp(-np.abs(z))),
        _activated("sigmoid"),
        fastbp.sigmoid,
    ),
    "tanh": Formula(mpmath.tanh, np.tanh, _activated("tanh"), ACTIVATIONS["tanh"].f),
    "softplus": Formula(
        lambda z: mpmath.log1p(mpmath.exp(z)),
        lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
        _activated("softplus"),
        ACTIVATIONS["softplus"].f,
    ),
    "exp": Formula(mpmath.exp, np.exp, _compiled_exp, np.exp, negative=True),
}


# --- Arguments


def samples(dtype: type, each: int, seed: int = 0, negative: bool = False) -> np.ndarray:
    """`each` numbers of either sign from every power of two of the dtype, and 20 times as many where the formulas bend,
    from 2⁻¹² to 2¹¹, and where eᶻ leaves the normal numbers; both zeros, and the ends of the range."""
    info, rng = np.finfo(dtype), np.random.default_rng(seed)
    exponents = np.arange(info.minexp, info.maxexp)
    counts = np.where((exponents >= -12) & (exponents < 11), 20 * each, each)
    with np.errstate(over="ignore"):
        size = np.ldexp(rng.uniform(1, 2, counts.sum()), np.repeat(exponents, counts)).astype(dtype)
    last = -np.log(float(info.tiny)) * rng.uniform(0.995, 1.005, 100 * each)
    ends = [0, info.tiny, info.smallest_subnormal, info.max]
    size = np.concatenate([size[np.isfinite(size)], last, ends]).astype(dtype)
    return -size if negative else np.concatenate([size, -size])


def every_float32(negative: bool, at_once: int = 1 << 24, start: int = 0) -> Iterator[np.ndarray]:
    """Each finite float32, in pieces, from the one whose bits are `start`."""
    largest = int(np.float32(np.finfo(np.float32).max).view(np.uint32))
    for sign in (0x80000000,) if negative else (0, 0x80000000):
        for first in range(start, largest + 1, at_once):
            bits = np.arange(first, min(first + at_once, largest + 1), dtype=np.uint32) | np.uint32(sign)
            yield bits.view(np.float32)


# --- Errors


class Worst(NamedTuple):
    """The largest error seen, in units in the last place of a normal result, and where; and among the others."""

    ulp: float = 0.0
    at: float = 0.0
    below_normal: float = 0.0
    count: int = 0

    def and_(self, other: "Worst") -> "Worst":
        worse = max(self, other, key=lambda worst: worst.ulp)
        below = max(self.below_normal, other.below_normal)
        return Worst(worse.ulp, worse.at, below, self.count + other.count)


def judge(z: np.ndarray, got: np.ndarray, error: np.ndarray, exact: np.ndarray) -> Worst:
    """error: |got - exact| in float64 or of mpmath, as float64; exact: the values rounded to float64."""
    if np.isnan(got).any():
        return Worst(math.inf, float(z[np.isnan(got)][0]), count=z.size)
    info = np.finfo(got.dtype)
    size = np.abs(exact)
    normal = size >= math.exp(LEAST[got.dtype.name])
    # 2^e ≤ |exact| < 2^(e+1), and a unit is 2^(e - bits of the mantissa)
    exponent = np.frexp(np.where(normal, size, 1))[1] - 1
    units = np.ldexp(error, info.nmant - exponent)
    units[~normal] = 0
    below = error[~normal] / float(info.tiny)
    i = int(units.argmax())
    return Worst(float(units[i]), float(z[i]), float(below.max(initial=0.0)), z.size)


def by_mpmath(formula: Formula, z: np.ndarray) -> list[Any]:
    with mpmath.workdps(DIGITS):
        return [formula.exact(mpmath.mpf(float(x))) for x in z]


def against_mpmath(z: np.ndarray, got: np.ndarray, exact: list[Any]) -> Worst:
    """Errors of `got`; exact are the values of mpmath at z. Where they round to infinity `got` must be infinite."""
    with mpmath.workdps(DIGITS):
        errors = np.array([float(abs(mpmath.mpf(float(g)) - e)) for g, e in zip(got, exact, strict=True)])
        rounded = np.array([float(e) for e in exact])
    return judge(z, got, errors, rounded)


def against_float64(formula: Formula, z: np.ndarray, got: np.ndarray) -> Worst:
    with np.errstate(all="ignore"):
        exact = formula.float64(z.astype(np.float64))
    return judge(z, got, np.abs(got.astype(np.float64) - exact), exact)


def oracle_error(formula: Formula, z: np.ndarray) -> float:
    """The largest error of the float64 oracle relative to mpmath, in units of float32 (at normal float32 results)."""
    with np.errstate(all="ignore"):
        got = formula.float64(z.astype(np.float64))
    worst = 0.0
    with mpmath.workdps(DIGITS):
        for g, e in zip(got, by_mpmath(formula, z), strict=True):
            if abs(e) >= mpmath.mpf(float(np.finfo(np.float32).tiny)):
                worst = max(worst, float(abs(mpmath.mpf(float(g)) - e) / abs(e)) * 2**24)
    return worst


# --- Rows: softmax and log-sum-exp


def rows_of(dtype: type, count: int, n: int, seed: int = 0) -> np.ndarray:
    """(count, n): rows from nearly equal entries to ones that lie far apart."""
    rng = np.random.default_rng(seed + n)
    width, place = 10 ** rng.uniform(-6, 2.5, (count, 1)), 10 ** rng.uniform(-3, 2, (count, 1))
    return (rng.normal(size=(count, n)) * width + rng.normal(size=(count, 1)) * place).astype(dtype)


def compiled_softmax(Z: np.ndarray) -> np.ndarray:
    """The outputs of the fused engine for a layer whose weighted inputs are exactly Z: W = 1 and b = 0."""
    n = Z.shape[1]
    built = architecture.build([n, n], [], "softmax", "log_likelihood", None, Z.dtype)
    theta = parameters.flatten([n, n], [np.zeros((n, 1))], [np.eye(n)], Z.dtype)
    engine = engines.create("fused", built, theta, Examples(Z, Z), len(Z))
    return engine.outputs(engine.prepare(Examples(Z, Z)))


def plain_log_sum_exp(z: np.ndarray) -> np.ndarray:
    """ln Σ eᶻ as the log-likelihood cost has it: the cost of the largest entry's label, and that entry."""
    y = np.zeros_like(z)
    y[z.argmax()] = 1
    return COSTS["log_likelihood"].value(z[np.newaxis], z[np.newaxis], y[np.newaxis])[0] + z.max()


def row_errors(Z: np.ndarray) -> dict[str, float]:
    """The worst errors in units of max |z|'s last place: relative ones for softmax, in which a rounding of z becomes
    relative."""
    info = np.finfo(Z.dtype)
    given = {"compiled softmax": compiled_softmax(Z), "plain softmax": ACTIVATIONS["softmax"].f(Z)}
    worst = dict.fromkeys((*given, "plain log-sum-exp"), 0.0)
    with mpmath.workdps(DIGITS):
        for i, z in enumerate(Z):
            e = [mpmath.exp(mpmath.mpf(float(x))) for x in z]
            total = sum(e)
            unit = mpmath.mpf(float(np.spacing(np.abs(z).max()))) + mpmath.mpf(float(info.eps))
            for name, got in given.items():
                errors = [
                    abs(mpmath.mpf(float(g)) - x / total) / (x / total * unit)
                    for g, x in zip(got[i], e, strict=True)
                    if x / total >= mpmath.mpf(math.exp(LEAST[Z.dtype.name]))
                ]
                worst[name] = max(worst[name], float(max(errors)))
            exact = mpmath.log(total)
            largest = max(float(np.abs(z).max()), float(abs(exact)))
            unit = mpmath.mpf(float(np.spacing(z.dtype.type(largest))))
            error = float(abs(mpmath.mpf(float(plain_log_sum_exp(z))) - exact) / unit)
            worst["plain log-sum-exp"] = max(worst["plain log-sum-exp"], error)
    return worst


# --- All of it


def measure(each64: int = 4, each32: int = 400, rows: int = 150, exhaustive: bool = False) -> dict[str, Any]:
    """A table: formula, dtype, how ("compiled" or "plain"), worst error, its argument, how many were looked at."""
    table = []
    for name, formula in FORMULAS.items():
        z64 = samples(np.float64, each64, negative=formula.negative)
        exact = by_mpmath(formula, z64)
        for how in ("compiled", "plain"):
            with np.errstate(all="ignore"):
                worst = against_mpmath(z64, getattr(formula, how)(z64), exact)
            table.append(_line(name, "float64", how, worst))
        some = [samples(np.float32, each32, negative=formula.negative)]
        pieces = every_float32(formula.negative) if exhaustive else some
        found = {"compiled": Worst(), "plain": Worst()}
        for z32 in pieces:
            for how in found:
                with np.errstate(all="ignore"):
                    got = getattr(formula, how)(z32)
                found[how] = found[how].and_(against_float64(formula, z32, got))
        table += [_line(name, "float32", how, worst) for how, worst in found.items()]
    for dtype in (np.float64, np.float32):
        for lengths, suffix in (((2, 3, 10, 33), ""), ((LONG,), f" of {LONG}")):
            errors = [row_errors(rows_of(dtype, rows, n)) for n in lengths]
            for key in errors[0]:
                how, name = key.split(" ", 1)
                worst = Worst(max(error[key] for error in errors), count=rows * len(lengths))
                table.append(_line(name + suffix, np.dtype(dtype).name, how, worst))
    few = {name: oracle_error(f, samples(np.float32, 4, 1, f.negative)) for name, f in FORMULAS.items()}
    return {
        "command": "python tests/ulp.py" + " --exhaustive" * exhaustive,
        "fastbp": fastbp.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "jit": not DISABLE_JIT,
        "exhaustive": exhaustive,
        "oracle_error_float32_units": few,
        "table": table,
    }


def bound(name: str, how: str) -> float:
    if name.startswith(("softmax", "log-sum-exp")):
        return ROWS
    if how == "plain":
        return PLAIN
    return COMPILED_PLAIN_TWIN if DISABLE_JIT else COMPILED


def _line(name: str, dtype: str, how: str, worst: Worst) -> dict[str, Any]:
    return {
        "formula": name, "dtype": dtype, "how": how, "ulp": worst.ulp, "bound": bound(name, how), "at": worst.at,
        "below_normal": worst.below_normal, "arguments": worst.count,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--exhaustive", action="store_true", help="every float32")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    result = measure(exhaustive=arguments.exhaustive)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for line in result["table"]:
        where = f"at {line['at']!r}, below the normal numbers {line['below_normal']:.2f}"
        print(f"{line['formula']:18} {line['dtype']} {line['how']:9} {line['ulp']:6.3f} ≤ {line['bound']:g}  {where}")
    if any(line["ulp"] > line["bound"] for line in result["table"]):
        sys.exit("beyond the bound")


if __name__ == "__main__":
    main()
