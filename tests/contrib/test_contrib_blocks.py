"""The blocks of ``kfac_core.contrib`` behave as the manual of the original says."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.contrib import fisher_blocks

RNG = np.random.default_rng(0)
X, G = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))
GRADIENT = (RNG.normal(size=(3, 2)), RNG.normal(size=2))


def ready(block, gradients, damping=0.3, decay=0.95):
    """Do what an estimator does, in its order."""
    block.instantiate_factors(gradients, damping)
    block.instantiate_cov_variables()
    block.make_covariance_update_op(decay)()
    block.instantiate_inv_variables()
    for op in block.make_inverse_update_ops():
        op()
    return block


def dense_block(**options):
    block = fisher_blocks.FullyConnectedKFACBasicFB("lc", has_bias=True, **options)
    block.register_additional_minibatch(X, np.zeros_like(G))
    return block


def flat(params):
    return np.concatenate([np.ravel(p) for p in params])


def test_both_faces_give_the_same_numbers():
    block = ready(dense_block(), [[G]])
    spec = kc.blocks.FullyConnectedKFACBasicFB(3, 2, has_bias=True)
    state = spec.update_covs(spec.init(like=G), X, G, ema_decay=0.95)
    state = spec.update_inverses(state, 0.3)
    for verb in ("multiply", "multiply_inverse"):
        here = flat(getattr(block, verb)(GRADIENT))
        there = flat(getattr(spec, verb)(state, GRADIENT))
        np.testing.assert_allclose(here, there, rtol=1e-14)
    np.testing.assert_array_equal(
        block.full_fisher_block(), spec.full_fisher_block(state)
    )


def test_towers_and_minibatches_are_one_thing_by_two_names():
    block = fisher_blocks.FullyConnectedKFACBasicFB(None, has_bias=True)
    block.register_additional_minibatch(inputs=X[:2], outputs=G[:2])
    block.register_additional_tower(inputs=X[2:], outputs=G[2:])
    assert block.num_registered_minibatches == block.num_registered_towers == 2
    first, second = block.tensors_to_compute_grads()
    np.testing.assert_array_equal(np.concatenate([first, second]), G)
    split = ready(block, [[G[:2], G[2:]]]).full_fisher_block()
    whole = ready(dense_block(), [[G]]).full_fisher_block()
    np.testing.assert_allclose(split, whole, rtol=1e-13)


def test_sources_add():
    twice = ready(dense_block(), [[G], [G]]).full_fisher_block()
    once = ready(dense_block(), [[G]]).full_fisher_block()
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-14)


def test_multiply_is_fresh_and_the_inverse_is_stored():
    block = ready(dense_block(), [[G]], decay=0.0)
    inverse = flat(block.multiply_inverse(GRADIENT))
    product = flat(block.multiply(GRADIENT))
    block.make_covariance_update_op(0.0)([3 * X], [[G]])
    np.testing.assert_array_equal(flat(block.multiply_inverse(GRADIENT)), inverse)
    assert np.max(np.abs(flat(block.multiply(GRADIENT)) - product)) > 0.1


def test_damping_may_be_a_function_of_the_moment():
    damping = {"now": 1e9}
    block = ready(dense_block(), [[G]], damping=lambda: damping["now"])
    tiny = np.linalg.norm(flat(block.multiply_inverse(GRADIENT)))
    damping["now"] = 1.0
    for op in block.make_inverse_update_ops():
        op()
    assert np.linalg.norm(flat(block.multiply_inverse(GRADIENT))) > 1e6 * tiny


def test_powers_and_cholesky_factors_on_request():
    block = dense_block()
    block.instantiate_factors([[G]], 0.3)
    block.register_matpower(-0.5)
    block.register_cholesky()
    block.register_cholesky_inverse()
    block.make_covariance_update_op(0.95)
    block.instantiate_cov_variables()
    block.make_covariance_update_op(0.95)()
    block.instantiate_inv_variables()
    for op in block.make_inverse_update_ops():
        op()
    half = block.multiply_matpower(GRADIENT, -0.5)
    np.testing.assert_allclose(
        flat(block.multiply_matpower(half, -0.5)),
        flat(block.multiply_inverse(GRADIENT)),
        rtol=1e-12,
    )
    transposed = block.multiply_cholesky(GRADIENT, transpose=True)
    np.testing.assert_allclose(
        flat(block.multiply_cholesky(transposed)),
        flat(block.multiply(GRADIENT)),
        rtol=1e-12,
    )
    back = block.multiply_cholesky_inverse(block.multiply_cholesky(GRADIENT))
    np.testing.assert_allclose(flat(back), flat(GRADIENT), rtol=1e-12)


def test_the_factors_of_a_block_can_be_looked_into():
    block = ready(dense_block(), [[G]])
    ones = np.concatenate([X, np.ones((6, 1))], axis=1)
    np.testing.assert_allclose(block.input_factor.get_cov(), ones.T @ ones / 6)
    np.testing.assert_allclose(block.output_factor.get_cov(), G.T @ G / 6)


def test_convolutions_take_their_shapes_from_the_parameters():
    images, gradients = RNG.normal(size=(2, 4, 4, 1)), RNG.normal(size=(2, 4, 4, 3))
    params = (np.zeros((3, 3, 1, 3)), np.zeros(3))
    for block in (
        fisher_blocks.ConvKFCBasicFB(None, params, "SAME"),
        fisher_blocks.ConvDiagonalFB(None, params, [1, 1, 1, 1], "SAME"),
    ):
        block.register_additional_minibatch(images, gradients)
        ready(block, [[gradients]])
        assert block.full_fisher_block().shape == (30, 30)
        weights, bias = block.multiply_inverse(params)
        assert (weights.shape, bias.shape) == ((3, 3, 1, 3), (3,))


@pytest.mark.parametrize("name", ["FullFB", "NaiveFullFB", "NaiveDiagonalFB"])
def test_naive_blocks_count_the_cases_of_all_towers(name):
    params = (np.zeros((2, 1)), np.zeros(1))
    gradient = (np.asarray([[1.0], [2.0]]), np.asarray([3.0]))
    block = getattr(fisher_blocks, name)(None, params)
    block.register_additional_minibatch(3)
    block.register_additional_tower(4)
    assert block.num_registered_towers == 2
    assert block.tensors_to_compute_grads() is params
    fisher = ready(block, [gradient]).full_fisher_block()
    outer = np.outer([1, 2, 3], [1, 2, 3]) / 7
    wanted = outer if "Full" in name else np.diag(np.diag(outer))
    np.testing.assert_allclose(fisher, wanted)
    solved = np.linalg.solve(wanted + 0.3 * np.eye(3), flat(gradient))
    np.testing.assert_allclose(flat(block.multiply_inverse(gradient)), solved)


def test_order_is_checked():
    block = fisher_blocks.FullyConnectedKFACBasicFB(None)
    with pytest.raises(kc.errors.ArgumentError, match="register_additional_minibatch"):
        block.instantiate_factors([[G]], 0.1)
    with pytest.raises(kc.errors.NotComputedError, match="instantiate_factors"):
        block.multiply(GRADIENT[0])
    block.register_additional_minibatch(X, G)
    block.instantiate_factors([[G]], 0.1)
    block.make_covariance_update_op(0.95)()
    with pytest.raises(kc.errors.NotComputedError, match="update_inverses"):
        block.multiply_inverse(GRADIENT[0])


def test_the_layer_collection_is_kept():
    assert dense_block().layer_collection == "lc"
