"""The rows of all locations, one case after another, and their weights."""

import math
from collections.abc import Sequence
from typing import Any

from kfac_core.backend import Backend
from kfac_core.rows.counts import count_of
from kfac_core.rows.weights import roots_of, weights_for
from kfac_core.statistics.patches.mask import PatchMask, mask_rows
from kfac_core.statistics.patches.second_moment import patch_rows
from kfac_core.statistics.patches.window import Window
from kfac_core.statistics.weighted_rows import Rows, by_row, weighed
from kfac_core.typing import Array, Scalar


def counted_rows(
    backend: Backend,
    weights: Any,
    shapes: Sequence[tuple[int, ...]],
    num_cases: Scalar | None,
    like: Array,
    label: str,
) -> tuple[list[Array] | None, Array | None]:
    """Return the roots of the weights of all rows, and what to divide by.

    Args:
        backend: Backend of the data.
        weights: As `kfac_core.rows.weights.weights_for` takes them.
        shapes: For each tower ``(batch, ..locations..)``.
        num_cases: As in `kfac_core.rows.counts.count_of`.
        like: Array that gives dtype and device.
        label: Name of the factor, for the message.

    Returns:
        The roots for each tower, ``[batch * locations]``, or None without weights; and
        the number to divide by, 0-d, or None where all cases are given.

    Raises:
        KfacError: As `weights_for` and `count_of`.
    """
    cases = sum(shape[0] for shape in shapes)
    rows = sum(map(math.prod, shapes))
    count = count_of(backend, num_cases, rows / max(cases, 1), like, label)
    own = weights_for(backend, weights, shapes, like, label)
    if own is None:
        return None, count
    pairs = zip(own, shapes, strict=True)
    roots = [
        backend.xp.sqrt(by_row(backend, w, math.prod(shape[1:]))) for w, shape in pairs
    ]
    return roots, count


def patches_as_rows(
    backend: Backend,
    towers: Sequence[Array],
    window: Window,
    mask: PatchMask | None,
    weights: Sequence[Array] | None,
    count: Scalar | None,
) -> Rows:
    """Return all patches as rows, for the forms that need the rows themselves.

    Args:
        backend: Backend of the towers.
        towers: Inputs, each ``[batch, ..spatial.., channels]``, or channels first.
        window: Where the convolution looks.
        mask: What each patch is multiplied by; None: ones.
        weights: For each tower ``[batch]`` or ``[batch, locations]``; None: ones.
        count: What sums over patches are divided by; None: their number.

    Returns:
        Rows ``[batch * locations, kernel * channels]``.
    """
    arrays, own = [], []
    for i, x in enumerate(towers):
        patches = patch_rows(backend, x, window)
        rows = backend.xp.reshape(patches, (-1, patches.shape[2]))
        if mask is not None:
            rows = rows * mask_rows(backend, mask, rows, has_bias=False)
        arrays.append(rows)
        if weights is not None:
            own.append(by_row(backend, weights[i], patches.shape[1]))
    roots = roots_of(backend, None if weights is None else own)
    return weighed(backend, arrays, roots, count)
