"""Samples: the law of each loss, from a grid of uniform numbers and at random."""

import numpy as np
import pytest
from loss_cases import (
    CASES,
    LEADING,
    SIZE,
    assert_close,
    joined,
    like_inputs,
    mapped,
    shape_of,
    unit_vectors,
)

from kfac_core import backend_of
from kfac_core.errors import ShapeError

GRID = 2000


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def even_noise(shape):
    """Evenly spaced numbers: frequencies are exact but for one in their number."""
    spaced = (np.arange(GRID) + 0.5) / GRID
    return np.broadcast_to(spaced.reshape(-1, *[1] * len(shape)), (GRID, *shape))


def key_of(library):
    if library.package == "jax":
        import jax

        return jax.random.key(0)
    if library.package == "torch":
        import torch

        return torch.Generator().manual_seed(0)
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", ["categorical", "one-hot"])
def test_labels_have_their_probabilities(name, rng):
    case = CASES[name]
    logits = case.inputs(rng)
    samples = case.loss.sample_from(even_noise(LEADING), logits)
    for target, p in case.outcomes(logits):
        drawn = samples == target
        drawn = drawn.all(axis=-1) if name == "one-hot" else drawn
        assert np.abs(drawn.mean(axis=0) - p).max() <= 1.001 / GRID


def test_events_and_counts_have_theirs(rng):
    case = CASES["bernoulli"]
    logits = case.inputs(rng)
    samples = case.loss.sample_from(even_noise(logits.shape), logits)
    assert np.abs(samples.mean(axis=0) - 1 / (1 + np.exp(-logits))).max() < 1 / GRID
    case = CASES["poisson"]
    samples = case.loss.sample_from(even_noise((1, 1, 1)), np.zeros((1, 1, 1)))
    assert abs((samples == 2).mean() - np.exp(-1) / 2) <= 1.001 / GRID


def test_normal_targets_have_the_normal_distribution():
    side = 1000
    u = (np.arange(side) + 0.5) / side
    noise = np.stack(np.meshgrid(u, u)).reshape(2, side * side, 1)
    mean, variance = np.full((side * side, 1), 3.0), np.full((side * side, 1), 4.0)
    loss = CASES["mean-variance"].loss
    z = (loss.sample_from(noise, (mean, variance)) - 3) / 2
    for power, moment in enumerate([0, 1, 0, 3], start=1):
        assert np.mean(z**power) == pytest.approx(moment, abs=0.03)
    assert np.mean(z < 1) == pytest.approx(0.8413447, abs=1e-3)
    normal = CASES["normal"].loss
    assert_close((normal.sample_from(noise, mean) - 3) / np.sqrt(2.5), z)


def test_every_uniform_number_gives_a_target():
    # Zero, and the largest below one: a rounded sum of probabilities may be less.
    noise = np.asarray([[0.0] * 5, [np.nextafter(1, 0)] * 5])
    thirds = np.zeros((5, 3))
    labels = CASES["categorical"].loss.sample_from(noise, thirds)
    np.testing.assert_array_equal(labels, [[0] * 5, [2] * 5])
    corners = np.stack([noise[..., None], noise[..., None]], axis=1)
    assert np.isfinite(CASES["normal"].loss.sample_from(corners, thirds[:, :1])).all()
    certain = np.asarray([[-np.inf, 0.0, -np.inf]])
    spaced = np.append(np.linspace(0, 1, 9)[:-1], np.nextafter(1, 0))[:, None]
    assert (CASES["categorical"].loss.sample_from(spaced, certain) == 1).all()


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "mean-variance"])
def test_samples_are_drawn_in_every_library(name, rng, library):
    loss, inputs = CASES[name].loss, CASES[name].inputs(rng)
    there = mapped(library.asarray, inputs)
    one = loss.sample(key_of(library), there)
    assert one.shape == loss.targets_shape(there)
    value = loss.evaluate_on_sample(key_of(library), there)
    assert_close(
        library.to_numpy(value), library.to_numpy(loss.evaluate(there, one)), 1e-14
    )
    assert backend_of(one) is backend_of(library.asarray(np.ones(1)))
    many = library.to_numpy(loss.sample(key_of(library), there, 200))
    assert many.shape == (200, *one.shape)
    # A gradient at targets from the model is zero in the mean: five standard errors.
    mean = np.mean([joined(loss.gradient(inputs, t)) for t in many], axis=0)
    units = unit_vectors(mean.shape[-1])
    fisher = joined(loss.multiply_fisher(inputs, like_inputs(units, inputs)))
    spread = np.sqrt((fisher * units).sum(axis=0) / 200)
    assert (np.abs(mean) < 5 * spread).all()


def test_shape_of_the_noise_is_checked(case, rng):
    inputs = case.inputs(rng)
    shape = case.loss.noise_shape(inputs)
    # One more axis is that of the samples, two are too many.
    assert case.loss.sample_from(np.full((1, *shape), 0.5), inputs).shape[0] == 1
    for wrong in ((1, 1, *shape), shape[:-1], (*shape[:-1], SIZE + 1)):
        with pytest.raises(ShapeError, match="noise has shape"):
            case.loss.sample_from(np.full(wrong, 0.5), inputs)
    assert shape_of(inputs) == (*LEADING, SIZE)
