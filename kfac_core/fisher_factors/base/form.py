"""`Form`: what a factor keeps of its matrix, and what it computes from that."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kfac_core import moving_average
from kfac_core.arguments.scalars import as_dampings
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base import messages
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.linalg.operators import LinearOperator
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.residual import ResidualRange, krylov_range
from kfac_core.linalg.retry import retried_eigendecomposition
from kfac_core.linalg.spectrum import Eigenbasis
from kfac_core.moving_average import MovingAverage, Sample
from kfac_core.statistics.weighted_rows import Rows
from kfac_core.typing import Array, DampingId, Dampings

if TYPE_CHECKING:
    from kfac_core.fisher_factors.base.factor import FisherFactor


@dataclass(frozen=True)
class Form(ABC):
    """Abstract base of the forms: dense, diagonal, of low rank, blocks.

    A factor is a statistic in a form: the statistic says which rows, patches or
    gradients the matrix is the second moment of, and the form says what is kept of the
    matrix and how its powers are computed. A form holds neither sizes nor arrays; its
    methods are given the factor, whose sizes, options and label they read.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_factors import Dense, Diagonal
        >>> from kfac_core.fisher_factors import FullyConnectedKroneckerFactor
        >>> x = np.asarray([[1.0, 2.0]])
        >>> for form in (Dense(), Diagonal()):  # one statistic, in two forms
        ...     factor = FullyConnectedKroneckerFactor(2, form=form)
        ...     state = factor.update_cov(factor.init(x), x, ema_decay=0.0)
        ...     print(factor.get_cov_var(state).tolist())
        [[1.0, 2.0], [2.0, 4.0]]
        [1.0, 4.0]
    """

    is_mean_by_weight: ClassVar[bool] = False
    """Whether sums over weighted rows are divided by the sum of the weights.

    Otherwise they are divided by the number of rows that the mean loss counts.
    """

    takes_damping: ClassVar[bool] = True
    """Whether it takes its part of a product's damping; if not, it is the identity."""

    takes_any_length: ClassVar[bool] = True
    """Whether the number of rows may be unknown when the second moment is taken."""

    joins_sources: ClassVar[bool] = False
    """Whether `joined_sources` has to see the samples of all sources together."""

    @abstractmethod
    def shape(self, size: int) -> tuple[int, ...]:
        """Return the shape of what is kept of a matrix ``[size, size]``."""

    def vector_shape(self, factor: "FisherFactor") -> tuple[int, ...]:
        """Return the shape that a vector may have instead of ``[dimension]``."""
        return (factor.dimension,)

    def of_rows(self, backend: Backend, rows: Rows, has_bias: bool) -> Array | Sample:
        """Return the second moment of rows, or what adds it to the average.

        Raises:
            NotImplementedError: If the form is one of another statistic.
        """
        raise NotImplementedError

    @abstractmethod
    def operator(
        self, backend: Backend, kept: Array, factor: "FisherFactor"
    ) -> LinearOperator:
        """Return the operator of a matrix as it is kept."""

    @abstractmethod
    def power(
        self,
        backend: Backend,
        cov: Array,
        damping: Array,
        exp: float,
        factor: "FisherFactor",
    ) -> Array:
        """Return a damped power, as it is kept."""

    @abstractmethod
    def derive(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: "FisherFactor",
    ) -> Derived:
        """Compute all that the factor serves from the statistics."""

    @abstractmethod
    def entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        """Return entries of a statistic that are finite only if its data are."""

    def identity(self, backend: Backend, like: Array, factor: "FisherFactor") -> Array:
        """Return the statistics of the identity matrix, of the shape of `like`."""
        device = backend.creation_device(like)
        return backend.xp.eye(like.shape[-1], dtype=like.dtype, device=device)

    def empty_eigendecomposition(
        self, backend: Backend, like: Array, factor: "FisherFactor"
    ) -> Eigendecomposition:
        """Return an eigendecomposition as it is kept before `derive`: zeros."""
        xp, device = backend.xp, backend.creation_device(like)
        values = xp.zeros((factor.dimension,), dtype=like.dtype, device=device)
        return Eigendecomposition(values, xp.zeros_like(like))

    def check(self, factor: "FisherFactor") -> None:
        """Check that a factor with this form can serve what its options say."""
        return

    def initial(self, backend: Backend, zeros: Array, factor: "FisherFactor") -> Array:
        """Return the statistics that count as the first sample, without debiasing."""
        if factor.init_covariances_at_zero:
            return zeros
        return self.identity(backend, zeros, factor)

    def joined_sources(
        self,
        backend: Backend,
        samples: Sequence[Array | Sample],
        factor: "FisherFactor",
    ) -> Sequence[Array | Sample]:
        """Return the samples of all sources as the average takes them."""
        return samples

    def union(
        self,
        backend: Backend,
        averages: Sequence[MovingAverage],
        factor: "FisherFactor",
    ) -> MovingAverage:
        """Return the average of all samples of several averages."""
        return moving_average.added(backend, averages)

    def empty_power(
        self, backend: Backend, like: Array, factor: "FisherFactor"
    ) -> Array:
        """Return a power as it is kept before `derive`: zeros."""
        return backend.xp.zeros_like(like)

    def empty_extra(
        self, backend: Backend, like: Array, factor: "FisherFactor"
    ) -> tuple[Any, ...]:
        """Return ``extra`` of a state before `derive`."""
        return ()

    def extra(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: "FisherFactor",
    ) -> tuple[Any, ...]:
        """Return ``extra`` of a state whose derived quantities are new."""
        return state.extra

    def refresh(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: "FisherFactor",
    ) -> Derived:
        """Derive anew, or from what was derived before where the factor says so."""
        return self.derive(backend, cov, dampings, factor)

    def damped(
        self,
        backend: Backend,
        cov: Array,
        damping: Array,
        factor: "FisherFactor",
    ) -> LinearOperator:
        """Return the matrix plus its damping."""
        power = self.power(backend, cov, damping, 1.0, factor)
        return self.operator(backend, power, factor)

    def kept_power(
        self, backend: Backend, state: FactorState, place: int, factor: "FisherFactor"
    ) -> LinearOperator:
        """Return the power that has a place among those that are kept."""
        return self.operator(backend, state.derived.matpowers[place], factor)

    def trace(
        self, backend: Backend, average: MovingAverage, factor: "FisherFactor"
    ) -> Array:
        """Return the trace of an average, 0-d."""
        cov = moving_average.value(backend, average, factor.label)
        return self.operator(backend, cov, factor).trace()

    def eigendecomposition(
        self, backend: Backend, cov: Array, factor: "FisherFactor"
    ) -> Eigendecomposition:
        """Return the eigendecomposition of the matrix, which is made dense."""
        dense = self.operator(backend, cov, factor).to_dense()
        return decomposed(backend, dense, factor.label)

    def eigenbasis(
        self, backend: Backend, cov: Array, factor: "FisherFactor"
    ) -> Eigenbasis:
        """Return eigenvalues in any order; nothing is made that is not kept."""
        values, vectors = self.eigendecomposition(backend, cov, factor)
        return Eigenbasis(values, (vectors,))

    def kept_basis(
        self, backend: Backend, kept: Eigendecomposition, factor: "FisherFactor"
    ) -> Eigenbasis:
        """Return the eigenbasis of an eigendecomposition as `derive` gives it."""
        return Eigenbasis(kept.values, (kept.vectors,))

    def residual(
        self,
        backend: Backend,
        state: FactorState,
        damping: Array,
        place: int,
        factor: "FisherFactor",
    ) -> ResidualRange:
        """Return the range of one inverse's residual; under a trace, even of zeros."""
        cov = moving_average.value(backend, state.cov, factor.label)
        matrix = self.operator(backend, cov, factor)
        inverse = self.kept_power(backend, state, place, factor)
        n = factor.dimension
        return krylov_range(
            backend,
            lambda v: matrix.matmul(v) + damping * v,
            inverse.matmul,
            (matrix.trace() + n * damping, inverse.trace()),
            n,
        )

    def dampings(
        self, backend: Backend, damping: Dampings, like: Array, factor: "FisherFactor"
    ) -> dict[DampingId, Array]:
        """Return the damping of each damping id, as it is kept."""
        return as_dampings(backend, damping, factor.damping_ids, like, factor.label)

    def empty_damping(self, backend: Backend, average: MovingAverage) -> Array:
        """Return a damping as it is kept before `derive`: zero."""
        return backend.xp.zeros_like(average.weight)

    def not_positive_definite(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: "FisherFactor",
    ) -> Exception:
        """Return the error for a damped matrix that has no inverse."""
        trace = self.operator(backend, cov, factor).trace()
        smallest = min(map(float, dampings.values()), default=0.0)
        return messages.not_positive_definite(
            backend, factor.label, trace, factor.dimension, smallest
        )


def decomposed(backend: Backend, matrix: Array, label: str) -> Eigendecomposition:
    """Return the eigendecomposition of a matrix, or of each of a stack.

    Args:
        backend: Backend of the matrix.
        matrix: ``[n, n]``, or a stack of these.
        label: Name of the factor, for the message.

    Returns:
        The eigendecomposition, clipped at zero.

    Raises:
        not_decomposed: If the library finds none, not even in float64.
    """
    found, retry = retried_eigendecomposition(backend, matrix)
    if retry is None:
        return found
    raise messages.not_decomposed(backend, label, matrix, retry)
