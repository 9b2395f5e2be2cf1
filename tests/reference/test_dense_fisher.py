"""The dense curvature of any linearization is that of hand-written Jacobians."""

import numpy as np
import pytest
from reference_cases import NETWORKS, assert_close, draw

import kfac_core as kc
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.reference import (
    Batch,
    Dense,
    Sequential,
    SequentialModel,
    case_gradients,
    compare,
    dense_blocks,
    dense_fisher,
    empirical_fisher,
    exact_fisher,
)

every_network = pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)


def linearized(case, rng):
    model = SequentialModel(case.network)
    params, x, targets = draw(case, rng, batch=3)
    named = model.named(params)
    linearization = model.linearize(named, Batch(x, targets))
    return model.layer_collection(case.loss), linearization, named, params, x, targets


@every_network
def test_it_is_the_exact_fisher(case, rng):
    collection, linearization, named, params, x, _ = linearized(case, rng)
    truth = exact_fisher(case.network, params, x, case.loss)
    found = dense_fisher(collection, linearization)
    assert_close(found.matrix, truth)
    # In natural parameters, both are one matrix.
    assert_close(dense_fisher(collection, linearization, kind="ggn").matrix, truth)
    assert_close(exact_fisher(case.network, named, x, case.loss), truth)


@every_network
def test_gradients_are_those_of_each_case(case, rng):
    collection, linearization, named, params, x, targets = linearized(case, rng)
    outputs = linearization.loss_inputs["outputs"]
    g = case.loss.gradient(outputs, targets)
    forward = case.network.forward(params, x)
    truth = case.network.case_gradients(params, forward, g)
    assert_close(case_gradients(collection, linearization), truth)
    found = dense_fisher(collection, linearization, kind="empirical").matrix
    truth = empirical_fisher(case.network, params, x, case.loss, targets)
    assert_close(found, truth)
    assert_close(empirical_fisher(case.network, named, x, case.loss, targets), truth)


def test_weights_of_losses_count(rng):
    model = SequentialModel(Sequential((Dense(2, 2),)))
    x, mask = rng.normal(size=(3, 2)), np.asarray([1.0, 0.0, 2.0])
    params = model.init(rng, like=x)
    loss = kc.losses.NormalMeanNegativeLogProbLoss()
    collection = model.layer_collection(loss, coeff=4.0)
    batch = Batch(x, rng.normal(size=(3, 2)), mask)
    design = np.concatenate([x, np.ones((3, 1))], axis=1)
    moment = 4 * (design.T * mask) @ design / 3
    found = dense_fisher(collection, model.linearize(params, batch)).matrix
    assert_close(found, np.kron(moment, np.eye(2) / loss.var))


def test_blocks_lie_where_the_layers_do(rng):
    case = NETWORKS["dense-softmax"]
    collection, linearization, *_ = linearized(case, rng)
    estimator = kc.FisherEstimator(collection, "exact")
    state = estimator.init(linearization_params(case, linearization))
    state = estimator.update_covs(state, linearization, ema_decay=0.0)
    approximation = dense_blocks(estimator, state)
    truth = dense_fisher(collection, linearization)
    assert approximation.layers == truth.layers == ("dense_0", "dense_1", "dense_2")
    assert approximation.sizes == truth.sizes == (25, 18, 16)
    for layer in estimator.layers:
        expected = layer.block.full_fisher_block(state.blocks[layer.name])
        assert_close(approximation.block(layer.name), expected, 0)
    assert_close(approximation.matrix[:25, 25:], np.zeros((25, 34)), 0)
    with pytest.raises(ArgumentError, match="layer is 'dense_9', expected one of"):
        truth.block("dense_9")


def linearization_params(case, linearization):
    return SequentialModel(case.network).named(linearization.params)


def test_pictures_have_the_borders_and_names_of_layers(rng):
    pytest.importorskip("matplotlib")
    case = NETWORKS["dense-softmax"]
    collection, linearization, *_ = linearized(case, rng)
    truth = dense_fisher(collection, linearization)
    found = compare({"zero": truth._replace(matrix=0 * truth.matrix)}, truth)
    assert (found.borders, found.layers) == (truth.sizes, truth.layers)
    assert found.errors["zero"].frobenius == pytest.approx(1)
    axis = found.plot().axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == list(truth.layers)
    np.testing.assert_allclose(axis.get_xticks(), [12, 33.5, 50.5])


def test_every_library_computes_it(plain_library, rng):
    own = SequentialModel(Sequential((Dense(2, 3),)))
    x = rng.normal(size=(2, 2))
    params = own.init(rng, like=x)
    loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
    truth = exact_fisher(own.network, params, x, loss)
    moved = {name: plain_library.asarray(p) for name, p in params.items()}
    batch = Batch(plain_library.asarray(x), plain_library.asarray(np.asarray([0, 2])))
    linearization = own.linearize(moved, batch)
    found = dense_fisher(own.layer_collection(loss), linearization).matrix
    assert_close(plain_library.to_numpy(found), truth)


def test_what_cannot_be_computed_is_told(rng):
    case = NETWORKS["dense-softmax"]
    collection, linearization, *_, x, _ = linearized(case, rng)
    with pytest.raises(ArgumentError, match="kind is 'exact', expected 'fisher'"):
        dense_fisher(collection, linearization, kind="exact")
    model = SequentialModel(case.network)
    bare = model.linearize(linearization_params(case, linearization), Batch(x))
    with pytest.raises(ArgumentError, match="no targets for the loss site 'outputs'"):
        dense_fisher(collection, bare, kind="empirical")
    with pytest.raises(ShapeError, match="has 6 rows, expected 3, one for each case"):
        case_gradients(collection, linearization, {"outputs": np.ones((6, 4))})
    with pytest.raises(ArgumentError, match="expected a LayerCollection"):
        dense_fisher(case.network, linearization)
