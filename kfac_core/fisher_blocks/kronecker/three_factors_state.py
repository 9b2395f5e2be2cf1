"""`ThreeFactorsState`: what a `ThreeFactorsFB` knows."""

from typing import Any, NamedTuple, Self

from kfac_core.fisher_factors import FactorState
from kfac_core.moving_average import MovingAverage
from kfac_core.spec.signature import UNSIGNED, Signature
from kfac_core.state import kept
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class ThreeFactorsState(NamedTuple):
    """State of a `ThreeFactorsFB`.

    Attributes:
        first_factor: State of the factor of the first input. What is derived from its
            statistics is of these over ``w^(2/3)``, for the mean weight ``w``.
        second_factor: State of that of the second, also so.
        output_factor: State of that of the output gradients, also so.
        weights: Moving average of the weight of a row, one without weights.
        damping: 0-d, the damping given to it.
        made_by: What kind of block the state belongs to, and what it serves.
    """

    first_factor: FactorState
    second_factor: FactorState
    output_factor: FactorState
    weights: MovingAverage
    damping: Array
    made_by: Signature = UNSIGNED

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return self.first_factor.ok & self.second_factor.ok & self.output_factor.ok

    def flag(self, name: str) -> Array:
        """Return whether a flag of `FactorState` holds for all factors."""
        first, second, third = (getattr(factor, name) for factor in self[:3])
        every: Array = first & second & third
        return every

    def with_flag(self, name: str, ok: Array) -> Self:
        """Return the state with a flag of all factors set."""
        # An array for each: no array stands in two places of a state.
        flags: list[dict[str, Any]] = [{name: kept(ok & ok)} for _ in range(3)]
        first, second, third = (
            factor._replace(**flag)
            for factor, flag in zip(self[:3], flags, strict=True)
        )
        return self._replace(
            first_factor=first, second_factor=second, output_factor=third
        )
