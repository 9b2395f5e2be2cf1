"""What a state belongs to is a part of its structure, to JAX and to PyTorch."""

import pickle

import numpy as np
import pytest
from state_specs import BLOCKS, FACTORS, G, X

import kfac_core as kc

SPECS = {**{f"factor {k}": v for k, v in FACTORS.items()}, **BLOCKS}
INVERSE, ROOT = FACTORS["inverse"], FACTORS["root"]


def test_no_two_structures_of_jax_are_equal(jax):
    like = jax.numpy.asarray(X)
    found = [jax.tree.structure(spec.init(like)) for spec in SPECS.values()]
    assert len(set(found)) == len(found)
    assert pickle.loads(pickle.dumps(found[0])) == found[0]


def test_no_two_structures_of_torch_are_equal(torch):
    pytree = torch.utils._pytree
    like = torch.from_numpy(X)
    found = []
    for spec in SPECS.values():
        leaves, structure = pytree.tree_flatten(spec.init(like))
        assert structure not in found
        found.append(structure)
        spec.init_inverses(pytree.tree_unflatten(leaves, structure))


def test_a_mismatch_is_seen_while_jax_traces(jax):
    state = ROOT.init(jax.numpy.asarray(X))
    with pytest.raises(kc.errors.StateError, match="fc9"):
        jax.jit(INVERSE.update_inverses)(state, 0.1)


def test_jax_does_not_choose_between_states_of_two_specs(jax):
    states = (spec.init(jax.numpy.asarray(X)) for spec in (ROOT, INVERSE))
    with pytest.raises(TypeError, match="same"):
        jax.lax.cond(True, lambda a, b: a, lambda a, b: b, *states)


def test_a_state_goes_through_all_that_jax_does_with_trees(jax):
    block, x, g = BLOCKS["pi"], *map(jax.numpy.asarray, (X, G))

    def step(state, _):
        state = block.update_covs(state, x, g, 0.5)
        return block.update_inverses(state, 0.1), None

    state, _ = jax.lax.scan(step, block.init(x), None, length=2)
    state = jax.tree.map(lambda leaf: leaf * 1, jax.device_put(state))
    stack = jax.tree.map(lambda leaf: jax.numpy.stack([leaf, leaf]), state)
    products = jax.vmap(lambda s: block.multiply_inverse(s, x[:3]))(stack)
    expected = block.multiply_inverse(state, x[:3])
    np.testing.assert_allclose(products[1], expected)


def test_a_state_goes_through_a_compiler_of_torch(torch):
    block, x, g = BLOCKS["pi"], *map(torch.from_numpy, (X, G))

    @torch.compile(fullgraph=True, backend="eager")
    def step(state):
        state = block.update_covs(state, x, g, 0.5)
        return block.update_inverses(state, 0.1)

    state = step(step(block.init(x)))
    assert type(state.made_by) is type(block.signature)
    plain = block.init(x)
    for _ in range(2):
        plain = block.update_inverses(block.update_covs(plain, x, g, 0.5), 0.1)
    found, expected = (block.multiply_inverse(s, x[:3]) for s in (state, plain))
    np.testing.assert_allclose(found.numpy(), expected.numpy())
