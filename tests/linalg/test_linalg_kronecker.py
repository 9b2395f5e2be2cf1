"""``kron(A, G)`` acts on the row-major flattening of ``V`` as ``A V G``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfac_core import backend_of
from kfac_core.linalg import DiagonalOperator, FullMatrixOperator
from kfac_core.linalg.kronecker import kron, kron_matmul


@given(
    shape=st.sampled_from([(1, 1, 1, 1), (2, 3, 1, 2), (3, 3, 2, 2)]),
    seed=st.integers(0, 99),
)
def test_kron_is_that_of_numpy(library, shape, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=shape[:2]), rng.normal(size=shape[2:])
    x, y = library.asarray(a), library.asarray(b)
    np.testing.assert_array_equal(
        library.to_numpy(kron(backend_of(x, y), x, y)), np.kron(a, b)
    )


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("adjoint", [False, True])
def test_product_of_factors_is_the_product_with_kron(library, rng, diagonal, adjoint):
    # Of general matrices: A V G is the product with kron(A, G').
    dense_a, dense_g = rng.normal(size=(3, 3)), rng.normal(size=(2, 2))
    v = rng.normal(size=(3, 2))
    a = FullMatrixOperator(library.asarray(dense_a))
    if diagonal:
        a = DiagonalOperator(library.asarray(dense_a.diagonal().copy()))
        dense_a = np.diag(dense_a.diagonal())
    g = FullMatrixOperator(library.asarray(dense_g))
    found = kron_matmul(
        a, g, library.asarray(v), adjoint_a=adjoint, adjoint_g=not adjoint
    )
    whole = np.kron(dense_a, dense_g)
    expected = (whole.T if adjoint else whole) @ v.ravel()
    np.testing.assert_allclose(
        library.to_numpy(found).ravel(), expected, rtol=1e-12, atol=1e-13
    )
