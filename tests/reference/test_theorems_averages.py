"""Averages over shards, batches and time, held against blocks of all data at once."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_cases import NETWORKS, assert_close, assert_differs, draw
from theorem_cases import BATCHES, EXAMPLES, SEEDS, fitted

from kfac_core.reference import (
    Embedding,
    LayerData,
    block_for,
    diagonal_block_for,
    exact_sources,
)

DECAYS = st.lists(st.sampled_from([0.0, 0.3, 0.95, 1.0]), min_size=1, max_size=5)


@pytest.fixture(params=NETWORKS)
def case(request):
    return NETWORKS[request.param]


def layers_of(case, seed, batch):
    """Each layer with the data of one batch."""
    params, x, _ = draw(case, np.random.default_rng(seed), batch)
    data = exact_sources(case.network, params, x, case.loss)
    return list(zip(case.network.param_layers, data, strict=True))


def blocks_for(spec, **options):
    kfac = block_for(spec, **options)
    if isinstance(spec, Embedding):
        return [kfac]
    return [kfac, diagonal_block_for(spec, **options)]


def selected(data, rows):
    sources = tuple((g[rows],) for (g,) in data.outputs_grads)
    return LayerData(data.inputs[rows], sources)


def in_towers(data, sizes):
    """The same cases as a tuple over towers of the given sizes."""
    stops = np.cumsum(sizes)
    parts = [selected(data, slice(a, b)) for a, b in pairwise([0, *stops])]
    by_source = zip(*(part.outputs_grads for part in parts), strict=True)
    sources = tuple(tuple(g for (g,) in source) for source in by_source)
    return LayerData(tuple(part.inputs for part in parts), sources), parts


@given(seed=SEEDS, sizes=st.sampled_from([(1, 5), (3, 1, 2), (2, 2)]))
def test_t25_towers_of_any_sizes_are_one_batch(case, seed, sizes):
    for spec, data in layers_of(case, seed, sum(sizes)):
        towers, _ = in_towers(data, sizes)
        for block in blocks_for(spec):
            whole = fitted(block, data)
            split = block.update_covs(
                block.init(data.outputs_grads[0][0]), *towers, ema_decay=0.0
            )
            assert_close(block.full_fisher_block(split), block.full_fisher_block(whole))


@EXAMPLES
def test_t25_their_plain_mean_is_not(case, seed):
    for spec, data in layers_of(case, seed, 6):
        _, parts = in_towers(data, (1, 5))
        block = block_for(spec)
        whole = fitted(block, data)
        states = [fitted(block, part) for part in parts]
        moments = [block.input_factor.get_cov(s.input_factor) for s in states]
        expected = block.input_factor.get_cov(whole.input_factor)
        weighted = (moments[0] + 5 * moments[1]) / 6
        assert_close(weighted, expected)
        assert_differs((moments[0] + moments[1]) / 2, expected)


@given(seed=SEEDS, decays=DECAYS)
def test_t26_of_one_batch_again_and_again_the_average_is_exact(case, seed, decays):
    for spec, data in layers_of(case, seed, 4):
        for block in blocks_for(spec):
            expected = block.full_fisher_block(fitted(block, data))
            state = block.init(data.outputs_grads[0][0])
            for decay in decays:
                state = block.update_covs(state, *data, ema_decay=decay)
                assert_close(block.full_fisher_block(state), expected)


@given(seed=SEEDS, steps=st.integers(1, 4))
def test_t26_an_identity_at_the_start_fades_by_the_decay(case, seed, steps):
    decay = 0.9
    options = {"zero_debias": False, "init_covariances_at_zero": False}
    for spec, data in layers_of(case, seed, 4):
        exact = block_for(spec)
        of_batch = fitted(exact, data)
        block = block_for(spec, **options)
        state = block.init(data.outputs_grads[0][0])
        for _ in range(steps):
            state = block.update_covs(state, *data, ema_decay=decay)
        left = decay**steps
        for name in ("input_factor", "output_factor"):
            mine = getattr(block, name).get_cov(getattr(state, name))
            moment = getattr(exact, name).get_cov(getattr(of_batch, name))
            expected = left * np.eye(len(moment)) + (1 - left) * moment
            assert_close(mine, expected)
            assert_differs(mine, moment)


@given(seed=SEEDS)
def test_t26_a_start_at_zero_without_debiasing_is_too_small(case, seed):
    decay, steps = 0.9, 3
    for spec, data in layers_of(case, seed, 4):
        exact = block_for(spec)
        moment = exact.output_factor.get_cov(fitted(exact, data).output_factor)
        block = block_for(spec, zero_debias=False)
        state = block.init(data.outputs_grads[0][0])
        for _ in range(steps):
            state = block.update_covs(state, *data, ema_decay=decay)
        mine = block.output_factor.get_cov(state.output_factor)
        assert_close(mine, (1 - decay**steps) * moment)


@given(seed=SEEDS, batch=BATCHES)
def test_the_order_and_the_copies_of_cases_do_not_matter(case, seed, batch):
    order = np.random.default_rng(seed).permutation(batch)
    for spec, data in layers_of(case, seed, batch):
        for block in blocks_for(spec):
            expected = block.full_fisher_block(fitted(block, data))
            for rows in (order, np.concatenate([order, order])):
                mine = block.full_fisher_block(fitted(block, selected(data, rows)))
                assert_close(mine, expected)


@given(seed=SEEDS, batch=BATCHES)
def test_a_case_without_gradient_dilutes_the_others(case, seed, batch):
    for spec, data in layers_of(case, seed, batch):
        more = selected(data, [*range(batch), 0])
        silenced = np.ones(batch + 1)
        silenced[-1] = 0
        sources = tuple(
            (g * silenced.reshape(-1, *(1,) * (g.ndim - 1)),)
            for (g,) in more.outputs_grads
        )
        block = blocks_for(spec)[0]
        before = block.output_factor.get_cov(fitted(block, data).output_factor)
        state = fitted(block, LayerData(more.inputs, sources))
        after = block.output_factor.get_cov(state.output_factor)
        assert_close(after, before * batch / (batch + 1))


@given(seed=SEEDS)
def test_a_loss_scaled_by_four_has_sixteen_times_the_fisher_bit_for_bit(case, seed):
    for spec, data in layers_of(case, seed, 4):
        scaled = tuple((4 * g,) for (g,) in data.outputs_grads)
        for block in blocks_for(spec):
            once = block.full_fisher_block(fitted(block, data))
            state = fitted(block, LayerData(data.inputs, scaled))
            assert_close(block.full_fisher_block(state), 16 * once, 0)
