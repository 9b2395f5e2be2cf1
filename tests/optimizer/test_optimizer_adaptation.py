"""The damping follows evidence alone: no change of the loss below its rounding."""

import numpy as np
import pytest
from optimizer_cases import DEEP, optimizer_of, problem

from kfac_core import backend_of
from kfac_core.errors import ArgumentError
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
from kfac_core.optimizer.damping_adaptation import adapted
from kfac_core.optimizer.mean_loss import rounding_of
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh

CURVE = SequentialModel(Sequential((Dense(1, 16), Tanh(), Dense(16, 1))))


def curve(targets):
    """Return a batch of a function on 64 points, in float32."""
    x = np.linspace(-2, 2, 64, dtype=np.float32)[:, None]
    return Batch(x, targets(x).astype(np.float32))


def test_at_the_minimum_in_float32_the_damping_stays(rng):
    """And new targets are learnt as from a fresh state."""
    optimizer = optimizer_of(
        CURVE,
        NormalMeanNegativeLogProbLoss(),
        momentum_type="qmodel",
        damping=1.0,
        adapt_damping=True,
        damping_adaptation_interval=5,
        invert_every=5,
    )
    params = CURVE.init(rng, like=np.ones(1, np.float32))
    state, batch = optimizer.init(params), curve(np.exp)
    for _ in range(300):
        state, params, told = optimizer.step(state, params, batch)
    assert 1e-8 <= float(told.damping) < 1
    assert np.isfinite(float(told.rho))
    other = curve(lambda x: np.sin(6 * x))
    for _ in range(100):
        state, params, told = optimizer.step(state, params, other)
    # A fresh state is at 0.64 after twice as many steps; 0.57 is the least.
    assert float(told.loss) < 0.61


def after(library, actual, predicted, rounding=0.0, **options):
    """Return damping and rho of 0.5 and 0.7 after one adaptation, by a factor of 2."""
    params, _ = problem(library)
    optimizer = optimizer_of(
        damping=0.5,
        damping_adaptation_decay=0.5,
        damping_adaptation_interval=1,
        **options,
    )
    one = optimizer.init(params).damping * 2
    state = optimizer.init(params)._replace(
        loss=one, predicted_change=one * predicted, rho=one * 0.7
    )
    new = adapted(backend_of(one), optimizer, state, one * (1 + actual), rounding)
    return tuple(float(library.to_numpy(x)) for x in (new.damping, new.rho))


@pytest.mark.parametrize(
    ("actual", "predicted", "damping"),
    [
        (0.0, -1e-9, 0.5),  # as good as none
        (0.0, -1.0, 1.0),  # a large one that did not come
        (-1e-9, -1e-9, 0.5),
        (-1.0, -1.0, 0.25),
        (1e-9, -1e-9, 0.5),
        (1e-3, -1e-9, 1.0),  # a rise that is none of rounding
        (-1e-3, 1e-9, 0.25),  # a fall, though a rise was predicted
        (-1e-9, 1e-9, 0.5),
        (1.0, 1.0, 0.25),
    ],
)
def test_changes_within_the_rounding_are_no_evidence(
    actual, predicted, damping, plain_library
):
    found, _ = after(plain_library, actual, predicted, rounding=1e-6)
    assert found == damping


def test_without_rounding_every_change_counts(plain_library):
    """What the test above leaves alone."""
    for actual, damping in ((0.0, 1.0), (-1e-9, 0.25), (1e-9, 1.0)):
        found, _ = after(plain_library, actual, -1e-9)
        assert found == damping


@pytest.mark.parametrize("predicted", [0.0, np.nan])
def test_without_a_prediction_damping_and_rho_are_kept(predicted, plain_library):
    for actual in (-0.5, 0.0, 0.5):
        assert after(plain_library, actual, predicted) == (0.5, 0.7)


def test_the_damping_stays_between_its_bounds(plain_library):
    top, _ = after(plain_library, 1.0, -1.0, max_damping=0.75)
    bottom, _ = after(plain_library, -1.0, -1.0, min_damping=0.4)
    assert (top, bottom) == (0.75, 0.4)


def test_bounds_are_in_order():
    with pytest.raises(ArgumentError, match=r"max_damping is 0\.1, expected at least"):
        optimizer_of(max_damping=0.1, min_damping=0.05, l2_reg=0.06)


def test_a_coarser_loss_is_known_less_well(plain_library):
    """The rounding is that of the dtype the loss is computed in, or its inputs are."""
    library = plain_library
    one = library.asarray(np.asarray(1.0))
    for inputs, dtype, eps in (
        ("float64", "float64", 2.0**-52),
        ("float64", "float32", 2.0**-23),
        ("float32", "float64", 2.0**-23),
    ):
        params, batch = problem(library, dtype=inputs)
        linearization = DEEP.linearize(params, batch)
        value = library.asarray(np.asarray(0.7, dtype))
        found = float(library.to_numpy(rounding_of(one, value, linearization)))
        np.testing.assert_allclose(found, eps * np.sqrt(12), rtol=1e-12)
