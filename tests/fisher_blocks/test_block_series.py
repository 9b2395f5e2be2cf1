"""The series block inverts its closed form, option by option."""

import numpy as np
import pytest
from block_case import NumPy, flat, moment
from series_truth import SeriesFisher, closed_form, lagged

import kfac_core as kc
from kfac_core.contrib.original_specs import SignlessSeriesFB

OPTIONS = [1, 2]
DAMPING = 0.3
N = 5


def draw(rng, uses, sign=0):
    """Draw inputs and gradients whose uses follow one another with a sign."""
    signs = sign ** np.arange(uses)[:, None, None] if sign else 1
    common = bool(sign)
    x, g = (
        signs * (common * rng.normal(size=(1, N, n)) + rng.normal(size=(uses, N, n)))
        for n in (3, 2)
    )
    return x, g


def updated(block, x, g, damping=DAMPING):
    state = block.update_covs(block.init(x), x, g, ema_decay=0.5)
    return block.update_inverses(state, damping)


def vector_of(rng, has_bias):
    weights = rng.normal(size=(3, 2))
    return (weights, rng.normal(size=2)) if has_bias else weights


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("uses", "sign"), [(1, 0), (2, -1), (3, 1), (6, -1), (7, 0)])
def test_the_inverse_is_that_of_the_closed_form(option, has_bias, uses, sign, rng):
    x, g = draw(rng, uses, sign)
    block = kc.blocks.FullyConnectedSeriesFB(3, 2, has_bias, uses, option)
    state = updated(block, x, g)
    vector = vector_of(rng, has_bias)
    found = flat(NumPy, block.multiply_inverse(state, vector))
    dense = SeriesFisher(option, x, g, has_bias).damped(DAMPING)
    wanted = (
        np.linalg.solve(dense, np.concatenate([np.ravel(v) for v in vector]))
        if has_bias
        else np.linalg.solve(dense, np.ravel(vector))
    )
    np.testing.assert_allclose(found, wanted, atol=1e-11 * np.abs(wanted).max())


@pytest.mark.parametrize("option", OPTIONS)
def test_one_sign_of_correlation_is_not_the_other(option, rng):
    x, g = draw(rng, 4, -1)
    block = kc.blocks.FullyConnectedSeriesFB(3, 2, option=option)
    found = block.multiply_inverse(updated(block, x, g), np.ones((3, 2)))
    # With one side's signs turned, the lag of that side changes sign.
    turned = x * np.asarray([1, -1, 1, -1])[:, None, None]
    other = block.multiply_inverse(updated(block, turned, g), np.ones((3, 2)))
    assert np.abs(found - other).max() > 0.05 * np.abs(found).max()
    if option == 1:
        # The original cannot tell: it drops the sign of each eigenvalue.
        old = SignlessSeriesFB(3, 2, option=1)
        here = old.multiply_inverse(updated(old, x, g), np.ones((3, 2)))
        there = old.multiply_inverse(updated(old, turned, g), np.ones((3, 2)))
        np.testing.assert_allclose(here, there, rtol=1e-10)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("singular", [False, True])
def test_the_dense_block_is_the_undamped_closed_form(option, singular, rng):
    x, g = draw(rng, 3, -1)
    if singular:
        x[..., 2] = x[..., 0] - 2 * x[..., 1]
    block = kc.blocks.FullyConnectedSeriesFB(3, 2, option=option)
    state = block.update_covs(block.init(x), x, g, 0.5)
    found = block.full_fisher_block(state)
    wanted = closed_form(option, 3, moment(x), lagged(x), moment(g), lagged(g))
    np.testing.assert_allclose(found, wanted, atol=1e-10 * np.abs(wanted).max())
    np.testing.assert_array_equal(found, found.T)
    # It is what the inverse inverts as the damping becomes zero, on its range.
    state = block.update_inverses(state, 1e-9)
    image = (found @ np.arange(6.0)).reshape(3, 2)
    back = block.multiply_inverse(state, image).ravel()
    np.testing.assert_allclose(found @ back, found @ np.arange(6.0), rtol=1e-3)


@pytest.mark.parametrize("option", OPTIONS)
def test_without_lag_uses_are_independent(option, rng):
    # Of two uses, the second is once the same and once turned: no covariance.
    x, g = rng.normal(size=(1, N, 3)), rng.normal(size=(1, N, 2))
    x = np.concatenate([np.concatenate([x, x], 1), np.concatenate([x, -x], 1)])
    g = np.concatenate([np.concatenate([g, g], 1), np.concatenate([g, -g], 1)])
    series = kc.blocks.FullyConnectedSeriesFB(3, 2, option=option)
    indep = kc.blocks.FullyConnectedMultiIndepFB(3, 2)
    found, wanted = (updated(block, x, g) for block in (series, indep))
    vector = rng.normal(size=(3, 2))
    np.testing.assert_allclose(
        series.multiply_inverse(found, vector),
        indep.multiply_inverse(wanted, vector),
        rtol=1e-11,
    )
    np.testing.assert_allclose(
        series.full_fisher_block(found), indep.full_fisher_block(wanted), atol=1e-12
    )


def test_the_options_agree_for_an_endless_series_without_direction(rng):
    # A series and its reverse: the lag is symmetric. So the options differ in T alone.
    x, g = draw(rng, 4, 1)
    x, g = (np.concatenate([part, part[::-1]], axis=1) for part in (x, g))
    blocks = []
    for option in OPTIONS:
        block = kc.blocks.FullyConnectedSeriesFB(3, 2, option=option)
        state = block.update_covs(block.init(x), x, g, 0.5)
        many = state.uses._replace(total=state.uses.total * 1e12)
        blocks.append(block.full_fisher_block(state._replace(uses=many)))
    np.testing.assert_allclose(*blocks, rtol=1e-9)


@pytest.mark.parametrize("option", OPTIONS)
def test_complete_correlation_stays_positive_definite(option, rng):
    # Uses that are all the same, and hardly damped: the correlation is the largest.
    for dtype in ("float32", "float64"):
        x, g = (
            np.repeat(rng.normal(size=(1, 1, n)), 400, axis=0).astype(dtype)
            for n in (3, 2)
        )
        block = kc.blocks.FullyConnectedSeriesFB(3, 2, option=option)
        state = updated(block, x, g, 1e-3)
        columns = [
            block.multiply_inverse(state, row.reshape(3, 2)).ravel()
            for row in np.eye(6, dtype=dtype)
        ]
        inverse = np.asarray(columns, "float64")
        np.testing.assert_allclose(inverse, inverse.T, atol=1e-3 * inverse.max())
        assert np.linalg.eigvalsh(inverse + inverse.T).min() > 0


def test_it_serves_the_inverse_alone(rng):
    x, g = draw(rng, 3)
    for options in (
        {"matpowers": (-1, 0.5)},
        {"cholesky": True},
        {"cholesky_inverse": True},
        {"damping_type": "exact"},
    ):
        with pytest.raises(kc.errors.UnsupportedError, match=r"cell.*inverse"):
            kc.blocks.FullyConnectedSeriesFB(3, 2, name="cell", **options)
    block = kc.blocks.FullyConnectedSeriesFB(3, 2, name="cell")
    state = block.update_covs(block.init(x), x, g, 0.5)
    vector = np.ones((3, 2))
    for call in (
        lambda: block.register_matpower(-0.5),
        block.register_cholesky,
        lambda: block.multiply(state, vector),
        lambda: block.multiply_cholesky(state, vector, transpose=True),
        lambda: block.multiply_cholesky_inverse(state, vector),
    ):
        with pytest.raises(NotImplementedError, match="cell"):
            call()
    with pytest.raises(kc.errors.NotComputedError, match="update_inverses"):
        block.multiply_inverse(state, vector)
    with pytest.raises(kc.errors.ShapeError, match="vector"):
        block.multiply_inverse(block.update_inverses(state, 0.1), np.ones((2, 3)))
    with pytest.raises(kc.errors.ArgumentError, match="option is 3"):
        kc.blocks.FullyConnectedSeriesFB(3, 2, option=3)
    hash(block)
