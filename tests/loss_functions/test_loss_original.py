"""Numbers of the original's own tests, and of runs of it."""

import numpy as np
import pytest

from kfac_core.contrib import loss_functions as contrib
from kfac_core.errors import ArgumentError, UnsupportedError
from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    MultiBernoulliNegativeLogProbLoss,
    NormalMeanNegativeLogProbLoss,
    NormalMeanVarianceNegativeLogProbLoss,
)

LOGITS = np.asarray([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]])
V = np.asarray([[1.0, -1.0, 2.0], [0.5, 1.0, 3.0]])
TARGETS = {
    "CategoricalLogits": np.asarray([2, 0]),
    "OnehotCategoricalLogits": np.eye(3)[[2, 0]],
    "MultiBernoulli": np.asarray([[1, 0, 1], [0, 0, 1]]),
    "NormalMean": V,
    "NormalMeanVariance": V,
}


def held(name, **options):
    """A holder, with the logits for what it takes."""
    make = getattr(contrib, f"{name}NegativeLogProbLoss")
    inputs = (LOGITS, np.exp(LOGITS)) if name == "NormalMeanVariance" else (LOGITS,)
    return make(*inputs, targets=TARGETS[name], **options)


def assert_digits(found, recorded):
    np.testing.assert_allclose(found, recorded, atol=6e-7, rtol=0)


def test_totals():
    x = np.asarray([[1.0, 2.0], [3.0, 4.0]])
    total = CategoricalLogitsNegativeLogProbLoss().evaluate(x, np.asarray([0, 1]))
    assert float(total) == pytest.approx(1.6265233, abs=2e-7)
    targets = np.asarray([[3.0, 1.0], [4.0, 2.0]])
    total = NormalMeanNegativeLogProbLoss(var=4).evaluate(x, targets)
    squares = ((x - targets) ** 2).sum() / 8
    assert float(total) == pytest.approx(squares + 2 * np.log(8 * np.pi), abs=1e-12)


def test_leading_axes_of_a_vector():
    logits = np.asarray([1.0, 2.0, 3.0])
    p = np.exp(logits) / np.exp(logits).sum()
    fisher = np.diag(p) - np.outer(p, p)
    loss = CategoricalLogitsNegativeLogProbLoss()
    for v in (logits, logits[None], np.stack([logits] * 4)):
        np.testing.assert_allclose(loss.multiply_fisher(logits, v), v @ fisher)


def test_products_with_the_categorical_fisher():
    loss = CategoricalLogitsNegativeLogProbLoss()
    product = loss.multiply_fisher(LOGITS, V)[0]
    assert_digits(product, [-0.015826, -0.532476, 0.548302])
    product = loss.multiply_fisher_factor(LOGITS, V)[0]
    assert_digits(product, [0.170713, -0.846277, 0.675563])
    product = loss.multiply_fisher_factor_transpose(LOGITS, V)[0]
    assert_digits(product, [-0.052744, -1.076361, 0.672250])
    column = loss.multiply_fisher_factor_replicated_one_hot(LOGITS, (1,))[0]
    assert_digits(column, [-0.044538, 0.373633, -0.329095])


def test_products_with_the_other_fishers():
    events = MultiBernoulliNegativeLogProbLoss()
    product = events.multiply_fisher(LOGITS, V)[0]
    assert_digits(product, [0.196612, -0.104994, 0.090353])
    product = events.multiply_fisher_factor(LOGITS, V)[1]
    assert_digits(product, [0.25, 0.443409, 1.330228])
    pair = NormalMeanVarianceNegativeLogProbLoss()
    inputs = LOGITS, np.exp(LOGITS)
    of_mean, of_variance = pair.multiply_fisher(inputs, (V, V))
    assert_digits(of_mean[0], [0.367879, -0.135335, 0.099574])
    assert_digits(of_variance[0], [0.067668, -0.009158, 0.002479])
    product = pair.multiply_fisher_factor_transpose(inputs, (V, V))[1]
    wanted = [0.5, 0.606531, 4.946164, 0.353553, 0.260130, 5.766347]
    assert_digits(product, wanted)


@pytest.mark.parametrize("name", TARGETS)
def test_a_holder_calls_its_spec(name):
    loss = held(name, seed=np.random.default_rng(0))
    assert loss.params is loss.inputs
    assert loss.dtype == np.float64
    assert loss.targets is TARGETS[name]
    np.testing.assert_array_equal(
        loss.evaluate(), loss.spec.evaluate(loss.inputs, loss.targets)
    )
    default, given = loss.evaluate_on_sample(), np.random.default_rng(0)
    assert default == loss.evaluate_on_sample(given)
    assert loss.sample(given).shape == TARGETS[name].shape
    shape = loss.fisher_factor_inner_shape
    assert shape == loss.fisher_factor_inner_static_shape
    assert shape == ((2, 6) if name == "NormalMeanVariance" else (2, 3))
    inner = np.arange(float(np.prod(shape))).reshape(shape)
    if name == "NormalMeanVariance":
        with pytest.raises(UnsupportedError):
            loss.hessian_factor_inner_shape  # noqa: B018
        with pytest.raises(UnsupportedError):
            loss.multiply_hessian_factor(inner)
        return
    assert loss.hessian_factor_inner_static_shape == shape
    for verb in ("", "_factor", "_factor_transpose"):
        np.testing.assert_array_equal(
            getattr(loss, f"multiply_hessian{verb}")(inner),
            getattr(loss.spec, f"multiply_ggn{verb}")(loss.inputs, inner),
        )
    np.testing.assert_array_equal(
        loss.multiply_hessian_factor_replicated_one_hot([2]),
        loss.multiply_fisher_factor_replicated_one_hot((2,)),
    )


def test_a_holder_says_what_it_lacks():
    loss = contrib.CategoricalLogitsNegativeLogProbLoss(LOGITS)
    with pytest.raises(ArgumentError, match="targets is None; give them"):
        loss.evaluate()
    with pytest.raises(ArgumentError, match="seed is None; give a generator"):
        loss.evaluate_on_sample()
    assert contrib.NormalMeanNegativeLogProbLoss(LOGITS).spec.var == 0.5
