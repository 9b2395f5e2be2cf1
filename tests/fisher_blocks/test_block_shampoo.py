"""Shampoo's block is powers of the second moments of mean gradients, densely."""

import numpy as np
import pytest
from block_case import dense_power
from eigenvalue_corrected_layers import CASES, LAYERS

import kfac_core as kc
from kfac_core import tree
from kfac_core.errors import ArgumentError, UnsupportedError

DENSE = ("dense", "shared", "convolution", "shared convolution")
DAMPING = 0.01


def mean_gradient(layer, data):
    return layer.gradients(*data).mean(axis=0)


@pytest.fixture(params=DENSE)
def layer(request):
    return LAYERS[request.param]


def fitted(block, *batches, ema_decay=1.0, **options):
    state = block.init(np.zeros(1))
    for data in batches:
        state = block.update_covs(state, *data, ema_decay=ema_decay, **options)
    return block.update_inverses(state, DAMPING)


def sides(layer, batches, power):
    """Return ``L`` and ``R`` of the block, means over batches."""
    means = [mean_gradient(layer, data) for data in batches]
    left = sum(d @ d.T for d in means) / len(means)
    right = sum(d.T @ d for d in means) / len(means)
    scale = np.trace(left) ** (1 - 0.25 / power)
    return left / scale, right / scale


def vector_of(layer, rng):
    arrays = tuple(rng.normal(size=shape) for shape in layer.shapes)
    return arrays if len(arrays) > 1 else arrays[0]


def matrix(vector, columns):
    return np.concatenate([x.reshape(-1, columns) for x in tree.leaves(vector)])


@pytest.mark.parametrize("power", [0.25, 0.5])
def test_it_is_powers_of_both_sides(layer, power, rng):
    batches = [layer.draw(rng) for _ in range(3)]
    powers = (-1, -0.5, 2)
    block = kc.blocks.ShampooFB(
        layer.block, power, matpowers=powers, cholesky=True, cholesky_inverse=True
    )
    state = fitted(block, *batches)
    left, right = sides(layer, batches, power)
    vector = vector_of(layer, rng)
    columns = right.shape[0]
    v = matrix(vector, columns)
    of_left, of_right = (x + DAMPING * np.eye(len(x)) for x in (left, right))

    def check(product, exp):
        expected = dense_power(of_left, power * exp) @ v
        expected = expected @ dense_power(of_right, power * exp)
        np.testing.assert_allclose(
            matrix(product, columns), expected, rtol=0, atol=1e-11 * abs(expected).max()
        )

    for exp in (1, *powers):
        check(block.multiply_matpower(state, vector, exp), exp)
    check(block.multiply_cholesky(state, vector), 0.5)
    check(block.multiply_cholesky_inverse(state, vector, transpose=True), -0.5)
    dense = np.kron(root_of(left, power), root_of(right, power))
    # Eigenvalues that are zero have the roots of their rounding.
    np.testing.assert_allclose(
        block.full_fisher_block(state), dense, rtol=0, atol=1e-7 * abs(dense).max()
    )


def root_of(x, power):
    """Return a power of a matrix that may be singular."""
    values, vectors = np.linalg.eigh(x)
    return (vectors * np.maximum(values, 0) ** power) @ vectors.T


def test_the_scale_is_that_of_a_gradient(rng):
    layer = LAYERS["dense"]
    batches = [layer.draw(rng) for _ in range(3)]  # which leave no side singular
    larger = [(x, 3 * g) for x, g in batches]
    for power in (0.25, 0.5):
        block = kc.blocks.ShampooFB(layer.block, power)
        once = block.full_fisher_block(fitted(block, *batches))
        thrice = block.full_fisher_block(fitted(block, *larger))
        np.testing.assert_allclose(thrice, 3 * once, rtol=0, atol=1e-10 * once.max())


def test_one_case_is_adagrad_of_whole_matrices(rng):
    """With a half, of one rank, the block is the root of the second moment itself."""
    layer = LAYERS["dense"]
    data = layer.draw(rng)
    block = kc.blocks.ShampooFB(layer.block, 0.5)
    gradient = mean_gradient(layer, data).reshape(-1)
    found = block.full_fisher_block(fitted(block, data))
    # kron(L, R) / tr L has the trace of the second moment, though not its rank.
    np.testing.assert_allclose(np.trace(found @ found), gradient @ gradient, rtol=1e-7)
    quarter = kc.blocks.ShampooFB(layer.block)
    other = quarter.full_fisher_block(fitted(quarter, data))
    assert np.trace(other @ other) > 1.01 * gradient @ gradient


def test_a_case_of_weight_two_counts_twice_in_the_mean(rng):
    layer = LAYERS["dense"]
    block, data = kc.blocks.ShampooFB(layer.block), layer.draw(rng)
    weights = np.ones(CASES)
    weights[0], weights[1] = 2.0, 0.0
    repeated = tuple(np.take(x, [0, 0, *range(2, CASES)], axis=0) for x in data)
    found = fitted(block, data, weights=weights)
    expected = fitted(block, repeated)
    for x, y in zip(found[1:3], expected[1:3], strict=True):
        np.testing.assert_allclose(x.total, y.total, rtol=1e-11, atol=1e-14)


def test_each_source_has_a_mean_gradient(rng):
    layer = LAYERS["dense"]
    block, (x, g) = kc.blocks.ShampooFB(layer.block), layer.draw(rng)
    one = fitted(block, (x, g))
    # Their mean is zero, and the means of each are not.
    two = fitted(block, (x, ((g,), (-g,))))
    for own, other in zip(two[1:3], one[1:3], strict=True):
        np.testing.assert_allclose(own.total, 2 * other.total, rtol=1e-12)


@pytest.mark.parametrize("name", ["dense", "shared embedding"])
def test_every_library_computes_the_same(library, name, rng):
    layer = LAYERS[name]
    block, data = kc.blocks.ShampooFB(layer.block), layer.draw(rng)
    vector, start = vector_of(layer, rng), block.init(np.zeros(1))

    def run(state, data, vector):
        state = block.update_covs(state, *data, ema_decay=0.5)
        return block.multiply_inverse(block.update_inverses(state, 0.1), vector)

    arrays = tree.map(library.asarray, (data, vector))
    found = library.compiled(run)(library.moved(start), *arrays)
    expected = run(start, data, vector)
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        np.testing.assert_allclose(
            library.to_numpy(x), y, rtol=0, atol=1e-11 * np.abs(y).max()
        )


def test_a_power_is_positive_and_there_is_no_error_to_tell(rng):
    layer = LAYERS["dense"]
    for power in (0, -1, "half"):
        with pytest.raises(ArgumentError, match="power"):
            kc.blocks.ShampooFB(layer.block, power)
    block = kc.blocks.ShampooFB(layer.block)
    with pytest.raises(UnsupportedError, match="no inverse"):
        block.inverse_error(fitted(block, layer.draw(rng)), 0.1)
