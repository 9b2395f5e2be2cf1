"""The diagonal of a depthwise convolution's Fisher is exact."""

from dataclasses import replace

import numpy as np
from block_case import NumPy, asarrays, flat, leaves
from grouped_truth import CASES, assert_close

import kfac_core as kc

DAMPING = 0.3
DEPTHWISE = {
    name: replace(case, make=kc.blocks.DepthwiseConvDiagonalFB)
    for name, case in CASES.items()
    if case.make is kc.blocks.DepthwiseConvKFCBasicFB
}


def ready(case, data):
    block = case.block(matpowers=(-1, -0.5))
    state = block.update_covs(block.init(like=data[1]), *data, ema_decay=0.5)
    return block, block.update_inverses(state, DAMPING)


def test_channels_may_come_first(rng):
    case = DEPTHWISE["depthwise-channels-first"]
    data, vector = case.draw(rng, 5), case.vector(rng)
    block, state = ready(case, data)
    diagonal = np.mean(case.case_gradients(*data) ** 2, axis=0)
    found = block.full_fisher_block(state)
    assert_close(found, np.diag(diagonal), 1e-13)
    for exp in (1, -1, -0.5):
        product = flat(NumPy, block.multiply_matpower(state, vector, exp))
        assert_close(product, (diagonal + DAMPING) ** exp * flat(NumPy, vector), 1e-12)


def test_three_spatial_axes(rng):
    case = replace(
        DEPTHWISE["depthwise"],
        filter_shape=(1, 2, 1, 2, 1),
        spatial=(2, 2, 3),
        pads=((0, 0),) * 3,
        strides=(1, 1, 2),
        dilation=(1, 1, 1),
    )
    data = case.draw(rng, 4)
    block, state = ready(case, data)
    diagonal = np.mean(case.case_gradients(*data) ** 2, axis=0)
    assert_close(block.full_fisher_block(state).diagonal(), diagonal, 1e-13)


def test_it_is_not_the_mean_over_locations(rng):
    case = DEPTHWISE["depthwise"]
    data = case.draw(rng, 5)
    block, state = ready(case, data)
    other = np.zeros(case.size)
    for i, (p, g) in enumerate(case.rows(*data)):
        squares = np.einsum("blp,blo->po", p**2, g**2) / len(p)
        other[case.places(i)] = squares.ravel()
    found = block.full_fisher_block(state).diagonal()
    assert np.abs(found - other).max() > 0.1 * np.abs(found).max()


def test_the_entries_are_those_of_the_dense_convolution(rng):
    # The original computes them all, and takes these.
    case = replace(DEPTHWISE["depthwise"], has_bias=False)
    x, g = case.draw(rng, 5)
    block, state = ready(case, (x, g))
    dense = kc.factors.ConvDiagonalFactor(
        kc.ConvolutionGeometry((2, 2, 2, 4), padding=((0, 1), (1, 0)), strides=(2, 1))
    )
    every = dense.get_cov_var(dense.update_cov(dense.init(g), x, g, 0.5))
    every = every.reshape(2, 2, 2, 4)
    own = np.stack([every[..., 0, :2], every[..., 1, 2:]], axis=-2)
    found = block.full_fisher_block(state).diagonal()
    assert_close(found, own.ravel(), 1e-13)


def test_numbers_of_the_original(plain_library):
    library = plain_library
    x = np.asarray([[1.0, 2.0], [3.0, -1.0]]).reshape(2, 1, 1, 2)
    g = np.asarray([[1.0, 2, 3, 4], [0, 1, 0, 1]]).reshape(2, 1, 1, 4)
    x, g = asarrays(library, (x, g))
    block = kc.blocks.DepthwiseConvDiagonalFB(
        kc.ConvolutionGeometry((1, 1, 2, 2), padding="SAME", strides=(1, 1))
    )
    state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
    state = block.update_inverses(state, 0.5)
    vector = library.asarray(np.asarray([1.0, 2, 3, 4]).reshape(1, 1, 2, 2))
    inverse = flat(library, block.multiply_inverse(state, vector))
    np.testing.assert_allclose(inverse, [1.0, 0.285714, 0.162162, 0.121212], atol=5e-7)


def test_a_separable_convolution_is_two_layers(rng):
    # Depthwise, then pointwise: each has its block, and nothing is new.
    depthwise = DEPTHWISE["depthwise"]
    x, g = depthwise.draw(rng, 5)
    y = rng.normal(size=(*g.shape[:-1], 3))
    first, of_first = ready(depthwise, (x, g))
    second = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((1, 1, 4, 3), padding="VALID")
    )
    of_second = second.update_covs(second.init(g), g, y, 0.5)
    of_second = second.update_inverses(of_second, DAMPING)
    steps = (
        first.multiply_inverse(of_first, depthwise.vector(rng)),
        second.multiply_inverse(of_second, rng.normal(size=(1, 1, 4, 3))),
    )
    assert [step.shape for step in leaves(steps)] == [
        *depthwise.shapes,
        (1, 1, 4, 3),
    ]
