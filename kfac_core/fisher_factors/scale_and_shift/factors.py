"""Factors of layers that scale and shift their inputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from kfac_core.arguments.arrays import as_sources, as_towers, check_paired, check_towers
from kfac_core.arguments.options import check_options
from kfac_core.arguments.sizes import as_free_shape
from kfac_core.backend import Backend
from kfac_core.errors import ShapeError
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.fisher_factors.forms.diagonal import Diagonal
from kfac_core.fisher_factors.scale_and_shift.axes import (
    checked_dims,
    fields_for_params,
    named,
)
from kfac_core.rows.counts import count_of
from kfac_core.rows.weights import check_same_towers, sides, weights_for
from kfac_core.statistics.scale_and_shift import (
    FreeShape,
    Shape,
    kept_size,
    scale_and_shift_gradients,
)
from kfac_core.statistics.weighted_rows import Rows, masked, weigh, weighed_pair
from kfac_core.typing import Array, Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class ScaleAndShiftFactor(FisherFactor):
    """Abstract base of the factors of ``y = scale * x + shift``, with broadcasting.

    Each case's gradient is used whole, and nothing is taken to be independent. The
    gradient for the scale is the sum of ``x * g`` over the axes along which the scale
    is broadcast; the gradient for the shift is the sum of ``g``. The vector is the
    scale, then the shift, each flattened row-major.

    Attributes:
        input_shape: Shape of one case's input. None stands for an axis of any size,
            such as the positions of a sequence, along which each parameter must be
            broadcast.
        broadcast_dims_scale: Axes of the outputs along which the scale is broadcast, so
            that its gradient is summed over them; the batch is axis 0.
        broadcast_dims_shift: Axes of the outputs along which the shift is broadcast.
        has_shift: Whether there is a shift.
        output_shape: Shape of one case's output, to which the inputs are broadcast;
            None: `input_shape`.

    Example:
        >>> import numpy as np
        >>> x, g = np.asarray([[1.0, 2.0]]), np.asarray([[3.0, 1.0]])
        >>> for kind in (ScaleAndShiftFullFactor, ScaleAndShiftDiagonalFactor):
        ...     factor = kind((2,), broadcast_dims_scale=(), has_shift=False)
        ...     state = factor.update_cov(factor.init(x), x, g, ema_decay=0.0)
        ...     print(factor.get_cov(state).tolist())  # of x * g, which is [3, 2]
        [[9.0, 6.0], [6.0, 4.0]]
        [[9.0, 0.0], [0.0, 4.0]]
    """

    input_shape: FreeShape
    broadcast_dims_scale: tuple[int, ...]
    broadcast_dims_shift: tuple[int, ...] | None = None
    has_shift: bool = True
    output_shape: FreeShape | None = None

    def __post_init__(self) -> None:
        """Make the fields hashable, and check that they fit together.

        Raises:
            ArgumentError: If a shape is not a tuple of sizes, an axis is not one of the
                outputs', the axes of the shift are missing, or a parameter is not
                broadcast along an axis of any size.
            ShapeError: If the inputs cannot be broadcast to the outputs.
        """
        check_options(self)
        inputs = as_free_shape(self.input_shape, "input_shape", self.label)
        outputs = inputs
        if self.output_shape is not None:
            outputs = as_free_shape(self.output_shape, "output_shape", self.label)
        object.__setattr__(self, "input_shape", inputs)
        object.__setattr__(self, "output_shape", outputs)
        for parameter in ["scale", "shift"][: 1 + self.has_shift]:
            name = f"broadcast_dims_{parameter}"
            dims = checked_dims(getattr(self, name), outputs, name, self.label)
            object.__setattr__(self, name, dims)
        if len(inputs) != len(outputs) or any(
            size not in {1, wanted}
            for size, wanted in zip(inputs, outputs, strict=True)
        ):
            msg = (
                f"{self.label}: input_shape is {inputs} and cannot be broadcast to the"
                f" output_shape {outputs}, expected as many axes, each of size one or"
                " that of the outputs"
            )
            raise ShapeError(msg)
        super().__post_init__()

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
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
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
            weights: How much each case counts, ``[batch]``, or a tuple of these
                (towers): zero for a case that does not count; None: one each. ``[batch,
                *output_shape[:n]]``: how often each position adds to the gradient of
                its case.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

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
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        gradients = tuple(g for source in sources for g in source)
        backend = self._backend(
            state, "state, inputs, outputs_grads", *towers, *gradients
        )
        dtype, label = state.cov.total.dtype, self.label
        x_shape = ("batch", *named(self.input_shape))
        g_shape = ("batch", *named(self._outputs))
        x_checked = check_towers(backend, towers, dtype, x_shape, "inputs", label)
        count = count_of(backend, num_cases, 1, state.cov.total, label)
        moments = []
        for source in sources:
            checked = check_towers(
                backend, source, dtype, g_shape, "outputs_grads", label
            )
            check_paired(x_checked, checked, label)
            pairs = list(zip(x_checked, checked, strict=True))
            if weights is not None:
                own = sides(weights)[1]
                pairs = list(self._weighed(backend, pairs, own, state.cov.total))
            for x, g in zip(x_checked, checked, strict=True):
                self._check_free(x, g)
            rows = [
                scale_and_shift_gradients(
                    backend, x, g, self.broadcast_dims_scale, self._dims_shift
                )
                for x, g in pairs
            ]
            of_rows = self.form.of_rows(backend, Rows(rows, None, count), False)
            moments.append(of_rows)
        data = {"inputs": (towers,), "outputs_grads": sources}
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, data)

    def _weighed(
        self,
        backend: Backend,
        pairs: Sequence[tuple[Array, Array]],
        weights: Any,
        like: Array,
    ) -> Iterator[tuple[Array, Array]]:
        """Yield inputs, of the shape of the gradients, and weighted gradients."""
        if weights is None:
            yield from pairs
            return
        towers = as_towers(weights)
        check_same_towers(towers, pairs, self.label)
        # The axes of the weights after the batch are positions.
        ranks = [max(len(getattr(w, "shape", ())), 1) for w in towers]
        gradients = [g for _, g in pairs]
        shapes = [
            tuple(g.shape[:rank]) for g, rank in zip(gradients, ranks, strict=True)
        ]
        checked = weights_for(backend, towers, shapes, like, self.label)
        for (x, g), w, shape in zip(pairs, checked or (), shapes, strict=True):
            wide = x + backend.xp.zeros_like(g)
            if w.ndim == 1:
                yield weighed_pair(backend, wide, g, w)
            else:
                factor = backend.xp.reshape(w, shape)
                yield masked(backend, wide, factor), weigh(backend, g, factor)

    def _check_free(self, x: Array, g: Array) -> None:
        """Check that axes of any size have one size in inputs and gradients."""
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
class ScaleAndShiftFullFactor(ScaleAndShiftFactor):
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


@dataclass(frozen=True)
class ScaleAndShiftDiagonalFactor(ScaleAndShiftFactor):
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

    form: Form = field(default=Diagonal(), kw_only=True)
