"""The modes that draw: unbiased, by enumeration of all that can be drawn."""

import dataclasses
import math
from itertools import product

import numpy as np
import pytest
from estimator_cases import (
    BERNOULLI,
    CATEGORICAL,
    NORMAL,
    assert_close,
    assert_differs,
    assert_named_close,
    draw_like_params,
    heads,
    heads_collection,
    output_factors,
    softmax,
    statistics,
)

import kfac_core as kc
from kfac_core.estimator import FisherEstimator
from kfac_core.reference import (
    Batch,
    Dense,
    Sequential,
    SequentialModel,
    Tanh,
    exact_fisher,
)

SMALL = SequentialModel(Sequential((Dense(2, 3), Tanh(), Dense(3, 2))))

# What one random cell can be: for each outcome its probability, and what the noise is
# then at some places.


def label_cells(site, logits):
    """A uniform number selects a label by the sums of the probabilities."""
    p = softmax(logits)
    middles = np.cumsum(p, axis=-1) - p / 2
    return [
        [(p[n, c], {(site, (n,)): middles[n, c]}) for c in range(p.shape[1])]
        for n in range(len(p))
    ]


def event_cells(site, logits):
    """An event takes place if the uniform number is less than its probability."""
    p = 1 / (1 + np.exp(-logits))
    return [
        [
            (p[place], {(site, place): p[place] / 2}),
            (1 - p[place], {(site, place): (1 + p[place]) / 2}),
        ]
        for place in np.ndindex(p.shape)
    ]


def normal_cells(site, mean):
    """Two uniform numbers make one of 1 or -1, whose moments are right up to three."""
    radius = 1 - math.exp(-0.5)
    return [
        [
            (0.5, {(site, (0, *place)): radius, (site, (1, *place)): turn})
            for turn in (0.0, 0.5)
        ]
        for place in np.ndindex(mean.shape)
    ]


def sign_cells(shapes):
    """Uniform numbers are signs: minus below one half."""
    below = np.nextafter(0.5, 0.0)
    return [
        [(0.5, {(site, place): below}), (0.5, {(site, place): 0.5})]
        for site, (_, *shape) in shapes.items()
        for place in np.ndindex(*shape)
    ]


def every_outcome(shapes, cells):
    """Yield the probability and the noise of every outcome of all cells."""
    for outcome in product(*cells):
        noise = {site: np.full(shape, 0.5) for site, shape in shapes.items()}
        for _, settings in outcome:
            for (site, place), value in settings.items():
                noise[site][(0, *place)] = value
        yield math.prod(weight for weight, _ in outcome), noise


def expectation(estimator, params, linearization, cells, read=output_factors):
    """Return the expectation of what is read of the state, by name."""
    shapes = estimator.noise_shapes(linearization)
    total, means = 0.0, {}
    for weight, noise in every_outcome(shapes, cells):
        state = statistics(estimator, params, linearization, noise=noise)
        for name, value in read(estimator, state).items():
            means[name] = means.get(name, 0.0) + weight * value
        total += weight
    assert total == pytest.approx(1, abs=1e-14)
    return means


def exact_output_factors(collection, params, linearization):
    estimator = FisherEstimator(collection, estimation_mode="exact")
    return output_factors(estimator, statistics(estimator, params, linearization))


def small(rng, batch=3):
    params = draw_like_params(SMALL, rng)
    return params, SMALL.linearize(params, Batch(rng.standard_normal((batch, 2))))


@pytest.mark.parametrize(
    ("loss", "cells"),
    [(CATEGORICAL, label_cells), (BERNOULLI, event_cells), (NORMAL, normal_cells)],
    ids=["categorical", "bernoulli", "normal"],
)
def test_the_expectation_of_gradients_is_exact(rng, loss, cells):
    params, linearization = small(rng)
    collection = SMALL.layer_collection(loss, coeff=1.5)
    estimator = FisherEstimator(collection)
    outputs = linearization.loss_inputs["outputs"]
    found = expectation(estimator, params, linearization, cells("outputs", outputs))
    assert_named_close(found, exact_output_factors(collection, params, linearization))
    # Of one set of targets it is not.
    one = statistics(estimator, params, linearization, key=rng)
    truth = exact_output_factors(collection, params, linearization)
    assert_differs(output_factors(estimator, one)["dense_1"], truth["dense_1"], by=0.01)


def test_cross_terms_of_several_losses_vanish(rng):
    params, linearization = heads(rng, batch=2)
    collection = heads_collection("labels", "events")
    inputs = linearization.loss_inputs
    cells = [
        *label_cells("labels", inputs["labels"]),
        *event_cells("events", inputs["events"]),
    ]
    found = expectation(FisherEstimator(collection), params, linearization, cells)
    assert_named_close(found, exact_output_factors(collection, params, linearization))


@pytest.mark.parametrize("sites", [("labels",), ("values",), ("labels", "events")])
def test_the_expectation_of_curvature_prop_is_exact(rng, sites):
    params, linearization = heads(rng, batch=1 if len(sites) > 1 else 2)
    collection = heads_collection(*sites)
    estimator = FisherEstimator(collection, estimation_mode="curvature_prop")
    cells = sign_cells(estimator.noise_shapes(linearization))
    found = expectation(estimator, params, linearization, cells)
    truth = exact_output_factors(collection, params, linearization)
    assert_named_close(found, truth)
    one = statistics(estimator, params, linearization, key=rng)
    assert_differs(output_factors(estimator, one)["dense_1"], truth["dense_1"])


@pytest.mark.parametrize("approx", ["full", "diagonal"])
@pytest.mark.parametrize("mode", ["gradients", "curvature_prop", "curvature_prop_GGN"])
def test_batch_summed_gradients_are_unbiased(rng, mode, approx):
    params, linearization = small(rng, batch=2)
    collection = kc.LayerCollection.of(params)
    for site in SMALL.sites:
        names = (f"{site}/weights", f"{site}/bias")
        collection = collection.register_generic(names, approx=approx, name=site)
    collection = collection.register_loss_function(BERNOULLI, "outputs")
    estimator = FisherEstimator(collection, estimation_mode=mode)
    outputs = linearization.loss_inputs["outputs"]
    cells = event_cells("outputs", outputs)
    if mode != "gradients":
        cells = sign_cells(estimator.noise_shapes(linearization))

    def read(estimator, state):
        return {
            name: block.full_fisher_block(state.blocks[name])
            for name, block in estimator.blocks.items()
        }

    found = expectation(estimator, params, linearization, cells, read)
    own, x = SMALL.unnamed(params), linearization.batch.inputs
    for index, site in enumerate(SMALL.sites):
        truth = exact_fisher(SMALL.network, own, x, BERNOULLI, layer=index)
        if approx == "diagonal":
            truth = np.diag(np.diagonal(truth))
        assert_close(found[site], truth)


@pytest.mark.parametrize("mode", ["gradients", "curvature_prop"])
def test_samples_are_averaged(rng, mode):
    params, linearization = small(rng)
    collection = SMALL.layer_collection(NORMAL)
    one, three = (
        FisherEstimator(collection, estimation_mode=mode, num_samples=count)
        for count in (1, 3)
    )
    shapes = three.noise_shapes(linearization)
    noise = {site: rng.uniform(size=shape) for site, shape in shapes.items()}
    found = output_factors(three, statistics(three, params, linearization, noise=noise))
    singles = [
        output_factors(
            one,
            statistics(
                one,
                params,
                linearization,
                noise={site: u[i : i + 1] for site, u in noise.items()},
            ),
        )
        for i in range(3)
    ]
    for name, value in found.items():
        assert_close(value, np.mean([single[name] for single in singles], axis=0))
        assert_differs(value, singles[0][name])


@pytest.mark.parametrize("mode", ["gradients", "curvature_prop"])
def test_the_mean_of_many_samples_is_exact_up_to_its_standard_error(mode):
    rng = np.random.default_rng(1)
    params, linearization = heads(rng)
    sites = ("labels", "events", "values")
    collection = heads_collection(*sites)
    estimator = FisherEstimator(collection, estimation_mode=mode)
    samples = [
        output_factors(estimator, statistics(estimator, params, linearization, key=rng))
        for _ in range(600)
    ]
    exact = exact_output_factors(collection, params, linearization)
    other = dataclasses.replace(
        collection, losses=tuple(reversed(collection.losses[:2]))
    )
    wrong = exact_output_factors(other, params, linearization)
    for name, truth in exact.items():
        drawn = np.stack([sample[name] for sample in samples])
        error = drawn.std(axis=0, ddof=1) / math.sqrt(len(drawn))
        # Some entries are the same in each sample, but for rounding.
        bound = 5 * error + 1e-12
        assert np.all(np.abs(drawn.mean(axis=0) - truth) < bound)
        assert np.any(np.abs(drawn.mean(axis=0) - wrong[name]) > bound)


def test_noise_has_the_shapes_that_are_said(rng):
    _, linearization = heads(rng)
    shapes = {
        "gradients": {"labels": (2, 4), "events": (2, 4, 2), "values": (2, 2, 4, 2)},
        "curvature_prop": {
            "labels": (2, 4, 3),
            "events": (2, 4, 2),
            "values": (2, 4, 4),
        },
        "exact": {},
        "empirical": {},
    }
    collection = heads_collection("labels", "events", "values")
    for mode, expected in shapes.items():
        estimator = FisherEstimator(collection, estimation_mode=mode, num_samples=2)
        assert estimator.noise_shapes(linearization) == expected
        assert estimator.needs_randomness == bool(expected)


def test_the_same_key_draws_the_same(rng):
    params, linearization = heads(rng)
    estimator = FisherEstimator(heads_collection("labels", "values"), num_samples=2)

    def drawn(seed):
        key = np.random.default_rng(seed)
        state = statistics(estimator, params, linearization, key=key)
        return output_factors(estimator, state)["dense_1"]

    assert np.array_equal(drawn(3), drawn(3))
    assert_differs(drawn(3), drawn(4))
