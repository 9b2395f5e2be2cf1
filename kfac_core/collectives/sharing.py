"""Statistics of all ranks, and inverses that each rank computes some of.

A step, on every rank:

1. The rank folds its shard into the state. All ranks have the same state before. Rank 0
   goes on from it, with the decay of the step; the others forget it, with a decay of
   zero: what all saw in common counts once.
2. `summed` adds the sums of all ranks. Now all have the state of the whole batch.
3. `inverted` computes the inverses of the layers that are the rank's own, and sends
   each to all others, or to those of its team.
4. `multiplied` is the product with the inverses of all teams.

A shard counts by its cases, which are its ``ema_weight``: shards may be unequal.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from typing import Any

from kfac_core.backend import Backend
from kfac_core.collectives.assignment import assigned
from kfac_core.collectives.exchange import Part, Visit, exchanged
from kfac_core.collectives.packing import packed, unpacked
from kfac_core.collectives.protocol import Collective
from kfac_core.collectives.teams import Teams, teams_of
from kfac_core.errors import (
    KfacError,
    NotFiniteError,
    NotPositiveDefiniteError,
    UnsupportedError,
)
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.layer_collection import LayerRegistration
from kfac_core.linalg.parameters import tensors_of
from kfac_core.linearization import NamedParams
from kfac_core.registry import backend_of
from kfac_core.state import kept
from kfac_core.typing import Array, LayerDampings, Params, Scalar

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
    arrays = _sent(backend, found, symmetric, collective.all_reduce)
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
    ranks: Collective | Teams,
) -> EstimatorState:
    """Return the state with new inverses, of which each rank computed some.

    Args:
        estimator: The estimator, the same on all ranks.
        state: The state, the same on all ranks.
        damping: As in `FisherEstimator.update_inverses`.
        ranks: The ranks; or in teams, each of which keeps its own inverses.

    Returns:
        The state, the same bits on all ranks of a team; of layers of other teams it has
        no inverses, and zeros in their place that take no memory.

    Raises:
        KfacError: What `FisherEstimator.update_inverses` raises; all ranks raise if one
            does.
        UnsupportedError: If there are several teams, and the statistics of a block are
            made with what it computes, as those of EKFAC are.
    """
    teams = ranks if isinstance(ranks, Teams) else teams_of(ranks, 1.0)
    collective = teams.ranks
    backend = estimator.check_state(state)
    by_layer = owners(estimator, state, collective.size)
    if teams.across.size > 1:
        _check_apart(estimator, state)
    own = [name for name, rank in by_layer.items() if rank == collective.rank]
    error: KfacError | None = None
    new = state
    try:
        if own:
            new = estimator.update_inverses(state, damping, layers=own)
    except KfacError as raised:
        error = raised
    _agree(collective, state, error)
    size, number = teams.team.size, teams.number
    for rank in range(size):
        owner = number * size + rank
        names = {name for name, each in by_layer.items() if each == owner}
        if not names:
            continue
        found, symmetric = _arrays(estimator, new, lambda p: p.is_derived, names)
        send = partial(teams.team.broadcast, root=rank)
        arrays = _sent(backend, found, symmetric, send)

        def visit(x: Array, part: Part, arrays: Iterator[Array] = arrays) -> Array:
            return next(arrays) if part.is_derived else x

        new = _mapped(estimator, new, visit, names)
    others = {name for name, owner in by_layer.items() if teams.of(owner) != number}
    return _without_inverses(estimator, new, others)


def multiplied(
    estimator: FisherEstimator,
    state: EstimatorState,
    vectors: NamedParams,
    teams: Teams,
) -> dict[str, Array]:
    """Return the inverse times a vector, where each team has some of the inverses.

    Args:
        estimator: The estimator, the same on all ranks.
        state: What `inverted` returned for these teams.
        vectors: As in `FisherEstimator.multiply_inverse`, the same on all ranks.
        teams: The ranks.

    Returns:
        The product, the same bits on all ranks.
    """
    if teams.across.size == 1:
        return estimator.multiply_inverse(state, vectors)
    backend = estimator.check_state(state)
    by_layer = owners(estimator, state, teams.ranks.size)
    found: dict[str, tuple[Array, ...]] = {}

    def own(layer: LayerRegistration, vector: Params) -> Params:
        product = vector  # of another team: for its shapes and dtypes alone
        if teams.of(by_layer[layer.name]) == teams.number:
            block = layer.block
            product = block.multiply_inverse(state.blocks[layer.name], vector)
        found[layer.name] = tensors_of(product)
        return product

    estimator._map_layers(vectors, own)
    for team in range(teams.across.size):
        names = [name for name in found if teams.of(by_layer[name]) == team]
        if not names:
            continue
        likes = [x for name in names for x in found[name]]
        send = partial(teams.across.broadcast, root=team)
        arrays = _sent(backend, likes, [False] * len(likes), send)
        for name in names:
            found[name] = tuple(next(arrays) for _ in found[name])

    def of_all(layer: LayerRegistration, vector: Params) -> Params:
        tensors = found[layer.name]
        return tensors if len(tensors) > 1 else tensors[0]

    return estimator._map_layers(vectors, of_all)


def _check_apart(estimator: FisherEstimator, state: EstimatorState) -> None:
    """Check that no rank needs an inverse for its statistics."""
    for name, block in estimator.blocks.items():

        def visit(x: Array, part: Part, block: Any = block) -> Array:
            if part.is_sum and part.is_derived:
                msg = (
                    f"{block.label}: a rank needs the eigenvectors of a"
                    f" {type(block).__name__} for its statistics, and all ranks have to"
                    " keep its inverses; take a fraction of 1"
                )
                raise UnsupportedError(msg)
            return x

        exchanged(block, state.blocks[name], visit)


def _without_inverses(
    estimator: FisherEstimator, state: EstimatorState, names: set[str]
) -> EstimatorState:
    blocks = dict(state.blocks)
    for name in names:
        blocks[name] = estimator.blocks[name].init_inverses(blocks[name])

    def visit(x: Array, part: Part) -> Array:
        if not part.is_derived or x.ndim == 0:
            return x
        backend = backend_of(x)
        xp, device = backend.xp, backend.creation_device(x)
        zero = xp.zeros((), dtype=x.dtype, device=device)
        seen_everywhere: Array = xp.broadcast_to(zero, x.shape)
        return seen_everywhere

    return _mapped(estimator, state._replace(blocks=blocks), visit, names)


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


def _sent(
    backend: Backend,
    arrays: Sequence[Array],
    symmetric: Sequence[bool],
    send: Callable[[Array], Array],
) -> Iterator[Array]:
    """Return arrays as ranks make them, sent in a flat buffer for each dtype."""
    buffers = [send(x) for x in packed(backend, arrays, symmetric)]
    return iter(unpacked(backend, buffers, arrays, symmetric))


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
