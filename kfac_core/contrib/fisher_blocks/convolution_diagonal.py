"""The diagonal block of convolutions, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import LayerBlock
from kfac_core.contrib.fisher_blocks.convolution import filter_of
from kfac_core.contrib.patch_functions import geometry_for
from kfac_core.statistics.patches.geometry import Padding
from kfac_core.typing import Params


class ConvDiagonalFB(LayerBlock):
    """`kfac_core.fisher_blocks.ConvDiagonalFB` as of r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The layer's weights, or weights and bias; only their shapes are used.
        strides: ``[1, rows, columns, 1]``, or spatial.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        dilations: ``[1, rows, columns, 1]``, or spatial.
        patch_mask: ``[..kernel.., in_channels]``, what each patch is multiplied by.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x, g = np.ones((1, 2, 2, 1)), np.ones((1, 2, 2, 1))
        >>> block = ConvDiagonalFB(
        ...     None, np.zeros((1, 1, 1, 1)), strides=[1, 1, 1, 1], padding="VALID"
        ... )
        >>> block.register_additional_tower(inputs=x, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block()  # the square of a sum over four locations
        array([[16.]])
    """

    def __init__(
        self,
        layer_collection: Any,
        params: Params,
        strides: Sequence[int],
        padding: Padding,
        data_format: str | None = None,
        dilations: Sequence[int] | None = None,
        patch_mask: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        shape, has_bias = filter_of(params, self._label)
        self._arguments: dict[str, Any] = {
            "geometry": geometry_for(
                shape, padding, strides, dilations, data_format, None, self._label
            ),
            "has_bias": has_bias,
            "patch_mask": patch_mask,
        }

    def _make_spec(self, *data: Any) -> core.ConvDiagonalFB:
        return core.ConvDiagonalFB(**self._arguments, **self._options)
