"""Inverses beside a large mean: as accurate as that of the covariance alone."""

import mpmath
import numpy as np
import pytest

from kfac_core.linalg import psd
from kfac_core.linalg.mean_inverse import (
    inverse_of_bordered_moment,
    inverse_of_second_moment,
)
from kfac_core.registry import backend_of

N = 3
MEANS = [0.0, 1e-3, 1.0, 1e2, 1e4, 1e15]


def exact_inverse(covariance, mean, corner, damping):
    """Return the inverses without and with the border, of the numbers as given."""
    with mpmath.workdps(120):
        s = mpmath.matrix(covariance.astype(float).tolist())
        m = mpmath.matrix(mean.astype(float).tolist())
        for k in range(N):
            s[k, k] += mpmath.mpf(float(damping))
        whole = mpmath.zeros(N + 1)
        whole[:N, :N] = s + m * m.T
        root = mpmath.sqrt(mpmath.mpf(float(corner)))
        whole[:N, N], whole[N, :N] = root * m, root * m.T
        whole[N, N] = mpmath.mpf(float(corner)) + mpmath.mpf(float(damping))
        return [
            np.asarray((x**-1).tolist(), float).reshape(x.rows, x.rows)
            for x in (whole[:N, :N], whole)
        ]


def case(rng, mean, dtype):
    rows = rng.normal(size=(3 * N, N))
    covariance = (rows.T @ rows / len(rows)).astype(dtype)
    return covariance, (mean * rng.normal(size=N)).astype(dtype)


def found(library, covariance, mean, corner, damping):
    arrays = [library.asarray(x) for x in (covariance, mean, corner, damping)]
    backend = backend_of(arrays[0])
    factor = psd.cholesky(backend, arrays[0], arrays[3])
    inverses = (
        inverse_of_second_moment(backend, factor, arrays[1]),
        inverse_of_bordered_moment(backend, factor, *arrays[1:]),
    )
    return [library.to_numpy(inverse) for inverse in inverses]


def bound_of(covariance, damping, dtype):
    """Return a relative bound of inverses by Cholesky's factor (Higham, 14.3)."""
    condition = np.linalg.cond(covariance.astype(float) + float(damping) * np.eye(N))
    return 8 * N**2 * np.finfo(dtype).eps / 2 * condition


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("damping", [0.0, 1e-6, 0.1])
def test_errors_are_those_of_the_covariance_whatever_the_mean(
    library, damping, dtype, rng
):
    for size in MEANS:
        covariance, mean = case(rng, size, dtype)
        corner, damped = (np.asarray(x, dtype) for x in (0.7, damping))
        inverses = found(library, covariance, mean, corner, damped)
        bound = bound_of(covariance, damped, dtype)
        for inverse, exact in zip(
            inverses, exact_inverse(covariance, mean, corner, damped), strict=True
        ):
            assert inverse.dtype == dtype
            assert np.array_equal(inverse, inverse.T)
            error = np.linalg.norm(inverse - exact, 2)
            assert error <= bound * np.linalg.norm(exact, 2)


def test_cholesky_of_the_whole_would_lose_the_digits(rng):
    covariance, mean = case(rng, 1e3, "float32")
    damping = np.asarray(0.1, "float32")
    whole = covariance + np.outer(mean, mean) + damping * np.eye(N, dtype="float32")
    inverse = np.linalg.inv(np.linalg.cholesky(whole))
    exact, _ = exact_inverse(covariance, mean, 0.0 * damping + 1, damping)
    error = np.linalg.norm(inverse.T @ inverse - exact, 2)
    bound = bound_of(covariance, damping, "float32")
    assert error > 10 * bound * np.linalg.norm(exact, 2)


def test_along_the_mean_the_inverse_is_small_and_positive(plain_library, rng):
    # By a difference, |m|^2 of the inverse would be what is left of rounding.
    for size in (1e2, 1e4):
        covariance, mean = case(rng, size, "float64")
        one, damping = np.asarray(1.0), np.asarray(1e-3)
        inverse, _ = found(plain_library, covariance, mean, one, damping)
        exact, _ = exact_inverse(covariance, mean, one, damping)
        assert mean @ inverse @ mean == pytest.approx(mean @ exact @ mean, rel=1e-6)
        assert np.linalg.eigvalsh(inverse)[0] > 0


def test_what_weighs_nothing_leaves_the_damping_alone(library):
    zero, damping = np.zeros(()), np.asarray(0.25)
    inverses = found(library, np.zeros((N, N)), np.zeros(N), zero, damping)
    for inverse in inverses:
        np.testing.assert_array_equal(inverse, 4 * np.eye(len(inverse)))


def test_a_covariance_that_is_not_definite_has_none(plain_library):
    for inverse in found(
        plain_library, -np.eye(N), np.ones(N), np.asarray(1.0), np.asarray(0.1)
    ):
        assert not np.isfinite(inverse).any()
