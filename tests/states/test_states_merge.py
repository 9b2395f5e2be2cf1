"""States of shards merge to the state of all rows, whatever the shards are."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from more_cases import BLOCK_CASES, FACTOR_CASES
from shards import (
    assert_equal,
    assert_same,
    close,
    merged,
    numbers,
    of_shards,
    part,
    seen,
)

import kfac_core as kc

SIZE = 9
# Fitted to batches, of the mean gradients of batches, and of rows that are drawn.
NOT_OF_ROWS = {"kronecker-optimal", "shampoo", "soap", "sampled"}
CASES = {
    name: case
    for name, case in BLOCK_CASES.items()
    if case.axis is not None and name not in NOT_OF_ROWS
}
ROWS = {
    name: case
    for name, case in FACTOR_CASES.items()
    if case.batched and name != "sampled"
}
SOME = (
    *("dense-bias", "dense-wide", "series-1", "conv-bias", "conv-pixels"),
    *("tnt", "ekfac", "tied", "bilinear-factored"),
)

splits = st.lists(st.integers(0, SIZE), max_size=4).map(sorted)
counts = st.lists(st.integers(0, 3), min_size=SIZE - 1, max_size=SIZE - 1)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=6)
@given(seed=st.integers(0, 99), cuts=splits, weights=st.none() | counts)
def test_blocks_of_shards_are_those_of_all_cases(name, seed, cuts, weights):
    case = CASES[name]
    spec, data = case.made(), case.draw(np.random.default_rng(seed), SIZE)
    weights = None if weights is None else np.asarray([1.0, *weights])
    whole = seen(case, spec, data, SIZE, weights=weights)
    union = spec.merge(*of_shards(case, spec, data, cuts, SIZE, weights))
    assert_same(case, spec, union, whole)


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=6)
@given(seed=st.integers(0, 99), cuts=splits)
def test_factors_of_shards_are_those_of_all_rows(name, seed, cuts):
    case = ROWS[name]
    spec, data = case.make(), case.draw(np.random.default_rng(seed), SIZE)
    whole = seen(case, spec, data, SIZE)
    union = spec.merge(*of_shards(case, spec, data, cuts, SIZE))
    close(spec.get_cov(union), spec.get_cov(whole), 1e-12)


@pytest.mark.parametrize("name", SOME)
def test_every_library_merges_as_numpy_does(library, name, rng):
    case = CASES[name]
    spec, data = case.made(), case.draw(rng, SIZE)
    # The last shard is empty.
    states = of_shards(case, spec, data, [2, SIZE], SIZE)
    union = merged(library, spec, [library.moved(state) for state in states])
    for x, y in zip(numbers(union), numbers(spec.merge(*states)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", SOME)
def test_steps_with_decay_are_steps_with_the_batches_of_all(name, rng):
    case = CASES[name]
    spec = case.made()
    whole, shards = None, [None, None]
    for decay in (0.9, 0.5, 0.7):
        data = case.draw(rng, SIZE)
        whole = seen(case, spec, data, SIZE, state=whole, decay=decay)
        for k, (start, stop) in enumerate(((0, 4), (4, SIZE))):
            own = of_shards(
                case, spec, data, [start, stop], SIZE, state=shards[k], decay=decay
            )
            shards[k] = own[1]
    assert_same(case, spec, spec.merge(*shards), whole)


@pytest.mark.parametrize("name", ["shampoo", "soap"])
def test_shards_are_batches_of_mean_gradients(name, rng):
    case = BLOCK_CASES[name]
    spec, data = case.made(), case.draw(rng, SIZE)
    shards = of_shards(case, spec, data, [3, 5], SIZE)
    whole = None
    for start, stop in ((0, 3), (3, 5), (5, SIZE)):
        batch = part(case, data, start, stop)
        whole = seen(case, spec, batch, stop - start, state=whole)
    assert_same(case, spec, spec.merge(*shards), whole)


@pytest.mark.parametrize("name", ["dense-bias", "conv-bias", "tnt"])
def test_two_states_commute_bit_for_bit(name, rng):
    case = CASES[name]
    spec = case.made()
    data = case.draw(rng, SIZE)
    first, second = of_shards(case, spec, data, [4], SIZE)
    assert_equal(spec.merge(first, second), spec.merge(second, first))


def test_states_are_added_from_left_to_right(rng):
    case = CASES["dense-bias"]
    spec, data = case.made(), case.draw(rng, SIZE)
    a, b, c = of_shards(case, spec, data, [2, 5], SIZE)
    assert_equal(spec.merge(a, b, c), spec.merge(spec.merge(a, b), c))


@pytest.mark.parametrize("name", ["dense-bias", "series-1", "conv-bias", "embedding"])
def test_nothing_is_computed_from_a_union_yet(name, rng):
    case = CASES[name]
    spec, data = case.made(), case.draw(rng, SIZE)
    states = [
        spec.update_inverses(state, 0.1)
        for state in of_shards(case, spec, data, [4], SIZE)
    ]
    union = spec.merge(*states)
    assert_equal(union, spec.merge(*map(spec.init_inverses, states)))
    with pytest.raises(kc.errors.NotComputedError):
        spec.multiply_inverse(union, case.vector(rng))


def test_the_plain_mean_of_states_is_wrong_for_shards_of_unlike_sizes(rng):
    case = CASES["dense-bias"]
    spec, data = case.made(), case.draw(rng, SIZE)
    shards = of_shards(case, spec, data, [2], SIZE)
    mean = sum(spec.full_fisher_block(state) for state in shards) / 2
    truth = spec.full_fisher_block(seen(case, spec, data, SIZE))
    assert np.abs(mean - truth).max() > 0.05 * np.abs(truth).max()


def test_states_of_files_and_pickles_merge(tmp_path, rng):
    case = CASES["dense-bias"]
    spec, data = case.made(), case.draw(rng, SIZE)
    first, second = of_shards(case, spec, data, [4], SIZE)
    kc.save(tmp_path / "state", first, spec)
    loaded = kc.load(tmp_path / "state", spec, like=np.zeros(1))
    sent = pickle.loads(pickle.dumps(second))
    assert_equal(spec.merge(loaded, sent), spec.merge(first, second))


def test_a_state_alone_is_its_own_union(rng):
    case = CASES["dense-bias"]
    spec = case.made()
    state = seen(case, spec, case.draw(rng, SIZE), SIZE)
    assert_equal(spec.merge(state), state)
