"""Transposed convolutions."""

import math
from dataclasses import dataclass, field

from kfac_core.arguments.arrays import check_shape
from kfac_core.backend import Backend
from kfac_core.linalg.parameters import Shapes
from kfac_core.reference.affine import AffineCache, AffineLayer
from kfac_core.reference.layer import Tensors
from kfac_core.registry import backend_of
from kfac_core.statistics.patches.geometry import ConvolutionGeometry, Padding
from kfac_core.statistics.patches.second_moment import patch_rows
from kfac_core.statistics.patches.transposed import (
    TransposedWindow,
    output_patches_image,
    spread_inputs_image,
)
from kfac_core.typing import Array


@dataclass(frozen=True)
class ConvTranspose(AffineLayer):
    """The adjoint of a convolution, of images ``[batch, ..spatial.., in_channels]``.

    It is computed as a convolution of the inputs with zeros between neighbours. Groups
    are computed with weights of all channels, which are zero between groups. This suits
    small layers.

    Attributes:
        filter_shape: ``(..kernel.., in_channels, out_channels / num_groups)``.
        strides: Steps between the outputs of neighbouring inputs.
        padding: ``"VALID"``, ``"SAME"``, or widths that are cut off the outputs.
        output_padding: Number of outputs added after the last one; None, for
            ``"SAME"``: as many as possible.
        dilations: Steps between kernel taps.
        num_groups: Number of groups.
        has_bias: Whether there is a bias.
        mirrored: Whether the kernel runs backwards.

    Example:
        >>> import numpy as np
        >>> layer = ConvTranspose((2, 1, 1), strides=2, has_bias=False)
        >>> weights = np.asarray([1.0, 10.0]).reshape(2, 1, 1)
        >>> x = np.asarray([1.0, 2.0]).reshape(1, 2, 1)
        >>> layer.forward((weights,), x)[0].ravel()
        array([ 1., 10.,  2., 20.])
    """

    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | int = 1
    padding: Padding = "VALID"
    output_padding: tuple[int, ...] | int | None = 0
    dilations: tuple[int, ...] | int = 1
    num_groups: int = 1
    has_bias: bool = True
    mirrored: bool = False
    geometry: ConvolutionGeometry = field(init=False, repr=False, compare=False)
    window: TransposedWindow = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the geometry, once; errors as in `ConvolutionGeometry`."""
        super().__post_init__()
        geometry = ConvolutionGeometry(
            self.filter_shape,
            padding=self.padding,
            strides=self.strides,
            dilations=self.dilations,
            num_groups=self.num_groups,
            name=self.label,
        )
        window = TransposedWindow.of(
            geometry.window, self.output_padding, self.label, mirrored=self.mirrored
        )
        object.__setattr__(self, "geometry", geometry)
        object.__setattr__(self, "window", window)

    @property
    def param_shapes(self) -> Shapes:
        """``(filter_shape,)``, or that and the shape of the bias."""
        bias = ((self.bias_size,),) if self.bias_size else ()
        return (self.filter_shape, *bias)

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """``(..kernel.., in_channels, out_channels)``: all groups together."""
        return (*self.filter_shape[:-1], self.filter_shape[-1] * self.num_groups)

    @property
    def bias_size(self) -> int:
        """Number of output channels, or 0."""
        return self.weights_shape[-1] if self.has_bias else 0

    def init_from(self, normals: Array) -> Tensors:
        """Return weights of variance one over inputs of a group, and zeros."""
        xp = backend_of(normals).xp
        size = math.prod(self.filter_shape)
        weights = xp.reshape(normals[:size], self.filter_shape)
        bias = (xp.zeros_like(normals[size:]),) if self.bias_size else ()
        return (weights * math.sqrt(self.num_groups / self.filter_shape[-2]), *bias)

    def rows(self, backend: Backend, x: Array, like: Array) -> Array:
        """Return the patches of the outputs, ``[batch, locations, kernel * in]``."""
        sizes = ("size",) * (len(self.filter_shape) - 2)
        check_shape(x, ("batch", *sizes, self.filter_shape[-2]), "inputs", self.label)
        image, seen = spread_inputs_image(
            backend, x, self.window, self.output_shape(x)[1:-1]
        )
        patches = patch_rows(backend, image, seen)
        # Without a mirrored kernel, the patches come in reverse order.
        return patches if self.mirrored else backend.xp.flip(patches, axis=1)

    def output_shape(self, x: Array) -> tuple[int, ...]:
        """``(batch, ..locations.., out_channels)``."""
        sizes = (
            self.window.sizes(axis, size) for axis, size in enumerate(x.shape[1:-1])
        )
        return (x.shape[0], *(r.stop - 1 for r in sizes), self.weights_shape[-1])

    def backward(self, params: Tensors, cache: AffineCache, g: Array) -> Array:
        """Return the convolution of `g`; see `Layer.backward`."""
        backend = backend_of(g, *params)
        xp, x = backend.xp, cache.inputs
        image, seen = output_patches_image(backend, g, self.window, x.shape[1:-1])
        patches = patch_rows(backend, image, seen)
        weights = self._whole(backend, params)[0]
        taps = xp.reshape(weights, (-1, *weights.shape[-2:]))
        matrix = xp.reshape(xp.permute_dims(taps, (0, 2, 1)), (-1, x.shape[-1]))
        gradient = xp.reshape(backend.matmul(patches, matrix), x.shape)
        # The patches of a mirrored kernel come in reverse order.
        spatial = tuple(range(1, x.ndim - 1))
        return xp.flip(gradient, axis=spatial) if self.mirrored else gradient

    def param_gradients(self, cache: AffineCache, g: Array) -> Tensors:
        """Return the gradients, summed over the batch; see `Layer.param_gradients`."""
        weights, *bias = super().param_gradients(cache, g)
        return (self._own(backend_of(g), weights), *bias)

    def case_gradients(self, cache: AffineCache, g: Array) -> Tensors:
        """Return each case's gradients; see `Layer.case_gradients`."""
        weights, *bias = super().case_gradients(cache, g)
        return (self._own(backend_of(g), weights), *bias)

    def _apply(self, backend: Backend, rows: Array, params: Tensors) -> Array:
        return super()._apply(backend, rows, self._whole(backend, params))

    def _whole(self, backend: Backend, params: Tensors) -> Tensors:
        """Return the parameters with weights of all channels, zero between groups."""
        weights, *bias = params
        if self.num_groups == 1:
            return params
        xp, groups = backend.xp, self.num_groups
        channels, outputs = self.filter_shape[-2:]
        device = backend.creation_device(weights)
        eye = xp.eye(groups, dtype=weights.dtype, device=device)
        cells = xp.reshape(weights, (-1, groups, channels // groups, 1, outputs))
        whole = cells * eye[None, :, None, :, None]
        return (xp.reshape(whole, self.weights_shape), *bias)

    def _own(self, backend: Backend, weights: Array) -> Array:
        """Return weights of all channels without those between groups."""
        xp, groups = backend.xp, self.num_groups
        if groups == 1:
            return weights
        *kernel, channels, outputs = self.filter_shape
        batch = weights.shape[: -len(self.filter_shape)]
        cells = xp.reshape(
            weights,
            (*batch, math.prod(kernel), groups, channels // groups, groups, outputs),
        )
        own = xp.stack([cells[..., i, :, i, :] for i in range(groups)], axis=-3)
        return xp.reshape(own, (*batch, *self.filter_shape))
