"""The declared activations: right to rounding everywhere, stable, and with the derivatives of what they are."""

import mpmath
import naive
import numpy as np
import pytest

import fastbp
from fastbp.activations import ACTIVATIONS, Activation, as_activation, sigmoid, sigmoid_prime

ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]

EXACT = {
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "tanh": mpmath.tanh,
    "relu": lambda z: max(z, mpmath.mpf(0)),
    "leaky_relu": lambda z: z if z > 0 else z / 100,
    "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
    "gelu": lambda z: z * mpmath.ncdf(z),
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "identity": lambda z: z,
}
# Derivatives as formulas of their own, so that 60 digits leave nothing to differences.
EXACT_PRIME = {
    "sigmoid": lambda z: 1 / (2 + mpmath.exp(z) + mpmath.exp(-z)),
    "tanh": lambda z: mpmath.sech(z) ** 2,
    "relu": lambda z: mpmath.mpf(z > 0),
    "leaky_relu": lambda z: mpmath.mpf(1) if z > 0 else mpmath.mpf(1) / 100,
    "softplus": EXACT["sigmoid"],
    "gelu": lambda z: mpmath.ncdf(z) + z * mpmath.npdf(z),
    "silu": lambda z: (1 + z / (1 + mpmath.exp(z))) / (1 + mpmath.exp(-z)),
    "identity": lambda z: mpmath.mpf(1),
}


def arguments(dtype: type) -> np.ndarray:
    """Both signs, from the smallest normal number to beyond the range of exp, and thickly about 0."""
    small = 10.0 ** np.linspace(-36, 1, 75)
    z = np.concatenate([small, -small, np.linspace(-45, 45, 181), [87.0, -87.0, 100.0, -100.0, 500.0]])
    return z.astype(dtype)


def exactly(f: naive.Function, z: np.ndarray) -> np.ndarray:
    with mpmath.workdps(60):
        return np.array([float(f(mpmath.mpf(float(x)))) for x in z])


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_values(name: str, dtype: type) -> None:
    z = arguments(dtype)
    a = ACTIVATIONS[name].f(z)
    assert a.dtype == dtype
    # gelu's relative error grows like z² in its left tail, where rounding z alone changes e^(-z²/2) by so much
    loss = 1 + np.square(z.astype(float)) if name == "gelu" else 1
    limit = 8 * np.finfo(dtype).eps * loss * np.abs(exactly(EXACT[name], z)) + np.finfo(dtype).tiny
    assert (np.abs(a - exactly(EXACT[name], z)) <= limit).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivatives(name: str, dtype: type) -> None:
    # absolutely: σ' = σ(1 - σ) and tanh' = 1 - tanh² lose their leading digits where they are near 0, as the book's do
    z = arguments(dtype)
    slope = ACTIVATIONS[name].f_prime(z)
    assert slope.dtype == dtype
    loss = 1 + np.abs(z) if name == "silu" else 1  # of z (1 - σ)
    assert (np.abs(slope - exactly(EXACT_PRIME[name], z)) <= 8 * np.finfo(dtype).eps * loss).all()


@pytest.mark.parametrize("name", naive.ANALYTIC)
def test_derivative_by_complex_step(name: str) -> None:
    z = np.linspace(-8, 8, 161)
    np.testing.assert_allclose(ACTIVATIONS[name].f(z), naive.ANALYTIC[name](z), rtol=1e-11)
    slope = naive.complex_step(naive.ANALYTIC[name], z)
    np.testing.assert_allclose(ACTIVATIONS[name].f_prime(z), slope, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivative_by_central_differences(name: str) -> None:
    z = np.linspace(-8, 8, 160)  # an even number: none of them is 0, where some have a kink
    slope = naive.central_difference(ACTIVATIONS[name].f, z)
    np.testing.assert_allclose(ACTIVATIONS[name].f_prime(z), slope, rtol=0, atol=1e-8)


def test_at_the_kink() -> None:
    zero = np.zeros(1)
    assert ACTIVATIONS["relu"].f_prime(zero) == 0
    assert ACTIVATIONS["leaky_relu"].f_prime(zero) == 0.01


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax(dtype: type) -> None:
    z = np.random.default_rng(0).normal(scale=20, size=(50, 7)).astype(dtype)
    a = ACTIVATIONS["softmax"].f(z)
    assert a.dtype == dtype
    with mpmath.workdps(40):
        e = [[mpmath.exp(mpmath.mpf(float(x))) for x in row] for row in z]
        exact = np.array([[float(x / sum(row)) for x in row] for row in e])
    # z - max z is rounded, by half a unit of |z|, and the exponential makes that a relative error
    loss = 1 + 2 * np.abs(z).max(axis=1, keepdims=True)
    assert (np.abs(a - exact) <= 4 * np.finfo(dtype).eps * loss * exact + np.finfo(dtype).tiny).all()
    np.testing.assert_allclose(a.sum(axis=1), 1, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(ACTIVATIONS["softmax"].f(z[:, ::-1])[:, ::-1].argmax(axis=1), a.argmax(axis=1))


def test_softmax_has_no_elementwise_derivative() -> None:
    with pytest.raises(TypeError, match="softmax has no elementwise derivative"):
        ACTIVATIONS["softmax"].f_prime(np.zeros((1, 2)))


# --- stability ----------------------------------------------------------------------------------------------

FAR = {  # f and f' at -10000 and +10000
    "sigmoid": ([0, 1], [0, 0]),
    "tanh": ([-1, 1], [0, 0]),
    "relu": ([0, 1e4], [0, 1]),
    "leaky_relu": ([-1e2, 1e4], [0.01, 1]),
    "softplus": ([0, 1e4], [0, 1]),
    "gelu": ([0, 1e4], [0, 1]),
    "silu": ([0, 1e4], [0, 1]),
    "identity": ([-1e4, 1e4], [1, 1]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_far_outside_the_range_of_exp(name: str, dtype: type) -> None:
    z = np.array([-1e4, 1e4], dtype)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        np.testing.assert_array_equal(ACTIVATIONS[name].f(z), np.array(FAR[name][0], dtype))
        np.testing.assert_array_equal(ACTIVATIONS[name].f_prime(z), np.array(FAR[name][1], dtype))
        for largest in (1e20, np.finfo(dtype).max):  # gelu' squares z: at 1e20 that overflowed in float32
            z = np.array([-largest, largest], dtype)
            f, f_prime = ACTIVATIONS[name].f(z), ACTIVATIONS[name].f_prime(z)
            assert np.isfinite(f).all() and np.isfinite(f_prime).all()
            assert f[0] <= 0 or name == "sigmoid"
            np.testing.assert_array_equal(f_prime, np.array(FAR[name][1], dtype))


def test_softmax_far_outside_the_range_of_exp() -> None:
    z = np.array([[1e4, -1e4, 1e4], [-1e308, -1e308, -1e308]])
    np.testing.assert_array_equal(ACTIVATIONS["softmax"].f(z), [[0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nan_stays_nan(name: str) -> None:
    assert np.isnan(ACTIVATIONS[name].f(np.array([np.nan, 0.0]))).tolist() == [True, False]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_stay_within_the_declared_bounds(name: str) -> None:
    a = ACTIVATIONS[name].f(np.linspace(-50, 50, 303).reshape(101, 3))
    assert ACTIVATIONS[name].low <= a.min() and a.max() <= ACTIVATIONS[name].high


# --- what may be handed in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_shapes_and_scalars(name: str) -> None:
    activation, z = ACTIVATIONS[name], np.linspace(-3, 3, 24)
    for f in (activation.f, activation.f_prime):
        flat = f(z)
        np.testing.assert_array_equal(f(z.reshape(2, 3, 4)), flat.reshape(2, 3, 4))
        np.testing.assert_array_equal(f(z[::-2]), flat[::-2])
        np.testing.assert_array_equal(f(np.asfortranarray(z.reshape(4, 6))), flat.reshape(4, 6))
        assert f(np.empty((0, 3))).shape == (0, 3)
        assert np.ndim(f(0.5)) == 0 and f(0.5) == f(np.array([0.5]))[0]
        assert f(np.float32(0.5)).dtype == np.float32
        assert f(np.float64(0.5)).dtype == np.float64
        assert f(2) == f(2.0)


@pytest.mark.parametrize("kind", "bhilqBHILQ")
def test_sigmoid_of_every_type_of_whole_numbers(kind: str) -> None:
    # -|z| of an unsigned integer wraps: sigmoid(np.uint8(5)) was exp(251). So does |-128| in int8.
    limits = np.iinfo(kind)
    z = np.array([limits.min, max(limits.min, -5), 0, 5, limits.max], kind)
    for f in (sigmoid, sigmoid_prime):
        assert f(z).dtype == np.float64
        np.testing.assert_array_equal(f(z), f(z.astype(np.float64)))
        np.testing.assert_array_equal([f(x) for x in z], f(z))
        assert f(z[3]).dtype == np.float64


def test_sigmoid_of_lists_bools_and_half_precision() -> None:
    np.testing.assert_array_equal(sigmoid([-1, 0, True]), sigmoid(np.array([-1.0, 0.0, 1.0])))
    assert sigmoid(True) == sigmoid(1.0)
    assert sigmoid(np.float16(1)).dtype == np.float16
    assert fastbp.sigmoid is sigmoid and fastbp.sigmoid_prime is sigmoid_prime


# --- the table ----------------------------------------------------------------------------------------------


def test_the_table_knows_each_by_its_name_and_a_code_of_its_own() -> None:
    assert all(name == activation.name for name, activation in ACTIVATIONS.items())
    assert sorted(activation.code for activation in ACTIVATIONS.values()) == list(range(len(ACTIVATIONS)))
    assert set(EXACT) == set(EXACT_PRIME) == set(naive.ELEMENTWISE) == set(FAR) == set(ELEMENTWISE)


def test_as_activation() -> None:
    assert as_activation("tanh", "hidden") is ACTIVATIONS["tanh"]
    assert as_activation(ACTIVATIONS["tanh"], "hidden") is ACTIVATIONS["tanh"]
    own = as_activation((np.sin, np.cos), "hidden")
    assert own == Activation("sin", np.sin, np.cos, None)


@pytest.mark.parametrize(
    "given, error, message",
    [
        ("Relu", ValueError, "hidden='Relu' is no activation; choose one of sigmoid, tanh, relu, "),
        (np.tanh, TypeError, r"hidden must be a name or a pair \(f, f_prime\) of functions, got <ufunc 'tanh'>"),
        ((np.sin,), TypeError, r"hidden must be a name or a pair \(f, f_prime\) of functions, got \(<ufunc 'sin'>,\)"),
        ((np.sin, "cos"), TypeError, "hidden must be a name or a pair"),
        ([np.sin, np.cos], TypeError, "hidden must be a name or a pair"),
        (None, TypeError, "hidden must be a name or a pair"),
    ],
)
def test_what_is_no_activation(given: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_activation(given, "hidden")
