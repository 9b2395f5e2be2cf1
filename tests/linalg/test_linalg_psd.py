"""Powers and Cholesky factors of ``C + damping I`` are what their names say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfac_core import backend_of
from kfac_core.linalg import psd

POWERS = (-2, -1, -0.5, -0.25, 0, 0.5, 1, 1.5, 2, 3)
# Spectra with ties, zeros, and a condition of 1e8 once damped.
SPECTRA = st.lists(
    st.sampled_from([0.0, 1e-12, 1e-3, 0.5, 1.0, 1.0, 7.0, 1e3]), min_size=1, max_size=4
)
DAMPINGS = st.sampled_from([1e-5, 0.3, 10.0])


def psd_matrix(spectrum, seed):
    """Return a symmetric matrix with eigenvalues `spectrum`."""
    n = len(spectrum)
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    matrix = (basis * np.asarray(spectrum)) @ basis.T
    return (matrix + matrix.T) / 2


def dense_power(matrix, exp):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exp) @ vectors.T


def arrays(library, matrix, damping):
    x = library.asarray(matrix)
    return backend_of(x), x, library.asarray(np.asarray(damping))


@pytest.mark.parametrize("exp", POWERS)
@given(spectrum=SPECTRA, damping=DAMPINGS, seed=st.integers(0, 99))
def test_power_is_that_of_the_damped_eigenvalues(library, exp, spectrum, damping, seed):
    matrix = psd_matrix(spectrum, seed)
    damped = matrix + damping * np.eye(len(matrix))
    backend, x, damping_array = arrays(library, matrix, damping)
    found = library.to_numpy(psd.power(backend, x, damping_array, exp))
    expected = dense_power(damped, exp)
    np.testing.assert_array_equal(found, found.T)
    # Both sides err by eps times the condition, relative to the norm of the power.
    bound = 200 * np.finfo(float).eps * max(abs(exp), 1) * np.linalg.cond(damped)
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


@given(spectrum=SPECTRA, damping=DAMPINGS, seed=st.integers(0, 99))
def test_cholesky_factor_is_lower_and_its_square_the_damped_matrix(
    library, spectrum, damping, seed
):
    matrix = psd_matrix(spectrum, seed)
    n = len(matrix)
    damped = matrix + damping * np.eye(n)
    backend, x, damping_array = arrays(library, matrix, damping)
    lower = psd.cholesky(backend, x, damping_array)
    inverse = library.to_numpy(psd.cholesky_inverse(backend, lower))
    lower = library.to_numpy(lower)
    np.testing.assert_array_equal(lower, np.tril(lower))
    np.testing.assert_array_equal(inverse, np.tril(inverse))
    # LAPACK's test ratios (dpot01 and its like), a third of its threshold.
    unit = np.finfo(float).eps / 2 * n * 10
    residual = np.linalg.norm(lower @ lower.T - damped, 1)
    assert residual <= unit * np.linalg.norm(damped, 1)
    residual = np.linalg.norm(inverse @ lower - np.eye(n), 1)
    assert residual <= unit * np.linalg.norm(lower, 1) * np.linalg.norm(inverse, 1)


@given(spectrum=SPECTRA, seed=st.integers(0, 99))
def test_eigenvalues_are_clipped_at_zero(library, spectrum, seed):
    matrix = psd_matrix(spectrum, seed) - 1e-9 * np.eye(len(spectrum))
    x = library.asarray(matrix)
    values, vectors = map(library.to_numpy, psd.eigendecomposition(backend_of(x), x))
    assert np.all(values >= 0)
    np.testing.assert_array_equal(values, np.sort(values))
    atol = 1e-9 + 1e-13 * np.abs(matrix).max()
    np.testing.assert_allclose((vectors * values) @ vectors.T, matrix, atol=2 * atol)


@pytest.mark.parametrize("exp", [-1, -2, 0.5])
def test_what_does_not_exist_is_not_finite(library, exp):
    matrix = np.asarray([[1.0, 0.0], [0.0, np.nan]])
    backend, x, damping = arrays(library, matrix, 0.0)
    found = psd.power(backend, x, damping, exp)
    assert not bool(backend.is_finite(found))


def test_original_inverses_of_a_small_matrix(library, rng):
    # t42 of the original's suite.
    rows = rng.normal(size=(3, 3))
    matrix = rows.T @ rows
    expected = np.linalg.inv(matrix + 0.1 * np.eye(3))
    backend, x, damping = arrays(library, matrix, 0.1)
    eigen = psd.eigendecomposition(backend, x)
    for found in (
        psd.power(backend, x, damping, -1),
        psd.eigen_power(backend, eigen, damping, -1),
    ):
        np.testing.assert_allclose(library.to_numpy(found), expected, rtol=1e-12)


def test_diagonal_and_trace(library, rng):
    matrix = rng.normal(size=(4, 4))
    x = library.asarray(matrix)
    backend = backend_of(x)
    np.testing.assert_array_equal(
        library.to_numpy(backend.diagonal(x)), matrix.diagonal()
    )
    np.testing.assert_allclose(float(psd.trace(backend, x)), np.trace(matrix))
