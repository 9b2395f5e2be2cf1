"""Gram matrices keep their digits over any number of rows, on any processor.

The bound is that of the sum as it is computed (`kfac_backends.runs`): ``run`` roundings
within a run of rows, two for each halving of the number of runs, four for the rest. No
order of additions within a run exceeds it, so no library and no instruction set does.
"""

import math

import numpy as np
import pytest

from kfac_backends.runs import run_length, sum_of_stack
from kfac_core.registry import load_backend

WAYS = ["numpy", "torch", "compiled", "jax", "jit"]
MANY = 100_003
# Of equal entries every rounding has the same sign, and the errors add up.
ROWS = {
    "normal": lambda rng, shape: 1 + rng.normal(size=shape),
    "positive": lambda rng, shape: rng.random(shape),
    "equal": lambda rng, shape: np.full(shape, 0.7),
}


@pytest.fixture(params=WAYS)
def gram(request):
    name = request.param
    if name == "numpy":
        backend = load_backend("numpy")
        return backend, backend.gram
    if name in {"jax", "jit"}:
        jax = request.getfixturevalue("jax")
        backend = load_backend("jax")
        return backend, jax.jit(backend.gram) if name == "jit" else backend.gram
    torch = request.getfixturevalue("torch")
    backend = load_backend("torch")
    if name == "torch":
        return backend, backend.gram
    torch._dynamo.reset()
    compiled = torch.compile(backend.gram, fullgraph=True, backend="aot_eager")
    return backend, compiled


def error_over_bound(backend, found, x):
    """Return the largest error, in units of its bound."""
    rows, n = x.shape
    run, wide = run_length(n), x.astype(np.longdouble if rows < 10 else np.float64)
    found = backend.to_numpy(found)
    assert found.dtype == x.dtype
    assert np.array_equal(found, found.T)
    count = -(-rows // run)
    roundings = min(rows, run) + 2 * math.ceil(math.log2(max(count, 1))) + 4
    bound = roundings * np.finfo(x.dtype).eps / 2 * (abs(wide).T @ abs(wide))
    return (abs(found - wide.T @ wide) / bound).max()


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("n", [1, 2, 7, 8, 33])
def test_many_rows_lose_no_digits(gram, rng, n, kind):
    backend, function = gram
    x = ROWS[kind](rng, (MANY, n)).astype(np.float32)
    assert error_over_bound(backend, function(backend.from_numpy(x)), x) <= 1


@pytest.mark.parametrize("n", [2, 8])
def test_the_last_run_may_be_short_or_missing(gram, rng, n):
    backend, function = gram
    run = run_length(n)
    for rows in [1, run - 1, run, run + 1, 2 * run, 3 * run + 5]:
        x = (1 + rng.normal(size=(rows, n))).astype(np.float32)
        assert error_over_bound(backend, function(backend.from_numpy(x)), x) <= 1


def test_wide_rows_are_added_run_by_run(gram, rng):
    backend, function = gram
    n = 260
    x = rng.random((run_length(n) + 3, n)).astype(np.float32)
    assert error_over_bound(backend, function(backend.from_numpy(x)), x) <= 1


def test_rows_added_one_after_the_other_would_lose_digits():
    # What the bound excludes: 0.49 stagnates in the sum of as many.
    x = np.full(MANY, 0.7, np.float32)
    in_turn = np.cumsum(x * x, dtype=np.float32)[-1]
    exact = float(x.astype(np.float64) @ x)
    bound = (run_length(1) + 2 * 9 + 4) * 2.0**-24
    assert abs(in_turn / exact - 1) > 2 * bound


def test_a_stack_is_added_in_pairs_whatever_its_number(rng):
    for count in [1, 2, 3, 5, 8, 13, 31]:
        stack = rng.integers(-9, 9, (2, count, 3, 4)).astype(float)
        assert np.array_equal(sum_of_stack(stack), stack.sum(1))
    # All of it but the first is below the rounding of the first, one by one.
    small = np.full((2**10, 1, 1), 2.0**-25, np.float32)
    stack = np.concatenate([np.ones((1, 1, 1), np.float32), small])
    assert float(sum_of_stack(stack)[0, 0]) == pytest.approx(1 + 2.0**-15, rel=2**-23)


def test_stacks_of_rows_under_vmap_keep_their_digits(jax, rng):
    backend = load_backend("jax")
    stack = rng.normal(size=(2, 1500, 3))
    found = jax.jit(jax.vmap(backend.gram))(stack)
    np.testing.assert_allclose(found, stack.mT @ stack, rtol=1e-12, atol=1e-12)


def test_sums_over_runs_are_differentiable(jax, torch, rng):
    x = rng.normal(size=(600, 3))
    weights = rng.normal(size=(3, 3))
    expected = x @ (weights + weights.T)
    gram = load_backend("jax").gram
    found = jax.grad(lambda x: (gram(x) * weights).sum())(jax.numpy.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    rows = torch.from_numpy(x).requires_grad_()
    (load_backend("torch").gram(rows) * torch.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(rows.grad, expected, rtol=1e-12, atol=1e-12)
