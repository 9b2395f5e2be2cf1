"""Factors from the square of the batch's summed gradient.

With targets sampled from the model, cases are independent and their gradients have mean
zero, so that ``E[(sum_i g_i)(sum_i g_i)'] / N`` is the Fisher. One gradient gives an
unbiased estimate with a relative variance of order one. This does not hold for the
targets of the data, nor where one label is enumerated for a whole batch at once.
"""

from dataclasses import dataclass

from kfac_core.arguments.arrays import as_sources, as_statistics
from kfac_core.arguments.scalars import as_scalar
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_factors.base.diagonal import DiagonalFactor
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.linalg.parameters import num_entries, params_to_vector
from kfac_core.moving_average import Sample
from kfac_core.state import is_known_false
from kfac_core.statistics.weighted_rows import Rows
from kfac_core.typing import Array, DType, Scalar, Sources


@dataclass(frozen=True)
class NaiveFullFactor(FisherFactor):
    """The whole Fisher of some parameters, from their batch-summed gradient.

    Attributes:
        size: Number of entries of the parameters.

    Example:
        >>> import numpy as np
        >>> factor = NaiveFullFactor(size=2)
        >>> gradient = np.asarray([1.0, 2.0])
        >>> state = factor.init(gradient)
        >>> state = factor.update_cov(state, gradient, batch_size=2, ema_decay=0.5)
        >>> factor.get_cov(state)
        array([[0.5, 1. ],
               [1. , 2. ]])
    """

    size: int

    @property
    def dimension(self) -> int:
        """Number of entries of the parameters."""
        return self.size

    def update_cov(
        self,
        state: FactorState,
        params_grads: Sources,
        batch_size: Scalar,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> FactorState:
        """Fold the outer product of the gradient with itself into the average.

        Args:
            state: The state; left as it is.
            params_grads: Gradient of the loss summed over all cases, for the
                parameters: an array, or a tuple of arrays; or a tuple of such tuples
                (sources, summed).
            batch_size: Number of cases, at least 1.
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.

        Returns:
            The new state.

        Raises:
            ShapeError: If the gradient has another number of entries.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the batch size, the decay or the weight is out of range.
        """
        sources = as_sources(params_grads)
        backend = self._backend(
            state, "state, params_grads", *(g for source in sources for g in source)
        )
        count = _count(backend, batch_size, state, self.label)
        moments: list[Array | Sample] = []
        for source in sources:
            v = _vector(backend, source, self.size, state.cov.total.dtype, self.label)
            if isinstance(self.form, Dense):
                moments.append(v[:, None] * v[None, :] / count)
            else:
                rows = Rows([v[None, :]], None, count)
                moments.append(self.form.of_rows(backend, rows, has_bias=False))
        data = {"params_grads": sources}
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, data)


@dataclass(frozen=True)
class NaiveDiagonalFactor(DiagonalFactor):
    """The diagonal of the Fisher of some parameters, from their summed gradient.

    Attributes:
        size: Number of entries of the parameters.

    Example:
        >>> import numpy as np
        >>> factor = NaiveDiagonalFactor(size=2)
        >>> gradient = np.asarray([1.0, 2.0])
        >>> state = factor.init(gradient)
        >>> state = factor.update_cov(state, gradient, batch_size=2, ema_decay=0.5)
        >>> factor.get_cov(state)  # the squares over the number of cases
        array([[0.5, 0. ],
               [0. , 2. ]])
    """

    size: int

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """``(size, 1)``, as in ``tf.contrib.kfac``."""
        return (self.size, 1)

    def update_cov(
        self,
        state: FactorState,
        params_grads: Sources,
        batch_size: Scalar,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> FactorState:
        """Fold the squared gradient into the average.

        Arguments and errors are those of `NaiveFullFactor.update_cov`.

        Returns:
            The new state.
        """
        sources = as_sources(params_grads)
        backend = self._backend(
            state, "state, params_grads", *(g for source in sources for g in source)
        )
        count = _count(backend, batch_size, state, self.label)
        moments = []
        for source in sources:
            v = _vector(backend, source, self.size, state.cov.total.dtype, self.label)
            moments.append((v * v / count)[:, None])
        data = {"params_grads": sources}
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, data)


def _count(
    backend: Backend, batch_size: Scalar, state: FactorState, label: str
) -> Array:
    """Return the number of cases, 0-d, at least one."""
    count = as_scalar(backend, batch_size, state.cov.total, "batch_size", label)
    if is_known_false(backend, count >= 1):
        msg = f"{label}: batch_size is {batch_size}, expected at least 1"
        raise ArgumentError(msg)
    return count


def _vector(
    backend: Backend,
    gradients: tuple[Array, ...],
    size: int,
    dtype: DType,
    label: str,
) -> Array:
    """Return the gradients of one source as one vector ``[size]``."""
    entries = num_entries(gradients)
    if not gradients or entries != size:
        msg = (
            f"{label}: params_grads has shapes {[tuple(g.shape) for g in gradients]}"
            f" with {entries} entries, expected {size}"
        )
        raise ShapeError(msg)
    data = (as_statistics(backend, g, dtype, "params_grads", label) for g in gradients)
    return params_to_vector(backend, tuple(data))
