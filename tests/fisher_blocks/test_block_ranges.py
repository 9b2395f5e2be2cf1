"""Products and powers leave the range only where what they give does."""

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kfac_core as kc
from kfac_core.damping import normalize_damping
from kfac_core.fisher_blocks.kronecker.three_dampings import split_in_three
from kfac_core.linalg.in_range import scaled_product, times_power

RANGES = {np.float32: (-40, 38), np.float64: (-308, 308)}
DTYPES = pytest.mark.parametrize("dtype", RANGES)
LEAST = {np.float32: (1e18, 1e19), np.float64: (1e17, 1e289)}
"""Means beside one of zero, whose damping would be less than the least there is."""


def positive(dtype):
    """Draw numbers of the whole range, those below the least normal too."""
    low, high = RANGES[dtype]
    return st.floats(low, high).map(lambda e: dtype(10.0**e))


def is_normal(exact, dtype):
    info = np.finfo(dtype)
    return info.smallest_normal <= exact <= info.max


def close(found, exact, dtype, roundings):
    """Compare, where the exact value is a number of the dtype."""
    if is_normal(exact, dtype):
        bound = roundings * np.finfo(dtype).eps
        assert abs(mpmath.mpf(float(found)) / exact - 1) <= bound


@DTYPES
def test_a_product_of_three_is_right_wherever_it_is_a_number(dtype):
    @given(*[positive(dtype)] * 3)
    def check(c, x, y):
        backend = kc.backend_of(np.asarray(x))
        with np.errstate(all="ignore"):
            found = scaled_product(backend, np.asarray(c), np.asarray(x), np.asarray(y))
        with mpmath.workdps(50):
            close(found, mpmath.mpf(float(c)) * float(x) * float(y), dtype, 2)

    check()


EXPONENTS = [-4.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 7.5]


@DTYPES
@pytest.mark.parametrize("exp", EXPONENTS)
def test_a_power_times_a_number_is_right_wherever_it_is_a_number(exp, dtype):
    @given(positive(dtype), positive(dtype))
    def check(x, base):
        if not is_normal(base, dtype) or not is_normal(1 / float(base), dtype):
            return
        if not is_normal(x, dtype):
            return
        with np.errstate(all="ignore"):
            found = times_power(x, base, exp)
        assert found.dtype == dtype
        with mpmath.workdps(50):
            exact = float(x) * mpmath.mpf(float(base)) ** exp
            # A power has the rounding of its exponent, times the logarithm.
            close(found, exact, dtype, 2 + 710 * (abs(exp) + 1))

    check()


def test_in_another_order_they_leave_the_range():
    c, x, y = (np.float32(number) for number in (1e9, 1e30, 1e-20))
    with np.errstate(over="ignore"):
        assert np.isinf(c * x * y)
        assert np.isinf(np.float32(1e-30) * np.float32(1e-20) ** np.float32(-2))
    found = scaled_product(kc.backend_of(np.asarray(x)), *map(np.asarray, (c, x, y)))
    assert found == pytest.approx(1e19, rel=1e-6)
    assert times_power(np.float32(1e-30), np.float32(1e-20), -2) == pytest.approx(
        1e10, rel=1e-5
    )


@DTYPES
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_a_damping_is_divided_by_every_power_of_the_uses(dtype, power):
    @given(positive(dtype), positive(dtype))
    def check(damping, uses):
        if uses < 1 or not is_normal(damping, dtype):
            return
        with np.errstate(all="ignore"):
            found = normalize_damping(np.asarray(damping), np.asarray(uses), power)
        with mpmath.workdps(50):
            exact = float(damping) / mpmath.mpf(float(uses)) ** power
            close(found, exact, dtype, 2 + 710 * (power + 1))

    check()


# Exact damping.


def product_of(block, x, g, vector, damping, exp):
    state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
    state = block.update_inverses(state, damping=damping)
    return block.multiply_matpower(state, vector, exp)


@pytest.mark.parametrize(
    ("a", "g", "damping"), [(1e15, 1e-13, 1e-2), (1e-18, 1e17, 1e-3), (1, 1e-23, 1e-3)]
)
@pytest.mark.parametrize("exp", [-2.0, -1.0, 1.0])
def test_exact_damping_with_sides_far_apart(plain_library, a, g, damping, exp):
    library = plain_library
    block = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((1, 1, 1, 1), padding="SAME"),
        damping_type="exact",
        matpowers=(-2, -1),
        has_bias=False,
    )
    x, y = (
        library.asarray(np.full((1, 30, 30, 1), size, np.float32)) for size in (a, g)
    )
    vector = library.asarray(np.full((1, 1, 1, 1), 1e-3, np.float32))
    found = float(
        library.to_numpy(product_of(block, x, y, vector, damping, exp))[0, 0, 0, 0]
    )
    exact = 1e-3 * (900 * (a * g) ** 2 + damping) ** exp
    assert found == pytest.approx(exact, rel=1e-4)


def test_a_power_beyond_the_range_times_a_small_vector(plain_library):
    library = plain_library
    block = kc.blocks.FullyConnectedKFACBasicFB(
        1, 1, damping_type="exact", matpowers=(-2,)
    )
    one = library.asarray(np.ones((1, 1), np.float32))
    vector = library.asarray(np.full((1, 1), 1e-30, np.float32))
    zero = one * 0
    found = product_of(block, one, zero, vector, 1e-20, -2.0)
    np.testing.assert_allclose(library.to_numpy(found), 1e10, rtol=1e-4)


def test_eigenvalues_that_overflow_are_refused(plain_library):
    library = plain_library
    block = kc.blocks.FullyConnectedKFACBasicFB(
        1, 1, damping_type="exact", matpowers=(-0.5,), name="fc7"
    )
    x = library.asarray(np.full((1, 1), 1e15, np.float32))
    state = block.update_covs(block.init(like=x), x, x, ema_decay=0.0)
    with pytest.raises(kc.errors.NotFiniteError, match=r"fc7: eigenvalues.*overflow"):
        block.update_inverses(state, damping=1e-3)
    if library.name == "jax":
        import jax

        kept = jax.jit(block.update_inverses)(state, 1e-3)
        assert not kept.ok


# Three factors.


@DTYPES
def test_three_dampings_are_right_over_the_whole_range(dtype):
    low, high = RANGES[dtype]
    info, rows = np.finfo(dtype), 30
    numbers = st.one_of(st.just(dtype(0)), positive(dtype))

    @given(st.tuples(*[numbers] * 3), st.floats(low / 2, high / 2))
    @example((dtype(0), *map(dtype, LEAST[dtype])), 0.0)
    def check(means, exponent):
        damping = dtype(10.0**exponent)
        arrays = [np.asarray(mean) for mean in means]
        backend = kc.backend_of(*arrays)
        with np.errstate(all="raise", under="ignore"):
            found = split_in_three(backend, "pi", np.asarray(damping), arrays, rows)
        assert all(part.dtype == dtype and 0 < part < np.inf for part in found)
        with mpmath.workdps(60):
            m = [mpmath.mpf(float(part)) for part in found]
            # What is added to the eigenvalues in the corners of the spectrum is the
            # damping, and as the exact split has it, as far as that can be in range.
            t = [mpmath.mpf(max(float(x), float(info.smallest_normal))) for x in means]
            least = (mpmath.mpf(float(damping)) / (t[0] * t[1] * t[2])) ** (
                1 / mpmath.mpf(3)
            )
            exact = mpmath.mpf(1)
            product = mpmath.mpf(1)
            for mean, part in zip(t, m, strict=True):
                exact *= mean + mean * least
                product *= mean + part
            tiny = 4 * float(info.smallest_normal)
            below = max(t) * rows / float(info.eps) <= min(1, float(damping)) / tiny
            # `split_by_traces` gives no part less than this.
            above = min(t) * least >= tiny * max(1, float(damping))
            if below and above:
                # Powers of a third have the rounding of theirs times the logarithm.
                assert abs(product / exact - 1) <= 1500 * float(info.eps)
                assert abs(m[0] * m[1] * m[2] / float(damping) - 1) <= 64 * float(
                    info.eps
                )

    check()


def test_a_factor_of_zero_leaves_the_damping_alone(plain_library):
    library = plain_library
    block = kc.blocks.BilinearKFACFB(2, 3, 2, False)
    x1, x2 = (library.asarray(np.ones((4, n), np.float32)) for n in (2, 3))
    vector = library.asarray(np.ones((2, 3, 2), np.float32))
    for size in (1e-18, 1e-23, 0.0):
        g = library.asarray(np.full((4, 2), size, np.float32))
        state = block.update_covs(block.init(like=g), kc.Pair(x1, x2), g, 0.0)
        state = block.update_inverses(state, damping=1e-3)
        found = library.to_numpy(block.multiply_inverse(state, vector))
        np.testing.assert_allclose(found, 1000, rtol=1e-4)
