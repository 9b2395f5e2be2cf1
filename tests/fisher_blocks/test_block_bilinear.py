"""A bilinear layer: both inputs as one, or a factor for each."""

from itertools import product

import numpy as np
import pytest
from block_case import NumPy, dense_power, flat, moment
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc
from kfac_core.fisher_blocks.kronecker.three_dampings import split_in_three
from kfac_core.reference import (
    Bilinear,
    Dense,
    Sequential,
    Tanh,
    block_for,
    exact_fisher,
    exact_sources,
)

LOSS = kc.losses.CategoricalLogitsNegativeLogProbLoss()
DAMPING = 0.3
BOTH = pytest.mark.parametrize("factored", [False, True])
SHAPES = ((2, 3, 2), (2,))


def assert_close(found, expected, rtol=1e-12):
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def distance(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


def drawn(rng, n=6):
    return kc.Pair(rng.normal(size=(n, 2)), rng.normal(size=(n, 3))), rng.normal(
        size=(n, 2)
    )


def updated(block, pair, g, like=None):
    state = block.init(like=np.zeros(1) if like is None else like)
    return block.update_covs(state, pair, g, ema_decay=0.0)


def split(means, damping, kind):
    if kind == "off":
        return [damping ** (1 / 3)] * 3
    if kind == "constant":
        return [damping] * 3
    root = (damping / np.prod(means)) ** (1 / 3)
    return [mean * root for mean in means]


def dense_block(pair, g, factored, kind=None):
    """Return the block, by other means; damped, if there is a kind of damping."""
    rows = np.einsum("ni,nj->nij", *pair).reshape(len(g), -1)
    damping = 0.0 if kind is None else DAMPING
    if not factored:
        a = moment(np.concatenate([rows, np.ones((len(g), 1))], axis=1))
        s = moment(g)
        pi = np.sqrt(np.trace(a) / len(a) / (np.trace(s) / len(s)))
        root = np.sqrt(damping)
        of_a, of_s = {
            None: (0, 0),
            "pi": (pi * root, root / pi),
            "off": (root, root),
            "constant": (damping, damping),
        }[kind]
        return np.kron(a + of_a * np.eye(len(a)), s + of_s * np.eye(len(s)))
    factors = [moment(x) for x in (*pair, g)]
    means = [np.trace(factor) / len(factor) for factor in factors]
    parts = [0.0] * 3 if kind is None else split(means, damping, kind)
    dense = np.eye(1)
    for factor, part in zip(factors, parts, strict=True):
        dense = np.kron(dense, factor + part * np.eye(len(factor)))
    whole = np.zeros((14, 14))
    whole[:12, :12] = dense
    whole[12:, 12:] = moment(g) + damping * np.eye(2)
    return whole


@BOTH
@pytest.mark.parametrize("kind", ["pi", "off", "constant"])
def test_products_are_those_with_the_damped_block(factored, kind, rng):
    pair, g = drawn(rng)
    block = kc.blocks.BilinearKFACFB(
        2,
        3,
        2,
        has_bias=True,
        factored_inputs=factored,
        damping_type=kind,
        matpowers=(-1, 0.5),
        cholesky=True,
        cholesky_inverse=True,
    )
    state = block.update_inverses(updated(block, pair, g), DAMPING)
    assert_close(block.full_fisher_block(state), dense_block(pair, g, factored))
    vector = tuple(rng.normal(size=shape) for shape in SHAPES)
    dense = dense_block(pair, g, factored, kind)
    for exp in (1, -1, 0.5):
        found = flat(NumPy, block.multiply_matpower(state, vector, exp))
        assert_close(found, dense_power(dense, exp) @ flat(NumPy, vector), 1e-11)
    half = block.multiply_cholesky(state, vector, transpose=True)
    found = flat(NumPy, block.multiply_cholesky(state, half))
    assert_close(found, dense @ flat(NumPy, vector), 1e-11)
    back = block.multiply_cholesky_inverse(
        state, block.multiply_cholesky(state, vector)
    )
    assert_close(flat(NumPy, back), flat(NumPy, vector), 1e-11)
    assert float(block.inverse_error(state, DAMPING)) < 1e-12
    # Damped anew, ten times as much, the stored inverse is far off.
    assert float(block.inverse_error(state, 10 * DAMPING)) > 0.1


def network_and_truth(rng, batch, layers):
    network = Sequential(layers)
    params = network.vector_to_params(rng.normal(size=network.num_params))
    x = rng.normal(size=(batch, 5))
    data = exact_sources(network, params, x, LOSS)[0]
    truth = exact_fisher(network, params, x, LOSS, layer=0)
    return data, truth


@BOTH
def test_one_case_is_exact_and_several_are_not(factored, rng):
    layer = Bilinear(2, 3, 2)
    block = block_for(layer, factored_inputs=factored)
    for batch in (1, 6):
        data, truth = network_and_truth(rng, batch, (layer, Tanh(), Dense(2, 3)))
        pair = layer.pair(data.inputs)
        found = block.full_fisher_block(updated(block, pair, data.outputs_grads))
        if factored:  # between weights and bias a correlation is dropped
            found, truth = found[:12, :12], truth[:12, :12]
        if batch == 1:
            assert_close(found, truth)
        else:
            assert distance(found, truth) > 0.05


@pytest.mark.parametrize("independent", [True, False])
def test_independent_inputs_need_no_product(independent, rng):
    # Every first input meets every second one, and all gradients; or each one of each.
    pair, g = drawn(rng, 3)
    meetings = [*product(range(3), repeat=3)]
    if not independent:
        meetings = [(k, k, k) for k in range(3)]
    first, second, third = zip(*meetings, strict=True)
    pair = kc.Pair(pair.first[[*first]], pair.second[[*second]])
    g = g[[*third]]
    whole, parts = (
        kc.blocks.BilinearKFACFB(2, 3, 2, factored_inputs=factored)
        for factored in (False, True)
    )
    rows = np.einsum("ni,nj,nk->nijk", *pair, g).reshape(len(g), -1)
    truth = rows.T @ rows / len(rows)
    for block in (whole, parts):
        apart = distance(block.full_fisher_block(updated(block, pair, g)), truth)
        assert (apart < 1e-12) if independent else (apart > 0.05)


def test_as_one_input_it_is_the_fully_connected_layer_of_the_products(rng):
    # Of a last layer with a Gaussian loss K-FAC is exact: so is this.
    layer = Bilinear(2, 3, 2)
    loss = kc.losses.NormalMeanNegativeLogProbLoss()
    network = Sequential((layer,))
    params = network.vector_to_params(rng.normal(size=network.num_params))
    x = rng.normal(size=(7, 5))
    data = exact_sources(network, params, x, loss)[0]
    truth = exact_fisher(network, params, x, loss, layer=0)
    pair = layer.pair(data.inputs)
    whole = block_for(layer)
    assert_close(
        whole.full_fisher_block(updated(whole, pair, data.outputs_grads)), truth
    )
    parts = block_for(layer, factored_inputs=True)
    found = parts.full_fisher_block(updated(parts, pair, data.outputs_grads))
    assert distance(found, truth) > 0.05


@BOTH
def test_it_is_pytorchs_layer(factored, torch, rng):
    module = torch.nn.Bilinear(2, 3, 4).double()
    block = kc.blocks.BilinearKFACFB(
        2, 3, 4, has_bias=True, factored_inputs=factored, layout="out_in"
    )
    pair = kc.Pair(*(torch.from_numpy(rng.normal(size=(1, n))) for n in (2, 3)))
    g = torch.from_numpy(rng.normal(size=(1, 4)))
    module(*pair).backward(g)
    gradient = module.weight.grad, module.bias.grad
    state = block.update_inverses(updated(block, pair, g, like=g), DAMPING)
    product = block.multiply_inverse(state, gradient)
    assert [p.shape for p in product] == [module.weight.shape, module.bias.shape]
    # One case: the block is the square of the gradient, of weights and bias apart.
    vector = torch.cat([x.ravel() for x in gradient]).numpy()
    found = block.full_fisher_block(state).numpy()
    square = np.outer(vector, vector)
    if factored:
        square[24:, :24] = square[:24, 24:] = 0
    assert_close(found, square)


@BOTH
def test_every_library_agrees(library, factored, rng):
    pair, g = drawn(rng)
    block = kc.blocks.BilinearKFACFB(2, 3, 2, True, factored)
    vector = tuple(rng.normal(size=shape) for shape in SHAPES)

    def products(asarray):
        moved = kc.Pair(*map(asarray, pair))
        state = updated(block, moved, asarray(g), like=asarray(np.zeros(1)))
        state = block.update_inverses(state, DAMPING)
        return block.multiply_inverse(state, tuple(map(asarray, vector)))

    for x, y in zip(products(library.asarray), products(np.asarray), strict=True):
        assert_close(library.to_numpy(x), y, 1e-11)


@BOTH
def test_towers_are_shards_and_sources_are_summed(factored, rng):
    pair, g = drawn(rng)
    block = kc.blocks.BilinearKFACFB(2, 3, 2, True, factored)
    whole = block.full_fisher_block(updated(block, pair, g))
    towers = tuple(
        kc.Pair(pair.first[s], pair.second[s]) for s in (slice(2), slice(2, 6))
    )
    assert_close(block.full_fisher_block(updated(block, towers, (g[:2], g[2:]))), whole)
    both = updated(block, pair, ((g,), (2 * g,)))
    assert_close(block.full_fisher_block(both), 5 * whole)


@BOTH
def test_it_traces_and_bad_data_leave_all_as_it_was(factored, jax, rng):
    pair, g = drawn(rng)
    block = kc.blocks.BilinearKFACFB(2, 3, 2, True, factored, name="layer7")
    pair, g = jax.tree_util.tree_map(jax.numpy.asarray, (pair, g))

    @jax.jit
    def step(state, pair, g, damping):
        state = block.update_covs(state, pair, g, 0.5)
        return block.update_inverses(state, damping)

    state = step(block.init(g), pair, g, 0.1)
    eager = block.update_covs(block.init(g), pair, g, 0.5)
    eager = block.update_inverses(eager, 0.1)
    leaves = jax.tree_util.tree_leaves
    for x, y in zip(leaves(state), leaves(eager), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)
    update = jax.jit(block.update_covs)
    for bad in (
        (kc.Pair(pair.first.at[0, 0].set(np.nan), pair.second), g),
        (pair, g.at[0, 0].set(np.inf)),
    ):
        after = update(state, *bad, 0.5)
        assert not bool(after.ok)
        for new, old in zip(leaves(after), leaves(state), strict=True):
            if new.dtype != bool:
                np.testing.assert_array_equal(new, old)
        assert bool(update(after, pair, g, 0.5).ok)
        with pytest.raises(kc.errors.NotFiniteError, match="layer7"):
            block.update_covs(state, *bad, 0.5)


POSITIVE = st.floats(1e-6, 1e6)


@given(means=st.tuples(*[POSITIVE] * 3), damping=POSITIVE)
def test_the_split_in_three_has_the_least_trace_of_its_error(means, damping):
    arrays = [np.asarray(mean) for mean in means]
    backend = kc.backend_of(*arrays)
    found = split_in_three(backend, "pi", np.asarray(damping), arrays)
    np.testing.assert_allclose(np.prod(found), damping, rtol=1e-12)
    np.testing.assert_allclose(found, split(means, damping, "pi"), rtol=1e-11)

    def excess(parts):
        return np.prod([m + p for m, p in zip(means, parts, strict=True)])

    for moved in ((1.1, 1 / 1.1, 1), (1, 1.2, 1 / 1.2), (0.9, 1, 1 / 0.9)):
        other = [part * by for part, by in zip(found, moved, strict=True)]
        assert excess(other) >= excess(found) * (1 - 1e-12)


@pytest.mark.parametrize("means", [(0.0, 1.0, 1.0), (1e-40, 1e38, 1.0), (1e-45, 1, 1)])
def test_dampings_stay_in_the_range_of_float32(means):
    arrays = [np.asarray(mean, np.float32) for mean in means]
    backend = kc.backend_of(*arrays)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = split_in_three(backend, "pi", np.asarray(1e-3, np.float32), arrays)
    assert all(part.dtype == np.float32 and 0 < part < np.inf for part in found)


def test_cases_of_weight_zero_change_nothing(rng):
    pair, g = drawn(rng)
    block = kc.blocks.BilinearKFACFB(2, 3, 2, True)
    few = kc.Pair(pair.first[:4], pair.second[:4])
    expected = block.full_fisher_block(updated(block, few, g[:4])) * 4 / 6
    weights = np.asarray([1.0, 1, 1, 1, 0, 0])
    state = block.update_covs(block.init(g), pair, g, 0.0, weights=weights)
    assert_close(block.full_fisher_block(state), expected)
    state = block.update_covs(block.init(g), few, g[:4], 0.0, num_cases=6)
    assert_close(block.full_fisher_block(state), expected)


def test_what_does_not_fit_is_refused_by_name(rng):
    pair, g = drawn(rng)
    x1, x2 = pair
    block = kc.blocks.BilinearKFACFB(2, 3, 2, True, True, name="layer7")
    for bad in (
        ((x1, x2), g),
        (kc.Pair(x2, x1), g),
        (kc.Pair(x1[:4], x2), g),
        (pair, g[:4]),
        (pair, g[:, :1]),
        ((pair, pair), g),
        (kc.Pair(x1[:0], x2[:0]), g[:0]),
        (x1, g),
    ):
        with pytest.raises(kc.errors.ShapeError, match="layer7"):
            updated(block, *bad)
    state = block.update_inverses(updated(block, pair, g), DAMPING)
    weights, bias = (np.ones(shape) for shape in SHAPES)
    for wrong in (weights, (weights[..., :1], bias), (weights, bias, bias)):
        with pytest.raises(kc.errors.ShapeError, match=r"layer7.*vector"):
            block.multiply_inverse(state, wrong)
    for options in ({"layout": "IO"}, {"damping_type": "exact"}, {"first_size": 0}):
        given = {"first_size": 2, "factored_inputs": True} | options
        with pytest.raises(kc.errors.ArgumentError, match="layer7"):
            kc.blocks.BilinearKFACFB(
                second_size=3, output_size=2, name="layer7", **given
            )
