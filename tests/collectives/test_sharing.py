"""Ranks on shards have the state, the inverses and the steps of one on all cases."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest
from dense_model import ESTIMATOR, MODEL, SIZES
from estimator_cases import (
    CASES,
    assert_named_close,
    draw,
    draw_like_params,
)
from ranks_of_threads import on_ranks
from shards import assert_equal

import kfac_core as kc
from kfac_core import tree
from kfac_core.collectives import Counted, inverse_cost, makespan, step_costs
from kfac_core.collectives.inverses import inverted, owners
from kfac_core.collectives.sharing import decayed, summed
from kfac_core.reference import Batch

STEPS, DECAY, DAMPING = 3, 0.9, 0.1


def update(params, state, x, decay):
    linearization = MODEL.linearize(params, Batch(x))
    return ESTIMATOR.update_covs(state, linearization, decay, float(len(x)))


def alone(params, batches):
    """Return the state of one process that sees all cases, with inverses."""
    state = ESTIMATOR.init(params)
    for x in batches:
        state = update(params, state, x, DECAY)
        state = ESTIMATOR.update_inverses(state, DAMPING)
    return state


def shared(params, batches, cuts, rank):
    """Return the state of a rank that sees its shards, and the bytes of a step."""
    state, counted = ESTIMATOR.init(params), Counted(rank)
    for x in batches:
        counted.reset()
        own = np.split(x, cuts)[rank.rank]
        decay = DECAY if rank.rank == 0 else 0.0
        if len(own):
            new = update(params, state, own, decay)
        else:
            new = decayed(ESTIMATOR, state, decay)
        state = summed(ESTIMATOR, state, new, counted)
        state = inverted(ESTIMATOR, state, DAMPING, counted)
    return state, counted


def problem(rng):
    return draw(CASES["dense"], rng).params, rng.normal(size=(STEPS, 12, 4))


@pytest.mark.parametrize(
    "cuts", [[], [6], [2], [12], [1, 2, 7], [1, 3, 4, 5, 8, 9, 12]], ids=str
)
def test_ranks_on_shards_are_one_process_on_their_union(cuts, rng):
    params, batches = problem(rng)
    expected = alone(params, batches)
    found = on_ranks(len(cuts) + 1, partial(shared, params, batches, cuts))
    for state, _ in found:
        assert_equal(state, found[0][0])
        assert int(state.cases) == STEPS * 12
        for name, block in ESTIMATOR.blocks.items():
            for factor, (spec, own) in block.factors(state.blocks[name]).items():
                truth = block.factors(expected.blocks[name])[factor][1]
                np.testing.assert_allclose(
                    spec.get_cov(own), spec.get_cov(truth), rtol=0, atol=1e-12
                )
    v = draw_like_params(MODEL, rng)
    step = ESTIMATOR.multiply_inverse(found[0][0], v)
    assert_named_close(step, ESTIMATOR.multiply_inverse(expected, v), 1e-10)


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_what_is_sent_is_what_a_step_costs(ranks, rng):
    params, batches = problem(rng)
    cuts = [k * 12 // ranks for k in range(1, ranks)]
    costs = step_costs(SIZES, ranks, itemsize=8)
    found = on_ranks(ranks, partial(shared, params, batches, cuts))
    weights = 2 * 8 + 2 * 8  # of both factors, and the mean weight of rows
    scalars = 2 * 8 + 3 * 8 + 4  # dampings, scale, mean weight, damping, and flags
    for _, counted in found:
        layers = len(SIZES)
        assert counted.reduced == (
            costs.statistics_bytes + layers * weights + 8 + 8 * ranks
        )
        assert sum(counted.copied.values()) == (
            costs.statistics_bytes + layers * scalars
        )


def test_each_inverse_is_computed_once_by_the_rank_it_is_assigned_to(rng, monkeypatch):
    params, batches = problem(rng)
    computed = []
    original = kc.FisherEstimator.update_inverses

    def counting(self, state, damping, *, layers=None, tolerance=None):
        computed.extend(layers)
        return original(self, state, damping, layers=layers, tolerance=tolerance)

    monkeypatch.setattr(kc.FisherEstimator, "update_inverses", counting)
    found = on_ranks(2, partial(shared, params, batches[:1], [5]))
    assert sorted(computed) == sorted(ESTIMATOR.blocks)
    by_layer = owners(ESTIMATOR, found[0][0], 2)
    costs = [inverse_cost(sizes) for sizes in SIZES]
    assert set(by_layer.values()) == {0, 1}
    assert makespan(costs, [*by_layer.values()]) == step_costs(SIZES, 2).inverse_flops


def test_an_error_of_one_rank_is_raised_by_all(rng):
    params, (x, *_) = problem(rng)

    def work(rank):
        state = update(params, ESTIMATOR.init(params), x, DECAY)
        bad = next(name for name, r in owners(ESTIMATOR, state, 2).items() if r == 1)
        dampings = dict.fromkeys(ESTIMATOR.blocks, 0.1) | {bad: -1.0}
        with pytest.raises(kc.errors.KfacError) as raised:
            inverted(ESTIMATOR, state, dampings, rank)
        return str(raised.value)

    of_other, own = on_ranks(2, work)
    assert "rank 1" in of_other
    assert "damping" in own


def test_what_was_seen_in_common_would_count_for_each_rank(rng):
    params, batches = problem(rng)

    def without_forgetting(rank):
        state = ESTIMATOR.init(params)
        for x in batches:
            own = update(params, state, np.split(x, 2)[rank.rank], DECAY)
            state = summed(ESTIMATOR, state, own, rank)
        return state

    state = on_ranks(2, without_forgetting)[0]
    v = draw_like_params(MODEL, rng)
    step = ESTIMATOR.multiply_inverse(ESTIMATOR.update_inverses(state, DAMPING), v)
    expected = ESTIMATOR.multiply_inverse(alone(params, batches), v)
    assert any(np.abs(step[k] - expected[k]).max() > 1e-4 for k in step)


def test_places_of_a_named_axis_of_jax_are_ranks(jax, rng):
    axis = import_module("kfac_adapters.jax").NamedAxis("ranks")
    params, (x, *_) = problem(rng)
    here, before = tree.map(jax.device_put, (params, ESTIMATOR.init(params)))

    def shared(own):
        decay = jax.numpy.where(axis.rank == 0, DECAY, 0.0)
        new = update(here, before, own, decay)
        return summed(ESTIMATOR, before, new, axis)

    mapped = jax.jit(jax.vmap(shared, axis_name="ranks"))
    of_all = mapped(jax.device_put(x.reshape(3, 4, 4)))
    state = tree.map(lambda own: np.asarray(own)[0], of_all)
    expected = update(params, ESTIMATOR.init(params), x, DECAY)
    assert int(state.cases) == 12
    for name, block in ESTIMATOR.blocks.items():
        np.testing.assert_allclose(
            block.full_fisher_block(state.blocks[name]),
            block.full_fisher_block(expected.blocks[name]),
            rtol=0,
            atol=1e-12,
        )
