"""`KroneckerState`: what a `KroneckerProductFB` knows."""

from typing import Any, NamedTuple, Self

from kfac_core.fisher_factors import FactorState
from kfac_core.moving_average import MovingAverage
from kfac_core.spec.signature import UNSIGNED, Signature
from kfac_core.state import kept
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class KroneckerState(NamedTuple):
    """State of a `KroneckerProductFB`.

    Attributes:
        input_factor: State of the factor ``A``, of the layer's inputs. Its statistics
            are ``sum w x x' / N``, with the weights of rows; what is derived from them
            is of ``A``, which is that over the root of the mean weight.
        output_factor: State of the factor ``G``, of its output gradients, also so.
        uses: Moving average of the number of locations or uses of a case.
        weights: Moving average of the weight of a location or use, one without weights.
        scale: 0-d, ``c`` as of the last `update_inverses`.
        mean_weight: 0-d, the mean weight at that update; one where all is zero.
        damping: 0-d, the damping given to that update.
        made_by: What kind of block the state belongs to, and what it serves.

    Example:
        >>> import numpy as np
        >>> from kfac_core.fisher_blocks import FullyConnectedMultiIndepFB
        >>> block = FullyConnectedMultiIndepFB(1, 1, batch_first=True)
        >>> x, g = np.ones((4, 3, 1)), np.ones((4, 3, 1))  # four cases, three uses
        >>> state = block.update_covs(block.init(like=x), x, g, ema_decay=0.0)
        >>> float(state.uses.total), state.input_factor.cov.total
        (3.0, array([[1.]]))
        >>> block.full_fisher_block(state)  # the uses times kron(A, G)
        array([[3.]])
    """

    input_factor: FactorState
    output_factor: FactorState
    uses: MovingAverage
    weights: MovingAverage
    scale: Array
    mean_weight: Array
    damping: Array
    made_by: Signature = UNSIGNED

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return self.input_factor.ok & self.output_factor.ok

    def flag(self, name: str) -> Array:
        """Return whether a flag of `FactorState` holds for both factors."""
        first: Array = getattr(self.input_factor, name)
        second: Array = getattr(self.output_factor, name)
        return first & second

    def with_flag(self, name: str, ok: Array) -> Self:
        """Return the state with a flag of both factors set."""
        # Two arrays: no array stands in two places of a state.
        first: dict[str, Any] = {name: kept(ok)}
        second: dict[str, Any] = {name: kept(ok & ok)}
        return self._replace(
            input_factor=self.input_factor._replace(**first),
            output_factor=self.output_factor._replace(**second),
        )
