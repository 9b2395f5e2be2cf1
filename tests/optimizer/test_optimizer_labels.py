"""A step within a trace whose labels or logits are none changes nothing."""

import numpy as np
import pytest

import kfac_core as kc
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel

MODEL = SequentialModel(Sequential((Dense(2, 3),)))
X, LABELS = np.ones((4, 2)), np.asarray([0, 1, 2, 0])


def same(jax, one, other):
    return all(map(np.array_equal, *map(jax.tree_util.tree_leaves, (one, other))))


@pytest.mark.parametrize("mode", ["gradients", "empirical"])
def test_nothing_changes_and_ok_is_false(mode, jax, rng):
    collection = MODEL.layer_collection(CategoricalLogitsNegativeLogProbLoss())
    optimizer = kc.KfacOptimizer(
        MODEL, collection, learning_rate=0.1, damping=0.1, estimation_mode=mode
    )
    like = jax.numpy.asarray(X)
    params = {n: jax.numpy.asarray(p) for n, p in MODEL.init(rng, like=X).items()}
    state = optimizer.init(params)

    @jax.jit
    def step(state, params, batch, key):
        drawing = {"key": key} if mode == "gradients" else {}
        return optimizer.step(state, params, batch, **drawing)

    key = jax.random.key(0)
    out_of_range = Batch(like, jax.numpy.asarray([0, 1, 7, 0]))
    unknown = Batch(like * np.nan, jax.numpy.asarray(LABELS))
    for batch in (out_of_range, unknown):
        new, moved, told = step(state, params, batch, key)
        assert not bool(told.ok)
        assert same(jax, moved, params)
        assert int(new.counter) == 0
    _, moved, told = step(state, params, Batch(like, jax.numpy.asarray(LABELS)), key)
    assert bool(told.ok)
    assert not same(jax, moved, params)
