"""Factors of fully connected layers, built as in ``tf.contrib.kfac``."""

from typing import Any

from kfac_core import fisher_factors as core
from kfac_core.contrib.factor_holder import (
    DenseSquareMatrixFactor,
    DiagonalFactor,
)
from kfac_core.contrib.forms import (
    SourceList,
    TowerList,
    first_array,
    sources_of,
    towers_of,
)


class FullyConnectedKroneckerFactor(DenseSquareMatrixFactor):
    """`kfac_core.fisher_factors.FullyConnectedKroneckerFactor` as of r1.10.

    Args:
        tensors: List over sources of lists over towers of ``[batch, n]``.
        has_bias: Whether each row ends in a one.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([[1.0], [3.0]])
        >>> factor = FullyConnectedKroneckerFactor([[x]], has_bias=True)
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()
        array([[5., 2.],
               [2., 1.]])
        >>> update = factor.make_covariance_update_op(ema_decay=0.5)
        >>> update([[np.asarray([[0.0], [0.0]])]])  # the first batch counts half
        array([[1.66666667, 0.66666667],
               [0.66666667, 1.        ]])
    """

    forms = (sources_of,)

    def __init__(
        self, tensors: SourceList, has_bias: bool = False, **options: Any
    ) -> None:
        sources = sources_of(tensors)
        like = first_array(sources, "tensors", self._label(options))
        spec = core.FullyConnectedKroneckerFactor(like.shape[-1], has_bias, **options)
        super().__init__(spec, (sources,), like)


class FullyConnectedDiagonalFactor(DiagonalFactor):
    """`kfac_core.fisher_factors.FullyConnectedDiagonalFactor` as of r1.10.

    Args:
        inputs: List over towers of ``[batch, input_size]``.
        outputs_grads: List over sources of lists over towers of
            ``[batch, output_size]``.
        has_bias: Whether each row of inputs ends in a one.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[2.0, 0.0], [0.0, 1.0]]), np.asarray([[1.0], [3.0]])
        >>> factor = FullyConnectedDiagonalFactor([x], [[g]])
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()  # means of squared x g'
        array([[2. ],
               [4.5]])
    """

    forms = (towers_of, sources_of)

    def __init__(
        self,
        inputs: TowerList,
        outputs_grads: SourceList,
        has_bias: bool = False,
        **options: Any,
    ) -> None:
        data = self._arrange(inputs, outputs_grads)
        label = self._label(options)
        like = first_array(data[1], "outputs_grads", label)
        size = first_array(data[0], "inputs", label).shape[-1]
        spec = core.FullyConnectedDiagonalFactor(
            size, like.shape[-1], has_bias, **options
        )
        super().__init__(spec, data, like)
