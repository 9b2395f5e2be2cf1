"""The diagonal factor of convolutions, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_factors as core
from kfac_core.contrib.factor_holder import DiagonalFactor
from kfac_core.contrib.forms import (
    SourceList,
    TowerList,
    first_array,
    sources_of,
    towers_of,
)
from kfac_core.contrib.patch_functions import geometry_for
from kfac_core.statistics.patches.geometry import Padding


class ConvDiagonalFactor(DiagonalFactor):
    """`kfac_core.fisher_factors.ConvDiagonalFactor` as of r1.10.

    Args:
        inputs: List over towers of ``[batch, ..spatial.., in_channels]``.
        outputs_grads: List over sources of lists over towers of
            ``[batch, ..locations.., out_channels]``.
        filter_shape: ``[..kernel.., in_channels, out_channels]``.
        strides: ``[1, rows, columns, 1]``, or spatial.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        dilations: ``[1, rows, columns, 1]``, or spatial.
        has_bias: Whether the layer has a bias.
        patch_mask: ``[..kernel.., in_channels]``, what each patch is multiplied by.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x, g = np.ones((1, 2, 2, 1)), np.ones((1, 2, 2, 1))
        >>> factor = ConvDiagonalFactor([x], [[g]], (1, 1, 1, 1), [1, 1, 1, 1], "VALID")
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()  # a sum, squared
        array([[16.]])
    """

    forms = (towers_of, sources_of)

    def __init__(
        self,
        inputs: TowerList,
        outputs_grads: SourceList,
        filter_shape: Sequence[int],
        strides: Sequence[int],
        padding: Padding,
        data_format: str | None = None,
        dilations: Sequence[int] | None = None,
        has_bias: bool = False,
        patch_mask: Any = None,
        **options: Any,
    ) -> None:
        data = self._arrange(inputs, outputs_grads)
        label = self._label(options)
        geometry = geometry_for(
            filter_shape, padding, strides, dilations, data_format, None, label
        )
        spec = core.ConvDiagonalFactor(geometry, has_bias, patch_mask, **options)
        like = first_array(data[0], "inputs", self._label(options))
        super().__init__(spec, data, like)
