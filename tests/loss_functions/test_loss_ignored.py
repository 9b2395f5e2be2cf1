"""Targets to ignore: positions that have them weigh nothing, as under a mask."""

import numpy as np
import pytest
from loss_cases import assert_close

import kfac_core as kc
from kfac_core.errors import ArgumentError, DTypeError
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh

PLAIN = CategoricalLogitsNegativeLogProbLoss()


@pytest.mark.parametrize("index", [-100, -1, 0, 2, 255])
def test_an_ignored_target_is_a_mask(index, rng, library):
    loss = CategoricalLogitsNegativeLogProbLoss(ignore_index=index)
    logits = rng.standard_normal((6, 3))
    labels = np.asarray([0, 1, 2, 2, 1, 0])
    given = np.where([0, 0, 1, 0, 1, 0], index, labels)
    mask, weights = (given != index).astype(float), rng.random(6)
    known = np.where(mask > 0, given, 0)
    there, t, w, v = map(library.asarray, (logits, given, weights, logits))
    for own, truth in (
        (loss.evaluate(there, t), PLAIN.evaluate(logits, known, mask)),
        (loss.evaluate(there, t, w), PLAIN.evaluate(logits, known, mask * weights)),
        (loss.gradient(there, t), PLAIN.gradient(logits, known, mask)),
        (
            loss.half_gradient(there, t, w),
            PLAIN.half_gradient(logits, known, mask * weights),
        ),
        (
            loss.multiply_hessian(there, t, v),
            PLAIN.multiply_hessian(logits, known, logits, mask),
        ),
        (
            loss.multiply_fisher(there, v, loss.mask_for(t)),
            PLAIN.multiply_fisher(logits, logits, mask),
        ),
    ):
        assert_close(library.to_numpy(own), truth, 1e-13)


def test_the_values_are_those_of_pytorch(rng, torch):
    logits = torch.from_numpy(rng.standard_normal((5, 3)))
    labels = torch.asarray([0, -100, 2, -100, 1])
    theirs = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    loss = CategoricalLogitsNegativeLogProbLoss(ignore_index=-100)
    assert_close(loss.evaluate(logits, labels), theirs)


def test_labels_may_be_of_a_type_that_lacks_the_number(rng):
    loss = CategoricalLogitsNegativeLogProbLoss(ignore_index=-100)
    labels = np.asarray([0, 1], dtype=np.uint8)
    logits = rng.standard_normal((2, 3))
    assert_close(loss.gradient(logits, labels), PLAIN.gradient(logits, labels))


def test_what_is_drawn_is_never_ignored(rng):
    # Though the label 0 of the data is: here it is the only one that has probability.
    loss = CategoricalLogitsNegativeLogProbLoss(ignore_index=0)
    logits = np.asarray([[0.0, -2.0]] * 50)
    assert loss.evaluate_on_sample(rng, logits) > 0
    assert loss.counting_all() == PLAIN


def test_within_a_trace_as_well(jax, rng):
    loss = CategoricalLogitsNegativeLogProbLoss(ignore_index=-100)
    logits, labels = rng.standard_normal((3, 2)), np.asarray([0, -100, 1])
    found = jax.jit(loss.gradient)(logits, labels)
    assert_close(found, loss.gradient(logits, labels))
    assert np.isnan(jax.jit(PLAIN.gradient)(logits, labels)[1]).all()


@pytest.mark.parametrize("index", [1.5, "0", True, 2**40, np.nan])
def test_the_index_is_checked(index):
    with pytest.raises(ArgumentError, match="ignore_index is"):
        CategoricalLogitsNegativeLogProbLoss(index)


def test_labels_are_integers():
    loss = CategoricalLogitsNegativeLogProbLoss(ignore_index=-100)
    with pytest.raises(DTypeError, match="targets has dtype float64"):
        loss.mask_for(np.ones(2))


@pytest.mark.parametrize("mode", ["exact", "empirical", "gradients", "exact_GGN"])
def test_an_estimator_sees_what_it_would_see_under_a_mask(mode, rng):
    model = SequentialModel(Sequential((Dense(2, 4), Tanh(), Dense(4, 3))))
    x = rng.standard_normal((6, 2))
    labels = np.asarray([0, 1, -100, 2, -100, 0])
    params = model.init(rng, like=x)
    ignoring = CategoricalLogitsNegativeLogProbLoss(ignore_index=-100)
    mask = labels >= 0
    found = []
    for loss, batch in (
        (ignoring, Batch(x, labels)),
        (PLAIN, Batch(x, np.where(mask, labels, 0), mask)),
    ):
        collection = model.layer_collection(loss)
        estimator = kc.FisherEstimator(collection, estimation_mode=mode)
        linearization = model.linearize(params, batch)
        state = estimator.update_covs(
            estimator.init(params),
            linearization,
            0.0,
            key=np.random.default_rng(1) if mode == "gradients" else None,
        )
        product = kc.CurvatureMatrixVectorProductComputer(collection).multiply_fisher(
            linearization, params
        )
        blocks = [
            block.full_fisher_block(state.blocks[name])
            for name, block in estimator.blocks.items()
        ]
        found.append([*blocks, *product.values()])
    for own, truth in zip(*found, strict=True):
        assert_close(own, truth, 1e-14)
        assert np.linalg.norm(truth) > 1e-3
