"""Blocks of depthwise convolutions, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any, ClassVar

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import KroneckerProductFB, LayerBlock
from kfac_core.contrib.fisher_blocks.convolution import filter_of
from kfac_core.contrib.patch_functions import geometry_for
from kfac_core.errors import ShapeError
from kfac_core.statistics.patches.geometry import Padding
from kfac_core.typing import Params


class _DepthwiseBlock(LayerBlock):
    """Base of both blocks, which have the same arguments, and different specs."""

    spec_type: ClassVar[type[core.FisherBlock[Any]]]

    def __init__(
        self,
        layer_collection: Any,
        params: Params,
        strides: Sequence[int],
        padding: Padding,
        rate: Sequence[int] | None = None,
        data_format: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        shape, has_bias = filter_of(params, self._label)
        rate = (1, 1) if rate is None else rate
        # Lists have the lengths of ``tf.contrib.kfac``.
        for what, values, wanted in (
            ("the filter's shape", shape, 4),
            ("strides", tuple(strides), 4),
            ("rate", tuple(rate), 2),
        ):
            if len(values) != wanted:
                msg = f"{self._label}: {what} is {values}, expected {wanted} numbers"
                raise ShapeError(msg)
        self._arguments: dict[str, Any] = {
            "geometry": geometry_for(
                shape, padding, strides, rate, data_format, None, self._label
            ),
            "has_bias": has_bias,
        }

    def _make_spec(self, *data: Any) -> core.FisherBlock[Any]:
        return self.spec_type(**self._arguments, **self._options)


class DepthwiseConvDiagonalFB(_DepthwiseBlock):
    """`kfac_core.fisher_blocks.DepthwiseConvDiagonalFB` as of 2022.

    Arguments and errors are those of `DepthwiseConvKFCBasicFB`.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([[1.0, 2.0]]).reshape(1, 1, 1, 2)
        >>> g = np.asarray([[3.0, 1.0]]).reshape(1, 1, 1, 2)
        >>> block = DepthwiseConvDiagonalFB(
        ...     None, np.zeros((1, 1, 2, 1)), strides=[1, 1, 1, 1], padding="VALID"
        ... )
        >>> block.register_additional_tower(inputs=x, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block().diagonal()  # squares of 1 * 3 and of 2 * 1
        array([9., 4.])
    """

    spec_type = core.DepthwiseConvDiagonalFB


class DepthwiseConvKFCBasicFB(_DepthwiseBlock, KroneckerProductFB):
    """`kfac_core.fisher_blocks.DepthwiseConvKFCBasicFB`, called as other blocks are.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The weights ``[rows, columns, in_channels, multiplier]``, or weights and
            a bias (which ``tf.contrib.kfac`` refuses); only their shapes are used.
        strides: ``[1, rows, columns, 1]``.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        rate: Dilation, ``[rows, columns]``.
        data_format: None, ``"NHWC"`` or ``"NCHW"``.
        **options: Fields of the spec.

    Raises:
        ShapeError: If the weights do not have four axes, or there are not four strides
            or two rates.

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([2.0, 0.0, 0.0, 1.0]), np.asarray([1.0, 1.0, 3.0, 1.0])
        >>> x, g = x.reshape(2, 1, 1, 2), g.reshape(2, 1, 1, 2)  # two cases
        >>> block = DepthwiseConvKFCBasicFB(
        ...     None, np.zeros((1, 1, 2, 1)), strides=[1, 1, 1, 1], padding="VALID"
        ... )
        >>> block.register_additional_tower(inputs=x, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block().diagonal()  # channel by channel 2 * 5, 0.5 * 1
        array([10. ,  0.5])
    """

    spec_type = core.DepthwiseConvKFCBasicFB
