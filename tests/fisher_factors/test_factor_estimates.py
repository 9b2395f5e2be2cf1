"""A factor estimates the second moment that its class names, from any library."""

import numpy as np
import pytest
from factor_case import leaves
from factor_cases import FACTORS, MATRICES

import kfac_core as kc


@pytest.fixture(params=FACTORS)
def case(request):
    return FACTORS[request.param]


@pytest.mark.parametrize(("batch", "compiled"), [(1, True), (6, False)])
def test_the_statistics_of_one_batch_are_its_second_moment(
    library, case, rng, batch, compiled
):
    spec, data = case.make(), case.draw(rng, batch)
    state = spec.init(library.asarray(np.zeros(1)))
    state = case.fold(library, spec, state, data, compiled=compiled)
    found = library.to_numpy(spec.get_cov_var(state))
    expected = case.moment(*data)
    assert found.shape == spec.cov_shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * scale)


@pytest.mark.parametrize("case", MATRICES.values(), ids=MATRICES)
def test_the_matrix_is_that_of_the_statistics(library, case, rng):
    spec, data = case.make(), case.draw(rng, 6)
    state = case.updated(library, spec, data)
    expected = case.dense(spec, library.to_numpy(spec.get_cov_var(state)))
    assert expected.shape == (spec.dimension, spec.dimension)
    found = library.to_numpy(spec.get_cov(state))
    if case.matrix is None:  # as it is stored
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)
    operator = spec.get_cov_as_linear_operator(state)
    np.testing.assert_array_equal(library.to_numpy(operator.to_dense()), found)
    np.testing.assert_allclose(float(spec.trace(state)), np.trace(expected))


def test_an_update_leaves_the_old_state_and_the_data_as_they_were(library, case, rng):
    spec = case.make(matpowers=(-1,))
    state = case.updated(library, spec, case.draw(rng, 6))
    before = library.to_numpy(spec.get_cov_var(state))
    later = case.fold(library, spec, state, case.draw(rng, 6), compiled=True)
    library.compiled(spec.update_inverses)(later, 0.1)
    np.testing.assert_array_equal(library.to_numpy(spec.get_cov_var(state)), before)
    assert not bool(state.computed)


def test_arrays_of_every_layer_stay_with_their_library(library, case, rng):
    spec = case.make(**case.all_served(-1, 0.5, 1))
    like = library.asarray(np.zeros(1))
    state = case.updated(library, spec, case.draw(rng, 6))
    state = library.compiled(spec.update_inverses)(state, 0.1)
    backend = kc.backend_of(like)
    for leaf in leaves(state):
        assert kc.backend_of(like, leaf) is backend  # and of one device
        assert type(leaf) is type(like) or library.package == "numpy"
    for leaf in leaves((state.cov, state.derived)):
        assert leaf.dtype == like.dtype
