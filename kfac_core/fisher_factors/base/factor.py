"""`FisherFactor`: averages, and what is derived from them, for all factors."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from kfac_core import moving_average
from kfac_core.arguments.options import check_options
from kfac_core.arguments.powers import as_exponent, check_damping_id, place_of_power
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base import merging, options, updating
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.options import DEFAULT_DAMPING_ID
from kfac_core.fisher_factors.base.state import (
    FactorState,
    check_computed,
    checked_backend,
    first_state,
    state_with_statistics_of,
)
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.linalg.operators import LinearOperator, multiply
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.residual import rho
from kfac_core.spec import Spec
from kfac_core.state import without_graph
from kfac_core.typing import Array, DampingId, Dampings


@dataclass(frozen=True, kw_only=True)
class FisherFactor(Spec, ABC):
    """Abstract base of the factors: a statistic of data, in a form.

    Two powers of one factor may be damped differently: each has a damping id, and
    `update_inverses` takes a damping for each id. Further options are those of
    `kfac_core.spec.Spec`.

    Attributes:
        matpowers: Powers of the damped matrix to serve: exponents, or pairs of an
            exponent and a damping id.
        cholesky: Damping ids for which to serve the Cholesky factor.
        cholesky_inverse: Damping ids for which to serve the inverse Cholesky factor.
        eigendecomposition: Whether to keep the eigendecomposition.
        form: What is kept of the matrix: `Dense`, or another that `forms` allows.
        damping_ids: The distinct damping ids of all that is served, in order.
        stored_matpowers: The powers that are stored: all but 1, which is fresh.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_factors import FullyConnectedKroneckerFactor
        >>> factor: FisherFactor = FullyConnectedKroneckerFactor(1)
        >>> x = np.asarray([[1.0], [3.0]])
        >>> state = factor.update_cov(factor.init(x), x, ema_decay=0.0)
        >>> factor.get_cov(state)  # (1 + 9) / 2
        array([[5.]])
    """

    matpowers: tuple[Any, ...] = ()
    cholesky: tuple[DampingId, ...] = ()
    cholesky_inverse: tuple[DampingId, ...] = ()
    eigendecomposition: bool = False
    form: Form = Dense()
    damping_ids: tuple[DampingId, ...] = field(init=False, repr=False, compare=False)
    stored_matpowers: tuple[tuple[float, DampingId], ...] = field(
        init=False, repr=False, compare=False
    )
    _shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    forms: ClassVar[tuple[type[Form], ...]] = (Form,)
    """The forms that the statistic of this class can have."""

    def __post_init__(self) -> None:
        """Check all options, and write each in one way."""
        check_options(self)
        options.write_served(self, self._more_damping_ids())
        self.sign()
        object.__setattr__(self, "_shape", self.cov_shape)  # each verb compares it

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """Shape of the stored statistics."""
        return self.form.shape(self.dimension)

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Number of rows and columns of the matrix that the factor stands for."""

    def register_matpower(
        self, exp: float, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> Self:
        """Return a spec that serves ``(C + damping I)^exp`` too.

        Bring a state along with `init_inverses`.
        """
        check_damping_id(damping_id, "damping_id", self.label)
        power = (as_exponent(exp, self.label, "exp"), damping_id)
        return replace(self, matpowers=(*self.matpowers, power))

    def register_inverse(self, damping_id: DampingId = DEFAULT_DAMPING_ID) -> Self:
        """Return a spec that serves the damped inverse too."""
        return self.register_matpower(-1, damping_id)

    def register_cholesky(self, damping_id: DampingId = DEFAULT_DAMPING_ID) -> Self:
        """Return a spec that serves the damped lower Cholesky factor too."""
        return options.with_id(self, "cholesky", damping_id)

    def register_cholesky_inverse(
        self, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> Self:
        """Return a spec that serves the inverse of the Cholesky factor too."""
        return options.with_id(self, "cholesky_inverse", damping_id)

    def init(self, like: Array) -> FactorState:
        """Return the state before any data.

        Args:
            like: Array that gives library, device and dtype (at least float32).

        Returns:
            The state; its inverses are zeros until `update_inverses`.

        Raises:
            DTypeError: If `like` does not hold real floating-point numbers.
        """
        return first_state(self, like)

    def init_inverses(self, state: FactorState) -> FactorState:
        """Return `state` with its statistics, and nothing computed from them yet.

        Args:
            state: State of this spec, or of one that served other powers.

        Returns:
            A state for this spec.

        Raises:
            StateError: If the state is of another kind of spec.
        """
        return state_with_statistics_of(self, state)

    @abstractmethod
    def update_cov(self, state: FactorState, *args: Any, **kwargs: Any) -> FactorState:
        """Fold the statistics of a batch into the average.

        Squares of data above the range of the state's dtype are refused; those below
        its least normal number count as zero, as those of zeros do.
        """

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
        return updating.with_inverses(self, self._backend(state), state, damping)

    def get_cov(self, state: FactorState) -> Array:
        """Return the estimated matrix itself, dense ``[dimension, dimension]``."""
        return self.get_cov_as_linear_operator(state).to_dense()

    def get_cov_var(self, state: FactorState) -> Array:
        """Return the statistics as they are stored, of shape `cov_shape`."""
        return moving_average.value(self._backend(state), state.cov, self.label)

    def get_cov_as_linear_operator(self, state: FactorState) -> LinearOperator:
        """Return the estimated matrix as an operator."""
        backend = self._backend(state)
        cov = moving_average.value(backend, state.cov, self.label)
        return self.form.operator(backend, cov, self)

    def get_eigendecomp(self, state: FactorState) -> Eigendecomposition:
        """Return the eigendecomposition of the current statistics, clipped at zero.

        Eigenvalues ascend, but those of a diagonal and of blocks are in their order.

        Raises:
            EigendecompositionError: If the library finds none, not even in float64.
        """
        backend = self._backend(state)
        cov = moving_average.value(backend, state.cov, self.label)
        return self.form.eigendecomposition(backend, cov, self)

    def get_matpower(
        self, state: FactorState, exp: float, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return ``(C + damping I)^exp``.

        Args:
            state: The state.
            exp: A registered exponent. The power 1 uses the current statistics and the
                damping of the last `update_inverses`; all others are its snapshots.
            damping_id: Its damping id.

        Returns:
            The operator.

        Raises:
            NotRegisteredError: If the spec does not serve the power.
            NotComputedError: If `update_inverses` has not run yet.
        """
        check_damping_id(damping_id, "damping_id", self.label)
        return self._matpower(state, as_exponent(exp, self.label, "exp"), damping_id)

    def _matpower(
        self, state: FactorState, exp: float, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return a power as `get_matpower` does, of arguments in their final form."""
        backend = self._computed(state)
        place = place_of_power(exp, damping_id, self.stored_matpowers)
        if place is not None:
            return self.form.kept_power(backend, state, place, self)
        if exp != 1 or damping_id not in self.damping_ids:
            raise options.not_registered(self, f"matpower {exp:g}", damping_id)
        damping = state.derived.dampings[self.damping_ids.index(damping_id)]
        cov = moving_average.value(backend, state.cov, self.label)
        return self.form.damped(backend, cov, damping, self)

    def get_inverse(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return the stored damped inverse: `get_matpower` with the exponent -1."""
        return self.get_matpower(state, -1, damping_id)

    def inverse_error(self, state: FactorState, damping: Dampings) -> Array:
        """Return how wrong the stored inverse is for the current statistics.

        It is the bound ``rho`` of `kfac_core.linalg.residual` for ``C + damping I``
        with the current statistics: exact for a diagonal, otherwise estimated by a few
        products with each matrix. The estimate is never above the truth, except by
        rounding; for statistics that drifted it is mostly less than a tenth below.

        Args:
            state: The state.
            damping: As in `update_inverses`, for the damping ids of the inverses that
                are served; the largest error of these is returned.

        Returns:
            0-d, or for a factor of groups ``[num_groups]``; infinite where nothing is
            computed yet. An inverse of zeros has the error one.

        Raises:
            ArgumentError: If a damping is negative or not finite, or one is missing.
            NotComputedError: If there are no statistics yet.
            NotRegisteredError: If no inverse is served.
        """
        backend = self._backend(state)
        found = updating.inverse_residual(self, backend, state, damping)
        return without_graph(backend, rho(backend, found))

    def get_cholesky(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return the stored Cholesky factor ``L``; errors as in `get_matpower`."""
        backend = self._computed(state)
        place = options.place_of(self, "cholesky", damping_id)
        return self.form.operator(backend, state.derived.choleskys[place], self)

    def get_cholesky_inverse(
        self, state: FactorState, damping_id: DampingId = DEFAULT_DAMPING_ID
    ) -> LinearOperator:
        """Return the stored ``inv(L)``; errors as in `get_matpower`."""
        backend = self._computed(state)
        place = options.place_of(self, "cholesky_inverse", damping_id)
        return self.form.operator(backend, state.derived.cholesky_inverses[place], self)

    def get_eigenvectors(self, state: FactorState) -> LinearOperator:
        """Return the eigenvectors of the stored eigendecomposition, as columns."""
        self.get_eigenvalues(state)
        (eigen,) = state.derived.eigendecompositions
        return self.form.operator(self._backend(state), eigen.vectors, self)

    def get_eigenvalues(self, state: FactorState) -> Array:
        """Return the eigenvalues ``[dimension]`` of the stored eigendecomposition."""
        self._computed(state)
        if not self.eigendecomposition:
            raise options.not_registered(self, "eigendecomposition", None)
        return state.derived.eigendecompositions[0].values

    def trace(self, state: FactorState) -> Array:
        """Return the trace of the current estimate, 0-d."""
        return self.form.trace(self._backend(state), state.cov, self)

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
            x: ``[dimension, k]`` or ``[dimension]``; or, for a diagonal, `cov_shape`.
            exp: A registered exponent.
            damping_id: Its damping id.

        Returns:
            The product, of the shape and dtype of `x`.
        """
        power = self.get_matpower(state, exp, damping_id)
        return multiply(power, x, self.form.vector_shape(self), self.label)

    def right_multiply_matpower(
        self,
        state: FactorState,
        x: Array,
        exp: float,
        damping_id: DampingId = DEFAULT_DAMPING_ID,
    ) -> Array:
        """Return ``x @ (C + damping I)^exp``; see `left_multiply_matpower`."""
        power = self.get_matpower(state, exp, damping_id)
        return multiply(power, x, self.form.vector_shape(self), self.label, right=True)

    def _union(self, states: tuple[Any, ...]) -> Any:
        return merging.merged(self, states)

    def _more_damping_ids(self) -> tuple[DampingId, ...]:
        """Return the damping ids of what this kind of factor alone serves."""
        return ()

    def _backend(
        self, state: FactorState, arguments: str = "state", *data: Array
    ) -> Backend:
        """Return the backend of a state, whose form is checked, and of data.

        With data, the backend computes products in the precision of the statistics.
        """
        return checked_backend(self, state, arguments, data)

    def _computed(self, state: FactorState) -> Backend:
        """Return the state's backend, once `update_inverses` has run."""
        check_computed(backend := self._backend(state), state, self.label)
        return backend
