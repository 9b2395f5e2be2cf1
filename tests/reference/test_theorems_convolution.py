"""Where the convolutional blocks are exact, and that the diagonal blocks always are.

KFC takes the locations of a case to be uncorrelated: exact where their gradients are,
and where there is one location.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import NETWORKS, assert_close, assert_differs, draw, random_params
from theorem_cases import (
    BATCHES,
    BIAS,
    EXAMPLES,
    LOSSES,
    NARROW,
    NORMAL,
    SEEDS,
    SOFTMAX,
    fitted,
    kfac_and_fisher,
)

from kfac_core.reference import (
    Conv2D,
    Dense,
    Flatten,
    MeanPool2D,
    Sequential,
    Tanh,
    block_for,
    diagonal_block_for,
    exact_fisher,
    exact_sources,
)

KERNELS = st.sampled_from([(1, 1), (2, 1), (3, 2)])
STRIDES = st.sampled_from([(1, 1), (2, 1), (2, 3)])
PADDINGS = st.sampled_from(["SAME", "VALID"])


def images(rng, batch, height=4, width=3, channels=2):
    return rng.standard_normal((batch, height, width, channels))


def pooled(kernel=(2, 2), has_bias=True):
    conv = Conv2D((*kernel, 2, 3), padding="VALID", has_bias=has_bias)
    return Sequential((conv, MeanPool2D()))


@given(
    seed=SEEDS,
    batch=BATCHES,
    kernel=KERNELS,
    strides=STRIDES,
    padding=PADDINGS,
    has_bias=BIAS,
)
def test_t7_a_regression_at_each_location_is_exact(
    seed, batch, kernel, strides, padding, has_bias
):
    # Eschenhagen et al. (2023): the setting of K-FAC-expand, here for any geometry.
    rng = np.random.default_rng(seed)
    conv = Conv2D((*kernel, 2, 3), strides, padding, has_bias)
    network = Sequential((conv, Flatten()))
    params, x = random_params(network, rng), images(rng, batch)
    assert_close(*kfac_and_fisher(network, params, x, NARROW, layer=0))


@EXAMPLES
def test_t8_a_regression_on_the_mean_of_locations_is_not(seed):
    rng = np.random.default_rng(seed)
    network = pooled()
    params, x = random_params(network, rng), images(rng, 5)
    assert_differs(*kfac_and_fisher(network, params, x, NARROW, layer=0))


@given(seed=SEEDS)
def test_t10_the_block_of_the_bias_lacks_the_locations_correlation(seed):
    # Pooled, all locations have one gradient: their sum is T times it, its moment T^2
    # times; the block, for which they are uncorrelated, has T times.
    rng = np.random.default_rng(seed)
    network = pooled()
    params, x = random_params(network, rng), images(rng, 5)
    kfac, fisher = kfac_and_fisher(network, params, x, NARROW, layer=0)
    assert_close(3 * 2 * kfac[-3:, -3:], fisher[-3:, -3:])


@given(seed=SEEDS, has_bias=BIAS)
def test_t12_constant_over_locations_the_block_is_too_small_by_their_number(
    seed, has_bias
):
    rng = np.random.default_rng(seed)
    network = pooled(kernel=(1, 1), has_bias=has_bias)
    params = random_params(network, rng)
    x = np.tile(rng.standard_normal((1, 1, 1, 2)), (1, 4, 3, 1))
    loss = SOFTMAX
    kfac, fisher = kfac_and_fisher(network, params, x, loss, layer=0)
    assert_close(4 * 3 * kfac, fisher)


@given(seed=SEEDS, batch=BATCHES, loss=LOSSES, has_bias=BIAS)
def test_t31_a_kernel_of_the_size_of_the_image_is_a_dense_layer(
    seed, batch, loss, has_bias
):
    rng = np.random.default_rng(seed)
    conv = Conv2D((4, 3, 2, 3), padding="VALID", has_bias=has_bias)
    rest = (Tanh(), Dense(3, 2))
    convolutional = Sequential((conv, Flatten(), *rest))
    dense = Sequential((Flatten(), Dense(24, 3, has_bias), *rest))
    params, x = random_params(convolutional, rng), images(rng, batch)
    same = dense.vector_to_params(convolutional.params_to_vector(params))
    assert_close(
        convolutional.forward(params, x).outputs, dense.forward(same, x).outputs
    )
    pairs = []
    for network, own in ((convolutional, params), (dense, same)):
        block = block_for(network.param_layers[0])
        state = fitted(block, exact_sources(network, own, x, loss)[0])
        pairs.append(
            (
                block.input_factor.get_cov(state.input_factor),
                block.output_factor.get_cov(state.output_factor),
                block.full_fisher_block(state),
                exact_fisher(network, own, x, loss, layer=0),
            )
        )
    for mine, denses in zip(*pairs, strict=True):
        assert_close(mine, denses)


@given(seed=SEEDS, loss=LOSSES)
def test_t1_one_case_with_one_location_is_exact(seed, loss):
    rng = np.random.default_rng(seed)
    conv = Conv2D((4, 3, 2, 3), padding="VALID")
    network = Sequential((conv, Flatten(), Tanh(), Dense(3, 2)))
    params, x = random_params(network, rng), images(rng, 1)
    assert_close(*kfac_and_fisher(network, params, x, loss, layer=0))


@EXAMPLES
def test_t1_one_case_with_several_locations_is_not(seed):
    rng = np.random.default_rng(seed)
    conv = Conv2D((3, 3, 2, 3), padding="VALID")
    network = Sequential((conv, Flatten(), Tanh(), Dense(6, 2)))
    params, x = random_params(network, rng), images(rng, 1)
    assert_differs(*kfac_and_fisher(network, params, x, NORMAL, layer=0))


@pytest.mark.parametrize(
    "name", [name for name, case in NETWORKS.items() if case.vocabulary is None]
)
@given(seed=SEEDS, batch=BATCHES)
def test_the_diagonal_blocks_are_exact_always(name, seed, batch):
    case = NETWORKS[name]
    params, x, _ = draw(case, np.random.default_rng(seed), batch)
    sources = exact_sources(case.network, params, x, case.loss)
    for index, (spec, data) in enumerate(
        zip(case.network.param_layers, sources, strict=True)
    ):
        block = diagonal_block_for(spec)
        diagonal = block.full_fisher_block(fitted(block, data))
        fisher = exact_fisher(case.network, params, x, case.loss, layer=index)
        assert_close(diagonal, np.diag(np.diagonal(fisher)))


@pytest.mark.parametrize("name", ["dense-softmax", "convolutional-softmax"])
@EXAMPLES
def test_the_diagonal_of_the_kronecker_product_is_not(name, seed):
    case = NETWORKS[name]
    params, x, _ = draw(case, np.random.default_rng(seed))
    kfac, fisher = kfac_and_fisher(case.network, params, x, case.loss, layer=0)
    assert_differs(np.diagonal(kfac), np.diagonal(fisher))
