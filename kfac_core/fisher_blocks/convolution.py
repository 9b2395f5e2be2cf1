"""Blocks of convolutions in 1, 2 and 3 spatial dimensions."""

from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core import moving_average
from kfac_core.arguments import (
    as_scalar,
    as_towers,
    backend_for,
)
from kfac_core.damping import normalize_damping
from kfac_core.fisher_blocks.kronecker import KroneckerProductFB, KroneckerState
from kfac_core.fisher_blocks.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_factors import (
    ConvDiagonalFactor,
    ConvInputKroneckerFactor,
    ConvOutputKroneckerFactor,
)
from kfac_core.state import select
from kfac_core.statistics.convolution_geometry import ConvolutionGeometry, Padding
from kfac_core.typing import Array, Scalar, Sources, Towers


@dataclass(frozen=True)
class ConvKFCBasicFB(KroneckerProductFB):
    """KFC of a convolution: ``F = P kron(E[p p'], E[g g'])`` for ``P`` locations.

    Patches and output gradients are taken to be independent, and locations
    uncorrelated (Grosse & Martens, 2016, section 3). ``P`` is the true number of
    output locations; the original ignores dilation and refuses spatial strides.

    Attributes:
        filter_shape: ``(..kernel.., in_channels, out_channels)``, the shape of the
            weights.
        padding: ``"SAME"``, ``"VALID"``, a width, or for each spatial axis a width or
            a pair ``(before, after)``.
        strides: For each spatial axis, or of full rank, as `extract_patches_fn` says;
            None: 1.
        dilation_rate: Likewise.
        data_format: None or such as ``"NHWC"``: channels last; such as ``"NCHW"``:
            channels first. The weights keep their axes.
        extract_patches_fn: One of the original's names: see
            `kfac_core.statistics.patch_functions`.
        has_bias: Whether the layer has a bias.

    Example:
        >>> import numpy as np
        >>> block = ConvKFCBasicFB((2, 2, 1, 1), "VALID", strides=(2, 2), has_bias=True)
        >>> image = np.arange(1.0, 17.0).reshape(1, 4, 4, 1)
        >>> g = np.arange(-1.0, 3.0).reshape(1, 2, 2, 1)
        >>> state = block.update_covs(block.init(like=g), image, g, ema_decay=0.0)
        >>> state = block.update_inverses(state, damping=0.5)
        >>> vector = (np.ones((2, 2, 1, 1)), np.asarray([2.0]))
        >>> block.multiply_inverse(state, vector)[1].round(6)
        array([0.122306])
    """

    filter_shape: tuple[int, ...]
    padding: Padding
    strides: tuple[int, ...] | int | None = None
    dilation_rate: tuple[int, ...] | int | None = None
    data_format: str | None = None
    extract_patches_fn: str | None = None
    has_bias: bool = False

    geometry: ConvolutionGeometry = field(init=False, repr=False, compare=False)

    is_repeated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Make the factors, once."""
        super().__post_init__()
        inputs = ConvInputKroneckerFactor(
            self.filter_shape,
            self.padding,
            self.strides,
            self.dilation_rate,
            self.data_format,
            self.extract_patches_fn,
            self.has_bias,
            **self._factor_options("input"),
        )
        for name in ("filter_shape", "padding", "strides", "dilation_rate"):
            object.__setattr__(self, name, getattr(inputs, name))
        outputs = ConvOutputKroneckerFactor(
            self.filter_shape[-1], self.data_format, **self._factor_options("output")
        )
        self._set_factors(inputs, outputs)
        object.__setattr__(self, "geometry", inputs.geometry)

    def update_covs(
        self,
        state: KroneckerState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> KroneckerState:
        """Fold a batch into the statistics of both factors.

        Args:
            state: The state; left as it is.
            inputs: ``[batch, ..spatial.., in_channels]``, or channels first; or a
                tuple of these (towers, weighted by their rows).
            outputs_grads: Gradients of the summed loss for the layer's outputs,
                ``[batch, ..locations.., out_channels]``, likewise; or a tuple of these
                (towers); or a tuple of such tuples (sources, summed).
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
        return self._update_factors(state, inputs, outputs_grads, ema_decay, ema_weight)

    def _check_pair(self, inputs: Array, gradients: Array) -> None:
        self.geometry.check_inputs(inputs, self.filter_shape[-2], self.label)
        self.geometry.check_outputs(
            inputs, gradients, self.filter_shape[-1], self.label
        )

    def _mean_uses(self, inputs: tuple[Array, ...]) -> float:
        return self.geometry.mean_locations(inputs)


@dataclass(frozen=True)
class ConvDiagonalFB(SingleFactorFB):
    """The exact diagonal of a convolution's Fisher.

    Attributes:
        filter_shape: ``(..kernel.., in_channels, out_channels)``, the shape of the
            weights.
        strides: For each spatial axis, or of full rank; None: 1.
        padding: As in `ConvKFCBasicFB`.
        data_format: As in `ConvKFCBasicFB`.
        dilations: For each spatial axis, or of full rank; None: 1.
        has_bias: Whether the layer has a bias.
        normalize_damping_power: The damping is multiplied by the number of locations
            to the power of one minus this.

    Example:
        >>> import numpy as np
        >>> block = ConvDiagonalFB((2, 2, 1, 1), (2, 2), "VALID", has_bias=True)
        >>> image = np.arange(1.0, 17.0).reshape(1, 4, 4, 1)
        >>> g = np.arange(-1.0, 3.0).reshape(1, 2, 2, 1)
        >>> state = block.update_covs(block.init(like=g), image, g, ema_decay=0.0)
        >>> block.full_fisher_block(state).diagonal()
        array([ 900., 1024., 1444., 1600.,    4.])
    """

    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | int | None
    padding: Padding
    data_format: str | None = None
    dilations: tuple[int, ...] | int | None = None
    has_bias: bool = False
    normalize_damping_power: float = field(default=1.0, kw_only=True)
    geometry: ConvolutionGeometry = field(init=False, repr=False, compare=False)

    is_repeated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Make the factor, once."""
        super().__post_init__()
        factor = ConvDiagonalFactor(
            self.filter_shape,
            self.strides,
            self.padding,
            self.data_format,
            self.dilations,
            self.has_bias,
            name=self.label,
            **self._served(),
        )
        for name in ("filter_shape", "padding", "strides", "dilations"):
            object.__setattr__(self, name, getattr(factor, name))
        self._set_factor(factor)
        object.__setattr__(self, "geometry", factor.geometry)

    def update_covs(
        self,
        state: SingleFactorState,
        inputs: Towers,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
    ) -> SingleFactorState:
        """Fold a batch into the statistics.

        Arguments and errors are those of `ConvKFCBasicFB.update_covs`.

        Returns:
            The new state.
        """
        towers = as_towers(inputs)
        factor = self.factor.update_cov(
            state.factor, towers, outputs_grads, ema_decay, ema_weight
        )
        backend = backend_for(self.label, state.uses.total)
        uses = self._fold_uses(
            backend,
            state.uses,
            self.geometry.mean_locations(towers),
            ema_decay,
            ema_weight,
        )
        if backend.is_traced(factor.cov_ok):
            uses = select(backend, factor.cov_ok, uses, state.uses)
        return SingleFactorState(factor, uses)

    def update_inverses(
        self, state: SingleFactorState, damping: Scalar
    ) -> SingleFactorState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        if self.normalize_damping_power != 1:
            backend = backend_for(self.label, state.uses.total)
            like = state.uses.total
            given = as_scalar(backend, damping, like, "damping", self.label)
            uses = moving_average.value(backend, state.uses, self.label)
            power = self.normalize_damping_power
            damping = uses * normalize_damping(given, uses, power)
        return super().update_inverses(state, damping)
