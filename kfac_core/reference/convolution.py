"""Convolutions of images."""

from dataclasses import dataclass, field, replace

import array_api_extra as xpx

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError
from kfac_core.reference.affine import AffineCache, AffineLayer
from kfac_core.reference.layer import Tensors
from kfac_core.registry import backend_of
from kfac_core.statistics.patches.geometry import ConvolutionGeometry
from kfac_core.statistics.patches.second_moment import extract_patches, patch_rows
from kfac_core.typing import Array


@dataclass(frozen=True)
class Conv2D(AffineLayer):
    """Cross-correlation of images ``[batch, height, width, channels]`` with a filter.

    Attributes:
        filter_shape: ``(kernel height, kernel width, in_channels, out_channels)``.
        strides: Steps between output locations.
        padding: ``"SAME"`` (zeros, the odd one after) or ``"VALID"`` (none).
        has_bias: Whether there is a bias.

    Example:
        >>> import numpy as np
        >>> layer = Conv2D((2, 2, 1, 1), padding="VALID", has_bias=False)
        >>> image = np.arange(9.0).reshape(1, 3, 3, 1)
        >>> layer.forward((np.ones((2, 2, 1, 1)),), image)[0].reshape(2, 2)
        array([[ 8., 12.],
               [20., 24.]])
    """

    filter_shape: tuple[int, int, int, int]
    strides: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    has_bias: bool = True
    geometry: ConvolutionGeometry = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the geometry, once.

        Raises:
            ArgumentError: If the padding is given by widths: these may exceed the
                kernel, and then `backward` is another.
        """
        super().__post_init__()
        geometry = ConvolutionGeometry(
            self.filter_shape,
            padding=self.padding,
            strides=self.strides,
            name=self.label,
        )
        if not isinstance(geometry.padding, str):
            msg = f"{self.label}: padding is {self.padding!r}, expected SAME or VALID"
            raise ArgumentError(msg)
        object.__setattr__(self, "geometry", geometry)

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """``filter_shape``."""
        return self.filter_shape

    @property
    def bias_size(self) -> int:
        """Number of output channels, or 0."""
        return self.filter_shape[-1] if self.has_bias else 0

    def rows(self, backend: Backend, x: Array, like: Array) -> Array:
        """Return the patches, ``[batch, locations, kernel * in_channels]``."""
        window = self.geometry.window
        window.check_inputs(x, self.filter_shape[2], self.label)
        return patch_rows(backend, x, window)

    def output_shape(self, x: Array) -> tuple[int, ...]:
        """``(batch, output height, output width, out_channels)``."""
        locations = self.geometry.window.output_spatial(x.shape[1:-1])
        return (x.shape[0], *locations, self.filter_shape[-1])

    def backward(self, params: Tensors, cache: AffineCache, g: Array) -> Array:
        """Return the transposed convolution of `g`; see `Layer.backward`.

        Where an output at ``t`` sees the input at ``i = stride t + o - pad`` through
        the tap ``W[o]``,

            dx[i] = sum_o z[i + pad - o] W[o]',    z[stride t] = g[t], zero elsewhere:

        a convolution of ``z`` with the filter turned around, whose border is such that
        its outputs are as many as the inputs.
        """
        backend = backend_of(cache.inputs, g, *params)
        xp = backend.xp
        shape = cache.inputs.shape
        z = _spread(backend, g, self.strides)
        window, spatial = self.geometry.window, shape[1:-1]
        kernel = window.kernel
        border = tuple(
            (k - 1 - pad, size + pad - spread)
            for k, (pad, _), size, spread in zip(
                kernel,
                window.pads(spatial),
                spatial,
                z.shape[1:-1],
                strict=True,
            )
        )
        turned = replace(window, strides=(1, 1), padding=border)
        # [kernel, in, out] -> [kernel, out, in], the kernel read backwards.
        taps = xp.permute_dims(xp.flip(params[0], axis=(0, 1)), (0, 1, 3, 2))
        patches = extract_patches(backend, z, turned)
        flat = xp.reshape(patches, (-1, kernel[0] * kernel[1] * g.shape[-1]))
        gradient = backend.matmul(flat, xp.reshape(taps, (-1, shape[-1])))
        return xp.reshape(gradient, shape)


def _spread(backend: Backend, g: Array, strides: tuple[int, int]) -> Array:
    """Return `g` with ``stride - 1`` zeros between neighbours along spatial axes."""
    if strides == (1, 1):
        return g
    xp = backend.xp
    batch, height, width, channels = g.shape
    down, right = strides
    cells = xp.reshape(g, (batch, height, 1, width, 1, channels))
    zeros = ((0, 0), (0, 0), (0, down - 1), (0, 0), (0, right - 1), (0, 0))
    padded = xpx.pad(cells, zeros, xp=xp)
    image = xp.reshape(padded, (batch, height * down, width * right, channels))
    return image[:, : (height - 1) * down + 1, : (width - 1) * right + 1, :]
