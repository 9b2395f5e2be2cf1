"""Factors of convolutions in 1, 2 and 3 spatial dimensions."""

import math
from dataclasses import dataclass, field

from kfac_core.arguments import (
    as_batch,
    as_sources,
    as_towers,
    check_paired,
    check_shape,
)
from kfac_core.fisher_factors.dense import DenseSquareMatrixFactor
from kfac_core.fisher_factors.diagonal import DiagonalFactor
from kfac_core.fisher_factors.state import FactorState
from kfac_core.statistics.convolution import case_gradients, patch_second_moment
from kfac_core.statistics.convolution_geometry import (
    ConvolutionGeometry,
    Padding,
    channels_to_last,
    is_channels_last,
)
from kfac_core.statistics.covariance import mean_over, second_moment
from kfac_core.statistics.patch_functions import geometry_for
from kfac_core.typing import Scalar, Sources, Towers


@dataclass(frozen=True)
class ConvInputKroneckerFactor(DenseSquareMatrixFactor):
    """Second moment of the patches that a convolution's kernel sees.

    Estimates ``E[p p']`` over cases and locations, each location one patch ``p``, the
    zeros of the padding included (``Omega`` of Grosse & Martens, 2016, section 3.1,
    divided by the number of locations). Patches are laid out as the leading axes of
    the filter: kernel axes, then channels, then the one for the bias.

    Attributes:
        filter_shape: ``(..kernel.., in_channels, out_channels)``.
        padding: ``"SAME"``, ``"VALID"``, a width, or for each spatial axis a width or
            a pair ``(before, after)``.
        strides: For each spatial axis, or of full rank, as `extract_patches_fn` says;
            None: 1.
        dilation_rate: Likewise.
        data_format: None or such as ``"NHWC"``: channels last; such as ``"NCHW"``:
            channels first.
        extract_patches_fn: One of the original's names: see
            `kfac_core.statistics.patch_functions`.
        has_bias: Whether each patch ends in a one.

    Example:
        >>> import numpy as np
        >>> factor = ConvInputKroneckerFactor((1, 1, 1, 1), "SAME", has_bias=True)
        >>> images = np.asarray([1.0, 2.0]).reshape(2, 1, 1, 1)
        >>> state = factor.update_cov(factor.init(images), images, ema_decay=0.0)
        >>> factor.get_cov(state)
        array([[2.5, 1.5],
               [1.5, 1. ]])
    """

    filter_shape: tuple[int, ...]
    padding: Padding
    strides: tuple[int, ...] | int | None = None
    dilation_rate: tuple[int, ...] | int | None = None
    data_format: str | None = None
    extract_patches_fn: str | None = None
    has_bias: bool = False
    geometry: ConvolutionGeometry = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the geometry, once."""
        super().__post_init__()
        _freeze(self, "filter_shape", "padding", "strides", "dilation_rate")
        geometry = geometry_for(
            self.filter_shape,
            self.padding,
            self.strides,
            self.dilation_rate,
            self.data_format,
            self.extract_patches_fn,
            self.label,
        )
        object.__setattr__(self, "geometry", geometry)

    @property
    def dimension(self) -> int:
        """Length of a patch, with the one for the bias."""
        return math.prod(self.filter_shape[:-1]) + self.has_bias

    def update_cov(
        self,
        state: FactorState,
        inputs: Towers,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moment of a batch's patches into the average.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, ..spatial.., in_channels]``, or channels first; or a
                tuple of these (towers, weighted by their patches).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another rank or number of channels, if there is
                no case, or if the kernel does not fit into the padded image.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or the weight is out of range.
        """
        towers = as_towers(inputs)
        backend = self._backend(state, *towers)
        for x in towers:
            self.geometry.check_inputs(x, self.filter_shape[-2], self.label)
        dtype = state.cov.total.dtype
        checked = as_batch(backend, towers, dtype, "inputs", self.label)
        moment = patch_second_moment(
            backend, checked, self.geometry, has_bias=self.has_bias
        )
        data = {"inputs": (towers,)}
        return self._accumulate(backend, state, [moment], ema_decay, ema_weight, data)


@dataclass(frozen=True)
class ConvOutputKroneckerFactor(DenseSquareMatrixFactor):
    """Second moment of a convolution's output gradients.

    Estimates ``E[g g']`` over cases and locations (``Gamma`` of Grosse & Martens, 2016,
    section 3.1).

    Attributes:
        output_size: Number of output channels.
        data_format: None or such as ``"NHWC"``: channels last; such as ``"NCHW"``:
            channels first.

    Example:
        >>> import numpy as np
        >>> factor = ConvOutputKroneckerFactor(1)
        >>> gradients = np.asarray([1.0, 3.0]).reshape(1, 1, 2, 1)
        >>> state = factor.init(gradients)
        >>> factor.get_cov(factor.update_cov(state, gradients, ema_decay=0.0))
        array([[5.]])
    """

    output_size: int
    data_format: str | None = None

    @property
    def dimension(self) -> int:
        """Number of output channels."""
        return self.output_size

    def update_cov(
        self,
        state: FactorState,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moment of a batch's gradients into the average.

        Args:
            state: The state; left as it is.
            outputs_grads: Gradients of the summed loss, ``[batch, ..spatial..,
                output_size]``, or channels first; or a tuple of these (towers); or a
                tuple of such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another rank or number of channels, or there
                is no case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or the weight is out of range.
        """
        sources = as_sources(outputs_grads)
        backend = self._backend(state, *(g for source in sources for g in source))
        dtype, label = state.cov.total.dtype, self.label
        moments = []
        for source in sources:
            rows = []
            for g in source:
                spatial = ("size",) * (g.ndim - 2)
                if not 1 <= g.ndim - 2 <= 3:
                    wanted = ("batch", "1 to 3 spatial axes", self.output_size)
                    check_shape(g, wanted, "outputs_grads", label)
                last = is_channels_last(self.data_format, len(spatial), label)
                shape = ("batch", *spatial, self.output_size)
                if not last:
                    shape = ("batch", self.output_size, *spatial)
                check_shape(g, shape, "outputs_grads", label)
                g_last = g if last else channels_to_last(backend, g)
                rows.append(backend.xp.reshape(g_last, (-1, self.output_size)))
            checked = as_batch(backend, tuple(rows), dtype, "outputs_grads", label)
            moments.append(second_moment(backend, checked))
        data = {"outputs_grads": sources}
        return self._accumulate(backend, state, moments, ema_decay, ema_weight, data)


@dataclass(frozen=True)
class ConvDiagonalFactor(DiagonalFactor):
    """Diagonal of a convolution's Fisher, exact.

    Estimates the mean over cases of the square of each entry of the case's gradient,
    summed over locations before it is squared.

    Attributes:
        filter_shape: ``(..kernel.., in_channels, out_channels)``.
        strides: For each spatial axis, or of full rank.
        padding: As in `ConvInputKroneckerFactor`.
        data_format: As in `ConvInputKroneckerFactor`.
        dilations: For each spatial axis, or of full rank; None: 1.
        has_bias: Whether the layer has a bias.
    """

    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | int | None
    padding: Padding
    data_format: str | None = None
    dilations: tuple[int, ...] | int | None = None
    has_bias: bool = False
    geometry: ConvolutionGeometry = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the geometry, once."""
        super().__post_init__()
        _freeze(self, "filter_shape", "padding", "strides", "dilations")
        geometry = geometry_for(
            self.filter_shape,
            self.padding,
            self.strides,
            self.dilations,
            self.data_format,
            None,
            self.label,
        )
        object.__setattr__(self, "geometry", geometry)

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """Shape of the layer's parameters as one matrix, the bias its last row."""
        rows = math.prod(self.filter_shape[:-1]) + self.has_bias
        return (rows, self.filter_shape[-1])

    def update_cov(
        self,
        state: FactorState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> FactorState:
        """Fold the squared per-case gradients of a batch into the average.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, ..spatial.., in_channels]``, or channels first; or a
                tuple of these (towers).
            outputs_grads: Gradients of the summed loss, ``[batch, ..locations..,
                out_channels]``, likewise; or a tuple of these (towers); or a tuple of
                such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.

        Returns:
            The new state.

        Raises:
            ShapeError: If an array has another shape, towers do not match, there is
                no case, or the kernel does not fit into the padded image.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or the weight is out of range.
        """
        towers, sources = as_towers(inputs), as_sources(outputs_grads)
        gradients = tuple(g for source in sources for g in source)
        backend = self._backend(state, *towers, *gradients)
        geometry, label = self.geometry, self.label
        dtype = state.cov.total.dtype
        for x in towers:
            geometry.check_inputs(x, self.filter_shape[-2], label)
        inputs_checked = as_batch(backend, towers, dtype, "inputs", label)
        moments = []
        for source in sources:
            check_paired(towers, source, label)
            for x, g in zip(towers, source, strict=True):
                geometry.check_outputs(x, g, self.filter_shape[-1], label)
            checked = as_batch(backend, source, dtype, "outputs_grads", label)
            squares = []
            for x, g in zip(inputs_checked, checked, strict=True):
                per_case = case_gradients(
                    backend, x, g, geometry, has_bias=self.has_bias
                )
                squares.append(per_case * per_case)
            moments.append(mean_over(backend, squares))
        data = {"inputs": (towers,), "outputs_grads": sources}
        return self._accumulate(backend, state, moments, ema_decay, ema_weight, data)


def _freeze(spec: object, *names: str) -> None:
    """Turn lists among the fields of a frozen spec into tuples: specs are hashable."""
    for name in names:
        value = getattr(spec, name)
        if isinstance(value, list):
            frozen = tuple(tuple(v) if isinstance(v, list) else v for v in value)
            object.__setattr__(spec, name, frozen)
