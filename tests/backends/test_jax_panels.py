"""JAX: factors and inverses in panels, and sums in a loop."""

import numpy as np
import pytest

from kfac_core.registry import load_backend

# Around the sizes of leaves, and of panels that do not divide.
SIZES = [1, 127, 129, 257, 515]
EPS = {np.float32: float(np.finfo(np.float32).eps), np.float64: 2.0**-52}


@pytest.fixture
def backend(jax):
    return load_backend("jax")


def positive_definite(rng, n):
    a = rng.normal(size=(2 * n, n))
    return a.T @ a / (2 * n) + 0.1 * np.eye(n)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", EPS)
def test_factors_and_inverses_of_any_size(backend, rng, n, dtype):
    a = positive_definite(rng, n)
    upper = np.where(np.triu(np.ones((n, n)), 1) > 0, np.nan, a)
    factor = backend.cholesky(backend.from_numpy(upper.astype(dtype)))
    inverse = backend.to_numpy(backend.cholesky_inverse(factor))
    factor = backend.to_numpy(factor)
    assert factor.dtype == inverse.dtype == dtype
    assert np.array_equal(factor, np.tril(factor))
    assert np.array_equal(inverse, inverse.T)
    exact = np.float64(factor)
    bound = 50 * EPS[dtype]
    np.testing.assert_allclose(exact @ exact.T, a, rtol=0, atol=bound)
    np.testing.assert_allclose(
        np.float64(inverse), np.linalg.inv(exact @ exact.T), rtol=0, atol=20 * bound
    )


@pytest.mark.parametrize("place", [0, 300, 514])
def test_a_failure_in_any_panel_is_nan_throughout(backend, rng, place):
    a = positive_definite(rng, 515)
    stack = np.stack([a, a])
    stack[1, place, place] = -1.0
    good, bad = backend.to_numpy(backend.cholesky(backend.from_numpy(stack)))
    np.testing.assert_allclose(good, np.linalg.cholesky(a), atol=1e-12)
    assert np.isnan(bad).all()


@pytest.mark.parametrize("cases", [1, 5, 6])
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_sums_over_chunks_take_every_case_once(jax, backend, cases, size):
    x = backend.from_numpy(2.0 ** np.arange(cases)[:, None] * np.ones(3))
    shapes = []

    def function(chunk):
        shapes.append(chunk.shape)
        return [chunk.sum(), chunk.T @ chunk]

    size = min(size, cases)
    total, gram = jax.jit(lambda x: backend.sum_over(function, x, size))(x)
    assert float(total) == 3 * (2.0**cases - 1)
    assert np.array_equal(gram, x.T @ x)
    # However many chunks, no more than one of full length and one shorter are traced.
    assert set(shapes) <= {(size, 3), (cases % size, 3)}
    assert len(shapes) <= 3


def test_sums_over_chunks_differentiate_and_map(jax, backend, rng):
    x = backend.from_numpy(rng.normal(size=(4, 6, 3)))

    def function(x):
        (gram,) = backend.sum_over(lambda c: [(c.T @ c) ** 2], x, 2)
        return gram.sum()

    def plain(x):
        return sum(((x[k::3].T @ x[k::3]) ** 2).sum() for k in range(3))

    np.testing.assert_allclose(jax.vmap(function)(x), jax.vmap(plain)(x), rtol=1e-12)
    np.testing.assert_allclose(
        jax.grad(function)(x[0]), jax.grad(plain)(x[0]), rtol=1e-12
    )


def test_sums_over_chunks_within_shard_map(jax, backend, rng):
    mesh = jax.make_mesh((1,), ("data",))
    spec = jax.sharding.PartitionSpec("data")
    values = rng.normal(size=(6, 3))
    x = jax.device_put(values, jax.sharding.NamedSharding(mesh, spec))

    def function(part):
        (gram,) = backend.sum_over(lambda c: [c.T @ c], part, 2)
        return gram[None]

    mapped = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec)
    np.testing.assert_allclose(mapped(x)[0], values.T @ values, rtol=1e-12)
