"""States of an estimator that saw shards merge to that of the whole data set."""

import numpy as np
import pytest
from estimator_cases import (
    CASES,
    CATEGORICAL,
    assert_named_close,
    draw,
    draw_like_params,
    moved,
)
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc
from kfac_core.reference import Batch

MODEL = CASES["dense"].model
SIZE = 10
ESTIMATOR = kc.FisherEstimator(
    MODEL.layer_collection(CATEGORICAL), estimation_mode="exact"
)


def problem(rng):
    params = draw(CASES["dense"], rng).params
    return params, rng.normal(size=(SIZE, 4)), draw_like_params(MODEL, rng)


def seen(params, x, mask=None, layers=None, state=None, asarray=np.asarray):
    """Return the state after a batch that counts by its cases; none is no update."""
    state = ESTIMATOR.init(params) if state is None else state
    if not len(x):
        return state
    batch = Batch(asarray(x), None, None if mask is None else asarray(mask))
    return ESTIMATOR.update_covs(
        state,
        MODEL.linearize(params, batch),
        ema_decay=1.0,
        ema_weight=float(len(x)),
        layers=layers,
    )


def step(state, v):
    return ESTIMATOR.multiply_inverse(ESTIMATOR.update_inverses(state, 0.1), v)


splits = st.lists(st.integers(0, SIZE), max_size=4).map(sorted)
masks = st.lists(st.integers(0, 1), min_size=SIZE - 1, max_size=SIZE - 1)


@given(st.integers(0, 99), splits, st.none() | masks)
def test_shards_are_one_data_set(seed, cuts, mask):
    params, x, v = problem(np.random.default_rng(seed))
    if mask is None:
        shards = [seen(params, own) for own in np.split(x, cuts)]
    else:
        mask = np.asarray([1.0, *mask])
        shards = [
            seen(params, *own)
            for own in zip(np.split(x, cuts), np.split(mask, cuts), strict=True)
        ]
    union = ESTIMATOR.merge(*shards)
    assert int(union.cases) == SIZE
    assert_named_close(step(union, v), step(seen(params, x, mask), v), 1e-10)


def test_shards_are_one_data_set_in_every_library(library, rng):
    params, x, v = problem(rng)
    shards = [library.moved(seen(params, own)) for own in (x[:3], x[3:], x[:0])]
    union = ESTIMATOR.merge(*shards)
    found = ESTIMATOR.multiply_inverse(
        library.compiled(ESTIMATOR.update_inverses)(union, 0.1), moved(library, v)
    )
    found = {name: library.to_numpy(own) for name, own in found.items()}
    assert_named_close(found, step(seen(params, x), v), 1e-10)


def test_a_layer_that_a_shard_never_used_is_that_of_the_others(rng):
    params, x, v = problem(rng)
    first, second = (layer.name for layer in ESTIMATOR.layers)
    union = ESTIMATOR.merge(seen(params, x[:4]), seen(params, x[4:], layers=(second,)))
    found = step(union, v)
    of_first, of_both = step(seen(params, x[:4]), v), step(seen(params, x), v)
    names = {layer.name: layer.params for layer in ESTIMATOR.layers}
    expected = {name: of_first[name] for name in names[first]}
    expected |= {name: of_both[name] for name in names[second]}
    assert_named_close(found, expected, 1e-10)


def test_a_product_with_a_union_needs_an_update(rng):
    params, x, v = problem(rng)
    shards = [
        ESTIMATOR.update_inverses(seen(params, own), 0.1) for own in (x[:3], x[3:])
    ]
    with pytest.raises(kc.errors.NotComputedError):
        ESTIMATOR.multiply_inverse(ESTIMATOR.merge(*shards), v)


def test_states_of_other_layers_are_refused(rng):
    params, x, _ = problem(rng)
    state = seen(params, x)
    other = state._replace(blocks={"other": next(iter(state.blocks.values()))})
    with pytest.raises(kc.errors.StateError, match="layers"):
        ESTIMATOR.merge(state, other)
