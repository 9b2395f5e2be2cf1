"""Equal layers stacked and mapped over are those layers one by one."""

import numpy as np
import pytest
from traced_cases import (
    BLOCKS,
    STATES,
    assert_close,
    assert_equal,
    data_of,
    step_of,
    vector_of,
)

from kfac_core import tree

LAYERS = 3
DECAYS, DAMPINGS = [0.5, 0.9, 0.0], [0.1, 0.3, 1.0]


@pytest.fixture(params=STATES)
def name(request):
    return request.param


def stacked(name, rng):
    """Return the arguments of a step for all layers, after one step in NumPy."""
    block, step = BLOCKS[name], step_of(name)
    v = vector_of(name, rng, LAYERS)
    states = []
    for _ in range(LAYERS):
        x, g = data_of(name, rng)
        states.append(block.update_covs(block.init(g), x, g, 0.5))
        states[-1] = block.update_inverses(states[-1], 0.5)
    state = tree.map(lambda *leaves: np.stack(leaves), *states)
    x, g = data_of(name, rng, LAYERS)
    arguments = (state, x, g, v, np.asarray(DECAYS), np.asarray(DAMPINGS))
    expected = [
        step(*(tree.map(lambda leaf, i=i: leaf[i], part) for part in arguments))
        for i in range(LAYERS)
    ]
    return arguments, tree.map(lambda *leaves: np.stack(leaves), *expected)


def test_jax_maps_over_layers(jax, name, rng):
    arguments, expected = stacked(name, rng)
    arguments = tree.map(jax.numpy.asarray, arguments)
    found = jax.jit(jax.vmap(step_of(name)))(*arguments)
    assert_close(tree.map(np.asarray, found), expected)


def test_pytorch_maps_over_layers(torch, name, rng):
    arguments, expected = stacked(name, rng)
    arguments = tree.map(torch.from_numpy, arguments)
    found = torch.func.vmap(step_of(name))(*arguments)
    assert_close(tree.map(lambda x: x.numpy(), found), expected)


@pytest.mark.parametrize("package", ["jax", "torch"])
def test_one_layer_with_nan_does_not_spoil_the_others(request, package, rng):
    library = request.getfixturevalue(package)
    convert, vmap = (
        (library.numpy.asarray, library.vmap)
        if package == "jax"
        else (library.from_numpy, library.func.vmap)
    )
    (state, x, g, *_), _ = stacked("dense", rng)
    x[1, 0, 0] = np.nan
    update = vmap(lambda s, x, g: BLOCKS["dense"].update_covs(s, x, g, 0.5))
    found = tree.map(np.asarray, update(*tree.map(convert, (state, x, g))))
    assert np.asarray(found.ok).tolist() == [True, False, True]
    old = tree.map(lambda leaf: leaf[1], state)
    new = tree.map(lambda leaf: leaf[1], found)
    for side in ("input_factor", "output_factor"):
        assert_equal(getattr(new, side).cov, getattr(old, side).cov)
        assert_equal(getattr(new, side).derived, getattr(old, side).derived)
    first = BLOCKS["dense"].update_covs(
        tree.map(lambda leaf: leaf[0], state), x[0], g[0], 0.5
    )
    assert_close(tree.map(lambda leaf: leaf[0], found), first)
