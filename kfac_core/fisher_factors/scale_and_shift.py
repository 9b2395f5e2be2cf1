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
from kfac_core.sizes import as_free_shape, as_shape
from kfac_core.statistics.covariance import mean_over, second_moment
from kfac_core.statistics.scale_and_shift import (
    FreeShape,
    Shape,
    broadcast_dims,
    case_gradients,
    kept_size,
)
from kfac_core.typing import Array, Scalar, Sources, Towers


@dataclass(frozen=True)
class ScaleAndShiftFactor(FisherFactor):
    """Abstract base of the factors of ``y = scale * x + shift``, with broadcasting.

    Each case's gradient is taken whole: the scale's is the sum of ``x * g`` over the
    axes in which it is broadcast, the shift's the sum of ``g``. Nothing is taken to be
    independent. The vector is the scale, then the shift, each flattened row-major.

    Attributes:
        input_shape: Shape of one case's input. None stands for an axis of any size,
            such as the positions of a sequence, along which each parameter must be
            broadcast.
        broadcast_dims_scale: Axes of the outputs in which the scale is broadcast, that
            is over which its gradient is summed; the batch is axis 0.
        broadcast_dims_shift: Likewise of the shift.
        has_shift: Whether there is a shift.
        output_shape: Shape of one case's output, to which the inputs are broadcast;
            None: `input_shape`.
    """

    input_shape: FreeShape
    broadcast_dims_scale: tuple[int, ...]
    broadcast_dims_shift: tuple[int, ...] | None = None
    has_shift: bool = True
    output_shape: FreeShape | None = None

    def __post_init__(self) -> None:
        """Make the fields hashable, and check that they fit together.

        Raises:
            ArgumentError: If a shape is none, an axis is none of the outputs, those of
                the shift are missing, or a parameter is not broadcast along an axis of
                any size.
            ShapeError: If the inputs cannot be broadcast to the outputs.
        """
        super().__post_init__()
        inputs = as_free_shape(self.input_shape, "input_shape", self.label)
        outputs = inputs
        if self.output_shape is not None:
            outputs = as_free_shape(self.output_shape, "output_shape", self.label)
        object.__setattr__(self, "input_shape", inputs)
        object.__setattr__(self, "output_shape", outputs)
        for parameter in ["scale", "shift"][: 1 + self.has_shift]:
            name = f"broadcast_dims_{parameter}"
            dims = _checked_dims(getattr(self, name), outputs, name, self.label)
            object.__setattr__(self, name, dims)
        if len(inputs) != len(outputs) or any(
            size not in {1, wanted}
            for size, wanted in zip(inputs, outputs, strict=True)
        ):
            msg = (
                f"{self.label}: inputs of shape {inputs} cannot be broadcast to outputs"
                f" of shape {outputs}: expected as many axes, each of size one or that"
                " of the outputs"
            )
            raise ShapeError(msg)

    @classmethod
    def for_params(
        cls,
        scale_shape: Shape,
        input_shape: FreeShape,
        output_shape: FreeShape | None = None,
        shift_shape: Shape | None = None,
        **options: Any,
    ) -> Self:
        """Return the factor of parameters of these shapes, aligned from the right.

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
        x_shape = ("batch", *_named(self.input_shape))
        g_shape = ("batch", *_named(self._outputs))
        x_checked = check_towers(backend, towers, dtype, x_shape, "inputs", label)
        moments = []
        for source in sources:
            checked = check_towers(
                backend, source, dtype, g_shape, "outputs_grads", label
            )
            check_paired(x_checked, checked, label)
            for x, g in zip(x_checked, checked, strict=True):
                self._check_free(x, g)
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

    def _check_free(self, x: Array, g: Array) -> None:
        """Check that axes of any size have the same in inputs and gradients."""
        for axis, size in enumerate(self.input_shape, start=1):
            if size is None and x.shape[axis] != g.shape[axis]:
                msg = (
                    f"{self.label}: along axis {axis}, of any size, inputs of shape"
                    f" {tuple(x.shape)} have {x.shape[axis]} entries and outputs_grads"
                    f" {g.shape[axis]}; give both for the same data"
                )
                raise ShapeError(msg)

    @property
    def _outputs(self) -> FreeShape:
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
    input_shape: FreeShape,
    output_shape: FreeShape | None,
    shift_shape: Shape | None,
) -> dict[str, Any]:
    """Return the fields of a spec for parameters of these shapes."""
    inputs = as_free_shape(input_shape, "input_shape", layer)
    outputs = inputs
    if output_shape is not None:
        outputs = as_free_shape(output_shape, "output_shape", layer)
    dims_shift = None
    if shift_shape is not None:
        shift = as_shape(shift_shape, "the shape of the shift", layer)
        dims_shift = broadcast_dims(shift, outputs, "shift", layer)
    scale = as_shape(scale_shape, "the shape of the scale", layer)
    return {
        "input_shape": inputs,
        "broadcast_dims_scale": broadcast_dims(scale, outputs, "scale", layer),
        "broadcast_dims_shift": dims_shift,
        "has_shift": shift_shape is not None,
        "output_shape": outputs,
    }


def _checked_dims(
    dims: Any, outputs: FreeShape, name: str, label: str
) -> tuple[int, ...]:
    """Return axes of the outputs, ascending: all those of any size among them."""
    known = range(1, len(outputs) + 1)
    # No shape, but a list of positive integers all the same.
    try:
        axes = as_shape(dims, name, label)
    except ArgumentError:
        axes = (0,)
    if len({*axes} & {*known}) != len(axes):
        msg = (
            f"{label}: {name} is {dims}, expected different axes of {[*known]}, that is"
            " of the outputs without the batch"
        )
        raise ArgumentError(msg)
    free = [axis for axis in known if outputs[axis - 1] is None and axis not in axes]
    if free:
        msg = (
            f"{label}: the axes {free} of outputs of shape {outputs} may have any size,"
            f" but are not in {name}, {axes}: a parameter is broadcast along such an"
            " axis; give its size, or the axis there"
        )
        raise ArgumentError(msg)
    return tuple(sorted(axes))


def _named(shape: FreeShape) -> tuple[int | str, ...]:
    """Return a shape for `check_shape`."""
    return tuple("any size" if size is None else size for size in shape)
