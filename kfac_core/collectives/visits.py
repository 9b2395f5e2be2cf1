"""The arrays of all layers' states: gathered, replaced, and sent in few buffers."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from kfac_core.backend import Backend
from kfac_core.collectives.exchange import Part, Visit, exchanged
from kfac_core.collectives.packing import packed, unpacked
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.typing import Array


def sent(
    backend: Backend,
    arrays: Sequence[Array],
    symmetric: Sequence[bool],
    send: Callable[[Array], Array],
) -> Iterator[Array]:
    """Return arrays as ranks make them, sent in a flat buffer for each dtype."""
    buffers = [send(x) for x in packed(backend, arrays, symmetric)]
    return iter(unpacked(backend, buffers, arrays, symmetric))


def arrays_of(
    estimator: FisherEstimator,
    state: EstimatorState,
    is_wanted: Callable[[Part], bool],
    names: Collection[str] | None = None,
) -> tuple[list[Array], list[bool]]:
    """Return the arrays of a kind, and whether each is symmetric."""
    found: list[Array] = []
    symmetric: list[bool] = []

    def visit(x: Array, part: Part) -> Array:
        if is_wanted(part):
            found.append(x)
            symmetric.append(part.is_symmetric)
        return x

    mapped(estimator, state, visit, names)
    return found, symmetric


def mapped(
    estimator: FisherEstimator,
    state: EstimatorState,
    visit: Visit,
    names: Collection[str] | None = None,
) -> EstimatorState:
    """Return a state with what a visit returns in the place of its arrays."""
    blocks: dict[str, Any] = dict(state.blocks)
    for name, block in estimator.blocks.items():
        if names is None or name in names:
            blocks[name] = exchanged(block, blocks[name], visit)
    return state._replace(blocks=blocks)
