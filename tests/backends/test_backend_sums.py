"""Sums of matrices keep to one new array, and inverses to any size and order."""

import importlib
import tracemalloc

import numpy as np
import pytest

from kfac_core.registry import load_backend

BACKENDS = ["numpy", "torch-1", "torch-2"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    """NumPy, and PyTorch on NumPy's way and on its own."""
    name, _, threads = request.param.partition("-")
    if threads:
        request.getfixturevalue("set_threads")(int(threads))
    return load_backend(name)


def layouts(backend, x):
    """Return an array of NumPy's as it is, transposed, read-only and with gaps."""
    wide = np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)
    # PyTorch would warn of memory that it may not write to.
    fixed = backend.from_numpy(x)
    if isinstance(fixed, np.ndarray):
        fixed.flags.writeable = False
    gaps = backend.from_numpy(wide)[::2, ::2]
    return fixed, backend.from_numpy(x.T.copy()).mT, gaps


def definite(rng, n, dtype="float64"):
    rows = rng.standard_normal((n + 3, n))
    return (rows.T @ rows + np.eye(n)).astype(dtype)


@pytest.mark.parametrize("n", [0, 1, 127, 128, 129])
def test_inverse_of_every_size_and_order(backend, rng, n):
    for dtype, bound in (("float32", 2e-4), ("float64", 1e-12)):
        matrix = definite(rng, n, dtype)
        damping = backend.from_numpy(np.asarray(0.5, dtype))
        for x in layouts(backend, matrix):
            damped = backend.damp(x, damping)
            found = backend.cholesky_inverse(backend.cholesky(damped))
            assert backend.to_numpy(x).tobytes() == matrix.tobytes()
            inverse = backend.to_numpy(found)
            assert inverse.dtype == dtype
            assert inverse.shape == (n, n)
            assert np.array_equal(inverse, inverse.T)
            residual = inverse @ (matrix + np.eye(n, dtype=dtype) / 2) - np.eye(n)
            assert np.abs(residual).max(initial=0) < bound


@pytest.mark.parametrize("shape", [(40, 259), (300, 270), (5, 20)])
def test_syrk_is_gram_scaled_and_added(backend, rng, shape):
    rows = rng.standard_normal(shape)
    before = definite(rng, shape[1])
    alpha, beta = (backend.from_numpy(np.asarray(x)) for x in (0.3, 0.9))
    expected = 0.3 * rows.T @ rows + 0.9 * before
    for x, c in zip(layouts(backend, rows), layouts(backend, before), strict=True):
        found = backend.to_numpy(backend.syrk(alpha, x, beta, c))
        assert np.array_equal(found, found.T)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        assert backend.to_numpy(c).tobytes() == before.tobytes()


def test_a_fold_takes_the_memory_of_its_result_alone(rng):
    backend, n = load_backend("numpy"), 1024
    rows = rng.standard_normal((8, n))
    total = definite(rng, n)
    weight = np.asarray(0.5)
    for call in (
        lambda: backend.syrk(weight, rows, weight, total),
        lambda: backend.axpby(weight, total, weight, total),
        lambda: backend.damp(total, weight),
    ):
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # What is added comes in parts, of an eighth or less.
        assert peak < 1.4 * total.nbytes


def test_sums_are_differentiable(torch, rng):
    backend = load_backend("torch")
    for shape in ((3, 4), (2, 300)):
        rows = torch.from_numpy(rng.standard_normal(shape)).requires_grad_()
        c = torch.ones((shape[1],) * 2, dtype=rows.dtype, requires_grad=True)
        half = torch.tensor(0.5, dtype=rows.dtype, requires_grad=True)
        total = backend.syrk(half, rows, half, backend.damp(c, half))
        total.sum().backward()
        ones = torch.ones_like(c)
        torch.testing.assert_close(rows.grad, rows.detach() @ ones)
        torch.testing.assert_close(c.grad, ones / 2)
        # d/dh of h 1'R'R1 + h (1'C1 + h n).
        plain = rows.detach()
        expected = (plain.mT @ plain).sum() + ones.sum() + shape[1]
        torch.testing.assert_close(half.grad, expected)


def at_once(rows, alpha, beta, c):
    numpy = load_backend("numpy")
    return numpy.gram(rows) if c is None else numpy.syrk(alpha, rows, beta, c)


def in_tiles(*given):
    module = importlib.import_module("kfac_backends.numpy_triangles")
    return module.gram_in_tiles(*given)


@pytest.mark.parametrize("gram", [at_once, in_tiles])
def test_every_way_to_a_gram_matrix_agrees(rng, gram):
    for shape in ((2, 1), (3, 64), (2, 65), (200, 129), (64, 200), (20, 321), (9, 257)):
        rows, c = rng.standard_normal(shape), definite(rng, shape[1])
        product = rows.T @ rows
        for order in "CF":
            given = np.asarray(rows, order=order)
            found = gram(given, None, None, None)
            assert np.array_equal(found, found.T)
            np.testing.assert_allclose(found, product, rtol=1e-12, atol=1e-13)
            added = gram(given, np.asarray(0.3), np.asarray(0.9), c)
            assert np.array_equal(added, added.T)
            expected = 0.3 * product + 0.9 * c
            np.testing.assert_allclose(added, expected, rtol=1e-12, atol=1e-13)
            assert found.flags.c_contiguous
            assert added.flags.c_contiguous


def test_tiles_go_through_the_runs_of_rows(rng):
    rows = rng.integers(-3, 4, (2 * 4096 + 5, 260)).astype(np.float32)
    found = load_backend("numpy").gram(rows)
    # Sums of integers below 2**24 are exact.
    assert np.array_equal(found, rows.astype(np.float64).T @ rows.astype(np.float64))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(9, 4), (40, 257), (300, 270), (30, 600)])
def test_torch_multiplies_few_rows_at_once(torch, set_threads, rng, shape, dtype):
    backend, eps = load_backend("torch"), np.finfo(dtype).eps
    rows, before = rng.standard_normal(shape), definite(rng, shape[1])
    x, c = (torch.from_numpy(a.astype(dtype)) for a in (rows, before))
    alpha, beta = (torch.tensor(number, dtype=x.dtype) for number in (0.5, 0.25))
    set_threads(2)  # with one thread NumPy computes
    gram, total = backend.gram(x), backend.syrk(alpha, x, beta, c)
    unread = backend.syrk(0 * alpha, x / 0, beta, c)
    unread_too = backend.syrk(alpha, x, 0 * beta, c / 0)
    exact = x.double().mT @ x.double()
    magnitudes = x.double().abs().mT @ x.double().abs()
    bound = (shape[0] + 4) * eps * (magnitudes + c.double().abs())
    for found, expected in ((gram, exact), (total, exact / 2 + c.double() / 4)):
        assert torch.equal(found, found.mT)
        assert found.dtype == x.dtype
        assert found.is_contiguous()
        assert bool(((found - expected).abs() <= bound).all())
    # What is not finite is not lost where it is multiplied by zero.
    assert not torch.isfinite(unread).any()
    assert not torch.isfinite(unread_too).any()
