"""`Stack`: the form of a factor of groups, which keeps one matrix for each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kfac_core import tree
from kfac_core.arguments.scalars import as_dampings, as_vector
from kfac_core.backend import Backend
from kfac_core.fisher_factors.base import messages
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.fisher_factors.forms.dense import Dense, residual_of
from kfac_core.linalg import psd
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.linalg.residual import ResidualRange
from kfac_core.linalg.stacks import MatrixStackOperator, diagonals
from kfac_core.moving_average import MovingAverage
from kfac_core.state import all_finite
from kfac_core.typing import Array, DampingId, Dampings


@dataclass(frozen=True)
class Stack(Dense):
    """A stack of whole matrices, ``[groups, n, n]``, each on its own.

    A damping is kept as ``[groups]``, one for each matrix.

    Attributes:
        groups: Number of matrices.
    """

    groups: int = field(kw_only=True)

    def shape(self, size: int) -> tuple[int, ...]:
        return (self.groups, size, size)

    def identity(self, backend: Backend, like: Array, factor: FisherFactor) -> Array:
        return like * 0 + super().identity(backend, like, factor)

    def operator(
        self, backend: Backend, kept: Array, factor: FisherFactor
    ) -> MatrixStackOperator:
        return MatrixStackOperator(kept)

    def power(
        self,
        backend: Backend,
        cov: Array,
        damping: Array,
        exp: float,
        factor: FisherFactor,
    ) -> Array:
        return backend.vmap(partial(psd.power, backend, exp=exp), cov, damping)

    def derive(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: FisherFactor,
    ) -> Derived:
        of_one = super().derive

        def of_group(cov: Array, values: tuple[Array, ...]) -> Derived:
            own = dict(zip(dampings, values, strict=True))
            return of_one(backend, cov, own, factor)

        return backend.vmap(of_group, cov, tuple(dampings.values()))

    def residual(
        self,
        backend: Backend,
        state: FactorState,
        damping: Array,
        place: int,
        factor: FisherFactor,
    ) -> ResidualRange:
        total, weight = state.cov

        def of_group(total: Array, damping: Array, inverse: Array) -> ResidualRange:
            average = MovingAverage(total, weight)
            return residual_of(backend, average, damping, inverse, factor.label)

        return backend.vmap(of_group, total, damping, state.derived.matpowers[place])

    def diagonal(self, backend: Backend, statistic: Array) -> Array:
        return diagonals(backend, statistic)

    def entries_to_check(self, backend: Backend, statistic: Array) -> Array:
        return diagonals(backend, statistic)

    def empty_eigendecomposition(
        self, backend: Backend, like: Array, factor: FisherFactor
    ) -> Eigendecomposition:
        return Eigendecomposition(diagonals(backend, like) * 0, like * 0)

    def not_positive_definite(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: FisherFactor,
    ) -> Exception:
        """Name the first group that is not positive definite."""
        known = backend.is_finite(cov)
        parts = tree.members(self.derive(backend, cov, dampings, factor))
        finite = [bool(all_finite(backend, part, known)) for part in parts]
        # If the factor computes in float64, the rounding to float32 may overflow.
        i = 0 if all(finite) else finite.index(False)
        smallest = min((float(d[i]) for d in dampings.values()), default=0.0)
        return messages.not_positive_definite(
            backend,
            f"{factor.label}, group {i}",
            psd.trace(backend, cov[i, :, :]),
            factor.dimension,
            smallest,
        )

    def dampings(
        self, backend: Backend, damping: Dampings, like: Array, factor: FisherFactor
    ) -> dict[DampingId, Array]:
        ids, label = factor.damping_ids, factor.label
        # Added to zeros: a new array for each id.
        zeros = self._zeros(backend, like)
        if isinstance(damping, Mapping) or not getattr(damping, "shape", ()):
            same = as_dampings(backend, damping, ids, like, label)
            return {key: zeros + value for key, value in same.items()}
        given: Any = damping
        by_group = as_vector(backend, given, self.groups, like, "damping", label)
        return dict(zip(ids, [zeros + by_group for _ in ids], strict=True))

    def empty_damping(self, backend: Backend, average: MovingAverage) -> Array:
        return self._zeros(backend, average.total)

    def _zeros(self, backend: Backend, like: Array) -> Array:
        device = backend.creation_device(like)
        return backend.xp.zeros((self.groups,), dtype=like.dtype, device=device)
