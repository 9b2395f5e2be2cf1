"""Statistics of all ranks, and inverses that each rank computes some of.

A step, on every rank:

1. The rank folds its shard into the state. All ranks have the same state before. Rank 0
   goes on from it, with the decay of the step; the others forget it, with a decay of
   zero: what all saw in common counts once.
2. `summed` adds the sums of all ranks. Now all have the state of the whole batch.
3. `inverted` computes the inverses of the layers that are the rank's own, and sends
   each to all others.

A shard counts by its cases, which are its ``ema_weight``: shards may be unequal.
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from kfac_core.collectives.assignment import assigned
from kfac_core.collectives.exchange import Part, Visit, exchanged
from kfac_core.collectives.packing import packed, unpacked
from kfac_core.collectives.protocol import Collective
from kfac_core.errors import KfacError, NotFiniteError, NotPositiveDefiniteError
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.registry import backend_of
from kfac_core.state import kept
from kfac_core.typing import Array, LayerDampings, Scalar

_KINDS: tuple[type[KfacError], ...] = (
    NotFiniteError,
    NotPositiveDefiniteError,
    KfacError,
)
"""What can be wrong on one rank, and is then raised by all; the last is any other."""


def decayed(
    estimator: FisherEstimator, state: EstimatorState, decay: Scalar
) -> EstimatorState:
    """Return a state whose sums are multiplied by a number.

    It is that of a rank that has no case in a step: rank 0 takes the decay of the step,
    and the others zero.

    Args:
        estimator: The estimator.
        state: A state of it; left as it is.
        decay: The number.

    Returns:
        The state.

    Raises:
        UnsupportedError: If the statistics of a block are no sums.
    """

    def visit(x: Array, part: Part) -> Array:
        return kept(x * decay) if part.is_sum else x

    return _mapped(estimator, state, visit)


def summed(
    estimator: FisherEstimator,
    before: EstimatorState,
    state: EstimatorState,
    collective: Collective,
) -> EstimatorState:
    """Return the state of the cases of all ranks.

    Sums travel in one flat buffer for each dtype, symmetric matrices as triangles.
    Within a trace, look at ``ok`` of all ranks: a rank that refused its shard has kept
    what it had before, and adds that once more.

    Args:
        estimator: The estimator, the same on all ranks.
        before: The state before the step, the same on all ranks.
        state: The state of this rank after its shard; see the module.
        collective: The ranks.

    Returns:
        The state, the same bits on all ranks.

    Raises:
        UnsupportedError: If the statistics of a block are no sums.
    """
    backend = estimator.check_state(state)
    found, symmetric = _arrays(estimator, state, lambda part: part.is_sum)
    buffers = [collective.all_reduce(x) for x in packed(backend, found, symmetric)]
    arrays = iter(unpacked(backend, buffers, found, symmetric))
    cases = collective.all_reduce(state.cases - before.cases)

    def visit(x: Array, part: Part) -> Array:
        return next(arrays) if part.is_sum else x

    # All but the sums is what it was, on all ranks.
    whole = _mapped(estimator, before, visit)
    blocks = {}
    for name, own in whole.blocks.items():
        ok = state.flag("cov_ok", [name])
        blocks[name] = own.with_flag("cov_ok", ok & ok)
    return EstimatorState(blocks, kept(before.cases + cases))


def owners(
    estimator: FisherEstimator, state: EstimatorState, ranks: int
) -> dict[str, int]:
    """Return which rank inverts which layer; see `assigned`.

    Args:
        estimator: The estimator.
        state: A state of it, which has the sizes.
        ranks: The number of ranks.

    Returns:
        The rank of each layer, by its name.
    """
    costs = []
    for name, block in estimator.blocks.items():
        sizes: list[int] = []

        def visit(x: Array, part: Part, sizes: list[int] = sizes) -> Array:
            if part.is_sum and part.is_symmetric:
                sizes.append(prod(x.shape[:-2]) * x.shape[-1] ** 3)
            return x

        exchanged(block, state.blocks[name], visit)
        costs.append(sum(sizes))
    return dict(zip(estimator.blocks, assigned(costs, ranks), strict=True))


def inverted(
    estimator: FisherEstimator,
    state: EstimatorState,
    damping: LayerDampings,
    collective: Collective,
) -> EstimatorState:
    """Return the state with new inverses, of which each rank computed some.

    Args:
        estimator: The estimator, the same on all ranks.
        state: The state, the same on all ranks.
        damping: As in `FisherEstimator.update_inverses`.
        collective: The ranks.

    Returns:
        The state, the same bits on all ranks.

    Raises:
        KfacError: What `FisherEstimator.update_inverses` raises; all ranks raise if one
            does.
    """
    backend = estimator.check_state(state)
    by_layer = owners(estimator, state, collective.size)
    own = [name for name, rank in by_layer.items() if rank == collective.rank]
    error: KfacError | None = None
    new = state
    try:
        if own:
            new = estimator.update_inverses(state, damping, layers=own)
    except KfacError as raised:
        error = raised
    _agree(collective, state, error)
    for rank in range(collective.size):
        names = {name for name, owner in by_layer.items() if owner == rank}
        if not names:
            continue
        found, symmetric = _arrays(estimator, new, lambda p: p.is_derived, names)
        buffers = packed(backend, found, symmetric)
        buffers = [collective.broadcast(x, rank) for x in buffers]
        arrays = iter(unpacked(backend, buffers, found, symmetric))

        def visit(x: Array, part: Part, arrays: Iterator[Array] = arrays) -> Array:
            return next(arrays) if part.is_derived else x

        new = _mapped(estimator, new, visit, names)
    return new


def _agree(
    collective: Collective, state: EstimatorState, error: KfacError | None
) -> None:
    """Raise an error on all ranks if there is one on any.

    Raises:
        KfacError: Its own where there is one; elsewhere one of its kind.
    """
    backend = backend_of(state.cases)
    codes = [0] * collective.size
    if error is not None:
        kinds = [isinstance(error, kind) for kind in _KINDS]
        codes[collective.rank] = 1 + kinds.index(True)
    xp, like = backend.xp, state.cases
    device = backend.creation_device(like)
    numbers = xp.asarray(codes, dtype=like.dtype, device=device)
    of_all = [int(x) for x in backend.to_numpy(collective.all_reduce(numbers))]
    if error is not None:
        raise error
    for rank, code in enumerate(of_all):
        if code:
            msg = (
                "collectives: the inverses of the layers of rank"
                f" {rank} could not be computed; its error says of which, and why"
            )
            raise _KINDS[code - 1](msg)


def _arrays(
    estimator: FisherEstimator,
    state: EstimatorState,
    is_wanted: Callable[[Part], bool],
    names: set[str] | None = None,
) -> tuple[list[Array], list[bool]]:
    """Return the arrays of a kind, and whether each is symmetric."""
    found: list[Array] = []
    symmetric: list[bool] = []

    def visit(x: Array, part: Part) -> Array:
        if is_wanted(part):
            found.append(x)
            symmetric.append(part.is_symmetric)
        return x

    _mapped(estimator, state, visit, names)
    return found, symmetric


def _mapped(
    estimator: FisherEstimator,
    state: EstimatorState,
    visit: Visit,
    names: set[str] | None = None,
) -> EstimatorState:
    blocks: dict[str, Any] = dict(state.blocks)
    for name, block in estimator.blocks.items():
        if names is None or name in names:
            blocks[name] = exchanged(block, blocks[name], visit)
    return state._replace(blocks=blocks)
