"""The padding of a convolution: as users give it, and as zeros around images."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeAlias

from kfac_core.arguments.powers import shown
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.typing import Array

Pads: TypeAlias = tuple[tuple[int, int], ...]
"""For each spatial axis the number of zeros before and after it."""


def as_padding(padding: Any, rank: int, layer: str) -> str | Pads:
    """Return ``"SAME"``, ``"VALID"`` or one pair for each spatial axis.

    Args:
        padding: What the user gave.
        rank: Number of spatial axes.
        layer: Name of the layer, for the message.

    Raises:
        ArgumentError: If it is neither of the words, nor widths that are not negative.
    """
    if isinstance(padding, str) and padding.upper() in {"SAME", "VALID"}:
        return padding.upper()
    widths = padding if isinstance(padding, tuple | list) else (padding,) * rank
    pairs = tuple(
        tuple(width) if isinstance(width, tuple | list) else (width, width)
        for width in widths
    )
    if len(pairs) == rank and all(
        len(pair) == 2 and all(map(is_width, pair)) for pair in pairs
    ):
        return tuple((int(before), int(after)) for before, after in pairs)
    msg = (
        f"{layer}: padding is {shown(padding)}, expected 'SAME', 'VALID', a width, or"
        f" {rank} widths or pairs (before, after), none negative"
    )
    raise ArgumentError(msg)


def is_width(value: object) -> bool:
    """Return whether `value` can be a number of zeros beside an axis."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return 0 <= int(value) < 2**63


def same_pads(
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:
    """Return the zeros of the padding ``"SAME"``; an odd one comes after.

    Example:
        >>> same_pads((28,), kernel=(3,), strides=(2,), dilations=(1,))
        ((0, 1),)
    """
    pads = []
    for size, k, s, d in zip(spatial, kernel, strides, dilations, strict=True):
        needed = (math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size
        total = max(needed, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def padded(backend: Backend, x: Array, axis: int, before: int, after: int) -> Array:
    """Return `x` with zeros before and after along an axis."""
    # array_api_extra.pad does the same, but not without a warning of torch.compile.
    if before == after == 0:
        return x
    xp = backend.xp
    device = backend.creation_device(x)

    def zeros(width: int) -> Array:
        shape = (*x.shape[:axis], width, *x.shape[axis + 1 :])
        return xp.zeros(shape, dtype=x.dtype, device=device)

    return xp.concat([zeros(before), x, zeros(after)], axis=axis)
