"""Operators multiply as the dense matrices that they stand for."""

import numpy as np
import pytest

from kfac_core import KfacError
from kfac_core.errors import ShapeError
from kfac_core.linalg import DiagonalOperator, FullMatrixOperator
from kfac_core.linalg.operators import multiply

KINDS = {"full": FullMatrixOperator, "diagonal": DiagonalOperator}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def stored(kind, rng):
    return rng.normal(size=(3, 3) if kind == "full" else (3,))


@pytest.fixture
def dense(stored):
    return stored if stored.ndim == 2 else np.diag(stored)


@pytest.fixture
def operator(library, kind, stored):
    return KINDS[kind](library.asarray(stored))


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("adjoint_arg", [False, True])
def test_products_are_those_of_the_dense_matrix(
    library, operator, dense, rng, adjoint, adjoint_arg
):
    x = rng.normal(size=(3, 2))
    whole = dense.T if adjoint else dense
    options = {"adjoint": adjoint, "adjoint_arg": adjoint_arg}
    left = operator.matmul(library.asarray(x.T if adjoint_arg else x), **options)
    right = operator.matmul_right(library.asarray(x if adjoint_arg else x.T), **options)
    np.testing.assert_allclose(library.to_numpy(left), whole @ x, rtol=1e-13)
    np.testing.assert_allclose(library.to_numpy(right), x.T @ whole, rtol=1e-13)


def test_trace_dimension_and_dense_form(library, operator, dense):
    assert operator.domain_dimension == 3
    np.testing.assert_allclose(float(operator.trace()), np.trace(dense))
    np.testing.assert_array_equal(library.to_numpy(operator.to_dense()), dense)


@pytest.mark.parametrize("right", [False, True])
def test_a_vector_comes_in_any_of_its_forms(library, operator, dense, rng, right):
    v = rng.normal(size=3)
    expected = v @ dense if right else dense @ v
    for shape in [(3,), (3, 1), (1, 3)]:
        # The declared form, or a matrix with as many rows (columns) as the operator.
        declared = shape if shape != ((3, 1), (1, 3))[right] else (3,)
        x = library.asarray(v.reshape(shape))
        found = multiply(operator, x, declared, "layer", right=right)
        assert found.shape == x.shape
        np.testing.assert_allclose(
            library.to_numpy(found).ravel(), expected, rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("shape", [(), (2,), (2, 2), (3, 1, 1)])
@pytest.mark.parametrize("right", [False, True])
def test_other_shapes_are_refused(library, operator, shape, right):
    with pytest.raises(ShapeError, match=r"^fc1: x has shape .*expected.*3") as caught:
        multiply(operator, library.asarray(np.ones(shape)), (3,), "fc1", right=right)
    assert isinstance(caught.value, KfacError)


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")])
def test_two_dtypes_are_promoted(library, kind, stored, dense, dtypes):
    operator = KINDS[kind](library.asarray(stored.astype(dtypes[0])))
    x = library.asarray(np.eye(3, dtype=dtypes[1]))
    found = library.to_numpy(operator.matmul(x))
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, dense, rtol=1e-6)
