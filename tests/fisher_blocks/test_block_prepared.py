"""A prepared verb returns what the verb does, bit for bit, and raises what it does."""

import numpy as np
import pytest
from block_case import asarrays, tree
from block_cases import BLOCKS, EVERYWHERE

import kfac_core as kc

VERBS = ("update_covs", "update_inverses", "multiply_inverse")


@pytest.fixture
def library(plain_library):
    if plain_library.package == "jax":
        pytest.skip("a prepared verb of JAX's arrays is the verb itself")
    return plain_library


def assert_same(library, found, expected):
    """Check two trees: their types, and every bit of their arrays."""
    assert type(found) is type(expected)
    if isinstance(found, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(library, one, other)
        return
    assert found.dtype == expected.dtype
    one, other = library.to_numpy(found), library.to_numpy(expected)
    assert one.shape == other.shape
    assert one.tobytes() == other.tobytes()


def scaled(data, factor):
    return tree(lambda x: x if x.dtype.kind == "i" else x * factor, data)


def prepared(block):
    return {name: kc.prepared(getattr(block, name)) for name in VERBS}


@pytest.mark.parametrize(("name", "kind"), EVERYWHERE)
def test_three_steps_are_those_of_the_verbs(library, name, kind, rng):
    case = BLOCKS[name]
    block = case.made(kind)
    verbs = prepared(block)
    first = case.draw(rng, 6)
    state = own = block.init(library.asarray(np.zeros(1)))
    for step in range(4):
        data = case.taken(asarrays(library, scaled(first, 1 + step / 3)))
        options = {**case.extra, "ema_decay": 0.5 + step / 10}
        state = block.update_covs(state, *data, **options)
        own = verbs["update_covs"](own, *data, **options)
        assert_same(library, own, state)
        state = block.update_inverses(state, 0.1 * (step + 1))
        own = verbs["update_inverses"](own, 0.1 * (step + 1))
        assert_same(library, own, state)
        vector = asarrays(library, case.vector(rng))
        expected = block.multiply_inverse(state, vector)
        assert_same(library, verbs["multiply_inverse"](own, vector), expected)


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
