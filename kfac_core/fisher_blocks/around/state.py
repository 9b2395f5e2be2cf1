"""`FittedState`: the state of a Kronecker product fitted to case gradients."""

from typing import NamedTuple, Self

from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.moving_average import MovingAverage
from kfac_core.spec.signature import UNSIGNED, Signature
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class FittedState(NamedTuple):
    """State of a `FittedProductFB`.

    Attributes:
        block: The fitted product, as the state of the layer's block, with all that is
            computed from it. Its factors are those of ``kron(A, G)`` itself: they have
            no uses and no weights of rows beside them.
        inputs: Moving average of the statistic of inputs that ``A`` is fitted from.
        outputs: The same of gradients, for ``G``.
        made_by: What kind of block the state belongs to, and what it serves.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedKFACBasicFB
        >>> from kfac_core.fisher_blocks import KroneckerOptimalFB
        >>> block = KroneckerOptimalFB(FullyConnectedKFACBasicFB(2, 1))
        >>> x, g = np.asarray([[2.0, 0.0], [0.0, 1.0]]), np.asarray([[1.0], [3.0]])
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> fitted = state.block  # for the same data, K-FAC has 10 and 2.5
        >>> a, b = fitted.input_factor.cov.total, fitted.output_factor.cov.total
        >>> (a * b).round(6)
        array([[2. , 0. ],
               [0. , 4.5]])
    """

    block: KroneckerState
    inputs: MovingAverage
    outputs: MovingAverage
    made_by: Signature = UNSIGNED

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return self.block.ok

    def flag(self, name: str) -> Array:
        """Return whether a flag of `FactorState` holds for both factors."""
        return self.block.flag(name)

    def with_flag(self, name: str, ok: Array) -> Self:
        """Return the state with a flag of both factors set."""
        return self._replace(block=self.block.with_flag(name, ok))
