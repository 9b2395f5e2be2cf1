"""Independent events, by the logits of their probabilities."""

import math
from dataclasses import dataclass

from kfac_core.backend import Backend
from kfac_core.loss_functions.natural import (
    IndependentNaturalParamsNegativeLogProbLoss,
)
from kfac_core.loss_functions.validity import roundoff
from kfac_core.typing import Array


@dataclass(frozen=True)
class MultiBernoulliNegativeLogProbLoss(IndependentNaturalParamsNegativeLogProbLoss):
    """Sigmoid cross-entropy: ``p = sigmoid(logits)``, each entry on its own.

    Targets are zeros and ones ``[batch, ..., n]``, or probabilities between them (soft
    targets, for which the loss is an expectation). Invalid targets are refused where
    they have values; within a trace, value and gradient of their positions are NaN.
    Nothing cancels or overflows where a probability is nearly zero or one.

    Example:
        >>> import numpy as np
        >>> loss = MultiBernoulliNegativeLogProbLoss()
        >>> logits, targets = np.log(np.asarray([[1.0, 3.0]])), np.asarray([[1, 0]])
        >>> loss.gradient(logits, targets)
        array([[-0.5 ,  0.75]])
        >>> loss.multiply_fisher(logits, np.ones((1, 2)))
        array([[0.25  , 0.1875]])
    """

    input_names = ("logits",)
    expected_targets = "probabilities, from 0 to 1"

    def _losses(self, backend: Backend, inputs: Array, targets: Array) -> Array:
        xp = backend.xp
        zero = xp.zeros_like(inputs)
        if_not, if_so = xp.logaddexp(zero, inputs), xp.logaddexp(zero, -inputs)
        # With an infinite logit one of the terms is infinite; its weight is zero if the
        # other event happened.
        others = 1 - targets
        if_not = xp.where(xp.equal(others, zero), zero, if_not)
        if_so = xp.where(xp.equal(targets, zero), zero, if_so)
        return xp.sum(others * if_not + targets * if_so, axis=-1)

    def _valid_inputs(self, backend: Backend, inputs: Array) -> Array:
        # A certain event has an infinite logit.
        return backend.xp.equal(inputs, inputs)

    def _valid_targets(
        self, backend: Backend, given: Array, targets: Array, inputs: Array
    ) -> Array:
        slack = 8 * roundoff(backend, given)
        return (targets >= -slack) & (targets <= 1 + slack)

    def _gradient(self, backend: Backend, inputs: Array, targets: Array) -> Array:
        p, others = _probabilities(backend, inputs)
        return p * (1 - targets) - others * targets

    def _variance(self, backend: Backend, inputs: Array) -> Array:
        p, others = _probabilities(backend, inputs)
        return p * others

    def _sample_from(self, backend: Backend, noise: Array, inputs: Array) -> Array:
        xp = backend.xp
        p, _ = _probabilities(backend, inputs)
        events = xp.astype(noise < p, inputs.dtype)
        if not backend.is_traced(events):
            return events
        return xp.where(p >= 0, events, xp.full_like(events, math.nan))


def _probabilities(backend: Backend, logits: Array) -> tuple[Array, Array]:
    """Return ``p`` and ``1 - p``, each exact up to rounding."""
    xp = backend.xp
    small = xp.exp(-xp.abs(logits))
    rare, common = small / (1 + small), 1 / (1 + small)
    positive = logits > 0
    return xp.where(positive, common, rare), xp.where(positive, rare, common)
