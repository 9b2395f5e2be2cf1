"""Patches of a convolution's inputs and their second moment.

The patch of an output location holds the inputs that its kernel sees, zeros outside:
``patches @ filter.reshape(-1, out_channels)`` is the convolution. A patch is laid out
kernel axes first, channels last (kernel height, kernel width, channel), as the
leading axes of the filter are.
"""

import math
from collections.abc import Sequence
from itertools import product

from kfac_core.backend import Backend
from kfac_core.statistics.convolution_geometry import ConvolutionGeometry
from kfac_core.statistics.covariance import second_moment
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

    Args:
        backend: Backend of the towers.
        towers: Inputs, each ``[batch, ..spatial.., channels]``, or channels first.
        geometry: Where the convolution looks.
        has_bias: Whether each patch ends in a one.

    Returns:
        ``[n, n]`` with ``n = kernel * channels``, one more with bias. The ``Omega`` of
        Grosse & Martens (2016), equation 25, divided by the number of locations.
    """
    rows = []
    for x in towers:
        patches = patch_rows(backend, x, geometry)
        count = patches.shape[0] * patches.shape[1]
        rows.append(backend.xp.reshape(patches, (count, patches.shape[2])))
    return second_moment(backend, rows, has_bias=has_bias)


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
    per_case = patches.mT @ g
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
