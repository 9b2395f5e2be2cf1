"""The union of the states of a block; see `kfac_core.spec.Spec.merge`."""

from typing import TYPE_CHECKING, Any, TypeVar

from kfac_core import tree
from kfac_core.arguments.arrays import backend_for
from kfac_core.fisher_blocks.base.state import BlockState, whole
from kfac_core.fisher_factors import FactorState
from kfac_core.moving_average import MovingAverage, added

if TYPE_CHECKING:
    from kfac_core.fisher_blocks.base.block import FisherBlock

S = TypeVar("S", bound=BlockState)


def fields_merged(block: "FisherBlock[S]", states: tuple[S, ...]) -> S:
    """Return the state of all that several states saw, field by field.

    Statistics are those of all states, and all else is that of a state before any data.
    The state of a factor has the name of the field that holds the factor in the spec.

    Args:
        block: The block.
        states: States of its signature, at least one.

    Returns:
        The new state; under a trace the first one, if a factor refused its part.
    """
    firsts = [tree.first(state) for state in states]
    backend = backend_for(block.label, "state, others", *firsts)
    new: Any = block.init(firsts[0])
    fields: dict[str, Any] = {}
    for name, own in new._asdict().items():
        parts = [getattr(state, name) for state in states]
        if isinstance(own, FactorState):
            fields[name] = getattr(block, name).merge(*parts)
        # Without repetition, the uses of a case are one from the start.
        elif isinstance(own, MovingAverage) and (name != "uses" or block.is_repeated):
            fields[name] = added(backend, parts)
    found: S = new._replace(**fields)
    return whole(backend, found, states[0], "cov_ok")
