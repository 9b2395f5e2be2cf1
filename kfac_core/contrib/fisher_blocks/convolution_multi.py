"""The block of shared convolutions, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import KroneckerProductFB
from kfac_core.contrib.fisher_blocks.convolution import filter_of
from kfac_core.contrib.forms import (
    first_array,
    multi_use_sources_of,
    multi_use_towers_of,
)
from kfac_core.contrib.patch_functions import geometry_for
from kfac_core.statistics.patches.geometry import Padding
from kfac_core.typing import Array, Params


class ConvKFCBasicMultiIndepFB(KroneckerProductFB):
    """`kfac_core.fisher_blocks.ConvKFCBasicMultiIndepFB` as of 2022.

    A tower is registered with arrays of all uses, or with lists over uses.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The layer's weights, or weights and bias; only their shapes are used.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        strides: In the form that `extract_patches_fn` implies.
        dilation_rate: In the form that `extract_patches_fn` implies.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``, of one use.
        extract_patches_fn: Name of a patch extractor of ``tf.contrib.kfac``.
        num_uses: ``T``, or None where the data say it.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x, g = np.ones((1, 2, 2, 1)), np.ones((1, 2, 2, 1))
        >>> block = ConvKFCBasicMultiIndepFB(
        ...     None, np.zeros((1, 1, 1, 1)), padding="VALID", num_uses=2
        ... )
        >>> block.register_additional_tower(inputs=[x, x], outputs=[g, g])
        >>> block.instantiate_factors([[[g, g]]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block()  # four locations, in each of two uses
        array([[8.]])
    """

    def __init__(
        self,
        layer_collection: Any,
        params: Params,
        padding: Padding,
        strides: Sequence[int] | None = None,
        dilation_rate: Sequence[int] | None = None,
        data_format: str | None = None,
        extract_patches_fn: str | None = None,
        num_uses: int | None = None,
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
                extract_patches_fn,
                self._label,
            ),
            "has_bias": has_bias,
            "num_uses": num_uses,
        }

    def _make_spec(self, *data: Any) -> core.ConvKFCBasicMultiIndepFB:
        return core.ConvKFCBasicMultiIndepFB(**self._arguments, **self._options)

    def _arrange(self, *data: Any) -> tuple[Any, ...]:
        inputs, grads_list = self._pair(data)
        return multi_use_towers_of(inputs), multi_use_sources_of(grads_list)

    def _like(self) -> Array:
        return first_array(self._data[1], "grads_list", self._label)
