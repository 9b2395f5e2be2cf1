"""The block of grouped convolutions, built as the blocks of ``tf.contrib.kfac`` are."""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import KroneckerProductFB
from kfac_core.contrib.fisher_blocks.convolution import filter_of
from kfac_core.contrib.patch_functions import geometry_for
from kfac_core.statistics.patches.geometry import Padding
from kfac_core.typing import Params


class GroupedConvKFCBasicFB(KroneckerProductFB):
    """`kfac_core.fisher_blocks.GroupedConvKFCBasicFB`, new here.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The weights ``[..kernel.., in_channels / num_groups, out_channels]``, or
            weights and a bias; only their shapes are used.
        num_groups: Number of groups.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        strides: For each spatial axis, or of full rank; None: 1.
        dilation_rate: For each spatial axis, or of full rank; None: 1.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x = np.asarray([[1.0, 2.0]]).reshape(1, 1, 1, 2)
        >>> g = np.asarray([[3.0, 1.0]]).reshape(1, 1, 1, 2)
        >>> block = GroupedConvKFCBasicFB(
        ...     None, np.zeros((1, 1, 1, 2)), num_groups=2, padding="VALID"
        ... )
        >>> block.register_additional_tower(inputs=x, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block()  # the groups are taken to be uncorrelated
        array([[9., 0.],
               [0., 4.]])
    """

    def __init__(
        self,
        layer_collection: Any,
        params: Params,
        num_groups: int,
        padding: Padding,
        strides: Sequence[int] | None = None,
        dilation_rate: Sequence[int] | None = None,
        data_format: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        shape, has_bias = filter_of(params, self._label)
        self._arguments: dict[str, Any] = {
            "geometry": geometry_for(
                shape,
                padding,
                strides,
                dilation_rate,
                data_format,
                None,
                self._label,
                num_groups,
            ),
            "has_bias": has_bias,
        }

    def _make_spec(self, *data: Any) -> core.GroupedConvKFCBasicFB:
        return core.GroupedConvKFCBasicFB(**self._arguments, **self._options)
