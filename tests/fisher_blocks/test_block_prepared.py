"""A prepared verb returns what the verb does, bit for bit, and raises what it does."""

import numpy as np
import pytest
from block_case import asarrays, tree
from block_cases import BLOCKS, EVERYWHERE

import kfac_core as kc

VERBS = ("update_covs", "update_inverses", "multiply_inverse")


def scaled(data, factor):
    return tree(lambda x: x if x.dtype.kind == "i" else x * factor, data)


def prepared(block):
    return {name: kc.prepared(getattr(block, name)) for name in VERBS}


@pytest.mark.parametrize(("name", "kind"), EVERYWHERE)
def test_three_steps_are_those_of_the_verbs(eager_library, name, kind, rng):
    case, library = BLOCKS[name], eager_library
    block = case.made(kind)
    verbs = prepared(block)
    first = case.draw(rng, 6)
    state = own = block.init(library.asarray(np.zeros(1)))
    for step in range(4):
        data = case.taken(asarrays(library, scaled(first, 1 + step / 3)))
        options = {**case.extra, "ema_decay": 0.5 + step / 10}
        state = block.update_covs(state, *data, **options)
        own = verbs["update_covs"](own, *data, **options)
        library.assert_same(own, state)
        state = block.update_inverses(state, 0.1 * (step + 1))
        own = verbs["update_inverses"](own, 0.1 * (step + 1))
        library.assert_same(own, state)
        vector = asarrays(library, case.vector(rng))
        expected = block.multiply_inverse(state, vector)
        library.assert_same(verbs["multiply_inverse"](own, vector), expected)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_verb_is_recorded(name, rng):
    case = BLOCKS[name]
    block = case.made(case.kinds[0])
    verbs, data = prepared(block), case.taken(case.draw(rng, 6))
    state = block.init(np.zeros(1))
    for _ in range(2):
        state = verbs["update_covs"](state, *data, **case.extra, ema_decay=0.5)
        state = verbs["update_inverses"](state, 0.1)
        verbs["multiply_inverse"](state, case.vector(rng))
    assert [name for name, verb in verbs.items() if not verb.forms] == []
