"""What is no chain of layers is refused, and the message names the layer."""

import numpy as np
import pytest
from estimator_cases import CATEGORICAL, NORMAL, draw_like_params

import kfac_core as kc
from kfac_core.errors import (
    NotComputedError,
    NotPositiveDefiniteError,
    StateError,
    UnsupportedError,
)
from kfac_core.estimator import BlockTridiagonalEstimator
from kfac_core.reference import Batch, Dense, Sequential, SequentialModel, Tanh

MODEL = SequentialModel(Sequential((Dense(3, 4), Tanh(), Dense(4, 2))))
ESTIMATOR = BlockTridiagonalEstimator(MODEL.layer_collection(CATEGORICAL))


def collection(*layers):
    """Return layers of inputs, outputs and options, named by their weights."""
    shapes = {f"w{i}": (m, n) for i, (m, n, _) in enumerate(layers)}
    made = kc.LayerCollection.of(shapes)
    for i, (_, _, options) in enumerate(layers):
        made = made.register_fully_connected(f"w{i}", f"site{i}", **options)
    return made.register_squared_error_loss("outputs")


NO_CHAINS = {
    "a width that is not the one before": (((3, 4, {}), (5, 2, {})), "w1"),
    "the wrong order": (((4, 2, {}), (3, 4, {})), "w1"),
    "EKFAC": (((3, 4, {}), (4, 2, {"approx": "ekfac"})), "w1"),
    "a diagonal block": (((3, 4, {"approx": "diagonal"}), (4, 2, {})), "w0"),
    "exact damping": (((3, 4, {"damping_type": "exact"}), (4, 2, {})), "w0"),
    "a diagonal factor": (
        ((3, 4, {}), (4, 2, {"diagonal_approx_for_input": True})),
        "w1",
    ),
    "averages unlike": (((3, 4, {"zero_debias": False}), (4, 2, {})), "w0"),
}


@pytest.mark.parametrize("name", NO_CHAINS)
def test_what_is_no_chain_is_refused(name):
    layers, guilty = NO_CHAINS[name]
    with pytest.raises(UnsupportedError, match=f"(?s)layer_collection: .*{guilty}"):
        BlockTridiagonalEstimator(collection(*layers))


def test_a_chain_is_taken():
    taken = BlockTridiagonalEstimator(collection((3, 4, {}), (4, 2, {})))
    assert taken == BlockTridiagonalEstimator(collection((3, 4, {}), (4, 2, {})))


@pytest.fixture
def given(rng):
    params = draw_like_params(MODEL, rng)
    return params, MODEL.linearize(params, Batch(rng.standard_normal((5, 3))))


def test_masks_are_refused(given, rng):
    class Masked:
        def __init__(self, base):
            self.base = base
            self.masks = {"outputs": np.asarray([1.0, 1.0, 0.0, 1.0, 1.0])}

        def __getattr__(self, name):
            return getattr(self.base, name)

    params, made = given
    state = ESTIMATOR.init(params)
    with pytest.raises(UnsupportedError, match="dense_0 have weights"):
        ESTIMATOR.update_covs(state, Masked(made), 0.5, key=rng)


def test_products_wait_for_inverses(given, rng):
    params, made = given
    state = ESTIMATOR.update_covs(ESTIMATOR.init(params), made, 0.5, key=rng)
    for read in (ESTIMATOR.multiply_inverse, ESTIMATOR.multiply):
        with pytest.raises(NotComputedError, match="update_inverses"):
            read(state, params)
    with pytest.raises(NotComputedError, match="update_inverses"):
        ESTIMATOR.full_fisher(state)


def test_a_layer_that_the_next_one_tells_all_of_needs_damping():
    model = SequentialModel(Sequential((Dense(1, 1, has_bias=False),) * 2))
    estimator = BlockTridiagonalEstimator(model.layer_collection(NORMAL), "exact")
    params = {name: np.ones((1, 1)) for name in estimator.diagonal.variables}
    made = model.linearize(params, Batch(np.ones((4, 1))))
    state = estimator.update_covs(estimator.init(params), made, 0.5)
    with pytest.raises(NotPositiveDefiniteError, match=r"damping .* dense_0"):
        estimator.update_inverses(state, 1e-40)
    estimator.update_inverses(state, 1e-6)


def test_products_have_the_dtypes_of_the_vectors(given, rng):
    params, made = given
    state = ESTIMATOR.update_covs(ESTIMATOR.init(params), made, 0.5, key=rng)
    state = ESTIMATOR.update_inverses(state, 0.1)
    short = {name: x.astype(np.float32) for name, x in params.items()}
    for read in (ESTIMATOR.multiply_inverse, ESTIMATOR.multiply):
        assert {x.dtype for x in read(state, short).values()} == {np.dtype("f4")}


def test_a_state_of_another_chain_is_refused(given):
    params, _ = given
    state = ESTIMATOR.init(params)
    with pytest.raises(StateError, match="pairs of layers"):
        ESTIMATOR.update_inverses(state._replace(cross=()), 0.1)
    with pytest.raises(StateError, match="expected a TridiagonalState"):
        ESTIMATOR.update_inverses(state.diagonal, 0.1)
