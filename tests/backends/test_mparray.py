"""With mparray, blocks and the optimiser have the digits that one asks for."""

import numpy as np
import pytest

from kfac_core import KfacOptimizer, blocks
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel
from kfac_core.registry import load_backend
from kfac_core.testing.whole_models import DATA, params, step_of_optimizer

pytest.importorskip("mparray")
mpmath = pytest.importorskip("mpmath")
mp = mpmath.mp

DIGITS, BOUND = 50, mpmath.mpf(10) ** -46
DAMPING = 0.1


@pytest.fixture
def backend():
    found = load_backend("mparray")
    with found.digits(DIGITS):
        yield found


def matrix(x):
    """Return a NumPy array as a matrix of mpmath."""
    return x if isinstance(x, mp.matrix) else mp.matrix(x.tolist())


def off(found, expected):
    """Return the largest difference of mparray's numbers from a matrix of mpmath."""
    pairs = zip(found._data.ravel(), expected, strict=True)
    return max(abs(x - y) for x, y in pairs)


def damped_step(x, g, gradient):
    """Return ``inv(A + pi sqrt(l)) V inv(G + sqrt(l) / pi)``, by mpmath alone."""
    a, s = (y.T * y / y.rows for y in map(matrix, (x, g)))
    ratio = sum(a[i, i] for i in range(a.rows)) / a.rows
    ratio /= sum(s[i, i] for i in range(s.rows)) / s.rows
    pi, root = mp.sqrt(ratio), mp.sqrt(mp.mpf(DAMPING))
    a += mp.eye(a.rows) * pi * root
    s += mp.eye(s.rows) * root / pi
    return mp.inverse(a) * gradient * mp.inverse(s)


def test_a_step_of_a_block_has_fifty_digits(backend, rng):
    x, g, v = (rng.normal(size=shape) for shape in ((6, 3), (6, 2), (3, 2)))
    block = blocks.FullyConnectedKFACBasicFB(3, 2)
    own = [backend.from_numpy(part) for part in (x, g, v)]
    state = block.update_covs(block.init(like=own[0]), *own[:2], ema_decay=0.95)
    state = block.update_inverses(state, damping=DAMPING)
    found = block.multiply_inverse(state, own[2])
    assert off(found, damped_step(x, g, matrix(v))) < BOUND


def test_a_step_of_the_optimiser_has_fifty_digits(backend, rng):
    """Of a batch of seven, whose inverse no float holds."""
    x, y, w = (rng.normal(size=shape) for shape in ((7, 3), (7, 2), (3, 2)))
    model = SequentialModel(Sequential((Dense(3, 2, has_bias=False),)))
    optimizer = KfacOptimizer(
        model,
        model.layer_collection(NormalMeanNegativeLogProbLoss(var=1.0)),
        momentum_type="regular",
        momentum=0.0,
        learning_rate=1.0,
        damping=DAMPING,
        estimation_mode="exact",
    )
    inputs, targets, start = map(backend.from_numpy, (x, y, w))
    given = {"dense_0/weights": start}
    _, found, _ = optimizer.step(optimizer.init(given), given, Batch(inputs, targets))
    x, y, w = map(matrix, (x, y, w))
    fisher_rows = 2 * np.eye(4, 2)  # whose second moment is the identity
    expected = w - damped_step(x, fisher_rows, x.T * (x * w - y) / 7)
    assert off(found["dense_0/weights"], expected) < BOUND


def test_two_steps_that_adapt_the_damping_are_those_of_more_digits(backend):
    def trained(digits):
        with backend.digits(digits):
            data = tuple(map(backend.from_numpy, DATA))
            start = {k: backend.from_numpy(x) for k, x in params().items()}
            return step_of_optimizer(data, start)

    found, longer, shorter = map(trained, (DIGITS, 60, 16))
    for name, expected in longer.items():
        assert off(found[name], expected._data.ravel()) < BOUND
        assert off(shorter[name], expected._data.ravel()) > BOUND


def test_numbers_far_apart_are_multiplied(backend):
    rows = backend.xp.asarray(np.asarray([[1e-300, 1.0], [1.0, 1e300]]))
    far = backend.matmul(rows * rows * rows * rows, rows)
    expected = mp.mpf(1e-300) ** 5 + 1
    assert far._data[0, 0] == expected
    assert far._data[1, 1] == mp.mpf(1e300) ** 5 + 1


def test_a_context_restores_the_precision(backend):
    before = mp.dps
    with backend.digits(30):
        assert mp.dps == 30
    assert mp.dps == before
