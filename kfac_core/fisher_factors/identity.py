"""`IdentityFactor`: the side of a Kronecker product of which no statistic is kept."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from kfac_core.fisher_factors.base.factor import FisherFactor
from kfac_core.fisher_factors.base.form import Form
from kfac_core.fisher_factors.base.state import FactorState
from kfac_core.fisher_factors.base.updating import accumulated
from kfac_core.fisher_factors.forms.identity import Identity
from kfac_core.typing import Scalar


@dataclass(frozen=True)
class IdentityFactor(FisherFactor):
    """The identity, ``[size, size]``, which gradients are taken to have as a moment.

    Attributes:
        size: Number of rows and columns.
    """

    size: int
    form: Form = field(default=Identity(), kw_only=True)

    forms: ClassVar[tuple[type[Form], ...]] = (Identity,)

    @property
    def dimension(self) -> int:
        """Number of rows and columns."""
        return self.size

    def update_cov(
        self,
        state: FactorState,
        outputs_grads: Any,
        ema_decay: Scalar,
        ema_weight: Scalar | None = None,
        **counts: Any,
    ) -> FactorState:
        """Count a batch; its gradients, and the weights of rows, make no difference."""
        backend = self._backend(state)
        one = backend.xp.ones_like(state.cov.total)
        return accumulated(self, backend, state, [one], ema_decay, ema_weight, {})
