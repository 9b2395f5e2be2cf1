"""Rows against cases, for every kind of layer: towers share the cases of a batch."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from test_estimator_cases import SQUARE, collection_of

import kfac_core as kc
from kfac_core.estimator import FisherEstimator


@dataclass(frozen=True)
class Held:
    """A linearization that holds what it is given."""

    layer_inputs: dict[str, Any]
    gradients: dict[str, Any]
    outputs: Any
    batch_size: int
    targets: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, Any] = field(default_factory=dict)

    @property
    def loss_inputs(self):
        return {"outputs": self.outputs}

    def output_gradients(self, vectors):
        return self.gradients

    def param_gradients(self, vectors, names=None):
        return {name: np.ones(4) for name in ("w",)}


IMAGES, LOCATIONS = (5, 5, 2), (5, 5, 3)
KINDS = {
    # kind: parameters, shapes of a case's inputs and gradients, registration
    "fully_connected": (
        (2, 3),
        (2,),
        (3,),
        lambda c, site, **o: c.register_fully_connected("w", site, **o),
    ),
    "diagonal": (
        (2, 3),
        (2,),
        (3,),
        lambda c, site, **o: c.register_fully_connected(
            "w", site, approx="diagonal", **o
        ),
    ),
    "embedding": (
        (4, 3),
        (),
        (3,),
        lambda c, site, **o: c.register_embedding("w", site, **o),
    ),
    "conv2d": (
        (3, 3, 2, 3),
        IMAGES,
        LOCATIONS,
        lambda c, site, **o: c.register_conv2d("w", site, 1, "SAME", **o),
    ),
    "depthwise": (
        (3, 3, 2, 1),
        IMAGES,
        IMAGES,
        lambda c, site, **o: c.register_depthwise_conv2d("w", site, 1, "SAME", **o),
    ),
    "bias": (
        (3,),
        (3,),
        (3,),
        lambda c, site, **o: c.register_bias("w", site, **o),
    ),
    "scale_and_shift": (
        (3,),
        (3,),
        (3,),
        lambda c, site, **o: c.register_scale_and_shift(
            "w", site, input_shape=(3,), **o
        ),
    ),
}


def held(kind, sites, rows, batch_size, lead=()):
    _, of_input, of_output, _ = KINDS[kind]
    ids = kind.startswith("embedding")
    x = np.ones((*lead, rows, *of_input), dtype=int if ids else float)
    g = np.ones((*lead, rows, *of_output))
    return Held(
        dict.fromkeys(sites, x),
        dict.fromkeys(sites, g),
        np.ones((batch_size, 1)),
        batch_size,
    )


def run(collection, linearization):
    estimator = FisherEstimator(collection, estimation_mode="exact")
    shape = dict(collection.variables)["w"]
    state = estimator.init({"w": np.ones(shape)})
    return estimator.update_covs(state, linearization, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_has_no_more_rows_than_cases(kind):
    shape, _, _, register = KINDS[kind]

    def collection(*sites):
        def layers(empty):
            for site in sites:
                empty = register(empty, site, reuse="auto")
            return empty

        return collection_of(layers, shape)

    run(collection("a"), held(kind, "a", 4, 4))
    run(collection("a", "b"), held(kind, "ab", 2, 4))
    with pytest.raises(kc.errors.ShapeError, match=r"w: the 2 towers .* hold 8 cases"):
        run(collection("a", "b"), held(kind, "ab", 4, 4))
    # Flattened positions of the cases: three rows for each.
    with pytest.raises(
        kc.errors.ShapeError, match=r"w: the data of 'a' hold 12 .*num_uses"
    ):
        run(collection("a"), held(kind, "a", 12, 4))


MULTI = {
    "fully_connected": lambda c, site, **o: c.register_fully_connected_multi(
        "w", site, **o
    ),
    "embedding": lambda c, site, **o: c.register_embedding_multi("w", site, **o),
    "conv2d": lambda c, site, **o: c.register_conv2d_multi("w", site, 1, "SAME", **o),
}


@pytest.mark.parametrize("kind", MULTI)
def test_of_a_shared_layer_each_use_has_a_row_for_each_case(kind):
    shape, register = KINDS[kind][0], MULTI[kind]

    def collection(site, **options):
        return collection_of(lambda c: register(c, site, **options), shape)

    for taken, data in (
        (collection("a", num_uses=3), held(kind, "a", 12, 4)),
        (collection("a", num_uses=3), held(kind, "a", 4, 4, lead=(3,))),
        (collection(("a", "b")), held(kind, "ab", 4, 4)),
    ):
        run(taken, data)
    for refused, data in (
        (collection("a", num_uses=3), held(kind, "a", 12, 3)),
        (collection("a", num_uses=3), held(kind, "a", 4, 3, lead=(3,))),
        (collection(("a", "b")), held(kind, "ab", 4, 3)),
    ):
        with pytest.raises(kc.errors.ShapeError, match=r"w: .* hold 4 cases, .* is 3"):
            run(refused, data)


def test_a_layer_that_few_cases_reach_is_served():
    # An expert: two of the rows of the batch, and a loss for all four.
    data = held("fully_connected", "a", 2, 4)
    run(collection_of(lambda c: c.register_fully_connected("w", "a"), (2, 3)), data)


def test_flattened_positions_of_a_loss_are_served_if_cases_have_equally_many():
    layers = collection_of(lambda c: c.register_fully_connected("w", "a"), (2, 3))
    data = held("fully_connected", "a", 4, 4)
    tokens = Held(data.layer_inputs, data.gradients, np.ones((12, 1)), 4)
    run(layers, tokens)
    with pytest.raises(
        kc.errors.ShapeError, match=r"inputs have 10 rows .* no multiple"
    ):
        run(layers, Held(data.layer_inputs, data.gradients, np.ones((10, 1)), 4))


def test_of_generic_parameters_the_loss_tells_the_cases(rng):
    layers = kc.LayerCollection.of({"w": (4,)}).register_generic("w")
    collection = layers.register_loss_function(SQUARE, "outputs")
    estimator = FisherEstimator(collection, estimation_mode="gradients")
    state = estimator.init({"w": np.ones(4)})
    for size, error in (
        (4, None),
        (3, kc.errors.ShapeError),
        (8, kc.errors.ArgumentError),
    ):
        data = Held({}, {}, np.ones((4, 1)), size)
        if error is None:
            estimator.update_covs(state, data, 0.0, key=rng)
            continue
        with pytest.raises(error, match="batch_size"):
            estimator.update_covs(state, data, 0.0, key=rng)
