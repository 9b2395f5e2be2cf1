"""How much each way to the second moment of patches costs, from shapes alone.

The unit of cost is one multiplication and addition in a large matrix product. Other
costs were measured in this unit, on processors with one thread, and rounded to simple
numbers. They serve to choose between ways, and not to predict times.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from kfac_core.statistics.patches.shifted.overlaps import Piece, axis_pieces
from kfac_core.statistics.patches.shifted.products import (
    Group,
    product_count,
    product_groups,
    without_strips,
)
from kfac_core.statistics.patches.window import Window

COST_OF_CALL = 4e5
"""Cost of one product or one copy, however small."""
COST_OF_ENTRY = 10.0
"""Cost of copying one entry of many that lie together."""
COST_OF_RUN = 60.0
"""Cost of starting to copy entries that lie together."""
COLUMNS_OF_OVERHEAD = 24.0
"""Number of columns that a product seems to have on top of its own, by its cost."""
GRAM_SHARE = 0.6
"""Cost of a Gram matrix, relative to a product of the same shape."""
LEAST_COLUMNS = 16
"""Fewest columns of a shifted product.

For products of a few columns, libraries add one row after the other, and lose digits
that wider products keep: two of seven for 3 channels of images of 224 pixels.
"""
ROWS_PER_COLUMN = 2
"""Rows per column of a product from which adding its result to others costs little."""


REMEMBERED = 256
"""Plans that are remembered."""


class Plan(NamedTuple):
    """A way to the second moment of patches.

    Attributes:
        shifted: Number of axes, from the first, along which images are shifted; along
            the other axes, patches are taken. Zero: plain patches.
        cases: Number of cases that are processed at a time.
    """

    shifted: int
    cases: int


def choose_plan(
    window: Window,
    shape: Sequence[int],
    itemsize: int,
    chunk_bytes: int | None,
    *,
    traced: bool = False,
) -> Plan:
    """Return the way that costs least.

    Args:
        window: Where the convolution looks.
        shape: ``(batch, ..spatial.., channels)``.
        itemsize: Bytes of one entry.
        chunk_bytes: Number of bytes to hold at once, or the size of the result if that
            is larger; None: all cases in one chunk.
        traced: Whether all copies of a chunk are held at once.

    Returns:
        The plan.

    Example:
        >>> window = Window((3, 3), (1, 1), (1, 1), "SAME")
        >>> choose_plan(window, (32, 28, 28, 64), 4, 2**23).shifted
        2
        >>> choose_plan(window, (2, 4, 4, 8), 4, 2**23).shifted
        0
    """
    batch, *spatial, channels = shape
    pieces = axis_pieces(window, spatial)
    plans = []
    for shifted in range(window.spatial_rank + 1):
        width = math.prod(window.kernel[shifted:]) * channels
        if shifted and width < LEAST_COLUMNS:
            break
        chunks = 1
        if chunk_bytes is not None:
            copies = _copies(pieces[:shifted], spatial, traced=traced)
            rows = math.prod(window.output_spatial(spatial)[shifted:])
            rows *= math.prod(spatial[:shifted])
            result = 0 if traced else (math.prod(window.kernel) * channels) ** 2
            budget = max(chunk_bytes // itemsize, result)
            entries = rows * width * copies
            few = ROWS_PER_COLUMN * width // max(1, rows)
            most = max(1, budget // max(1, entries), few)
            chunks = max(1, math.ceil(batch / most))
        cases = _even(batch, chunks) if traced else math.ceil(batch / chunks)
        plans.append(Plan(shifted, cases))
    costs = [cost(window, shape, plan, traced=traced) for plan in plans]
    return plans[costs.index(min(costs))]


known_plan = lru_cache(maxsize=REMEMBERED)(choose_plan)
"""`choose_plan`, which is the same at every step of a training run."""


def cost(
    window: Window,
    shape: Sequence[int],
    plan: Plan,
    *,
    traced: bool = False,
) -> float:
    """Return what a plan costs, in multiplications and additions."""
    batch, *spatial, channels = shape
    pieces = axis_pieces(window, spatial)
    kernel, locations = window.kernel, window.output_spatial(spatial)
    shifted = plan.shifted
    chunks = math.ceil(batch / plan.cases)
    tail = math.prod(locations[shifted:])
    width = math.prod(kernel[shifted:]) * channels
    whole = math.prod(kernel) * channels
    leading = math.prod(spatial[:shifted])
    moved = 0.0
    if shifted < len(spatial):
        # The patches of the last axes are copied.
        taps = math.prod(kernel[shifted:])
        moved += batch * leading * tail * taps * _run(channels)
    if shifted == 0:
        products = GRAM_SHARE * batch * tail * width * (width + COLUMNS_OF_OVERHEAD)
        return products + moved + (COST_OF_CALL + 2 * COST_OF_ENTRY * whole**2) * chunks
    pairs, own = _pairs(pieces[:shifted])
    products = (pairs - own) / 2 + own * GRAM_SHARE
    products *= batch * tail * width * (width + COLUMNS_OF_OVERHEAD)
    copies, _ = _pairs(pieces[1:shifted])
    moved += batch * (spatial[0] * copies + leading) * tail * _run(width)
    groups = product_groups(pieces[:shifted])
    strips: list[Group] = []
    if traced:
        groups, strips = without_strips(groups, spatial[:shifted])
    count = product_count(groups) * chunks + product_count(strips)
    calls = (COST_OF_CALL + 3 * COST_OF_ENTRY * width**2) * count
    return products + moved + calls + 2 * COST_OF_ENTRY * whole**2


def _run(entries: int) -> float:
    """Return the cost of copying entries that lie together."""
    return COST_OF_RUN + COST_OF_ENTRY * entries


def _pairs(pieces: Sequence[Sequence[Piece]]) -> tuple[int, int]:
    """Return the numbers of pairs of pixels: with any offset, and with offset zero."""
    # These are lists, since torch.compile breaks at the product of a generator.
    every = [sum(len(piece.pixels) for piece in axis) for axis in pieces]
    own = [sum(len(p.pixels) for p in axis if not p.offset) for axis in pieces]
    return math.prod(every), math.prod(own)


def _copies(
    pieces: Sequence[Sequence[Piece]], spatial: Sequence[int], *, traced: bool
) -> int:
    """Return how many copies of the images are held, shifted along the pieces' axes."""
    if not pieces:
        return 1
    if not traced:
        # One copy has the first axis first, and two are shifted.
        return 3
    groups, _ = without_strips(product_groups(pieces), spatial[: len(pieces)])
    # One copy has the first axis first, one is transposed, and each product has a
    # shift.
    return 2 + product_count(groups)


def _even(batch: int, chunks: int) -> int:
    """Return the size of chunks: of `chunks`, or of up to twice as many if equal."""
    for more in range(chunks, min(2 * chunks, batch + 1)):
        if batch % more == 0:
            return batch // more
    return math.ceil(batch / chunks)
