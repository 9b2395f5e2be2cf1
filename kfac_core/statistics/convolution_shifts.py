"""The second moment of patches from products of shifted images, without the patches.

The block of two kernel taps is a sum, over the locations, of products of the pixels
that they see. These are a constant offset apart: the blocks of all pairs of taps with
the same offset share one product of the image and its shift, and differ in strips at
the borders, which are products of their own. A kernel of 3 x 3 has 13 offsets, to one
side, in place of 81 blocks. Strips are added, and never taken away from a product of
the whole image: so no digit is lost.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.statistics.convolution_geometry import ConvolutionGeometry
from kfac_core.statistics.convolution_pieces import Piece, clipped, seen_pixels
from kfac_core.typing import Array


class Group(NamedTuple):
    """Products of the same two copies of the images.

    Attributes:
        columns: A piece of each axis but the first: the images at these pixels are
            multiplied by the images at the pixels an offset further.
        rows: Pieces of the first axis, and for each whether the columns change places.
    """

    columns: tuple[Piece, ...]
    rows: tuple[tuple[Piece, bool], ...]

    @property
    def is_of_one(self) -> bool:
        """Whether the columns are not moved, and the two copies the same."""
        return not any(piece.offset for piece in self.columns)


def product_groups(pieces: Sequence[Sequence[Piece]]) -> list[Group]:
    """Return all products to compute, of an offset and its opposite one of them.

    Args:
        pieces: Of each of the axes that are shifted.
    """
    first, *others = pieces
    groups = []
    for columns in product(*others):
        offsets = tuple(piece.offset for piece in columns)
        if offsets < (0,) * len(offsets):
            continue
        rows = []
        for piece in first:
            if piece.offset >= 0:
                rows.append((piece, False))
            if piece.offset > 0 and any(offsets):
                rows.append((piece, True))
        groups.append(Group(columns, tuple(rows)))
    return groups


def shifted_products(
    backend: Backend, images: Array, groups: Sequence[Group], stride: int
) -> list[Array]:
    """Return the sums of the products of pixels.

    Args:
        backend: Backend of the images.
        images: ``[first axis, cases, ..other axes.., rest, channels]``, in C order.
        groups: Which products.
        stride: Steps between output locations along the first axis.

    Returns:
        For each piece of rows of each group ``[channels, channels]``.
    """
    products: list[Array] = []
    traced = backend.is_traced(images)
    for group in groups:
        near = _rows(backend, images, [piece.pixels for piece in group.columns], stride)
        far = near
        if not group.is_of_one:
            far = _rows(backend, images, list(map(_moved, group.columns)), stride)
        for piece, backwards in group.rows:
            one, two = (far, near) if backwards else (near, far)
            left = _of_pixels(one, piece.pixels, images.shape[0])
            if traced and products:
                # A compiler would make the copies for all products before the first.
                # Zero by a product that it cannot know to be finite: they wait for it.
                left = left + products[-1][0, 0] * 0.0
            if group.is_of_one and not piece.offset:
                products.append(backend.gram(left))
                continue
            right = _of_pixels(two, _moved(piece), images.shape[0])
            if traced and products:
                right = right + products[-1][0, 0] * 0.0
            products.append(backend.matmul(left.mT, right))
    return products


def assembled(
    backend: Backend,
    groups: Sequence[Group],
    products: Sequence[Array],
    kernel: Sequence[int],
    zeros: Array,
) -> Array:
    """Return the matrix of all blocks of two taps, symmetric bit for bit.

    Args:
        backend: Backend of the products.
        groups: Which products.
        products: What `shifted_products` returns, or a multiple of it.
        kernel: Sizes of the kernel along the shifted axes.
        zeros: ``[channels, channels]``: of two taps that see no two pixels.

    Returns:
        ``[kernel * channels, kernel * channels]``.
    """
    xp = backend.xp
    blocks: dict[tuple[tuple[int, ...], tuple[int, ...]], Array] = {}
    terms = [(row, group.columns) for group in groups for row in group.rows]
    for ((piece, backwards), columns), part in zip(terms, products, strict=True):
        for pair, *pairs in product(piece.taps, *(piece.taps for piece in columns)):
            if backwards:
                pairs = [(two, one) for one, two in pairs]
            one, two = zip(pair, *pairs, strict=True)
            known = blocks.get((one, two))
            blocks[one, two] = part if known is None else known + part

    def block(one: tuple[int, ...], two: tuple[int, ...]) -> Array:
        if one > two:
            return block(two, one).mT
        return blocks.get((one, two), zeros)

    taps = list(product(*map(range, kernel)))
    rows = [xp.concat([block(one, two) for two in taps], axis=1) for one in taps]
    return xp.concat(rows, axis=0)


def tap_sums(backend: Backend, x: Array, geometry: ConvolutionGeometry) -> Array:
    """Return the sum of all patches of all cases, without the patches.

    Args:
        backend: Backend of `x`.
        x: ``[batch, ..spatial.., channels]``.
        geometry: Where the convolution looks.

    Returns:
        ``[kernel * channels]``.
    """
    xp = backend.xp
    spatial = x.shape[1:-1]
    total = xp.sum(x, axis=0)
    for axis, places in enumerate(seen_pixels(geometry, spatial)):
        before, size = (slice(None),) * axis, spatial[axis]
        sums = [
            xp.sum(total[(*before, _slice(clipped(seen, 0, size)), ...)], axis=axis)
            for seen in places
        ]
        total = xp.stack(sums, axis=axis)
    return xp.reshape(total, (-1,))


def _moved(piece: Piece) -> range:
    """Return the second pixels of a piece."""
    start, stop, offset = piece.pixels.start, piece.pixels.stop, piece.offset
    return range(start + offset, stop + offset, piece.pixels.step)


def _slice(pixels: range) -> slice:
    return slice(pixels[0], pixels[-1] + 1, pixels.step) if pixels else slice(0)


def _rows(
    backend: Backend, images: Array, columns: Sequence[range], stride: int
) -> list[Array]:
    """Return pixels in columns as rows of channels, by the phase of the first axis.

    So the rows of some pixels of the first axis, one stride apart, lie together, and
    are no copy.
    """
    window = (slice(None), *map(_slice, columns), ...)
    return [
        backend.xp.reshape(
            images[(slice(phase, None, stride), *window)], (-1, images.shape[-1])
        )
        for phase in range(min(stride, images.shape[0]))
    ]


def _of_pixels(rows: Sequence[Array], pixels: range, size: int) -> Array:
    """Return the rows of pixels of the first axis, which has the given size."""
    stride = len(rows)
    place, phase = divmod(pixels.start, stride)
    of_phase = rows[phase]
    width = of_phase.shape[0] // len(range(phase, size, stride))
    return of_phase[place * width : (place + len(pixels)) * width, :]
