"""`FisherFactor`: averages, and what is derived from them, for all factors."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kfac_core import moving_average, tree
from kfac_core.arguments import backend_for, statistics_dtype
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base import messages
from kfac_core.fisher_factors.base.serving import ServingFactor
from kfac_core.fisher_factors.base.state import (
    Derived,
    FactorState,
    check_statistics,
    empty_state,
)
from kfac_core.fisher_factors.base.wide import narrowed, widened
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.retry import Retrying, retrying
from kfac_core.moving_average import MovingAverage, Sample
from kfac_core.signature import check_kind
from kfac_core.state import all_finite, commit, is_known_false
from kfac_core.typing import Array, DampingId, Dampings, DType, Scalar


@dataclass(frozen=True, kw_only=True)
class FisherFactor(ServingFactor, ABC):
    """Abstract base of the factors: averaging, derived quantities, serving."""

    is_mean_by_weight: ClassVar[bool] = False
    """Whether sums over weighted rows are divided by the sum of the weights.

    Otherwise they are divided by the number of rows that the mean loss counts.
    """

    def init(self, like: Array) -> FactorState:
        """Return the state before any data.

        Args:
            like: Array that gives library, device and dtype (at least float32).

        Returns:
            The state; its inverses are zeros until `update_inverses`.

        Raises:
            DTypeError: If `like` does not hold real floating-point numbers.
        """
        backend = backend_for(self.label, "like", like)
        dtype = self._state_dtype(backend, like)
        device = backend.creation_device(like)
        total = backend.xp.zeros(self.cov_shape, dtype=dtype, device=device)
        if not self.zero_debias and not self.init_covariances_at_zero:
            total = self._identity(backend, total)
        start = 0.0 if self.zero_debias else 1.0
        weight = backend.xp.full((), start, dtype=dtype, device=device)
        return self._empty(backend, MovingAverage(total, weight))

    def init_inverses(self, state: FactorState) -> FactorState:
        """Return `state` with its statistics, and nothing computed from them yet.

        Args:
            state: State of this spec, or of one that served other powers.

        Returns:
            A state for this spec.

        Raises:
            StateError: If the state is of another kind of spec.
        """
        if type(state) is not FactorState:
            check_kind(state, self._made_by, self.label)
        backend = backend_for(self.label, "state", state.cov.total)
        check_statistics(backend, state, self.cov_shape, self.label)
        check_kind(state, self._made_by, self.label)
        return self._empty(backend, state.cov)

    def update_inverses(self, state: FactorState, damping: Dampings) -> FactorState:
        """Compute all that is registered from the current statistics.

        Args:
            state: The state; left as it is.
            damping: ``damping >= 0``, added to the diagonal: a number or 0-d array
                for all damping ids, or a mapping from damping id to these.

        Returns:
            The new state.

        Raises:
            ArgumentError: If a damping is negative or not finite, or one is missing.
            NotComputedError: If there are no statistics yet.
            NotPositiveDefiniteError: If the damped matrix has no inverse or Cholesky
                factor. Under a trace the state is kept, with ``ok`` False.
            EigendecompositionError: If the library finds no eigendecomposition, not
                even in float64. Under a trace the state is kept, with ``ok`` False, and
                float64 is not tried.
        """
        backend = self._backend(state)
        wide = widened(backend, state, self.inverse_dtype, self.label)
        dampings = self._dampings(backend, damping, state.cov.total)
        if wide is not state:
            dampings = tree.cast(backend, dampings, wide.cov.total.dtype)
        cov = moving_average.value(backend, wide.cov, self.label)
        retry: Retrying | None = None

        def derive(backend: Backend) -> tuple[FactorState, Array]:
            derived = self._refresh(backend, wide, cov, dampings)
            computed = backend.xp.ones_like(state.computed)
            new = wide._replace(derived=derived, computed=computed)
            extra = self._derive_extra(backend, new, dampings)
            new = new._replace(extra=extra) if extra else new
            new = narrowed(backend, new, state)
            return new, all_finite(backend, (new.derived, new.extra), state.derived_ok)

        new, ok = derive(backend)
        if is_known_false(backend, ok):
            again, retry = retrying(backend)
            new, ok = derive(again)

        def error() -> Exception:
            if retry is not None and retry.failed:
                return messages.not_decomposed(backend, self.label, cov, retry)
            return self._not_positive_definite(backend, cov, dampings)

        return commit(backend, ok, new, state, error)._replace(derived_ok=ok)

    @abstractmethod
    def update_cov(self, state: FactorState, *args: Any, **kwargs: Any) -> FactorState:
        """Fold the statistics of a batch into the average.

        Squares of data above the range of the state's dtype are refused; those below
        its least normal number count as zero, as those of zeros do.
        """

    @abstractmethod
    def _identity(self, backend: Backend, like: Array) -> Array:
        """Return the statistics of the identity matrix."""

    @abstractmethod
    def _derive(
        self, backend: Backend, cov: Array, dampings: Mapping[DampingId, Array]
    ) -> Derived:
        """Compute all that is registered from the statistics."""

    def _refresh(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
    ) -> Derived:
        """Derive anew, or from what was derived before where the spec says so."""
        return self._derive(backend, cov, dampings)

    def _derive_extra(
        self,
        backend: Backend,
        state: FactorState,
        dampings: Mapping[DampingId, Array],
    ) -> tuple[Any, ...]:
        """Return ``extra`` of a state whose derived quantities are new."""
        return state.extra

    def _not_positive_definite(
        self, backend: Backend, cov: Array, dampings: Mapping[DampingId, Array]
    ) -> Exception:
        """Return the error for a damped matrix that has no inverse."""
        trace = self._operator(backend, cov).trace()
        smallest = min(map(float, dampings.values()), default=0.0)
        return messages.not_positive_definite(
            backend, self.label, trace, self.dimension, smallest
        )

    @abstractmethod
    def _entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        """Return entries of a statistic that are finite only if its data are."""

    @abstractmethod
    def _empty_eigendecomposition(
        self, backend: Backend, like: Array
    ) -> Eigendecomposition:
        """Return the eigendecomposition of zero."""

    def _state_dtype(self, backend: Backend, like: Array) -> DType:
        return statistics_dtype(backend, like, "like", self.label)

    def _empty(self, backend: Backend, cov: MovingAverage) -> FactorState:
        eigen: tuple[Eigendecomposition, ...] = ()
        if self.eigendecomposition:
            eigen = (self._empty_eigendecomposition(backend, cov.total),)
        return empty_state(backend, cov, self.places, eigen, self._signed())

    def _accumulate(
        self,
        backend: Backend,
        state: FactorState,
        by_source: Sequence[Array | Sample],
        ema_decay: Scalar,
        ema_weight: Scalar | None,
        data: Mapping[str, tuple[tuple[Array, ...], ...]],
    ) -> FactorState:
        """Return the state with one more statistic, summed over sources."""
        decay, weight = moving_average.weights_of(
            backend,
            ema_decay,
            ema_weight,
            state.cov.total,
            self.label,
            zero_debias=self.zero_debias,
        )
        cov = moving_average.fold(backend, state.cov, by_source, decay, weight)
        new = state._replace(cov=cov)
        ok = backend.is_finite(self._entries_to_check(backend, new.cov.total))

        def error() -> Exception:
            return messages.not_finite(backend, self.label, data, new.cov.total.dtype)

        return commit(backend, ok, new, state, error)._replace(cov_ok=ok)
