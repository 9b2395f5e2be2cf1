"""First and second moments of pixels, for spatially uncorrelated activations.

A convolution's patches hold each pixel as often as kernel taps of output locations fall
on it: pixels at a border less often, and with strides some never. If each pixel is
weighted by the number of its taps, the result is the exact mean over all taps of all
patches, including the zeros of the padding.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from kfac_core.backend import Backend
from kfac_core.statistics.centred_moments import centred, merged, parts
from kfac_core.statistics.patches.window import Window
from kfac_core.statistics.rows import framed, mean_over, second_moment
from kfac_core.statistics.weighted_rows import Roots, by_row, masked, ones_of
from kfac_core.typing import Array, Scalar

PixelWeights: TypeAlias = Literal["all", "usage"]
"""Whether all pixels count alike, or by the kernel taps that fall on them."""


def pixel_moments(
    backend: Backend,
    towers: Sequence[Array],
    window: Window,
    pixel_weights: PixelWeights,
    *,
    about_mean: bool = False,
    roots: Sequence[Array] | None = None,
    cases: Scalar | None = None,
) -> Array:
    """Return the second and first moments of the channels of a pixel.

    Moments about the mean are sums of squares of ``x - c``, with ``c`` near the mean,
    corrected for the difference between ``c`` and the mean. After ``r`` roundings
    (`kfac_backends.runs`) their error is ``(r + 8) u`` times the root of the product of
    two variances, whatever the mean.

    Args:
        backend: Backend of the towers.
        towers: Inputs, each ``[batch, ..spatial.., channels]``, or channels first.
        window: Where the convolution looks.
        pixel_weights: How much each pixel counts.
        about_mean: Whether the second moment is about the mean, as in
            `kfac_core.statistics.centred_moments`.
        roots: For each tower the roots ``[batch]`` of the weights of its cases.
        cases: Replaces the number of all cases; None: their number itself.

    Returns:
        ``[[E[x x'], E[x]], [E[x'], 1]]``, ``[channels + 1, channels + 1]``, or with the
        covariance for ``E[x x']``; with weights, the corner is their mean.
    """
    xp = backend.xp
    images = [window.to_channels_last(backend, x) for x in towers]
    pixels = _pixels(backend, images, window, pixel_weights, roots)
    given = sum(x.shape[0] for x in images)
    share: Scalar = 1.0 if cases is None else given / cases
    samples = zip(images, pixels.of_case, strict=True)
    count = sum(x.shape[0] * n for x, n in samples) / share
    rows = [xp.reshape(x, (-1, x.shape[-1])) for x in images]
    if roots is not None and pixels.roots is not None:
        pairs = zip(rows, pixels.roots, strict=True)
        rows = [masked(backend, x, r) for x, r in pairs]
    if about_mean:
        shift = _mean(backend, rows, pixels.roots)
        rows = [x - shift for x in rows]
    if pixels.roots is not None:
        rows = [x * r[:, None] for x, r in zip(rows, pixels.roots, strict=True)]
    moments = second_moment(
        backend, rows, has_bias=True, roots=pixels.roots, count=count
    )
    if about_mean:
        moments = centred(backend, moments, shift)
    if pixels.padding is not None:
        # The zeros of the padding are samples as well.
        none = xp.zeros_like(moments)
        second, first, _ = parts(none)
        zeros = framed(backend, second, first, first, pixels.padding / count)
        moments = merged(backend, moments, zeros) if about_mean else moments + zeros
    if pixels.weight is None:
        return moments
    second, first, _ = parts(moments)
    return framed(backend, second, first, first, pixels.weight / count)


class _Pixels(NamedTuple):
    """The weights of pixels.

    Attributes:
        of_case: For each tower the number of samples of a case.
        roots: For each tower the roots ``[batch * pixels]`` of the weights of pixels;
            None: all count one.
        padding: Sum of the weights of the samples in the padding; None: there are none.
        weight: Sum of the weights of all samples, without the rounding of the roots;
            None: the sum as it is found.
    """

    of_case: Sequence[int]
    roots: Sequence[Array] | None
    padding: Scalar | None = None
    weight: Scalar | None = None


def _pixels(
    backend: Backend,
    images: Sequence[Array],
    window: Window,
    pixel_weights: PixelWeights,
    roots: Sequence[Array] | None,
) -> _Pixels:
    """Return the weights of the pixels of images, channels last."""
    xp = backend.xp
    sizes = [math.prod(x.shape[1:-1]) for x in images]
    if pixel_weights == "all":
        if roots is None:
            return _Pixels(sizes, None)
        pairs = zip(roots, sizes, strict=True)
        return _Pixels(sizes, [by_row(backend, r, n) for r, n in pairs])
    # A sample is a tap of a patch.
    of_case, of_rows, is_padded = [], [], False
    padding: Scalar = 0
    weight: Scalar = 0
    for k, x in enumerate(images):
        counts = tap_counts(window, x.shape[1:-1])
        taps = math.prod(window.output_spatial(x.shape[1:-1]) + window.kernel)
        missing = taps - math.prod([sum(own) for own in counts])
        own = xp.sqrt(_taps(backend, counts, x))
        of_case.append(taps)
        cases: Scalar = x.shape[0]
        if roots is None:
            root = ones_of(backend, x)
        else:
            root = roots[k]
            cases = xp.sum(root * root)
        of_rows.append(xp.reshape(root[:, None] * own[None, :], (-1,)))
        is_padded = is_padded or missing > 0
        padding, weight = padding + cases * missing, weight + cases * taps
    return _Pixels(of_case, of_rows, padding if is_padded else None, weight)


def _mean(backend: Backend, rows: Sequence[Array], roots: Roots) -> Array:
    """Return the weighted mean of rows, ``[n]``; zero where all weights are zero."""
    if roots is None:
        return mean_over(backend, rows)
    xp, weights = backend.xp, [(r * r)[:, None] for r in roots]
    weighted = [x * w for x, w in zip(rows, weights, strict=True)]
    total = mean_over(backend, weighted, 1.0)
    weight = mean_over(backend, weights, 1.0)
    return total / xp.where(weight > 0, weight, xp.ones_like(weight))


def tap_counts(window: Window, spatial: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return for each axis how many kernel taps fall on each of its places.

    The number of taps on a pixel is the product over the axes.

    Example:
        >>> window = Window((3,), (1,), (1,), "SAME")
        >>> tap_counts(window, (4,))
        ((2, 3, 3, 2),)
    """
    counts = []
    for size, (before, _), locations, kernel, stride, dilation in zip(
        spatial,
        window.pads(spatial),
        window.output_spatial(spatial),
        window.kernel,
        window.strides,
        window.dilations,
        strict=True,
    ):
        places = [
            location * stride + tap * dilation - before
            for location in range(locations)
            for tap in range(kernel)
        ]
        counts.append(tuple(places.count(place) for place in range(size)))
    return tuple(counts)


def _taps(backend: Backend, counts: Sequence[Sequence[int]], like: Array) -> Array:
    """Return the number of taps on each pixel, ``[pixels]``, from that of each axis."""
    xp, device = backend.xp, backend.creation_device(like)
    taps = xp.ones((1,), dtype=like.dtype, device=device)
    for own in counts:
        axis = xp.asarray(list(map(float, own)), dtype=like.dtype, device=device)
        taps = xp.reshape(taps[:, None] * axis[None, :], (-1,))
    return taps
