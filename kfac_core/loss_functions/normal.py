"""Real targets with normal noise, whose variance is known, or is an input."""

import math
from dataclasses import dataclass

from kfac_core.backend import Backend
from kfac_core.loss_functions.base import LossFunction
from kfac_core.loss_functions.natural import (
    IndependentNaturalParamsNegativeLogProbLoss,
)
from kfac_core.loss_functions.variance import Variance, as_variance, variance_beside
from kfac_core.typing import Array, LossInputs

Pair = tuple[Array, Array]


@dataclass(frozen=True)
class NormalMeanNegativeLogProbLoss(IndependentNaturalParamsNegativeLogProbLoss):
    """Regression: targets are ``mean + sqrt(var) noise``, real, ``[batch, ..., n]``.

    The variance adapts to the dtype of the means, which may be any (``tf.contrib.kfac``
    makes it float32, and refuses float64).

    Attributes:
        var: The known variance of the noise: a positive number, or an array with one
            number for each output, whose shape broadcasts to the outputs' (nested
            lists, or an array of any library; kept as nested tuples). With 1/2 the loss
            is the squared error plus a constant, and with 1 half the squared error plus
            a constant.

    Example:
        >>> import numpy as np
        >>> loss = NormalMeanNegativeLogProbLoss()
        >>> mean, targets = np.asarray([[1.0, 2.0]]), np.asarray([[0.0, 4.0]])
        >>> loss.gradient(mean, targets)
        array([[ 2., -4.]])
        >>> round(float(loss.evaluate(mean, targets)), 6)  # 5 + log(pi)
        6.14473

        Two outputs with noise of their own:

        >>> loss = NormalMeanNegativeLogProbLoss(var=np.asarray([0.5, 4.0]))
        >>> loss.var
        (0.5, 4.0)
        >>> loss.gradient(mean, targets)
        array([[ 2. , -0.5]])
    """

    var: Variance = 0.5

    input_names = ("mean",)

    def __post_init__(self) -> None:
        """Check the variance, and keep an array as nested tuples.

        Raises:
            ArgumentError: If an entry is not positive and finite.
        """
        object.__setattr__(self, "var", as_variance(self.var, self.label))

    def noise_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the mean, with an axis of two in front."""
        return (2, *self.targets_shape(inputs))

    def _losses(self, backend: Backend, inputs: Array, targets: Array) -> Array:
        xp, var = backend.xp, self._var(backend, inputs)
        residual = inputs - targets
        squares = residual * residual / var
        if isinstance(var, float):
            normaliser: float | Array = math.log(2 * math.pi * var)
        else:
            normaliser = math.log(2 * math.pi) + xp.log(var)
        return xp.sum(squares + normaliser, axis=-1) / 2

    def _gradient(self, backend: Backend, inputs: Array, targets: Array) -> Array:
        return (inputs - targets) / self._var(backend, inputs)

    def _variance(self, backend: Backend, inputs: Array) -> Array:
        return backend.xp.ones_like(inputs) / self._var(backend, inputs)

    def _sample_from(self, backend: Backend, noise: Array, inputs: Array) -> Array:
        var = self._var(backend, inputs)
        root = math.sqrt(var) if isinstance(var, float) else backend.xp.sqrt(var)
        return inputs + _normal_like(backend, noise, inputs) * root

    def _var(self, backend: Backend, inputs: Array) -> float | Array:
        return variance_beside(backend, self.var, inputs, self.label)


@dataclass(frozen=True)
class NormalMeanVarianceNegativeLogProbLoss(LossFunction):
    """Regression with inputs ``(mean, variance)``, both ``[batch, ..., n]``.

    The variances are positive. Others are refused where they have values; within a
    trace, everything that is computed from them is NaN. Targets are real, in the shape
    of the mean.

    An inner vector has ``2 n`` entries: for the mean, then for the variance. Mean and
    variance are not natural parameters, and the second derivative may be indefinite. So
    there is no Gauss-Newton matrix, as in ``tf.contrib.kfac``. `multiply_hessian` is
    exact.

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
    has_range = True

    def noise_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the mean, with an axis of two in front."""
        return (2, *self.targets_shape(inputs))

    def fisher_factor_inner_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return the shape of the mean, with a last axis twice as long."""
        *leading, size = self.targets_shape(inputs)
        return (*leading, 2 * size)

    def _valid_inputs(self, backend: Backend, inputs: Pair) -> Array:
        mean, variance = inputs
        isfinite = backend.xp.isfinite
        return isfinite(mean) & isfinite(variance) & (variance > 0)

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

    The method is from Box & Muller (1958). ``1 - u`` is never zero; its smallest value
    gives the largest number, 5.8 for the float32 numbers of most libraries.
    """
    xp = backend.xp
    samples = (slice(None),) * (noise.ndim - mean.ndim - 1)
    radius = xp.sqrt(-2 * xp.log(1 - noise[(*samples, 0, ...)]))
    return radius * xp.cos(2 * math.pi * noise[(*samples, 1, ...)])
