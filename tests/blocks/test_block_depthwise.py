"""The diagonal of a depthwise convolution's Fisher is exact."""

from dataclasses import replace

import numpy as np
import pytest
from grouped_truth import CASES, asarrays, assert_close, flat, leaves

import kfac_core as kc

DAMPING = 0.3
DEPTHWISE = {
    name: replace(case, make=kc.DepthwiseConvDiagonalFB)
    for name, case in CASES.items()
    if case.make is kc.DepthwiseConvKFCBasicFB
}


class NUMPY:
    asarray = staticmethod(np.array)
    to_numpy = staticmethod(np.asarray)


def ready(library, case, data):
    block = case.block(matpowers=(-1, -0.5), cholesky=True)
    arrays = asarrays(library, data)
    state = block.update_covs(block.init(like=arrays[1]), *arrays, ema_decay=0.5)
    return block, block.update_inverses(state, DAMPING)


def test_it_is_the_diagonal_of_the_fisher(library, rng):
    check_diagonal(library, DEPTHWISE["depthwise"], rng)


def test_channels_may_come_first(rng):
    check_diagonal(NUMPY, DEPTHWISE["depthwise-channels-first"], rng)


def check_diagonal(library, case, rng):
    data, vector = case.draw(rng, 5), case.vector(rng)
    v, flat_v = asarrays(library, vector), flat(NUMPY, vector)
    block, state = ready(library, case, data)
    diagonal = np.mean(case.case_gradients(*data) ** 2, axis=0)
    found = library.to_numpy(block.full_fisher_block(state))
    assert_close(found, np.diag(diagonal), 1e-13)
    for exp in (1, -1, -0.5):
        product = flat(library, block.multiply_matpower(state, v, exp))
        assert_close(product, (diagonal + DAMPING) ** exp * flat_v, 1e-12)
    root = flat(library, block.multiply_cholesky(state, v))
    assert_close(root, (diagonal + DAMPING) ** 0.5 * flat_v, 1e-12)


def test_three_spatial_axes(rng):
    case = replace(
        DEPTHWISE["depthwise"],
        filter_shape=(1, 2, 1, 2, 1),
        spatial=(2, 2, 3),
        pads=((0, 0),) * 3,
        strides=(1, 1, 2),
        dilation=(1, 1, 1),
        fields={"strides": (1, 1, 2), "padding": "VALID"},
    )
    data = case.draw(rng, 4)
    block, state = ready(NUMPY, case, data)
    diagonal = np.mean(case.case_gradients(*data) ** 2, axis=0)
    assert_close(block.full_fisher_block(state).diagonal(), diagonal, 1e-13)


def test_it_is_not_the_mean_over_locations(rng):
    case = DEPTHWISE["depthwise"]
    data = case.draw(rng, 5)
    block, state = ready(NUMPY, case, data)
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
    block, state = ready(NUMPY, case, (x, g))
    dense = kc.ConvDiagonalFactor((2, 2, 2, 4), (2, 1), ((0, 1), (1, 0)))
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
    block = kc.DepthwiseConvDiagonalFB((1, 1, 2, 2), (1, 1, 1, 1), "SAME")
    state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
    state = block.update_inverses(state, 0.5)
    vector = library.asarray(np.asarray([1.0, 2, 3, 4]).reshape(1, 1, 2, 2))
    inverse = flat(library, block.multiply_inverse(state, vector))
    np.testing.assert_allclose(inverse, [1.0, 0.285714, 0.162162, 0.121212], atol=5e-7)


def test_towers_are_one_batch_and_sources_add(rng):
    case = DEPTHWISE["depthwise-channels-first"]
    x, g = case.draw(rng, 5)
    factor = case.block().factor
    start = factor.init(g)
    towers = ((x[:2], x[2:]), (g[:2], g[2:]))
    whole = factor.get_cov_var(factor.update_cov(start, x, g, 0.0))
    split = factor.get_cov_var(factor.update_cov(start, *towers, 0.0))
    twice = factor.get_cov_var(factor.update_cov(start, x, ((g,), (g,)), 0.0))
    assert_close(split, whole, 1e-13)
    assert_close(twice, 2 * whole, 1e-13)


def test_a_separable_convolution_is_two_layers(rng):
    # Depthwise, then pointwise: each has its block, and nothing is new.
    depthwise = DEPTHWISE["depthwise"]
    x, g = depthwise.draw(rng, 5)
    y = rng.normal(size=(*g.shape[:-1], 3))
    first, of_first = ready(NUMPY, depthwise, (x, g))
    second = kc.ConvKFCBasicFB((1, 1, 4, 3), "VALID")
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


def test_statistics_are_traced_once(jax, rng):
    case, traces = DEPTHWISE["depthwise-channels-first"], []
    block = case.block()

    def update(state, x, g, decay):
        traces.append(case)
        return block.update_covs(state, x, g, decay)

    compiled = jax.jit(update)
    _, g = case.draw(rng, 4)
    state, eager = block.init(jax.numpy.asarray(g)), block.init(g)
    for decay in (0.9, 0.5):
        x, g = case.draw(rng, 4)
        state = compiled(state, x, g, decay)
        eager = block.update_covs(eager, x, g, decay)
    assert len(traces) == 1
    assert_close(state.factor.cov.total, eager.factor.cov.total, 1e-13)


def test_what_does_not_fit_is_refused_by_name(rng):
    case = DEPTHWISE["depthwise"]
    x, g = case.draw(rng, 4)
    block = case.block(name="layer7")
    state = block.init(g)
    with pytest.raises(kc.ShapeError, match=r"layer7.*inputs"):
        block.update_covs(state, x[..., :1], g, 0.5)
    with pytest.raises(kc.ShapeError, match=r"layer7.*outputs_grads"):
        block.update_covs(state, x, g[..., :2], 0.5)
    with pytest.raises(kc.NotFiniteError, match=r"layer7.*inputs"):
        block.update_covs(state, x * np.nan, g, 0.5)
    with pytest.raises(kc.DTypeError, match=r"layer7.*inputs"):
        block.update_covs(state, x.astype(int), g, 0.5)
