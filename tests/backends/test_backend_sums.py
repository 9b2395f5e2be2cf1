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
    if not threads:
        yield load_backend(name)
        return
    torch = request.getfixturevalue("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(int(threads))
    yield load_backend(name)
    torch.set_num_threads(before)


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


def test_bands_and_the_whole_agree(rng):
    module = importlib.import_module("kfac_backends.numpy_triangles")
    for shape in ((1, 1), (3, 64), (2, 65), (200, 129), (64, 200)):
        rows = rng.standard_normal(shape)
        found = module.gram_in_bands(rows)
        assert np.array_equal(found, found.T)
        np.testing.assert_allclose(found, rows.T @ rows, rtol=1e-12, atol=1e-13)
