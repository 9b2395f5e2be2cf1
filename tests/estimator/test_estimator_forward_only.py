"""The estimator makes no backward pass where no block takes gradients."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from estimator_cases import (
    CASES,
    CATEGORICAL,
    assert_close,
    assert_states_close,
    draw,
    moved,
)

import kfac_core as kc
from kfac_core.estimator import ESTIMATION_MODES, FisherEstimator

MODEL = CASES["dense"].model


@dataclass
class Counting:
    """A linearization that counts its backward passes."""

    base: Any
    passes: int = 0

    def __getattr__(self, name):
        return getattr(self.base, name)

    def output_gradients(self, vectors):
        self.passes += 1
        return self.base.output_gradients(vectors)


def collection(*forward_only):
    """Return the model's layers, some of them without gradients."""
    whole = MODEL.layer_collection(CATEGORICAL)
    layers = [
        replace(layer, block=kc.blocks.ForwardOnlyFB(layer.block))
        if layer.name in forward_only
        else layer
        for layer in whole.layers
    ]
    return replace(whole, layers=tuple(layers))


def data(rng):
    drawn = draw(CASES["dense"], rng)
    return drawn.params, drawn.batch._replace(targets=rng.integers(3, size=5))


@pytest.mark.parametrize("mode", ESTIMATION_MODES)
def test_no_mode_asks_for_a_backward_pass_or_a_key(rng, mode):
    params, batch = data(rng)
    made = Counting(MODEL.linearize(params, batch))
    estimator = FisherEstimator(collection("dense_0", "dense_1"), estimation_mode=mode)
    state = estimator.update_covs(estimator.init(params), made, 0.5)
    assert made.passes == 0
    assert not estimator.needs_randomness
    assert estimator.noise_shapes(made) == {}
    for site in ("dense_0", "dense_1"):
        x = np.concatenate([made.layer_inputs[site], np.ones((5, 1))], axis=1)
        block = estimator.blocks[site]
        size = MODEL.network.param_layers[int(site[-1])].output_size
        found = block.full_fisher_block(state.blocks[site])
        assert_close(found, np.kron(x.T @ x / 5, np.eye(size)))


def test_a_layer_that_takes_gradients_has_them_beside_one_that_does_not(rng):
    params, batch = data(rng)
    made = Counting(MODEL.linearize(params, batch))
    mixed = FisherEstimator(collection("dense_0"), estimation_mode="empirical")
    state = mixed.update_covs(mixed.init(params), made, 0.5)
    assert made.passes == 1
    plain = FisherEstimator(collection(), estimation_mode="empirical")
    other = plain.update_covs(plain.init(params), made, 0.5)
    assert_states_close(state.blocks["dense_1"], other.blocks["dense_1"])
    # The layer without gradients alone.
    mixed.update_covs(state, made, 0.5, layers=["dense_0"])
    assert made.passes == 2


def test_a_step_on_every_library(plain_library, rng):
    library = plain_library
    params, batch = data(rng)
    estimator = FisherEstimator(collection("dense_0", "dense_1"))

    def step(params, batch):
        state = estimator.update_covs(
            estimator.init(params), MODEL.linearize(params, batch), 0.5
        )
        state = estimator.update_inverses(state, 0.1)
        return estimator.multiply_inverse(state, params)

    truth = step(params, batch)
    found = library.compiled(step)(moved(library, params), moved(library, batch))
    for name, part in truth.items():
        assert_close(library.to_numpy(found[name]), part)


def test_a_layer_is_registered_so_by_name():
    shapes = {"w": (3, 2), "b": (2,)}
    layers = kc.LayerCollection.of(shapes).register_fully_connected(
        ("w", "b"), "site", approx="foof"
    )
    own = kc.blocks.FullyConnectedKFACBasicFB(3, 2, True)
    (layer,) = layers.layers
    assert layer.block == kc.blocks.ForwardOnlyFB(own, name=layer.name)
