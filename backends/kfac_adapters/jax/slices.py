"""Slices of a parameter: parts that are layers of their own."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from kfac_adapters.jax.uses.base import Leaf


def sliced(leaf: Leaf, name: str, params: Any) -> list[Any] | None:
    """Return what ``slice``, ``split`` or ``unstack`` makes of a parameter.

    Args:
        leaf: The parameter.
        name: Name of the primitive.
        params: Its parameters.

    Returns:
        For each output the part that it is; None if one is no part of the parameter.
    """
    if name == "split":
        axis = params["axis"]
        ends = [0, *accumulate(params["sizes"])]
        parts = [leaf.cut(axis, start, stop) for start, stop in pairwise(ends)]
        return None if None in parts else [*parts]
    if name == "unstack":
        axis = params["axis"]
        size = leaf.view.shape[axis]
        cut = [leaf.cut(axis, i, i + 1) for i in range(size)]
        return [own.without(axis) for own in cut if own] if None not in cut else None
    strides: Sequence[int] = params["strides"] or ()
    if any(stride != 1 for stride in strides):
        return None
    ranges = zip(params["start_indices"], params["limit_indices"], strict=True)
    found: Leaf | None = leaf
    for axis, (start, stop) in enumerate(ranges):
        found = found and found.cut(axis, start, stop)
    return None if found is None else [found]
