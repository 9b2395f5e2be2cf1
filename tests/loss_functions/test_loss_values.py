"""Values that a loss cannot take: refused where known, and NaN within a trace."""

import math

import numpy as np
import pytest
from loss_cases import CASES, assert_close, joined, mapped, parts

from kfac_core.errors import ArgumentError, DTypeError, NotFiniteError
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss

NAN, INF = math.nan, math.inf
X = np.zeros((2, 3))


def of(name):
    return CASES[name].loss


WRONG_TARGETS = {
    "bernoulli": [[7.0, 0, 0], [-3.0, 0, 0], [NAN, 0, 0], [1.001, 0, 0], [INF, 0, 0]],
    "one-hot": [
        [1.0, 1, 1],
        [0, 0, 0],
        [2.0, -1, 0],
        [NAN, 1, 0],
        [0.5, 0.49, 0],
        [INF, 0, 0],
    ],
    "normal": [[NAN, 0, 0], [INF, 0, 0]],
    "normal-by-output": [[NAN, 0, 0], [-INF, 0, 0]],
    "mean-variance": [[NAN, 0, 0], [INF, 0, 0]],
    "poisson": [[NAN, 0, 0]],
}


def refusals():
    return [(name, row) for name, rows in WRONG_TARGETS.items() for row in rows]


def inputs_of(name):
    return (X, X + 1) if name == "mean-variance" else X


@pytest.mark.parametrize(("name", "row"), refusals(), ids=str)
def test_wrong_targets_are_refused(name, row, plain_library):
    loss, library = of(name), plain_library
    good = np.asarray([1.0, 0, 0])
    targets = library.asarray(np.stack([good, np.asarray(row)]))
    inputs = mapped(library.asarray, inputs_of(name))
    for call in (
        lambda *mask: loss.evaluate(inputs, targets, *mask),
        lambda *mask: loss.gradient(inputs, targets, *mask),
        lambda *mask: loss.half_gradient(inputs, targets, *mask),
        lambda *mask: loss.multiply_hessian(inputs, targets, inputs, *mask),
    ):
        with pytest.raises(ArgumentError, match=rf"{loss.label}: targets are from"):
            call()
        call(library.asarray(np.asarray([1.0, 0.0])))  # of padding they may be so


@pytest.mark.parametrize("name", ["bernoulli", "one-hot", "categorical"])
def test_within_a_trace_wrong_targets_make_nan(name, jax):
    loss, wrong = of(name), [[7.0, 0, 0], [1.0, 0, 0]]
    targets = np.asarray([3, 0]) if name == "categorical" else np.asarray(wrong)
    there = jax.numpy.asarray(targets)

    @jax.jit
    def run(logits, targets):
        return loss.evaluate(logits, targets), loss.gradient(logits, targets)

    value, gradient = run(jax.numpy.asarray(X), there)
    assert np.isnan(value)
    np.testing.assert_array_equal(np.isnan(gradient).any(axis=1), [True, False])
    right = np.stack([targets[1], targets[1]])
    assert_close(gradient[1], loss.gradient(X, right)[1])


def test_soft_targets_are_the_expectation_of_the_loss(rng):
    p, x = rng.random((4, 1)), rng.standard_normal((4, 1))
    loss = of("bernoulli")
    ones, zeros = np.ones((4, 1)), np.zeros((4, 1))
    mean = p * loss.gradient(x, ones) + (1 - p) * loss.gradient(x, zeros)
    assert_close(loss.gradient(x, p), mean)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rounded_distributions_are_served(dtype, rng):
    weights = np.exp(3 * rng.standard_normal((50, 1000)))
    p = (weights / weights.sum(axis=1, keepdims=True)).astype(dtype)
    assert np.abs(p.astype(float).sum(axis=1) - 1).max() > 0
    logits = rng.standard_normal((50, 1000))
    # Also cast to float64 after it was rounded to float32.
    wide = p if dtype == "float16" else p.astype(float)
    assert np.isfinite(of("one-hot").gradient(logits, wide)).all()


def test_an_infinite_logit_of_a_sure_event_costs_nothing():
    logits = np.asarray([[INF, -INF, 0.0]])
    value = of("bernoulli").evaluate(logits, np.asarray([[1.0, 0.0, 1.0]]))
    assert_close(value, np.log(2))
    assert of("bernoulli").evaluate(logits, np.asarray([[0.0, 0.0, 1.0]])) == INF


def spoilt(name, value):
    inputs = mapped(np.array, inputs_of(name))
    parts(inputs)[-1][0, 0] = value
    return inputs


@pytest.mark.parametrize("name", CASES)
def test_inputs_that_are_nan_are_refused_by_every_verb(name, rng, plain_library):
    library, loss = plain_library, of(name)
    inputs = mapped(library.asarray, spoilt(name, NAN))
    good = inputs_of(name)
    targets = library.asarray(loss.sample(rng, good))
    inner = library.asarray(np.ones(loss.fisher_factor_inner_shape(good)))
    noise = library.asarray(np.full(loss.noise_shape(good), 0.5))
    vector = mapped(library.asarray, good)
    mask = library.asarray(np.asarray([0.0, 1.0]))
    for verb, *rest in (
        ("evaluate", targets),
        ("gradient", targets),
        ("multiply_fisher", vector),
        ("multiply_fisher_factor", inner),
        ("multiply_fisher_factor_transpose", vector),
        ("multiply_fisher_factor_replicated_one_hot", (0,)),
        ("multiply_hessian", targets, vector),
    ):
        with pytest.raises(NotFiniteError, match=f"{loss.label}: .* holds NaN"):
            getattr(loss, verb)(inputs, *rest)
        getattr(loss, verb)(inputs, *rest, mask)  # of padding they may be so
    with pytest.raises(NotFiniteError, match="holds NaN"):
        loss.sample_from(noise, inputs)
    assert tuple(loss.sample_from(noise, inputs, mask).shape) == loss.targets_shape(
        good
    )


@pytest.mark.parametrize("name", CASES)
def test_vectors_that_are_nan_or_complex_are_refused(name):
    loss, inputs = of(name), inputs_of(name)
    inner = np.ones(loss.fisher_factor_inner_shape(inputs))
    with pytest.raises(NotFiniteError, match="vector holds NaN"):
        loss.multiply_fisher(inputs, mapped(lambda x: x * NAN, inputs))
    with pytest.raises(NotFiniteError, match="inner holds NaN"):
        loss.multiply_fisher_factor(inputs, inner * NAN)
    with pytest.raises(DTypeError, match="inner has dtype complex128"):
        loss.multiply_fisher_factor(inputs, inner * 1j)


def test_logits_without_a_probability_are_refused():
    loss = of("categorical")
    for row in ([INF, 0, 0], [-INF] * 3):
        logits = np.asarray([row, [0.0, 0, 0]])
        with pytest.raises(NotFiniteError, match="logits holds NaN or infinity"):
            loss.gradient(logits, np.asarray([0, 0]))
    some = np.asarray([[-INF, 0, 0], [0.0, 0, 0]])
    assert np.isfinite(loss.gradient(some, np.asarray([1, 0]))).all()


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_variances_are_positive(value, jax):
    loss, inputs = of("mean-variance"), spoilt("mean-variance", value)
    with pytest.raises(ArgumentError, match="variance is out of range"):
        loss.gradient(inputs, X)
    targets = jax.numpy.asarray(X)
    traced = jax.jit(lambda *given: loss.gradient(given, targets))
    gradient = joined(mapped(np.asarray, traced(*map(jax.numpy.asarray, inputs))))
    assert np.isnan(gradient[0]).any()
    assert np.isfinite(gradient[1]).all()


# A loss of a user says itself what it counts.
@pytest.mark.parametrize("name", [name for name in CASES if name != "poisson"])
def test_within_a_trace_no_sample_of_nan_looks_like_a_target(name, jax):
    loss, inputs = of(name), spoilt(name, NAN)
    noise = np.full(loss.noise_shape(inputs), 0.5)
    drawn = np.asarray(jax.jit(loss.sample_from)(noise, inputs))
    if name == "categorical":
        np.testing.assert_array_equal(drawn[0], -1)
        assert drawn[1] >= 0
        other = CategoricalLogitsNegativeLogProbLoss(ignore_index=-1)
        assert np.asarray(jax.jit(other.sample_from)(noise, inputs))[0] == -2
    else:
        assert np.isnan(drawn[0]).any()
        assert np.isfinite(drawn[1]).all()


@pytest.mark.parametrize("weight", [-1.0, NAN, INF])
def test_a_mask_of_no_weights_is_refused_or_makes_nan(weight, jax, plain_library):
    library, loss = plain_library, of("normal")
    mask = np.asarray([weight, 1.0])
    with pytest.raises(
        ArgumentError, match=r"NormalMean.*: mask has a negative weight"
    ):
        loss.gradient(*map(library.asarray, (X, X + 1, mask)))
    if library.package == "jax":
        for verb in (loss.gradient, loss.half_gradient, loss.multiply_fisher):
            there = map(jax.numpy.asarray, (X, X + 1, mask))
            rows = np.isnan(jax.jit(verb)(*there)).any(axis=1)
            np.testing.assert_array_equal(rows, [True, False])


def test_noise_is_uniform():
    loss, noise = of("normal"), np.full((2, 2, 3), 0.5)
    for value in (-0.1, 1.0, NAN):
        with pytest.raises(ArgumentError, match="noise is not all in"):
            loss.sample_from(np.full((2, 2, 3), value), X)
    with pytest.raises(DTypeError, match="noise has dtype int64"):
        loss.sample_from(noise.astype(np.int64), X)
    # What is below one, and is one in the inputs' dtype.
    nearly = np.full((2, 2, 3), np.nextafter(1, 0))
    assert np.isfinite(loss.sample_from(nearly, X.astype(np.float32))).all()


def test_keys_and_numbers_of_samples_are_checked(rng):
    loss = of("categorical")
    for key in (0, None, "key"):
        with pytest.raises(ArgumentError, match=r"Categorical.*: key is a"):
            loss.sample(key, X)
    for number in (0, -1, 2.5, "3", True):
        with pytest.raises(ArgumentError, match=r"Categorical.*: num_samples is"):
            loss.sample(rng, X, number)
