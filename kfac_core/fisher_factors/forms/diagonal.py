"""`DiagonalFactor`: a factor that stores its diagonal alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.linalg import psd
from kfac_core.linalg.operators import DiagonalOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.residual import ResidualRange, diagonal_range
from kfac_core.typing import Array, DampingId


@dataclass(frozen=True, kw_only=True)
class DiagonalFactor(FisherFactor):
    """Abstract base of the factors that store a diagonal, in any shape.

    The statistics, flattened row-major, are the diagonal of the matrix. The Cholesky
    factor is the power 1/2. Powers are snapshots of the last `update_inverses`, so that
    both sides of a Kronecker product have one age (``tf.contrib.kfac`` evaluates the
    diagonal side afresh at every product).
    """

    @property
    def dimension(self) -> int:
        """Number of entries of the diagonal."""
        return prod(self.cov_shape)

    def get_cov_as_linear_operator(self, state: FactorState) -> DiagonalOperator:
        """Return the estimated matrix as an operator."""
        return self._operator(self._backend(state), self.get_cov_var(state))

    def get_eigendecomp(self, state: FactorState) -> Eigendecomposition:
        """Return the diagonal, as it stands, and the dense identity.

        Args:
            state: The state.

        Returns:
            Eigenvalues ``[n]`` in the order of the diagonal, and eigenvectors
            ``[n, n]``.
        """
        operator = self.get_cov_as_linear_operator(state)
        ones = DiagonalOperator(operator.diagonal * 0 + 1)
        return Eigendecomposition(operator.diagonal, ones.to_dense())

    def get_eigenvectors(self, state: FactorState) -> DiagonalOperator:
        """Return the identity: a diagonal matrix is its own eigenbasis."""
        self.get_eigenvalues(state)
        return DiagonalOperator(state.derived.eigendecompositions[0].vectors)

    @property
    def _vector_shape(self) -> tuple[int, ...]:
        return self.cov_shape

    def _identity(self, backend: Backend, like: Array) -> Array:
        return backend.xp.ones_like(like)

    def _operator(self, backend: Backend, stored: Array) -> DiagonalOperator:
        return DiagonalOperator(backend.xp.reshape(stored, (self.dimension,)))

    def _power(self, backend: Backend, cov: Array, damping: Array, exp: float) -> Array:
        return psd.positive_power(backend, cov + damping, exp)

    def _residual(
        self,
        backend: Backend,
        state: FactorState,
        damping: Array,
        damping_id: DampingId,
    ) -> ResidualRange:
        matrix = self.get_cov_var(state) + damping
        inverse = self._stored_inverse(state, damping_id)
        return diagonal_range(backend, matrix, inverse)

    def _derive(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
    ) -> Derived:
        eigen = Eigendecomposition(
            backend.xp.reshape(cov, (self.dimension,)),
            backend.xp.ones_like(backend.xp.reshape(cov, (self.dimension,))),
        )
        return Derived(
            dampings=tuple(dampings.values()),
            matpowers=tuple(
                self._power(backend, cov, dampings[key], exp)
                for exp, key in self.stored_matpowers
            ),
            choleskys=tuple(
                self._power(backend, cov, dampings[key], 0.5) for key in self.cholesky
            ),
            cholesky_inverses=tuple(
                self._power(backend, cov, dampings[key], -0.5)
                for key in self.cholesky_inverse
            ),
            eigendecompositions=(eigen,) if self.eigendecomposition else (),
        )

    def _entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        return statistic

    def _empty_eigendecomposition(
        self, backend: Backend, like: Array
    ) -> Eigendecomposition:
        flat = backend.xp.reshape(like * 0, (self.dimension,))
        return Eigendecomposition(flat, flat * 0)
