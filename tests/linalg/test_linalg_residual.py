"""Errors of inverses, and Newton's iteration, against dense eigenvalues."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfac_core import backend_of
from kfac_core.linalg import newton_schulz
from kfac_core.linalg.residual import (
    KRYLOV_STEPS,
    ResidualRange,
    diagonal_range,
    krylov_range,
    product_rho,
    rho,
)


def residual_eigenvalues(matrix, inverse):
    """Return the eigenvalues of ``I - M X``, by the symmetric matrix similar to it."""
    matrix, inverse = matrix.astype(float), inverse.astype(float)
    root = np.linalg.cholesky(matrix)
    return np.linalg.eigvalsh(np.eye(len(matrix)) - root.T @ inverse @ root)


def found(matrix, inverse):
    backend = backend_of(matrix, inverse)
    traces = tuple(backend.xp.linalg.trace(x) for x in (matrix, inverse))
    return krylov_range(
        backend,
        lambda v: backend.matmul(matrix, v),
        lambda v: backend.matmul(inverse, v),
        traces,
        matrix.shape[0],
    )


def drifted(rng, n, *, rotated, decay, damping, keep):
    """Draw the inverse of a damped second moment, and that moment a batch later."""
    scales = (1.0 + np.arange(n)) ** -decay
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0] if rotated else np.eye(n)

    def moment(rows):
        x = (rng.normal(size=(rows, n)) * scales) @ basis
        return x.T @ x / rows

    old = moment(4 * n)
    matrix = keep * old + (1 - keep) * moment(max(1, n // 2)) + damping * np.eye(n)
    inverse = np.linalg.inv(old + damping * np.eye(n))
    return (matrix + matrix.T) / 2, (inverse + inverse.T) / 2


@given(
    n=st.sampled_from([1, 2, 5, 30, 150]),
    rotated=st.booleans(),
    decay=st.sampled_from([0.0, 0.5, 2.0]),
    damping=st.sampled_from([1e-5, 1e-3, 0.1]),
    keep=st.sampled_from([0.5, 0.9, 0.99]),
    seed=st.integers(0, 1000),
)
def test_the_estimate_is_never_above_and_rarely_far_below(
    n, rotated, decay, damping, keep, seed
):
    matrix, inverse = drifted(
        np.random.default_rng(seed),
        n,
        rotated=rotated,
        decay=decay,
        damping=damping,
        keep=keep,
    )
    eigenvalues = residual_eigenvalues(matrix, inverse)
    range_ = found(matrix, inverse)
    slack = 1e-9 * max(1.0, np.abs(eigenvalues).max())
    assert eigenvalues[0] - slack <= range_.smallest
    assert range_.largest <= eigenvalues[-1] + slack
    truth = np.abs(eigenvalues).max()
    estimate = rho(backend_of(matrix), range_)
    assert estimate >= 0.8 * truth
    if n <= KRYLOV_STEPS:
        np.testing.assert_allclose(estimate, truth, rtol=1e-6)


def test_single_precision_has_the_same_bounds(rng):
    matrix, inverse = (
        x.astype(np.float32)
        for x in drifted(rng, 100, rotated=True, decay=1.0, damping=1e-3, keep=0.9)
    )
    truth = np.abs(residual_eigenvalues(matrix, inverse)).max()
    estimate = rho(backend_of(matrix), found(matrix, inverse))
    assert estimate.dtype == np.float32
    assert 0.8 * truth <= estimate <= truth * (1 + 1e-4)


def test_the_error_bounds_that_of_every_product(rng):
    matrix, inverse = drifted(rng, 6, rotated=True, decay=1.0, damping=0.01, keep=0.5)
    worst = float(rho(backend_of(matrix), found(matrix, inverse)))
    root = np.linalg.cholesky(matrix)

    def ratio(g):
        exact = np.linalg.solve(matrix, g)
        wrong = inverse @ g - exact
        return np.linalg.norm(root.T @ wrong) / np.linalg.norm(root.T @ exact)

    assert all(ratio(g) <= worst * (1 + 1e-9) for g in rng.normal(size=(50, 6)))
    # The bound is reached, and so no smaller one holds.
    values, vectors = np.linalg.eigh(np.eye(6) - root.T @ inverse @ root)
    at = vectors[:, np.argmax(np.abs(values))]
    np.testing.assert_allclose(ratio(root @ at), worst, rtol=1e-9)


def test_every_library_finds_the_same(library, rng):
    matrix, inverse = drifted(rng, 20, rotated=True, decay=1.0, damping=0.01, keep=0.9)
    expected = found(matrix, inverse)
    got = found(library.asarray(matrix), library.asarray(inverse))
    np.testing.assert_allclose(
        [library.to_numpy(x) for x in got], expected, rtol=1e-9, atol=1e-12
    )


def test_nothing_computed_and_nothing_wrong(rng):
    matrix, _ = drifted(rng, 20, rotated=True, decay=0.0, damping=0.01, keep=0.9)
    assert tuple(found(matrix, matrix * 0)) == pytest.approx((1.0, 1.0))
    exact = np.linalg.inv(matrix)
    assert rho(backend_of(matrix), found(matrix, exact)) < 1e-12
    # All multiples of a vector are in its own span: the iteration ends at once.
    assert tuple(found(matrix, exact * 0.75)) == pytest.approx((0.25, 0.25))
    assert tuple(found(np.eye(3), 3 * np.eye(3))) == pytest.approx((-2.0, -2.0))


def test_a_diagonal_is_exact(library):
    matrix, inverse = np.asarray([[2.0, 4.0]]), np.asarray([[0.25, 0.5]])
    backend = backend_of(library.asarray(matrix))
    got = diagonal_range(backend, library.asarray(matrix), library.asarray(inverse))
    assert [float(library.to_numpy(x)) for x in got] == [-1.0, 0.5]


@given(seed=st.integers(0, 1000), ratio=st.sampled_from([0.5, 1.0, 3.0]))
def test_the_error_of_a_product_is_that_of_the_dense_product(seed, ratio):
    rng = np.random.default_rng(seed)
    options = {"rotated": True, "decay": 1.0, "damping": 0.01, "keep": 0.7}
    (m, x), (n, y) = drifted(rng, 4, **options), drifted(rng, 3, **options)
    ranges = [
        ResidualRange(*(np.asarray(e) for e in residual_eigenvalues(*pair)[[0, -1]]))
        for pair in ((m, x), (n, y))
    ]
    got = product_rho(backend_of(m), *ranges, np.asarray(ratio))
    dense = residual_eigenvalues(ratio * np.kron(m, n), np.kron(x, y))
    np.testing.assert_allclose(got, np.abs(dense).max(), rtol=1e-9)


@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 3),
    reach=st.sampled_from([0.3, 0.9, 1.0]),
)
def test_each_step_squares_the_eigenvalues_of_the_residual(seed, steps, reach):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    wanted = np.sort(rng.uniform(-reach, reach, 6))
    matrix = rng.normal(size=(6, 12))
    matrix = matrix @ matrix.T / 12 + 0.1 * np.eye(6)
    half = np.linalg.inv(np.linalg.cholesky(matrix))
    inverse = half.T @ (basis * (1 - wanted)) @ basis.T @ half
    inverse = (inverse + inverse.T) / 2
    new, bound = newton_schulz.refined(backend_of(matrix), matrix, inverse, steps)
    np.testing.assert_array_equal(new, new.T)
    left = residual_eigenvalues(matrix, new)
    np.testing.assert_allclose(left, np.sort(wanted**2**steps), rtol=0, atol=1e-12)
    assert np.linalg.norm(np.eye(6) - matrix @ new) <= bound * (1 + 1e-9) + 1e-12


def test_a_stack_is_refined_matrix_by_matrix(library, rng):
    pairs = [
        drifted(rng, 5, rotated=True, decay=0.5, damping=0.1, keep=0.9)
        for _ in range(3)
    ]
    matrices, inverses = (np.stack(x) for x in zip(*pairs, strict=True))
    backend = backend_of(library.asarray(matrices))
    got = newton_schulz.refined(
        backend, library.asarray(matrices), library.asarray(inverses), 2
    )
    for i, pair in enumerate(pairs):
        alone = newton_schulz.refined(backend_of(pair[0]), *pair, 2)
        for stacked, one in zip(got, alone, strict=True):
            np.testing.assert_allclose(library.to_numpy(stacked)[i], one, rtol=1e-11)


def test_what_cannot_suffice_is_known_before_it_is_tried():
    backend = backend_of(np.zeros(1))
    for value, steps, limit, expected in (
        (0.5, 2, 0.0625, True),
        (0.5, 2, 0.06, False),
        (1e200, 3, 0.9, False),
        (np.inf, 1, 0.9, False),
        (np.nan, 1, 0.9, False),
    ):
        told = newton_schulz.may_suffice(backend, np.asarray(value), steps, limit)
        assert bool(told) is expected


def test_what_is_not_a_number_is_no_small_error(library):
    nan = library.asarray(np.full((3, 3), np.nan))
    inverse = library.asarray(np.eye(3))
    backend = backend_of(inverse)
    assert np.isnan(library.to_numpy(rho(backend, found(nan, inverse))))
