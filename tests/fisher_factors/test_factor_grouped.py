"""A grouped factor is, in each group, the factor of the rows of that group."""

import numpy as np
import pytest

import kfac_core as kc

ID = ("damping",)
SERVED = {
    "matpowers": (1, -1, -0.5),
    "cholesky": ID,
    "cholesky_inverse": ID,
    "eigendecomposition": True,
}
OPTIONS = [{}, {"zero_debias": False, "init_covariances_at_zero": False}]


@pytest.mark.parametrize("options", OPTIONS)
def test_each_group_is_a_factor_of_its_own(plain_library, options, rng):
    asarray, to_numpy = plain_library.asarray, plain_library.to_numpy
    rows = rng.normal(size=(4, 2, 3, 2))
    dampings = np.asarray([0.1, 0.0, 2.0])
    x = rng.normal(size=(3, 3, 2))
    factor = kc.factors.GroupedKroneckerFactor(3, 2, has_bias=True, **SERVED, **options)
    state = factor.update_cov(factor.init(asarray(rows)), asarray(rows), 0.5)
    state = factor.update_inverses(state, asarray(dampings))
    found = {
        "cov": factor.get_cov(state),
        "trace": factor.trace(state),
        "eigenvalues": factor.get_eigendecomp(state).values,
        "kept": factor.get_eigenvalues(state),
        "cholesky": factor.get_cholesky(state).to_dense(),
        "inverse of it": factor.get_cholesky_inverse(state).to_dense(),
    }
    right = asarray(x.transpose(0, 2, 1))
    for exp in (1, -1, -0.5):
        found[f"left {exp}"] = factor.left_multiply_matpower(state, asarray(x), exp)
        found[f"right {exp}"] = factor.right_multiply_matpower(state, right, exp)
    found = {key: to_numpy(value) for key, value in found.items()}
    one = kc.factors.FullyConnectedKroneckerFactor(
        2, has_bias=True, **SERVED, **options
    )
    for i, damping in enumerate(dampings):
        own = one.update_cov(one.init(rows), rows[:, :, i].reshape(-1, 2), 0.5)
        own = one.update_inverses(own, damping)
        expected = {
            "cov": one.get_cov(own),
            "trace": one.trace(own),
            "eigenvalues": one.get_eigenvalues(own),
            "kept": one.get_eigenvalues(own),
            "cholesky": one.get_cholesky(own).to_dense(),
            "inverse of it": one.get_cholesky_inverse(own).to_dense(),
        }
        for exp in (1, -1, -0.5):
            expected[f"left {exp}"] = one.left_multiply_matpower(own, x[i], exp)
            expected[f"right {exp}"] = one.right_multiply_matpower(own, x[i].T, exp)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key][i], value, rtol=1e-9, atol=1e-10)


def test_one_damping_is_that_of_all(rng):
    rows = rng.normal(size=(4, 2, 3, 2))
    factor = kc.factors.GroupedKroneckerFactor(3, 2, matpowers=(-1,))
    state = factor.update_cov(factor.init(rows), rows, 0.5)
    same = [
        factor.update_inverses(state, damping).derived.matpowers[0]
        for damping in (0.1, np.asarray(0.1), np.full(3, 0.1), {"damping": 0.1})
    ]
    for other in same[1:]:
        np.testing.assert_array_equal(other, same[0])


def test_what_does_not_fit_is_refused(rng):
    rows = rng.normal(size=(4, 2, 3, 2))
    factor = kc.factors.GroupedKroneckerFactor(3, 2, matpowers=(-1,), name="layer7")
    state = factor.update_cov(factor.init(rows), rows, 0.5)
    with pytest.raises(kc.errors.ShapeError, match=r"layer7.*tensors"):
        factor.update_cov(state, rows[:, :, :2], 0.5)
    with pytest.raises(kc.errors.ShapeError, match=r"layer7.*damping"):
        factor.update_inverses(state, np.ones(2))
    for wrong in (np.asarray([0.1, -0.1, 0.1]), np.asarray([0.1, np.nan, 0.1])):
        with pytest.raises(kc.errors.ArgumentError, match=r"layer7.*damping"):
            factor.update_inverses(state, wrong)
    state = factor.update_inverses(state, 0.1)
    with pytest.raises(kc.errors.ShapeError, match=r"layer7.*x"):
        factor.left_multiply_matpower(state, np.ones((2, 1)), -1)
