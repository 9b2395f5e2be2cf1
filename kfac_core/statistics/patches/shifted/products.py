"""Products of shifted images, from which the second moment of patches is assembled.

The block of two kernel taps is a sum, over the locations, of products of the two pixels
that these taps see. The two pixels are a constant offset apart. So all pairs of taps
with the same offset share one product of the image and its shift; they differ only in
strips at the borders, which are products of their own. A kernel of 3 x 3 has 13
offsets, up to sign, in place of 81 blocks. Strips are added, and never subtracted from
a product of the whole image, so that no digit is lost.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, product
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.statistics.patches.padding import padded
from kfac_core.statistics.patches.shifted.overlaps import Piece, axis_pieces
from kfac_core.statistics.patches.window import Window
from kfac_core.typing import Array

CHANNELS_IN_RUNS, TRACED_CHANNELS_IN_RUNS = 23, 8
"""Number of channels from which libraries add several sums at once, without runs; and
from which the products of a compiler do."""
ZEROS_PER_ENTRY = 24
"""Multiplications by zeros, for each entry, that cost less than to copy the entry."""
REMEMBERED = 256
"""Convolutions of which the products are remembered."""
STRIP_SHARE = 1 / 6
"""A product of at most this part of the pixels is a strip."""


class Group(NamedTuple):
    """Products with the same shift along all axes but the first.

    Attributes:
        columns: A piece of each axis but the first. The images at its pixels are
            multiplied by the images at the pixels an offset further.
        rows: Pieces of the first axis.
    """

    columns: tuple[Piece, ...]
    rows: tuple[Piece, ...]

    def is_of_one(self, row: Piece) -> bool:
        """Whether nothing is shifted, and the product is a Gram matrix."""
        for piece in self.columns:
            if piece.offset:
                return False
        return not row.offset


def groups_for(window: Window, spatial: tuple[int, ...], shifted: int) -> list[Group]:
    """Return the products of a convolution of which the first axes are shifted.

    Args:
        window: Where the convolution looks.
        spatial: Sizes of the spatial axes.
        shifted: How many axes are shifted.
    """
    return product_groups(axis_pieces(window, spatial)[:shifted])


known_groups = lru_cache(maxsize=REMEMBERED)(groups_for)
"""`groups_for`, which is the same at every step of a training run."""


def product_groups(pieces: Sequence[Sequence[Piece]]) -> list[Group]:
    """Return all products to compute: one for each offset and its opposite.

    Args:
        pieces: The pieces of each axis that is shifted.
    """
    first, *others = pieces
    groups = []
    for columns in product(*others):
        offsets = tuple(piece.offset for piece in columns)
        none = (0,) * (1 + len(offsets))
        rows = tuple(row for row in first if (row.offset, *offsets) >= none)
        groups.append(Group(columns, rows))
    # Groups of opposite offsets follow one another, since they share their copies.
    return sorted(groups, key=lambda group: _both(group.columns))


def without_strips(
    groups: Sequence[Group], spatial: Sequence[int]
) -> tuple[list[Group], list[Group]]:
    """Return the products of many pixels, and the products of few.

    Args:
        groups: All products.
        spatial: Sizes of the axes that are shifted.
    """
    many, few = [], []
    for columns, rows in groups:
        most = (
            STRIP_SHARE
            * math.prod(spatial)
            / math.prod([len(p.pixels) for p in columns])
        )
        many.append(Group(columns, tuple(r for r in rows if len(r.pixels) > most)))
        few.append(Group(columns, tuple(r for r in rows if len(r.pixels) <= most)))
    return [g for g in many if g.rows], [g for g in few if g.rows]


def product_count(groups: Sequence[Group]) -> int:
    """Return the number of products."""
    return sum(len(group.rows) for group in groups)


def shifted_products(
    backend: Backend, images: Array, groups: Sequence[Group], stride: int
) -> Iterator[Array]:
    """Return the sums of the products of pixels, each computed when it is asked for.

    Args:
        backend: Backend of the images.
        images: ``[first axis, cases, ..other axes.., rest, channels]``, in C order, so
            that consecutive rows of the first axis are a view.
        groups: The products, by group.
        stride: Steps between output locations along the first axis.

    Returns:
        For each row of each group ``[channels, channels]``.
    """
    return chain.from_iterable(_by_group(backend, images, groups, stride))


def _by_group(
    backend: Backend, images: Array, groups: Sequence[Group], stride: int
) -> Iterator[Iterator[Array]]:
    """Yield the products of each group."""
    traced = backend.is_traced(images)
    copies: dict[tuple[range, ...], list[Array]] = {}
    # The product of a piece with pixels q and offset d is sum_q x[q]' x[q + d], over
    # all cases; x[q] is a row of channels. A group has one offset along all axes but
    # the first.
    for group in groups:
        # 1. The columns q (near) and q + d (far), without the first axis. Their phases
        #    are all columns of the image that are whole strides away from them.
        near = tuple([piece.pixels for piece in group.columns])
        far = tuple(map(_moved, group.columns))
        phases = tuple(map(_phase, near, images.shape[2:-2]))
        # 2. Copy x[q] (left) and x[q + d] (right) as rows of channels. Under a trace a
        #    part is a copy anyway, and putting zeros around it costs no further copy:
        #    left is then all of a phase, for all groups, and right has zeros where q is
        #    not seen, so that left' right is the same sum.
        if traced and _is_nearly_all(near, phases, images.shape[-1]):
            pads = [*map(_gaps, near, phases)]
            if phases not in copies:
                copies[phases] = _rows(backend, images, phases, stride)
            right = _rows(backend, images, far, stride, pads)
            yield _of_group(backend, group, copies[phases], right, images, stride)
            continue
        # The group before, of the opposite offset, may have made these copies; others
        # of it are let go before new ones are made.
        copies = {own: copies[own] for own in (near, far) if own in copies}
        for own in (near, far):
            if own not in copies:
                copies[own] = _rows(backend, images, own, stride)
        yield _of_group(backend, group, copies[near], copies[far], images, stride)


def _of_group(
    backend: Backend,
    group: Group,
    left: list[Array],
    right: list[Array],
    images: Array,
    stride: int,
) -> Iterator[Array]:
    """Yield the products of one group, from copies of its columns."""
    size, channels = images.shape[0], images.shape[-1]
    for row in group.rows:
        # 3. Along the first axis, take the rows of x[q + d] as a slice of right.
        moved = _moved(row)
        start, stop = _span(moved, stride, size, right[moved.start % stride])
        two = right[moved.start % stride][start:stop, :]
        # 4. Without an offset, d = 0, the product is the Gram matrix of x[q].
        if group.is_of_one(row):
            yield backend.gram(two)
            continue
        # 5. Take the rows of x[q] as a slice of left; or, under a trace, all of left,
        #    with zeros around the rows of right as in step 2.
        one = left[row.pixels.start % stride]
        start, stop = _span(row.pixels, stride, size, one)
        every = range(one.shape[0])
        is_all = _is_nearly_all([range(start, stop)], [every], channels)
        if backend.is_traced(images) and is_all:
            two = padded(backend, two, 0, start, len(every) - stop)
        else:
            one = one[start:stop, :]
        # 6. sum_q x[q]' x[q + d].
        yield _product(backend, one, two)


def strip_products(
    backend: Backend,
    x: Array,
    groups: Sequence[Group],
    rows_of: Callable[[Array], Array],
) -> list[Array]:
    """Return the sums of the products of pixels, each from copies of its own.

    Args:
        backend: Backend of the images.
        x: ``[batch, ..spatial.., channels]``.
        groups: The products, by group.
        rows_of: Turns a part of `x` into the rows to multiply.

    Returns:
        For each row of each group a square matrix.
    """
    products = []
    for group in groups:
        for row in group.rows:
            pieces = (row, *group.columns)
            near = rows_of(_part(x, [piece.pixels for piece in pieces]))
            if group.is_of_one(row):
                products.append(backend.gram(near))
                continue
            far = rows_of(_part(x, [*map(_moved, pieces)]))
            products.append(_product(backend, near, far))
    return products


def _product(backend: Backend, one: Array, two: Array) -> Array:
    """Return ``one' two``; for few channels, the long sums are made of runs."""
    is_traced = backend.is_traced(one)
    few = TRACED_CHANNELS_IN_RUNS if is_traced else CHANNELS_IN_RUNS
    if one.shape[-1] < few:
        return backend.cross(one, two)
    return backend.matmul(backend.transposed(one), two)


def as_slice(pixels: range) -> slice:
    """Return the slice of an axis that takes these pixels."""
    return slice(pixels[0], pixels[-1] + 1, pixels.step) if pixels else slice(0)


def _moved(piece: Piece) -> range:
    """Return the second pixels of a piece."""
    start, stop, offset = piece.pixels.start, piece.pixels.stop, piece.offset
    return range(start + offset, stop + offset, piece.pixels.step)


def _both(columns: Sequence[Piece]) -> list[list[tuple[int, int]]]:
    """Return the pixels of pieces and of their shifts, in sorted order."""
    near = [(piece.pixels.start, piece.pixels.stop) for piece in columns]
    far = [(_moved(piece).start, _moved(piece).stop) for piece in columns]
    return sorted([near, far])


def _part(x: Array, pixels: Sequence[range]) -> Array:
    """Return the images at pixels of the first spatial axes."""
    return x[(slice(None), *map(as_slice, pixels), ...)]


def _phase(pixels: range, size: int) -> range:
    """Return all pixels of an axis that are whole steps away from the given ones."""
    return range(pixels.start % pixels.step, size, pixels.step)


def _gaps(seen: range, phase: range) -> tuple[int, int]:
    """Return how many pixels of a phase come before and after those seen."""
    before = (seen.start - phase.start) // phase.step
    return before, len(phase) - before - len(seen)


def _is_nearly_all(
    some: Sequence[range], every: Sequence[range], channels: int
) -> bool:
    """Return whether multiplying by zeros costs less than copying the other entries."""
    count = math.prod([*map(len, some)])
    return (math.prod([*map(len, every)]) - count) * channels <= ZEROS_PER_ENTRY * count


def _rows(
    backend: Backend,
    images: Array,
    columns: Sequence[range],
    stride: int,
    pads: Sequence[tuple[int, int]] = (),
) -> list[Array]:
    """Return pixels in columns as rows of channels, for each phase of the first axis.

    Rows whose pixels on the first axis are one stride apart then lie together.
    """
    rows = []
    slices = (slice(None), *map(as_slice, columns), ...)
    for phase in range(min(stride, images.shape[0])):
        part = images[(slice(phase, None, stride), *slices)]
        for axis, (before, after) in enumerate(pads, start=2):
            part = padded(backend, part, axis, before, after)
        rows.append(backend.xp.reshape(part, (-1, images.shape[-1])))
    return rows


def _span(pixels: range, stride: int, size: int, rows: Array) -> tuple[int, int]:
    """Return where the rows of pixels of the first axis start and end.

    Args:
        pixels: Pixels of the first axis, one stride apart.
        stride: Steps between output locations.
        size: Size of the first axis.
        rows: The rows of all pixels of the phase.
    """
    place = pixels.start // stride
    width = rows.shape[0] // len(range(pixels.start % stride, size, stride))
    return place * width, (place + len(pixels)) * width
