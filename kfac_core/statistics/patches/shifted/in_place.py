"""The second moment of patches, summed where it lies.

`assembled` makes each block of two taps, and then the matrix of them: for small images
of many channels, that holds the matrix several times. Where arrays can be written, each
product is added to its blocks as soon as it is computed.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from kfac_core.statistics.patches.shifted.overlaps import Piece
from kfac_core.statistics.patches.shifted.products import Group
from kfac_core.typing import Array, Scalar

Tap = tuple[int, ...]


def write_moment(
    matrix: Any,
    groups: Sequence[Group],
    chunks: Iterable[Iterable[Array]],
    kernel: Sequence[int],
    count: Scalar,
) -> None:
    """Write what `assembled` returns for the sums over chunks, divided by a number.

    Args:
        matrix: ``[kernel * channels, kernel * channels]``, to be written.
        groups: The products, by group.
        chunks: For each chunk of cases its products, one for each row of each group.
        kernel: Sizes of the kernel along the shifted axes.
        count: What to divide by.
    """
    taps = list(product(*map(range, kernel)))
    width = matrix.shape[0] // len(taps)
    place = {tap: slice(k * width, (k + 1) * width) for k, tap in enumerate(taps)}
    seen: set[tuple[Tap, Tap]] = set()
    # 1. Add each product to the blocks M[a, b], a <= b, of its pairs of taps.
    pairs = [_pairs(row, *group.columns) for group in groups for row in group.rows]
    for products in chunks:
        for own, part in zip(pairs, products, strict=True):
            for one, two in own:
                block = matrix[place[one], place[two]]
                if (one, two) in seen:
                    block += part
                else:
                    block[...] = part
                    seen.add((one, two))
    # 2. Divide, and mirror: M[b, a] = M[a, b]'. Two taps that never see two pixels of
    #    an image at once have a block of zeros.
    for k, one in enumerate(taps):
        for two in taps[k:]:
            block = matrix[place[one], place[two]]
            if (one, two) in seen:
                block /= count
            else:
                block[...] = 0
            if one != two:
                matrix[place[two], place[one]] = block.mT


def _pairs(*pieces: Piece) -> list[tuple[Tap, Tap]]:
    """Return the pairs of taps that share a product."""
    found = []
    for pair in product(*[piece.taps for piece in pieces]):
        one, two = zip(*pair, strict=True)
        found.append((one, two))
    return found
