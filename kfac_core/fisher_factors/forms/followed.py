"""`FollowedBasis`: a dense matrix whose eigenbasis follows it, step by step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kfac_core.backend import Backend
from kfac_core.fisher_factors.base.state import Derived, FactorState
from kfac_core.fisher_factors.forms.dense import Dense
from kfac_core.linalg.orthogonal_iteration import orthogonal_step
from kfac_core.state import is_known_false
from kfac_core.typing import Array, DampingId

if TYPE_CHECKING:
    from kfac_core.fisher_factors.base.factor import FisherFactor


@dataclass(frozen=True)
class FollowedBasis(Dense):
    """The whole matrix; its eigenbasis is a step of orthogonal iteration from the last.

    It is for a factor that stores its eigendecomposition, and nothing else. The first
    one is exact.
    """

    kind: ClassVar[str] = "Dense()"
    """What is kept is that of `Dense`, so that both read one state."""

    def refresh(
        self,
        backend: Backend,
        state: FactorState,
        cov: Array,
        dampings: Mapping[DampingId, Array],
        factor: "FisherFactor",
    ) -> Derived:
        if is_known_false(backend, state.computed):
            return self.derive(backend, cov, dampings, factor)
        (last,) = state.derived.eigendecompositions

        def step() -> Derived:
            new = orthogonal_step(backend, cov, last.vectors)
            return Derived(tuple(dampings.values()), (), (), (), (new,))

        return backend.cond(
            state.computed, step, lambda: self.derive(backend, cov, dampings, factor)
        )
