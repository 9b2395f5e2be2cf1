"""Under a trace that chooses once, new and old states of all layers are one choice."""

import numpy as np
import pytest
from estimator_cases import CATEGORICAL

from kfac_core import tree
from kfac_core.estimator import FisherEstimator
from kfac_core.reference import Dense, Sequential, SequentialModel, Tanh

MODEL = SequentialModel(Sequential((Dense(4, 5), Tanh(), Dense(5, 3), Dense(3, 2))))


@pytest.fixture
def estimator():
    return FisherEstimator(MODEL.layer_collection(CATEGORICAL))


@pytest.fixture
def state(estimator, rng):
    jax = pytest.importorskip("jax")
    params = {
        name: jax.numpy.zeros(shape)
        for name, shape in estimator.layer_collection.variables
    }
    blocks = {}
    for name, block in estimator.blocks.items():
        sizes = (block.input_size, block.output_size)
        x, g = (jax.numpy.asarray(rng.standard_normal((8, n))) for n in sizes)
        blocks[name] = block.update_covs(block.init(like=x), x, g, 0.9)
    return estimator.init(params)._replace(blocks=blocks)


def test_a_trace_of_jax_has_one_choice_for_all_layers(estimator, state):
    jax = pytest.importorskip("jax")
    traced = jax.make_jaxpr(estimator.update_inverses)(state, 0.1)
    choices = [eqn for eqn in traced.eqns if eqn.primitive.name == "cond"]
    assert len(estimator.layers) == 3
    assert len(choices) == 1


def test_one_layer_that_has_no_inverse_keeps_all_as_they_were(estimator, state):
    jax = pytest.importorskip("jax")
    update = jax.jit(estimator.update_inverses)
    old = update(state, 0.1)
    name = estimator.layers[-1].name
    block = old.blocks[name]
    spoilt = block.input_factor._replace(
        cov=tree.map(lambda x: -x, block.input_factor.cov)._replace(
            weight=block.input_factor.cov.weight
        )
    )
    blocks = old.blocks | {name: block._replace(input_factor=spoilt)}
    new = update(old._replace(blocks=blocks), 0.2)
    assert not bool(new.flag("derived_ok"))
    for layer, block in new.blocks.items():
        was = old.blocks[layer]
        for own, its in zip(
            tree.leaves((block.input_factor.derived, block.output_factor.derived)),
            tree.leaves((was.input_factor.derived, was.output_factor.derived)),
            strict=True,
        ):
            np.testing.assert_array_equal(own, its)
        assert float(block.damping) == float(was.damping)
