"""The factor of blocks: the dense one without what is outside of them."""

import numpy as np
import pytest
from factor_case import NumPy

import kfac_core as kc

NAME = "wide5"
POWERS = (1, -1, -0.5, 2)
ID = ("damping",)
SERVED = {"matpowers": POWERS, "cholesky": ID, "cholesky_inverse": ID}
# Size, bias and number of blocks: equal parts, a smaller last one, the bias by itself.
SHAPES = [(4, False, 2), (5, False, 2), (4, True, 2), (4, True, 3), (3, True, 1)]


def factor_of(size, has_bias=False, num_blocks=1, **options):
    return kc.factors.FullyConnectedKroneckerFactor(
        size,
        has_bias,
        form=kc.factors.BlockDiagonal(blocks=num_blocks),
        name=NAME,
        **options,
    )


def mask_of(spec):
    block = np.arange(spec.dimension) // spec.cov_shape[-1]
    return block[:, None] == block[None, :]


def dense_power(matrix, exp):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exp) @ vectors.T


def assert_close(found, expected, bound=1e-12):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * scale)


def batches_of(size, rng):
    """Return two sources, one of two towers, and another batch."""
    first = ((rng.normal(size=(3, size)), rng.normal(size=(2, size))),)
    return (*first, (rng.normal(size=(7, size)),)), rng.normal(size=(6, size))


def tree(function, data):
    if isinstance(data, tuple):
        return tuple(tree(function, part) for part in data)
    return function(data)


def updated(library, spec, size, rng, options):
    """Return a state after two batches, and the dense matrix by the dense factor."""
    dense = kc.factors.FullyConnectedKroneckerFactor(size, spec.has_bias, **options)
    state, own = spec.init(library.asarray(np.zeros(1))), dense.init(np.zeros(1))
    for batch in batches_of(size, rng):
        state = spec.update_cov(state, tree(library.asarray, batch), 0.5)
        own = dense.update_cov(own, batch, 0.5)
    return state, dense.get_cov(own)


OPTIONS = [{}, {"zero_debias": False, "init_covariances_at_zero": False}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("size", "has_bias", "blocks"), SHAPES)
def test_it_is_the_dense_factor_masked(size, has_bias, blocks, options, rng):
    check_masked(NumPy, size, has_bias, blocks, options, rng)


def test_it_is_so_in_every_library(library, rng):
    check_masked(library, 4, True, 3, {}, rng)


def check_masked(library, size, has_bias, blocks, options, rng):
    spec = factor_of(
        size, has_bias, blocks, **SERVED, eigendecomposition=True, **options
    )
    state, whole = updated(library, spec, size, rng, options)
    masked = np.where(mask_of(spec), whole, 0.0)
    n = len(masked)
    assert spec.dimension == n
    assert_close(library.to_numpy(spec.get_cov(state)), masked)
    assert_close(float(spec.trace(state)), np.trace(whole))
    state = spec.update_inverses(state, 0.1)
    damped = masked + 0.1 * np.eye(n)
    x = rng.normal(size=(n, 2))
    for exp in POWERS:
        power = dense_power(damped, exp)
        assert_close(library.to_numpy(spec.get_matpower(state, exp).to_dense()), power)
        left = spec.left_multiply_matpower(state, library.asarray(x), exp)
        assert_close(library.to_numpy(left), power @ x)
        vector = library.asarray(x[:, 0].copy())
        right = spec.right_multiply_matpower(state, vector, exp)
        assert_close(library.to_numpy(right), x[:, 0] @ power)
    factor = np.linalg.cholesky(damped)
    assert_close(library.to_numpy(spec.get_cholesky(state).to_dense()), factor)
    found = library.to_numpy(spec.get_cholesky_inverse(state).to_dense())
    assert_close(found, np.linalg.inv(factor))
    values = library.to_numpy(spec.get_eigenvalues(state))
    vectors = library.to_numpy(spec.get_eigenvectors(state).to_dense())
    assert_close((vectors * values) @ vectors.T, masked)
    eigen = [library.to_numpy(part) for part in spec.get_eigendecomp(state)]
    assert_close((eigen[1] * eigen[0]) @ eigen[1].T, masked)


def test_one_block_is_the_dense_factor_and_single_entries_the_diagonal(rng):
    rows = rng.normal(size=(5, 4))

    def inverse(spec):
        state = spec.update_cov(spec.init(rows), rows, 0.5)
        return spec.get_inverse(spec.update_inverses(state, 0.1)).to_dense()

    served = {"matpowers": (-1,)}
    whole = kc.factors.FullyConnectedKroneckerFactor(4, True, **served)
    diagonal = kc.factors.DiagonalKroneckerFactor(4, True, **served)
    assert_close(inverse(factor_of(4, True, 1, **served)), inverse(whole))
    assert_close(inverse(factor_of(4, True, 5, **served)), inverse(diagonal))
    # Blocks of the inverse are not the inverse of blocks.
    spec = factor_of(4, True, 2, **served)
    blocks = np.where(mask_of(spec), inverse(whole), 0.0)
    assert np.max(np.abs(inverse(spec) - blocks)) > 0.01


def test_newton_steps_are_those_of_each_block(rng):
    rows = rng.normal(size=(12, 5))
    specs = [
        factor_of(5, num_blocks=2, matpowers=(-1,), newton_steps=steps)
        for steps in (0, 3)
    ]
    inverses = []
    for spec in specs:
        state = spec.init(rows)
        for batch in (rows, rows + 0.01):
            state = spec.update_inverses(spec.update_cov(state, batch, 0.9), 0.1)
        inverses.append(spec.get_inverse(state).to_dense())
    assert_close(inverses[1], inverses[0], 1e-14)
    assert np.max(np.abs(inverses[1] - inverses[0])) > 0


def test_what_fills_the_last_block_needs_no_damping(rng):
    rows = rng.normal(size=(9, 5))
    spec = factor_of(5, num_blocks=3, **SERVED)
    state = spec.update_inverses(spec.update_cov(spec.init(rows), rows, 0.5), 0.0)
    cov = spec.get_cov(state)
    assert_close(spec.get_inverse(state).to_dense(), np.linalg.inv(cov), 1e-10)
    singular = np.where(np.arange(5) == 4, 0.0, rows)
    state = spec.update_cov(state, singular, 0.0)
    with pytest.raises(kc.errors.NotPositiveDefiniteError, match=NAME):
        spec.update_inverses(state, 0.0)


@pytest.mark.parametrize(
    ("size", "blocks", "word"),
    [(5, 0, "positive integer"), (5, 1.5, "positive"), (5, 4, "3"), (3, 4, "3")],
)
def test_numbers_of_blocks_that_do_not_fit_are_refused(size, blocks, word):
    with pytest.raises(kc.errors.ArgumentError, match=rf"blocks.*{word}"):
        factor_of(size, num_blocks=blocks)


def test_other_shapes_are_refused(rng):
    spec = factor_of(5, num_blocks=2, matpowers=(-1,))
    state = spec.init(np.zeros(1))
    with pytest.raises(kc.errors.ShapeError, match=NAME):
        spec.update_cov(state, rng.normal(size=(3, 4)), 0.5)
    other = factor_of(5, num_blocks=3, matpowers=(-1,)).init(np.zeros(1))
    with pytest.raises(kc.errors.ShapeError, match=NAME):
        spec.update_cov(other, rng.normal(size=(3, 5)), 0.5)
