"""EKFAC of a layer in groups is, in each group, that of the convolution alone."""

from dataclasses import replace

import numpy as np
import pytest
from block_case import NumPy, dense_power, flat
from grouped_truth import CASES, assert_close

import kfac_core as kc
from kfac_core import tree
from kfac_core.errors import UnsupportedError

N = 6


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def fisher(case, data):
    """Return the Fisher of each group, as one matrix, and without what they share."""
    gradients = case.case_gradients(*data)
    dense, apart = gradients.T @ gradients / len(gradients), 0 * np.eye(case.size)
    for i in range(case.groups):
        own = np.ix_(case.places(i), case.places(i))
        apart[own] = dense[own]
    return dense, apart


def fitted(block, data, **options):
    """Return the state after data, a basis, and the same data in that basis."""
    start = block.init(np.zeros(1))
    state = block.update_covs(start, *data, ema_decay=0.0, **options)
    state = block.update_inverses(state, 0.3)
    return block.update_covs(state, *data, ema_decay=0.0, **options)


def corrected(case, **options):
    return kc.blocks.EigenvalueCorrectedFB(case.block(), **options)


def test_it_is_the_nearest_with_its_eigenvectors(case, rng):
    data = case.draw(rng, N)
    dense, apart = fisher(case, data)
    block = corrected(case)
    found = block.full_fisher_block(fitted(block, data))
    for direction in (found, np.eye(case.size), found @ found):
        slope = np.sum((found - dense) * direction)
        assert abs(slope) < 1e-11 * np.linalg.norm(dense) * np.linalg.norm(direction)
    kfac = np.linalg.norm(case.fisher(*data) - apart)
    assert np.linalg.norm(found - apart) < 0.999 * kfac
    np.testing.assert_allclose(np.trace(found), np.trace(dense), rtol=1e-12)
    # What groups share is in neither.
    assert np.linalg.norm(apart - dense) > 1e-3 * np.linalg.norm(dense)


def test_products_are_those_with_the_dense_block(case, rng):
    data, vector = case.draw(rng, N), case.vector(rng)
    block = corrected(case, matpowers=(-1, -0.5), cholesky=True)
    state = fitted(block, data)
    dense = block.full_fisher_block(state) + 0.3 * np.eye(case.size)
    for exp in (1, -1, -0.5):
        found = flat(NumPy, block.multiply_matpower(state, vector, exp))
        assert_close(found, dense_power(dense, exp) @ flat(NumPy, vector))
    found = flat(NumPy, block.multiply_cholesky(state, vector))
    assert_close(found, dense_power(dense, 0.5) @ flat(NumPy, vector))
    values = np.sort(block.spectrum(state)[0].eigenvalues.ravel())
    assert_close(values + 0.3, np.linalg.eigvalsh(dense))


def test_before_data_in_a_basis_it_is_kfac_with_exact_damping(case, rng):
    data, vector = case.draw(rng, N), case.vector(rng)
    block, kfac = corrected(case), case.block(damping_type="exact")
    found, expected = (
        own.multiply_inverse(
            own.update_inverses(own.update_covs(own.init(data[1]), *data, 0.0), 0.3),
            vector,
        )
        for own in (block, kfac)
    )
    assert_close(flat(NumPy, found), flat(NumPy, expected), 1e-12)


def test_one_group_is_the_convolution_itself(rng):
    case = replace(CASES["grouped"], groups=1)
    data, vector = case.draw(rng, N), case.vector(rng)
    geometry = kc.ConvolutionGeometry(
        case.filter_shape, padding="VALID", strides=(1, 2)
    )
    one = kc.blocks.EigenvalueCorrectedFB(
        kc.blocks.ConvKFCBasicFB(geometry, has_bias=True)
    )
    found, expected = (
        flat(NumPy, own.multiply_inverse(fitted(own, data), vector))
        for own in (corrected(case), one)
    )
    assert_close(found, expected, 1e-11)


def test_a_case_of_weight_two_counts_as_two(rng):
    case = CASES["grouped"]
    block, data = corrected(case), case.draw(rng, N)
    weights = np.ones(N)
    weights[0], weights[1] = 2.0, 0.0
    repeated = tuple(np.take(x, [0, 0, *range(2, N)], axis=0) for x in data)
    found = fitted(block, data, weights=weights).moments.total
    assert_close(found, fitted(block, repeated).moments.total)


@pytest.mark.parametrize("name", ["grouped", "depthwise-channels-first"])
def test_every_library_computes_the_same(library, name, rng):
    case = CASES[name]
    block, data, vector = corrected(case), case.draw(rng, N), case.vector(rng)
    start = block.update_covs(block.init(np.zeros(1)), *data, ema_decay=0.0)

    def run(state, data, vector):
        state = block.update_inverses(state, 0.3)
        state = block.update_covs(state, *data, ema_decay=0.0)
        return block.multiply_inverse(state, vector)

    arrays = tree.map(library.asarray, (data, vector))
    found = library.compiled(run)(library.moved(start), *arrays)
    expected = flat(NumPy, run(start, data, vector))
    assert_close(flat(library, found), expected, 1e-11)


def test_other_approximations_of_case_gradients_refuse_groups():
    for make in (kc.blocks.KroneckerOptimalFB, kc.blocks.ShampooFB, kc.blocks.SoapFB):
        with pytest.raises(UnsupportedError, match="factor of the form Stack"):
            make(CASES["grouped"].block())
