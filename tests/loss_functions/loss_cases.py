"""The losses under test, their data, and their expectations by plain enumeration."""

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from poisson_loss import PoissonLoss

from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    LossFunction,
    MultiBernoulliNegativeLogProbLoss,
    NormalMeanNegativeLogProbLoss,
    NormalMeanVarianceNegativeLogProbLoss,
    OnehotCategoricalLogitsNegativeLogProbLoss,
)

LEADING = (4, 2)  # cases and positions
SIZE = 3
VARIANCES = (2.5, 0.1, 7.0)  # of the three outputs


class LossCase(NamedTuple):
    """A loss, a maker of its inputs, and all its targets with their probabilities."""

    loss: LossFunction
    inputs: Callable[[np.random.Generator], Any]
    outcomes: Callable[[Any], Iterator[tuple[np.ndarray, np.ndarray]]]


def shape_of(inputs):
    return parts(inputs)[0].shape


def parts(data):
    return data if isinstance(data, tuple) else (data,)


def joined(data):
    """The arrays of inputs, or of what is like them, side by side."""
    return np.concatenate(parts(data), axis=-1)


def mapped(function, data):
    if isinstance(data, tuple):
        return tuple(function(part) for part in data)
    return function(data)


def reals(rng):
    return 2 * rng.standard_normal((*LEADING, SIZE))


def mean_and_variance(rng):
    return reals(rng), np.exp(0.5 * reals(rng))


def labels(logits):
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    for label in range(SIZE):
        yield np.full(logits.shape[:-1], label), p[..., label]


def one_hots(logits):
    for label, p in labels(logits):
        yield np.eye(SIZE)[label], p


def events(logits):
    p = 1 / (1 + np.exp(-logits))
    for bits in product([0, 1], repeat=SIZE):
        target = np.broadcast_to(np.asarray(bits), logits.shape)
        yield target, np.where(target, p, 1 - p).prod(axis=-1)


def counts(log_rates):
    """All counts that have a probability, each entry of a position like the others."""
    rate = np.exp(log_rates)
    for k in range(160):
        with np.errstate(under="ignore"):
            log_p = k * log_rates - rate - math.lgamma(k + 1)
            yield np.full(log_rates.shape, float(k)), np.exp(log_p)


def nodes(mean, variance):
    """Gauss-Hermite nodes: exact for polynomials of degree nine in each target."""
    x, w = np.polynomial.hermite_e.hermegauss(5)
    w = w / w.sum()
    for place in product(range(5), repeat=SIZE):
        index = list(place)
        weight = np.full(mean.shape[:-1], w[index].prod())
        yield mean + np.sqrt(variance) * x[index], weight


CASES = {
    "categorical": LossCase(CategoricalLogitsNegativeLogProbLoss(), reals, labels),
    "one-hot": LossCase(OnehotCategoricalLogitsNegativeLogProbLoss(), reals, one_hots),
    "bernoulli": LossCase(MultiBernoulliNegativeLogProbLoss(), reals, events),
    "normal": LossCase(
        NormalMeanNegativeLogProbLoss(var=2.5), reals, lambda mean: nodes(mean, 2.5)
    ),
    "normal-by-output": LossCase(
        NormalMeanNegativeLogProbLoss(var=VARIANCES),
        reals,
        lambda mean: nodes(mean, np.asarray(VARIANCES)),
    ),
    "mean-variance": LossCase(
        NormalMeanVarianceNegativeLogProbLoss(),
        mean_and_variance,
        lambda inputs: nodes(*inputs),
    ),
    "poisson": LossCase(PoissonLoss(), reals, counts),
}


def targets_of(case, inputs, rng):
    """Targets drawn with NumPy's numbers."""
    noise = rng.random(case.loss.noise_shape(inputs))
    return case.loss.sample_from(noise, inputs)


def unit_vectors(size):
    """``[size, *LEADING, size]``: one at an entry of every position."""
    eye = np.eye(size)[:, None, None, :]
    return np.ascontiguousarray(np.broadcast_to(eye, (size, *LEADING, size)))


def like_inputs(vectors, inputs):
    """Vectors ``[..., K]`` structured like the inputs."""
    if isinstance(inputs, tuple):
        return tuple(np.split(vectors, len(inputs), axis=-1))
    return vectors


def assert_close(actual, expected, tolerance=1e-12):
    """Compare in norm: entries may cancel, the whole does not."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = max(np.linalg.norm(expected), np.finfo(np.float64).tiny)
    assert np.linalg.norm(actual - expected) <= tolerance * scale
