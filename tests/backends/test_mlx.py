"""mlx: what its functions do otherwise than the standard says."""

import numpy as np
import pytest

from kfac_core import backend_of, blocks
from kfac_core.errors import BackendError, NotPositiveDefiniteError

mx = pytest.importorskip("mlx.core")


def test_the_exponential_of_float64_has_all_digits():
    x = np.linspace(-700.0, 700.0, 1401)
    given = mx.array(x, dtype=mx.float64)
    backend = backend_of(given)
    found = backend.to_numpy(backend.xp.exp(given))
    # Of a number of 700, which float64 holds to half of its spacing.
    np.testing.assert_allclose(found, np.exp(x), rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("matrix", [[[1.0, 2.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
def test_a_finite_triangle_of_no_factor_is_a_failure(matrix):
    a = mx.array(matrix)
    assert np.isfinite(np.array(mx.linalg.cholesky(a, stream=mx.cpu))).all()
    assert np.isnan(np.array(backend_of(a).cholesky(a))).all()


def test_a_block_without_an_inverse_is_refused():
    block, zeros = blocks.FullyConnectedKFACBasicFB(3, 3), mx.zeros((4, 3))
    state = block.update_covs(block.init(like=zeros), zeros, zeros, ema_decay=0.9)
    with pytest.raises(NotPositiveDefiniteError):
        block.update_inverses(state, damping=0.0)


@pytest.mark.parametrize("half", [mx.float16, mx.bfloat16])
def test_half_precision_is_promoted(half):
    x = mx.array([[1.0, 2.0], [3.0, 4.0]])
    block = blocks.FullyConnectedKFACBasicFB(2, 2)
    full, short = (
        block.update_covs(block.init(like=part), part, part, ema_decay=0.9)
        for part in (x, x.astype(half))
    )
    found = block.full_fisher_block(short)
    assert found.dtype == mx.float32
    assert mx.array_equal(found, block.full_fisher_block(full))


def test_arrays_of_numpy_beside_it_are_refused():
    with pytest.raises(BackendError, match="two libraries in one call: mlx and numpy"):
        backend_of(mx.ones(2), np.ones(2))
