"""The factor of what a transposed convolution's inputs touch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kfac_core.arguments import as_batch, as_sources
from kfac_core.fisher_factors.dense import DenseSquareMatrixFactor
from kfac_core.fisher_factors.state import FactorState
from kfac_core.statistics.convolution import patch_second_moment
from kfac_core.statistics.transposed_convolution import (
    TransposedGeometry,
    output_patches_image,
)
from kfac_core.typing import Scalar, Sources


@dataclass(frozen=True)
class OutputPatchesKroneckerFactor(DenseSquareMatrixFactor):
    """Second moment of the patches of output gradients that inputs touch.

    Estimates ``E[q q']`` over cases and input locations of a transposed convolution,
    ``q`` being the gradients of all outputs that a location adds to, zero for those
    that are cut off. Patches are laid out kernel axes first, then output channels.

    Attributes:
        geometry: Where the transposed convolution looks.
        channels: Number of output channels.

    Example:
        >>> import numpy as np
        >>> up = TransposedGeometry.of((2,), 2, None, "VALID", None, None, "up")
        >>> factor = OutputPatchesKroneckerFactor(up, 1)
        >>> g = np.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)
        >>> state = factor.update_cov(factor.init(g), g, 0.0, spatial=[(2,)])
        >>> factor.get_cov(state)  # of (1, 2) and (3, 4)
        array([[ 5.,  7.],
               [ 7., 10.]])
    """

    geometry: TransposedGeometry
    channels: int

    @property
    def dimension(self) -> int:
        """Number of entries of a patch."""
        return math.prod(self.geometry.adjoint.kernel) * self.channels

    def update_cov(
        self,
        state: FactorState,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        spatial: Sequence[tuple[int, ...]],
    ) -> FactorState:
        """Fold the second moment of a batch's patches into the average.

        Args:
            state: The state; left as it is.
            outputs_grads: Gradients of the summed loss, ``[batch, ..locations..,
                channels]``, or channels first; or a tuple of these (towers); or a tuple
                of such tuples (sources, summed). Their shapes must be checked.
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            spatial: For each tower the spatial sizes of its inputs.

        Returns:
            The new state.

        Raises:
            ShapeError: If there is no case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or the weight is out of range.
        """
        sources = as_sources(outputs_grads)
        backend = self._backend(state, *(g for source in sources for g in source))
        dtype, moments = state.cov.total.dtype, []
        for source in sources:
            checked = as_batch(backend, source, dtype, "outputs_grads", self.label)
            seen = [
                output_patches_image(backend, g, self.geometry, sizes)
                for g, sizes in zip(checked, spatial, strict=True)
            ]
            images, (convolution, *_) = zip(*seen, strict=True)
            moments.append(patch_second_moment(backend, images, convolution))
        data = {"outputs_grads": sources}
        return self._accumulate(backend, state, moments, ema_decay, ema_weight, data)
