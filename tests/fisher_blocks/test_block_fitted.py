"""Products that are fitted to case gradients are what they claim to be, densely."""

import numpy as np
import pytest
from eigenvalue_corrected_layers import CASES, LAYERS, fisher

import kfac_core as kc
from kfac_core import tree
from kfac_core.errors import UnsupportedError
from kfac_core.fisher_factors import Diagonal
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh
from kfac_core.reference.linearization import LOSS_SITE

# Blocks along the diagonal of a side are not fitted.
FITTED = {name: layer for name, layer in LAYERS.items() if name != "diagonal sides"}
FITTED["diagonal side"] = LAYERS["diagonal sides"]
SOME = ("shared", "convolution", "at many positions", "shared embedding")


def block_of(name):
    if name == "diagonal side":
        return kc.blocks.FullyConnectedKFACBasicFB(4, 3, diagonal_approx_for_input=True)
    return FITTED[name].block


@pytest.fixture(params=FITTED)
def name(request):
    return request.param


@pytest.fixture
def layer(name):
    return FITTED[name]


@pytest.fixture
def data(layer, rng):
    return layer.draw(rng)


def dense(block, data, batches=1, ema_decay=0.0):
    state = block.init(np.zeros(1))
    for _ in range(batches):
        state = block.update_covs(state, *data, ema_decay=ema_decay)
    return block.full_fisher_block(state)


def optimal(name, data, rounds=5):
    return dense(kc.blocks.KroneckerOptimalFB(block_of(name), rounds=rounds), data)


def sides(name):
    """Return the two factors of a block."""
    return kc.blocks.KroneckerOptimalFB(block_of(name))._product._sides


def axes(name, matrix):
    """Return a dense block as ``[rows, columns, rows, columns]``."""
    p, q = (factor.dimension for factor in sides(name))
    layout = block_of(name).weight_layout
    if layout is not None and not layout.is_standard:
        order = np.arange(p * q).reshape(q, p).T.reshape(-1)
        matrix = matrix[np.ix_(order, order)]
    return matrix.reshape(p, q, p, q)


def rearranged(name, matrix):
    """Return a row for each entry that ``A`` has, a column for each of ``G``."""
    a, g = (
        np.eye(factor.dimension, dtype=bool)
        if isinstance(factor.form, Diagonal)
        else np.ones((factor.dimension,) * 2, dtype=bool)
        for factor in sides(name)
    )
    return axes(name, matrix).transpose(0, 2, 1, 3)[a][:, g]


def test_it_is_the_nearest_of_all_products(name, layer, data):
    """The distance is that of the first singular pair of the rearranged Fisher."""
    truth = fisher(layer, data)
    known = rearranged(name, truth)
    # What neither side has an entry for is left out, as are the other pairs.
    left_out = np.sum(truth**2) - np.linalg.norm(known, 2) ** 2
    found = np.linalg.norm(optimal(name, data, rounds=60) - truth) ** 2
    np.testing.assert_allclose(found, left_out, rtol=1e-9)


def test_one_round_is_nearer_than_kfac_and_more_are_nearer_still(name, layer, data):
    truth, block = fisher(layer, data), block_of(name)
    rounds = [np.linalg.norm(optimal(name, data, k) - truth) for k in (1, 2, 8)]
    kfac = np.linalg.norm(dense(block, data) - truth)
    tnt = np.linalg.norm(dense(kc.blocks.TensorNormalTrainingFB(block), data) - truth)
    assert rounds[0] < 0.999 * kfac
    assert rounds[1] <= rounds[0] * (1 + 1e-12)
    assert rounds[2] <= rounds[1] * (1 + 1e-12)
    assert rounds[2] <= tnt * (1 + 1e-12)


def test_both_products_are_positive_semi_definite(name, layer, data):
    for found in (
        optimal(name, data),
        dense(kc.blocks.TensorNormalTrainingFB(block_of(name)), data),
    ):
        values = np.linalg.eigvalsh(found)
        assert values[0] > -1e-12 * values[-1]


def test_tnt_has_the_trace_and_the_partial_traces_of_the_fisher(name, layer, data):
    truth = fisher(layer, data)
    found = dense(kc.blocks.TensorNormalTrainingFB(block_of(name)), data)
    np.testing.assert_allclose(np.trace(found), np.trace(truth), rtol=1e-12)
    for factor, traced in zip(sides(name), ("ijkj->ik", "ijil->jl"), strict=True):
        one, other = (np.einsum(traced, axes(name, each)) for each in (found, truth))
        if isinstance(factor.form, Diagonal):
            one, other = np.diag(one), np.diag(other)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.trace(truth))


def everything(rng):
    """Return all pairs of some inputs and gradients: a Fisher that is a product."""
    x, g = rng.normal(size=(4, 3)), rng.normal(size=(5, 2))
    return np.repeat(x, 5, axis=0), np.tile(g, (4, 1))


@pytest.mark.parametrize("kind", ["KroneckerOptimalFB", "TensorNormalTrainingFB"])
def test_a_fisher_that_is_a_product_is_found(kind, rng):
    inner = kc.blocks.FullyConnectedKFACBasicFB(3, 2)
    x, g = everything(rng)
    found = dense(getattr(kc.blocks, kind)(inner), (x, g))
    np.testing.assert_allclose(found, np.kron(x.T @ x, g.T @ g) / 400, rtol=1e-11)
    # Without one of the pairs it is no product.
    x, g = x[1:], g[1:]
    gradients = (x[:, :, None] * g[:, None, :]).reshape(19, -1)
    found = dense(getattr(kc.blocks, kind)(inner), (x, g))
    assert np.abs(found - gradients.T @ gradients / 19).max() > 1e-3 * found.max()


def test_ekfac_may_be_nearer_since_it_is_no_product():
    """Cases of one input and one gradient each: the Fisher is diagonal."""
    x = np.asarray([[1.0, 0.0], [0.0, 1.0]])
    truth = np.diag([0.5, 0.0, 0.0, 0.5])
    inner = kc.blocks.FullyConnectedKFACBasicFB(2, 2)
    corrected = kc.blocks.EigenvalueCorrectedFB(inner)
    state = corrected.update_covs(corrected.init(like=x), x, x, ema_decay=0.0)
    state = corrected.update_covs(
        corrected.update_inverses(state, 0.1), x, x, ema_decay=0.0
    )
    np.testing.assert_allclose(corrected.full_fisher_block(state), truth, atol=1e-15)
    found = dense(kc.blocks.KroneckerOptimalFB(inner), (x, x))
    assert np.linalg.norm(found - truth) > 0.5 * np.linalg.norm(truth)


def test_later_batches_join_the_product_that_is_there(rng):
    """The next product is the nearest to the mean of the last one and the batch."""
    layer = LAYERS["dense"]
    block = kc.blocks.KroneckerOptimalFB(layer.block, rounds=80)
    first, second = layer.draw(rng), layer.draw(rng)
    state = block.update_covs(block.init(np.zeros(1)), *first, ema_decay=0.5)
    before = block.full_fisher_block(state)
    state = block.update_covs(state, *second, ema_decay=0.5)
    mean = (0.5 * before + fisher(layer, second)) / 1.5
    left_out = np.linalg.svd(rearranged("dense", mean), compute_uv=False)[1:]
    found = np.linalg.norm(block.full_fisher_block(state) - mean)
    np.testing.assert_allclose(found, np.linalg.norm(left_out), rtol=1e-9)
    # A batch of weight zero changes nothing but rounding.
    same = block.update_covs(state, *first, ema_decay=1.0, ema_weight=0.0)
    np.testing.assert_allclose(
        block.full_fisher_block(same), block.full_fisher_block(state), rtol=1e-10
    )


def test_tnt_of_many_batches_is_that_of_all_cases(rng):
    layer = LAYERS["dense"]
    block = kc.blocks.TensorNormalTrainingFB(layer.block)
    data = [layer.draw(rng) for _ in range(3)]
    state = block.init(np.zeros(1))
    for batch in data:
        state = block.update_covs(state, *batch, ema_decay=1.0)
    whole = tuple(np.concatenate(parts) for parts in zip(*data, strict=True))
    np.testing.assert_allclose(
        block.full_fisher_block(state), dense(block, whole), rtol=1e-12
    )


@pytest.mark.parametrize("name", ["dense", "convolution", "embedding", "shared"])
@pytest.mark.parametrize("kind", ["KroneckerOptimalFB", "TensorNormalTrainingFB"])
def test_a_case_of_weight_two_counts_as_two(kind, name, rng):
    layer = LAYERS[name]
    block, data = getattr(kc.blocks, kind)(layer.block), layer.draw(rng)
    axis = 1 if name == "shared" else 0
    weights = np.ones(CASES)
    weights[0], weights[1] = 2.0, 0.0
    kept = [0, 0, *range(2, CASES)]
    repeated = tuple(np.take(x, kept, axis=axis) for x in data)
    start = block.init(np.zeros(1))
    found = block.update_covs(start, *data, ema_decay=0.0, weights=weights)
    expected = block.update_covs(start, *repeated, ema_decay=0.0)
    np.testing.assert_allclose(
        block.full_fisher_block(found),
        block.full_fisher_block(expected),
        rtol=0,
        atol=1e-12 * np.abs(block.full_fisher_block(expected)).max(),
    )


@pytest.mark.parametrize("name", SOME)
def test_every_library_computes_the_same(library, name, rng):
    layer = LAYERS[name]
    blocks = [
        make(layer.block)
        for make in (kc.blocks.KroneckerOptimalFB, kc.blocks.TensorNormalTrainingFB)
    ]
    data = layer.draw(rng)
    states = [block.init(np.zeros(1)) for block in blocks]

    def run(states, data):
        return [
            block.full_fisher_block(block.update_covs(state, *data, ema_decay=0.5))
            for block, state in zip(blocks, states, strict=True)
        ]

    arrays = tree.map(library.asarray, data)
    found = library.compiled(run)([library.moved(own) for own in states], arrays)
    for x, y in zip(found, run(states, data), strict=True):
        np.testing.assert_allclose(
            library.to_numpy(x), y, rtol=0, atol=1e-11 * np.abs(y).max()
        )


def test_sides_of_other_forms_are_refused_by_name():
    for inner in (
        kc.blocks.FullyConnectedKFACBasicFB(4, 4, output_blocks=2),
        kc.blocks.FullyConnectedKFACBasicFB(4, 4, input_max_rows=3),
    ):
        for make in (kc.blocks.KroneckerOptimalFB, kc.blocks.TensorNormalTrainingFB):
            with pytest.raises(UnsupportedError, match="factor of the form"):
                make(inner)


@pytest.mark.parametrize("approx", ["kronecker_optimal", "tnt"])
def test_a_registration_takes_options_of_both(approx):
    layers = kc.LayerCollection.of({"w": (3, 2)}).register_fully_connected(
        "w", "here", approx=approx, damping_type="exact", matpowers=(-0.5,)
    )
    block = layers.layers[0].block
    assert block.block.damping_type == "exact"
    assert block.matpowers == (-0.5,)
    more = kc.LayerCollection.of({"w": (3, 2)})
    given = {"approx": "kronecker_optimal", "rounds": 2}
    more = more.register_fully_connected("w", "here", **given)
    assert more.layers[0].block.rounds == 2


@pytest.mark.parametrize(
    ("approx", "mode"),
    [("kronecker_optimal", "exact"), ("tnt", "exact"), ("shampoo", "empirical")],
)
def test_a_network_is_trained_by_their_names(approx, mode, rng):
    model = SequentialModel(Sequential((Dense(3, 8), Tanh(), Dense(8, 2))))
    x = rng.normal(size=(64, 3))
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.int32)
    params = model.init(rng, like=x)
    layers = kc.LayerCollection.of(params)
    for names, site in zip(model.names, model.sites, strict=True):
        layers = layers.register_fully_connected(names, site, approx=approx)
    layers = layers.register_categorical_predictive_distribution(LOSS_SITE)
    optimizer = kc.KfacOptimizer(
        model, layers, momentum_type="qmodel", estimation_mode=mode, damping=0.1
    )
    state, losses = optimizer.init(params), []
    for _ in range(30):
        state, params, stats = optimizer.step(state, params, Batch(x, labels))
        losses.append(float(stats.loss))
    assert losses[-1] < 0.3 * losses[0]
