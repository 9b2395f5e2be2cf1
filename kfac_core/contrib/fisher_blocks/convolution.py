"""Blocks of convolutions, with the original's constructors."""

from collections.abc import Sequence
from typing import Any

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import (
    KroneckerProductFB,
    LayerBlock,
)
from kfac_core.linalg.parameters import tensors_of
from kfac_core.statistics.convolution_geometry import Padding
from kfac_core.typing import Array, Params


class ConvKFCBasicFB(KroneckerProductFB):
    """`kfac_core.ConvKFCBasicFB` as in r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The layer's weights, or weights and bias: for their shapes.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        strides: In the form that `extract_patches_fn` implies.
        dilation_rate: Likewise.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        extract_patches_fn: Name of the original's patch extractor.
        **options: Fields of the spec.
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
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        self._arguments = {
            **_filter_of(params),
            "padding": padding,
            "strides": None if strides is None else tuple(strides),
            "dilation_rate": None if dilation_rate is None else tuple(dilation_rate),
            "data_format": data_format,
            "extract_patches_fn": extract_patches_fn,
        }

    def _make_spec(self, *data: Any) -> core.ConvKFCBasicFB:
        return core.ConvKFCBasicFB(**self._arguments, **self._options)


class ConvDiagonalFB(LayerBlock):
    """`kfac_core.ConvDiagonalFB` as in r1.10.

    Args:
        layer_collection: What the block belongs to; may be None.
        params: The layer's weights, or weights and bias: for their shapes.
        strides: ``[1, rows, columns, 1]``, or spatial.
        padding: ``"SAME"`` or ``"VALID"``, or as in the spec.
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        dilations: As `strides`.
        **options: Fields of the spec.
    """

    def __init__(
        self,
        layer_collection: Any,
        params: Params,
        strides: Sequence[int],
        padding: Padding,
        data_format: str | None = None,
        dilations: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        self._arguments = {
            **_filter_of(params),
            "strides": tuple(strides),
            "padding": padding,
            "data_format": data_format,
            "dilations": None if dilations is None else tuple(dilations),
        }

    def _make_spec(self, *data: Any) -> core.ConvDiagonalFB:
        return core.ConvDiagonalFB(**self._arguments, **self._options)


def _filter_of(params: Params) -> dict[str, Any]:
    """Return what a convolution's parameters say: the filter's shape, and a bias."""
    tensors: tuple[Array, ...] = tensors_of(params)
    return {"filter_shape": tuple(tensors[0].shape), "has_bias": len(tensors) > 1}
