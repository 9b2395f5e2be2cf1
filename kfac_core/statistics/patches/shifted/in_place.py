"""The second moment of patches, summed where it lies.

`assembled` makes each block of two taps, and then the matrix of them: for small images
of many channels, that holds the matrix several times. Where arrays can be written, each
product is added to its blocks as soon as it is computed.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, TypeAlias

from kfac_core.statistics.patches.shifted.products import REMEMBERED, known_groups
from kfac_core.statistics.patches.window import Window
from kfac_core.typing import Array, Scalar

Tap: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[Tap, Tap]


def write_moment(
    matrix: Any,
    pairs: Sequence[Sequence[Pair]],
    chunks: Iterable[Iterable[Array]],
    kernel: Sequence[int],
    count: Scalar,
) -> None:
    """Write what `assembled` returns for the sums over chunks, divided by a number.

    Args:
        matrix: ``[kernel * channels, kernel * channels]``, to be written.
        pairs: For each product the pairs of taps that share it, of `pairs_for`.
        chunks: For each chunk of cases its products.
        kernel: Sizes of the kernel along the shifted axes.
        count: What to divide by.
    """
    taps = list(product(*map(range, kernel)))
    width = matrix.shape[0] // len(taps)
    place = {tap: slice(k * width, (k + 1) * width) for k, tap in enumerate(taps)}
    seen: set[tuple[Tap, Tap]] = set()
    # 1. Add each product to the blocks M[a, b], a <= b, of its pairs of taps.
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


def pairs_for(
    window: Window, spatial: tuple[int, ...], shifted: int
) -> list[list[Pair]]:
    """Return the pairs of taps that share each product of `groups_for`.

    Args:
        window: Where the convolution looks.
        spatial: Sizes of the spatial axes.
        shifted: How many axes are shifted.
    """
    found = []
    for group in known_groups(window, spatial, shifted):
        for row in group.rows:
            taps = [piece.taps for piece in (row, *group.columns)]
            own = [tuple(zip(*pair, strict=True)) for pair in product(*taps)]
            found.append([(one, two) for one, two in own])
    return found


known_pairs = lru_cache(maxsize=REMEMBERED)(pairs_for)
"""`pairs_for`, which is the same at every step of a training run."""
