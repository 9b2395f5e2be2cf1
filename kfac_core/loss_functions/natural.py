"""Losses whose inputs are the natural parameters of an exponential family.

Their second derivative does not depend on the targets, and equals the Fisher (Martens,
2020, section 9.2). So Gauss-Newton matrix, Hessian and Fisher are the same.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from kfac_core.backend import Backend
from kfac_core.loss_functions.base import LossFunction
from kfac_core.typing import Array, LossInputs


@dataclass(frozen=True)
class NaturalParamsNegativeLogProbLoss(LossFunction):
    """Abstract base of the losses with natural parameters: all curvature is the Fisher.

    The abstract members are those of `LossFunction`, except for ``_hessian``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
        >>> loss = CategoricalLogitsNegativeLogProbLoss()
        >>> isinstance(loss, NaturalParamsNegativeLogProbLoss)
        True
        >>> logits, v = np.asarray([[1.0, 0.0]]), np.asarray([[1.0, 0.0]])
        >>> fisher = loss.multiply_fisher(logits, v)
        >>> for target in (0, 1):  # the Hessian does not depend on the target
        ...     hessian = loss.multiply_hessian(logits, np.asarray([target]), v)
        ...     print(bool(np.allclose(hessian, fisher)))
        True
        True
    """

    def ggn_factor_inner_shape(self, inputs: LossInputs) -> tuple[int, ...]:
        """Return `fisher_factor_inner_shape`."""
        return self.fisher_factor_inner_shape(inputs)

    def _ggn(self, backend: Backend, inputs: Any, vector: Any) -> Any:
        return self._fisher(backend, inputs, vector)

    def _ggn_factor(self, backend: Backend, inputs: Any, inner: Array) -> Any:
        return self._fisher_factor(backend, inputs, inner)

    def _ggn_factor_transpose(
        self, backend: Backend, inputs: Any, vector: Any
    ) -> Array:
        return self._fisher_factor_transpose(backend, inputs, vector)

    def _hessian(
        self, backend: Backend, inputs: Any, targets: Array, vector: Any
    ) -> Any:
        del targets
        return self._fisher(backend, inputs, vector)


@dataclass(frozen=True)
class IndependentNaturalParamsNegativeLogProbLoss(NaturalParamsNegativeLogProbLoss):
    """Abstract base of the losses with independent outputs and a diagonal Fisher.

    The abstract members are ``_losses``, ``_gradient``, ``_sample_from``, and
    ``_variance(backend, inputs)``: the variances of the targets, ``[batch, ..., n]``,
    which are the diagonal of the Fisher.

    Example:
        Counts, with the logarithms of their rates:

        >>> import numpy as np
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class PoissonLoss(IndependentNaturalParamsNegativeLogProbLoss):
        ...     most: int = 50
        ...
        ...     def _losses(self, backend, inputs, targets):
        ...         xp = backend.xp
        ...         normaliser = sum(
        ...             xp.where(targets >= k, np.log(k), 0.0)
        ...             for k in range(1, self.most)
        ...         )
        ...         return xp.sum(xp.exp(inputs) - targets * inputs + normaliser, -1)
        ...
        ...     def _gradient(self, backend, inputs, targets):
        ...         return backend.xp.exp(inputs) - targets
        ...
        ...     def _variance(self, backend, inputs):
        ...         return backend.xp.exp(inputs)
        ...
        ...     def _sample_from(self, backend, noise, inputs):
        ...         rate = backend.xp.exp(inputs)
        ...         term = passed = backend.xp.exp(-rate)
        ...         count = 0.0
        ...         for k in range(1, self.most):
        ...             count = count + (noise >= passed)
        ...             term = term * rate / k
        ...             passed = passed + term
        ...         return count
        >>> loss, log_rates = PoissonLoss(), np.log(np.asarray([[0.5, 2.0]]))
        >>> loss.gradient(log_rates, np.asarray([[0, 3]]))
        array([[ 0.5, -1. ]])
        >>> loss.multiply_fisher(log_rates, np.ones((1, 2)))
        array([[0.5, 2. ]])
        >>> loss.sample(np.random.default_rng(0), log_rates, 2)
        array([[[1., 1.]],
        <BLANKLINE>
               [[0., 0.]]])
    """

    @abstractmethod
    def _variance(self, backend: Backend, inputs: Any) -> Array:
        """Return the diagonal of the Fisher, like the inputs."""

    def _fisher(self, backend: Backend, inputs: Any, vector: Any) -> Any:
        return self._variance(backend, inputs) * vector

    def _fisher_factor(self, backend: Backend, inputs: Any, inner: Array) -> Any:
        deviation: Array = backend.xp.sqrt(self._variance(backend, inputs))
        return deviation * inner

    def _fisher_factor_transpose(
        self, backend: Backend, inputs: Any, vector: Any
    ) -> Array:
        product: Array = self._fisher_factor(backend, inputs, vector)
        return product
