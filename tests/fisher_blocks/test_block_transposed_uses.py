"""Transposed convolutions that a case uses several times, against enumeration."""

from dataclasses import replace

import numpy as np
import pytest
from block_case import NumPy
from grouped_truth import assert_close
from transposed_truth import SHARED

import kfac_core as kc
from kfac_core.typing import RowWeights, Uses

EACH = pytest.mark.parametrize("case", SHARED.values(), ids=SHARED)
CASES = 4
NUMPY = NumPy()


def updated(library, block, x, g, **options):
    state = library.moved(block.init(np.zeros(1)))
    return library.compiled(block.update_covs)(state, x, g, ema_decay=0.0, **options)


@EACH
def test_locations_of_all_uses_count_and_a_bias_is_exact(case, library, rng):
    x, g = case.draw(rng, CASES)
    block = case.block()
    expected = case.fisher(x, g)
    data = library.asarray(x), library.asarray(g)
    state = updated(library, block, *data)
    found = library.to_numpy(block.full_fisher_block(state))
    assert_close(found, expected)
    # The mean of the blocks of single uses is another matrix.
    one = replace(case, uses=1).block()
    single = updated(NUMPY, one, x[0], g[0])
    assert np.abs(one.full_fisher_block(single) - expected).max() > 0.1


@EACH
@pytest.mark.parametrize("batch_first", [False, True])
def test_forms_of_the_data_are_the_same(case, batch_first, rng):
    x, g = case.draw(rng, CASES)
    expected = case.fisher(x, g)
    each = Uses(tuple(x)), Uses(tuple(g))
    if batch_first:
        x, g = (np.swapaxes(own, 0, 1) for own in (x, g))
    flat = (own.reshape(-1, *own.shape[2:]) for own in (x, g))
    block = case.block(batch_first=batch_first)
    told = case.block(batch_first=batch_first, num_uses=case.uses)
    assert block.count_cases(x) == block.count_cases(each[0]) == CASES
    for own, data in ((block, (x, g)), (block, each), (told, (*flat,))):
        state = updated(NUMPY, own, *data)
        assert_close(own.full_fisher_block(state), expected)


@EACH
def test_a_row_of_weight_two_is_two_rows_and_of_weight_zero_none(case, rng):
    x, g = case.draw(rng, CASES)
    block = case.block()
    weights = np.asarray([2.0, 0.0, 1.0, 1.0])
    again = np.asarray([0, 0, 2, 3])
    expected = case.fisher(x[:, again], g[:, again])
    state = updated(NUMPY, block, x, g, weights=weights)
    assert_close(block.full_fisher_block(state), expected)
    by_use = np.tile(weights, (case.uses, 1))
    own = RowWeights(by_use, by_use)
    for given in (by_use, by_use.ravel(), Uses(tuple(by_use)), own):
        state = updated(NUMPY, block, x, g, weights=given)
        assert_close(block.full_fisher_block(state), expected)
    half = updated(NUMPY, block, x, g, num_cases=2 * CASES)
    assert_close(block.full_fisher_block(half), case.fisher(x, g) / 2)


@EACH
def test_uses_of_several_sizes_are_all_their_locations(case, rng):
    block = case.block()
    x, g = case.draw(rng, CASES)
    cut = [slice(None)] * (x.ndim - 1)
    spatial = 1 if not case.first else 2
    cut[spatial] = slice(1, None)
    whole = updated(NUMPY, block, Uses(tuple(x)), Uses(tuple(g)))
    steps = case.strides[0]
    small_x = x[1][tuple(cut)]
    cut[spatial] = slice(steps, None)
    small_g = g[1][tuple(cut)]
    state = updated(NUMPY, block, Uses((x[0], small_x)), Uses((g[0], small_g)))
    one = replace(case, uses=1).block()
    # As towers, the cases of both sizes are others: twice as many.
    towers = updated(NUMPY, one, (x[0], small_x), (g[0], small_g))
    weights = int(np.prod(case.filter_shape))
    found = block.full_fisher_block(state)
    assert_close(
        found[:weights, :weights], 2 * one.full_fisher_block(towers)[:weights, :weights]
    )
    assert np.isfinite(found).all()
    assert not np.allclose(found, block.full_fisher_block(whole))


@EACH
def test_another_number_of_uses_is_refused(case, rng):
    x, g = case.draw(rng, CASES)
    block = case.block(name="up")
    with pytest.raises(kc.errors.ArgumentError, match="up: the inputs have 3 uses"):
        updated(NUMPY, block, x, g[:2])
    told = case.block(name="up", num_uses=2)
    with pytest.raises(kc.errors.ArgumentError, match="num_uses = 2"):
        updated(NUMPY, told, x, g)
