"""The diagonal block of a convolution."""

from dataclasses import dataclass, field
from typing import ClassVar

from kfac_core import moving_average
from kfac_core.arguments.arrays import as_towers, backend_for
from kfac_core.arguments.scalars import as_scalar
from kfac_core.damping import normalize_damping
from kfac_core.fisher_blocks.base.single_factor import SingleFactorFB, SingleFactorState
from kfac_core.fisher_factors import ConvDiagonalFactor
from kfac_core.fisher_factors.convolution.spec import prepare
from kfac_core.state import chosen
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.mask import PatchMask
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.typing import Scalar, Sources, Towers, Weights


@takes_older_calls
@dataclass(frozen=True)
class ConvDiagonalFB(SingleFactorFB):
    """The exact diagonal of a convolution's Fisher.

    Attributes:
        geometry: The convolution's geometry. Vectors and products are in its layout.
        has_bias: Whether the layer has a bias.
        patch_mask: As in `ConvInputKroneckerFactor`.
        normalize_damping_power: With ``p`` for this power, the damping is multiplied by
            the number of locations to the power ``1 - p``.

    Example:
        >>> import numpy as np
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry((2, 2, 1, 1), padding="VALID", strides=2)
        >>> block = ConvDiagonalFB(geometry, has_bias=True)
        >>> image = np.arange(1.0, 17.0).reshape(1, 4, 4, 1)
        >>> g = np.arange(-1.0, 3.0).reshape(1, 2, 2, 1)
        >>> state = block.update_covs(block.init(like=g), image, g, ema_decay=0.0)
        >>> block.full_fisher_block(state).diagonal()
        array([ 900., 1024., 1444., 1600.,    4.])
    """

    geometry: ConvolutionGeometry
    has_bias: bool = False
    patch_mask: PatchMask | None = None
    normalize_damping_power: float = field(default=1.0, kw_only=True)

    is_repeated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Make the factor, once."""
        prepare(self)
        super().__post_init__()
        factor = ConvDiagonalFactor(
            self.geometry,
            self.has_bias,
            self.patch_mask,
            name=self.label,
            **self._served(),
        )
        self._set_factor(factor)
        self._set_layout(self.geometry.weights)

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
        locations = self.geometry.window.mean_locations(towers)
        ema = self._ema(backend, ema_decay, ema_weight, state.uses.total)
        (uses,) = moving_average.fold_numbers(backend, [state.uses], [locations], ema)
        if backend.is_traced(factor.cov_ok):
            uses = chosen(backend, factor.cov_ok, uses, state.uses)
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
