"""First and second moments of pixels, for spatially uncorrelated activations.

A convolution's patches hold each pixel as often as kernel taps of output locations
fall on it: those at a border more seldom, and with strides some never. Weighted by
that, the mean over all taps of all patches is exact, the zeros of the padding among
them.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from kfac_core.backend import Backend
from kfac_core.statistics.convolution_geometry import ConvolutionGeometry
from kfac_core.statistics.covariance import framed, mean_over, second_moment
from kfac_core.statistics.weighted_rows import by_row, weigh
from kfac_core.typing import Array, Scalar

PixelWeights: TypeAlias = Literal["all", "usage"]
"""Whether all pixels count alike, or by the kernel taps that fall on them."""


def pixel_moments(
    backend: Backend,
    towers: Sequence[Array],
    geometry: ConvolutionGeometry,
    pixel_weights: PixelWeights,
    *,
    roots: Sequence[Array] | None = None,
    cases: Scalar | None = None,
) -> Array:
    """Return the moments of the channels of a pixel, second and first.

    Args:
        backend: Backend of the towers.
        towers: Inputs, each ``[batch, ..spatial.., channels]``, or channels first.
        geometry: Where the convolution looks.
        pixel_weights: How much each pixel counts.
        roots: For each tower the roots ``[batch]`` of the weights of its cases.
        cases: What the number of all cases stands for; None: itself.

    Returns:
        ``[[E[x x'], E[x]], [E[x'], 1]]``, ``[channels + 1, channels + 1]``; with
        weights, the corner is their mean.
    """
    xp = backend.xp
    images = [geometry.to_channels_last(backend, x) for x in towers]
    sizes = [math.prod(x.shape[1:-1]) for x in images]
    of_cases = None
    if roots is not None:
        images = [weigh(backend, x, r) for x, r in zip(images, roots, strict=True)]
        of_cases = [by_row(backend, r, n) for r, n in zip(roots, sizes, strict=True)]
    given = sum(x.shape[0] for x in images)
    share: Scalar = 1.0 if cases is None else given / cases
    if pixel_weights == "all":
        rows = [xp.reshape(x, (-1, x.shape[-1])) for x in images]
        count = sum(row.shape[0] for row in rows) / share
        return second_moment(backend, rows, has_bias=True, roots=of_cases, count=count)
    halves = [_weighted(backend, x, geometry, 0.5) for x in images]
    wholes = [_weighted(backend, x, geometry, 1.0) for x in images]
    locations = [geometry.num_locations(x) for x in towers]
    patches = sum(x.shape[0] * n for x, n in zip(images, locations, strict=True))
    # A mean over the taps of all patches, padding included.
    taps = patches * math.prod(geometry.kernel) / share
    moment = second_moment(backend, halves, count=taps)
    if roots is None or of_cases is None:
        mean = mean_over(backend, wholes, taps)
        return framed(backend, moment, mean, mean, share)
    pairs = zip(wholes, of_cases, strict=True)
    mean = mean_over(backend, [x * r[:, None] for x, r in pairs], taps)
    squares = [(r * r)[:, None] * n for r, n in zip(roots, locations, strict=True)]
    corner = mean_over(backend, squares, patches / share)[0]
    return framed(backend, moment, mean, mean, corner)


def tap_counts(
    geometry: ConvolutionGeometry, spatial: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Return for each axis how many kernel taps fall on each of its places.

    The number of taps on a pixel is the product over the axes.

    Example:
        >>> geometry = ConvolutionGeometry((3,), (1,), (1,), "SAME")
        >>> tap_counts(geometry, (4,))
        ((2, 3, 3, 2),)
    """
    counts = []
    for size, (before, _), locations, kernel, stride, dilation in zip(
        spatial,
        geometry.pads(spatial),
        geometry.output_spatial(spatial),
        geometry.kernel,
        geometry.strides,
        geometry.dilation,
        strict=True,
    ):
        places = [
            location * stride + tap * dilation - before
            for location in range(locations)
            for tap in range(kernel)
        ]
        counts.append(tuple(places.count(place) for place in range(size)))
    return tuple(counts)


def _weighted(
    backend: Backend, x: Array, geometry: ConvolutionGeometry, exp: float
) -> Array:
    """Return pixels as rows, each times a power of the number of taps on it."""
    xp, rank = backend.xp, x.ndim
    device = backend.creation_device(x)
    for axis, counts in enumerate(tap_counts(geometry, x.shape[1:-1]), start=1):
        powers = [count**exp for count in counts]
        weights = xp.asarray(powers, dtype=x.dtype, device=device)
        shape = (1,) * axis + (len(counts),) + (1,) * (rank - axis - 1)
        x = x * xp.reshape(weights, shape)
    rows: Array = xp.reshape(x, (-1, x.shape[-1]))
    return rows
