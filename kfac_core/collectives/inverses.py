"""Inverses that each rank computes some of, and products with those of all."""

from functools import partial
from math import prod

from kfac_core.collectives.assignment import assigned
from kfac_core.collectives.exchange import Part, exchanged
from kfac_core.collectives.protocol import Collective
from kfac_core.collectives.teams import Teams, teams_of
from kfac_core.collectives.visits import arrays_of, mapped, sent
from kfac_core.errors import (
    KfacError,
    NotFiniteError,
    NotPositiveDefiniteError,
)
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.layer_collection import LayerRegistration
from kfac_core.linalg.parameters import tensors_of
from kfac_core.linearization import NamedParams
from kfac_core.registry import backend_of
from kfac_core.typing import Array, LayerDampings, Params, Scalar

_KINDS: tuple[type[KfacError], ...] = (
    NotFiniteError,
    NotPositiveDefiniteError,
    KfacError,
)
"""What can be wrong on one rank, and is then raised by all; the last is any other."""


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


def kept_by_all(estimator: FisherEstimator, state: EstimatorState) -> frozenset[str]:
    """Return the layers whose inverses all ranks keep, in whatever teams they are.

    They are those whose statistics are made with what `update_inverses` computes, as
    EKFAC's eigenvalues are with its eigenvectors: each rank needs these for its shard.

    Args:
        estimator: The estimator.
        state: A state of it.

    Returns:
        The names of the layers.
    """
    found = set()
    for name, block in estimator.blocks.items():

        def visit(x: Array, part: Part, name: str = name) -> Array:
            if part.is_sum and part.is_derived:
                found.add(name)
            return x

        exchanged(block, state.blocks[name], visit)
    return frozenset(found)


def inverted(
    estimator: FisherEstimator,
    state: EstimatorState,
    damping: LayerDampings,
    ranks: Collective | Teams,
    tolerance: Scalar | None = None,
) -> EstimatorState:
    """Return the state with new inverses, of which each rank computed some.

    Args:
        estimator: The estimator, the same on all ranks.
        state: The state, the same on all ranks.
        damping: As in `FisherEstimator.update_inverses`.
        ranks: The ranks; or in teams, each of which keeps its own inverses, and those
            of the layers of `kept_by_all`.
        tolerance: As in `FisherEstimator.update_inverses`.

    Returns:
        The state, the same bits on all ranks of a team; of other layers of other teams
        it has no inverses, and zeros in their place that take no memory.

    Raises:
        KfacError: What `FisherEstimator.update_inverses` raises; all ranks raise if one
            does.
    """
    teams = ranks if isinstance(ranks, Teams) else teams_of(ranks, 1.0)
    collective = teams.ranks
    backend = estimator.check_state(state)
    by_layer = owners(estimator, state, collective.size)
    everywhere = kept_by_all(estimator, state) if teams.across.size > 1 else frozenset()
    own = [name for name, rank in by_layer.items() if rank == collective.rank]
    error: KfacError | None = None
    new = state
    try:
        if own:
            new = estimator.update_inverses(
                state, damping, layers=own, tolerance=tolerance
            )
    except KfacError as raised:
        error = raised
    _agree(collective, state, error)
    size, number = teams.team.size, teams.number
    of_team = {n: r for n, r in by_layer.items() if n not in everywhere}

    def told(
        state: EstimatorState, names: set[str], group: Collective, root: int
    ) -> EstimatorState:
        """Return the state with the inverses of some layers, from their owner."""
        if not names:
            return state
        found, symmetric = arrays_of(estimator, state, lambda p: p.is_derived, names)
        send = partial(group.broadcast, root=root)
        arrays = sent(backend, found, symmetric, send)

        def visit(x: Array, part: Part) -> Array:
            return next(arrays) if part.is_derived else x

        return mapped(estimator, state, visit, names)

    for rank in range(size):
        owner = number * size + rank
        names = {name for name, each in of_team.items() if each == owner}
        new = told(new, names, teams.team, rank)
    for rank in range(collective.size):
        names = {name for name in everywhere if by_layer[name] == rank}
        new = told(new, names, collective, rank)
    others = {name for name, owner in of_team.items() if teams.of(owner) != number}
    return _without_inverses(estimator, new, others)


def multiplied(
    estimator: FisherEstimator,
    state: EstimatorState,
    vectors: NamedParams,
    teams: Teams,
    *,
    inverse: bool = True,
) -> dict[str, Array]:
    """Return the inverse times a vector, where each team has some of the inverses.

    Args:
        estimator: The estimator, the same on all ranks.
        state: What `inverted` returned for these teams.
        vectors: As in `FisherEstimator.multiply_inverse`, the same on all ranks.
        teams: The ranks.
        inverse: False: return the damped matrix itself times the vector.

    Returns:
        The product, the same bits on all ranks.
    """
    if teams.across.size == 1:
        whole = estimator.multiply_inverse if inverse else estimator.multiply
        return whole(state, vectors)
    backend = estimator.check_state(state)
    by_layer = owners(estimator, state, teams.ranks.size)
    everywhere = kept_by_all(estimator, state)
    found: dict[str, tuple[Array, ...]] = {}

    def own(layer: LayerRegistration, vector: Params) -> Params:
        name, block = layer.name, layer.block
        product = vector  # of another team: for its shapes and dtypes alone
        if name in everywhere or teams.of(by_layer[name]) == teams.number:
            multiply = block.multiply_inverse if inverse else block.multiply
            product = multiply(state.blocks[name], vector)
        found[name] = tensors_of(product)
        return product

    estimator._map_layers(vectors, own)
    for team in range(teams.across.size):
        names = [
            name
            for name in found
            if name not in everywhere and teams.of(by_layer[name]) == team
        ]
        if not names:
            continue
        likes = [x for name in names for x in found[name]]
        send = partial(teams.across.broadcast, root=team)
        arrays = sent(backend, likes, [False] * len(likes), send)
        for name in names:
            found[name] = tuple(next(arrays) for _ in found[name])

    def of_all(layer: LayerRegistration, vector: Params) -> Params:
        tensors = found[layer.name]
        return tensors if len(tensors) > 1 else tensors[0]

    return estimator._map_layers(vectors, of_all)


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

    return mapped(estimator, state._replace(blocks=blocks), visit, names)


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
