"""Which parameters layers have in parts: those whose slices are all of them."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from kfac_adapters.torch.record import Record
from kfac_core.layer_collection.parts import Part


def cuts(
    params: Mapping[str, torch.Tensor], record: Record
) -> tuple[dict[str, list[Part]], dict[str, str]]:
    """Return the parameters that are in parts, and those whose slices do not fit.

    Args:
        params: The trained parameters, by name.
        record: What a forward pass did.

    Returns:
        For each parameter its parts, in order; and for each other that is used in
        slices why it cannot be cut into these.
    """
    by_param: dict[str, list[Part]] = {}
    for part in record.parts.values():
        by_param.setdefault(part.param, []).append(part)
    whole = {name for use in record.uses for name in (use.weight, use.bias)}
    found, broken = {}, {}
    for name, parts in by_param.items():
        own = sorted(parts, key=lambda part: part.start)
        stops = [0, *(part.stop for part in own)]
        fits = [part.start for part in own] == stops[:-1]
        fits = fits and stops[-1] == params[name].shape[0]
        listed = ", ".join(part.name for part in own)
        if name in whole or name in record.elsewhere:
            broken[name] = f"is used as a whole, and in slices: {listed}"
        elif not fits or len({part.is_stacked for part in own}) > 1:
            broken[name] = f"is used in slices that are not all of it, once: {listed}"
        else:
            found[name] = own
    return found, broken


def without(record: Record, broken: Mapping[str, str]) -> Record:
    """Return a record in which no layer uses some parameters, or their parts.

    Args:
        record: The record; left as it is.
        broken: Names of parameters, and why.

    Returns:
        The record, of as many uses.
    """
    gone = {part.name for part in record.parts.values() if part.param in broken}
    gone |= {*broken}

    def kept(name: str) -> str:
        return "" if name in gone else name

    uses = [
        replace(use, weight=kept(use.weight), bias=kept(use.bias))
        for use in record.uses
    ]
    parts = {name: part for name, part in record.parts.items() if name not in gone}
    elsewhere, made = {**record.elsewhere}, {**record.made}
    return replace(record, uses=uses, elsewhere=elsewhere, parts=parts, made=made)
