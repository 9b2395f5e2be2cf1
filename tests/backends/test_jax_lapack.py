"""Inverses of JAX by calls of LAPACK: on both sides of each size, failed, mapped."""

import numpy as np
import pytest

from kfac_core.registry import load_backend

HALVED_FROM, COLUMNS = 96, 640
SIZES = (1, 2, 7, HALVED_FROM - 1, HALVED_FROM, 131)
DAMPING = 0.1


def matrix(n, dtype):
    x = np.random.default_rng(n).standard_normal((2 * n, n))
    return (x.T @ x / n).astype(dtype)


def truth(a):
    return np.linalg.inv(a.astype(np.float64) + DAMPING * np.eye(len(a)))


@pytest.fixture
def lapack(jax):
    module = pytest.importorskip("kfac_backends.jax_lapack")
    assert (module.HALVED_FROM, module.COLUMNS) == (HALVED_FROM, COLUMNS)
    return module


@pytest.fixture
def backend(jax):
    return load_backend("jax")


@pytest.fixture
def inverse(jax, backend):
    compiled = jax.jit(backend.damped_inverse)
    return lambda a: np.asarray(compiled(a, DAMPING))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inverses_are_those_of_numpy(jax, lapack, inverse, n, dtype):
    a = matrix(n, dtype)
    assert lapack.inverts(jax.numpy.asarray(a))
    found, expected = inverse(a), truth(a)
    assert found.dtype == dtype
    assert (found == found.T).all()
    # Higham, 14.1: n u cond(A) |inv(A)|, with a constant for three steps.
    error = 8 * n * np.finfo(dtype).eps / 2 * np.linalg.cond(expected)
    assert np.abs(found - expected).max() <= error * np.linalg.norm(expected, 2)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e3])
@pytest.mark.parametrize("at", [0, -1])
def test_what_has_no_inverse_is_nan_all_over(inverse, n, bad, at):
    a = matrix(n, "float64")
    a[at, at] = bad
    assert np.isnan(inverse(a)).all()


@pytest.mark.parametrize("n", [5, HALVED_FROM + 3])
def test_of_a_stack_each_is_inverted_or_nan_by_itself(jax, backend, n):
    a = matrix(n, "float64")
    stack = jax.numpy.stack([a, np.nan * a, 2 * a])
    mapped = jax.jit(jax.vmap(lambda one: backend.damped_inverse(one, DAMPING)))
    for found in (mapped(stack), backend.damped_inverse(stack, DAMPING)):
        np.testing.assert_allclose(found[0], truth(a), rtol=1e-9, atol=1e-12)
        assert np.isnan(found[1]).all()
        np.testing.assert_allclose(found[2], truth(2 * a), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [5, HALVED_FROM + 3])
def test_derivatives_are_minus_the_square_and_twice_the_cube(jax, backend, n):
    a = matrix(n, "float64")

    def trace(damping):
        return jax.numpy.trace(backend.damped_inverse(a, damping))

    known = truth(a)
    first, second = jax.grad(trace), jax.jacfwd(jax.grad(trace))
    np.testing.assert_allclose(first(DAMPING), -np.trace(known @ known), rtol=1e-9)
    cube = 2 * np.trace(known @ known @ known)
    np.testing.assert_allclose(second(DAMPING), cube, rtol=1e-9)


def test_a_matrix_of_many_columns_is_inverted_in_panels(jax, lapack):
    many = jax.ShapeDtypeStruct((COLUMNS + 1,) * 2, "float32")
    assert not lapack.inverts(many)
    assert not lapack.inverts(jax.ShapeDtypeStruct((4, 4), "float16"))
