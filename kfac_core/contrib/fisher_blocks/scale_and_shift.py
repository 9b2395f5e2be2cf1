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

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 1.0]])
        >>> block = ScaleAndShiftFullFB(None, (1,), has_shift=False)  # one scale
        >>> block.register_additional_tower(inputs=x, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block()  # (1 * 3 + 2 * 1)^2
        array([[25.]])
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

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 1.0]])
        >>> block = ScaleAndShiftDiagonalFB(None, (), has_shift=False)
        >>> block.register_additional_tower(inputs=x, outputs=0 * g)
        >>> block.instantiate_factors([[g]], damping=0.1)
        >>> block.make_covariance_update_op(ema_decay=0.95)()
        >>> block.full_fisher_block()  # squares of x * g
        array([[9., 0.],
               [0., 4.]])
    """

    spec_type = core.ScaleAndShiftDiagonalFB
