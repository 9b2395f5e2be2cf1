"""EKFAC's eigenvalues are the diagonal of the Fisher in K-FAC's eigenbasis."""

import numpy as np
import pytest
from eigenvalue_corrected_layers import CASES, LAYERS, USES, fisher

import kfac_core as kc
from kfac_core import tree
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh
from kfac_core.reference.linearization import LOSS_SITE


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]


@pytest.fixture
def data(layer, rng):
    return layer.draw(rng)


def corrected(layer, **options):
    return kc.blocks.EigenvalueCorrectedFB(layer.block, **options)


def fitted(block, data, damping=0.3, twice=True, **options):
    """Return the state after data, a basis, and the same data in that basis."""
    like = np.zeros(1)
    state = block.update_covs(block.init(like), *data, ema_decay=0.0, **options)
    state = block.update_inverses(state, damping)
    if twice:
        state = block.update_covs(state, *data, ema_decay=0.0, **options)
    return state


def assert_close(found, expected, bound=1e-12):
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=bound * np.abs(expected).max()
    )


def test_the_block_is_the_nearest_with_its_eigenvectors(layer, data):
    block = corrected(layer)
    state = fitted(block, data)
    truth, found = fisher(layer, data), block.full_fisher_block(state)
    product = block.block
    of_factors = product.full_fisher_block(fitted(product, data, twice=False))
    # The error is orthogonal to every matrix that has the same eigenvectors.
    for direction in (found, of_factors, np.eye(len(truth)), found @ found):
        slope = np.sum((found - truth) * direction)
        assert abs(slope) < 1e-11 * np.linalg.norm(truth) * np.linalg.norm(direction)


def test_it_is_never_further_from_the_fisher_than_kfac(layer, data):
    block, product = corrected(layer), corrected(layer).block
    truth = fisher(layer, data)
    own = block.full_fisher_block(fitted(block, data))
    other = product.full_fisher_block(fitted(product, data, twice=False))
    assert np.linalg.norm(own - truth) <= np.linalg.norm(other - truth) * (1 + 1e-12)
    assert np.linalg.norm(own - truth) < 0.999 * np.linalg.norm(other - truth)
    np.testing.assert_allclose(np.trace(own), np.trace(truth), rtol=1e-12)


def test_before_data_in_a_basis_it_is_kfac_with_exact_damping(layer, data, rng):
    block, product = corrected(layer), corrected(layer).block
    state = fitted(block, data, twice=False)
    other = fitted(product, data, twice=False)
    assert_close(block.full_fisher_block(state), product.full_fisher_block(other))
    vector = tuple(rng.normal(size=shape) for shape in layer.shapes)
    vector = vector if len(vector) > 1 else vector[0]
    found, expected = (
        own.multiply_inverse(at, vector)
        for own, at in ((block, state), (product, other))
    )
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert_close(x, y)


def test_products_are_those_with_the_dense_block(layer, data, rng):
    powers = (-1, -0.5, 0.5, 2)
    block = corrected(layer, matpowers=powers, cholesky=True, cholesky_inverse=True)
    state = fitted(block, data, 0.3)
    dense = block.full_fisher_block(state)
    values, vectors = np.linalg.eigh(dense + 0.3 * np.eye(len(dense)))
    vector = tuple(rng.normal(size=shape) for shape in layer.shapes)
    flat = np.concatenate([x.reshape(-1) for x in vector])
    given = vector if len(vector) > 1 else vector[0]

    def check(product, exp):
        found = np.concatenate([x.reshape(-1) for x in tree.leaves(product)])
        assert_close(found, (vectors * values**exp) @ (vectors.T @ flat), 1e-11)

    for exp in (1, *powers):
        check(block.multiply_matpower(state, given, exp), exp)
    check(block.multiply_cholesky(state, given), 0.5)
    check(block.multiply_cholesky_inverse(state, given, transpose=True), -0.5)


def test_a_new_basis_takes_the_matrix_along(layer, data, rng):
    """It keeps the diagonal of the old matrix in the new basis."""
    block = corrected(layer)
    state = fitted(block, data)
    before = block.full_fisher_block(state)
    moved = block.update_inverses(
        block.update_covs(state, *layer.draw(rng), ema_decay=0.5), 0.3
    )
    kept = block.update_inverses(state, 0.3)
    # The same statistics give the same basis, and nothing changes.
    assert_close(block.full_fisher_block(kept), before, 1e-11)
    # The trace of the old matrix and of the new batch, half as heavy each.
    again = block.update_covs(moved, *data, ema_decay=0.0)
    assert_close(
        np.trace(block.full_fisher_block(again)), np.trace(fisher(layer, data)), 1e-11
    )
    assert float(moved.moments.weight) == 1.5


@pytest.mark.parametrize("name", ["dense", "convolution", "embedding", "shared"])
def test_a_case_of_weight_two_counts_as_two(name, rng):
    layer = LAYERS[name]
    block, data = corrected(layer), layer.draw(rng)
    axis = 1 if name == "shared" else 0
    weights = np.ones(CASES)
    weights[0], weights[1] = 2.0, 0.0
    kept = [0, 0, *range(2, CASES)]
    repeated = tuple(np.take(x, kept, axis=axis) for x in data)
    base = block.update_inverses(
        block.update_covs(block.init(np.zeros(1)), *data, ema_decay=0.0), 0.3
    )
    found = block.update_covs(base, *data, ema_decay=0.0, weights=weights)
    expected = block.update_covs(base, *repeated, ema_decay=0.0)
    assert_close(found.moments.total, expected.moments.total)
    # What does not count may hold anything.
    spoiled = np.array(data[1])
    spoiled[(slice(None),) * axis + (1,)] = np.nan
    again = block.update_covs(base, data[0], spoiled, ema_decay=0.0, weights=weights)
    assert_close(again.moments.total, expected.moments.total)


def test_sources_are_summed_and_towers_are_one_batch(rng):
    layer = LAYERS["dense"]
    block, (x, g) = corrected(layer), layer.draw(rng)
    base = fitted(block, (x, g), twice=False)
    whole = block.update_covs(base, x, g, ema_decay=0.0)
    towers = block.update_covs(base, (x[:3], x[3:]), (g[:3], g[3:]), ema_decay=0.0)
    assert_close(towers.moments.total, whole.moments.total)
    sources = block.update_covs(base, x, ((g,), (g,)), ema_decay=0.0)
    assert_close(sources.moments.total, 2 * whole.moments.total)


@pytest.mark.parametrize("name", ["dense", "shared", "convolution", "shared embedding"])
def test_every_library_computes_the_same(library, name, rng):
    layer = LAYERS[name]
    block, data = corrected(layer), layer.draw(rng)
    start = block.init(np.zeros(1))
    vector = tuple(rng.normal(size=shape) for shape in layer.shapes)
    vector = vector if len(vector) > 1 else vector[0]

    def run(state, data, vector):
        state = block.update_covs(state, *data, ema_decay=0.0)
        state = block.update_inverses(state, 0.3)
        state = block.update_covs(state, *data, ema_decay=0.0)
        return block.multiply_inverse(state, vector)

    arrays = tree.map(library.asarray, (data, vector))
    found = library.compiled(run)(library.moved(start), *arrays)
    expected = run(start, data, vector)
    for x, y in zip(tree.leaves(found), tree.leaves(expected), strict=True):
        assert_close(library.to_numpy(x), y, 1e-11)


def test_what_has_no_case_gradients_is_refused_by_name():
    of_means = kc.blocks.KFACReduceFB(kc.blocks.FullyConnectedMultiIndepFB(2, 1))
    with pytest.raises(kc.errors.UnsupportedError, match="KFACReduceFB"):
        kc.blocks.EigenvalueCorrectedFB(of_means)
    with pytest.raises(kc.errors.ArgumentError, match="expected a Kronecker product"):
        kc.blocks.EigenvalueCorrectedFB(kc.blocks.NaiveFullFB(3))


def test_squares_that_overflow_are_refused_and_change_nothing(rng):
    layer = LAYERS["dense"]
    block, (x, g) = corrected(layer), layer.draw(rng)
    x, g = x.astype(np.float32), g.astype(np.float32)
    state = block.update_covs(block.init(x), x, g, ema_decay=0.0)
    state = block.update_inverses(state, 0.3)
    with pytest.raises(kc.errors.NotFiniteError, match="squares of case gradients"):
        block.update_covs(state, x * 1e15, g * 1e15, ema_decay=0.0)


def test_a_network_is_trained_by_its_name(rng):
    network = Sequential((Dense(3, 8), Tanh(), Dense(8, 2)))
    model = SequentialModel(network)
    x = rng.normal(size=(64, 3))
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.int32)
    params = model.init(rng, like=x)
    layers = kc.LayerCollection.of(params)
    for names, site in zip(model.names, model.sites, strict=True):
        layers = layers.register_fully_connected(names, site, approx="ekfac")
    layers = layers.register_categorical_predictive_distribution(LOSS_SITE)
    kinds = {type(layer.block) for layer in layers.layers}
    assert kinds == {kc.blocks.EigenvalueCorrectedFB}
    optimizer = kc.KfacOptimizer(
        model, layers, momentum_type="qmodel", estimation_mode="exact", damping=0.1
    )
    state, losses = optimizer.init(params), []
    for _ in range(30):
        state, params, stats = optimizer.step(state, params, Batch(x, labels))
        losses.append(float(stats.loss))
    assert losses[-1] < 0.3 * losses[0]


def test_uses_of_weight_two_are_a_case_of_weight_four(rng):
    """A use that counts twice is added twice to its case's gradient."""
    layer = LAYERS["shared"]
    block, data = corrected(layer), layer.draw(rng)
    base = fitted(block, data, twice=False)
    found = block.update_covs(
        base, *data, ema_decay=0.0, weights=np.full((USES, CASES), 2.0)
    )
    expected = block.update_covs(
        base, *data, ema_decay=0.0, weights=np.full(CASES, 4.0)
    )
    assert_close(found.moments.total, expected.moments.total)
