"""Sums over patches from sums over pixels, without the patches."""

from collections.abc import Sequence
from itertools import product

from kfac_core.backend import Backend
from kfac_core.statistics.patches.shifted.overlaps import clipped, seen_pixels
from kfac_core.statistics.patches.shifted.products import Group, as_slice
from kfac_core.statistics.patches.window import Window
from kfac_core.statistics.position_sums import sum_over
from kfac_core.typing import Array


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
        groups: The products, by group.
        products: The sum of each product, one for each row of each group.
        kernel: Sizes of the kernel along the shifted axes.
        zeros: ``[channels, channels]``: the block of two taps that never see two pixels
            of an image at once.

    Returns:
        ``[kernel * channels, kernel * channels]``.
    """
    xp = backend.xp
    blocks: dict[tuple[tuple[int, ...], tuple[int, ...]], Array] = {}
    terms = [(row, *group.columns) for group in groups for row in group.rows]
    for pieces, part in zip(terms, products, strict=True):
        for pairs in product(*[piece.taps for piece in pieces]):
            one, two = zip(*pairs, strict=True)
            known = blocks.get((one, two))
            blocks[one, two] = part if known is None else known + part

    rows, taps = [], list(product(*map(range, kernel)))
    for one in taps:
        row = []
        for two in taps:
            first = (one, two) if one <= two else (two, one)
            part = blocks.get(first, zeros)
            row.append(part if one <= two else part.mT)
        rows.append(xp.concat(row, axis=1))
    return xp.concat(rows, axis=0)


def tap_sums(backend: Backend, x: Array, window: Window) -> Array:
    """Return the sum of all patches of all cases, without the patches.

    Args:
        backend: Backend of `x`.
        x: ``[batch, ..spatial.., channels]``.
        window: Where the convolution looks.

    Returns:
        ``[kernel * channels]``.
    """
    xp = backend.xp
    spatial = x.shape[1:-1]
    total = backend.sum_of_rows(x)
    for axis, places in enumerate(seen_pixels(window, spatial)):
        before, size = (slice(None),) * axis, spatial[axis]
        sums = [
            sum_over(
                backend,
                total[(*before, as_slice(clipped(seen, 0, size)), ...)],
                (axis,),
            )
            for seen in places
        ]
        total = xp.stack(sums, axis=axis)
    return xp.reshape(total, (-1,))
