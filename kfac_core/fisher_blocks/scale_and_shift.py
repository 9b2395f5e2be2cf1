"""Blocks of layers that scale and shift their inputs."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from kfac_core.fisher_blocks.base.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_factors.scale_and_shift.axes import fields_for_params
from kfac_core.fisher_factors.scale_and_shift.factors import (
    ScaleAndShiftDiagonalFactor,
    ScaleAndShiftFactor,
    ScaleAndShiftFullFactor,
)
from kfac_core.statistics.scale_and_shift import FreeShape, Shape
from kfac_core.typing import Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class ScaleAndShiftFB(SingleFactorFB):
    """Abstract base of the blocks of ``y = scale * x + shift``, with broadcasting.

    It is for the last step of a normalisation that treats each case alone. Where
    normalisation uses statistics of the batch, cases depend on each other: use a naive
    block for such a layer. Vectors are ``scale``, or ``(scale, shift)``, with or
    without axes of size one.

    Attributes:
        input_shape: Shape of one case's input. None stands for an axis of any size,
            such as the positions of a sequence, along which each parameter must be
            broadcast.
        broadcast_dims_scale: Axes of the outputs along which the scale is broadcast, so
            that its gradient is summed over them; the batch is axis 0. See
            `for_params`.
        broadcast_dims_shift: Axes of the outputs along which the shift is broadcast.
        has_shift: Whether there is a shift.
        output_shape: Shape of one case's output, to which the inputs are broadcast;
            None: `input_shape`.

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 1.0]])
        >>> for kind in (ScaleAndShiftFullFB, ScaleAndShiftDiagonalFB):
        ...     block = kind.for_params((2,), (2,))  # a scale of each input, no shift
        ...     state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        ...     print(block.full_fisher_block(state).tolist())
        [[9.0, 6.0], [6.0, 4.0]]
        [[9.0, 0.0], [0.0, 4.0]]
    """

    input_shape: FreeShape
    broadcast_dims_scale: tuple[int, ...]
    broadcast_dims_shift: tuple[int, ...] | None = None
    has_shift: bool = True
    output_shape: FreeShape | None = None

    factor_type: ClassVar[type[ScaleAndShiftFactor]]
    """Class of the factor."""

    def __post_init__(self) -> None:
        """Make the factor, once; errors as in `ScaleAndShiftFactor`."""
        super().__post_init__()
        names = (
            "input_shape",
            "broadcast_dims_scale",
            "broadcast_dims_shift",
            "has_shift",
            "output_shape",
        )
        factor = self.factor_type(
            **{name: getattr(self, name) for name in names},
            name=self.label,
            **self._served(),
        )
        for name in names:
            object.__setattr__(self, name, getattr(factor, name))
        self._set_factor(factor)

    @classmethod
    def for_params(
        cls,
        scale_shape: Shape,
        input_shape: FreeShape,
        output_shape: FreeShape | None = None,
        shift_shape: Shape | None = None,
        **options: Any,
    ) -> Self:
        """Return the block of parameters of these shapes, aligned from the right.

        Args:
            scale_shape: Shape of the scale.
            input_shape: Shape of one case's input; None: an axis of any size.
            output_shape: Shape of one case's output; None: `input_shape`.
            shift_shape: Shape of the shift; None if there is none.
            **options: Further fields.

        Returns:
            The spec.

        Raises:
            ShapeError: If a parameter has more axes than the outputs, an axis for
                cases, or a size that is neither one nor that of the outputs.
            ArgumentError: If a shape is not a tuple of sizes.
        """
        return cls(
            **fields_for_params(
                options.get("name") or cls.__name__,
                scale_shape,
                input_shape,
                output_shape,
                shift_shape,
            ),
            **options,
        )

    def update_covs(
        self,
        state: SingleFactorState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> SingleFactorState:
        """Fold a batch into the statistics.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, *input_shape]``, or a tuple of these (towers).
            outputs_grads: Gradients of the summed loss for the layer's outputs,
                ``[batch, *output_shape]``; or a tuple of these (towers); or a tuple of
                such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or a tuple of these
                (towers): zero for a case that does not count; None: one each. ``[batch,
                *output_shape[:n]]``: how often each position adds to the gradient of
                its case.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, or there
                is no case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        factor = self.factor.update_cov(
            self._own(state).factor,
            inputs,
            outputs_grads,
            ema_decay,
            ema_weight,
            weights=weights,
            num_cases=num_cases,
        )
        return state._replace(factor=factor)


@dataclass(frozen=True)
class ScaleAndShiftFullFB(ScaleAndShiftFB):
    """The whole Fisher of a scale and a shift, exact; see `ScaleAndShiftFB`.

    Example:
        >>> import numpy as np
        >>> block = ScaleAndShiftFullFB.for_params((2,), (2,), shift_shape=(2,))
        >>> x, g = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 0.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=1.0)
        >>> scale, shift = block.multiply(state, (np.ones(2), np.zeros(2)))
        >>> scale, shift
        (array([10.,  1.]), array([9., 0.]))
    """

    factor_type: ClassVar[type[ScaleAndShiftFactor]] = ScaleAndShiftFullFactor


@dataclass(frozen=True)
class ScaleAndShiftDiagonalFB(ScaleAndShiftFB):
    """The diagonal Fisher of a scale and a shift, exact; see `ScaleAndShiftFB`.

    Example:
        >>> import numpy as np
        >>> block = ScaleAndShiftDiagonalFB.for_params((2,), (2,), shift_shape=(2,))
        >>> x, g = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 0.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state).diagonal()
        array([9., 0., 9., 0.])
    """

    factor_type: ClassVar[type[ScaleAndShiftFactor]] = ScaleAndShiftDiagonalFactor
