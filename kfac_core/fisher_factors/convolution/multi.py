"""Factors of a convolution that every case uses several times."""

from dataclasses import dataclass, field

from kfac_core.arguments.arrays import as_sources, as_towers
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.convolution.kronecker import (
    ConvInputKroneckerFactor,
    ConvOutputKroneckerFactor,
)
from kfac_core.fisher_factors.convolution.spec import weighted_shape
from kfac_core.rows.counts import counted_uses
from kfac_core.rows.uses import arrays_of, folded
from kfac_core.rows.weights import sides
from kfac_core.statistics.patches.older_calls import takes_older_calls
from kfac_core.typing import Array, Key, Scalar, Sources, Towers, Uses, Weights


@takes_older_calls
@dataclass(frozen=True)
class ConvInputMultiKF(ConvInputKroneckerFactor):
    """Second moment of the patches of all uses of a convolution.

    It is a `ConvInputKroneckerFactor` over cases, locations and uses.

    Attributes:
        num_uses: ``T``; None where the data say it. See `kfac_core.rows.uses`.
        batch_first: Whether the cases of an array come before their uses; see
            `kfac_core.rows.uses`.

    Example:
        >>> import numpy as np
        >>> from kfac_core import ConvolutionGeometry
        >>> geometry = ConvolutionGeometry((1, 1, 1, 1), padding="VALID")
        >>> factor = ConvInputMultiKF(geometry, num_uses=2)
        >>> images = np.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)  # one case
        >>> state = factor.update_cov(factor.init(images), images, ema_decay=0.0)
        >>> factor.get_cov(state)
        array([[5.]])
    """

    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)

    def update_cov(
        self,
        state: FactorState,
        inputs: Towers,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        key: Key = None,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moment of a batch's patches into the average.

        Args:
            state: The state; left as it is.
            inputs: One tower, ``[T * batch, ..spatial.., in_channels]`` or with the
                uses as an axis beside the batch, or channels first; or
                `kfac_core.typing.Uses` of ``T`` arrays; or a tuple of these (towers).
            ema_decay: As in `ConvInputKroneckerFactor.update_cov`.
            ema_weight: As in `ConvInputKroneckerFactor.update_cov`.
            key: As in `ConvInputKroneckerFactor.update_cov`.
            weights: How much each case counts, ``[batch]``, or each use of each, ``[T,
                batch]``, ``[T * batch]`` or `Uses`, perhaps with axes for locations; or
                a tuple of these (towers); None: one each.
            num_cases: Number of cases that the mean loss divides by; None: the number
                of cases given.

        Returns:
            The new state.

        Raises:
            KfacError: As `ConvInputKroneckerFactor.update_cov`.
            ShapeError: Also if the number of rows is not a multiple of ``T``.
            ArgumentError: Also if ``T`` is not known, or not `num_uses`.
        """
        towers = as_towers(inputs)
        backend = self._backend(
            state, "state, inputs", *(x for t in towers for x in arrays_of(t))
        )
        window = self.geometry.window
        rank = window.spatial_rank + 2
        found = [
            folded(
                backend,
                tower,
                rank,
                self.num_uses,
                "inputs",
                self.label,
                batch_first=self.batch_first,
            )
            for tower in towers
        ]
        arrays = tuple(x for x, _ in found)
        # Without a tower there is no number; that is refused below.
        like, uses = state.cov.total, found[0][1] if found else 1
        for x in arrays:
            window.check_inputs(x, self.geometry.shape[-2], self.label)
        shapes = [weighted_shape(window, x) for x in arrays]
        own, count = counted_uses(
            backend,
            sides(weights)[0],
            shapes,
            uses,
            num_cases,
            like,
            self.label,
            batch_first=self.batch_first,
        )
        return super().update_cov(
            state,
            arrays,
            ema_decay,
            ema_weight,
            key=key,
            weights=own,
            num_cases=count,
        )


@dataclass(frozen=True)
class ConvOutputMultiKF(ConvOutputKroneckerFactor):
    """Second moment of the output gradients of all uses of a convolution.

    It is a `ConvOutputKroneckerFactor` over cases, locations and uses.

    Attributes:
        num_uses: ``T``; None where the data say it. See `kfac_core.rows.uses`.
        batch_first: Whether the cases of an array come before their uses; see
            `kfac_core.rows.uses`.

    Example:
        >>> import numpy as np
        >>> factor = ConvOutputMultiKF(1, num_uses=2)
        >>> grads = np.asarray([1.0, 3.0]).reshape(2, 1, 1, 1)  # one case
        >>> state = factor.update_cov(factor.init(grads), grads, ema_decay=0.0)
        >>> factor.get_cov(state)
        array([[5.]])
    """

    num_uses: int | None = None
    batch_first: bool = field(default=False, kw_only=True)

    def update_cov(
        self,
        state: FactorState,
        outputs_grads: Sources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the second moment of a batch's gradients into the average.

        Args:
            state: The state; left as it is.
            outputs_grads: Gradients of the summed loss: one tower, ``[T * batch,
                ..spatial.., output_size]`` or with the uses as an axis beside the
                batch, or channels first; or `kfac_core.typing.Uses` of ``T`` arrays;
                or a tuple of these (towers); or a tuple of such tuples (sources).
            ema_decay: As in `ConvOutputKroneckerFactor.update_cov`.
            ema_weight: As in `ConvOutputKroneckerFactor.update_cov`.
            weights: As in `ConvInputMultiKF.update_cov`.
            num_cases: As in `ConvInputMultiKF.update_cov`.

        Returns:
            The new state.

        Raises:
            KfacError: As `ConvOutputKroneckerFactor.update_cov`.
            ShapeError: Also if the number of rows is not a multiple of ``T``.
            ArgumentError: Also if ``T`` is not known, or not `num_uses`.
        """
        sources = as_sources(outputs_grads)
        arrays = [x for towers in sources for t in towers for x in arrays_of(t)]
        backend = self._backend(state, "state, outputs_grads", *arrays)
        found = [
            [
                folded(
                    backend,
                    tower,
                    *self._rank_and_uses(tower),
                    "outputs_grads",
                    self.label,
                    batch_first=self.batch_first,
                )
                for tower in towers
            ]
            for towers in sources
        ]
        arrays_by_source = tuple(tuple(g for g, _ in own) for own in found)
        # Without a tower there is no number; that is refused below.
        like, uses = state.cov.total, found[0][0][1] if found[0] else 1
        shapes = [self._weighted_shape(g) for g in arrays_by_source[0]]
        own, count = counted_uses(
            backend,
            sides(weights)[1],
            shapes,
            uses,
            num_cases,
            like,
            self.label,
            batch_first=self.batch_first,
        )
        return super().update_cov(
            state,
            arrays_by_source,
            ema_decay,
            ema_weight,
            weights=own,
            num_cases=count,
        )

    def _rank_and_uses(self, tower: Array | Uses) -> tuple[int, int | None]:
        """Return the number of axes of one use's array, and ``T`` where it counts."""
        uses = self.num_uses
        if self.data_format is not None:
            return len(self.data_format), uses
        if isinstance(tower, Uses):
            return max((x.ndim for x in tower.arrays), default=0), uses
        # Axes have no names. An axis of uses that is not needed to tell the number of
        # uses counts as one more spatial axis, which has the same effect. The cases and
        # the outputs have an axis each.
        rank = max(tower.ndim - (uses is None), 2)
        return rank, 1 if self.batch_first and uses is not None else uses
