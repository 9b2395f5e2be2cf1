"""K-FAC-expand and K-FAC-reduce: where each is exact, and where it is not.

Theorems T7 to T12 of Eschenhagen et al. (2023) for a linear network that acts at each
position. Its gradients at a layer are ``M e_c``, times what a position counts in the
loss; the truth is the dense Fisher of the gradients of cases.
"""

import re
from dataclasses import dataclass

import numpy as np
import pytest
from block_case import NumPy
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc
from kfac_core.typing import RowWeights

OUT, HIDDEN = 2, 3
NUMPY = NumPy()
SIZES = st.sampled_from([1, 2, 4])
SEEDS = st.integers(0, 2**32 - 1)


def with_one(x):
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)


def patches(x):
    """All 2x2 patches of images of 3x3, ``[cases, 4, 4 * channels]``."""
    corners = [
        x[:, i : i + 2, j : j + 2].reshape(len(x), -1) for i, j in np.ndindex(2, 2)
    ]
    return np.stack(corners, axis=1)


@dataclass(frozen=True)
class Layer:
    """A layer: its own block, its inputs, and these as rows of positions."""

    block: kc.blocks.FisherBlock
    draw: object
    rows: object
    outputs: tuple[int, ...] = ()  # axes of positions, where there are several

    def gradients(self, g):
        cases, positions, n = g.shape
        return g.reshape(cases, *(self.outputs or (positions,)), n)


LAYERS = {
    "linear": Layer(
        kc.blocks.FullyConnectedMultiIndepFB(3, HIDDEN, True, batch_first=True),
        lambda rng, n, t: rng.normal(size=(n, t, 3)),
        with_one,
    ),
    "convolution": Layer(
        kc.blocks.ConvKFCBasicFB(
            kc.ConvolutionGeometry((2, 2, 2, HIDDEN), padding="VALID"), has_bias=True
        ),
        lambda rng, n, t: rng.normal(size=(n, 3, 3, 2)),
        lambda x: with_one(patches(x)),
        (2, 2),
    ),
    "shared convolution": Layer(
        kc.blocks.ConvKFCBasicMultiIndepFB(
            kc.ConvolutionGeometry((2, 1, HIDDEN), padding="VALID"),
            batch_first=True,
        ),
        lambda rng, n, t: rng.normal(size=(n, 2, 3, 1)),
        lambda x: np.stack([x[:, :, :2, 0], x[:, :, 1:, 0]], 2).reshape(len(x), 4, 2),
        (2, 2),
    ),
    "embedding": Layer(
        kc.blocks.EmbeddingKFACMultiIndepFB(5, HIDDEN, batch_first=True),
        lambda rng, n, t: rng.integers(0, 5, (n, t)),
        lambda ids: np.eye(5)[ids],
    ),
}


def dense(a, sources):
    """The Fisher of all sources, from rows and gradients ``[cases, positions, n]``."""
    total = 0.0
    for g in sources:
        own = np.einsum("ntp,ntq->npq", a, g).reshape(len(a), -1)
        total = total + own.T @ own / len(a)
    return total


def at_each_position(a, downstream):
    """Gradients of a loss at each position: one source for a position and an output."""
    cases, positions, _ = a.shape
    for place in range(positions):
        for column in downstream.T:
            g = np.zeros((cases, positions, len(column)))
            g[:, place] = column
            yield g


def pooled(a, downstream, weights):
    """Gradients of a loss of a weighted sum of positions."""
    return [weights[:, :, None] * column for column in downstream.T]


def found(library, block, layer, x, sources, **options):
    """The dense block after one batch."""
    arrays = (
        library.asarray(x),
        tuple((library.asarray(layer.gradients(g)),) for g in sources),
    )
    options = {name: library.asarray(value) for name, value in options.items()}
    state = library.moved(block.init(np.zeros(1)))
    update = library.compiled(block.update_covs)
    state = update(state, *arrays, ema_decay=0.0, **options)
    return library.to_numpy(block.full_fisher_block(state))


def drawn(name, rng, cases=5, positions=4):
    layer = LAYERS[name]
    x = layer.draw(rng, cases, positions)
    a, downstream = layer.rows(x), rng.normal(size=(HIDDEN, OUT))
    return layer, x, a, downstream, np.full(a.shape[:2], 1 / a.shape[1])


def assert_close(actual, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * scale)


def assert_differs(actual, expected):
    assert np.abs(actual - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("name", LAYERS)
def test_expand_is_exact_for_a_loss_at_each_position(library, name, rng):
    layer, x, a, downstream, _ = drawn(name, rng)
    sources = [*at_each_position(a, downstream)]
    truth = dense(a, sources)
    assert_close(found(library, layer.block, layer, x, sources), truth)


@pytest.mark.parametrize("name", LAYERS)
def test_reduce_is_not(name, rng):
    layer, x, a, downstream, _ = drawn(name, rng)
    sources = [*at_each_position(a, downstream)]
    block = kc.blocks.KFACReduceFB(layer.block)
    assert_differs(found(NUMPY, block, layer, x, sources), dense(a, sources))


@pytest.mark.parametrize("name", LAYERS)
def test_reduce_is_exact_for_a_loss_of_the_mean(library, name, rng):
    layer, x, a, downstream, equal = drawn(name, rng)
    sources = pooled(a, downstream, equal)
    block = kc.blocks.KFACReduceFB(layer.block)
    assert_close(found(library, block, layer, x, sources), dense(a, sources))


@pytest.mark.parametrize("name", LAYERS)
def test_expand_is_not(name, rng):
    layer, x, a, downstream, equal = drawn(name, rng)
    sources = pooled(a, downstream, equal)
    assert_differs(found(NUMPY, layer.block, layer, x, sources), dense(a, sources))


def attention(rng, a):
    weights = rng.random(a.shape[:2])
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", LAYERS)
def test_reduce_is_exact_for_a_weighted_mean_with_its_weights(library, name, rng):
    layer, x, a, downstream, _ = drawn(name, rng)
    weights = attention(rng, a)
    sources = pooled(a, downstream, weights)
    block = kc.blocks.KFACReduceFB(layer.block)
    given = weights.reshape(len(a), *(layer.outputs or weights.shape[1:]))
    matrix = found(library, block, layer, x, sources, position_weights=given)
    assert_close(matrix, dense(a, sources))


@pytest.mark.parametrize("name", LAYERS)
def test_reduce_is_not_exact_for_a_weighted_mean_without_them(name, rng):
    layer, x, a, downstream, _ = drawn(name, rng)
    sources = pooled(a, downstream, attention(rng, a))
    block = kc.blocks.KFACReduceFB(layer.block)
    assert_differs(found(NUMPY, block, layer, x, sources), dense(a, sources))


@pytest.mark.parametrize("name", LAYERS)
def test_padding_changes_nothing_and_the_rest_is_exact(library, name, rng):
    layer, x, a, downstream, _ = drawn(name, rng)
    mask = rng.random(a.shape[:2]) < 0.6
    mask[:, 0] = True
    mask[-1] = False  # a case of padding alone
    counted = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    sources = pooled(a, downstream, counted)
    truth = dense(a, sources)
    block = kc.blocks.KFACReduceFB(layer.block)
    poisoned = [np.where(mask[:, :, None], g, np.nan) for g in sources]
    given = mask.reshape(len(a), *(layer.outputs or mask.shape[1:]))
    assert_close(found(library, block, layer, x, poisoned, weights=given), truth)


@given(seed=SEEDS, cases=SIZES, positions=SIZES)
def test_any_sizes(seed, cases, positions):
    rng = np.random.default_rng(seed)
    layer, x, a, downstream, equal = drawn("linear", rng, cases, positions)
    reduce = kc.blocks.KFACReduceFB(layer.block)
    for block, sources in (
        (layer.block, [*at_each_position(a, downstream)]),
        (reduce, pooled(a, downstream, equal)),
    ):
        assert_close(found(NUMPY, block, layer, x, sources), dense(a, sources))


@given(seed=SEEDS, positions=SIZES)
def test_one_case_is_exact_whatever_follows_its_mean(seed, positions):
    rng = np.random.default_rng(seed)
    layer, x, a, _, equal = drawn("linear", rng, 1, positions)
    sources = [equal[:, :, None] * rng.normal(size=HIDDEN) for _ in range(2)]
    block = kc.blocks.KFACReduceFB(layer.block)
    assert_close(found(NUMPY, block, layer, x, sources[:1]), dense(a, sources[:1]))


@given(seed=SEEDS, cases=SIZES)
def test_with_one_position_both_are_the_layer_that_acts_once(seed, cases):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=(cases, 1, 3)), rng.normal(size=(cases, 1, HIDDEN))
    layer = LAYERS["linear"]
    once = kc.blocks.FullyConnectedKFACBasicFB(3, HIDDEN, True)
    state = once.update_covs(once.init(like=x), x[:, 0], g[:, 0], ema_decay=0.0)
    for block in (layer.block, kc.blocks.KFACReduceFB(layer.block)):
        assert_close(found(NUMPY, block, layer, x, [g]), once.full_fisher_block(state))


@given(seed=SEEDS, cases=SIZES, positions=SIZES)
def test_the_block_of_the_bias_is_exact_for_any_gradients(seed, cases, positions):
    rng = np.random.default_rng(seed)
    layer, x, a, _, _ = drawn("linear", rng, cases, positions)
    g = rng.normal(size=(cases, positions, HIDDEN))
    block = kc.blocks.KFACReduceFB(layer.block)
    corner = np.s_[-HIDDEN:, -HIDDEN:]
    matrix = found(NUMPY, block, layer, x, [g])
    assert_close(matrix[corner], dense(a, [g])[corner])


def test_a_case_counts_as_its_largest_position(rng):
    layer, x, _, _, _ = drawn("linear", rng)
    g = rng.normal(size=(5, 4, HIDDEN))
    block = kc.blocks.KFACReduceFB(layer.block)
    weights = rng.integers(1, 3, 5).astype(float)

    def state(weights):
        return block.update_covs(block.init(like=x), x, g, 0.0, weights=weights)

    by_position = np.repeat(weights[:, None], 4, axis=1)
    by_case = block.full_fisher_block(state(weights))
    assert_close(block.full_fisher_block(state(by_position)), by_case)
    sides = RowWeights(by_position, weights)
    assert_close(block.full_fisher_block(state(sides)), by_case)
    assert_differs(block.full_fisher_block(state(None)), by_case)


def test_ids_that_are_padding_count_nothing(library, rng):
    layer, x, a, downstream, _ = drawn("embedding", rng)
    mask = np.ones(a.shape[:2], dtype=bool)
    mask[1, 2:] = mask[3, 0] = False
    counted = mask / mask.sum(axis=1, keepdims=True)
    sources = pooled(a, downstream, counted)
    own = kc.blocks.EmbeddingKFACMultiIndepFB(
        5, HIDDEN, batch_first=True, negative_ids_are_padding=True
    )
    padded = np.where(mask, x, -1)
    matrix = found(library, kc.blocks.KFACReduceFB(own), layer, padded, sources)
    assert_close(matrix, dense(a, sources))


def test_options_of_the_layer_are_taken_over():
    own = kc.blocks.FullyConnectedMultiIndepFB(3, 2, damping_type="exact", name="layer")
    block = kc.blocks.KFACReduceFB(own)
    assert (block.damping_type, block.name) == ("exact", "layer")
    assert block == kc.blocks.KFACReduceFB(
        block.block, damping_type="exact", name="layer"
    )
    with pytest.raises(kc.errors.ArgumentError, match="damping_type is 'off', and"):
        kc.blocks.KFACReduceFB(own, damping_type="off")


def test_a_layer_without_positions_is_refused():
    once = kc.blocks.FullyConnectedKFACBasicFB(3, 2)
    with pytest.raises(kc.errors.ArgumentError, match="its own block is K-FAC-reduce"):
        kc.blocks.KFACReduceFB(once)
    sampled = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 2, 1, 1), padding="SAME"), sub_sample_inputs=True
    )
    with pytest.raises(kc.errors.ArgumentError, match="draws a sample"):
        kc.blocks.KFACReduceFB(sampled)


def test_bags_of_ids_are_refused():
    own = kc.blocks.EmbeddingKFACMultiIndepFB(5, 1, batch_first=True)
    block, ids = kc.blocks.KFACReduceFB(own), np.zeros((2, 3, 2), dtype=int)
    with pytest.raises(kc.errors.UnsupportedError, match="several ids at a position"):
        block.update_covs(block.init(np.zeros(1)), ids, np.zeros((2, 3, 1)), 0.0)


@pytest.mark.parametrize("ids", [[[5, 0]], [[-1, 0]]])
def test_ids_out_of_range_are_refused(ids):
    own = kc.blocks.EmbeddingKFACMultiIndepFB(5, 1, batch_first=True)
    block = kc.blocks.KFACReduceFB(own)
    message = re.escape("expected 0 to 4")
    with pytest.raises(kc.errors.ArgumentError, match=message):
        block.update_covs(
            block.init(np.zeros(1)), np.asarray(ids), np.zeros((1, 2, 1)), 0.0
        )
