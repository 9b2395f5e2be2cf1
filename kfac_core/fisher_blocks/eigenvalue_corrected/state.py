"""`CorrectedState`: the state of a block with corrected eigenvalues."""

from typing import NamedTuple, Self

from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.moving_average import MovingAverage
from kfac_core.spec.signature import UNSIGNED, Signature
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class CorrectedState(NamedTuple):
    """State of an `EigenvalueCorrectedFB` or a `SoapFB`.

    Attributes:
        block: State of the Kronecker product that gives the eigenbasis.
        moments: Moving average of the squared entries of gradients in the stored
            eigenbasis, ``[rows, columns]``: of those of cases, or of the mean of a
            batch; no weight before there is a basis.
        made_by: What kind of block the state belongs to, and what it serves.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import EigenvalueCorrectedFB
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> block = EigenvalueCorrectedFB(FullyConnectedKFACBasicFB(2, 1))
        >>> x, g = np.asarray([[2.0, 0.0], [0.0, 1.0]]), np.asarray([[1.0], [3.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=1.0)
        >>> float(state.moments.weight)  # no basis yet
        0.0
        >>> state = block.update_inverses(state, damping=0.5)
        >>> state = block.update_covs(state, x, g, ema_decay=1.0)
        >>> float(state.moments.weight)
        1.0
    """

    block: KroneckerState
    moments: MovingAverage
    made_by: Signature = UNSIGNED

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return self.block.ok

    def flag(self, name: str) -> Array:
        """Return whether a flag of `FactorState` holds for all factors."""
        return self.block.flag(name)

    def with_flag(self, name: str, ok: Array) -> Self:
        """Return the state with a flag of all factors set."""
        return self._replace(block=self.block.with_flag(name, ok))
