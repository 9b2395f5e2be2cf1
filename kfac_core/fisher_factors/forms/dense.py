"""`DenseSquareMatrixFactor`: a factor that stores its whole matrix."""

from collections.abc import Mapping
from dataclasses import dataclass

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.linalg import psd
from kfac_core.linalg.newton_schulz import may_suffice, refined, tolerance
from kfac_core.linalg.operators import FullMatrixOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.residual import ResidualRange, krylov_range, rho
from kfac_core.moving_average import MovingAverage
from kfac_core.state import is_known_false
from kfac_core.typing import Array, DampingId


@dataclass(frozen=True, kw_only=True)
class DenseSquareMatrixFactor(FisherFactor):
    """Abstract base of the factors that store ``[n, n]``.

    One Cholesky factorisation for each damping serves its inverse, Cholesky factor and
    inverse Cholesky factor; one eigendecomposition serves all other powers. Which of
    the two computes a power depends on the exponent alone; in ``tf.contrib.kfac`` it
    depends on how many powers are registered. With ``newton_steps``, products turn the
    last inverse into the new one, where the result is verified to be as good.
    """

    @property
    def cov_shape(self) -> tuple[int, ...]:
        """``(n, n)``."""
        return (self.dimension, self.dimension)

    def get_cov_as_linear_operator(self, state: FactorState) -> FullMatrixOperator:
        """Return the estimated matrix as an operator."""
        return FullMatrixOperator(self.get_cov_var(state))

    def trace(self, state: FactorState) -> Array:
        """Return the trace of the current estimate, 0-d."""
        backend = self._backend(state)
        # The trace is taken of the sums: the mean would need as much memory as they do.
        of_sums = state.cov._replace(
            total=self._operator(backend, state.cov.total).trace()
        )
        return moving_average.value(backend, of_sums, self.label)

    def get_eigendecomp(self, state: FactorState) -> Eigendecomposition:
        """Return the eigendecomposition of the current statistics.

        Args:
            state: The state.

        Returns:
            Eigenvalues ``[n]``, ascending, clipped at zero; eigenvectors ``[n, n]``.
        """
        backend = self._backend(state)
        cov = moving_average.value(backend, state.cov, self.label)
        return self._decomposed(backend, cov)

    def get_eigenvectors(self, state: FactorState) -> FullMatrixOperator:
        """Return the eigenvectors of the stored eigendecomposition, as columns."""
        self.get_eigenvalues(state)
        return FullMatrixOperator(state.derived.eigendecompositions[0].vectors)

    def _identity(self, backend: Backend, like: Array) -> Array:
        device = backend.creation_device(like)
        return backend.xp.eye(self.dimension, dtype=like.dtype, device=device)

    def _operator(self, backend: Backend, stored: Array) -> FullMatrixOperator:
        return FullMatrixOperator(stored)

    def _power(self, backend: Backend, cov: Array, damping: Array, exp: float) -> Array:
        return psd.power(backend, cov, damping, exp)

    def _residual(
        self,
        backend: Backend,
        state: FactorState,
        damping: Array,
        damping_id: DampingId,
    ) -> ResidualRange:
        inverse = self._stored_inverse(state, damping_id)
        return self._krylov(backend, state.cov, damping, inverse)

    def _krylov(
        self, backend: Backend, cov: MovingAverage, damping: Array, inverse: Array
    ) -> ResidualRange:
        """Return the range for one matrix, from its sums and in full precision."""
        one = cov._replace(total=backend.xp.ones_like(cov.weight))
        # The scale of the sums; it is cheaper to apply it to vectors.
        scale = moving_average.value(backend, one, self.label)
        n = self.dimension
        traces = (
            psd.trace(backend, cov.total) * scale + n * damping,
            psd.trace(backend, inverse),
        )
        return krylov_range(
            backend,
            lambda v: backend.matmul(cov.total, v) * scale + damping * v,
            lambda v: backend.matmul(inverse, v),
            traces,
            n,
        )

    def _refresh(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
    ) -> Derived:
        def anew() -> Derived:
            return self._derive(backend, cov, dampings)

        if not self.newton_steps or is_known_false(backend, state.computed):
            return anew()
        # No other power is served.
        ids, last = [key for _, key in self.stored_matpowers], state.derived.matpowers
        limit, near = tolerance(backend, cov), state.computed
        for key in ids:
            found = rho(backend, self._residual(backend, state, dampings[key], key))
            near = near & may_suffice(backend, found, self.newton_steps, limit)

        def refine() -> tuple[tuple[Array, ...], Array]:
            inverses, good = [], near
            for key, inverse in zip(ids, last, strict=True):
                matrix = self._power(backend, cov, dampings[key], 1.0)
                better, bound = refined(backend, matrix, inverse, self.newton_steps)
                inverses.append(better)
                good = good & backend.xp.all(bound <= limit)
            return tuple(inverses), good

        inverses, good = backend.cond(near, refine, lambda: (last, near))
        return backend.cond(
            good, lambda: Derived(tuple(dampings.values()), inverses, (), (), ()), anew
        )

    def _derive(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
    ) -> Derived:
        powers = self.stored_matpowers
        # A factor that one inverse alone needs is made with it: see `damped_inverse`.
        inverted = [key for exp, key in powers if psd.needs_cholesky(exp)]
        shared = [key for key in inverted if inverted.count(key) > 1]
        kept = {*self.cholesky, *self.cholesky_inverse, *shared}
        choleskys = {key: psd.cholesky(backend, cov, dampings[key]) for key in kept}
        eigen = None
        if self.eigendecomposition or any(
            psd.needs_eigendecomposition(exp) for exp, _ in powers
        ):
            eigen = psd.eigendecomposition(backend, cov)
        return Derived(
            dampings=tuple(dampings.values()),
            matpowers=tuple(
                [
                    psd.power(backend, cov, dampings[key], e, choleskys.get(key), eigen)
                    for e, key in powers
                ]
            ),
            choleskys=tuple([choleskys[key] for key in self.cholesky]),
            cholesky_inverses=tuple(
                [
                    psd.cholesky_inverse(backend, choleskys[key])
                    for key in self.cholesky_inverse
                ]
            ),
            eigendecompositions=(
                (eigen,) if self.eigendecomposition and eigen is not None else ()
            ),
        )

    def _entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        # The diagonal sums squares: NaN and infinity anywhere in a row show there.
        return psd.diagonal(backend, statistic)

    def _empty_eigendecomposition(
        self, backend: Backend, like: Array
    ) -> Eigendecomposition:
        return Eigendecomposition(psd.diagonal(backend, like) * 0, like * 0)


InverseProvidingFactor = DenseSquareMatrixFactor
"""The name until r1.8."""
