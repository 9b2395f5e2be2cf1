import math

import numpy as np
import pytest
from reference_cases import assert_close, key_of, numerical_gradient, random_targets

from kfac_core.errors import ArgumentError, DTypeError, ShapeError
from kfac_core.reference import Gaussian, SoftmaxCrossEntropy

LOSSES = {
    "softmax": SoftmaxCrossEntropy(),
    "gaussian": Gaussian(),
    "gaussian-wide": Gaussian(variance=2.5),
}
SHAPE = (4, 3)


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


@pytest.fixture
def outputs(rng):
    return 2 * rng.standard_normal(SHAPE)


def all_labels(outputs):
    """Every label for every case, ``[labels, batch]``, and their probabilities."""
    labels = np.arange(outputs.shape[1])
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    return np.tile(labels[:, None], (1, len(outputs))), p.T


def test_gradient_is_finite_differences(loss, outputs, rng):
    targets = random_targets(loss, outputs, rng)
    numerical = numerical_gradient(lambda f: loss.evaluate(f, targets), outputs)
    assert_close(loss.gradient(outputs, targets), numerical, 1e-9)


def test_losses_are_those_of_pytorch(outputs, rng, torch):
    nn = torch.nn.functional
    f = torch.from_numpy(outputs)
    labels = torch.from_numpy(rng.integers(3, size=4))
    theirs = nn.cross_entropy(f, labels, reduction="sum")
    assert_close(SoftmaxCrossEntropy().evaluate(f, labels), theirs)
    targets = torch.from_numpy(rng.standard_normal(SHAPE))
    variance = torch.full_like(f, 2.5)
    theirs = nn.gaussian_nll_loss(f, targets, variance, full=True, reduction="sum")
    assert_close(Gaussian(2.5).evaluate(f, targets), theirs)


def test_fisher_is_the_hessian(loss, outputs, rng, jax):
    # Both losses are in the natural parameters of an exponential family.
    targets = random_targets(loss, outputs, rng)
    hessian = jax.jit(jax.hessian(loss.evaluate))(outputs, targets)
    expected = np.zeros((4, 3, 4, 3))
    expected[range(4), :, range(4), :] = loss.fisher(outputs)
    assert_close(expected, hessian)


def test_directions_have_the_fisher_for_their_second_moment(loss, outputs):
    directions = np.stack(loss.fisher_directions(outputs))
    moment = np.einsum("cni,cnj->nij", directions, directions)
    assert_close(moment, loss.fisher(outputs))


def test_softmax_fisher_is_the_expectation_over_labels(outputs):
    loss = SoftmaxCrossEntropy()
    labels, probabilities = all_labels(outputs)
    gradients = np.stack([loss.gradient(outputs, label) for label in labels])
    mean = np.einsum("cn,cni->ni", probabilities, gradients)
    assert np.abs(mean).max() < 1e-15  # the score has mean zero
    moment = np.einsum("cn,cni,cnj->nij", probabilities, gradients, gradients)
    assert_close(moment, loss.fisher(outputs))


def test_softmax_fisher_has_one_rank_less_than_labels(outputs):
    fisher = SoftmaxCrossEntropy().fisher(outputs)
    assert (np.linalg.matrix_rank(fisher, tol=1e-12) == 2).all()
    assert_close(fisher @ np.ones(3) + 1, np.ones((4, 3)))


def test_labels_are_drawn_by_their_probabilities(outputs):
    # Evenly spaced numbers instead of random: frequencies are exact but for one in m.
    m = 2000
    noise = np.tile((np.arange(m)[:, None] + 0.5) / m, (1, len(outputs)))
    labels = SoftmaxCrossEntropy().sample_from(noise, outputs)
    _, probabilities = all_labels(outputs)
    for label, expected in enumerate(probabilities):
        assert np.abs((labels == label).mean(axis=0) - expected).max() <= 1.001 / m


def test_the_largest_uniform_number_draws_the_last_label():
    # The three rounded thirds may sum to less than one.
    noise = np.full((1, 5), np.nextafter(1, 0))
    labels = SoftmaxCrossEntropy().sample_from(noise, np.zeros((5, 3)))
    assert (labels == 2).all()


def test_a_label_without_probability_is_never_drawn():
    outputs = np.asarray([[-np.inf, 0.0, -np.inf]])
    labels = SoftmaxCrossEntropy().sample_from(np.linspace(0, 1, 9)[:-1, None], outputs)
    assert (labels == 1).all()


def test_gaussian_targets_have_the_mean_and_the_variance(outputs):
    loss = Gaussian(variance=2.5)
    noise = np.ones(SHAPE)
    samples = loss.sample_from(np.stack([noise, -noise]), outputs)
    assert_close(samples.mean(axis=0), outputs)
    assert_close(samples.var(axis=0), 2.5 * noise)


def test_samples_are_drawn_in_every_library(loss, outputs, library):
    f = library.asarray(outputs)
    one = library.to_numpy(loss.sample(key_of(library), f))
    many = library.to_numpy(loss.sample(key_of(library), f, 200))
    assert many.shape == (200, *one.shape)
    assert one.shape == (SHAPE if isinstance(loss, Gaussian) else SHAPE[:1])
    # A gradient at targets from the model is zero in the mean: five standard errors.
    mean = np.stack([loss.gradient(outputs, target) for target in many]).mean(axis=0)
    spread = np.sqrt(np.diagonal(loss.fisher(outputs), axis1=1, axis2=2) / 200)
    assert (np.abs(mean) < 5 * spread).all()


def test_large_logits_do_not_overflow():
    loss, outputs = SoftmaxCrossEntropy(), np.asarray([[1e4, 0.0], [-1e4, -2e4]])
    targets = np.asarray([1, 0])
    assert loss.evaluate(outputs, targets) == 1e4
    assert np.isfinite(loss.gradient(outputs, targets)).all()
    assert np.isfinite(loss.fisher(outputs)).all()


def test_values_include_the_normaliser():
    zeros = np.zeros((2, 3))
    normaliser = 3 * math.log(2 * math.pi * 0.5)
    assert_close(Gaussian(0.5).evaluate(zeros, zeros), normaliser)
    assert_close(SoftmaxCrossEntropy().evaluate(zeros, np.zeros(2, int)), 2 * np.log(3))


@pytest.mark.parametrize("variance", [0.0, -1.0, math.inf, math.nan])
def test_variance_is_checked(variance):
    with pytest.raises(ArgumentError, match="expected a positive number"):
        Gaussian(variance)


def test_a_nearly_certain_label_keeps_its_digits():
    # 1 - p has lost them all: p is one, in floating point.
    loss, rare = SoftmaxCrossEntropy(), math.exp(-50)
    outputs = np.asarray([[50.0, 0.0]])
    assert_close(loss.gradient(outputs, np.asarray([0])), [[-rare, rare]])
    assert_close(loss.fisher(outputs)[0], [[rare, -rare], [-rare, rare]])
    assert_close(loss.fisher_directions(outputs)[0], [[-rare, rare]])


def test_labels_are_checked(outputs):
    loss = SoftmaxCrossEntropy()
    with pytest.raises(ArgumentError, match="targets are from 0 to 3, expected 0 to 2"):
        loss.gradient(outputs, np.asarray([0, 1, 2, 3]))
    with pytest.raises(DTypeError, match="targets has dtype float64"):
        loss.evaluate(outputs, np.ones(4))


def test_shapes_are_checked(outputs):
    with pytest.raises(ShapeError, match="targets"):
        SoftmaxCrossEntropy().gradient(outputs, np.zeros(3, int))
    with pytest.raises(ShapeError, match="outputs"):
        Gaussian().evaluate(outputs[0], outputs[0])
