"""Statistics and inverses of all layers are updated together, or of none."""

import numpy as np
import pytest

from kfac_core import tree
from kfac_core.estimator import FisherEstimator
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh

MODEL = SequentialModel(Sequential((Dense(2, 2), Tanh(), Dense(2, 2))))
ESTIMATOR = FisherEstimator(
    MODEL.layer_collection(NormalMeanNegativeLogProbLoss()), estimation_mode="exact"
)


def known(asarray):
    """Return parameters, a batch, and a state that has seen it, with inverses."""
    rng = np.random.default_rng(0)
    params = {
        name: asarray(part) for name, part in MODEL.init(rng, like=np.zeros(1)).items()
    }
    batch = Batch(asarray(rng.normal(size=(6, 2))), asarray(rng.normal(size=(6, 2))))
    state = ESTIMATOR.init(params)
    state = ESTIMATOR.update_covs(state, MODEL.linearize(params, batch), 0.9)
    return params, batch, ESTIMATOR.update_inverses(state, 0.1)


def assert_same_but_flags(new, old):
    for name, block in old.blocks.items():
        found = new.blocks[name]
        for flag in ("cov_ok", "derived_ok"):
            found = found.with_flag(flag, block.flag(flag))
        tree.map(np.testing.assert_array_equal, found, block)
    assert int(new.cases) == int(old.cases)


@pytest.mark.parametrize("value", [np.nan, 1e200])
def test_data_of_one_layer_are_refused_for_all(jax, value):
    """Of the second layer the inputs are tanh, and fine: it keeps its own as well."""
    params, batch, state = known(jax.numpy.asarray)
    bad = batch._replace(inputs=batch.inputs.at[0, 0].set(value))

    @jax.jit
    def update(state, params, batch):
        return ESTIMATOR.update_covs(state, MODEL.linearize(params, batch), 0.9)

    refused = update(state, params, bad)
    assert not bool(refused.ok)
    assert not any(bool(block.flag("cov_ok")) for block in refused.blocks.values())
    assert_same_but_flags(refused, state)
    assert bool(update(refused, params, batch).ok)


@pytest.mark.parametrize("tolerance", [None, 0.0])
def test_one_layer_without_inverse_is_refused_for_all(jax, tolerance):
    params, batch, state = known(jax.numpy.asarray)
    zeros = batch._replace(inputs=batch.inputs * 0)
    state = ESTIMATOR.update_covs(state, MODEL.linearize(params, zeros), 0.0)
    dampings = {"dense_0": 0.0, "dense_1": 0.1}

    @jax.jit
    def update(state, dampings):
        return ESTIMATOR.update_inverses(state, dampings, tolerance=tolerance)

    refused = update(state, dampings)
    assert not bool(refused.flag("derived_ok"))
    assert_same_but_flags(refused, state)
    assert bool(update(refused, {"dense_0": 0.1, "dense_1": 0.1}).ok)


def test_layers_that_are_not_updated_keep_their_flags(jax):
    params, batch, state = known(jax.numpy.asarray)

    @jax.jit
    def update(state, batch):
        linearization = MODEL.linearize(params, batch)
        return ESTIMATOR.update_covs(state, linearization, 0.9, layers=["dense_0"])

    refused = update(state, batch._replace(inputs=batch.inputs * np.nan))
    assert not bool(refused.flag("cov_ok", ["dense_0"]))
    assert bool(refused.flag("cov_ok", ["dense_1"]))
