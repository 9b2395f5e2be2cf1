"""Factors of layers that scale and shift their inputs."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from kfac_core.arguments import as_sources, as_towers, check_paired, check_towers
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_factors.base import FisherFactor
from kfac_core.fisher_factors.dense import DenseSquareMatrixFactor
from kfac_core.fisher_factors.diagonal import DiagonalFactor
from kfac_core.fisher_factors.state import FactorState
from kfac_core.statistics.covariance import mean_over, second_moment
from kfac_core.statistics.scale_and_shift import (
    broadcast_dims,
    case_gradients,
    kept_size,
)
from kfac_core.typing import Array, Scalar, Sources, Towers

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ScaleAndShiftFactor(FisherFactor):
    """Abstract base of the factors of ``y = scale * x + shift``, with broadcasting.

    Each case's gradient is taken whole: the scale's is the sum of ``x * g`` over the
    axes in which it is broadcast, the shift's the sum of ``g``. Nothing is taken to be
    independent. The vector is the scale, then the shift, each flattened row-major.

    Attributes:
        input_shape: Shape of one case's input.
        broadcast_dims_scale: Axes of the outputs in which the scale is broadcast, that
            is over which its gradient is summed; the batch is axis 0.
        broadcast_dims_shift: Likewise of the shift.
        has_shift: Whether there is a shift.
        output_shape: Shape of one case's output, to which the inputs are broadcast;
            None: `input_shape`.
    """

    input_shape: Shape
    broadcast_dims_scale: tuple[int, ...]
    broadcast_dims_shift: tuple[int, ...] | None = None
    has_shift: bool = True
    output_shape: Shape | None = None

    def __post_init__(self) -> None:
        """Make the fields hashable, and check that they fit together.

        Raises:
            ArgumentError: If an axis is none of the outputs, or those of the shift are
                missing.
            ShapeError: If the inputs cannot be broadcast to the outputs.
        """
        super().__post_init__()
        outputs = self.input_shape if self.output_shape is None else self.output_shape
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        object.__setattr__(self, "output_shape", tuple(outputs))
        names = ["broadcast_dims_scale", "broadcast_dims_shift"][: 1 + self.has_shift]
        for name in names:
            dims = getattr(self, name)
            known = range(1, len(self._outputs) + 1)
            if dims is None or len({*dims} & {*known}) != len(dims):
                msg = (
                    f"{self.label}: {name} is {dims}, expected different axes of"
                    f" {[*known]}, that is of the outputs without the batch"
                )
                raise ArgumentError(msg)
            object.__setattr__(self, name, tuple(sorted(dims)))
        if len(self.input_shape) != len(self._outputs) or any(
            size not in {1, wanted}
            for size, wanted in zip(self.input_shape, self._outputs, strict=True)
        ):
            msg = (
                f"{self.label}: inputs of shape {self.input_shape} cannot be broadcast"
                f" to outputs of shape {self.output_shape}: expected as many axes, each"
                " of size one or that of the outputs"
            )
            raise ShapeError(msg)

    @classmethod
    def for_params(
        cls,
        scale_shape: Shape,
        input_shape: Shape,
        output_shape: Shape | None = None,
        shift_shape: Shape | None = None,
        **options: Any,
    ) -> Self:
        """Return the factor of parameters of these shapes, aligned from the right.

        Args:
            scale_shape: Shape of the scale.
            input_shape: Shape of one case's input.
            output_shape: Shape of one case's output; None: `input_shape`.
            shift_shape: Shape of the shift; None if there is none.
            **options: Further fields.

        Returns:
            The spec.

        Raises:
            ShapeError: If a parameter has more axes than the outputs, an axis for
                cases, or a size that is neither one nor that of the outputs.

        Example:
            >>> factor = ScaleAndShiftDiagonalFactor.for_params((3,), (5, 3))
            >>> factor.broadcast_dims_scale, factor.dimension
            ((1,), 3)
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

    @property
    def dimension(self) -> int:
        """Number of entries of the scale and the shift."""
        size = kept_size(self._outputs, self.broadcast_dims_scale)
        dims = self._dims_shift
        return size + (0 if dims is None else kept_size(self._outputs, dims))

    def update_cov(
        self,
        state: FactorState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> FactorState:
        """Fold the per-case gradients of a batch into the average.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, *input_shape]``, or a tuple of these (towers).
            outputs_grads: Gradients of the summed loss, ``[batch, *output_shape]``; or
                a tuple of these (towers); or a tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, or there
                is no case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or the weight is out of range.
        """
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        gradients = tuple(g for source in sources for g in source)
        backend = self._backend(state, *towers, *gradients)
        dtype, label = state.cov.total.dtype, self.label
        x_shape: tuple[int | str, ...] = ("batch", *self.input_shape)
        g_shape: tuple[int | str, ...] = ("batch", *self._outputs)
        x_checked = check_towers(backend, towers, dtype, x_shape, "inputs", label)
        moments = []
        for source in sources:
            checked = check_towers(
                backend, source, dtype, g_shape, "outputs_grads", label
            )
            check_paired(x_checked, checked, label)
            rows = [
                case_gradients(
                    backend, x, g, self.broadcast_dims_scale, self._dims_shift
                )
                for x, g in zip(x_checked, checked, strict=True)
            ]
            moments.append(self._moment(backend, rows))
        data = {"inputs": (towers,), "outputs_grads": sources}
        return self._accumulate(backend, state, moments, ema_decay, ema_weight, data)

    @abstractmethod
    def _moment(self, backend: Backend, rows: Sequence[Array]) -> Array:
        """Return the statistics of per-case gradients, each ``[batch, dimension]``."""

    @property
    def _outputs(self) -> Shape:
        return self.input_shape if self.output_shape is None else self.output_shape

    @property
    def _dims_shift(self) -> tuple[int, ...] | None:
        return self.broadcast_dims_shift if self.has_shift else None


@dataclass(frozen=True)
class ScaleAndShiftFullFactor(ScaleAndShiftFactor, DenseSquareMatrixFactor):
    """Fisher of a scale and a shift, whole and exact; see `ScaleAndShiftFactor`.

    Estimates the mean over cases of ``v v'``, where ``v`` is a case's gradient.

    Example:
        >>> import numpy as np
        >>> factor = ScaleAndShiftFullFactor((1,), (), ())
        >>> x, g = np.asarray([[2.0], [4.0]]), np.asarray([[1.0], [1.0]])
        >>> state = factor.update_cov(factor.init(x), x, g, ema_decay=0.0)
        >>> factor.get_cov(state)
        array([[10.,  3.],
               [ 3.,  1.]])
    """

    def _moment(self, backend: Backend, rows: Sequence[Array]) -> Array:
        return second_moment(backend, rows)


@dataclass(frozen=True)
class ScaleAndShiftDiagonalFactor(ScaleAndShiftFactor, DiagonalFactor):
    """Diagonal Fisher of a scale and a shift, exact; see `ScaleAndShiftFactor`.

    Estimates the mean over cases of the squared entries of a case's gradient.

    Example:
        >>> import numpy as np
        >>> factor = ScaleAndShiftDiagonalFactor((1,), (), ())
        >>> x, g = np.asarray([[2.0], [4.0]]), np.asarray([[1.0], [1.0]])
        >>> state = factor.update_cov(factor.init(x), x, g, ema_decay=0.0)
        >>> factor.get_cov_var(state)
        array([10.,  1.])
    """

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """``(dimension,)``."""
        return (self.dimension,)

    def _moment(self, backend: Backend, rows: Sequence[Array]) -> Array:
        return mean_over(backend, [row * row for row in rows])


def fields_for_params(
    layer: str,
    scale_shape: Shape,
    input_shape: Shape,
    output_shape: Shape | None,
    shift_shape: Shape | None,
) -> dict[str, Any]:
    """Return the fields of a spec for parameters of these shapes."""
    outputs = tuple(input_shape if output_shape is None else output_shape)
    dims_shift = None
    if shift_shape is not None:
        dims_shift = broadcast_dims(tuple(shift_shape), outputs, "shift", layer)
    return {
        "input_shape": tuple(input_shape),
        "broadcast_dims_scale": broadcast_dims(
            tuple(scale_shape), outputs, "scale", layer
        ),
        "broadcast_dims_shift": dims_shift,
        "has_shift": shift_shape is not None,
        "output_shape": outputs,
    }
