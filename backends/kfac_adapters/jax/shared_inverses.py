"""Inverses that the places of a mesh share: each computes those of some layers.

All places run one program, so that it has a branch for each of them, with the inverses
of the layers that are its own. The sum of what all return, zeros for the layers of
others, is the inverses of all. See `kfac_core.collectives.assigned` for who has which.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from kfac_adapters.jax.named_axis import NamedAxis
from kfac_adapters.jax.places import differing
from kfac_core import tree
from kfac_core.collectives.exchange import Part
from kfac_core.collectives.inverses import owners
from kfac_core.collectives.packing import packed, unpacked
from kfac_core.collectives.visits import arrays_of, mapped
from kfac_core.errors import ArgumentError
from kfac_core.estimator import EstimatorState, FisherEstimator
from kfac_core.estimator.state import whole
from kfac_core.registry import load_backend
from kfac_core.typing import Array, LayerDampings, Scalar


def check_sharing(share: object, names: tuple[str, ...], label: str) -> None:
    """Check who is to share the inverses.

    Args:
        share: What the user gave.
        names: The axes that the batch is mapped over.
        label: Whose option, for messages.

    Raises:
        ArgumentError: If it is neither a boolean nor a mesh; or if there are no axes
            for it, or both axes and a mesh.
    """
    is_mesh = hasattr(share, "axis_names")
    if not is_mesh and not isinstance(share, bool):
        msg = (
            f"{label}: share_inverses is {share!r}, expected a jax.sharding.Mesh, True"
            " or False"
        )
        raise ArgumentError(msg)
    if share is True and not names:
        msg = (
            f"{label}: share_inverses is True, and there is no axis_name; name the axes"
            " of shard_map, or give share_inverses=mesh for sharded arrays under"
            " jax.jit"
        )
        raise ArgumentError(msg)
    if is_mesh and names:
        msg = (
            f"{label}: share_inverses is a mesh, expected True with axis_name={names},"
            " whose places share the inverses"
        )
        raise ArgumentError(msg)


def inverted(
    estimator: FisherEstimator,
    state: EstimatorState,
    damping: LayerDampings,
    share: Any,
    names: tuple[str, ...],
    layers: Collection[str] | None = None,
    tolerance: Scalar | None = None,
) -> EstimatorState:
    """Return the state with new inverses.

    Args:
        estimator: The estimator.
        state: The state, the same at all places.
        damping: As in `FisherEstimator.update_inverses`.
        share: False: each place computes all; True: those along axes share them; a
            mesh: its devices do.
        names: The axes that the batch is mapped over.
        layers: Names of the layers to invert; None: all.
        tolerance: As in `FisherEstimator.update_inverses`.

    Returns:
        The state, the same at all places. Where one layer cannot be inverted, all keep
        the inverses that they had.
    """
    if share is False:
        return estimator.update_inverses(
            state, damping, layers=layers, tolerance=tolerance
        )
    chosen = frozenset(estimator.blocks if layers is None else layers)
    if share is True:
        return _within(estimator, state, damping, names, chosen, tolerance)

    def mapped_over(state: EstimatorState, damping: LayerDampings) -> EstimatorState:
        axes = tuple(share.axis_names)
        return _within(estimator, state, damping, axes, chosen, tolerance)

    spec = PartitionSpec()
    shared: Any = jax.shard_map(
        mapped_over, mesh=share, in_specs=(spec, spec), out_specs=spec
    )
    found: EstimatorState = shared(state, jax.tree.map(jnp.asarray, damping))
    return found


def _within(
    estimator: FisherEstimator,
    state: EstimatorState,
    damping: LayerDampings,
    names: tuple[str, ...],
    chosen: frozenset[str],
    tolerance: Scalar | None,
) -> EstimatorState:
    """Return the state with new inverses, within a function mapped over axes."""
    backend, axis = load_backend("jax"), NamedAxis(names)
    by_layer = owners(estimator, state, axis.size)
    likes, symmetric = arrays_of(estimator, state, lambda part: part.is_derived, chosen)

    def of_place(place: int) -> Any:
        own = {name for name in chosen if by_layer[name] == place}

        def branch(state: EstimatorState) -> Any:
            new = state
            if own:
                new = estimator.update_inverses(
                    state, damping, layers=own, tolerance=tolerance
                )
            blocks = {
                name: block if name in own else tree.map(jnp.zeros_like, block)
                for name, block in new.blocks.items()
            }
            of_own = new._replace(blocks=blocks)
            arrays, _ = arrays_of(
                estimator, of_own, lambda part: part.is_derived, chosen
            )
            return packed(backend, arrays, symmetric)

        return branch

    branches = [of_place(place) for place in range(axis.size)]
    own = jax.lax.switch(axis.rank, branches, differing(state))
    sums = [axis.all_reduce(x) for x in own]
    arrays = iter(unpacked(backend, sums, likes, symmetric))

    def visit(x: Array, part: Part) -> Array:
        return next(arrays) if part.is_derived else x

    new = mapped(estimator, state, visit, chosen)
    return whole(backend, new, state, "derived_ok", tuple(sorted(chosen)))
