"""A run is the same in every layout: parameters, velocities and what is told."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.reference import (
    Batch,
    Conv2D,
    Dense,
    Flatten,
    Sequential,
    SequentialModel,
    Tanh,
)

MODEL = SequentialModel(
    Sequential(
        (Conv2D((2, 2, 2, 2), padding="VALID"), Tanh(), Flatten(), Dense(8, 8), Tanh())
    )
)
AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}  # OIHW, [out, in], a bias


def laid(tree):
    """Return parameters as PyTorch has them."""
    return {name: np.transpose(x, AXES[x.ndim]) for name, x in tree.items()}


def standard(tree):
    return {name: np.transpose(x, np.argsort(AXES[x.ndim])) for name, x in tree.items()}


class Relaid:
    """The linearization of the same model at parameters as PyTorch has them."""

    def __init__(self, linearization):
        self._own = linearization

    def __getattr__(self, name):
        return getattr(self._own, name)

    def param_gradients(self, vectors, names=None):
        return laid(self._own.param_gradients(vectors))

    def push_forward(self, tangents):
        return self._own.push_forward(standard(tangents))


class RelaidModel:
    def linearize(self, params, batch):
        return Relaid(MODEL.linearize(standard(params), batch))


def relaid_collection(collection, params):
    """Return the registrations of a collection, of the parameters as they lie."""
    relaid = kc.LayerCollection.of(params)
    for layer in collection.layers:
        (site,) = layer.sites
        if len(params[layer.params[0]].shape) == 4:
            relaid = relaid.register_conv2d(
                layer.params, site, 1, "VALID", layout="OIHW"
            )
        else:
            relaid = relaid.register_fully_connected(
                layer.params, site, layout="out_in"
            )
    for loss in collection.losses:
        relaid = relaid.register_loss_function(loss.loss, loss.towers[0])
    return relaid


@pytest.mark.parametrize("momentum_type", ["qmodel", "regular"])
def test_a_run_is_the_same_in_every_layout(momentum_type, rng):
    batch = Batch(rng.normal(size=(12, 3, 3, 2)), rng.integers(0, 8, 12))
    collection = MODEL.layer_collection(
        kc.losses.CategoricalLogitsNegativeLogProbLoss()
    )
    params = MODEL.init(rng, like=batch.inputs)
    options = {"damping": 0.5, "momentum_type": momentum_type, "momentum": 0.9}
    if momentum_type == "regular":
        options["learning_rate"] = 0.1
    else:
        options |= {"adapt_damping": True, "momentum": None}
    runs = []
    for model, layers, own in (
        (MODEL, collection, params),
        (RelaidModel(), relaid_collection(collection, laid(params)), laid(params)),
    ):
        optimizer = kc.KfacOptimizer(model, layers, estimation_mode="exact", **options)
        state, told = optimizer.init(own), None
        for _ in range(4):
            state, own, told = optimizer.step(state, own, batch)
        runs.append((own, state, told))
    (first, one, told), (second, two, also) = runs
    for name, x in laid(first).items():
        np.testing.assert_allclose(second[name], x, rtol=0, atol=1e-11)
    for name, x in laid(one.velocity).items():
        np.testing.assert_allclose(two.velocity[name], x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(told.loss, also.loss, rtol=1e-11)
    moved = max(np.abs(first[name] - params[name]).max() for name in params)
    assert moved > 0.01
