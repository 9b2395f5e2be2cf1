"""JAX: factors and inverses in panels, and sums in a loop."""

import numpy as np
import pytest

from kfac_core.registry import load_backend

# Around the sizes of leaves, and of panels that do not divide.
SIZES = [1, 65, 129, 257, 515]
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


@pytest.mark.parametrize("dtype", EPS)
def test_gram_matrices_of_few_rows_are_added_symmetrically(jax, backend, rng, dtype):
    from kfac_backends.jax_tiles import syrk_in_tiles

    # Of tiles, some of these leave a rest.
    for n in [128, 129, 257, 511, 2051]:
        syrk = jax.jit(backend.syrk if n > 2048 else syrk_in_tiles)
        for rows in [1, 31]:
            x = rng.normal(size=(rows, n)).astype(dtype)
            c = rng.normal(size=(n, n)).astype(dtype)
            c = c + c.T
            alpha, beta = dtype(0.5), dtype(0.9)
            found = backend.to_numpy(syrk(alpha, x, beta, c))
            assert found.dtype == dtype
            assert np.array_equal(found, found.T), (rows, n)
            exact = np.float64(alpha) * np.float64(x).T @ x + np.float64(beta) * c
            np.testing.assert_allclose(found, exact, atol=20 * rows * EPS[dtype])


def test_what_is_not_finite_shows_wherever_it_is(jax, backend, rng):
    x = rng.normal(size=(65, 64)).astype(np.float32)
    x[0, 0] = -np.finfo(np.float32).max
    is_finite = jax.jit(backend.is_finite)
    assert is_finite(backend.from_numpy(x))
    assert is_finite(backend.from_numpy(x[:0]))
    for place in [(0, 0), (31, 63), (64, 63)]:
        for wrong in [np.nan, np.inf, -np.inf]:
            other = x.copy()
            other[place] = wrong
            assert not is_finite(backend.from_numpy(other))


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


def test_sums_over_chunks_larger_than_the_batch(jax, backend, rng):
    x = rng.integers(-9, 9, size=(3, 2)).astype(float)
    sizes = []

    def function(chunk):
        sizes.append(chunk.shape[0])
        return [chunk.T @ chunk]

    for size in (3, 4, 100):
        (gram,) = jax.jit(lambda x, k=size: backend.sum_over(function, x, k))(x)
        assert np.array_equal(gram, x.T @ x)
    assert sizes == [3, 3, 3]


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
