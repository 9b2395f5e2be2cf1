"""The factor of the outputs that a transposed convolution's inputs touch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kfac_core.arguments.arrays import as_batch, as_sources
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.rows.counts import count_of
from kfac_core.rows.weights import roots_of, sides, weights_for
from kfac_core.statistics.patches.second_moment import patch_second_moment
from kfac_core.statistics.patches.transposed import (
    TransposedWindow,
    output_patches_image,
)
from kfac_core.statistics.patches.weights import weighted_patch_moment
from kfac_core.typing import Scalar, Sources, Weights


@dataclass(frozen=True)
class OutputPatchesKroneckerFactor(FisherFactor):
    """Second moment of the patches of output gradients that inputs touch.

    Estimates ``E[q q']`` over cases and input locations of a transposed convolution. A
    patch ``q`` holds the gradients of all outputs that a location adds to, and zeros
    for outputs that are cut off. Its kernel axes come first, then output channels.

    Attributes:
        window: Where the transposed convolution looks.
        channels: Number of output channels.

    Example:
        >>> import numpy as np
        >>> from kfac_core.statistics.patches.window import Window
        >>> up = TransposedWindow(Window((2,), (2,), (1,), "VALID"))
        >>> factor = OutputPatchesKroneckerFactor(up, 1)
        >>> g = np.asarray([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)
        >>> state = factor.update_cov(factor.init(g), g, 0.0, spatial=[(2,)])
        >>> factor.get_cov(state)  # of (1, 2) and (3, 4)
        array([[ 5.,  7.],
               [ 7., 10.]])
    """

    window: TransposedWindow
    channels: int

    forms: ClassVar[tuple[type[Form], ...]] = (Dense,)

    @property
    def dimension(self) -> int:
        """Number of entries of a patch."""
        return math.prod(self.window.adjoint.kernel) * self.channels

    def update_cov(
        self,
        state: FactorState,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        spatial: Sequence[tuple[int, ...]],
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
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
            weights: How much each case counts, ``[batch]``, or each input location,
                ``[batch, ..locations..]`` or ``[batch, locations]``; or a tuple of
                these (towers). Zero for one that does not count; None: one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If there is no case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        sources = as_sources(outputs_grads)
        backend = self._backend(
            state, "state, outputs_grads", *(g for source in sources for g in source)
        )
        like, moments = state.cov.total, []
        dtype, label = like.dtype, self.label
        shapes = [
            (g.shape[0], *sizes) for g, sizes in zip(sources[0], spatial, strict=True)
        ]
        own = weights_for(backend, sides(weights)[1], shapes, like, label)
        roots = roots_of(backend, own)
        cases = sum(batch for batch, *_ in shapes)
        locations = sum(map(math.prod, shapes)) / max(cases, 1)
        count = count_of(backend, num_cases, locations, like, label)
        for source in sources:
            checked = as_batch(backend, source, dtype, "outputs_grads", label)
            seen = [
                output_patches_image(backend, g, self.window, sizes)
                for g, sizes in zip(checked, spatial, strict=True)
            ]
            images, (convolution, *_) = zip(*seen, strict=True)
            data = (backend, images, convolution)
            moments.append(
                patch_second_moment(*data, count=count)
                if roots is None
                else weighted_patch_moment(*data, roots, count)
            )
        given = {"outputs_grads": sources}
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, given)
