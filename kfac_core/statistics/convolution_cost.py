"""What the second moment of patches costs each way, from shapes alone.

The unit is one multiplication and addition of a large matrix product. The weights of
the rest are what they were seen to be on processors with one thread, to the nearest
simple number: they decide between ways, and nobody should take them for times.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from kfac_core.statistics.convolution_geometry import ConvolutionGeometry
from kfac_core.statistics.convolution_pieces import Piece, axis_pieces

CALL = 4e5
"""One product or one copy, however small."""
MOVE = 10.0
"""One entry copied, of many that lie together."""
RUN = 60.0
"""One start of entries that lie together."""
NARROW = 24.0
"""A product of n columns costs as if it had this many more."""
SYMMETRIC = 0.6
"""A Gram matrix, in parts of a product of the same shape."""
NARROWEST = 16
"""Fewest columns of a shifted product.

Libraries add up products of a few columns one row after the other, and lose digits
that they keep in wider ones: two of seven for 3 channels of images of 224 pixels.
"""
BUDGET = 2**23
"""Bytes to hold at once beyond the inputs, or as many as the result has, if more."""


class Plan(NamedTuple):
    """A way to the second moment of patches.

    Attributes:
        shifted: How many axes, the first ones, are gone through by shifts; the patches
            of the others are taken. Zero: plain patches.
        cases: How many cases at a time.
    """

    shifted: int
    cases: int


def choose_plan(
    geometry: ConvolutionGeometry,
    shape: Sequence[int],
    itemsize: int,
    *,
    traced: bool = False,
) -> Plan:
    """Return the way that costs least.

    Args:
        geometry: Where the convolution looks.
        shape: ``(batch, ..spatial.., channels)``.
        itemsize: Bytes of one entry.
        traced: Whether a trace would write out every chunk: then there is one.

    Returns:
        The plan.

    Example:
        >>> geometry = ConvolutionGeometry((3, 3), (1, 1), (1, 1), "SAME")
        >>> choose_plan(geometry, (32, 28, 28, 64), 4).shifted
        2
        >>> choose_plan(geometry, (2, 4, 4, 8), 4).shifted
        0
    """
    batch, *spatial, channels = shape
    pieces = axis_pieces(geometry, spatial)
    result = (math.prod(geometry.kernel) * channels) ** 2
    budget = max(BUDGET, result * itemsize)
    plans = []
    for shifted in range(geometry.spatial_rank + 1):
        if shifted and math.prod(geometry.kernel[shifted:]) * channels < NARROWEST:
            break
        entries = _entries(geometry, spatial, channels, pieces, shifted)
        most = max(1, budget // max(1, entries * itemsize))
        chunks = 1 if traced else max(1, math.ceil(batch / most))
        plans.append(Plan(shifted, math.ceil(batch / chunks)))
    costs = [cost(geometry, shape, plan) for plan in plans]
    return plans[costs.index(min(costs))]


def cost(geometry: ConvolutionGeometry, shape: Sequence[int], plan: Plan) -> float:
    """Return what a plan costs, in multiplications and additions."""
    batch, *spatial, channels = shape
    pieces = axis_pieces(geometry, spatial)
    kernel, locations = geometry.kernel, geometry.output_spatial(spatial)
    shifted = plan.shifted
    chunks = math.ceil(batch / plan.cases)
    tail = math.prod(locations[shifted:])
    width = math.prod(kernel[shifted:]) * channels
    whole = math.prod(kernel) * channels
    leading = math.prod(spatial[:shifted])
    moved = 0.0
    if shifted < len(spatial):
        # Patches of the last axes.
        taps = math.prod(kernel[shifted:])
        moved += batch * leading * tail * taps * _run(channels)
    if shifted == 0:
        products = SYMMETRIC * batch * tail * width * (width + NARROW)
        return products + moved + (CALL + 2 * MOVE * whole**2) * chunks
    pairs, own = _pairs(pieces[:shifted])
    products = (pairs - own) / 2 + own * SYMMETRIC
    products *= batch * tail * width * (width + NARROW)
    copies, _ = _pairs(pieces[1:shifted])
    moved += batch * (spatial[0] * copies + leading) * tail * _run(width)
    count = _count(pieces[:shifted])
    calls = (CALL + 3 * MOVE * width**2) * count * chunks
    return products + moved + calls + 2 * MOVE * whole**2


def _run(entries: int) -> float:
    """Return what it costs to copy entries that lie together."""
    return RUN + MOVE * entries


def _pairs(pieces: Sequence[Sequence[Piece]]) -> tuple[int, int]:
    """Return the numbers of pairs of pixels, of all offsets and of none."""
    every = math.prod(sum(len(piece.pixels) for piece in axis) for axis in pieces)
    own = math.prod(
        sum(len(piece.pixels) for piece in axis if not piece.offset) for axis in pieces
    )
    return every, own


def _count(pieces: Sequence[Sequence[Piece]]) -> int:
    """Return the number of products of pieces, of every offset and its opposite one."""
    every = math.prod(map(len, pieces))
    own = math.prod(sum(not piece.offset for piece in axis) for axis in pieces)
    return (every + own) // 2


def _entries(
    geometry: ConvolutionGeometry,
    spatial: Sequence[int],
    channels: int,
    pieces: Sequence[Sequence[Piece]],
    shifted: int,
) -> int:
    """Return how many entries a case takes while it is worked on."""
    tail = math.prod(geometry.output_spatial(spatial)[shifted:])
    width = math.prod(geometry.kernel[shifted:]) * channels
    patches = math.prod(spatial[:shifted]) * tail * width
    # The image in the order of its first axis, and two shifts of it.
    return patches * (1 if shifted == 0 else 3)
