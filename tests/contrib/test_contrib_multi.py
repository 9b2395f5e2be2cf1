"""Shared layers in the calling convention of the original."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.contrib import PackagedFunc, fisher_blocks, fisher_factors

RNG = np.random.default_rng(0)
T, N = 3, 4
X, G = RNG.normal(size=(T, N, 3)), RNG.normal(size=(T, N, 2))
ROWS, GRADIENTS = X.reshape(-1, 3), G.reshape(-1, 2)
IDS = RNG.integers(0, 5, (T, N))
DAMPING = PackagedFunc(lambda: 0.3, "damping")
VECTOR = RNG.normal(size=(3, 2))

BLOCKS = {
    "indep": (fisher_blocks.FullyConnectedMultiIndepFB, {}),
    "diagonal": (
        fisher_blocks.FullyConnectedMultiIndepFB,
        {"diagonal_approx_for_input": True},
    ),
    "option1": (
        fisher_blocks.FullyConnectedSeriesFB,
        {"option": fisher_blocks.SeriesFBApproximation.option1},
    ),
    "option2": (fisher_blocks.FullyConnectedSeriesFB, {}),
}


def ready(block, inputs, gradients):
    block.register_additional_minibatch(inputs, gradients)
    block.instantiate_factors([[gradients]], DAMPING)
    block.register_inverse()
    block.instantiate_cov_variables()
    block.instantiate_inv_variables()
    block.make_covariance_update_op(0.95)()
    for op in block.make_inverse_update_ops():
        op()
    return block


@pytest.mark.parametrize("name", BLOCKS)
def test_a_list_is_the_uses_of_one_tower(name):
    make, options = BLOCKS[name]
    folded = ready(make(None, num_uses=T, **options), ROWS, GRADIENTS)
    listed = ready(make(None, **options), list(X), tuple(G))
    mixed = ready(make(None, False, T, **options), X, list(G))
    assert listed.num_registered_towers == 1
    assert len(listed.tensors_to_compute_grads()[0]) == T
    spec = folded.spec
    state = spec.update_covs(spec.init(G), X, G, 0.95)
    wanted = spec.multiply_inverse(spec.update_inverses(state, 0.3), VECTOR)
    for block in (folded, listed, mixed):
        np.testing.assert_allclose(block.multiply_inverse(VECTOR), wanted, rtol=1e-12)
    listed.make_covariance_update_op(0.0)([list(2 * X)], [[list(G)]])
    np.testing.assert_allclose(
        listed.input_factor.get_cov(), 4 * spec.input_factor.get_cov(state.input_factor)
    )


def test_uses_must_be_known_and_agree():
    block = fisher_blocks.FullyConnectedMultiIndepFB(None)
    with pytest.raises(kc.errors.ArgumentError, match="num_uses"):
        ready(block, ROWS, GRADIENTS)
    block = fisher_blocks.FullyConnectedMultiIndepFB(None, num_uses=2)
    with pytest.raises(kc.errors.ArgumentError, match="3 uses"):
        ready(block, list(X), list(G))


def test_a_series_serves_the_inverse_alone():
    block = ready(fisher_blocks.FullyConnectedSeriesFB(None), list(X), list(G))
    for call in (
        lambda: block.register_matpower(0.5),
        block.register_cholesky,
        lambda: block.multiply(VECTOR),
        lambda: block.multiply_cholesky(VECTOR, transpose=True),
    ):
        with pytest.raises(NotImplementedError, match="inverse"):
            call()
    with pytest.raises(kc.errors.ArgumentError, match="option"):
        ready(fisher_blocks.FullyConnectedSeriesFB(None, option=4), list(X), list(G))


def test_ids_of_a_shared_embedding():
    found = []
    for inputs, uses in (
        (list(IDS), None),
        (IDS.ravel(), T),
        (IDS.reshape(-1, 1), T),
        (IDS, None),
        (IDS[..., None], None),
    ):
        block = fisher_blocks.EmbeddingKFACMultiIndepFB(None, 5, uses)
        found.append(ready(block, inputs, list(G)).full_fisher_block())
    counts = np.eye(5)[IDS].mean((0, 1))
    wanted = T * np.kron(np.diag(counts), GRADIENTS.T @ GRADIENTS / (T * N))
    for dense in found:
        np.testing.assert_allclose(dense, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("tensors", [[[ROWS]], [[list(X)]], [[X]]])
def test_the_factor_keeps_lag_one_and_the_quantities_of_options(tensors):
    factor = fisher_factors.FullyConnectedMultiKF(tensors, num_uses=T, has_bias=True)
    factor.register_cov_dt1()
    factor.instantiate_cov_variables()
    update = factor.make_covariance_update_op(0.95)
    update()
    factor.register_option1quants(DAMPING)
    factor.register_option2quants(DAMPING)
    factor.register_inverse(DAMPING)
    factor.instantiate_inv_variables()
    for op in factor.make_inverse_update_ops():
        op()
    ones = np.concatenate([X, np.ones((T, N, 1))], axis=-1)
    later, earlier = ones[1:].reshape(-1, 4), ones[:-1].reshape(-1, 4)
    np.testing.assert_allclose(factor.get_cov_dt1(), later.T @ earlier / (T * N))
    inverse = factor.get_inverse(DAMPING).to_dense()
    lmat, psi = factor.get_option1quants(DAMPING)
    pmat, kmat, mu = factor.get_option2quants(DAMPING)
    np.testing.assert_allclose(lmat @ lmat.T, inverse, atol=1e-12)
    np.testing.assert_allclose(kmat @ kmat.T, inverse, atol=1e-12)
    np.testing.assert_allclose(pmat, factor.get_cov_dt1().T @ inverse, atol=1e-12)
    assert psi.shape == mu.shape == (4,)
    damped = factor.get_matpower(1, DAMPING).to_dense()
    np.testing.assert_allclose(damped @ inverse, np.eye(4), atol=1e-12)


def test_diagonal_factors_take_dense_rows_and_a_dtype():
    wanted = np.append(np.mean(ROWS**2, axis=0), 1)
    single = fisher_factors.DiagonalKroneckerFactor([[ROWS]], has_bias=True)
    narrow = ROWS.astype("float32")
    wide = fisher_factors.DiagonalKroneckerFactor([[narrow]], True, "float64")
    multi = fisher_factors.DiagonalMultiKF([[list(X)]], None, True)
    for factor in (single, wide, multi):
        factor.instantiate_cov_variables()
        found = factor.make_covariance_update_op(0.5)()
        assert found.dtype == "float64"
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert multi.make_inverse_update_ops() == []
    with pytest.raises(kc.errors.DTypeError, match="real floating"):
        fisher_factors.DiagonalKroneckerFactor([[IDS]]).instantiate_cov_variables()


def test_the_basic_block_may_have_diagonal_sides():
    block = fisher_blocks.FullyConnectedKFACBasicFB(None, False, True, True)
    dense = ready(block, ROWS, GRADIENTS).full_fisher_block()
    np.testing.assert_allclose(
        np.diag(dense), np.kron(np.mean(ROWS**2, 0), np.mean(GRADIENTS**2, 0))
    )
    assert np.count_nonzero(dense) == 6
