"""Factors from the batch-summed gradient, built as in ``tf.contrib.kfac``."""

from typing import Any

from kfac_core import fisher_factors as core
from kfac_core.contrib.factor_holder import (
    DenseSquareMatrixFactor,
    DiagonalFactor,
    FisherFactor,
)
from kfac_core.contrib.forms import SourceList, first_array, sources_of
from kfac_core.linalg.parameters import num_entries


class _NaiveForms(FisherFactor):
    """Data of the naive factors: sources of parameter gradients, and a batch size."""

    def _arrange(self, *data: Any) -> tuple[Any, ...]:
        params_grads, *batch_size = data
        return sources_of(params_grads), *(batch_size or self._data[1:])


class NaiveFullFactor(_NaiveForms, DenseSquareMatrixFactor):
    """`kfac_core.fisher_factors.NaiveFullFactor`; ``FullFactor`` until r1.10.

    Args:
        params_grads: List over sources of a gradient or a tuple of gradients, of the
            loss summed over all cases.
        batch_size: Number of cases.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> gradient = (np.asarray([[2.0]]), np.asarray([4.0]))  # weights and bias
        >>> factor = NaiveFullFactor([gradient], batch_size=2)
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()
        array([[2., 4.],
               [4., 8.]])
    """

    def __init__(
        self, params_grads: SourceList, batch_size: int, **options: Any
    ) -> None:
        sources = sources_of(params_grads)
        like = first_array(sources, "params_grads", self._label(options))
        spec = core.NaiveFullFactor(num_entries(sources[0]), **options)
        super().__init__(spec, (sources, batch_size), like)


FullFactor = NaiveFullFactor


class NaiveDiagonalFactor(_NaiveForms, DiagonalFactor):
    """`kfac_core.fisher_factors.NaiveDiagonalFactor` as of r1.10.

    Args:
        params_grads: As in `NaiveFullFactor`.
        batch_size: Number of cases.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> gradient = np.asarray([2.0, 4.0])  # summed over two cases
        >>> factor = NaiveDiagonalFactor([gradient], batch_size=2)
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()
        array([[2.],
               [8.]])
    """

    def __init__(
        self, params_grads: SourceList, batch_size: int, **options: Any
    ) -> None:
        sources = sources_of(params_grads)
        like = first_array(sources, "params_grads", self._label(options))
        spec = core.NaiveDiagonalFactor(num_entries(sources[0]), **options)
        super().__init__(spec, (sources, batch_size), like)
