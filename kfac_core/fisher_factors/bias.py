"""Factors of a bias that stands alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kfac_core.arguments.arrays import (
    as_sources,
    as_statistics,
    as_towers,
    check_not_empty,
    check_shape,
)
from kfac_core.backend import Backend
from kfac_core.errors import ShapeError
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.rows.counts import count_of
from kfac_core.rows.uses import MultiSources, all_arrays, arrays_of
from kfac_core.rows.weights import check_same_towers, roots_of, sides, weights_for
from kfac_core.statistics.bias import bias_gradients
from kfac_core.statistics.weighted_rows import weigh, weighed
from kfac_core.typing import Array, Scalar, Uses, Weights


@dataclass(frozen=True)
class BiasFactor(FisherFactor):
    """Fisher of a bias, ``y = x + bias``, exact; in the form `Diagonal` its diagonal.

    Estimates the mean over cases of ``v v'``, where ``v`` is a case's gradient: the sum
    of its output gradients over all axes along which the bias is broadcast. Nothing is
    taken to be independent. The outputs may have any axes before those of the bias, of
    any size.

    Attributes:
        shape: Shape of the bias, aligned with the outputs at their last axes; an axis
            of size one is broadcast: ``(channels,)``, or ``(channels, 1, 1)`` where
            channels come first.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_factors import Diagonal
        >>> g = np.asarray([[[1.0, 0.0], [1.0, 1.0]]])  # one case, two positions
        >>> for factor in (BiasFactor((2,)), BiasFactor((2,), form=Diagonal())):
        ...     state = factor.update_cov(factor.init(g), g, ema_decay=0.0)
        ...     print(factor.get_cov_var(state))
        [[4. 2.]
         [2. 1.]]
        [4. 1.]
    """

    shape: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """Number of entries of the bias."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    def update_cov(
        self,
        state: FactorState,
        outputs_grads: MultiSources,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        *,
        weights: Weights | None = None,
        num_cases: Scalar | None = None,
    ) -> FactorState:
        """Fold the per-case gradients of a batch into the average.

        Args:
            state: The state; left as it is.
            outputs_grads: Gradients of the summed loss, ``[batch, ...]``; or
                `kfac_core.typing.Uses` of these, one for each time that a case adds the
                bias; or a tuple of such (towers, weighted by their rows); or a tuple of
                such tuples (sources, summed).
            ema_decay: What the weights of earlier batches are multiplied by, in
                [0, 1].
            ema_weight: Weight of this batch; one by default, or ``1 - ema_decay``
                without debiasing.
            weights: How much each case counts, ``[batch]``, or `Uses` of one array for
                each use of the bias, or a tuple of these (towers, each in a form of
                its own): zero for one that does not; None: one each.
            num_cases: Number of cases that the mean loss divides by, whether or not
                they reach the layer; None: the number of cases given.

        Returns:
            The new state.

        Raises:
            ShapeError: If the bias cannot be broadcast to an array, or there is no
                case.
            DTypeError: If an array is not real, or wider than the state.
            NotFiniteError: If an array holds NaN or infinity. Under a trace the state
                is kept, with ``ok`` False.
            ArgumentError: If the decay or a weight is out of range, or `num_cases` is
                not positive.
        """
        sources, name = as_sources(outputs_grads), "outputs_grads"
        by_source = [[arrays_of(tower) for tower in source] for source in sources]
        arrays = all_arrays(sources)
        backend = self._backend(state, "state, outputs_grads", *arrays)
        like, label = state.cov.total, self.label
        of_gradients = sides(weights)[1]
        count = count_of(backend, num_cases, 1, like, label)
        moments = []
        for source in by_source:
            uses, rest = self._weighed_uses(backend, source, of_gradients, like)
            rows = [self._case_gradients(backend, state, each) for each in uses]
            check_not_empty(tuple(rows), name, label)
            shapes = [(x.shape[0],) for x in rows]
            roots = roots_of(backend, weights_for(backend, rest, shapes, like, label))
            own = weighed(backend, rows, roots, count)
            moments.append(self.form.of_rows(backend, own, False))
        data = {name: (tuple(arrays),)}
        return accumulated(self, backend, state, moments, ema_decay, ema_weight, data)

    def _weighed_uses(
        self,
        backend: Backend,
        source: Sequence[tuple[Array, ...]],
        weights: Any,
        like: Array,
    ) -> tuple[Sequence[tuple[Array, ...]], Any]:
        """Return gradients times the roots of weights by use, and all other weights.

        Where a tower has weights by use, those of cases are given to all uses, too.

        Raises:
            ShapeError: If a tower has weights of another number of uses.
        """
        towers = () if weights is None else as_towers(weights)
        if not any(isinstance(w, Uses) for w in towers):
            return source, weights
        check_same_towers(towers, source, self.label)
        weighed_uses = []
        for w, uses in zip(towers, source, strict=True):
            given = arrays_of(w) if isinstance(w, Uses) else (w,) * len(uses)
            if len(given) != len(uses):
                msg = (
                    f"{self.label}: weights has {len(given)} uses and outputs_grads"
                    f" {len(uses)}; give [batch], or Uses of an array for each"
                )
                raise ShapeError(msg)
            shapes = [tuple(g.shape[:1]) for g in uses]
            own = weights_for(backend, given, shapes, like, self.label)
            pairs = zip(uses, roots_of(backend, own) or (), strict=True)
            weighed_uses.append(tuple(weigh(backend, g, r) for g, r in pairs))
        return weighed_uses, None

    def _case_gradients(
        self, backend: Backend, state: FactorState, uses: tuple[Array, ...]
    ) -> Array:
        """Return each case's gradient, the sum over all uses of the bias."""
        dtype, label = state.cov.total.dtype, self.label
        total = None
        for g in uses:
            if g.ndim == 0:
                check_shape(g, ("batch", "..."), "outputs_grads", label)
        for array in uses:
            g = as_statistics(backend, array, dtype, "outputs_grads", label)
            rows = bias_gradients(backend, g, self.shape, label)
            if total is not None and total.shape != rows.shape:
                msg = (
                    f"{label}: the uses in outputs_grads have {total.shape[0]} and"
                    f" {rows.shape[0]} rows; give all for the same cases"
                )
                raise ShapeError(msg)
            total = rows if total is None else total + rows
        if total is None:
            msg = f"{label}: outputs_grads has no use; give at least one array"
            raise ShapeError(msg)
        return total
