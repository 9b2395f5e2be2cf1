"""Blocks of depthwise convolutions, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any, ClassVar

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import KroneckerProductFB, LayerBlock
from kfac_core.contrib.fisher_blocks.convolution import filter_of
from kfac_core.contrib.forms import listed
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
        name = self._label
        self._arguments = _fields(name, params, strides, padding, rate, data_format)

    def _make_spec(self, *data: Any) -> core.FisherBlock[Any]:
        return self.spec_type(**self._arguments, **self._options)


class DepthwiseConvDiagonalFB(_DepthwiseBlock):
    """`kfac_core.fisher_blocks.DepthwiseConvDiagonalFB` as of 2022.

    Arguments and errors are those of `DepthwiseConvKFCBasicFB`.
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
    """

    spec_type = core.DepthwiseConvKFCBasicFB


def _fields(
    name: str,
    params: Params,
    strides: Sequence[int],
    padding: Padding,
    rate: Sequence[int] | None,
    data_format: str | None,
) -> dict[str, Any]:
    """Return the fields of a spec; lists have the lengths of ``tf.contrib.kfac``."""
    of_params = filter_of(params, name)
    lengths = (
        ("the filter's shape", of_params["filter_shape"], 4),
        ("strides", listed(strides), 4),
        ("rate", (1, 1) if rate is None else tuple(rate), 2),
    )
    for what, values, wanted in lengths:
        if len(values) != wanted:
            msg = f"{name}: {what} is {values}, expected {wanted} numbers"
            raise ShapeError(msg)
    return {
        **of_params,
        "strides": listed(strides),
        "padding": padding,
        "rate": listed(rate),
        "data_format": data_format,
    }
