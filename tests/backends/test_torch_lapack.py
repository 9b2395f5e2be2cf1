"""PyTorch's LAPACK in one piece of memory: sizes around those that get one more row."""

import math

import numpy as np
import pytest

SIZES = (65, 127, 128, 129, 256)


@pytest.fixture
def lapack(torch):
    from kfac_backends import torch_lapack

    return torch_lapack


def matrix(torch, rng, size, dtype):
    """Return a positive-definite matrix whose eigenvalues are from 0.1 to 1.1."""
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    a = (basis * np.linspace(0.1, 1.1, size)) @ basis.T
    return torch.from_numpy((a + a.T) / 2).to(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_factors_and_inverses_are_right(torch, lapack, rng, size, dtype):
    """The residual is at most ``4 n eps`` times the condition number, here 11."""
    a = matrix(torch, rng, size, getattr(torch, dtype))
    before, damping = a.clone(), torch.tensor(0.25, dtype=a.dtype)
    eye = torch.eye(size, dtype=a.dtype)
    factor = lapack.cholesky(a)
    bound = 4 * size * torch.finfo(a.dtype).eps
    assert torch.dist(factor @ factor.mT, a) <= bound * a.norm()
    assert torch.equal(factor, factor.tril())
    inverse, damped = lapack.cholesky_inverse(factor), lapack.damped_inverse(a, damping)
    for found, of in ((inverse, a), (damped, a + 0.25 * eye)):
        assert torch.dist(found @ of, eye) <= 11 * bound * math.sqrt(size)
        assert torch.equal(found, found.mT)
    for found in (factor, inverse, damped):
        assert found.is_contiguous()
        assert found.dtype == a.dtype
        assert found.shape == a.shape
    assert torch.equal(a, before)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("size", SIZES[:3])
def test_what_has_no_factor_is_nan(torch, lapack, size, place, value):
    """A pivot of zero, a negative one, NaN and infinity, first or last."""
    a = torch.eye(size)
    a[place, place] = value
    before, zero = a.clone(), torch.tensor(0.0)
    for found in (lapack.cholesky(a), lapack.damped_inverse(a, zero)):
        assert found.isnan().all()
        assert found.is_contiguous()
    assert torch.equal(a, before) or math.isnan(value)
    factor = torch.eye(size)
    factor[place, place] = -1.0 if value > 0 else value
    assert lapack.cholesky_inverse(factor).isnan().all()


@pytest.mark.parametrize("threads", [1, 2])
def test_backend_takes_lapack_for_large_matrices(
    torch, set_threads, lapack, rng, threads, monkeypatch
):
    """With one thread from a size on, with several for all that is not small."""
    from kfac_core.registry import backend_of

    seen = []
    monkeypatch.setattr(lapack, "damped_inverse", lambda a, _: seen.append(len(a)) or a)
    set_threads(threads)
    for size in (64, 65, 128):
        a = matrix(torch, rng, size, torch.float64)
        backend_of(a).damped_inverse(a, torch.tensor(0.0, dtype=a.dtype))
    assert seen == ([128] if threads == 1 else [65, 128])
