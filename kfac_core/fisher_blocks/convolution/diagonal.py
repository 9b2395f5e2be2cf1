"""The diagonal block of a convolution."""

from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core import moving_average, tree
from kfac_core.arguments import as_towers, backend_for
from kfac_core.damping import normalize_damping
from kfac_core.fisher_blocks.base.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_factors import ConvDiagonalFactor
from kfac_core.linalg.layouts import KernelLayout
from kfac_core.scalars import as_scalar
from kfac_core.statistics.patches.geometry import ConvolutionGeometry, Padding
from kfac_core.statistics.patches.mask import PatchMask
from kfac_core.typing import Scalar, Sources, Towers, Weights


@dataclass(frozen=True)
class ConvDiagonalFB(SingleFactorFB):
    """The exact diagonal of a convolution's Fisher.

    Attributes:
        filter_shape: ``(..kernel.., in_channels, out_channels)``, the shape of the
            weights; in the order that `layout` says.
        strides: For each spatial axis, or of full rank; None: 1.
        padding: As in `ConvKFCBasicFB`.
        data_format: As in `ConvKFCBasicFB`.
        dilations: For each spatial axis, or of full rank; None: 1.
        has_bias: Whether the layer has a bias.
        patch_mask: As in `ConvInputKroneckerFactor`.
        normalize_damping_power: With ``p`` for this power, the damping is multiplied by
            the number of locations to the power ``1 - p``.
        layout: As in `ConvKFCBasicFB`.

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
    patch_mask: PatchMask | None = None
    normalize_damping_power: float = field(default=1.0, kw_only=True)
    layout: KernelLayout = field(default="HWIO", kw_only=True)
    geometry: ConvolutionGeometry = field(init=False, repr=False, compare=False)

    is_repeated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Make the factor, once."""
        super().__post_init__()
        factor = ConvDiagonalFactor(
            self._set_kernel_layout(self.layout, self.filter_shape, self.label),
            self.strides,
            self.padding,
            self.data_format,
            self.dilations,
            self.has_bias,
            self.patch_mask,
            name=self.label,
            **self._served(),
        )
        for name in ("padding", "strides", "dilations", "patch_mask"):
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
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> SingleFactorState:
        """Fold a batch into the statistics.

        Arguments and errors are those of `ConvKFCBasicFB.update_covs`.

        Returns:
            The new state.
        """
        towers = as_towers(inputs)
        factor = self.factor.update_cov(
            self._own(state).factor,
            towers,
            outputs_grads,
            ema_decay,
            ema_weight,
            weights=weights,
            num_cases=num_cases,
        )
        backend = backend_for(self.label, "state", state.uses.total)
        locations = self.geometry.mean_locations(towers)
        (uses,) = moving_average.fold_numbers(
            backend,
            [state.uses],
            [locations],
            ema_decay,
            ema_weight,
            self.label,
            zero_debias=self.zero_debias,
        )
        if backend.is_traced(factor.cov_ok):
            uses = tree.where(backend, factor.cov_ok, uses, state.uses)
        return state._replace(factor=factor, uses=uses)

    def update_inverses(
        self, state: SingleFactorState, damping: Scalar
    ) -> SingleFactorState:
        """Compute all that is registered; see `FisherBlock.update_inverses`."""
        if self.normalize_damping_power != 1:
            backend = backend_for(self.label, "state", self._own(state).uses.total)
            like = state.uses.total
            given = as_scalar(backend, damping, like, "damping", self.label)
            uses = moving_average.value(backend, state.uses, self.label)
            power = self.normalize_damping_power
            damping = uses * normalize_damping(given, uses, power)
        return super().update_inverses(state, damping)
