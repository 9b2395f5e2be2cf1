"""Matrices of low rank and of blocks multiply, and are raised, as the dense ones."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from kfac_core.linalg.block_diagonal import BlockDiagonalOperator
from kfac_core.linalg.low_rank import LowRankOperator, power_core
from kfac_core.registry import backend_of

N = 5


def symmetric(rng, n):
    matrix = rng.normal(size=(n, n))
    return matrix + matrix.T


def low_rank(rng):
    scale, rows, core = np.asarray(0.7), rng.normal(size=(2, N)), symmetric(rng, 2)
    return LowRankOperator(scale, rows, core), 0.7 * np.eye(N) + rows.T @ core @ rows


def no_core(rng):
    scale, rows = np.asarray(0.0), rng.normal(size=(2, N))
    return LowRankOperator(scale, rows), rows.T @ rows


def blocks(rng):
    dense = np.zeros((N, N))
    dense[:2, :2], dense[2:4, 2:4] = rng.normal(size=(2, 2, 2))
    dense[4, 4] = 3.0
    parts = tuple(dense[i : i + 2, i : i + 2] for i in (0, 2, 4))
    return BlockDiagonalOperator(parts), dense


def one_block(rng):
    dense = rng.normal(size=(N, N))
    return BlockDiagonalOperator((dense,)), dense


def cast(function, operator):
    """Return the operator with a function of each of its arrays."""
    if isinstance(operator, BlockDiagonalOperator):
        return BlockDiagonalOperator(tuple(map(function, operator.blocks)))
    return LowRankOperator(*(x if x is None else function(x) for x in operator))


@pytest.fixture(params=[low_rank, no_core, blocks, one_block])
def both(request, rng):
    return request.param(rng)


def test_it_is_the_matrix_of_its_definition(library, both):
    operator, dense = cast(library.asarray, both[0]), both[1]
    found = library.to_numpy(operator.to_dense())
    np.testing.assert_allclose(found, dense, rtol=0, atol=1e-14)
    assert operator.domain_dimension == N
    np.testing.assert_allclose(float(operator.trace()), np.trace(dense), rtol=1e-13)
    if isinstance(operator, LowRankOperator):
        np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("adjoint_arg", [False, True])
@pytest.mark.parametrize("adjoint", [False, True])
def test_products_are_those_of_the_matrix(library, both, adjoint, adjoint_arg, rng):
    operator, dense = cast(library.asarray, both[0]), both[1]
    dense = dense.T if adjoint else dense
    x = rng.normal(size=(N, 4))
    options = {"adjoint": adjoint, "adjoint_arg": adjoint_arg}
    left, right = (x.T, x) if adjoint_arg else (x, x.T)
    found = operator.matmul(library.asarray(left.copy()), **options)
    np.testing.assert_allclose(library.to_numpy(found), dense @ x, rtol=0, atol=1e-13)
    found = operator.matmul_right(library.asarray(right.copy()), **options)
    np.testing.assert_allclose(library.to_numpy(found), x.T @ dense, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")])
def test_two_dtypes_are_promoted(library, both, dtypes, rng):
    stored, given = dtypes
    operator = cast(lambda x: library.asarray(x.astype(stored)), both[0])
    x = rng.normal(size=(N, 2)).astype(given)
    found = library.to_numpy(operator.matmul(library.asarray(x)))
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, both[1] @ x, rtol=0, atol=1e-5)


def exact_core(s, damping, exp):
    """Return ``((d + s)^p - d^p) / s``, or its limit, to many digits."""
    with localcontext(prec=700):
        s, damping, exp = Decimal(s), Decimal(damping), Decimal(exp)
        if s == 0:
            return float(exp * damping ** (exp - 1))
        return float(((damping + s) ** exp - damping**exp) / s)


@pytest.mark.parametrize("exp", [-1, -2, -0.5, -0.01, 0, 0.01, 0.25, 0.5, 1, 2])
def test_cores_are_exact_however_small_the_eigenvalue(exp):
    s, damping = np.asarray([0.0, 1e-300, 1e-20, 1e-9, 1e-3, 1.0, 40.0, 1e6]), 0.3
    core = power_core(backend_of(s), np.diag(s), np.asarray(damping), exp)
    np.testing.assert_array_equal(core, core.T)
    expected = np.diag([exact_core(x, damping, exp) for x in s])
    np.testing.assert_allclose(core, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("exp", [-1, -0.5, 0, 0.5, 2])
def test_without_damping_there_are_positive_powers_alone(exp):
    s = np.asarray([0.0, 1e-3, 4.0])
    core = power_core(backend_of(s), np.diag(s), np.asarray(0.0), exp)
    if exp < 0:
        assert np.isnan(core).any()
    else:
        # Of an eigenvalue that is zero the core is multiplied by zero.
        expected = np.asarray([0.0, *(s[1:] ** exp / s[1:] if exp else (0.0, 0.0))])
        np.testing.assert_allclose(np.diag(core), expected, rtol=1e-13)
