"""`Identity`: the form of a factor that is the identity, whatever its data are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.fisher_factors.forms.diagonal import Diagonal
from kfac_core.linalg.operators import DiagonalOperator
from kfac_core.linalg.residual import ResidualRange, diagonal_range
from kfac_core.typing import Array, DampingId


@dataclass(frozen=True)
class Identity(Diagonal):
    """The identity matrix, and its powers, which are the identity as well.

    Its average says that there were data, and nothing else: without debiasing, and with
    rows of any weight, the matrix is the identity still. It takes no damping: the other
    side of a Kronecker product takes all of it.
    """

    is_mean_by_weight: ClassVar[bool] = True
    takes_damping: ClassVar[bool] = False

    def operator(
        self, backend: Backend, kept: Array, factor: FisherFactor
    ) -> DiagonalOperator:
        return super().operator(backend, backend.xp.ones_like(kept), factor)

    def derive(
        self,
        backend: Backend,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: FisherFactor,
    ) -> Derived:
        none = {key: damping * 0 for key, damping in dampings.items()}
        return super().derive(backend, backend.xp.ones_like(cov), none, factor)

    def residual(
        self,
        backend: Backend,
        state: FactorState,
        damping: Array,
        place: int,
        factor: FisherFactor,
    ) -> ResidualRange:
        inverse = state.derived.matpowers[place]
        return diagonal_range(backend, backend.xp.ones_like(inverse), inverse)
