"""`FisherFactor`: registration, averaging and serving, the same for all factors."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kfac_core import moving_average
from kfac_core.arguments import as_dampings, backend_for, statistics_dtype
from kfac_core.backend import Backend
from kfac_core.errors import NotRegisteredError
from kfac_core.fisher_factors import messages
from kfac_core.fisher_factors.registration import DEFAULT_DAMPING_ID, Registration
from kfac_core.fisher_factors.state import (
    Derived,
    FactorState,
    check_computed,
    check_derived,
    check_statistics,
    empty_state,
)
from kfac_core.linalg import psd
from kfac_core.linalg.operators import LinearOperator, multiply
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.moving_average import MovingAverage
from kfac_core.state import all_finite, commit
from kfac_core.typing import Array, DampingId, Dampings, DType, Scalar


@dataclass(frozen=True, kw_only=True)
class FisherFactor(Registration, ABC):
    """Abstract base of the factors: averaging, derived quantities, serving."""

    @property
    @abstractmethod
    def cov_shape(self) -> tuple[int, ...]:
        """Shape of the stored statistics."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Number of rows and columns of the matrix that the factor stands for."""

    def init(self, like: Array) -> FactorState:
        """Return the state before any data.

        Args:
            like: Array that gives library, device and dtype (at least float32).

        Returns:
            The state; its inverses are zeros until `update_inverses`.

        Raises:
            DTypeError: If `like` holds no real floating-point numbers.
        """
        backend = backend_for(self.label, like)
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
        """
        backend = backend_for(self.label, state.cov.total)
        check_statistics(backend, state, self.cov_shape, self.label)
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
        """
        backend = self._backend(state)
        dampings = as_dampings(
            backend, damping, self.damping_ids, state.cov.total, self.label
        )
        cov = moving_average.value(backend, state.cov, self.label)
        derived = self._derive(backend, cov, dampings)
        computed = backend.xp.ones_like(state.computed)
        new = state._replace(derived=derived, computed=computed)
        new = new._replace(extra=self._derive_extra(backend, new, dampings))
        ok = all_finite(backend, (new.derived, new.extra), state.computed)

        def error() -> Exception:
            trace = self._operator(backend, cov).trace()
            smallest = min(map(float, dampings.values()), default=0.0)
            return messages.not_positive_definite(
                backend, self.label, trace, self.dimension, smallest
            )

        return commit(backend, ok, new, state, error)._replace(derived_ok=ok)

    def get_cov(self, state: FactorState) -> Array:
        """Return the estimated matrix itself, dense ``[dimension, dimension]``."""
        return self.get_cov_as_linear_operator(state).to_dense()

    def get_cov_var(self, state: FactorState) -> Array:
        """Return the statistics as they are stored, of shape `cov_shape`."""
        return moving_average.value(self._backend(state), state.cov, self.label)

    @abstractmethod
    def get_cov_as_linear_operator(self, state: FactorState) -> LinearOperator:
        """Return the estimated matrix as an operator."""

    @abstractmethod
    def get_eigendecomp(self, state: FactorState) -> Eigendecomposition:
        """Return the eigendecomposition of the current statistics, none negative."""

    def get_matpower(
        self, state: FactorState, exp: float, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return ``(C + damping I)^exp``.

        Args:
            state: The state.
            exp: A registered exponent. The power 1 is of the current statistics with
                the damping of the last `update_inverses`; all others are snapshots
                taken then.
            damping_id: Its damping id.

        Returns:
            The operator.

        Raises:
            NotRegisteredError: If the spec does not serve it.
            NotComputedError: If `update_inverses` has not run yet.
        """
        backend = self._computed(state)
        key = (float(exp), damping_id)
        if exp == 1 and damping_id in self.damping_ids:
            damping = state.derived.dampings[self.damping_ids.index(damping_id)]
            return self._operator(
                backend, self._power(backend, self.get_cov_var(state), damping, 1.0)
            )
        if key not in self.stored_matpowers:
            raise self._not_registered(damping_id, "matpower", exp)
        place = self.stored_matpowers.index(key)
        return self._operator(backend, state.derived.matpowers[place])

    def get_inverse(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return the stored damped inverse; as `get_matpower` with exponent -1."""
        return self.get_matpower(state, -1, damping_id)

    def get_cholesky(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return the stored Cholesky factor ``L``; errors as in `get_matpower`."""
        return self._serve(state, "cholesky", damping_id, state.derived.choleskys)

    def get_cholesky_inverse(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return the stored ``inv(L)``; errors as in `get_matpower`."""
        stored = state.derived.cholesky_inverses
        return self._serve(state, "cholesky_inverse", damping_id, stored)

    @abstractmethod
    def get_eigenvectors(self, state: FactorState) -> LinearOperator:
        """Return the eigenvectors of the stored eigendecomposition, as columns."""

    def get_eigenvalues(self, state: FactorState) -> Array:
        """Return the eigenvalues ``[dimension]`` of the stored eigendecomposition."""
        self._computed(state)
        if not self.eigendecomposition:
            raise self._not_registered(None, "eigendecomposition")
        return state.derived.eigendecompositions[0].values

    def trace(self, state: FactorState) -> Array:
        """Return the trace of the current estimate, 0-d."""
        return self.get_cov_as_linear_operator(state).trace()

    def left_multiply_matpower(
        self,
        state: FactorState,
        x: Array,
        exp: float,
        damping_id: DampingId = DEFAULT_DAMPING_ID,
    ) -> Array:
        """Return ``(C + damping I)^exp @ x``.

        Args:
            state: The state.
            x: ``[dimension, k]``, or a vector ``[dimension]``; for a diagonal factor
                also a vector in the shape of its statistics.
            exp: A registered exponent.
            damping_id: Its damping id.

        Returns:
            The product, of the shape and dtype of `x`.

        Raises:
            ShapeError: If the shape of `x` is another one.
        """
        power = self.get_matpower(state, exp, damping_id)
        return multiply(power, x, self._vector_shape, self.label)

    def right_multiply_matpower(
        self,
        state: FactorState,
        x: Array,
        exp: float,
        damping_id: DampingId = DEFAULT_DAMPING_ID,
    ) -> Array:
        """Return ``x @ (C + damping I)^exp``; as `left_multiply_matpower`, mirrored."""
        power = self.get_matpower(state, exp, damping_id)
        return multiply(power, x, self._vector_shape, self.label, right=True)

    @abstractmethod
    def update_cov(self, state: FactorState, *args: Any, **kwargs: Any) -> FactorState:
        """Fold the statistics of a batch into the average."""

    @abstractmethod
    def _identity(self, backend: Backend, like: Array) -> Array:
        """Return the statistics of the identity matrix."""

    @abstractmethod
    def _operator(self, backend: Backend, stored: Array) -> LinearOperator:
        """Return the operator of something stored."""

    @abstractmethod
    def _power(self, backend: Backend, cov: Array, damping: Array, exp: float) -> Array:
        """Return a damped power, as it is stored."""

    @abstractmethod
    def _derive(
        self, backend: Backend, cov: Array, dampings: Mapping[DampingId, Array]
    ) -> Derived:
        """Compute all that is registered from the statistics."""

    def _derive_extra(
        self,
        backend: Backend,
        state: FactorState,
        dampings: Mapping[DampingId, Array],
    ) -> tuple[Any, ...]:
        """Return ``extra`` of a state whose derived quantities are new."""
        return state.extra

    @abstractmethod
    def _witness(self, backend: Backend, statistic: Array) -> Array:
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
        return empty_state(backend, cov, self.places, eigen)

    def _backend(self, state: FactorState, *data: Array) -> Backend:
        """Return the backend of a state and of data, the state's form checked."""
        backend = backend_for(self.label, state.cov.total, *data)
        check_statistics(backend, state, self.cov_shape, self.label)
        check_derived(state, self.places, self.label)
        return backend

    def _computed(self, state: FactorState) -> Backend:
        """Return the state's backend, once `update_inverses` has run."""
        backend = self._backend(state)
        check_computed(backend, state, self.label)
        return backend

    def _serve(
        self,
        state: FactorState,
        what: str,
        damping_id: DampingId,
        stored: tuple[Array, ...],
    ) -> LinearOperator:
        """Return what is stored for a damping id in a field of the same order."""
        backend, ids = self._computed(state), getattr(self, what)
        if damping_id not in ids:
            raise self._not_registered(damping_id, what)
        return self._operator(backend, stored[ids.index(damping_id)])

    def _accumulate(
        self,
        backend: Backend,
        state: FactorState,
        by_source: Sequence[Array],
        ema_decay: Scalar,
        ema_weight: Scalar | None,
        data: Mapping[str, tuple[tuple[Array, ...], ...]],
    ) -> FactorState:
        """Return the state with one more statistic, summed over sources."""
        statistic = by_source[0]
        for other in by_source[1:]:
            statistic = statistic + other
        decay, weight = moving_average.weights_of(
            backend,
            ema_decay,
            ema_weight,
            state.cov.total,
            self.label,
            zero_debias=self.zero_debias,
        )
        new = state._replace(
            cov=moving_average.fold(state.cov, statistic, decay, weight)
        )
        ok = psd.is_finite(backend, self._witness(backend, new.cov.total))

        def error() -> Exception:
            return messages.not_finite(backend, self.label, data)

        return commit(backend, ok, new, state, error)._replace(cov_ok=ok)

    @property
    def _vector_shape(self) -> tuple[int, ...]:
        """Shape in which a vector may come beside ``[dimension]``."""
        return (self.dimension,)

    def _not_registered(
        self, damping_id: DampingId, what: str, exp: float | None = None
    ) -> NotRegisteredError:
        name = what if exp is None else f"{what} {exp:g}"
        return messages.not_registered(self.label, name, damping_id, self.served)
