"""`Diagonal`: the form of a factor that keeps its diagonal alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from kfac_core import moving_average
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.linalg import psd
from kfac_core.linalg.operators import DiagonalOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.residual import ResidualRange, diagonal_range
from kfac_core.linalg.spectrum import Eigenbasis
from kfac_core.statistics.rows import squared_mean
from kfac_core.statistics.weighted_rows import Rows
from kfac_core.typing import Array, DampingId


@dataclass(frozen=True)
class Diagonal(Form):
    """The diagonal, ``[n]``, or of any shape that has ``n`` entries.

    The statistics, flattened row-major, are the diagonal of the matrix. The Cholesky
    factor is the power 1/2. Powers are snapshots of the last `update_inverses`, so that
    both sides of a Kronecker product have one age (``tf.contrib.kfac`` evaluates the
    diagonal side afresh at every product). The eigenvalues are the diagonal as it
    stands, and the eigenvectors are the identity.

    Example:
        >>> from kfac_core.fisher_factors import NaiveFullFactor
        >>> NaiveFullFactor(size=2, form=Diagonal()).cov_shape
        (2,)
    """

    def shape(self, size: int) -> tuple[int, ...]:
        return (size,)

    def vector_shape(self, factor: FisherFactor) -> tuple[int, ...]:
        return factor.cov_shape

    def of_rows(self, backend: Backend, rows: Rows, has_bias: bool) -> Array:
        arrays, roots, count = rows
        return squared_mean(
            backend, arrays, has_bias=has_bias, roots=roots, count=count
        )

    def identity(self, backend: Backend, like: Array, factor: FisherFactor) -> Array:
        return backend.xp.ones_like(like)

    def operator(
        self, backend: Backend, kept: Array, factor: FisherFactor
    ) -> DiagonalOperator:
        return DiagonalOperator(backend.xp.reshape(kept, (-1,)))

    def power(
        self,
        backend: Backend,
        cov: Array,
        damping: Array,
        exp: float,
        factor: FisherFactor,
    ) -> Array:
        return psd.positive_power(backend, cov + damping, exp)

    def eigendecomposition(
        self, backend: Backend, cov: Array, factor: FisherFactor
    ) -> Eigendecomposition:
        values = self.operator(backend, cov, factor).diagonal
        return Eigendecomposition(values, DiagonalOperator(values * 0 + 1).to_dense())

    def eigenbasis(
        self, backend: Backend, cov: Array, factor: FisherFactor
    ) -> Eigenbasis:
        return Eigenbasis(self.operator(backend, cov, factor).diagonal)

    def kept_basis(
        self, backend: Backend, kept: Eigendecomposition, factor: FisherFactor
    ) -> Eigenbasis:
        return Eigenbasis(kept.values)

    def residual(
        self,
        backend: Backend,
        state: FactorState,
        damping: Array,
        place: int,
        factor: FisherFactor,
    ) -> ResidualRange:
        cov = moving_average.value(backend, state.cov, factor.label)
        return diagonal_range(backend, cov + damping, state.derived.matpowers[place])

    def derive(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: FisherFactor,
    ) -> Derived:
        def powers(wanted: list[tuple[float, DampingId]]) -> tuple[Array, ...]:
            return tuple(
                [
                    psd.positive_power(backend, cov + dampings[key], exp)
                    for exp, key in wanted
                ]
            )

        flat = backend.xp.reshape(cov, (-1,))
        eigen = Eigendecomposition(flat, backend.xp.ones_like(flat))
        return Derived(
            dampings=tuple(dampings.values()),
            matpowers=powers([*factor.stored_matpowers]),
            choleskys=powers([(0.5, key) for key in factor.cholesky]),
            cholesky_inverses=powers([(-0.5, key) for key in factor.cholesky_inverse]),
            eigendecompositions=(eigen,) if factor.eigendecomposition else (),
        )

    def entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        return statistic

    def empty_eigendecomposition(
        self, backend: Backend, like: Array, factor: FisherFactor
    ) -> Eigendecomposition:
        flat = backend.xp.reshape(like * 0, (-1,))
        return Eigendecomposition(flat, flat * 0)
