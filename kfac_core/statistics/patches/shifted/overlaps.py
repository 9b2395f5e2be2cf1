"""Which pairs of pixels two kernel taps see, along one axis.

At location ``t``, tap ``a`` sees the pixel ``t * stride + a * dilation - before``. So
the pixels that two taps see are always the same number of pixels apart. All pairs of
taps with the same distance see the same pairs of pixels, except for some at the
borders.
"""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import NamedTuple

from kfac_core.statistics.patches.window import Window


class Piece(NamedTuple):
    """Pairs of pixels that are seen by the same pairs of taps.

    Attributes:
        offset: Number of pixels from the first pixel of a pair to the second.
        pixels: The first pixel of each pair.
        taps: The pairs of taps ``(first, second)`` that see these pairs of pixels.
    """

    offset: int
    pixels: range
    taps: tuple[tuple[int, int], ...]


def axis_pieces(
    window: Window, spatial: Sequence[int]
) -> tuple[tuple[Piece, ...], ...]:
    """Return for each axis the pieces of which all pairs of taps are composed.

    The pairs of pixels that two taps see are the disjoint union of the pieces that list
    these taps. Pixels of the padding are in no piece, since their products are zero.

    Args:
        window: Where the convolution looks.
        spatial: Sizes of the spatial axes.

    Returns:
        For each axis its pieces. Two pieces with one offset have no pixel in common.

    Example:
        >>> window = Window((2,), (1,), (1,), "VALID")
        >>> for piece in axis_pieces(window, (9,))[0]:
        ...     print(*piece)
        0 range(0, 1) ((0, 0),)
        0 range(1, 8) ((0, 0), (1, 1))
        0 range(8, 9) ((1, 1),)
        1 range(0, 8) ((0, 1),)
        -1 range(1, 9) ((1, 0),)
    """
    seen = seen_pixels(window, spatial)
    return tuple(
        _pieces(taps, size, dilation)
        for taps, size, dilation in zip(seen, spatial, window.dilations, strict=True)
    )


def seen_pixels(
    window: Window, spatial: Sequence[int]
) -> tuple[tuple[range, ...], ...]:
    """Return for each axis and tap the places that the tap sees, padding included."""
    return tuple(
        tuple(
            range(
                tap * dilation - before,
                tap * dilation - before + locations * stride,
                stride,
            )
            for tap in range(kernel)
        )
        for (before, _), kernel, stride, dilation, locations in zip(
            window.pads(spatial),
            window.kernel,
            window.strides,
            window.dilations,
            window.output_spatial(spatial),
            strict=True,
        )
    )


def clipped(places: range, start: int, stop: int) -> range:
    """Return the places that lie in ``[start, stop)``."""
    step = places.step
    first = max(places.start, start + (places.start - start) % step)
    # The stop is one step past the last place, so that equal ranges have equal stops.
    end = min(places.stop, stop + (places.start - stop) % step)
    return range(first, max(first, end), step)


def _pieces(seen: Sequence[range], size: int, dilation: int) -> tuple[Piece, ...]:
    """Return the pieces of one axis of a given size, from what each tap sees."""
    alike: dict[tuple[int, int], list[tuple[tuple[int, int], range]]] = {}
    for first, second in product(range(len(seen)), repeat=2):
        offset = (second - first) * dilation
        pixels = clipped(seen[first], max(0, -offset), min(size, size - offset))
        if len(pixels):
            key = (offset, pixels.start % pixels.step)
            alike.setdefault(key, []).append(((first, second), pixels))
    pieces = []
    for (offset, _), pairs in alike.items():
        ends = {end for _, pixels in pairs for end in (pixels.start, pixels.stop)}
        for start, stop in pairwise(sorted(ends)):
            cell = range(start, stop, pairs[0][1].step)
            taps = tuple(
                pair
                for pair, pixels in pairs
                if pixels.start <= start and stop <= pixels.stop
            )
            if taps:
                pieces.append(Piece(offset, cell, taps))
    return tuple(pieces)
