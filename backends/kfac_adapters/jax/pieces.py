"""Uses of parts of one operation: what is joined of parameters, or sent to experts.

``concatenate`` of parameters, be it as the bias of a layer or as its matrix, gives each
of them a part of the output or of the data. Each is a use of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from kfac_adapters.jax.alone import Fixed
from kfac_adapters.jax.uses.base import Leaf, Use
from kfac_adapters.jax.uses.dense import dense
from kfac_adapters.jax.uses.elementwise import Shift, elementwise
from kfac_adapters.jax.views import KEEPING, View


@dataclass(frozen=True)
class Piece:
    """A use of one parameter by a part of an operation.

    Attributes:
        use: The use.
        data: Its data.
        spread: Takes a zero of the shape of the use to what is added to the output.
    """

    use: Use
    data: Any
    spread: Callable[[Any], Any]


@dataclass(frozen=True)
class Joined:
    """A value that is joined of parameters, and of constants, along an axis.

    Attributes:
        axis: The axis.
        sizes: Size of each along it.
        parts: Each as a value; None: no parameter.
        shape: Shape of the value.
    """

    axis: int
    sizes: tuple[int, ...]
    parts: tuple[Leaf | None, ...]
    shape: tuple[int, ...]

    @property
    def leaves(self) -> tuple[int, ...]:
        """Indices of the parameters."""
        return tuple(leaf.part.leaf for leaf in self.parts if leaf)

    def moved(self, name: str, params: Any) -> "Joined | None":
        """Return the value after an operation of layout, or None."""
        if name in KEEPING:
            return self
        after = _axis_after(self, name, params)
        if after is None:
            return None
        axis, shape = after
        factor = shape[axis] // self.shape[self.axis]
        sizes, parts = tuple(size * factor for size in self.sizes), []
        for leaf, size in zip(self.parts, sizes, strict=True):
            own = {**params}
            for key in ("shape", "new_sizes"):
                if key in own:
                    own[key] = (*shape[:axis], size, *shape[axis + 1 :])
            new = leaf and leaf.moved(name, own, _same)
            if leaf and not new:
                return None
            parts.append(new)
        return Joined(axis, sizes, tuple(parts), shape)


def _axis_after(own: Joined, name: str, params: Any) -> tuple[int, Any] | None:
    """Return where an operation moves the axis, and the shape then."""
    if name == "transpose":
        order = params["permutation"]
        return order.index(own.axis), tuple(own.shape[i] for i in order)
    if name == "broadcast_in_dim":
        return params["broadcast_dimensions"][own.axis], tuple(params["shape"])
    if name == "reshape" and params.get("dimensions") is None:
        shape, left = tuple(params["new_sizes"]), math.prod(own.shape[: own.axis])
        for axis, size in enumerate(shape):
            # With whole axes after it, or none.
            if size % own.shape[own.axis] == 0 and math.prod(shape[:axis]) == left:
                return axis, shape
    return None


def joined(
    name: str, tags: Sequence[Any], values: Sequence[Any], params: Any
) -> Joined | None:
    """Return what an operation joins of parameters and of constants.

    Args:
        name: Name of the primitive: ``concatenate``, ``stack`` or ``pad``.
        tags: What is known of its operands.
        values: The operands.
        params: Parameters of the primitive.

    Returns:
        The value; None if data are joined, too, or along several axes.
    """
    if not all(isinstance(tag, Leaf | Fixed) for tag in tags):
        return None
    parts = [tag if isinstance(tag, Leaf) else None for tag in tags]
    shapes = [[*x.shape] for x in values]
    if name == "stack":
        axis = params["axis"]
        opened = {"dimensions": (axis,)}
        parts = [leaf and leaf.moved("expand_dims", opened, _same) for leaf in parts]
        for shape in shapes:
            shape.insert(axis, 1)
    elif name == "concatenate":
        axis = params["dimension"]
    else:
        given = params["padding_config"]
        padded = [i for i, (low, high, _) in enumerate(given) if low or high]
        if len(padded) != 1 or min(map(min, given)) < 0 or any(n for *_, n in given):
            return None
        (axis,) = padded
        low, high, _ = given[axis]
        parts, (shape, *_) = [None, parts[0], None], shapes
        shapes = [[*shape[:axis], int(n), *shape[axis + 1 :]] for n in (low, high)]
        shapes.insert(1, shape)
    if not any(parts) or not all(_may_join(leaf) for leaf in parts if leaf):
        return None
    sizes = tuple(shape[axis] for shape in shapes)
    whole = (*shapes[0][:axis], sum(sizes), *shapes[0][axis + 1 :])
    return Joined(axis, sizes, tuple(parts), whole)


def _may_join(leaf: Leaf) -> bool:
    return not (
        leaf.view.is_broadcast
        or leaf.is_joint
        or leaf.reversed
        or any(jnp.ndim(scale) for scale in leaf.scales)
    )


def _same(scale: Any) -> Any:
    return scale


def between(
    site: str, tags: Sequence[Any], values: Sequence[Any], axis: int
) -> list[Piece] | None:
    """Return the uses of parameters that are put between data, as a first token is."""
    sizes = [x.shape[axis] for x in values]
    pieces = []
    for number, tag in enumerate(tags):
        if not isinstance(tag, Leaf):
            continue
        if tag.is_joint or tag.reversed or any(jnp.ndim(s) for s in tag.scales):
            return None
        use = elementwise(
            Shift, f"{site}[{number}]", 0, tag, _like(values[number].shape, values[0])
        )
        spread = _into(axis, sizes, number, tag)
        pieces.append(Piece(replace(use, operand=number), values[number], spread))
    return pieces


def added(site: str, which: int, own: Joined, values: Any, output: Any) -> list[Piece]:
    """Return the uses of what is joined and added to data."""
    missing = len(output.shape) - len(own.shape)
    axis, data, pieces = own.axis + missing, values[1 - which], []
    for number, (leaf, place, size) in enumerate(_places(own)):
        if leaf is None:
            continue
        axes = (*((),) * missing, *leaf.view.axes)
        shape = (*output.shape[:axis], size, *output.shape[axis + 1 :])
        use = elementwise(
            Shift,
            f"{site}[{number}]",
            which,
            replace(leaf, view=View(axes)),
            _like(shape, output),
        )
        part = _cut(data, axis, place, size) if jnp.ndim(data) else data
        spread = _into(axis, own.sizes, number, leaf)
        pieces.append(Piece(use, part, spread))
    return pieces


def multiplied(
    site: str, which: int, own: Joined, values: Any, params: Any, output: Any
) -> list[Piece] | None:
    """Return the uses of matrices that are joined to one; None if it is no product."""
    contracting, batch = params["dimension_numbers"]
    if batch[0]:
        return None
    data, pieces = values[1 - which], []
    summed = dict(zip(contracting[which], contracting[1 - which], strict=True))
    kept = [i for i in range(len(own.shape)) if i not in summed]
    first = 0 if which == 0 else data.ndim - len(summed)
    for number, (leaf, place, size) in enumerate(_places(own)):
        if leaf is None:
            continue
        part, shape = data, output.shape
        spread: Callable[[Any], Any] = _times(leaf)
        if own.axis in summed:
            part = _cut(data, summed[own.axis], place, size)
        else:
            axis = first + kept.index(own.axis)
            shape = (*shape[:axis], size, *shape[axis + 1 :])
            spread = _into(axis, own.sizes, number, leaf)
        pair = (leaf, part) if which == 0 else (part, leaf)
        use = dense(
            f"{site}[{number}]", which, leaf, pair, params, _like(shape, output)
        )
        if isinstance(use, str):
            return None
        pieces.append(Piece(use, part, spread))
    return pieces


def _places(own: Joined) -> list[tuple[Leaf | None, int, int]]:
    starts = [sum(own.sizes[:i]) for i in range(len(own.sizes))]
    return [*zip(own.parts, starts, own.sizes, strict=True)]


def _times(leaf: Leaf) -> Callable[[Any], Any]:
    def spread(zero: Any) -> Any:
        for scale in leaf.scales:
            zero = zero * jnp.asarray(scale).astype(zero.dtype)
        return zero

    return spread


def _into(
    axis: int, sizes: Sequence[int], number: int, leaf: Leaf
) -> Callable[[Any], Any]:
    """Return what puts a zero at the place of one part, between zeros."""
    before, after = sum(sizes[:number]), sum(sizes[number + 1 :])

    def spread(zero: Any) -> Any:
        pads = [(0, 0)] * zero.ndim
        pads[axis] = (before, after)
        return jnp.pad(_times(leaf)(zero), pads)

    return spread


def _cut(x: Any, axis: int, start: int, size: int) -> Any:
    if x.shape[axis] == 1:
        return x
    return jax.lax.slice_in_dim(x, start, start + size, axis=axis)


def _like(shape: Sequence[int], like: Any) -> Any:
    return jax.ShapeDtypeStruct(tuple(shape), like.dtype)
