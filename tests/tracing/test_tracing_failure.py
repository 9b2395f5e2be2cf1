"""Under a trace a refused update leaves the state as it was, and says so."""

import numpy as np
import pytest
from traced_cases import BLOCKS, STATES, assert_equal, data_of, step_of, vector_of

from kfac_core import tree


@pytest.fixture(params=STATES)
def name(request):
    return request.param


@pytest.fixture
def known(jax, name, rng):
    """Return a block, its data, and its state after one step in NumPy."""
    x, g = data_of(name, rng)
    v = vector_of(name, rng)
    state, _ = step_of(name)(BLOCKS[name].init(g), x, g, v, 0.5, 0.1)
    return BLOCKS[name], *tree.map(jax.numpy.asarray, (x, g, state))


def all_but_ok(state):
    """Return what a block knows, without the flags of its last update."""
    if hasattr(state, "factor"):
        return (state.factor.cov, state.factor.derived, state.factor.computed)
    sides = [(side.cov, side.derived, side.computed) for side in state[:2]]
    return (*sides, state.uses, state.scale, state.damping)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("argument", ["inputs", "outputs_grads"])
def test_what_is_not_finite(jax, known, argument, value):
    block, x, g, state = known
    bad = {"inputs": x, "outputs_grads": g}[argument]
    if not jax.numpy.issubdtype(bad.dtype, jax.numpy.floating):
        return  # ids
    bad = bad.at[(0,) * bad.ndim].set(value)
    x, g = (bad, g) if argument == "inputs" else (x, bad)
    after = jax.jit(block.update_covs)(state, x, g, 0.5)
    assert not bool(after.ok)
    assert_equal(all_but_ok(after), all_but_ok(state))


def test_an_indefinite_matrix_without_damping(jax, known):
    block, x, g, state = known
    state = block.update_covs(state, x, g * 0, 0.0)
    update = jax.jit(block.update_inverses)
    after = update(state, 0.0)
    assert not bool(after.ok)
    assert_equal(all_but_ok(after), all_but_ok(state))
    assert bool(update(after, 0.1).ok)


def test_what_is_refused_is_taken_up_again(jax, known):
    block, x, g, state = known
    update = jax.jit(block.update_covs)
    refused = update(state, x, g * np.nan, 0.5)
    found, expected = update(refused, x, g, 0.5), update(state, x, g, 0.5)
    assert bool(found.ok)
    assert_equal(found, expected)


def test_ids_out_of_range_count_nothing(jax, rng):
    block = BLOCKS["embedding"]
    ids, g = tree.map(jax.numpy.asarray, data_of("embedding", rng))
    outside = jax.numpy.concatenate([ids, ids * 0 - 1, ids * 0 + 4], axis=1)
    update = jax.jit(block.update_covs)
    found, expected = (update(block.init(g), i, g, 0.5) for i in (outside, ids))
    assert_equal(found, expected)


def test_shapes_are_checked_under_a_trace(jax, known):
    block, x, g, state = known
    with pytest.raises(ValueError, match=r"for the same (cases|uses)"):
        jax.jit(block.update_covs)(state, x, g[:-1], 0.5)


def test_refused_data_show_after_the_whole_step(jax, rng):
    block = BLOCKS["dense"]
    x, g = tree.map(jax.numpy.asarray, data_of("dense", rng))

    @jax.jit
    def step(state, x):
        return block.update_inverses(block.update_covs(state, x, g, 0.5), 0.1)

    state = step(block.init(g), x)
    assert bool(state.ok)
    refused = step(state, x.at[0, 0].set(jax.numpy.nan))
    assert not bool(refused.ok)
    assert not bool(refused.input_factor.cov_ok)
    assert bool(refused.input_factor.derived_ok)
    assert bool(step(refused, x).ok)
