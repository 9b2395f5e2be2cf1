"""Blocks of a scale and a shift are damped by the damping itself."""

import numpy as np
import pytest

import kfac_core as kc

X = np.asarray([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]]])
G = np.asarray([[[1.0, -1.0], [2.0, 0.0]], [[1.0, 1.0], [0.0, 3.0]]])
VECTOR = (np.asarray([1.0, 2.0]), np.asarray([3.0, 4.0]))
FULL = np.asarray(
    [
        [24.5, -7, 10.5, -3.5],
        [-7, 2.5, -2.5, 3],
        [10.5, -2.5, 5, 0.5],
        [-3.5, 3, 0.5, 8.5],
    ]
)
# The original's: the Fisher, and the inverse with damping 0.1 times the vector.
KNOWN = {
    kc.blocks.ScaleAndShiftFullFB: (FULL, [-2.794855, 11.815919, 12.676737, -5.531177]),
    kc.blocks.ScaleAndShiftDiagonalFB: (
        np.diag(np.diagonal(FULL)),
        [0.04065, 0.769231, 0.588235, 0.465116],
    ),
}
every_block = pytest.mark.parametrize("make", KNOWN)


@every_block
def test_numbers_of_the_original(make):
    fisher, inverse = KNOWN[make]
    block = make((2, 2), (1,), (1,))
    state = block.update_covs(block.init(like=G), X, G, ema_decay=0.0)
    np.testing.assert_allclose(block.full_fisher_block(state), fisher, rtol=1e-14)
    state = block.update_inverses(state, 0.1)
    found = np.concatenate(block.multiply_inverse(state, VECTOR))
    np.testing.assert_allclose(found, inverse, atol=1e-6)
    damped = fisher + 0.1 * np.eye(4)
    exact = np.linalg.solve(damped, [1, 2, 3, 4])
    np.testing.assert_allclose(found, exact, rtol=1e-10)


@every_block
def test_axes_of_size_one_are_of_no_matter(make):
    wide = tuple(v.reshape(1, 1, 2) for v in VECTOR)
    plain = make.for_params((2,), (2, 2), shift_shape=(2,))
    other = make.for_params((1, 1, 2), (2, 2), shift_shape=(1, 2))
    assert plain == other == make((2, 2), (1,), (1,))
    state = plain.update_covs(plain.init(G), X, G, 0.0)
    state = plain.update_inverses(state, 0.1)
    products = plain.multiply_inverse(state, wide)
    assert [product.shape for product in products] == [(1, 1, 2)] * 2
    for found, wanted in zip(
        products, plain.multiply_inverse(state, VECTOR), strict=True
    ):
        np.testing.assert_array_equal(found.ravel(), wanted)


@every_block
def test_without_shift_the_vector_is_the_scale(make):
    block = make.for_params((2,), (2, 2))
    state = block.update_covs(block.init(G), X, G, 0.0)
    state = block.update_inverses(state, 0.1)
    fisher, _ = KNOWN[make]
    wanted = np.linalg.solve(fisher[:2, :2] + 0.1 * np.eye(2), VECTOR[0])
    np.testing.assert_allclose(
        block.multiply_inverse(state, VECTOR[0]), wanted, rtol=1e-10
    )
    with pytest.raises(kc.errors.ShapeError, match="vector"):
        block.multiply_inverse(state, VECTOR)
