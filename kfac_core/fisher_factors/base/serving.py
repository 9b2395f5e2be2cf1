"""`ServingFactor`: what a factor reads from a state."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from kfac_core import moving_average
from kfac_core.arguments import backend_for
from kfac_core.backend import Backend
from kfac_core.errors import NotRegisteredError
from kfac_core.exponents import as_exponent, check_damping_id
from kfac_core.fisher_factors.base import messages
from kfac_core.fisher_factors.base.options import DEFAULT_DAMPING_ID, Registration
from kfac_core.fisher_factors.base.state import (
    FactorState,
    check_computed,
    check_statistics,
)
from kfac_core.linalg.operators import LinearOperator, multiply
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.residual import ResidualRange, krylov_range, rho
from kfac_core.linalg.retry import eigendecomposition, retried
from kfac_core.scalars import as_dampings
from kfac_core.signature import check_made_by
from kfac_core.state import is_known_false, without_graph
from kfac_core.typing import Array, DampingId, Dampings


@dataclass(frozen=True, kw_only=True)
class ServingFactor(Registration, ABC):
    """Abstract base of the factors: the verbs that read a state, and change none."""

    @property
    @abstractmethod
    def cov_shape(self) -> tuple[int, ...]:
        """Shape of the stored statistics."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Number of rows and columns of the matrix that the factor stands for."""

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
        """Return the eigendecomposition of the current statistics, clipped at zero.

        Raises:
            EigendecompositionError: If the library finds none, not even in float64.
        """

    def get_matpower(
        self, state: FactorState, exp: float, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return ``(C + damping I)^exp``.

        Args:
            state: The state.
            exp: A registered exponent. The power 1 uses the current statistics and the
                damping of the last `update_inverses`; all other powers are snapshots
                that `update_inverses` took.
            damping_id: Its damping id.

        Returns:
            The operator.

        Raises:
            NotRegisteredError: If the spec does not serve the power.
            NotComputedError: If `update_inverses` has not run yet.
        """
        backend = self._computed(state)
        key = self._key(exp, damping_id)
        if key[0] == 1 and damping_id in self.damping_ids:
            damping = state.derived.dampings[self.damping_ids.index(damping_id)]
            stored = moving_average.value(backend, state.cov, self.label)
            return self._operator(backend, self._power(backend, stored, damping, 1.0))
        if key not in self.stored_matpowers:
            raise self._not_registered(damping_id, "matpower", key[0])
        place = self.stored_matpowers.index(key)
        return self._operator(backend, state.derived.matpowers[place])

    def get_inverse(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return the stored damped inverse: `get_matpower` with the exponent -1."""
        return self.get_matpower(state, -1, damping_id)

    def inverse_error(self, state: FactorState, damping: Dampings) -> Array:
        """Return how wrong the stored inverse is for the current statistics.

        Let ``X`` be the stored inverse, and ``M = C + damping I`` with the current
        statistics. The error is the least ``rho`` with
        ``|X g - inv(M) g| <= rho |inv(M) g|`` for every ``g``, in the norm
        ``|v|^2 = v' M v``; see
        `kfac_core.linalg.residual`. It is exact for a diagonal. Otherwise it is
        estimated with a few products with each matrix. The estimate is never above the
        truth, except by rounding; for statistics that drifted it is mostly less than a
        tenth below.

        Args:
            state: The state.
            damping: As in `FisherFactor.update_inverses`, for the damping ids of the
                inverses that are served; the largest error of these is returned.

        Returns:
            0-d, or for a factor of groups ``[num_groups]``; infinite where nothing is
            computed yet. An inverse of zeros has the error one.

        Raises:
            ArgumentError: If a damping is negative or not finite, or one is missing.
            NotComputedError: If there are no statistics yet.
            NotRegisteredError: If no inverse is served.
        """
        found = self.inverse_residual(state, damping)
        backend = self._backend(state)
        return without_graph(backend, rho(backend, found))

    def inverse_residual(self, state: FactorState, damping: Dampings) -> ResidualRange:
        """Return the extreme eigenvalues of ``I - M X``; see `inverse_error`.

        Raises:
            not_decomposed: If the library finds no eigendecomposition of the small
                matrix that the estimate needs, not even in float64.
        """
        backend = self._backend(state)
        ids = [key for exp, key in self.stored_matpowers if exp == -1]
        if not ids:
            raise self._not_registered(DEFAULT_DAMPING_ID, "matpower", -1)
        xp, dampings = backend.xp, self._dampings(backend, damping, state.cov.total)
        infinite = xp.zeros_like(dampings[ids[0]]) + float("inf")
        if is_known_false(backend, state.computed):
            return ResidualRange(-infinite, infinite)
        found, retry = retried(
            backend,
            lambda b: tuple(
                self._residual(b, state, dampings[key], key) for key in ids
            ),
            state.computed,
        )
        if retry is not None:
            raise messages.not_decomposed(backend, self.label, state.cov.total, retry)
        smallest, largest = found[0]
        for low, high in found[1:]:
            smallest, largest = xp.minimum(smallest, low), xp.maximum(largest, high)
        return ResidualRange(
            xp.where(state.computed, smallest, -infinite),
            xp.where(state.computed, largest, infinite),
        )

    def get_cholesky(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return the stored Cholesky factor ``L``; errors as in `get_matpower`."""
        return self._serve(state, "cholesky", damping_id)

    def get_cholesky_inverse(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return the stored ``inv(L)``; errors as in `get_matpower`."""
        return self._serve(state, "cholesky_inverse", damping_id)

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
            ShapeError: If `x` has another shape.
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
        """Return ``x @ (C + damping I)^exp``; see `left_multiply_matpower`."""
        power = self.get_matpower(state, exp, damping_id)
        return multiply(power, x, self._vector_shape, self.label, right=True)

    def _key(self, exp: float, damping_id: DampingId) -> tuple[float, DampingId]:
        """Return the key under which a power is stored."""
        check_damping_id(damping_id, "damping_id", self.label)
        return as_exponent(exp, self.label, "exp"), damping_id

    @abstractmethod
    def _operator(self, backend: Backend, stored: Array) -> LinearOperator:
        """Return the operator of a stored matrix."""

    @abstractmethod
    def _power(self, backend: Backend, cov: Array, damping: Array, exp: float) -> Array:
        """Return a damped power, as it is stored."""

    def _dampings(
        self, backend: Backend, damping: Dampings, like: Array
    ) -> dict[DampingId, Array]:
        """Return the damping of each damping id, as it is stored."""
        return as_dampings(backend, damping, self.damping_ids, like, self.label)

    def _stored_inverse(self, state: FactorState, damping_id: DampingId) -> Array:
        """Return the inverse for a damping id, as it is stored."""
        place = self.stored_matpowers.index((-1.0, damping_id))
        return state.derived.matpowers[place]

    def _residual(
        self,
        backend: Backend,
        state: FactorState,
        damping: Array,
        damping_id: DampingId,
    ) -> ResidualRange:
        """Return the range of one inverse's residual; under a trace, even of zeros.

        Factors that store a whole matrix or a diagonal have methods of their own.
        """
        matrix = self.get_cov_as_linear_operator(state)
        inverse = self.get_matpower(state, -1, damping_id)
        n = self.dimension
        return krylov_range(
            backend,
            lambda v: matrix.matmul(v) + damping * v,
            inverse.matmul,
            (matrix.trace() + n * damping, inverse.trace()),
            n,
        )

    def _decomposed(self, backend: Backend, matrix: Array) -> Eigendecomposition:
        """Return the eigendecomposition of a matrix, or of each of a stack.

        Raises:
            error: If the library finds none, not even in float64.
        """
        found, retry = eigendecomposition(backend, matrix)
        if retry is None:
            return found
        error = messages.not_decomposed(backend, self.label, matrix, retry)
        raise error

    def _backend(
        self, state: FactorState, arguments: str = "state", *data: Array
    ) -> Backend:
        """Return the backend of a state, whose form is checked, and of data.

        With data, the backend computes products in the precision of the statistics.
        """
        if type(state) is not FactorState:
            check_made_by(state, self._made_by, self.label)
        backend = backend_for(self.label, arguments, state.cov.total, *data)
        check_statistics(backend, state, self.cov_shape, self.label)
        check_made_by(state, self._made_by, self.label)
        return backend.in_precision(self.precision) if data else backend

    def _computed(self, state: FactorState) -> Backend:
        """Return the state's backend, once `update_inverses` has run."""
        backend = self._backend(state)
        check_computed(backend, state, self.label)
        return backend

    def _serve(
        self, state: FactorState, what: str, damping_id: DampingId
    ) -> LinearOperator:
        """Return what is stored for one damping id, in a field ordered by ids."""
        backend = self._computed(state)
        stored: tuple[Array, ...] = getattr(state.derived, f"{what}s")
        return self._operator(backend, stored[self._place(what, damping_id)])

    def _place(self, what: str, damping_id: DampingId) -> int:
        """Return the place of a damping id in a field of ids."""
        ids: tuple[DampingId, ...] = getattr(self, what)
        check_damping_id(damping_id, "damping_id", self.label)
        if damping_id not in ids:
            raise self._not_registered(damping_id, what)
        return ids.index(damping_id)

    @property
    def _vector_shape(self) -> tuple[int, ...]:
        """Shape that a vector may have instead of ``[dimension]``."""
        return (self.dimension,)

    def _not_registered(
        self, damping_id: DampingId, what: str, exp: float | None = None
    ) -> NotRegisteredError:
        name = what if exp is None else f"{what} {exp:g}"
        return messages.not_registered(self.label, name, damping_id, self.served)
