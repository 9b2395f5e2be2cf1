"""Blocks of layers that not all rows reach, or that not all rows count for."""

import numpy as np
import pytest
from block_case import NumPy, tree
from block_cases import BLOCKS

import kfac_core as kc

BATCHED = {name: case for name, case in BLOCKS.items() if case.axis is not None}
MASK = np.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
TIMES = np.asarray([2.0, 0.0, 1.0, 3.0])
SOME = ["dense-bias", "dense-wide", "series-1", "conv-bias", "embedding-uses", "bias"]


def chosen(case, data, places):
    return tree(lambda x: np.take(x, places, axis=case.axis), data)


def poisoned(case, data):
    """Return data with NaN in all that weighs nothing."""

    def poison(x):
        if x.dtype.kind != "f":
            return x
        shape = [1] * x.ndim
        shape[case.axis] = len(MASK)
        return np.where(MASK.reshape(shape) > 0, x, np.nan)

    return tree(poison, data)


def products(library, case, block, state, rng):
    """Return the dense block, and a product with its damped inverse."""
    state = library.compiled(block.update_inverses)(state, 0.3)
    vector = tree(library.asarray, case.vector(rng))
    product = library.compiled(block.multiply_inverse)(state, vector)
    tensors = product if isinstance(product, tuple) else (product,)
    flat = [library.to_numpy(tensor).ravel() for tensor in tensors]
    dense = library.to_numpy(block.full_fisher_block(state))
    return dense, np.concatenate(flat)


def found(library, case, data, seed=0, **options):
    block = case.made(case.kinds[0])
    state = case.updated(library, block, data, **options)
    return products(library, case, block, state, np.random.default_rng(seed))


def close(actual, expected, precision):
    for one, other in zip(actual, expected, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=1e2 * precision * scale)


@pytest.mark.parametrize("name", BATCHED)
def test_rows_of_weight_zero_count_as_if_they_were_dropped(library, name, rng):
    case = BATCHED[name]
    data = case.draw(rng, len(MASK))
    kept = chosen(case, data, np.flatnonzero(MASK))
    weights = library.asarray(MASK)
    close(
        found(library, case, poisoned(case, data), weights=weights),
        found(library, case, kept, num_cases=len(MASK)),
        case.precision,
    )


@pytest.mark.parametrize("name", BATCHED)
def test_the_cases_that_did_not_reach_the_layer_divide_the_fisher(name, rng):
    case = BATCHED[name]
    data = case.draw(rng, 4)
    dense, _ = found(NumPy, case, data)
    fewer, _ = found(NumPy, case, data, num_cases=10)
    close([fewer], [dense * 4 / 10], case.precision)


@pytest.mark.parametrize("name", BATCHED)
def test_a_row_of_weight_two_counts_as_two_rows(name, rng):
    case = BATCHED[name]
    data = case.draw(rng, len(TIMES))
    repeated = chosen(case, data, np.repeat(np.arange(len(TIMES)), TIMES.astype(int)))
    weighted = found(NumPy, case, data, weights=TIMES)
    close(
        weighted,
        found(NumPy, case, repeated, num_cases=len(TIMES)),
        case.precision,
    )
    plain = found(NumPy, case, data)
    assert not np.allclose(weighted[0], plain[0])


@pytest.mark.parametrize("name", BATCHED)
def test_gradients_that_carry_the_roots_of_weights_count_once(name, rng):
    case = BATCHED[name]
    data = case.draw(rng, len(TIMES))
    shape = [1] * data[1].ndim
    shape[case.axis] = len(TIMES)
    carried = (data[0], data[1] * np.sqrt(TIMES).reshape(shape))
    weights = kc.RowWeights(TIMES, (TIMES > 0).astype(float))
    close(
        found(NumPy, case, carried, weights=weights),
        found(NumPy, case, data, weights=TIMES),
        case.precision,
    )


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("kind", ["pi", "off", "constant", "exact"])
def test_a_batch_of_weight_zero_is_a_batch(name, kind, rng):
    case = BATCHED[name]
    kinds = [known for known in case.kinds if known in {kind, None}]
    for known in kinds:
        block = case.made(known)
        state = block.init(np.zeros(1))
        data = case.draw(rng, 4)
        state = case.fold(NumPy, block, state, data, weights=np.zeros(4))
        state = block.update_inverses(state, 0.25)
        vector = case.vector(rng)
        product = block.multiply_inverse(state, vector)
        assert not block.full_fisher_block(state).any()
        if known != "constant":  # which damps both factors, and so by its square
            pairs = zip(*map(tensors, (product, vector)), strict=True)
            for one, other in pairs:
                np.testing.assert_allclose(one, 4 * other, rtol=1e-12)


def tensors(params):
    return params if isinstance(params, tuple) else (params,)


@pytest.mark.parametrize("name", BATCHED)
def test_a_stream_is_the_same_with_rows_dropped(name, rng):
    case = BATCHED[name]
    block = case.made(case.kinds[0])
    masked = dropped = block.init(np.zeros(1))
    for weights in (MASK, 1 - MASK, np.ones(6), np.eye(6)[0]):
        data = case.draw(rng, 6)
        kept = chosen(case, data, np.flatnonzero(weights))
        masked = case.fold(NumPy, block, masked, data, weights=weights)
        dropped = case.fold(NumPy, block, dropped, kept, num_cases=6)
    seeds = [np.random.default_rng(1) for _ in range(2)]
    close(
        products(NumPy, case, block, masked, seeds[0]),
        products(NumPy, case, block, dropped, seeds[1]),
        case.precision,
    )


@pytest.mark.parametrize("name", ["dense", "dense-bias", "conv-bias", "embedding"])
def test_a_kronecker_block_is_that_of_the_rows_that_count(name, rng):
    """``F = kron(sum w x x', sum w g g') / (sum w N)``, times the locations."""
    case = BATCHED[name]
    data = case.draw(rng, 6)
    kept = chosen(case, data, np.flatnonzero(MASK))
    a, g, uses = case.fisher(*kept)
    dense, _ = found(NumPy, case, data, weights=MASK)
    close([dense], [uses * np.kron(a, g) * MASK.mean()], case.precision)


@pytest.mark.parametrize("name", SOME)
def test_weights_and_cases_are_traced(name, rng):
    jax = pytest.importorskip("jax")
    case = BATCHED[name]
    block = case.made(case.kinds[0])
    data = tree(lambda x: jax.numpy.asarray(x), case.draw(rng, len(MASK)))
    traces = 0

    @jax.jit
    def fold(state, data, weights, num_cases):
        nonlocal traces
        traces += 1
        arrays = data if block.takes_inputs else data[1:]
        return block.update_covs(
            state, *arrays, ema_decay=0.5, weights=weights, num_cases=num_cases
        )

    state = block.init(jax.numpy.zeros(1, data[1].dtype))
    for weights, cases in ((MASK, 6), (TIMES[[0, 1, 2, 3, 0, 1]] / 2, 20)):
        weights = jax.numpy.asarray(weights)
        eager = block.update_covs(
            state,
            *(data if block.takes_inputs else data[1:]),
            ema_decay=0.5,
            weights=weights,
            num_cases=cases,
        )
        traced = fold(state, data, weights, jax.numpy.asarray(cases))
        assert bool(traced.ok)
        for one, other in zip(*map(jax.tree.leaves, (traced, eager)), strict=True):
            np.testing.assert_allclose(
                np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-5
            )
        state = traced
    bad = fold(state, data, jax.numpy.asarray(MASK) * float("nan"), 6)
    assert not bool(bad.ok)
    assert traces <= 2  # the number of cases was an array, and then a Python integer


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("uses", [False, True])
def test_padding_within_a_shared_embedding(library, batch_first, uses):
    ids = np.asarray([[0, 2, 1], [-1, 2, -1]])  # two uses of three cases
    g = np.arange(6.0).reshape(2, 3, 1) + 1
    block = kc.blocks.EmbeddingKFACMultiIndepFB(
        3, 1, dtype="float64", negative_ids_are_padding=True, batch_first=batch_first
    )
    counts = ids >= 0
    a = np.bincount(ids[counts], minlength=3) / 6
    mean = counts.mean()
    expected = 2 * np.diag(a) * (g[counts] ** 2).sum() / 6 / mean

    def given(x):
        if uses:
            return kc.Uses(tuple(map(library.asarray, x)))
        return library.asarray(np.swapaxes(x, 0, 1) if batch_first else x)

    state = block.init(like=library.asarray(g))
    state = block.update_covs(state, given(ids), given(g), ema_decay=0.0)
    found = library.to_numpy(block.full_fisher_block(state))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_ids_out_of_range_weigh_nothing_under_a_trace():
    jax = pytest.importorskip("jax")
    block = kc.blocks.EmbeddingKFACFB(3, 1)
    ids = jax.numpy.asarray([1, 1, -1, -1, -1, -1, -1, -1])
    g = jax.numpy.asarray([[1.0], [1.0], *[[0.0]] * 6])

    @jax.jit
    def dense(ids, g):
        state = block.update_covs(block.init(like=g), ids, g, ema_decay=0.0)
        return block.full_fisher_block(state)

    np.testing.assert_allclose(np.diag(dense(ids, g)), [0.0, 0.25, 0.0])
