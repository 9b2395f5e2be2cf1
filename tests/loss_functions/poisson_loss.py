"""Counts whose rates have given logarithms: a loss of a user, in one file."""

import math
from dataclasses import dataclass

from kfac_core.loss_functions import IndependentNaturalParamsNegativeLogProbLoss


@dataclass(frozen=True)
class PoissonLoss(IndependentNaturalParamsNegativeLogProbLoss):
    """Counts with the logarithms of their rates: a loss of a user."""

    input_names = ("log_rates",)
    most: int = 40

    def _losses(self, backend, inputs, targets):
        xp = backend.xp
        normaliser = xp.zeros_like(targets)
        for k in range(2, self.most):
            normaliser = normaliser + math.log(k) * xp.astype(
                targets >= k, targets.dtype
            )
        return xp.sum(xp.exp(inputs) - targets * inputs + normaliser, axis=-1)

    def _gradient(self, backend, inputs, targets):
        return backend.xp.exp(inputs) - targets

    def _variance(self, backend, inputs):
        return backend.xp.exp(inputs)

    def _sample_from(self, backend, noise, inputs):
        xp = backend.xp
        rate = xp.exp(inputs)
        term = passed = xp.exp(-rate)
        count = xp.zeros_like(noise)
        for k in range(1, self.most):
            count = count + xp.astype(noise >= passed, noise.dtype)
            term = term * rate / k
            passed = passed + term
        return count
