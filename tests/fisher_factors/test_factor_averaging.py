"""The moving average is a true weighted mean: of every decay and weight."""

import numpy as np
import pytest
from factor_case import FactorCase, NumPy
from factor_cases import ROWS
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc

UNIT = st.floats(0, 1)
WEIGHT = st.floats(0.01, 100)
# x = (a) as one row of one entry has the second moment a^2.
ONE = FactorCase(
    lambda **options: kc.factors.FullyConnectedKroneckerFactor(1, **options),
    lambda rng, n: (rng.normal(size=(n, 1)),),
    lambda x: x.T @ x / len(x),
)


def averaged(library, spec, moments, decays, weights=None):
    """Return the value after samples with these moments."""
    state = spec.init(library.asarray(np.zeros(1)))
    for i, (moment, decay) in enumerate(zip(moments, decays, strict=True)):
        options = {} if weights is None else {"ema_weight": weights[i]}
        data = (np.asarray([[np.sqrt(moment)]]),)
        state = ONE.fold(library, spec, state, data, ema_decay=decay, **options)
    return float(spec.get_cov(state)[0, 0])


@given(samples=st.lists(st.tuples(st.floats(0, 9), UNIT, WEIGHT), min_size=1))
def test_the_value_is_the_weighted_mean_for_varying_decay_and_weight(library, samples):
    moments, decays, weights = map(np.asarray, zip(*samples, strict=True))
    # What the decays after it leave of a sample's weight.
    left = [w * np.prod(decays[i + 1 :]) for i, w in enumerate(weights)]
    expected = np.sum(left * moments) / np.sum(left)
    found = averaged(library, ONE.make(), moments, decays.tolist(), weights.tolist())
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_decay_zero_forgets(library, rng):
    spec = ROWS.make()
    old, new = ROWS.draw(rng, 6), ROWS.draw(rng, 4)
    state = ROWS.updated(library, spec, old)
    forgot = ROWS.fold(library, spec, state, new, ema_decay=0.0)
    fresh = ROWS.updated(library, spec, new)
    np.testing.assert_array_equal(
        library.to_numpy(spec.get_cov(forgot)), library.to_numpy(spec.get_cov(fresh))
    )


def test_decay_one_is_a_running_mean(library):
    found = averaged(library, ONE.make(), [1.0, 4.0, 25.0], [1.0] * 3)
    np.testing.assert_allclose(found, 10.0, rtol=1e-15)


@given(decay=UNIT, n=st.integers(1, 30))
def test_the_average_of_a_constant_is_the_constant(decay, n):
    found = averaged(NumPy, ONE.make(), [2.25] * n, [decay] * n)
    np.testing.assert_allclose(found, 2.25, rtol=4 * np.finfo(float).eps * n)


def test_the_original_debiases_alike(library):
    # Moments 0.5, 2, 4.5 with decay 0.9, as recorded from the original.
    moments = [0.5, 2.0, 4.5]
    found = [averaged(library, ONE.make(), moments[:n], [0.9] * n) for n in (1, 2, 3)]
    np.testing.assert_allclose(found, [0.5, 1.289474, 2.474170], rtol=1e-6)


@pytest.mark.parametrize(
    ("at_zero", "expected"),
    [(True, [0.05, 0.245, 0.6705]), (False, [0.95, 1.055, 1.3995])],
)
def test_without_debiasing_the_start_counts_as_a_sample(library, at_zero, expected):
    spec = ONE.make(zero_debias=False, init_covariances_at_zero=at_zero)
    moments = [0.5, 2.0, 4.5]
    found = [averaged(library, spec, moments[:n], [0.9] * n) for n in (1, 2, 3)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(decay=UNIT, seed=st.integers(0, 99))
def test_from_the_identity_each_step_is_that_of_r1_8(library, decay, seed):
    # cov <- d cov + (1 - d) new, from the identity.
    rng = np.random.default_rng(seed)
    spec = ROWS.make(zero_debias=False, init_covariances_at_zero=False)
    state = spec.init(library.asarray(np.zeros(1)))
    expected = np.eye(3)
    np.testing.assert_array_equal(library.to_numpy(spec.get_cov(state)), expected)
    for _ in range(3):
        data = ROWS.draw(rng, 4)
        state = ROWS.fold(library, spec, state, data, ema_decay=decay)
        expected = decay * expected + (1 - decay) * ROWS.moment(*data)
    np.testing.assert_allclose(
        library.to_numpy(spec.get_cov(state)), expected, rtol=1e-12, atol=1e-14
    )


def test_a_0d_array_is_a_decay_as_a_number_is(library, rng):
    spec, data = ROWS.make(), ROWS.draw(rng, 6)
    state = ROWS.updated(library, spec, ROWS.draw(rng, 4))
    found = []
    for convert in (float, lambda x: library.asarray(np.asarray(x)), np.float64):
        later = ROWS.fold(
            library, spec, state, data, convert(0.7), ema_weight=convert(2.0)
        )
        found.append(library.to_numpy(spec.get_cov(later)))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_weight_zero_changes_nothing(library, rng):
    spec = ROWS.make()
    state = ROWS.updated(library, spec, ROWS.draw(rng, 4))
    later = ROWS.fold(library, spec, state, ROWS.draw(rng, 6), 1.0, ema_weight=0.0)
    np.testing.assert_array_equal(
        library.to_numpy(spec.get_cov(later)), library.to_numpy(spec.get_cov(state))
    )


def test_a_float32_average_does_not_stop_moving():
    # bfloat16 stays at 1 for ever, float16 at 1.51.
    spec = ONE.make()
    state = spec.init(np.zeros(1, "float16"))
    for moment in (1.0, *[2.0] * 5000):
        x = np.asarray([[np.sqrt(moment)]], "float32")
        state = spec.update_cov(state, x, ema_decay=0.999)
    assert abs(float(spec.get_cov(state)[0, 0]) - 2) < 0.01
