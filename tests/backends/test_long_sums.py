"""Sums of very many rows keep their digits: products, columns, and by index.

As `tests/backends/test_gram_runs.py`, the bounds are of the sum as it is computed: a
run of rows, then the runs.
"""

import math

import numpy as np
import pytest

from kfac_backends.runs import ROWS_OF_SUM, run_length
from kfac_core.registry import load_backend
from kfac_core.statistics.rows import (
    lagged_moment,
    second_moment,
    squared_mean,
    squared_moment,
)

WAYS = ["numpy", "torch", "compiled", "jax", "jit"]
MANY = 400_001
UNIT = np.finfo(np.float32).eps / 2
# Of equal entries every rounding has the same sign, and the errors add up.
ROWS = {
    "normal": lambda rng, shape: 1 + rng.normal(size=shape),
    "equal": lambda rng, shape: np.full(shape, 0.7),
}


@pytest.fixture(params=WAYS)
def way(request):
    """Return a backend, and how its functions are called."""
    name = request.param
    if name == "numpy":
        return load_backend(name), lambda f: f
    if name in {"jax", "jit"}:
        jax = request.getfixturevalue("jax")
        return load_backend("jax"), jax.jit if name == "jit" else lambda f: f
    torch = request.getfixturevalue("torch")
    if name == "torch":
        return load_backend(name), lambda f: f
    torch._dynamo.reset()
    return load_backend("torch"), lambda f: torch.compile(
        f, fullgraph=True, backend="aot_eager"
    )


def products(n):
    """Return the roundings of a product, of the narrower side of `n` columns."""
    count = -(-MANY // run_length(n))
    return run_length(n) + 2 * math.ceil(math.log2(count)) + 4


SUMS = (ROWS_OF_SUM + 1) * math.ceil(math.log(MANY, ROWS_OF_SUM)) + 4


def over(backend, found, exact, magnitude, roundings):
    """Return the largest error, in units of its bound."""
    found = backend.to_numpy(found)
    assert found.dtype == np.float32
    return (abs(found - exact) / (roundings * UNIT * magnitude)).max()


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 1), (1, 16), (3, 5)])
def test_products_of_rows(way, rng, n, m, kind):
    backend, compiled = way
    a, b = (ROWS[kind](rng, (MANY, k)).astype(np.float32) for k in (n, m))
    found = compiled(backend.cross)(backend.from_numpy(a), backend.from_numpy(b))
    wide = a.astype(float), b.astype(float)
    magnitude = abs(wide[0]).T @ abs(wide[1])
    bound = products(min(n, m))
    assert over(backend, found, wide[0].T @ wide[1], magnitude, bound) <= 1


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (16,), (2, 3)])
def test_sums_of_rows(way, rng, shape, kind):
    backend, compiled = way
    x = ROWS[kind](rng, (MANY, *shape)).astype(np.float32)
    found = compiled(backend.sum_of_rows)(backend.from_numpy(x))
    exact = x.astype(float).sum(0)
    assert over(backend, found, exact, abs(x).astype(float).sum(0), SUMS) <= 1


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 128**2, 128**2 + 1, 3 * 128 + 5])
def test_no_row_is_left_out(way, rows):
    backend, compiled = way
    # Small integers: every order gives the same.
    x = (np.arange(2 * rows).reshape(rows, 2) % 5).astype(np.float32)
    rows_of = backend.from_numpy(x)
    found = backend.to_numpy(compiled(backend.sum_of_rows)(rows_of))
    np.testing.assert_array_equal(found, x.sum(0))
    found = backend.to_numpy(compiled(backend.cross)(rows_of, rows_of[:, :1]))
    np.testing.assert_array_equal(found, x.T @ x[:, :1])


def test_products_of_wide_rows_are_added_run_by_run(way, rng):
    backend, compiled = way
    a, b = (rng.integers(0, 3, (5000, k)).astype(np.float32) for k in (300, 2))
    pair = backend.from_numpy(a), backend.from_numpy(b)
    found = backend.to_numpy(compiled(backend.cross)(*pair))
    np.testing.assert_array_equal(found, a.T @ b)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "jit"])
def test_sums_by_index(name, x64, jax, torch, rng):
    ids, weights = rng.integers(0, 3, MANY), np.full(MANY, 0.7, np.float32)
    exact = np.bincount(ids, weights.astype(float), 5)
    with jax.enable_x64(x64):
        backend = load_backend("jax" if name == "jit" else name)
        function = lambda i, w: backend.scatter_add(5, i, w)  # noqa: E731
        if name == "jit":
            function = jax.jit(function)
        pair = backend.from_numpy(ids.astype(np.int32)), backend.from_numpy(weights)
        found = backend.to_numpy(function(*pair))
    assert found.dtype == np.float32
    # Of lanes, each of which adds one after the other.
    assert np.all(abs(found - exact) <= (MANY / 256 + 12) * UNIT * exact)


def test_added_one_after_the_other_they_would_lose_digits():
    # What the bounds exclude: 0.7 and 0.49 stagnate in sums of as many.
    x = np.full(MANY, 0.7, np.float32)
    for terms, roundings in ((x, SUMS), (x * x, products(1))):
        in_turn = np.cumsum(terms, dtype=np.float32)[-1]
        exact = float(terms.astype(float).sum())
        assert abs(in_turn / exact - 1) > 4 * roundings * UNIT


def test_statistics_of_many_rows(way, rng):
    """The bias' border, diagonals and covariances of lag one, with weights."""
    backend, compiled = way
    n = 3
    x = ROWS["normal"](rng, (MANY - 1, n)).astype(np.float32)
    r = np.sqrt(rng.random(MANY - 1) + 0.5).astype(np.float32)
    half = (MANY - 1) // 2
    wide, roots = x.astype(float), r.astype(float)
    number = float(MANY - 1)
    later, earlier = wide[half:], wide[:half]
    cases = {
        "border": (
            lambda x, r: second_moment(backend, [x], has_bias=True, roots=[r])[:-1, -1],
            wide.T @ roots,
            abs(wide).T @ roots,
            products(1),
        ),
        "mean": (
            lambda x, r: second_moment(backend, [x], has_bias=True)[:-1, -1],
            wide.sum(0),
            abs(wide).sum(0),
            SUMS,
        ),
        "weight": (
            lambda x, r: second_moment(backend, [x], has_bias=True, roots=[r])[-1, -1],
            roots @ roots,
            roots @ roots,
            SUMS,
        ),
        "diagonal": (
            lambda x, r: squared_mean(backend, [x]),
            (wide**2).sum(0),
            (wide**2).sum(0),
            SUMS,
        ),
        "squares": (
            lambda x, r: squared_moment(backend, [(x, x)]),
            (wide**2).T @ wide**2,
            (wide**2).T @ wide**2,
            products(n),
        ),
        "lag one": (
            lambda x, r: lagged_moment(backend, [([x], 2)], has_bias=True)[:-1, :-1],
            later.T @ earlier,
            abs(later).T @ abs(earlier),
            products(n),
        ),
    }
    arrays = backend.from_numpy(x), backend.from_numpy(r)
    for name, (function, exact, magnitude, roundings) in cases.items():
        found = compiled(function)(*arrays)
        # One rounding for each product of two, and one for the division.
        error = over(backend, found, exact / number, magnitude / number, roundings + 4)
        assert error <= 1, name


def test_sums_are_differentiable(jax, torch, rng):
    a, b = rng.normal(size=(600, 3)), rng.normal(size=(600, 1))
    by = rng.normal(size=(3, 1))
    grad = jax.grad(lambda a: (load_backend("jax").cross(a, b) * by).sum())
    np.testing.assert_allclose(grad(jax.numpy.asarray(a)), b @ by.T, rtol=1e-12)
    rows = torch.from_numpy(a).requires_grad_()
    backend = load_backend("torch")
    (backend.cross(rows, torch.from_numpy(b)) * torch.from_numpy(by)).sum().backward()
    np.testing.assert_allclose(rows.grad, b @ by.T, rtol=1e-12)
