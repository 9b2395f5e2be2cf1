"""Layers of a forward pass as registrations of a `LayerCollection`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kfac_adapters.coverage import Coverage, Covered
from kfac_adapters.torch.groups import Group, Grouping
from kfac_adapters.torch.made import MadeWeight
from kfac_adapters.torch.record import Record
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection import APPROXIMATIONS, LayerCollection
from kfac_core.layer_collection.approximations import chosen_approximation
from kfac_core.loss_functions import LossFunction
from kfac_core.statistics.patches.geometry import ConvolutionGeometry

_TIED = {None: "embedding", "out_in": "transposed", "in_out": "fully_connected"}
"""What a use does with a matrix that unlike layers share, by its layout."""

LOSS = "loss"
"""Name of the loss and of its site."""


def collection_of(
    params: Mapping[str, torch.Tensor],
    record: Record,
    grouping: Grouping,
    diagonal: Sequence[str],
    loss: LossFunction,
    approx: Mapping[str, str] | str,
) -> LayerCollection:
    """Return the collection of some layers.

    Args:
        params: The parameters that layers cover, by name.
        record: What the forward pass did.
        grouping: The layers.
        diagonal: Names of parameters whose block is the diagonal of the gradient.
        loss: What goes on top.
        approx: One approximation for all layers that have it; or approximations by the
            kind of a layer or the name of its weight.

    Returns:
        The collection.

    Raises:
        ArgumentError: If an approximation is of an unknown kind or name.
        KfacError: What registrations raise.
    """
    collection = LayerCollection.of({n: tuple(p.shape) for n, p in params.items()})
    for name, parts in grouping.cut.items():
        sizes = None if parts[0].is_stacked else [p.stop - p.start for p in parts]
        collection = collection.define_parts(name, sizes)
    collection = collection.set_default_scale_and_shift_approximation("diagonal")
    if isinstance(approx, str):
        collection, approx = collection.set_default_approximation(approx), {}
    for kind, name in approx.items():
        if kind in APPROXIMATIONS:
            setter = getattr(collection, f"set_default_{kind}_approximation")
            collection = setter(name)
        elif kind not in collection.shapes:
            msg = (
                f"approx has {kind!r}, expected the name of a parameter or one of"
                f" {', '.join(APPROXIMATIONS)}"
            )
            raise ArgumentError(msg)
    for group in grouping.groups:
        own = approx.get(group.params[0])
        collection = _registered(collection, group, record, own)
    for name in diagonal:
        collection = collection.register_generic(name, approx="diagonal")
    return collection.register_loss_function(loss, LOSS, LOSS)


def coverage_of(
    collection: LayerCollection,
    given: Mapping[str, tuple[int, ...]],
    left: Mapping[str, str],
    made: Sequence[MadeWeight],
    policy: str,
) -> Coverage:
    """Return which block stands for which parameter.

    Args:
        collection: The layers.
        given: Shapes of the parameters, by name.
        left: For each parameter that no layer covers, why.
        made: Weights that are made of several.
        policy: What becomes of those that are left.

    Returns:
        The table.
    """
    shapes = {**given, **collection.shapes}
    parts = {own.name: own.parts for own in made}
    rows = []
    for layer in collection.layers:
        if layer.params[0] not in left:
            names = [name for own in layer.params for name in parts.get(own, (own,))]
            own_shapes = tuple(shapes[name] for name in names)
            rows.append(Covered(tuple(names), type(layer.block).__name__, own_shapes))
    rows += [Covered((x,), policy, (shapes[x],), why) for x, why in left.items()]
    return Coverage(tuple(rows))


def _registered(
    collection: LayerCollection, group: Group, record: Record, approx: str | None
) -> LayerCollection:
    """Return the collection with one more layer."""
    params, sites = group.params, group.sites
    uses = [record.uses[i] for i in group.indices]
    options = dict(uses[0].call.options)
    shape = collection.shapes[params[0]]
    if group.kind == "bias":
        # Perhaps of many numbers: of positions.
        if any(use.call.kind == "shift" for use in uses):
            approx = approx or dict(collection.defaults).get("bias", "diagonal")
        return collection.register_bias(params[0], sites, approx=approx)
    if group.kind == "scale_and_shift":
        free = (None, *shape) if group.shared else shape
        return collection.register_scale_and_shift(
            params, sites[0], input_shape=free, approx=approx
        )
    if group.kind == "tied_weights":
        pairs = [
            (_TIED[use.call.options.get("layout")], site)
            for use, site in zip(uses, sites, strict=True)
        ]
        return collection.register_tied_weights(params, pairs, approx=approx)
    if group.kind == "transposed_convolution" and not group.is_repeated:
        return collection.register_transposed_convolution(
            params, sites[0], approx=approx, **options
        )
    if group.kind == "convolution" and not group.is_repeated:
        if options["num_groups"] == 1:
            options.pop("num_groups")
            return collection.register_convolution(
                params, sites[0], approx=approx, **options
            )
        return collection.register_grouped_convolution(
            params, sites[0], approx=approx, **options
        )
    made: dict[str, Any] = {}
    kind: str = group.kind
    if group.kind == "fully_connected":
        sizes = shape if options["layout"] == "out_in" else shape[::-1]
        made = {"output_size": sizes[0], "input_size": sizes[1], **options}
        made["has_bias"] = len(params) == 2
    elif group.kind == "embedding":
        sizes = shape[::-1] if options.get("layout") == "out_in" else shape
        made = {"vocab_size": sizes[0], "output_size": sizes[1], **options}
    else:
        if group.kind == "convolution":
            kind = "conv2d" if options["num_groups"] == 1 else "grouped_convolution"
        geometry = ConvolutionGeometry(shape, name=params[0], **options)
        made = {"geometry": geometry, "has_bias": len(params) == 2}
    if group.is_repeated:
        kind = f"{kind}_multi"
        made |= {"num_uses": None, "batch_first": True}
    label, approx = "+".join(params), approx or dict(collection.defaults).get(kind)
    block = chosen_approximation(kind, approx, label).make(label, made, {})
    return collection.register_block(params, block, sites if group.sized else sites[0])
