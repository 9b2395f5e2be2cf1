"""`Part`: a parameter, or a slice of one that is a layer of its own.

Layers that are stacked in one array, as for `jax.lax.scan`, or projections that are
sliced of one matrix, have parameters of their own in the core.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp


class Part(NamedTuple):
    """A box of a leaf.

    Attributes:
        leaf: Index of the leaf.
        cut: Axis, start and stop, for each axis of which it has not all; sorted.
    """

    leaf: int
    cut: tuple[tuple[int, int, int], ...] = ()

    def of(self, array: Any) -> Any:
        """Return this part of the leaf, or of a gradient of it."""
        return array[self._slices(array.ndim)] if self.cut else array

    def within(self, axis: int, start: int, stop: int) -> "Part":
        """Return a part of this part."""
        ranges = {own: (low, high) for own, low, high in self.cut}
        first, _ = ranges.get(axis, (0, 0))
        ranges[axis] = (first + start, first + stop)
        return Part(self.leaf, tuple((i, *ranges[i]) for i in sorted(ranges)))

    def shape(self, whole: Sequence[int]) -> tuple[int, ...]:
        """Return its shape, from that of the leaf."""
        sizes = list(whole)
        for axis, start, stop in self.cut:
            sizes[axis] = stop - start
        return tuple(sizes)

    def name(self, path: str) -> str:
        """Return its name, from that of the leaf, such as ``['w'][2]``."""
        if not self.cut:
            return path or "params"
        last = self.cut[-1][0]
        texts = [":"] * (last + 1)
        for axis, start, stop in self.cut:
            texts[axis] = str(start) if stop == start + 1 else f"{start}:{stop}"
        return f"{path or 'params'}[{', '.join(texts)}]"

    def _slices(self, rank: int) -> tuple[slice, ...]:
        slices = [slice(None)] * rank
        for axis, start, stop in self.cut:
            slices[axis] = slice(start, stop)
        return tuple(slices)


def fills(parts: Collection[Part], shape: Sequence[int]) -> bool:
    """Return whether parts of one leaf are disjoint, and together all of it."""
    if sum(math.prod(part.shape(shape)) for part in parts) != math.prod(shape):
        return False
    boxes = [_box(part, shape) for part in parts]
    return not any(
        all(a < d and c < b for (a, b), (c, d) in zip(one, other, strict=True))
        for number, one in enumerate(boxes)
        for other in boxes[:number]
    )


def joined(arrays: Mapping[Part, Any], shape: Sequence[int]) -> Any:
    """Return a leaf of its parts.

    Args:
        arrays: For each part its array; the parts fill the leaf.
        shape: Shape of the leaf.
    """
    (first, *others) = arrays
    if not others:
        return arrays[first]
    axes = {tuple(axis for axis, *_ in part.cut) for part in arrays}
    if len(axes) == 1 and len(axes.copy().pop()) == 1:
        ((axis,),) = axes
        order = sorted(arrays, key=lambda part: part.cut)
        return jnp.concatenate([arrays[part] for part in order], axis=axis)
    whole = jnp.zeros(shape, arrays[first].dtype)
    for part, array in arrays.items():
        whole = whole.at[part._slices(len(shape))].set(array)
    return whole


def _box(part: Part, shape: Sequence[int]) -> list[tuple[int, int]]:
    ranges = {axis: (start, stop) for axis, start, stop in part.cut}
    return [ranges.get(axis, (0, size)) for axis, size in enumerate(shape)]
