"""Under `jax.jit` a step is traced once, and computes what NumPy computes."""

import numpy as np
import pytest
from traced_cases import (
    BLOCKS,
    INVERSE_ALONE,
    SETTINGS,
    STATES,
    assert_close,
    assert_equal,
    data_of,
    in_numpy,
    step_of,
    vector_of,
)

from kfac_core import tree


@pytest.fixture(params=STATES)
def name(request):
    return request.param


def jitted(jax, name):
    """Return the compiled step and the list that each trace adds to."""
    traces, step = [], step_of(name)

    def traced(*arguments):
        traces.append(name)
        return step(*arguments)

    return jax.jit(traced), traces


@pytest.mark.parametrize("name", BLOCKS)
def test_one_trace_serves_every_decay_and_damping(jax, name, rng):
    check_one_trace(jax, name, jax.numpy.asarray, rng)


def test_one_trace_serves_every_number(jax, rng):
    check_one_trace(jax, "dense", float, rng)


def check_one_trace(jax, name, convert, rng):
    batches = [data_of(name, rng) for _ in SETTINGS]
    vector = vector_of(name, rng)
    step, traces = jitted(jax, name)
    state = BLOCKS[name].init(jax.numpy.zeros(1))
    v = tree.map(jax.numpy.asarray, vector)
    found = []
    for batch, settings in zip(batches, SETTINGS, strict=True):
        x, g = tree.map(jax.numpy.asarray, batch)
        state, product = step(state, x, g, v, *map(convert, settings))
        found.append((state, product))
    assert len(traces) == 1
    expected = in_numpy(name, batches, vector)
    assert_close(tuple(found), tuple(expected))
    assert bool(state.ok)


def test_a_state_is_the_carry_of_a_scan(jax, name, rng):
    batches = [data_of(name, rng) for _ in SETTINGS]
    vector = vector_of(name, rng)
    stacked = tree.map(lambda *xs: jax.numpy.stack(xs), *batches)
    settings = jax.numpy.asarray(SETTINGS)
    step, v = step_of(name), tree.map(jax.numpy.asarray, vector)

    def body(state, now):
        (x, g), (decay, damping) = now
        return step(state, x, g, v, decay, damping)

    state, _ = jax.lax.scan(
        body, BLOCKS[name].init(jax.numpy.zeros(1)), (stacked, settings)
    )
    assert_close(state, in_numpy(name, batches, vector)[-1][0])


def test_specs_are_static_arguments_and_states_are_pytrees(jax, rng):
    def product(block, state, vector):
        return block.multiply_inverse(state, vector)

    compiled = jax.jit(product, static_argnums=0)
    block = BLOCKS["dense-diagonal"]
    state = block.init(jax.numpy.zeros(1))
    x, g = tree.map(jax.numpy.asarray, data_of("dense-diagonal", rng))
    state = block.update_inverses(block.update_covs(state, x, g, 0.5), 0.1)
    flat, structure = jax.tree_util.tree_flatten(state)
    assert len(flat) == len(tree.leaves(state))
    assert all(isinstance(leaf, jax.Array) for leaf in flat)
    rebuilt = jax.tree_util.tree_unflatten(structure, flat)
    assert type(rebuilt) is type(state)
    vector = jax.numpy.ones((3, 2))
    eager = block.multiply_inverse(state, vector)
    found = compiled(block, rebuilt, vector)
    np.testing.assert_allclose(found, eager, rtol=1e-14)


def test_a_state_may_be_a_constant_of_what_is_compiled(jax, name, rng):
    # Closed over, its arrays have values; what is computed from them has none.
    block = BLOCKS[name]

    def calls(state, x, g):
        yield lambda v: block.multiply_inverse(state, v)
        yield lambda v: block.update_inverses(state, 0.2)
        yield lambda v: block.update_covs(state, x, g, 0.5)
        yield lambda v: block.full_fisher_block(state)
        if name not in INVERSE_ALONE:
            yield lambda v: block.multiply(state, v)

    (x, g), vector = data_of(name, rng), vector_of(name, rng)
    state = block.update_covs(block.init(g), x, g, 0.5)
    in_numpy = block.update_inverses(state, 0.1), x, g
    v, in_jax = tree.map(jax.numpy.asarray, (vector, in_numpy))
    for call, expected in zip(calls(*in_jax), calls(*in_numpy), strict=True):
        assert_close(tree.map(np.asarray, jax.jit(call)(v)), expected(vector))


def test_a_state_may_be_donated(jax, name, rng):
    # Its arrays share no buffer, from the first on.
    block = BLOCKS[name]
    data = data_of(name, rng)
    expected = block.update_covs(block.init(data[1]), *data, 0.5)
    x, g = tree.map(jax.numpy.asarray, data)
    update = jax.jit(lambda s: block.update_covs(s, x, g, 0.5), donate_argnums=0)
    assert_close(tree.map(np.asarray, update(block.init(g))), expected)


def test_statistics_are_constants_of_differentiation(jax, name, rng):
    step = step_of(name)
    x, g = tree.map(jax.numpy.asarray, data_of(name, rng))
    v = tree.map(jax.numpy.asarray, vector_of(name, rng))
    state = BLOCKS[name].init(g)

    def loss(g, v):
        _, product = step(state, x, g, v, 0.5, 0.1)
        return sum(jax.numpy.sum(p) for p in tree.leaves(product))

    of_data, of_vector = jax.grad(loss, argnums=(0, 1))(g, v)
    assert_equal(of_data, np.zeros(g.shape))
    # The product is linear, and its matrix symmetric.
    ones = tree.map(jax.numpy.ones_like, v)
    _, expected = step(state, x, g, ones, 0.5, 0.1)
    assert_close(tree.map(np.asarray, of_vector), tree.map(np.asarray, expected))
