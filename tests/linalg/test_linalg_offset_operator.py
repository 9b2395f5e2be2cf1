"""A matrix that treats all copies alike, against its definition entry by entry."""

import itertools

import numpy as np
import pytest

from kfac_core.linalg.offset_operator import OffsetOperator, equal_copies
from kfac_core.registry import backend_of

COPIES, N = 3, 2


def symmetric(rng, n):
    matrix = rng.normal(size=(n, n))
    return matrix + matrix.T


def dense_of(within, common):
    """Build the matrix entry by entry: equal copies apart from one another."""
    n = N * COPIES + len(common) - N
    dense = np.zeros((n, n))
    for (p, i), (q, j) in itertools.product(np.ndindex(COPIES, N), repeat=2):
        apart = within[i, j] * ((p == q) - 1 / COPIES)
        dense[p * N + i, q * N + j] = apart + common[i, j] / COPIES
    if len(common) > N:
        row = np.tile(common[-1, :N], COPIES) / COPIES**0.5
        dense[-1, :-1] = dense[:-1, -1] = row
        dense[-1, -1] = common[-1, -1]
    return dense


@pytest.fixture(params=[N, N + 1], ids=["copies", "one-more"])
def blocks(request, rng):
    return symmetric(rng, N), symmetric(rng, request.param)


def operator_of(library, blocks, dtype="float64"):
    within, common = (library.asarray(block.astype(dtype)) for block in blocks)
    direction = equal_copies(backend_of(within), COPIES, within)
    return OffsetOperator(within, common, direction)


def test_it_is_the_matrix_of_its_definition(library, blocks):
    operator, dense = operator_of(library, blocks), dense_of(*blocks)
    found = library.to_numpy(operator.to_dense())
    np.testing.assert_allclose(found, dense, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(found, found.T)
    assert operator.domain_dimension == len(dense)
    np.testing.assert_allclose(float(operator.trace()), np.trace(dense), rtol=1e-14)


@pytest.mark.parametrize("adjoint_arg", [False, True])
@pytest.mark.parametrize("adjoint", [False, True])
def test_products_are_those_of_the_matrix(library, blocks, adjoint, adjoint_arg, rng):
    operator, dense = operator_of(library, blocks), dense_of(*blocks)
    x = rng.normal(size=(len(dense), 4))
    options = {"adjoint": adjoint, "adjoint_arg": adjoint_arg}
    left, right = (x.T, x) if adjoint_arg else (x, x.T)
    found = operator.matmul(library.asarray(left.copy()), **options)
    np.testing.assert_allclose(library.to_numpy(found), dense @ x, rtol=0, atol=1e-13)
    found = operator.matmul_right(library.asarray(right.copy()), **options)
    np.testing.assert_allclose(library.to_numpy(found), x.T @ dense, rtol=0, atol=1e-13)


def test_powers_of_the_blocks_are_the_blocks_of_powers(blocks, rng):
    class NumPy:
        asarray = staticmethod(np.asarray)

    powers = tuple(np.linalg.matrix_power(block, -3) for block in blocks)
    expected = np.linalg.matrix_power(dense_of(*blocks), -3)
    found = operator_of(NumPy, powers).to_dense()
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=1e-10 * abs(expected).max()
    )


@pytest.mark.parametrize(
    "dtypes", [("float32", "float64"), ("float64", "float32"), ("float32", "float32")]
)
def test_two_dtypes_are_promoted(library, blocks, dtypes, rng):
    stored, given = dtypes
    operator, dense = operator_of(library, blocks, stored), dense_of(*blocks)
    x = rng.normal(size=(len(dense), 2)).astype(given)
    for found, expected in (
        (operator.matmul(library.asarray(x)), dense @ x),
        (operator.matmul_right(library.asarray(x.T.copy())), x.T @ dense),
    ):
        result = library.to_numpy(found)
        assert result.dtype == max(dtypes)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
