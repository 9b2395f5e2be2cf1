"""Factors of layers that scale and shift, built as in ``tf.contrib.kfac``."""

from collections.abc import Sequence
from typing import Any, ClassVar

from kfac_core import fisher_factors as core
from kfac_core.contrib.factor_holder import (
    DenseSquareMatrixFactor,
    DiagonalFactor,
    FisherFactor,
)
from kfac_core.contrib.forms import (
    SourceList,
    TowerList,
    as_tuple,
    first_array,
    sources_of,
    towers_of,
)


class _ScaleAndShiftFactor(FisherFactor):
    """What both factors are: the same arguments, a spec each."""

    forms = (towers_of, sources_of)
    spec_type: ClassVar[type[core.FisherFactor]]

    def __init__(
        self,
        inputs: TowerList,
        outputs_grads: SourceList,
        broadcast_dims_scale: Sequence[int],
        broadcast_dims_shift: Sequence[int] | None = None,
        has_shift: bool = True,
        **options: Any,
    ) -> None:
        data = self._arrange(inputs, outputs_grads)
        label = self._label(options)
        dims = (broadcast_dims_scale, broadcast_dims_shift, has_shift)
        fields = fields_of(data[0], data[1], *dims, label)
        like = first_array(data[1], "outputs_grads", label)
        super().__init__(self.spec_type(**fields, **options), data, like)


class ScaleAndShiftFullFactor(_ScaleAndShiftFactor, DenseSquareMatrixFactor):
    """`kfac_core.fisher_factors.ScaleAndShiftFullFactor` as of 2022.

    Args:
        inputs: List over towers of ``[batch, ...]``.
        outputs_grads: List over sources of lists over towers of ``[batch, ...]``.
        broadcast_dims_scale: Axes in which the scale is broadcast; the batch is 0.
        broadcast_dims_shift: Axes in which the shift is broadcast.
        has_shift: Whether there is a shift.
        **options: Fields of the spec.

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 1.0]])
        >>> factor = ScaleAndShiftFullFactor([x], [[g]], (1,), (1,))
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()  # of x g = 5, and g = 4
        array([[25., 20.],
               [20., 16.]])
    """

    spec_type = core.ScaleAndShiftFullFactor


class ScaleAndShiftDiagonalFactor(_ScaleAndShiftFactor, DiagonalFactor):
    """`kfac_core.fisher_factors.ScaleAndShiftDiagonalFactor` as of 2022.

    Arguments are those of `ScaleAndShiftFullFactor`.

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 1.0]])
        >>> factor = ScaleAndShiftDiagonalFactor([x], [[g]], (), ())
        >>> factor.instantiate_cov_variables()
        >>> factor.make_covariance_update_op(ema_decay=0.95)()  # of x * g, then of g
        array([9., 4., 9., 1.])
    """

    spec_type = core.ScaleAndShiftDiagonalFactor


def fields_of(
    inputs: Any,
    sources: Any,
    broadcast_dims_scale: Sequence[int],
    broadcast_dims_shift: Sequence[int] | None,
    has_shift: bool,
    label: str,
) -> dict[str, Any]:
    """Return the fields of a spec, the shapes being those of the data."""
    shift = broadcast_dims_shift
    return {
        "input_shape": tuple(first_array(inputs, "inputs", label).shape[1:]),
        "broadcast_dims_scale": as_tuple(broadcast_dims_scale),
        "broadcast_dims_shift": as_tuple(shift),
        "has_shift": has_shift,
        "output_shape": tuple(first_array(sources, "outputs_grads", label).shape[1:]),
    }
