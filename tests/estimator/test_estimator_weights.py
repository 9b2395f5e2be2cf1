"""Cases and rows that do not count: masks of losses and of layers, and experts."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from estimator_cases import BERNOULLI, CASES, CATEGORICAL, NORMAL, draw, moved

import kfac_core as kc
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel

MASK = np.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
FRACTIONS = np.asarray([0.5, 0.0, 2.0, 1.0, 0.25, 3.0])
MODES = ["exact", "exact_GGN", "empirical"]


@dataclass(frozen=True)
class Changed:
    """A linearization of so many cases, or with other masks and inputs."""

    inner: Any
    batch_size: int
    masks: dict[str, Any] = field(default_factory=dict)
    only: dict[str, Any] = field(default_factory=dict)
    row_counts: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    @property
    def layer_inputs(self):
        return self._kept(self.inner.layer_inputs)

    def output_gradients(self, vectors):
        return self._kept(self.inner.output_gradients(vectors))

    def _kept(self, arrays):
        """Return the arrays, of some sites some rows alone."""
        return {
            site: array[self.only[site]] if site in self.only else array
            for site, array in arrays.items()
        }


def estimator_of(model, loss, mode):
    return kc.FisherEstimator(model.layer_collection(loss), estimation_mode=mode)


def blocks_of(estimator, params, linearization, decay=0.0):
    state = estimator.init(params)
    state = estimator.update_covs(state, linearization, decay)
    state = estimator.update_inverses(state, 0.1)
    backend = kc.backend_of(state.cases)
    return {
        name: backend.to_numpy(block.full_fisher_block(state.blocks[name]))
        for name, block in estimator.blocks.items()
    }


def assert_equal_blocks(found, expected, rtol=1e-12):
    assert found.keys() == expected.keys()
    for name, block in found.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(block, expected[name], rtol=0, atol=rtol * scale)


def batch_of(case, drawn, loss, rng, mask=None, kept=slice(None)):
    cases = len(drawn.batch.inputs)
    outputs = case.model.linearize(drawn.params, drawn.batch).loss_inputs
    shape = next(iter(outputs.values())).shape
    targets = (
        rng.integers(0, 2, cases) if loss is CATEGORICAL else rng.integers(0, 2, shape)
    )
    if loss is NORMAL:
        targets = targets.astype(float)
    chosen = None if mask is None else mask[kept]
    return Batch(drawn.batch.inputs[kept], targets[kept], chosen)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", [CATEGORICAL, NORMAL, BERNOULLI])
@pytest.mark.parametrize("name", CASES)
def test_masked_cases_count_as_if_they_were_dropped(name, loss, mode, rng):
    case = CASES[name]
    drawn = draw(case, rng, batch=len(MASK))
    estimator = estimator_of(case.model, loss, mode)
    seeds = [np.random.default_rng(0) for _ in range(2)]
    masked = batch_of(case, drawn, loss, seeds[0], mask=MASK)
    dropped = batch_of(case, drawn, loss, seeds[1], kept=MASK > 0)
    found, expected = (
        blocks_of(estimator, drawn.params, case.model.linearize(drawn.params, batch))
        for batch in (masked, dropped)
    )
    # The mean loss divides by all cases.
    share = MASK.mean()
    assert_equal_blocks(found, {name: share * x for name, x in expected.items()})


@pytest.mark.parametrize("name", CASES)
def test_so_they_count_in_every_library(library, name, rng):
    case = CASES[name]
    drawn = draw(case, rng, batch=len(MASK))
    estimator = estimator_of(case.model, CATEGORICAL, "exact")
    params = moved(library, drawn.params)
    batch = Batch(library.asarray(drawn.batch.inputs), None, library.asarray(MASK))
    found = blocks_of(estimator, params, case.model.linearize(params, batch))
    # Without a mask, NumPy computes what each library does: that is another claim.
    kept = Batch(drawn.batch.inputs[MASK > 0], None, None)
    linearization = case.model.linearize(drawn.params, kept)
    expected = blocks_of(estimator, drawn.params, linearization)
    share = MASK.mean()
    assert_equal_blocks(found, {name: share * x for name, x in expected.items()})


@pytest.mark.parametrize("weights", [MASK, FRACTIONS])
def test_of_a_linear_model_the_weighted_block_is_exact(weights, rng):
    """``J = x`` and a constant ``B``: both factors are independent for any weights."""
    model = SequentialModel(Sequential((Dense(3, 2),)))
    x = rng.normal(size=(len(weights), 3))
    drawn = {"dense_0/weights": rng.normal(size=(3, 2)), "dense_0/bias": np.zeros(2)}
    collection = model.layer_collection(NORMAL)
    estimator = kc.FisherEstimator(collection, estimation_mode="exact")
    linearization = model.linearize(drawn, Batch(x, None, weights))
    (block,) = blocks_of(estimator, drawn, linearization).values()
    computer = kc.CurvatureMatrixVectorProductComputer(collection)
    columns = []
    for place in range(8):
        unit = np.eye(8)[place]
        vector = {
            "dense_0/weights": unit[:6].reshape(3, 2),
            "dense_0/bias": unit[6:],
        }
        product = computer.multiply_fisher(linearization, vector)
        columns.append(np.concatenate([product[name].ravel() for name in vector]))
    exact = np.stack(columns, axis=1) / len(weights)
    np.testing.assert_allclose(block, exact, rtol=1e-12, atol=1e-12)
    # Without the weights of its rows, the block is another one.
    bare = Changed(linearization, len(weights))
    unweighted = blocks_of(estimator, drawn, bare)["dense_0"]
    assert not np.allclose(unweighted, exact)


def test_two_of_ten_cases():
    x = np.zeros((10, 1))
    x[:2] = 1
    mask = x[:, 0]
    model = SequentialModel(Sequential((Dense(1, 1, has_bias=False),)))
    loss = kc.losses.NormalMeanNegativeLogProbLoss(var=0.5)
    params = {"dense_0/weights": np.asarray([[0.3]])}
    estimator = estimator_of(model, loss, "exact")
    masked = model.linearize(params, Batch(x, None, mask))
    assert blocks_of(estimator, params, masked)["dense_0"] == pytest.approx(0.4)
    few = Changed(masked, 10, dict(masked.masks), {"dense_0": slice(0, 2)})
    assert blocks_of(estimator, params, few)["dense_0"] == pytest.approx(0.4)


@pytest.mark.parametrize("name", CASES)
def test_rows_of_weight_zero_at_a_layer(name, rng):
    """As an expert that sees some of the cases, the others of gradient zero."""
    case = CASES[name]
    drawn = draw(case, rng, batch=len(MASK))
    estimator = estimator_of(case.model, CATEGORICAL, "exact")
    inner = case.model.linearize(drawn.params, drawn.batch)
    site = next(iter(inner.layer_inputs))
    masked = Changed(inner, len(MASK), {site: MASK})
    few = Changed(inner, len(MASK), {}, {site: MASK > 0})
    found = blocks_of(estimator, drawn.params, masked)
    assert_equal_blocks(found, blocks_of(estimator, drawn.params, few))
    whole = blocks_of(estimator, drawn.params, inner)
    layer = estimator.layers[0].name
    assert not np.allclose(found[layer], whole[layer])


@pytest.mark.parametrize("name", CASES)
def test_counts_of_rows_take_the_place_of_those_of_cases(name, rng):
    """As where the rows of a layer are in another order than those of the loss."""
    case = CASES[name]
    drawn = draw(case, rng, batch=len(MASK))
    estimator = estimator_of(case.model, CATEGORICAL, "exact")
    inner = case.model.linearize(
        drawn.params, Batch(drawn.batch.inputs, drawn.batch.targets, MASK)
    )
    site, masks = next(iter(inner.layer_inputs)), dict(inner.masks)
    same = Changed(inner, len(MASK), masks, row_counts={site: MASK})
    found = blocks_of(estimator, drawn.params, same)
    assert_equal_blocks(found, blocks_of(estimator, drawn.params, inner))
    other = Changed(inner, len(MASK), masks, row_counts={site: FRACTIONS + 1})
    changed = blocks_of(estimator, drawn.params, other)
    layer = estimator.layers[0].name
    assert not np.allclose(changed[layer], found[layer])


def test_an_expert_that_sees_nothing_is_left_at_zero(rng):
    case = CASES["dense"]
    drawn = draw(case, rng, batch=4)
    estimator = estimator_of(case.model, CATEGORICAL, "exact")
    inner = case.model.linearize(drawn.params, drawn.batch)
    site = next(iter(inner.layer_inputs))
    state = estimator.init(drawn.params)
    nothing = Changed(inner, 4, {site: np.zeros(4)})
    state = estimator.update_covs(state, nothing, 0.5)
    state = estimator.update_inverses(state, 0.5)
    name = estimator.layers[0].name
    assert not estimator.blocks[name].full_fisher_block(state.blocks[name]).any()
    step = estimator.multiply_inverse(state, drawn.params)
    for param in estimator.layers[0].params:
        np.testing.assert_allclose(step[param], 2 * drawn.params[param], rtol=1e-12)
    # What comes later counts, and the empty batch as one without rows.
    state = estimator.update_covs(state, inner, 0.5)
    whole = estimator.update_covs(estimator.init(drawn.params), inner, 0.5)
    found = estimator.blocks[name].full_fisher_block(state.blocks[name])
    expected = estimator.blocks[name].full_fisher_block(whole.blocks[name])
    np.testing.assert_allclose(found, expected / 1.5, rtol=1e-12)


def test_masks_change_without_a_new_trace(rng):
    jax = pytest.importorskip("jax")
    case = CASES["dense"]
    drawn = draw(case, rng, batch=len(MASK))
    estimator = estimator_of(case.model, CATEGORICAL, "exact")
    params = jax.tree.map(jax.numpy.asarray, drawn.params)
    inputs = jax.numpy.asarray(drawn.batch.inputs)
    traces = 0

    @jax.jit
    def fold(state, mask):
        nonlocal traces
        traces += 1
        linearization = case.model.linearize(params, Batch(inputs, None, mask))
        return estimator.update_covs(state, linearization, 0.5)

    state = estimator.init(params)
    for mask in (MASK, FRACTIONS):
        traced = fold(state, jax.numpy.asarray(mask))
        eager = estimator.update_covs(
            state,
            case.model.linearize(params, Batch(inputs, None, jax.numpy.asarray(mask))),
            0.5,
        )
        for one, other in zip(*map(jax.tree.leaves, (traced, eager)), strict=True):
            np.testing.assert_allclose(
                np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-6
            )
    assert traces == 1
