"""Patches of a convolution's inputs and their second moment.

The patch of an output location holds the inputs that its kernel sees, and zeros outside
the image: ``patches @ filter.reshape(-1, out_channels)`` is the convolution. A patch is
laid out as the leading axes of the filter: kernel height, kernel width, channel.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from kfac_core.backend import Backend
from kfac_core.statistics.patches.padding import padded
from kfac_core.statistics.patches.shifted.assembly import assembled, tap_sums
from kfac_core.statistics.patches.shifted.in_place import known_pairs, write_moment
from kfac_core.statistics.patches.shifted.plan import Plan, choose_plan, known_plan
from kfac_core.statistics.patches.shifted.products import (
    groups_for,
    known_groups,
    shifted_products,
    strip_products,
    without_strips,
)
from kfac_core.statistics.patches.window import Window
from kfac_core.statistics.position_sums import products_over, sum_over
from kfac_core.statistics.rows import framed
from kfac_core.statistics.weighted_rows import weighed_pair
from kfac_core.typing import Array, Scalar


def extract_patches(backend: Backend, x: Array, window: Window) -> Array:
    """Return the patch of every output location.

    Args:
        backend: Backend of `x`.
        x: ``[batch, ..spatial.., channels]``, or channels first as the window says.
        window: Where the convolution looks.

    Returns:
        ``[batch, ..locations.., ..kernel.., channels]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> image = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
        >>> window = Window((2, 2), (1, 1), (1, 1), "VALID")
        >>> extract_patches(backend_of(image), image, window)[0, 0, 0].ravel()
        array([1., 2., 4., 5.])
    """
    xp = backend.xp
    x = window.to_channels_last(backend, x)
    spatial = x.shape[1:-1]
    pads = window.pads(spatial)
    for axis, (before, after) in enumerate(pads, start=1):
        x = padded(backend, x, axis, before, after)
    locations = window.output_spatial(spatial)
    taps = []
    for offsets in product(*map(range, window.kernel)):
        slices = [
            slice(o * d, o * d + (n - 1) * s + 1 if n else o * d, s)
            for o, d, n, s in zip(
                offsets, window.dilations, locations, window.strides, strict=True
            )
        ]
        taps.append(x[(slice(None), *slices, slice(None))])
    patches = xp.stack(taps, axis=-2)
    shape = (x.shape[0], *locations, *window.kernel, x.shape[-1])
    return xp.reshape(patches, shape)


def patch_rows(backend: Backend, x: Array, window: Window) -> Array:
    """Return the patches as rows, ``[batch, locations, kernel * channels]``."""
    patches = extract_patches(backend, x, window)
    rank = window.spatial_rank
    locations = math.prod(patches.shape[1 : rank + 1])
    width = math.prod(patches.shape[rank + 1 :])
    return backend.xp.reshape(patches, (x.shape[0], locations, width))


def patch_second_moment(
    backend: Backend,
    towers: Sequence[Array],
    window: Window,
    *,
    has_bias: bool = False,
    count: Scalar | None = None,
) -> Array:
    """Return the second moment of the patches of all cases and locations.

    It is computed from products of shifted images or from patches, whichever costs less
    (`kfac_core.statistics.patches.shifted.plan`).

    Args:
        backend: Backend of the towers.
        towers: Inputs, each ``[batch, ..spatial.., channels]``, or channels first.
        window: Where the convolution looks.
        has_bias: Whether each patch ends in a one.
        count: What to divide the sum over patches by; None: the number of patches.

    Returns:
        ``[n, n]`` with ``n = kernel * channels``, one more with bias: the ``Omega`` of
        Grosse & Martens (2016), equation 25, divided by the number of locations.
    """
    patches = 0
    for x in towers:
        patches += x.shape[0] * window.num_locations(x)
    count = patches if count is None else count
    images = [window.to_channels_last(backend, x) for x in towers if x.shape[0]]
    last = window if window.channels_last else replace(window, channels_last=True)
    plans = [plan_for(backend, x, last) for x in images]
    side = math.prod(window.kernel) * images[0].shape[-1]
    # The moment of one tower is written where a bias finds its row and column.
    framing = has_bias and len(images) == 1
    whole = backend.buffer((side + 1, side + 1), images[0]) if framing else None
    out = None if whole is None else whole[:side, :side]
    parts = []
    for x, plan in zip(images, plans, strict=True):
        part = [planned_moment(backend, x, last, plan, count, out)]
        parts.append([*part, tap_sums(backend, x, last)] if has_bias else part)
    moment, *sums = _sum(parts)
    if not has_bias:
        return moment
    mean = sums[0] / count
    if whole is None:
        return framed(backend, moment, mean, mean, patches / count)
    whole[:side, side], whole[side, :side] = mean, mean
    whole[side, side] = patches / count
    with_bias: Array = whole
    return with_bias


def plan_for(backend: Backend, x: Array, window: Window) -> Plan:
    """Return the plan that costs least for one tower.

    Args:
        backend: Backend of `x`.
        x: ``[batch, ..spatial.., channels]``.
        window: Where the convolution looks; channels last.
    """
    itemsize = backend.xp.finfo(x.dtype).bits // 8
    chunk_bytes, shape = backend.chunk_bytes(x), tuple(x.shape)
    if backend.is_traced(x):  # sizes may be symbols, and the work is done once
        return choose_plan(window, shape, itemsize, chunk_bytes, traced=True)
    return known_plan(window, shape, itemsize, chunk_bytes)


def planned_moment(
    backend: Backend,
    x: Array,
    window: Window,
    plan: Plan,
    count: Scalar,
    out: Any = None,
) -> Array:
    """Return the second moment of one tower's patches, by a given plan.

    Args:
        backend: Backend of `x`.
        x: ``[batch, ..spatial.., channels]``.
        window: Where the convolution looks; channels last.
        plan: How to compute it; the result is the same, except for rounding.
        count: What to divide the sum over patches by.
        out: Where to write the result; None: into an array of its own.

    Returns:
        ``[kernel * channels, kernel * channels]``, symmetric bit for bit.
    """
    # 1. Without shifts: the Gram matrix P'P of the patches P themselves.
    if plan.shifted == 0:
        (gram,) = backend.sum_over(
            lambda chunk: [_patch_gram(backend, chunk, window)], x, plan.cases
        )
        if out is None:
            return gram / count
        out[...] = gram
        out /= count
        written: Array = out
        return written
    # 2. Split the axes: the first ones are shifted, and patches of the others, the
    #    tail, are taken. A row u has width = (taps of the tail) * channels entries.
    xp, shifted = backend.xp, plan.shifted
    spatial = tuple(x.shape[1:-1])
    tail = Window(
        window.kernel[shifted:],
        window.strides[shifted:],
        window.dilations[shifted:],
        window.pads(spatial)[shifted:],
    )
    width = math.prod(tail.kernel) * x.shape[-1]
    if backend.is_traced(x):
        every = groups_for(window, spatial, shifted)
        groups, strips = without_strips(every, spatial[:shifted])
    else:
        groups, strips = known_groups(window, spatial, shifted), []

    def large_products(chunk: Array) -> Iterator[Array]:
        images = _first_axis_first(backend, _unfolded(backend, chunk, tail))
        return shifted_products(backend, images, groups, window.strides[0])

    # 3. Where arrays can be written, add each product to the blocks that it is part of.
    kernel, side = window.kernel[:shifted], math.prod(window.kernel) * x.shape[-1]
    matrix = backend.buffer((side, side), x) if out is None else out
    if matrix is not None:
        starts = range(0, x.shape[0], plan.cases)
        chunks = [x[start : start + plan.cases, ...] for start in starts]
        pairs = known_pairs(window, spatial, shifted)
        write_moment(matrix, pairs, map(large_products, chunks), kernel, count)
        moment: Array = matrix
        return moment

    def rows_of(part: Array) -> Array:
        return xp.reshape(_unfolded(backend, part, tail), (-1, width))

    # 4. Compute the large products, a chunk of cases at a time.
    products = backend.sum_over(lambda chunk: [*large_products(chunk)], x, plan.cases)
    # 5. Compute the small products for all cases at once: a product of few rows is
    #    slow, and copies what it multiplies anyway.
    products += strip_products(backend, x, strips, rows_of)
    device = backend.creation_device(x)
    zeros = xp.zeros((width, width), dtype=x.dtype, device=device)
    # 6. Assemble the blocks M[a, b] = sum_t p_t[a]' p_t[b] of two taps a and b, each a
    #    sum of products of one offset, and divide by the count. The division is last: a
    #    compiler might round the sums of two quotients differently for a block and for
    #    its mirror M[b, a] = M[a, b]'.
    return assembled(backend, [*groups, *strips], products, kernel, zeros) / count


def _sum(parts: Iterable[Sequence[Array]]) -> list[Array]:
    """Return the sum of the first arrays of all parts, of the second, and so on."""
    total: list[Array] = []
    for arrays in parts:
        total = (
            [known + array for known, array in zip(total, arrays, strict=True)]
            if total
            else list(arrays)
        )
    return total


def _patch_gram(backend: Backend, x: Array, window: Window) -> Array:
    """Return the Gram matrix of all patches."""
    rows = patch_rows(backend, x, window)
    return backend.gram(backend.xp.reshape(rows, (-1, rows.shape[-1])))


def _unfolded(backend: Backend, x: Array, tail: Window) -> Array:
    """Return images with the patches of the last spatial axes.

    Args:
        backend: Backend of `x`.
        x: ``[batch, ..spatial.., channels]``.
        tail: Where the convolution looks along the last axes, if any.

    Returns:
        ``[batch, ..other axes.., locations, kernel * channels]``, with the locations
        and the kernel of the last axes.
    """
    xp = backend.xp
    first = x.ndim - 1 - tail.spatial_rank
    head = x.shape[:first]
    if not tail.kernel:
        return xp.reshape(x, (*head, 1, x.shape[-1]))
    rows = patch_rows(backend, xp.reshape(x, (-1, *x.shape[first:])), tail)
    return xp.reshape(rows, (*head, *rows.shape[1:]))


def _first_axis_first(backend: Backend, x: Array) -> Array:
    """Return images with their first spatial axis before the batch, in C order."""
    xp = backend.xp
    x = xp.permute_dims(x, (1, 0, *range(2, x.ndim)))
    # Reshaping to rows makes a copy, where a view would stay in the old order.
    return xp.reshape(xp.reshape(x, (-1, x.shape[-1])), x.shape)


def filter_gradients(
    backend: Backend,
    x: Array,
    gradients: Array,
    window: Window,
    *,
    has_bias: bool = False,
    weights: Array | None = None,
) -> Array:
    """Return each case's gradient for the filter, summed over locations.

    Args:
        backend: Backend of both.
        x: Inputs, ``[batch, ..spatial.., channels]``, or channels first.
        gradients: For the outputs, ``[batch, ..locations.., out_channels]``, or
            channels first.
        window: Where the convolution looks.
        has_bias: Whether to append the gradient for the bias as a last row.
        weights: ``[batch]``: the gradients of cases are multiplied by the roots of
            these; ``[batch, locations]``: the gradients of locations are multiplied by
            these; None: all one.

    Returns:
        ``[batch, kernel * channels, out_channels]``, one more row with bias.
    """
    xp = backend.xp
    patches = patch_rows(backend, x, window)
    g = window.to_channels_last(backend, gradients)
    g = xp.reshape(g, (*patches.shape[:2], g.shape[-1]))
    if weights is not None:
        patches, g = weighed_pair(backend, patches, g, weights)
    per_case = products_over(backend, patches, g)
    if not has_bias:
        return per_case
    return xp.concat([per_case, sum_over(backend, g, (1,))[:, None, :]], axis=1)
