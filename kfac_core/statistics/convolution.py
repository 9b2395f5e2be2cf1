"""Patches of a convolution's inputs and their second moment.

The patch of an output location holds the inputs that its kernel sees, zeros outside:
``patches @ filter.reshape(-1, out_channels)`` is the convolution. A patch is laid out
kernel axes first, channels last (kernel height, kernel width, channel), as the
leading axes of the filter are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import array_api_extra as xpx

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.statistics.covariance import second_moment
from kfac_core.typing import Array

Padding = str | int | tuple[int | tuple[int, int], ...]
"""``"SAME"``, ``"VALID"``, a width, or for each axis a width or ``(before, after)``."""


@dataclass(frozen=True)
class ConvolutionGeometry:
    """Where a convolution of 1, 2 or 3 spatial axes looks.

    Attributes:
        kernel: Spatial sizes of the kernel.
        strides: Steps between output locations.
        dilation: Steps between kernel taps.
        padding: ``"SAME"`` (zeros, the odd one after, so that there are
            ``ceil(size / stride)`` locations), ``"VALID"`` (none), or explicit pairs.
        channels_last: Whether channels are the last axis, or the one after the batch.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    channels_last: bool = True

    @classmethod
    def of(
        cls,
        kernel: Sequence[int],
        strides: Sequence[int] | int | None,
        dilation: Sequence[int] | int | None,
        padding: Padding,
        data_format: str | None,
        layer: str,
    ) -> "ConvolutionGeometry":
        """Make a geometry from the forms that users write.

        Args:
            kernel: Spatial sizes of the kernel, one to three.
            strides: One for each spatial axis, or one for all; None: 1.
            dilation: One for each spatial axis, or one for all; None: 1.
            padding: ``"SAME"`` or ``"VALID"`` in any case, a width for all axes, or
                for each axis a width or a pair ``(before, after)``.
            data_format: None or one that ends in C (``"NHWC"``): channels last; one
                that starts with NC (``"NCHW"``): channels first.
            layer: Name of the layer, for the messages.

        Returns:
            The geometry.

        Raises:
            ArgumentError: If a form is unknown or a number is not positive.
            ShapeError: If a length is not that of the kernel.
        """
        rank = len(kernel)
        if not 1 <= rank <= 3:
            msg = (
                f"{layer}: the kernel {tuple(kernel)} has {rank} axes, expected 1 to 3"
            )
            raise ShapeError(msg)
        return cls(
            kernel=_positive(kernel, rank, "kernel", layer),
            strides=_positive(strides, rank, "strides", layer),
            dilation=_positive(dilation, rank, "dilation", layer),
            padding=_padding(padding, rank, layer),
            channels_last=_is_channels_last(data_format, rank, layer),
        )

    @property
    def spatial_rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    def pads(self, spatial: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the zeros before and after each spatial axis of the given sizes."""
        if self.padding == "VALID":
            return tuple((0, 0) for _ in spatial)
        if self.padding != "SAME":
            return self.padding  # type: ignore[return-value]
        pads = []
        for size, k, s, d in zip(
            spatial, self.kernel, self.strides, self.dilation, strict=True
        ):
            needed = (math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size
            total = max(needed, 0)
            pads.append((total // 2, total - total // 2))
        return tuple(pads)

    def output_spatial(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Return the number of locations along each axis; none below zero."""
        return tuple(
            max((size + before + after - (k - 1) * d - 1) // s + 1, 0)
            for size, (before, after), k, s, d in zip(
                spatial,
                self.pads(spatial),
                self.kernel,
                self.strides,
                self.dilation,
                strict=True,
            )
        )

    def to_channels_last(self, backend: Backend, x: Array) -> Array:
        """Return `x` with channels as its last axis."""
        if self.channels_last:
            return x
        return backend.xp.permute_dims(x, (0, *range(2, x.ndim), 1))

    def spatial_of(self, x: Array) -> tuple[int, ...]:
        """Return the spatial sizes of a batch."""
        return tuple(x.shape[1:-1] if self.channels_last else x.shape[2:])


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
    if any(before or after for before, after in pads):
        x = xpx.pad(x, ((0, 0), *pads, (0, 0)), xp=xp)
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
    locations = math.prod(geometry.output_spatial(geometry.spatial_of(x)))
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


def _positive(
    values: Sequence[int] | int | None, rank: int, argument: str, layer: str
) -> tuple[int, ...]:
    """Return one positive integer for each spatial axis."""
    if values is None:
        values = 1
    if isinstance(values, int):
        values = (values,) * rank
    if len(values) != rank:
        msg = f"{layer}: {argument} is {tuple(values)}, expected {rank} numbers"
        raise ShapeError(msg)
    if any(value < 1 for value in values):
        msg = f"{layer}: {argument} is {tuple(values)}, expected positive numbers"
        raise ArgumentError(msg)
    return tuple(int(value) for value in values)


def _padding(
    padding: Padding, rank: int, layer: str
) -> str | tuple[tuple[int, int], ...]:
    """Return ``"SAME"``, ``"VALID"`` or one pair for each spatial axis."""
    if isinstance(padding, str) and padding.upper() in {"SAME", "VALID"}:
        return padding.upper()
    if isinstance(padding, int):
        padding = (padding,) * rank
    if isinstance(padding, tuple | list) and len(padding) == rank:
        pairs = tuple((p, p) if isinstance(p, int) else tuple(p) for p in padding)
        if all(len(pair) == 2 and min(pair) >= 0 for pair in pairs):
            return pairs  # type: ignore[return-value]
    msg = (
        f"{layer}: padding is {padding!r}, expected 'SAME', 'VALID', a width, or"
        f" {rank} widths or pairs (before, after), none negative"
    )
    raise ArgumentError(msg)


def _is_channels_last(data_format: str | None, rank: int, layer: str) -> bool:
    """Say where the channels are, by the name of a data format."""
    spatial = {1: "W", 2: "HW", 3: "DHW"}[rank]
    if data_format in {None, f"N{spatial}C"}:
        return True
    if data_format == f"NC{spatial}":
        return False
    msg = (
        f"{layer}: data_format is {data_format!r}, expected None, 'N{spatial}C' or"
        f" 'NC{spatial}'"
    )
    raise ArgumentError(msg)
