"""`TiedState`: what a `TiedMatrixFB` knows."""

from typing import Any, NamedTuple, Self

from kfac_core.fisher_factors import FactorState
from kfac_core.moving_average import MovingAverage
from kfac_core.spec.signature import UNSIGNED, Signature
from kfac_core.state import kept
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class UseState(NamedTuple):
    """Statistics of one use.

    Attributes:
        rows: Statistics on the side of the matrix's rows.
        columns: Statistics on the side of the matrix's columns.
        positions: Moving average of the number of positions of a case.
        weights: Moving average of the weight of a position, one without weights.
    """

    rows: FactorState
    columns: FactorState
    positions: MovingAverage
    weights: MovingAverage


@state_class
class TiedState(NamedTuple):
    """State of a `TiedMatrixFB`.

    Attributes:
        input_factor: State of the factor on the side of the rows, of all uses.
        output_factor: State of the factor on the side of the columns, of all uses.
        uses: Moving average of ``c``, the number of positions of all uses of a case.
        weights: Moving average of the weight of a position, one without weights.
        scale: 0-d, ``c`` as of the last `update_inverses`.
        mean_weight: 0-d, the mean weight at that update.
        damping: 0-d, the damping given to that update.
        by_use: The statistics of each use, from which the factors are made.
        made_by: What kind of block the state belongs to, and what it serves.
    """

    input_factor: FactorState
    output_factor: FactorState
    uses: MovingAverage
    weights: MovingAverage
    scale: Array
    mean_weight: Array
    damping: Array
    by_use: tuple[UseState, ...]
    made_by: Signature = UNSIGNED

    @property
    def ok(self) -> Array:
        """0-d boolean: whether, under a trace, no last update was refused."""
        return self.input_factor.ok & self.output_factor.ok

    def flag(self, name: str) -> Array:
        """Return whether a flag of `FactorState` holds for all factors."""
        states = [*self[:2], *(side for use in self.by_use for side in use[:2])]
        flags: list[Array] = [getattr(state, name) for state in states]
        first, *others = flags
        for flag in others:
            first = first & flag
        return first

    def with_flag(self, name: str, ok: Array) -> Self:
        """Return the state with a flag of both factors set, and of none of its uses."""
        first: dict[str, Any] = {name: kept(ok)}
        second: dict[str, Any] = {name: kept(ok & ok)}
        fine: dict[str, Any] = {name: kept(ok | ~ok)}
        return self._replace(
            input_factor=self.input_factor._replace(**first),
            output_factor=self.output_factor._replace(**second),
            by_use=tuple(
                use._replace(
                    rows=use.rows._replace(**fine),
                    columns=use.columns._replace(**fine),
                )
                for use in self.by_use
            ),
        )
