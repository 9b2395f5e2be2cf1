"""Where a convolution looks: kernel, strides, dilation, padding, data format."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from kfac_core.arguments import check_shape
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.exponents import shown
from kfac_core.sizes import as_shape, as_size
from kfac_core.typing import Array

Padding = str | int | tuple[int | tuple[int, int], ...]
"""``"SAME"``, ``"VALID"``, a width, or for each axis a width or ``(before, after)``."""


DATA_FORMATS = (None, "NWC", "NHWC", "NDHWC", "NCW", "NCHW", "NCDHW")
"""Where the channels are, for 1 to 3 spatial axes; None: last."""


@dataclass(frozen=True)
class ConvolutionGeometry:
    """Where a convolution of 1, 2 or 3 spatial axes looks.

    Attributes:
        kernel: Spatial sizes of the kernel.
        strides: Steps between output locations.
        dilation: Steps between kernel taps.
        padding: ``"SAME"`` (zeros on both sides so that there are ``ceil(size /
            stride)`` locations; an odd one comes after), ``"VALID"`` (no zeros), or
            explicit pairs.
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
            padding: ``"SAME"`` or ``"VALID"``, in capitals or not; a width for all
                axes; or for each axis a width or a pair ``(before, after)``.
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
                f"{layer}: the kernel {tuple(kernel)} of filter_shape has {rank} axes,"
                " expected 1 to 3"
            )
            raise ShapeError(msg)
        return cls(
            kernel=_positive(kernel, rank, "kernel", layer),
            strides=_positive(strides, rank, "strides", layer),
            dilation=_positive(dilation, rank, "dilation", layer),
            padding=_padding(padding, rank, layer),
            channels_last=is_channels_last(data_format, rank, layer),
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
        """Return the number of locations along each axis; at least zero."""
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

    def num_locations(self, x: Array) -> int:
        """Return the number of output locations of each case of a batch."""
        return math.prod(self.output_spatial(self.spatial_of(x)))

    def mean_locations(self, towers: Sequence[Array]) -> float:
        """Return the number of output locations of a case, the mean over all towers."""
        cases = sum(x.shape[0] for x in towers)
        rows = sum(x.shape[0] * self.num_locations(x) for x in towers)
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
                f" the kernel {self.kernel} with dilation {self.dilation} and padding"
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


def _positive(values: Any, rank: int, argument: str, layer: str) -> tuple[int, ...]:
    """Return one positive integer for each spatial axis."""
    if values is None:
        return (1,) * rank
    if isinstance(values, str) or not isinstance(values, Sequence):
        return (as_size(values, argument, layer),) * rank
    if len(values) != rank:
        given = shown(tuple(values))
        msg = f"{layer}: {argument} is {given}, expected {rank} numbers"
        raise ShapeError(msg)
    return as_shape(values, argument, layer)


def _padding(
    padding: Padding, rank: int, layer: str
) -> str | tuple[tuple[int, int], ...]:
    """Return ``"SAME"``, ``"VALID"`` or one pair for each spatial axis."""
    if isinstance(padding, str) and padding.upper() in {"SAME", "VALID"}:
        return padding.upper()
    widths = padding if isinstance(padding, tuple | list) else (padding,) * rank
    pairs = tuple(
        tuple(width) if isinstance(width, tuple | list) else (width, width)
        for width in widths
    )
    if len(pairs) == rank and all(
        len(pair) == 2 and all(map(is_width, pair)) for pair in pairs
    ):
        return tuple((int(before), int(after)) for before, after in pairs)
    msg = (
        f"{layer}: padding is {shown(padding)}, expected 'SAME', 'VALID', a width, or"
        f" {rank} widths or pairs (before, after), none negative"
    )
    raise ArgumentError(msg)


def is_width(value: object) -> bool:
    """Return whether `value` can be a number of zeros beside an axis."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return 0 <= int(value) < 2**63


def channels_to_last(backend: Backend, x: Array) -> Array:
    """Return `x` with the axis after the batch moved to the end."""
    return backend.xp.permute_dims(x, (0, *range(2, x.ndim), 1))


def is_channels_last(data_format: str | None, rank: int, layer: str) -> bool:
    """Return where the channels are, by the name of a data format.

    Args:
        data_format: None, or such as ``"NHWC"`` or ``"NCHW"``.
        rank: Number of spatial axes.
        layer: Name of the layer, for the message.

    Returns:
        True if they are last, False if they come after the batch.

    Raises:
        ArgumentError: If the name is not one for this number of axes.
    """
    spatial = {1: "W", 2: "HW", 3: "DHW"}.get(rank, "..")
    given: object = data_format
    if given is None:
        return True
    if isinstance(given, str) and given in {f"N{spatial}C", f"NC{spatial}"}:
        return given.endswith("C")
    msg = (
        f"{layer}: data_format is {shown(data_format)}, expected None, 'N{spatial}C' or"
        f" 'NC{spatial}'"
    )
    raise ArgumentError(msg)
