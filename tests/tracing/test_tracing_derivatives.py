"""Which verbs autograd can differentiate, of every block, and which keep no graph."""

import numpy as np
import pytest
from traced_cases import BLOCKS, data_of, vector_of

from kfac_core import tree
from kfac_core.errors import UnsupportedError


@pytest.fixture(params=BLOCKS)
def name(request):
    return request.param


def tracked(torch, value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def assert_no_graph(state):
    found = []
    tree.map(lambda leaf: found.append(leaf.requires_grad), state)
    assert not any(found)


def test_statistics_and_errors_keep_no_graph(torch, name, rng):
    """Whatever has a graph: data, decay, weight, and the damping of an error."""
    block = BLOCKS[name]
    x, g = tree.map(torch.from_numpy, data_of(name, rng))
    for tensor in (x, g):
        if tensor.is_floating_point():
            tensor.requires_grad_()
    decay, weight = tracked(torch, 0.9), tracked(torch, 2.0)
    state = block.update_covs(block.init(g), x, g, decay, weight)
    assert_no_graph(state)
    state = block.update_inverses(state, 0.1)
    assert_no_graph(state)
    assert not block.full_fisher_block(state).requires_grad
    try:
        error = block.inverse_error(state, tracked(torch, 0.2))
    except UnsupportedError:
        return
    assert not error.requires_grad


def test_a_state_with_nothing_computed_forgets_a_damping_with_a_graph(torch, name, rng):
    block = BLOCKS[name]
    x, g = tree.map(torch.from_numpy, data_of(name, rng))
    state = block.update_covs(block.init(g), x, g, 0.9)
    state = block.update_inverses(state, tracked(torch, 0.2))
    assert_no_graph(block.init_inverses(state))
    assert_no_graph(block.update_inverses(state, 0.2))


def test_inverses_are_differentiable_for_the_damping(torch, name, rng):
    block = BLOCKS[name]
    x, g = tree.map(torch.from_numpy, data_of(name, rng))
    v = tree.map(torch.from_numpy, vector_of(name, rng))
    state = block.update_covs(block.init(g), x, g, 0.9)

    def value(damping):
        product = block.multiply_inverse(block.update_inverses(state, damping), v)
        pairs = zip(tree.leaves(product), tree.leaves(v), strict=True)
        return sum((p * part).sum() for p, part in pairs)

    damping = tracked(torch, 0.3)
    (slope,) = torch.autograd.grad(value(damping), damping)
    h = 1e-5
    wanted = (float(value(0.3 + h)) - float(value(0.3 - h))) / (2 * h)
    np.testing.assert_allclose(float(slope), wanted, rtol=1e-8)
