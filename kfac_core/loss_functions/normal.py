"""Real targets with normal noise, of a known variance or of one that is an input."""

import math
from dataclasses import dataclass

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.loss_functions.base import LossFunction
from kfac_core.loss_functions.natural import (
    IndependentNaturalParamsNegativeLogProbLoss,
)
from kfac_core.typing import Array, LossInputs

Pair = tuple[Array, Array]


@dataclass(frozen=True)
class NormalMeanNegativeLogProbLoss(IndependentNaturalParamsNegativeLogProbLoss):
    """Regression: targets are ``mean + sqrt(var) noise``, real, ``[batch, ..., n]``.

    The variance takes no dtype from anywhere, so that means of any are served (the
    original makes it float32, and refuses float64).

    Attributes:
        var: Of the noise, known and the same for every output. With 1/2 the loss is
            the squared error, and with 1 half of it, plus a constant.

    Example:
        >>> import numpy as np
        >>> loss = NormalMeanNegativeLogProbLoss()
        >>> mean, targets = np.asarray([[1.0, 2.0]]), np.asarray([[0.0, 4.0]])
        >>> loss.gradient(mean, targets)
        array([[ 2., -4.]])
        >>> round(float(loss.evaluate(mean, targets)), 6)  # 5 + log(pi)
        6.14473
    """

    var: float = 0.5

    input_names = ("mean",)

    def __post_init__(self) -> None:
        """Check the variance.

        Raises:
            ArgumentError: If it is not positive.
        """
        if not 0 < self.var < math.inf:
            msg = f"{self.label}: var is {self.var}, expected a positive number"
            raise ArgumentError(msg)

    def noise_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the mean, with an axis of two in front."""
        return (2, *self.targets_shape(inputs))

    def _losses(self, backend: Backend, inputs: Array, targets: Array) -> Array:
        residual = inputs - targets
        squares = residual * residual / self.var
        return backend.xp.sum(squares + math.log(2 * math.pi * self.var), axis=-1) / 2

    def _gradient(self, backend: Backend, inputs: Array, targets: Array) -> Array:
        del backend
        return (inputs - targets) / self.var

    def _variance(self, backend: Backend, inputs: Array) -> Array:
        return backend.xp.ones_like(inputs) / self.var

    def _sample_from(self, backend: Backend, noise: Array, inputs: Array) -> Array:
        return inputs + _normal_like(backend, noise, inputs) * math.sqrt(self.var)


@dataclass(frozen=True)
class NormalMeanVarianceNegativeLogProbLoss(LossFunction):
    """Regression with inputs ``(mean, variance)``, both ``[batch, ..., n]``.

    The variances are positive; that is not checked. Targets are real, of their shape.
    An inner vector has ``2 n`` entries: for the mean, then for the variance. These are
    not natural parameters, and the second derivative may be indefinite: hence there is
    no Gauss-Newton matrix, as in the original. `multiply_hessian` is exact.

    Example:
        >>> import numpy as np
        >>> loss = NormalMeanVarianceNegativeLogProbLoss()
        >>> inputs = np.asarray([[1.0]]), np.asarray([[2.0]])
        >>> loss.gradient(inputs, np.asarray([[5.0]]))
        (array([[-2.]]), array([[-1.75]]))
        >>> loss.multiply_fisher(inputs, (np.ones((1, 1)), np.ones((1, 1))))
        (array([[0.5]]), array([[0.125]]))
        >>> loss.fisher_factor_inner_shape(inputs)
        (1, 2)
    """

    input_names = ("mean", "variance")

    def noise_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the mean, with an axis of two in front."""
        return (2, *self.targets_shape(inputs))

    def fisher_factor_inner_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the mean, its last axis twice as long."""
        *leading, size = self.targets_shape(inputs)
        return (*leading, 2 * size)

    def _losses(self, backend: Backend, inputs: Pair, targets: Array) -> Array:
        xp = backend.xp
        mean, variance = inputs
        residual = targets - mean
        squares = residual * residual / variance
        return xp.sum(squares + xp.log(variance) + math.log(2 * math.pi), axis=-1) / 2

    def _gradient(self, backend: Backend, inputs: Pair, targets: Array) -> Pair:
        del backend
        mean, variance = inputs
        scaled = (targets - mean) / variance
        return -scaled, (1 / variance - scaled * scaled) / 2

    def _fisher(self, backend: Backend, inputs: Pair, vector: Pair) -> Pair:
        del backend
        _, variance = inputs
        return vector[0] / variance, vector[1] / variance / (2 * variance)

    def _fisher_factor(self, backend: Backend, inputs: Pair, inner: Array) -> Pair:
        mean, variance = inputs
        size = mean.shape[-1]
        root = backend.xp.sqrt(variance)
        return (
            inner[..., :size] / root,
            inner[..., size:] / (math.sqrt(2) * variance),
        )

    def _fisher_factor_transpose(
        self, backend: Backend, inputs: Pair, vector: Pair
    ) -> Array:
        xp = backend.xp
        _, variance = inputs
        parts = [vector[0] / xp.sqrt(variance), vector[1] / (math.sqrt(2) * variance)]
        return xp.concat(parts, axis=-1)

    def _hessian(
        self, backend: Backend, inputs: Pair, targets: Array, vector: Pair
    ) -> Pair:
        del backend
        mean, variance = inputs
        scaled = (targets - mean) / variance
        v_mean, v_variance = vector[0] / variance, vector[1] / variance
        return (
            v_mean + scaled * v_variance,
            scaled * v_mean + (scaled * scaled - 1 / (2 * variance)) * v_variance,
        )

    def _sample_from(self, backend: Backend, noise: Array, inputs: Pair) -> Array:
        mean, variance = inputs
        normal = _normal_like(backend, noise, mean)
        return mean + normal * backend.xp.sqrt(variance)


def _normal_like(backend: Backend, noise: Array, mean: Array) -> Array:
    """Return standard normal numbers made of pairs of uniform ones on [0, 1).

    Box & Muller (1958). ``1 - u`` is never zero, and the largest number that of its
    smallest value: 5.8 for the float32 numbers of most libraries.
    """
    xp = backend.xp
    samples = (slice(None),) * (noise.ndim - mean.ndim - 1)
    radius = xp.sqrt(-2 * xp.log(1 - noise[(*samples, 0, ...)]))
    return radius * xp.cos(2 * math.pi * noise[(*samples, 1, ...)])
