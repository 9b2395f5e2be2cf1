"""The factors of ``kfac_core.contrib`` behave as the manual of the original says."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.contrib import PackagedFunc, fisher_factors

ROWS = np.asarray([[1.0, 2.0], [3.0, 4.0]])
IDENTITY_START = {"zero_debias": False, "init_covariances_at_zero": False}


def weak() -> float:
    return 0.1


def strong() -> float:
    return 1.0


def updated(factor, decay=0.95):
    factor.instantiate_cov_variables()
    factor.make_covariance_update_op(decay)()
    return factor


# The numbers of the next four tests are those of the original's own tests.


@pytest.mark.parametrize(
    ("has_bias", "wanted"),
    [
        (False, [[3, 3.5], [3.5, 5.5]]),
        (True, [[3, 3.5, 1], [3.5, 5.5, 1.5], [1, 1.5, 1]]),
    ],
)
def test_fully_connected_from_the_identity(library, has_bias, wanted):
    rows = library.asarray(ROWS)
    factor = fisher_factors.FullyConnectedKroneckerFactor(
        [[rows]], has_bias, **IDENTITY_START
    )
    np.testing.assert_array_equal(
        library.to_numpy(updated(factor, 0.5).get_cov()), wanted
    )


def test_full_from_the_identity(library):
    gradient = library.asarray(np.asarray([1.0, 2.0]))
    factor = fisher_factors.FullFactor([gradient], 2, **IDENTITY_START)
    cov = library.to_numpy(updated(factor, 0.5).get_cov())
    np.testing.assert_array_equal(cov, [[0.75, 0.5], [0.5, 1.5]])


def test_naive_diagonal_from_ones(library):
    gradient = library.asarray(np.asarray([1.0, 2.0]))
    factor = fisher_factors.NaiveDiagonalFactor([gradient], 2, **IDENTITY_START)
    stored = library.to_numpy(updated(factor, 0.5).get_cov_var())
    np.testing.assert_array_equal(stored, [[0.75], [1.5]])


def test_conv_output_from_the_identity(library):
    gradients = library.asarray(np.arange(1.0, 17.0).reshape(2, 2, 2, 2))
    factor = fisher_factors.ConvOutputKroneckerFactor([[gradients]], **IDENTITY_START)
    cov = library.to_numpy(updated(factor, 0.5).get_cov())
    np.testing.assert_array_equal(cov, [[43, 46.5], [46.5, 51.5]])


def test_an_op_takes_the_arrays_of_the_constructor_or_new_ones():
    factor = fisher_factors.FullyConnectedKroneckerFactor([[ROWS]])
    factor.instantiate_cov_variables()
    op = factor.make_covariance_update_op(0.0)
    np.testing.assert_array_equal(op(), ROWS.T @ ROWS / 2)
    np.testing.assert_array_equal(op([[2 * ROWS]]), 2 * ROWS.T @ ROWS)
    np.testing.assert_array_equal(op(), ROWS.T @ ROWS / 2)


def test_the_first_index_is_the_source_and_the_second_the_tower():
    single = fisher_factors.FullyConnectedKroneckerFactor([[ROWS]])
    sources = fisher_factors.FullyConnectedKroneckerFactor([[ROWS], [ROWS]])
    towers = fisher_factors.FullyConnectedKroneckerFactor([[ROWS, ROWS]])
    flat = fisher_factors.FullyConnectedKroneckerFactor([ROWS, ROWS])
    one = updated(single).get_cov()
    np.testing.assert_array_equal(updated(sources).get_cov(), 2 * one)
    np.testing.assert_array_equal(updated(flat).get_cov(), 2 * one)
    np.testing.assert_allclose(updated(towers).get_cov(), one, rtol=1e-15)


def test_one_array_is_one_tower():
    ids = np.asarray([[0], [1], [4]])
    for given in (ids, [ids], (ids,)):
        factor = updated(fisher_factors.EmbeddingInputKroneckerFactor(given, 5))
        np.testing.assert_allclose(
            factor.get_cov_var(), np.asarray([1, 1, 0, 0, 1]) / 3, rtol=1e-6
        )


def test_get_cov_is_the_matrix_and_get_cov_var_what_is_stored():
    inputs, gradients = ROWS, np.asarray([[1.0, 0.5, 2.0], [0.0, 1.0, 1.0]])
    factor = fisher_factors.FullyConnectedDiagonalFactor([inputs], [[gradients]], True)
    updated(factor)
    assert factor.get_cov_var().shape == (3, 3)
    np.testing.assert_array_equal(
        factor.get_cov(), np.diag(factor.get_cov_var().ravel())
    )


def test_equal_ids_share_and_different_ids_do_not():
    factor = updated(fisher_factors.FullyConnectedKroneckerFactor([[ROWS]]))
    same = [PackagedFunc(lambda: 0.1, "weak") for _ in range(2)]
    for function in (*same, PackagedFunc(strong, "strong")):
        factor.register_matpower(-1, function)
    assert factor.spec.matpowers == ((-1.0, "weak"), (-1.0, "strong"))


def test_damping_functions_are_called_at_each_inverse_update():
    damping = {"now": 1.0}
    factor = updated(fisher_factors.FullyConnectedKroneckerFactor([[ROWS]]))

    def current():
        return damping["now"]

    factor.register_inverse(current)
    factor.instantiate_inv_variables()
    (op,) = factor.make_inverse_update_ops()
    for value in (1.0, 3.0):
        damping["now"] = value
        op()
        wanted = np.linalg.inv(ROWS.T @ ROWS / 2 + value * np.eye(2))
        np.testing.assert_allclose(factor.get_inverse(current).to_dense(), wanted)


def test_stored_powers_are_stale_and_the_first_power_is_fresh():
    factor = updated(fisher_factors.FullyConnectedKroneckerFactor([[ROWS]]), 0.0)
    factor.register_inverse(weak)
    factor.instantiate_inv_variables()
    for op in factor.make_inverse_update_ops():
        op()
    before = factor.get_inverse(weak).to_dense()
    factor.make_covariance_update_op(0.0)([[3 * ROWS]])
    np.testing.assert_array_equal(factor.get_inverse(weak).to_dense(), before)
    fresh = factor.get_matpower(1, weak).to_dense()
    np.testing.assert_allclose(fresh, 9 * ROWS.T @ ROWS / 2 + 0.1 * np.eye(2))
    eigen = factor.get_eigendecomp()
    np.testing.assert_allclose(
        (eigen.vectors * eigen.values) @ eigen.vectors.T, factor.get_cov()
    )


def test_diagonal_factors_serve_every_power_on_demand():
    gradient = np.asarray([1.0, 2.0, 3.0])
    factor = updated(fisher_factors.NaiveDiagonalFactor([gradient], 1))
    assert factor.make_inverse_update_ops() == []
    damped = gradient**2 + 0.1
    for exp in (-1, -0.5, 0.5, 1, 2):
        np.testing.assert_allclose(
            factor.get_matpower(exp, weak).to_dense(), np.diag(damped**exp)
        )
    np.testing.assert_allclose(
        factor.get_cholesky(weak).to_dense(), np.diag(damped**0.5)
    )
    np.testing.assert_allclose(
        factor.get_cholesky_inverse(weak).to_dense(), np.diag(damped**-0.5)
    )


def test_what_the_original_could_not_multiply():
    ids = np.asarray([[0], [1], [4]])
    factor = updated(
        fisher_factors.EmbeddingInputKroneckerFactor([ids], 5, dtype="float64")
    )
    scale = 1 / (np.asarray([1, 1, 0, 0, 1]) / 3 + 0.1)
    table = np.arange(10.0).reshape(5, 2)
    left = factor.left_multiply_matpower(table, -1, weak)
    np.testing.assert_allclose(left, scale[:, None] * table)
    right = factor.right_multiply_matpower(table.T, -1, weak)
    np.testing.assert_allclose(right, table.T * scale)
    np.testing.assert_allclose(
        factor.left_multiply_matpower(np.ones(5), -1, weak), scale
    )


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get_matpower", (-0.5, weak)),
        ("get_inverse", (strong,)),
        ("get_cholesky", (weak,)),
    ],
)
def test_what_is_not_registered_is_a_key_error(method, arguments):
    factor = updated(fisher_factors.FullyConnectedKroneckerFactor([[ROWS]]))
    factor.register_inverse(weak)
    factor.instantiate_inv_variables()
    for op in factor.make_inverse_update_ops():
        op()
    with pytest.raises(KeyError, match="is not registered"):
        getattr(factor, method)(*arguments)


def test_nothing_is_read_before_it_is_there():
    factor = fisher_factors.FullyConnectedKroneckerFactor([[ROWS]], name="fc7")
    with pytest.raises(
        kc.errors.NotComputedError, match=r"fc7.*instantiate_cov_variables"
    ):
        factor.get_cov()
    factor.instantiate_cov_variables()
    with pytest.raises(
        kc.errors.NotComputedError, match=r"fc7.*before the first update"
    ):
        factor.get_cov()
    factor.make_covariance_update_op(0.95)()
    factor.register_inverse(weak)
    factor.instantiate_inv_variables()
    with pytest.raises(kc.errors.NotComputedError, match=r"fc7.*update_inverses"):
        factor.get_inverse(weak)


def test_a_failed_update_changes_nothing():
    factor = updated(fisher_factors.FullyConnectedKroneckerFactor([[ROWS]]))
    before = factor.get_cov()
    op = factor.make_covariance_update_op(0.5)
    with pytest.raises(kc.errors.NotFiniteError):
        op([[np.full((2, 2), np.nan)]])
    with pytest.raises(kc.errors.ShapeError):
        op([[np.ones((2, 3))]])
    np.testing.assert_array_equal(factor.get_cov(), before)


def test_names_tell_equal_from_different():
    def name(**options):
        return fisher_factors.FullyConnectedKroneckerFactor([[ROWS]], **options).name

    assert name() == name()
    assert name() != name(has_bias=True)
    assert name(name="fc7") == "fc7"


def test_names_of_the_original_are_the_same_classes():
    assert fisher_factors.FullFactor is fisher_factors.NaiveFullFactor
    assert (
        fisher_factors.InverseProvidingFactor is fisher_factors.DenseSquareMatrixFactor
    )
    for name, base in {
        "EmbeddingInputKroneckerFactor": fisher_factors.DiagonalFactor,
        "FullyConnectedDiagonalFactor": fisher_factors.DiagonalFactor,
        "ConvInputKroneckerFactor": fisher_factors.InverseProvidingFactor,
        "NaiveFullFactor": fisher_factors.InverseProvidingFactor,
    }.items():
        assert issubclass(getattr(fisher_factors, name), base)
