"""Blocks of layers that scale and shift, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any, ClassVar

from kfac_core import fisher_blocks as core
from kfac_core.contrib.block_holder import LayerBlock
from kfac_core.contrib.fisher_factors.scale_and_shift import fields_of


class _ScaleAndShiftFB(LayerBlock):
    spec_type: ClassVar[type[core.ScaleAndShiftFB]]

    def __init__(
        self,
        layer_collection: Any,
        broadcast_dims_scale: Sequence[int],
        broadcast_dims_shift: Sequence[int] | None = None,
        has_shift: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(layer_collection, **options)
        self._arguments = (broadcast_dims_scale, broadcast_dims_shift, has_shift)

    def _make_spec(self, *data: Any) -> core.ScaleAndShiftFB:
        inputs, gradients = data
        fields = fields_of(inputs, gradients, *self._arguments, self._label)
        return self.spec_type(**fields, **self._options)


class ScaleAndShiftFullFB(_ScaleAndShiftFB):
    """`kfac_core.fisher_blocks.ScaleAndShiftFullFB` as of 2022.

    Args:
        layer_collection: What the block belongs to; may be None.
        broadcast_dims_scale: Axes in which the scale is broadcast; the batch is 0.
        broadcast_dims_shift: Axes in which the shift is broadcast.
        has_shift: Whether there is a shift.
        **options: Fields of the spec.
    """

    spec_type = core.ScaleAndShiftFullFB


class ScaleAndShiftDiagonalFB(_ScaleAndShiftFB):
    """`kfac_core.fisher_blocks.ScaleAndShiftDiagonalFB` as of 2022.

    Args:
        layer_collection: What the block belongs to; may be None.
        broadcast_dims_scale: Axes in which the scale is broadcast; the batch is 0.
        broadcast_dims_shift: Axes in which the shift is broadcast.
        has_shift: Whether there is a shift.
        **options: Fields of the spec.
    """

    spec_type = core.ScaleAndShiftDiagonalFB
