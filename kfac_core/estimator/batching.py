"""Blocks are inverted together, in one call of the library for all of them.

An accelerator that is given one small matrix after another waits more than it computes.
So the states of equal blocks are stacked, and the update is mapped over the stack;
those of small unequal blocks are padded first, see `kfac_core.estimator.padding`. Each
block's result is the same as alone, up to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from kfac_core import tree
from kfac_core.backend import Backend
from kfac_core.errors import KfacError
from kfac_core.estimator.padding import (
    Range,
    padded_inverses,
    range_of,
    stacked_dampings,
)
from kfac_core.fisher_blocks import FisherBlock
from kfac_core.fisher_blocks.kronecker.splitting import Splitting
from kfac_core.fisher_blocks.kronecker.state import KroneckerState
from kfac_core.layer_collection import LayerRegistration
from kfac_core.registry import backend_of
from kfac_core.typing import Array, Scalar


def alike(layers: Sequence[LayerRegistration]) -> tuple[tuple[str, ...], ...]:
    """Return the names of all layers, grouped by equal blocks.

    Args:
        layers: The layers; blocks may be equal though their names differ.

    Returns:
        Groups of names, in the order of each group's first layer.
    """
    groups: dict[FisherBlock[Any], list[str]] = {}
    for layer in layers:
        groups.setdefault(replace(layer.block, name=""), []).append(layer.name)
    return tuple(map(tuple, groups.values()))


FEWEST_TOGETHER = 8
"""Number of layers from which the making of a stack pays off."""

VerbOf: TypeAlias = Callable[[FisherBlock[Any], str], Callable[..., Any]]
"""Takes a block and the name of a verb, and returns what to call; as `getattr`."""


class Group(NamedTuple):
    """Layers that are inverted together.

    Attributes:
        names: Names of the layers.
        splitting: How all split their damping, for the sizes that they are padded to;
            None: they are not padded, their blocks are equal.
    """

    names: tuple[str, ...]
    splitting: Splitting | None


def together(layers: Sequence[LayerRegistration]) -> tuple[Group, ...]:
    """Return all layers, in groups that are inverted together.

    Args:
        layers: The layers.

    Returns:
        The groups; blocks of a group are equal, or are padded to one size.
    """
    blocks: dict[str, Any] = {layer.name: layer.block for layer in layers}
    groups, single = [], []
    for names in alike(layers):
        own = range_of(blocks[names[0]])
        if own is None:
            groups.append(Group(names, None))
        else:
            single.append((own, names))
    # From the largest on, so that what is found does not depend on the layers' order.
    single.sort(key=lambda pair: pair[0].least, reverse=True)
    found: list[tuple[Range, tuple[str, ...]]] = []
    for own, names in single:
        for place, (known, others) in enumerate(found):
            if more := known.joined(own):
                found[place] = (more, others + names)
                break
        else:
            found.append((own, names))
    return (*groups, *[Group(names, own.splitting) for own, names in found])


def batches(
    group: Group,
    names: Sequence[str],
    blocks: Mapping[str, FisherBlock[Any]],
    states: Mapping[str, Any],
    fewest: int = FEWEST_TOGETHER,
) -> list[list[str]]:
    """Return names of a group in parts whose states can, and should, be stacked.

    Args:
        group: The group.
        names: Names of some of its layers.
        blocks: Block of each layer.
        states: State of each block.
        fewest: The least number of states that are stacked.

    Returns:
        Parts of the names; a part has one name where a stack would not be faster.
    """
    if len(names) < fewest:
        return [[name] for name in names]
    place_of = _place if group.splitting is None else _place_of_product
    parts: dict[Any, list[str]] = {}
    for name in names:
        place = place_of(blocks[name], states[name])
        parts.setdefault(name if place is None else place, []).append(name)
    found: list[list[str]] = []
    for part in parts.values():
        found += [part] if len(part) >= fewest else [[name] for name in part]
    return found


def _place(block: FisherBlock[Any], state: Any) -> Any:
    """Return what states of a stack have in common; None where a stack is no faster."""
    factors = block.factors(state).values()
    totals = [own.cov.total for _, own in factors]
    if not totals or not all(backend_of(total).batches(total) for total in totals):
        return None
    devices = tuple(backend_of(total).device(total) for total in totals)
    return (*(total.dtype for total in totals), *devices)


def _place_of_product(block: FisherBlock[Any], state: Any) -> Any:
    """Return what `_place` does, where stacks are of matrices to invert."""
    if type(state) is not KroneckerState:
        return None
    x, y = state.input_factor.cov.total, state.output_factor.cov.total
    backend = backend_of(x)
    if (
        backend is not backend_of(y)
        or x.dtype != y.dtype
        or not (backend.inverts_together(x) and backend.inverts_together(y))
    ):
        return None
    return x.dtype, backend.device(x), backend.device(y)


def inverted(
    groups: Sequence[Group],
    blocks: Mapping[str, FisherBlock[Any]],
    states: Mapping[str, Any],
    dampings: Mapping[str, Scalar],
    verb_of: VerbOf = getattr,
) -> dict[str, Any]:
    """Return the states of some layers with new inverses, by name.

    Args:
        groups: All layers, as `together` groups them.
        blocks: Block of each layer.
        states: State of each block.
        dampings: The damping of each layer whose inverses are computed.
        verb_of: What updates a layer that is updated by itself.

    Raises:
        KfacError: What the blocks raise.
    """
    found: dict[str, Any] = {}
    for group in groups:
        due = [name for name in group.names if name in dampings]
        for names in batches(group, due, blocks, states):
            new = update_together(
                [blocks[name] for name in names],
                [states[name] for name in names],
                [dampings[name] for name in names],
                group.splitting,
                verb_of,
            )
            found.update(zip(names, new, strict=True))
    return found


def update_together(
    blocks: Sequence[FisherBlock[Any]],
    states: Sequence[Any],
    damping: Scalar | Sequence[Scalar],
    splitting: Splitting | None = None,
    verb_of: VerbOf = getattr,
) -> list[Any]:
    """Return the states with new inverses, by one mapped `FisherBlock.update_inverses`.

    Args:
        blocks: Blocks of a `Group`.
        states: A state of each block, of one dtype, on one device; at least one.
        damping: One damping for all blocks, or a sequence with one for each.
        splitting: As in `Group`; None: blocks are equal, except for their names.
        verb_of: What updates a block by itself.

    Returns:
        The new states.

    Raises:
        KfacError: What the block raises. A stack only tells that some update failed; in
            that case each state is updated by itself, and one of them raises.
    """
    dampings = damping if isinstance(damping, Sequence) else [damping for _ in states]
    if len(states) > 1:
        new = _in_one_call(blocks, states, dampings, splitting)
        if new is not None:
            return new
    alone = zip(blocks, states, dampings, strict=True)
    return [verb_of(b, "update_inverses")(state, own) for b, state, own in alone]


def _in_one_call(
    blocks: Sequence[FisherBlock[Any]],
    states: Sequence[Any],
    dampings: Sequence[Scalar],
    splitting: Splitting | None,
) -> list[Any] | None:
    """Return the new states; None if the update of any layer failed."""
    if splitting:
        try:
            products: Any = blocks
            return padded_inverses(products, states, dampings, splitting)
        except KfacError:  # of one layer, which is told of where each is by itself
            return None
    block, first = blocks[0], dampings[0]
    backend = backend_of(states[0].ok)
    stack = tree.stack(backend, states)
    kept: list[list[bool]] = []

    def update(state: Any, damping: Scalar = first) -> Any:
        updated = block.update_inverses(state, damping)
        pairs = zip(tree.leaves(updated), tree.leaves(state), strict=True)
        kept.append([new is old for new, old in pairs])
        return updated

    try:
        numbers = []
        if any(own is not first for own in dampings):
            numbers = [_checked(backend, blocks, states, dampings)]
        new = backend.vmap(update, stack, *numbers)
    except KfacError:
        # The library goes through this stack one by one after all.
        return None
    fine = new.ok
    for _, part in block.factors(stack).values():
        fine = fine & (part.cov.weight > 0)
    if not backend.is_traced(fine) and not bool(backend.xp.all(fine)):
        return None
    # What the update leaves as it is, as it does statistics, is not copied back.
    return tree.unstack(backend, new, states, [*map(all, zip(*kept, strict=True))])


def _checked(
    backend: Backend,
    blocks: Sequence[FisherBlock[Any]],
    states: Sequence[Any],
    dampings: Sequence[Scalar],
) -> Array:
    """Return a stack of checked dampings; a mapped update does not check them."""
    likes = [
        next(iter(block.factors(state).values()))[1].cov.weight
        for block, state in zip(blocks, states, strict=True)
    ]
    labels = [block.label for block in blocks]
    return stacked_dampings(backend, dampings, likes, labels)
