"""Patches of a convolution's inputs and their second moment.

The patch of an output location holds the inputs that its kernel sees, zeros outside:
``patches @ filter.reshape(-1, out_channels)`` is the convolution. A patch is laid out
kernel axes first, channels last (kernel height, kernel width, channel), as the
leading axes of the filter are.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

from kfac_core.backend import Backend
from kfac_core.statistics.convolution_cost import Plan, choose_plan
from kfac_core.statistics.convolution_geometry import ConvolutionGeometry
from kfac_core.statistics.convolution_pieces import axis_pieces
from kfac_core.statistics.convolution_shifts import (
    assembled,
    product_groups,
    shifted_products,
    tap_sums,
)
from kfac_core.statistics.covariance import bordered
from kfac_core.typing import Array


def extract_patches(backend: Backend, x: Array, geometry: ConvolutionGeometry) -> Array:
    """Return the patch of every output location.

    Args:
        backend: Backend of `x`.
        x: ``[batch, ..spatial.., channels]``, or channels first as the geometry says.
        geometry: Where the convolution looks.

    Returns:
        ``[batch, ..locations.., ..kernel.., channels]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> image = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
        >>> geometry = ConvolutionGeometry((2, 2), (1, 1), (1, 1), "VALID")
        >>> extract_patches(backend_of(image), image, geometry)[0, 0, 0].ravel()
        array([1., 2., 4., 5.])
    """
    xp = backend.xp
    x = geometry.to_channels_last(backend, x)
    spatial = x.shape[1:-1]
    pads = geometry.pads(spatial)
    for axis, (before, after) in enumerate(pads, start=1):
        x = _padded(backend, x, axis, before, after)
    locations = geometry.output_spatial(spatial)
    taps = []
    for offsets in product(*map(range, geometry.kernel)):
        window = tuple(
            slice(o * d, o * d + (n - 1) * s + 1 if n else o * d, s)
            for o, d, n, s in zip(
                offsets, geometry.dilation, locations, geometry.strides, strict=True
            )
        )
        taps.append(x[(slice(None), *window, slice(None))])
    patches = xp.stack(taps, axis=-2)
    shape = (x.shape[0], *locations, *geometry.kernel, x.shape[-1])
    return xp.reshape(patches, shape)


def patch_rows(backend: Backend, x: Array, geometry: ConvolutionGeometry) -> Array:
    """Return the patches as rows, ``[batch, locations, kernel * channels]``."""
    patches = extract_patches(backend, x, geometry)
    locations = geometry.num_locations(x)
    width = math.prod(patches.shape[1 + geometry.spatial_rank :])
    return backend.xp.reshape(patches, (x.shape[0], locations, width))


def patch_second_moment(
    backend: Backend,
    towers: Sequence[Array],
    geometry: ConvolutionGeometry,
    *,
    has_bias: bool = False,
) -> Array:
    """Return the second moment of the patches of all cases and locations.

    By products of shifted images or of patches, whichever costs less
    (`kfac_core.statistics.convolution_cost`).

    Args:
        backend: Backend of the towers.
        towers: Inputs, each ``[batch, ..spatial.., channels]``, or channels first.
        geometry: Where the convolution looks.
        has_bias: Whether each patch ends in a one.

    Returns:
        ``[n, n]`` with ``n = kernel * channels``, one more with bias. The ``Omega`` of
        Grosse & Martens (2016), equation 25, divided by the number of locations.
    """
    count = sum(x.shape[0] * geometry.num_locations(x) for x in towers)
    images = [geometry.to_channels_last(backend, x) for x in towers if x.shape[0]]
    last = replace(geometry, channels_last=True)
    parts = []
    for x in images:
        itemsize = backend.xp.finfo(x.dtype).bits // 8
        plan = choose_plan(last, x.shape, itemsize, traced=backend.is_traced(x))
        part = [planned_moment(backend, x, last, plan, count)]
        parts.append([*part, tap_sums(backend, x, last) / count] if has_bias else part)
    moment, *mean = _sum(parts)
    return bordered(backend, moment, mean[0]) if has_bias else moment


def planned_moment(
    backend: Backend, x: Array, geometry: ConvolutionGeometry, plan: Plan, count: int
) -> Array:
    """Return the second moment of one tower's patches, by a given plan.

    Args:
        backend: Backend of `x`.
        x: ``[batch, ..spatial.., channels]``.
        geometry: Where the convolution looks; channels last.
        plan: How to go about it: what comes out is the same but for rounding.
        count: What to divide the sum over patches by.

    Returns:
        ``[kernel * channels, kernel * channels]``, symmetric bit for bit.
    """
    cases = x.shape[0]
    chunks = (
        x[start : min(start + plan.cases, cases), ...]
        for start in range(0, cases, plan.cases)
    )
    if plan.shifted == 0:
        return _sum([_patch_gram(backend, x, geometry)] for x in chunks)[0] / count
    groups = product_groups(axis_pieces(geometry, x.shape[1:-1])[: plan.shifted])
    stride = geometry.strides[0]
    products = _sum(
        shifted_products(
            backend, _unfolded(backend, x, geometry, plan.shifted), groups, stride
        )
        for x in chunks
    )
    products = [part / count for part in products]
    width = math.prod(geometry.kernel[plan.shifted :]) * x.shape[-1]
    device = backend.creation_device(x)
    zeros = backend.xp.zeros((width, width), dtype=x.dtype, device=device)
    kernel = geometry.kernel[: plan.shifted]
    return assembled(backend, groups, products, kernel, zeros)


def _sum(parts: Iterable[Sequence[Array]]) -> list[Array]:
    """Return the sums of the first arrays of all parts, of the second, and so on."""
    total: list[Array] = []
    for arrays in parts:
        total = (
            [known + array for known, array in zip(total, arrays, strict=True)]
            if total
            else list(arrays)
        )
    return total


def _patch_gram(backend: Backend, x: Array, geometry: ConvolutionGeometry) -> Array:
    """Return the Gram matrix of all patches."""
    rows = patch_rows(backend, x, geometry)
    return backend.gram(backend.xp.reshape(rows, (-1, rows.shape[-1])))


def _unfolded(
    backend: Backend, x: Array, geometry: ConvolutionGeometry, shifted: int
) -> Array:
    """Return images with the patches of all axes but the first few.

    Returns:
        ``[first axis, batch, ..other axes.., locations, kernel * channels]`` in C
        order, locations and kernel those of the axes that are not shifted.
    """
    xp = backend.xp
    spatial = x.shape[1:-1]
    head = (spatial[0], x.shape[0], *spatial[1:shifted])
    channels = x.shape[-1]
    x = xp.permute_dims(x, (1, 0, *range(2, x.ndim)))
    if shifted == len(spatial):
        # Through rows, so that it is the copy and no view.
        return xp.reshape(xp.reshape(x, (-1, channels)), (*head, 1, channels))
    tail = ConvolutionGeometry(
        geometry.kernel[shifted:],
        geometry.strides[shifted:],
        geometry.dilation[shifted:],
        geometry.pads(spatial)[shifted:],
    )
    x = xp.reshape(x, (math.prod(head), *spatial[shifted:], channels))
    rows = patch_rows(backend, x, tail)
    return xp.reshape(rows, (*head, *rows.shape[1:]))


def case_gradients(
    backend: Backend,
    x: Array,
    gradients: Array,
    geometry: ConvolutionGeometry,
    *,
    has_bias: bool = False,
) -> Array:
    """Return each case's gradient for the filter, summed over locations.

    Args:
        backend: Backend of both.
        x: Inputs, ``[batch, ..spatial.., channels]``, or channels first.
        gradients: For the outputs, ``[batch, ..locations.., out_channels]``, likewise.
        geometry: Where the convolution looks.
        has_bias: Whether to append the gradient for the bias as a last row.

    Returns:
        ``[batch, kernel * channels, out_channels]``, one more row with bias.
    """
    xp = backend.xp
    patches = patch_rows(backend, x, geometry)
    g = geometry.to_channels_last(backend, gradients)
    g = xp.reshape(g, (*patches.shape[:2], g.shape[-1]))
    per_case = backend.matmul(patches.mT, g)
    if not has_bias:
        return per_case
    return xp.concat([per_case, xp.sum(g, axis=1)[:, None, :]], axis=1)


def _padded(backend: Backend, x: Array, axis: int, before: int, after: int) -> Array:
    """Return `x` with zeros before and after along an axis."""
    # array_api_extra.pad does the same, but not without a warning of torch.compile.
    if before == after == 0:
        return x
    xp = backend.xp
    device = backend.creation_device(x)

    def zeros(width: int) -> Array:
        shape = (*x.shape[:axis], width, *x.shape[axis + 1 :])
        return xp.zeros(shape, dtype=x.dtype, device=device)

    return xp.concat([zeros(before), x, zeros(after)], axis=axis)
