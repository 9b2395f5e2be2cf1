"""Where a convolution looks, without the weights that it looks with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kfac_core.arguments.arrays import check_shape
from kfac_core.backend import Backend
from kfac_core.errors import ShapeError
from kfac_core.statistics.patches.padding import same_pads
from kfac_core.typing import Array


@dataclass(frozen=True)
class Window:
    """Where a convolution of 1, 2 or 3 spatial axes looks.

    It is the part of a `ConvolutionGeometry` that patches depend on. Its numbers are
    not checked: the geometry has checked them.

    Attributes:
        kernel: Spatial sizes of the kernel.
        strides: Steps between output locations.
        dilations: Steps between kernel taps.
        padding: ``"SAME"`` (zeros on both sides so that there are ``ceil(size /
            stride)`` locations; an odd one comes after), ``"VALID"`` (no zeros), or
            explicit pairs.
        channels_last: Whether channels are the last axis, or the one after the batch.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    channels_last: bool = True

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
        return same_pads(spatial, self.kernel, self.strides, self.dilations)

    def output_spatial(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Return the number of locations along each axis; at least zero."""
        # Lists cost a step of training less time than generators.
        if self.padding == "SAME":
            return tuple(
                [-(-n // s) for n, s in zip(spatial, self.strides, strict=True)]
            )
        return tuple(
            [
                max((size + before + after - (k - 1) * d - 1) // s + 1, 0)
                for size, (before, after), k, s, d in zip(
                    spatial,
                    self.pads(spatial),
                    self.kernel,
                    self.strides,
                    self.dilations,
                    strict=True,
                )
            ]
        )

    def num_locations(self, x: Array) -> int:
        """Return the number of output locations of each case of a batch."""
        return math.prod(self.output_spatial(self.spatial_of(x)))

    def mean_locations(self, towers: Sequence[Array]) -> float:
        """Return the number of output locations of a case, the mean over all towers."""
        cases = rows = 0
        for x in towers:
            cases += x.shape[0]
            rows += x.shape[0] * self.num_locations(x)
        return rows / max(cases, 1)

    def to_channels_last(self, backend: Backend, x: Array) -> Array:
        """Return `x` with channels as its last axis."""
        return x if self.channels_last else channels_to_last(backend, x)

    def spatial_of(self, x: Array) -> tuple[int, ...]:
        """Return the spatial sizes of a batch."""
        return tuple(x.shape[1:-1] if self.channels_last else x.shape[2:])

    def check_inputs(self, x: Array, channels: int, layer: str) -> None:
        """Check the shape of inputs, and that they have an output location.

        Args:
            x: ``[batch, ..spatial.., channels]``, or channels first.
            channels: Number of input channels.
            layer: Name of the layer, for the message.

        Raises:
            ShapeError: If the rank, the channels or the spatial sizes do not fit.
        """
        axes = ("size",) * self.spatial_rank
        check_shape(x, self._shape(axes, channels), "inputs", layer)
        spatial = self.spatial_of(x)
        if 0 in self.output_spatial(spatial):
            msg = (
                f"{layer}: inputs of spatial sizes {spatial} have no output location:"
                f" the kernel {self.kernel} with dilations {self.dilations} and padding"
                f" {self.padding} does not fit"
            )
            raise ShapeError(msg)

    def check_outputs(self, x: Array, g: Array, channels: int, layer: str) -> None:
        """Check that gradients have the shape of the convolution's outputs.

        Args:
            x: Inputs, their shape checked.
            g: ``[batch, ..locations.., channels]``, or channels first.
            channels: Number of output channels.
            layer: Name of the layer, for the message.

        Raises:
            ShapeError: If the gradients have another shape.
        """
        locations = self.output_spatial(self.spatial_of(x))
        check_shape(g, self._shape(locations, channels), "outputs_grads", layer)

    def _shape(
        self, spatial: Sequence[int | str], channels: int
    ) -> tuple[int | str, ...]:
        if self.channels_last:
            return ("batch", *spatial, channels)
        return ("batch", channels, *spatial)


def channels_to_last(backend: Backend, x: Array) -> Array:
    """Return `x` with the axis after the batch moved to the end."""
    return backend.xp.permute_dims(x, (0, *range(2, x.ndim), 1))
