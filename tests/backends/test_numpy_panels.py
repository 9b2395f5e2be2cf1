"""NumPy: factors and inverses in panels, and what SciPy's own threads never see."""

import numpy as np
import pytest

from kfac_backends import numpy_inverse
from kfac_core.registry import load_backend

# Around the sizes of leaves, and of panels that do not divide.
SIZES = [1, 64, 127, 128, 129, 257, 515]
EPS = {np.float32: float(np.finfo(np.float32).eps), np.float64: 2.0**-52}


@pytest.fixture
def backend():
    return load_backend("numpy")


def positive_definite(rng, n):
    a = rng.normal(size=(2 * n, n))
    return a.T @ a / (2 * n) + 0.1 * np.eye(n)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", EPS)
def test_factors_and_inverses_of_any_size(backend, rng, n, dtype):
    a = positive_definite(rng, n)
    upper = np.where(np.triu(np.ones((n, n)), 1) > 0, np.nan, a).astype(dtype)
    factor = backend.cholesky(upper)
    inverses = backend.cholesky_inverse(factor), backend.damped_inverse(upper, dtype(0))
    assert factor.dtype == dtype
    assert np.array_equal(factor, np.tril(factor))
    bound = 50 * EPS[dtype]
    exact = np.float64(factor)
    np.testing.assert_allclose(exact @ exact.T, a, rtol=0, atol=bound)
    for inverse in inverses:
        assert inverse.dtype == dtype
        assert np.array_equal(inverse, inverse.T)
        np.testing.assert_allclose(
            np.float64(inverse), np.linalg.inv(a), rtol=0, atol=20 * bound
        )


@pytest.mark.parametrize("place", [0, 300, 514])
def test_a_failure_in_any_panel_is_nan_throughout(backend, rng, place):
    a = positive_definite(rng, 515)
    for wrong in [-1.0, np.nan]:
        a[place, place] = wrong
        assert np.isnan(backend.cholesky(a)).all()
        assert np.isnan(backend.damped_inverse(a, np.float64(0))).all()


def test_a_singular_factor_has_no_inverse(backend, rng):
    factor = np.tril(rng.normal(size=(257, 257)))
    factor[200, 200] = 0
    assert np.isnan(backend.cholesky_inverse(factor)).all()


def test_scipy_takes_leaves_alone(backend, rng, monkeypatch):
    sizes = []
    known = numpy_inverse.lapack

    def lapack(name, dtype):
        def call(a, **options):
            sizes.append(len(a))
            return known(name, dtype)(a, **options)

        return call

    monkeypatch.setattr(numpy_inverse, "lapack", lapack)
    a = positive_definite(rng, 515)
    backend.cholesky_inverse(backend.cholesky(a))
    backend.damped_inverse(a, np.float64(0))
    assert 0 < max(sizes) <= numpy_inverse.LEAF
