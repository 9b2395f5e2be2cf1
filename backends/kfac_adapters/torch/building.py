"""The table of a model's layers, from one forward pass that was recorded."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import torch
from torch.autograd.graph import GradientEdge

from kfac_adapters.coverage import check_all_covered
from kfac_adapters.torch.checking import incomplete
from kfac_adapters.torch.groups import UNSEEN, Grouping, grouped
from kfac_adapters.torch.loss_rows import cases_of
from kfac_adapters.torch.made import unmade, with_made
from kfac_adapters.torch.orders import orders_of
from kfac_adapters.torch.record import Record
from kfac_adapters.torch.registering import collection_of
from kfac_adapters.torch.rows import Shape
from kfac_adapters.torch.tables import Table
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection import LayerRegistration
from kfac_core.loss_functions import LossFunction

_UNSEEN_USE = (
    "something that is not seen (a function of autograd, what is compiled, or a"
    " derivative that the model takes by itself)"
)


def table_of(
    params: Mapping[str, torch.Tensor],
    record: Record,
    outputs: torch.Tensor,
    edge: GradientEdge,
    class_axis: int,
    loss: LossFunction,
    approx: Mapping[str, str] | str,
    policy: str,
    waits: bool,
    kinds: Mapping[str, str],
) -> Table:
    """Return the layers that a pass tells.

    Args:
        params: The trained parameters, by name.
        record: What the pass did.
        outputs: What goes into the loss, without a graph.
        edge: Where its graph ends.
        class_axis: The axis of the outputs that a row of the loss is along.
        loss: What goes on top.
        approx: As in `capture`.
        policy: What becomes of a parameter that no layer covers.
        waits: Whether parameters that the pass does not use are left to others.
        kinds: Classes of the blocks of layers, as in a saved state, where there may be
            two of them.

    Returns:
        The table, without the shapes of its sites.

    Raises:
        RegistrationError: If no layer covers a parameter, and that is refused.
        KfacError: What registrations raise.
    """

    def waiting(why: str) -> bool:
        return waits and why == UNSEEN

    def refused(found: Grouping) -> dict[str, str]:
        return {name: why for name, why in found.left.items() if not waiting(why)}

    cases = cases_of(outputs, class_axis)
    own, found = _layers(params, record, cases)
    if policy == "error":
        remedy = ", or freeze them with requires_grad_(False)"
        check_all_covered(refused(found), remedy)
    claimed = [name for group in found.groups for name in group.params]
    unseen = incomplete(params, claimed, found.parts, record, outputs, edge)
    for name in unseen:
        record.elsewhere[name] = _UNSEEN_USE
    record.orders |= orders_of(params, record, outputs, edge, class_axis)
    own, found = _layers(params, record, cases)
    left = found.left
    if policy == "error":
        check_all_covered(refused(found))
    diagonal = [*refused(found)] if policy == "diagonal" else []
    covered = {n: p for n, p in own.items() if n not in left or n in diagonal}
    collection = collection_of(covered, record, found, diagonal, loss, approx)
    is_whole = not any(map(waiting, left.values()))
    groups, wide = list(found.groups), dict[tuple[str, ...], LayerRegistration]()
    single = [group for group in groups if group.is_single]
    if single and (waits or kinds):
        several = [replace(group, shared=True) for group in single]
        of_any = replace(found, groups=several)
        with suppress(ArgumentError):  # an approximation that has no such block
            other = collection_of(covered, record, of_any, [], loss, approx)
            wide = {layer.params: layer for layer in other.layers}
    for i, group in enumerate(groups):
        as_wide = wide.get(group.params)
        if as_wide is None or kinds.get(as_wide.name) != type(as_wide.block).__name__:
            continue
        groups[i] = replace(group, shared=True)
        layers = (
            as_wide if layer.params == as_wide.params else layer
            for layer in collection.layers
        )
        collection = replace(collection, layers=tuple(layers))
    made = tuple(record.made.values())
    return Table(
        collection, tuple(groups), left, made, tuple(params), {}, is_whole, wide
    )


def _layers(
    params: Mapping[str, torch.Tensor], record: Record, cases: Shape
) -> tuple[dict[str, torch.Tensor], Grouping]:
    """Return what layers may have as parameters, and the layers."""
    while True:
        own = with_made(record.made.values(), params)
        found = grouped(own, record, cases)
        if not unmade(record, found.left):
            return own, found
