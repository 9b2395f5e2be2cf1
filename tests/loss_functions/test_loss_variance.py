"""A variance for each output: of any shape that broadcasts, kept hashable."""

import math
import pickle

import numpy as np
import pytest
from loss_cases import LEADING, SIZE, assert_close

import kfac_core as kc
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss

VAR = np.exp(np.linspace(-1, 1, 6)).reshape(2, 3)


def test_a_spec_holds_nested_tuples_whatever_it_is_given(library):
    loss = NormalMeanNegativeLogProbLoss(library.asarray(VAR))
    assert loss.var == tuple(map(tuple, VAR.tolist()))
    assert loss == NormalMeanNegativeLogProbLoss(VAR.tolist())
    assert hash(loss) == hash(pickle.loads(pickle.dumps(loss)))
    number = NormalMeanNegativeLogProbLoss(library.asarray(np.asarray(2.0)))
    assert (number, number.var) == (NormalMeanNegativeLogProbLoss(2), 2.0)


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 1), (2, 3), (1, 2, 3), (4, 2, 3)])
def test_a_variance_broadcasts_to_the_outputs(shape, rng, library):
    # One and the same as the loss whose variances are inputs.
    var = np.exp(rng.standard_normal(shape))
    loss, other = NormalMeanNegativeLogProbLoss(var), PAIR
    mean, targets, v = (rng.standard_normal((*LEADING, SIZE)) for _ in range(3))
    whole = np.broadcast_to(var, mean.shape)
    there, t, w = map(library.asarray, (mean, targets, v))
    zeros = np.zeros_like(v)
    found = {
        "evaluate": loss.evaluate(there, t),
        "gradient": loss.gradient(there, t),
        "multiply_fisher": loss.multiply_fisher(there, w),
        "multiply_ggn": loss.multiply_ggn(there, w),
        "multiply_fisher_factor_transpose": loss.multiply_fisher_factor_transpose(
            there, w
        ),
    }
    inputs = (mean, whole)
    expected = {
        "evaluate": other.evaluate(inputs, targets),
        "gradient": other.gradient(inputs, targets)[0],
        "multiply_fisher": other.multiply_fisher(inputs, (v, zeros))[0],
        "multiply_ggn": other.multiply_fisher(inputs, (v, zeros))[0],
        "multiply_fisher_factor_transpose": v / np.sqrt(whole),
    }
    for verb, answer in found.items():
        assert_close(library.to_numpy(answer), expected[verb], 1e-13)
    noise = rng.random(loss.noise_shape(mean))
    drawn = library.to_numpy(loss.sample_from(library.asarray(noise), there))
    assert_close(drawn, other.sample_from(noise, inputs), 1e-13)


PAIR = kc.losses.NormalMeanVarianceNegativeLogProbLoss()


@pytest.mark.parametrize("shape", [(2,), (3, 1), (1, 1, 1, 3), (5, 2, 3)])
def test_another_shape_is_refused(shape, rng):
    mean = rng.standard_normal((*LEADING, SIZE))
    with pytest.raises(ShapeError, match=r"NormalMean.*: var has shape"):
        NormalMeanNegativeLogProbLoss(np.ones(shape)).gradient(mean, mean)


@pytest.mark.parametrize(
    "var",
    [
        [1.0, 0.0],
        [1.0, -1.0],
        [math.nan, 1.0],
        [1.0, math.inf],
        [],
        [[1.0], [1.0, 2.0]],
        "1",
        None,
        True,
        1j,
        {"var": 1.0},
        np.asarray(["a"]),
        np.ones(2) * 1j,
    ],
    ids=repr,
)
def test_what_is_no_variance_is_refused(var):
    with pytest.raises(ArgumentError, match=r"NormalMean.*: var is .* positive"):
        NormalMeanNegativeLogProbLoss(var)


def test_a_traced_variance_is_refused(jax):
    with pytest.raises(ArgumentError, match="var is"):
        jax.jit(lambda v: NormalMeanNegativeLogProbLoss(v).var)(jax.numpy.ones(2))


def test_a_variance_outside_of_the_dtype_is_refused():
    mean = np.ones((4, 2), dtype=np.float32)
    for var in (1e-60, [1.0, 1e-60], 1e60, [1.0, 1e60]):
        loss = NormalMeanNegativeLogProbLoss(var)
        with pytest.raises(ArgumentError, match=r"var has entries .* float32"):
            loss.gradient(mean, mean)
        assert np.isfinite(loss.gradient(mean.astype(float), 0 * mean)).all()


def test_an_estimator_weighs_each_output(rng):
    model = kc.reference.SequentialModel(
        kc.reference.Sequential((kc.reference.Dense(2, 3, has_bias=False),))
    )
    var = (0.5, 1.0, 4.0)
    collection = model.layer_collection(NormalMeanNegativeLogProbLoss(var))
    batch = kc.reference.Batch(rng.standard_normal((5, 2)))
    params = model.init(rng, like=batch.inputs)
    estimator = kc.FisherEstimator(collection, estimation_mode="exact")
    state = estimator.init(params)
    state = estimator.update_covs(state, model.linearize(params, batch), 0.0)
    x = batch.inputs
    block = estimator.blocks["dense_0"].full_fisher_block(state.blocks["dense_0"])
    assert_close(block, np.kron(x.T @ x / 5, np.diag(1 / np.asarray(var))))
