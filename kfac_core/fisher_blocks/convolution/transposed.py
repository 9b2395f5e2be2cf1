"""KFC of transposed convolutions in 1, 2 and 3 spatial dimensions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from kfac_core.arguments.arrays import as_sources, as_towers, backend_for
from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.damping import DampingType
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.fisher_blocks.base.block import FisherBlock
from kfac_core.fisher_blocks.base.parts import PartsFB, PartsState
from kfac_core.fisher_blocks.base.state import whole
from kfac_core.fisher_blocks.bias import BiasFullFB
from kfac_core.fisher_blocks.convolution.grouped import GroupedConvKFCBasicFB
from kfac_core.fisher_blocks.convolution.kronecker import ConvKFCBasicFB
from kfac_core.fisher_blocks.convolution.transposed_parts import (
    TransposedGroupsFB,
    TransposedWeightsFB,
    check_data,
    known_weights,
    spread_data,
)
from kfac_core.linalg.parameters import tensors_of
from kfac_core.statistics.patches.geometry import (
    ConvolutionGeometry,
    check_geometry,
)
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.statistics.patches.transposed import TransposedWindow
from kfac_core.typing import Array, Params, Scalar, Sources, Towers, Weights

Locations = Literal["input", "output"]
"""The locations that a transposed convolution's gradient is a sum over."""


@takes_older_calls
@dataclass(frozen=True)
class TransposedConvKFCBasicFB(PartsFB):
    """KFC of a transposed ("fractionally strided") convolution.

    The gradient for the weights can be written as a sum over input locations, ``sum_u
    x_u q_u'`` with ``q_u`` the patch of output gradients that the input at ``u``
    touches; or as a sum over output locations, ``sum_t p_t g_t'`` with ``p_t`` a patch
    of the inputs with ``stride - 1`` zeros between neighbours. In either sum, locations
    can be taken to be uncorrelated and both sides independent, as in `ConvKFCBasicFB`:

    - ``locations="input"``: ``F = U kron(E[x x'], E[q q'])`` for ``U`` input locations.
      The bias is no row of these weights. It has a block of its own, a `BiasFullFB`,
      which is exact, and is taken to be uncorrelated with the weights.
    - ``locations="output"``: ``F = T kron(E[p p'], E[g g'])`` for ``T`` output
      locations. The bias is a row of the weights, as in other libraries.

    With one input location, the first is as exact as K-FAC of a fully connected layer;
    with one output location, the second is. Where there are fewer inputs than outputs,
    the first drops fewer correlations. If stride and kernel are equal, and nothing is
    cut off, the first is the block of the fully connected layer that all locations
    share.

    Attributes:
        geometry: The geometry of the convolution whose adjoint this layer is, except
            that its `filter_shape` names the layer's own channels: ``(..kernel..,
            in_channels, out_channels / num_groups)``, the inputs of a group being
            consecutive. Its padding is what is cut off the outputs at either end;
            with ``"SAME"`` there are ``ceil(outputs / stride)`` inputs. The order of
            the weights' axes is ``"IOHW"`` in PyTorch, and ``"HWOI"`` in TensorFlow and
            Keras.
        output_padding: Number of outputs added after the last one, less than the stride
            or the dilation; None where the data say it. Flax's `ConvTranspose` with
            ``"VALID"`` and a kernel shorter than the stride adds ``stride - kernel``.
        has_bias: Whether the layer has a bias.
        locations: ``"input"`` or ``"output"``.
        mirrored: Whether the kernel runs backwards, as in `jax.lax.conv_transpose` with
            ``transpose_kernel=False``, and in Flax.
        damping_type: As in `KroneckerProductFB`, of the Kronecker products; a bias with
            a block of its own is damped by the damping itself.
        normalize_damping_power: As in `KroneckerProductFB`.
        window: Where the layer looks.

    Example:
        >>> import numpy as np
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry((2, 1, 1), padding="VALID", strides=2)
        >>> block = TransposedConvKFCBasicFB(geometry, has_bias=True)
        >>> x = np.asarray([1.0, 2.0]).reshape(1, 2, 1)
        >>> g = np.asarray([1.0, 0.0, 1.0, 2.0]).reshape(1, 4, 1)
        >>> state = block.update_covs(block.init(like=g), x, g, ema_decay=0.0)
        >>> block.full_fisher_block(state)
        array([[ 5.,  5.,  0.],
               [ 5., 10.,  0.],
               [ 0.,  0., 16.]])
    """

    geometry: ConvolutionGeometry
    output_padding: tuple[int, ...] | int | None = None
    has_bias: bool = False
    locations: Locations = "input"
    mirrored: bool = field(default=False, kw_only=True)
    damping_type: DampingType = field(default="pi", kw_only=True)
    normalize_damping_power: float = field(default=1.0, kw_only=True)
    window: TransposedWindow = field(init=False, repr=False, compare=False)

    _kinds_of_outputs: ClassVar[tuple[Any, Any]] = (
        ConvKFCBasicFB,
        GroupedConvKFCBasicFB,
    )
    """Blocks of the convolution that output locations see, whole and in groups."""

    def __post_init__(self) -> None:
        """Work out the geometry, and make the parts, once.

        Raises:
            ArgumentError: If an option is unknown, a number out of range, or the groups
                do not divide the input channels.
            ShapeError: If a length is not that of the kernel.
        """
        check_geometry(self, grouped=True)
        super().__post_init__()
        geometry = self.geometry
        channels, groups = geometry.shape[-2], geometry.num_groups
        if channels % groups:
            msg = (
                f"{self.label}: num_groups is {shown(groups)}, expected a divisor of"
                f" the {channels} input channels of {geometry.weights}"
            )
            raise ArgumentError(msg)
        window = TransposedWindow.of(
            geometry.window, self.output_padding, self.label, mirrored=self.mirrored
        )
        object.__setattr__(self, "window", window)
        object.__setattr__(self, "output_padding", window.output_padding)
        self._set_layout(geometry.weights)
        if self.locations == "output":
            self._set_parts(weights=self._of_outputs())
        else:
            bias = self._bias() if self.has_bias else None
            self._set_parts(weights=self._of_inputs(), bias=bias)

    @property
    def out_channels(self) -> int:
        """Number of output channels, of all groups."""
        return self.geometry.shape[-1] * self.geometry.num_groups

    def update_covs(
        self,
        state: PartsState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> PartsState:
        """Fold a batch into the statistics of all factors.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, ..spatial.., in_channels]``, or channels first; or a
                tuple of these (towers, weighted by their rows).
            outputs_grads: Gradients of the summed loss for the layer's outputs,
                ``[batch, ..locations.., out_channels]``, or channels first; or a tuple
                of these (towers); or a tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or each location that the
                gradient is a sum over, ``[batch, ..locations..]``: of the inputs, or of
                the outputs with ``locations="output"``; or a tuple of these (towers).
                Zero for one that does not count; None: one each. A bias with a block of
                its own sees no input locations: give ``[batch]``. Inputs and gradients
                may have different weights: see `kfac_core.typing.RowWeights`.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, there is no
                case, or the outputs are not those of the inputs; or if there are
                weights of input locations, and a bias.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        window, ema = self.window, (ema_decay, ema_weight)
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        gradients = (g for source in sources for g in source)
        given = (self._own(state).ok, *towers, *gradients)
        backend = backend_for(self.label, "state, inputs, outputs_grads", *given)
        sizes = (self.geometry.shape[-2], self.out_channels)
        check_data(window, towers, sources, *sizes, self.label)
        known = known_weights(
            backend,
            window,
            weights,
            (towers, sources[0]),
            state.parts[0].scale,
            self.label,
            of_inputs=self.locations == "input",
            has_bias=self.has_bias,
        )
        counting = {"weights": known, "num_cases": num_cases}
        data: tuple[Any, ...] = (towers, sources)
        if self.locations == "output":
            data = spread_data(backend, window, towers, sources)
        of_parts = [(data, counting), ((sources,), counting)]
        return self._folded(backend, state, of_parts[: len(self.parts)], ema)

    def _folded(
        self,
        backend: Backend,
        state: PartsState,
        of_parts: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]],
        ema: tuple[Scalar, Scalar | None],
    ) -> PartsState:
        """Fold the data of each part, with its options."""
        new = [
            block.update_covs(part, *data, *ema, **options)
            for (_, block), part, (data, options) in zip(
                self.parts, state.parts, of_parts, strict=True
            )
        ]
        return whole(backend, state._replace(parts=tuple(new)), state, "cov_ok")

    def _split(self, backend: Backend, vector: Params) -> tuple[Params, ...]:
        shapes = [tuple(tensor.shape) for tensor in tensors_of(vector)]
        weights, *bias = shapes or [()]
        fits = weights == self.geometry.filter_shape and len(bias) == int(self.has_bias)
        if not fits or any(math.prod(shape) != self.out_channels for shape in bias):
            also = f", and a bias of {self.out_channels}" if self.has_bias else ""
            msg = (
                f"{self.label}: vector has shapes {shapes}, expected weights of shape"
                f" {self.geometry.weights}{also}"
            )
            raise ShapeError(msg)
        first, *others = tensors_of(vector)
        axes, _ = self._axes
        if self.weight_layout is not None:
            first = backend.xp.permute_dims(first, self.weight_layout.axes)
        cells = backend.xp.reshape(first, self._cells)
        moved = backend.xp.permute_dims(cells, axes)
        matrix: Array = backend.xp.reshape(moved, (math.prod(moved.shape[:-2]), -1))
        if self.locations == "input":
            matrix = backend.xp.reshape(moved, (moved.shape[0], -1))
            return (matrix, *others)
        return ((matrix, *others),) if others else (matrix,)

    def _joined(
        self, backend: Backend, products: tuple[Params, ...], vector: Params
    ) -> Params:
        matrix, *others = (x for product in products for x in tensors_of(product))
        axes, back = self._axes
        cells = backend.xp.reshape(matrix, tuple(self._cells[axis] for axis in axes))
        moved = backend.xp.permute_dims(cells, back)
        weights: Array = backend.xp.reshape(moved, self.geometry.shape)
        if self.weight_layout is not None:
            weights = backend.xp.permute_dims(weights, self.weight_layout.inverse)
        return (weights, *others) if isinstance(vector, tuple | list) else weights

    def _in_order(self, backend: Backend, dense: Array) -> Array:
        axes, _ = self._axes
        size = math.prod(self.geometry.shape)
        # Where each entry of the parameters stands in the parts.
        places = np.arange(dense.shape[0])
        moved = np.arange(size).reshape(self._cells).transpose(axes).ravel()
        places[moved] = np.arange(size)
        device = backend.creation_device(dense)
        index = backend.xp.asarray(places, device=device)
        rows = backend.xp.take(dense, index, axis=0)
        ordered: Array = backend.xp.take(rows, index, axis=1)
        return self._laid_out(backend, ordered)

    @property
    def _cells(self) -> tuple[int, int, int, int]:
        """Taps, groups, inputs and outputs of a group: the axes of the weights."""
        *kernel, channels, outputs = self.geometry.shape
        groups = self.geometry.num_groups
        return math.prod(kernel), groups, channels // groups, outputs

    @property
    def _axes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The order of these axes in the part of the weights, and its inverse."""
        if self.locations == "input":
            return (2, 1, 0, 3), (2, 1, 0, 3)
        return (0, 2, 1, 3), (0, 2, 1, 3)

    def _options(self, part: str) -> dict[str, Any]:
        """Return the fields that this block shares with those of its parts."""
        return {
            "name": f"{self.label} ({part})",
            "matpowers": self.matpowers,
            "cholesky": self.cholesky,
            "cholesky_inverse": self.cholesky_inverse,
            **self._averaging(),
            **self._inverting(),
        }

    def _damped(self) -> dict[str, Any]:
        return {
            "damping_type": self.damping_type,
            "normalize_damping_power": self.normalize_damping_power,
            **self._options("weights"),
        }

    def _of_inputs(self) -> FisherBlock[Any]:
        grouped = self.geometry.num_groups > 1
        kind = TransposedGroupsFB if grouped else TransposedWeightsFB
        return kind(self.geometry, self.window, **self._damped())

    def _of_outputs(self) -> FisherBlock[Any]:
        adjoint = self.window.adjoint
        _, groups, channels, outputs = self._cells
        geometry = ConvolutionGeometry(
            (*adjoint.kernel, channels, groups * outputs),
            padding="VALID",
            dilations=adjoint.dilations,
            num_groups=groups,
        )
        kind = self._kinds_of_outputs[groups > 1]
        block: FisherBlock[Any] = kind(geometry, self.has_bias, **self._damped())
        return block

    def _bias(self) -> BiasFullFB:
        adjoint = self.window.adjoint
        channels = (self.out_channels,)
        spatial = () if adjoint.channels_last else (1,) * adjoint.spatial_rank
        return BiasFullFB((*channels, *spatial), **self._options("bias"))
