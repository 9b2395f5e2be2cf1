"""The modes of estimation that draw nothing, and what all of them have in common."""

import dataclasses

import numpy as np
import pytest
from estimator_cases import (
    BERNOULLI,
    CASES,
    CATEGORICAL,
    HEADS,
    NORMAL,
    assert_close,
    assert_differs,
    assert_states_close,
    draw,
    heads,
    heads_collection,
    heads_fisher,
    output_factors,
    statistics,
)

import kfac_core as kc
from kfac_core.estimator import ESTIMATION_MODES, FisherEstimator
from kfac_core.estimator.sources import RANDOM_MODES
from kfac_core.reference import (
    block_for,
    diagonal_block_for,
    empirical_fisher,
    exact_fisher,
    exact_sources,
)

LOSSES = [CATEGORICAL, BERNOULLI, NORMAL]


def drawn_case(rng, name="dense", loss=CATEGORICAL, batch=5):
    case = CASES[name]
    drawn = draw(case, rng, batch)
    shape = (batch,) if loss is CATEGORICAL else (batch, 3)
    targets = rng.integers(2, size=shape)
    made = case.model.linearize(drawn.params, drawn.batch._replace(targets=targets))
    return case.model, drawn.params, made


def diagonal_collection(model, loss):
    """Return a collection with a diagonal block for each layer."""
    collection = model.layer_collection(loss)
    layers = zip(collection.layers, model.network.param_layers, strict=True)
    replaced = tuple(
        dataclasses.replace(
            registered, block=diagonal_block_for(layer, name=registered.name)
        )
        for registered, layer in layers
    )
    return dataclasses.replace(collection, layers=replaced)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", CASES)
def test_exact_gives_the_statistics_of_the_reference(rng, name, loss):
    model, params, linearization = drawn_case(rng, name, loss)
    estimator = FisherEstimator(model.layer_collection(loss), estimation_mode="exact")
    state = statistics(estimator, params, linearization)
    own, x = model.unnamed(params), linearization.batch.inputs
    by_layer = exact_sources(model.network, own, x, loss)
    for layer, site, data in zip(
        model.network.param_layers, model.sites, by_layer, strict=True
    ):
        block = block_for(layer)
        empty = block.init(like=params[f"{site}/weights"])
        assert_states_close(state.blocks[site], block.update_covs(empty, *data, 0.0))


@pytest.mark.parametrize("loss", LOSSES)
def test_exact_diagonals_are_those_of_the_fisher_in_every_layer(rng, loss):
    model, params, linearization = drawn_case(rng, "dense", loss)
    estimator = FisherEstimator(
        diagonal_collection(model, loss), estimation_mode="exact"
    )
    state = statistics(estimator, params, linearization)
    own, x = model.unnamed(params), linearization.batch.inputs
    for index, (name, block) in enumerate(estimator.blocks.items()):
        truth = exact_fisher(model.network, own, x, loss, layer=index)
        found = block.full_fisher_block(state.blocks[name])
        assert_close(np.diagonal(found), np.diagonal(truth))


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(
    "sites", [("labels", "events", "values"), ("values",), ("events", "labels")]
)
def test_exact_adds_up_losses_with_coefficients_and_masks(rng, sites, masked):
    params, linearization = heads(rng, masked=masked)
    estimator = FisherEstimator(heads_collection(*sites), estimation_mode="exact")
    state = statistics(estimator, params, linearization)
    fisher = np.mean(heads_fisher(linearization, sites), axis=0)
    found = output_factors(estimator, state)
    assert_close(found["dense_1"], fisher)
    # Pulled back through tanh(.) W, case by case.
    hidden = linearization.layer_inputs["dense_1"]
    jacobians = [(1 - y**2)[:, None] * params["dense_1/weights"] for y in hidden]
    pulled = [
        j @ f @ j.T
        for j, f in zip(jacobians, heads_fisher(linearization, sites), strict=True)
    ]
    assert_close(found["dense_0"], np.mean(pulled, axis=0))


@pytest.mark.parametrize("loss", LOSSES)
def test_empirical_is_the_second_moment_of_the_gradients_of_the_data(rng, loss):
    model, params, linearization = drawn_case(rng, "dense", loss)
    own, batch = model.unnamed(params), linearization.batch
    truths = [
        empirical_fisher(
            model.network, own, batch.inputs, loss, batch.targets, layer=index
        )
        for index in range(2)
    ]
    collection = diagonal_collection(model, loss)
    estimator = FisherEstimator(collection, estimation_mode="empirical")
    state = statistics(estimator, params, linearization)
    for (name, block), truth in zip(estimator.blocks.items(), truths, strict=True):
        found = np.diagonal(block.full_fisher_block(state.blocks[name]))
        assert_close(found, np.diagonal(truth))
    g = loss.gradient(linearization.loss_inputs["outputs"], batch.targets)
    kron = FisherEstimator(model.layer_collection(loss), estimation_mode="empirical")
    factors = output_factors(kron, statistics(kron, params, linearization))
    assert_close(factors["dense_1"], g.T @ g / 5)


@pytest.mark.parametrize("mode", ESTIMATION_MODES)
def test_every_mode_is_linear_in_coefficient_and_mask(rng, mode):
    model, params, linearization = drawn_case(rng)
    batch = linearization.batch
    noise = rng.uniform(size=(1, 5, 3))
    noise = noise[..., 0] if mode == "gradients" else noise
    options = {"noise": {"outputs": noise}} if mode in RANDOM_MODES else {}

    def factors(coeff, mask):
        made = model.linearize(params, batch._replace(mask=mask))
        collection = model.layer_collection(CATEGORICAL, coeff=coeff)
        estimator = FisherEstimator(collection, estimation_mode=mode)
        return output_factors(estimator, statistics(estimator, params, made, **options))

    plain, masked = factors(1.0, None), factors(1.0, np.full(5, 4.0))
    quadruple, none = factors(4.0, None), factors(0.0, None)
    for name, truth in plain.items():
        assert_close(quadruple[name], 4 * truth)
        assert_close(masked[name], 4 * truth)
        assert np.all(none[name] == 0)
        assert_differs(quadruple[name], 16 * truth)


@pytest.mark.parametrize("loss", LOSSES)
def test_of_natural_parameters_the_ggn_is_the_fisher(rng, loss):
    model, params, linearization = drawn_case(rng, "convolutional", loss)
    noise = {"outputs": rng.uniform(size=(2, 5, 3))}
    for mode, options in [("exact", {}), ("curvature_prop", {"noise": noise})]:
        fisher, ggn = (
            FisherEstimator(
                model.layer_collection(loss), estimation_mode=name, num_samples=2
            )
            for name in (mode, f"{mode}_GGN")
        )
        assert (fisher.mat_type, ggn.mat_type) == ("Fisher", "GGN")
        assert_states_close(
            statistics(ggn, params, linearization, **options),
            statistics(fisher, params, linearization, **options),
        )


def test_a_loss_without_ggn_is_refused(rng):
    params, linearization = heads(rng)
    for mode in ("exact_GGN", "curvature_prop_GGN"):
        estimator = FisherEstimator(heads_collection("values"), estimation_mode=mode)
        with pytest.raises(kc.errors.UnsupportedError, match="NormalMeanVariance"):
            statistics(estimator, params, linearization, key=rng)


def test_the_output_factors_of_exact_and_empirical_differ(rng):
    model, params, linearization = drawn_case(rng)
    found = [
        output_factors(
            estimator := FisherEstimator(
                model.layer_collection(CATEGORICAL), estimation_mode=mode
            ),
            statistics(estimator, params, linearization),
        )["dense_1"]
        for mode in ("exact", "empirical")
    ]
    assert_differs(*found, by=0.1)


@pytest.mark.parametrize("mode", ["exact", "empirical", "exact_GGN"])
@pytest.mark.parametrize("approx", ["full", "diagonal"])
def test_batch_summed_gradients_are_refused_where_they_are_biased(mode, approx):
    collection = HEADS.layer_collection(CATEGORICAL)
    collection = dataclasses.replace(collection, layers=collection.layers[1:])
    collection = collection.register_generic(
        ("dense_0/weights", "dense_0/bias"), approx=approx, name="first"
    )
    with pytest.raises(
        kc.errors.ArgumentError, match=f"first: .* the mode '{mode}' does not"
    ):
        FisherEstimator(collection, estimation_mode=mode)
    FisherEstimator(collection, estimation_mode="gradients")


def test_a_mode_of_no_name_and_no_samples_are_refused():
    collection = HEADS.layer_collection(CATEGORICAL)
    with pytest.raises(
        kc.errors.ArgumentError, match="is 'fisher', expected one of gradients"
    ):
        FisherEstimator(collection, estimation_mode="fisher")
    with pytest.raises(kc.errors.ArgumentError, match="num_samples is 0"):
        FisherEstimator(collection, num_samples=0)
