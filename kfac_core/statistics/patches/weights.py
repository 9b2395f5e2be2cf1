"""The second moment of patches with weights of cases, or of locations.

The root of a case's weight multiplies its image, and so all its patches; nothing else
changes. Weights of locations cannot be used with shifts of images: the patches
themselves are made, a chunk of cases at a time.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from kfac_core.backend import Backend
from kfac_core.statistics.patches.second_moment import (
    patch_rows,
    plan_for,
    planned_moment,
)
from kfac_core.statistics.patches.shifted.assembly import tap_sums
from kfac_core.statistics.patches.window import Window
from kfac_core.statistics.rows import framed
from kfac_core.statistics.weighted_rows import weigh
from kfac_core.typing import Array, Scalar


def weighted_patch_moment(
    backend: Backend,
    towers: Sequence[Array],
    window: Window,
    roots: Sequence[Array],
    count: Scalar | None = None,
    *,
    has_bias: bool = False,
) -> Array:
    """Return the second moment of weighted patches of all cases and locations.

    Args:
        backend: Backend of the towers.
        towers: Inputs, each ``[batch, ..spatial.., channels]``, or channels first.
        window: Where the convolution looks.
        roots: For each tower the roots of the weights, ``[batch]`` or ``[batch,
            locations]``.
        count: What to divide the sum over patches by; None: the number of patches.
        has_bias: Whether each patch ends in a one.

    Returns:
        ``[n, n]`` with ``n = kernel * channels``, one more with bias.
    """
    last = replace(window, channels_last=True)
    total: Array | None = None
    for x, root in zip(towers, roots, strict=True):
        if not x.shape[0]:
            continue
        image = window.to_channels_last(backend, x)
        of_tower = _of_cases if root.ndim == 1 else _of_locations
        part = of_tower(backend, image, last, root, has_bias=has_bias)
        total = part if total is None else total + part
    assert total is not None, "no tower has a case"
    patches = sum(x.shape[0] * window.num_locations(x) for x in towers)
    return total / (patches if count is None else count)


def _of_cases(
    backend: Backend,
    x: Array,
    window: Window,
    roots: Array,
    *,
    has_bias: bool,
) -> Array:
    """Return the sum over the patches of weighted cases."""
    weighted = weigh(backend, x, roots)
    plan = plan_for(backend, weighted, window)
    moment = planned_moment(backend, weighted, window, plan, 1)
    if not has_bias:
        return moment
    sums = tap_sums(backend, weigh(backend, weighted, roots), window)
    corner = backend.xp.sum(roots * roots) * window.num_locations(x)
    return framed(backend, moment, sums, sums, corner)


def _of_locations(
    backend: Backend,
    x: Array,
    window: Window,
    roots: Array,
    *,
    has_bias: bool,
) -> Array:
    """Return the sum over weighted patches."""
    xp, shape = backend.xp, x.shape
    pixels, locations = math.prod(shape[1:]), roots.shape[1]

    def gram(chunk: Array) -> list[Array]:
        images = xp.reshape(chunk[:, :pixels], (-1, *shape[1:]))
        own = chunk[:, pixels:]
        rows = weigh(backend, patch_rows(backend, images, window), own)
        if has_bias:
            rows = xp.concat([rows, own[:, :, None]], axis=2)
        return [backend.gram(xp.reshape(rows, (-1, rows.shape[2])))]

    # Chunks of cases are taken from one array, which holds images and roots together.
    joined = xp.concat([xp.reshape(x, (shape[0], pixels)), roots], axis=1)
    budget = backend.chunk_bytes(x)
    cases = shape[0]
    if budget is not None:
        itemsize = xp.finfo(x.dtype).bits // 8
        width = math.prod(window.kernel) * shape[-1]
        cases = min(cases, max(1, budget // (itemsize * locations * width)))
    (total,) = backend.sum_over(gram, joined, cases)
    return total
