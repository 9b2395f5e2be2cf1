"""What a loss refuses, and what it says."""

import math

import numpy as np
import pytest
from loss_cases import CASES, LEADING, SIZE

from kfac_core.errors import ArgumentError, BackendError, DTypeError, ShapeError
from kfac_core.loss_functions import NormalMeanNegativeLogProbLoss

CATEGORICAL = CASES["categorical"].loss
PAIR = CASES["mean-variance"].loss
X = np.zeros((4, 3))


@pytest.mark.parametrize("var", [0.0, -1.0, math.inf, math.nan])
def test_variance_is_checked(var):
    with pytest.raises(ArgumentError, match="expected a positive number"):
        NormalMeanNegativeLogProbLoss(var)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [-1, 0, 0, 0]])
def test_labels_are_checked(labels):
    with pytest.raises(ArgumentError, match=r"NegativeLogProbLoss: targets are from"):
        CATEGORICAL.gradient(X, np.asarray(labels))
    with pytest.raises(DTypeError, match="targets has dtype float64"):
        CATEGORICAL.evaluate(X, np.ones(4))


def test_labels_may_be_of_a_small_integer_type(library):
    # There are more labels than it has numbers.
    logits = library.asarray(np.zeros((2, 300)))
    labels = library.asarray(np.asarray([1, 255], dtype=np.uint8))
    g = library.to_numpy(CATEGORICAL.gradient(logits, labels))
    np.testing.assert_array_equal(np.argmin(g, axis=1), [1, 255])
    assert (g < 0).sum() == 2


@pytest.mark.parametrize("name", CASES)
def test_shapes_are_checked(name, rng):
    case = CASES[name]
    loss, inputs = case.loss, case.inputs(rng)
    targets = np.zeros(loss.targets_shape(inputs), dtype=int)
    label = type(loss).__name__
    with pytest.raises(ShapeError, match=rf"{label}: targets has shape \(3,"):
        loss.evaluate(inputs, targets[1:])
    with pytest.raises(ShapeError, match=rf"{label}: inner has shape \(1,\)"):
        loss.multiply_fisher_factor(inputs, np.ones(1))
    for index in ((0,), (0, 6), (-1, 0), (0, 0, 0)):
        with pytest.raises(ArgumentError, match=f"{label}: index is"):
            loss.multiply_fisher_factor_replicated_one_hot(inputs, index)
    if name != "mean-variance":
        with pytest.raises(ShapeError, match=rf"{label}: vector has shape \(2, 4"):
            loss.multiply_fisher(inputs, np.ones((*LEADING[::-1], SIZE)))
        with pytest.raises(ShapeError, match=r"has shape \(3,\), expected \[batch, "):
            loss.gradient(inputs[0, 0], targets[0, 0])
        with pytest.raises(ShapeError, match="inputs are a tuple of 2, expected one"):
            loss.gradient((inputs, inputs), targets)


def test_a_pair_is_checked():
    with pytest.raises(ShapeError, match="expected a tuple of arrays: mean, variance"):
        PAIR.gradient(X, X)
    with pytest.raises(ShapeError, match=r"variance has shape \(4, 1\)"):
        PAIR.gradient((X, X[:, :1]), X)
    with pytest.raises(ShapeError, match="vector has 1 arrays, the inputs have 2"):
        PAIR.multiply_fisher((X, X), X)


def test_dtypes_and_libraries_are_checked(torch):
    with pytest.raises(DTypeError, match="logits has dtype int64"):
        CATEGORICAL.evaluate(np.zeros((4, 3), dtype=int), np.zeros(4, dtype=int))
    with pytest.raises(DTypeError, match="targets has dtype complex128"):
        CASES["normal"].loss.evaluate(X, X * 1j)
    with pytest.raises(BackendError, match=r"CategoricalLogits.*two libraries"):
        CATEGORICAL.multiply_fisher(X, torch.zeros((4, 3)))
