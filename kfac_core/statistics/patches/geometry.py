"""`ConvolutionGeometry`: all that a convolution is, except for its weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kfac_core.arguments.options import check_options
from kfac_core.arguments.powers import shown
from kfac_core.arguments.sizes import as_shape, as_size
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.linalg.layouts import KernelLayout, Layout, kernel_layout
from kfac_core.statistics.patches.padding import as_padding
from kfac_core.statistics.patches.window import Window

Padding: TypeAlias = str | int | Sequence[int | Sequence[int]]
"""``"SAME"``, ``"VALID"``, a width, or for each axis a width or ``(before, after)``."""

Steps: TypeAlias = Sequence[int] | int
"""Strides or dilations: one for each spatial axis, or one for all."""

DATA_FORMATS = (None, "NWC", "NHWC", "NDHWC", "NCW", "NCHW", "NCDHW")
"""Where the channels are, for 1 to 3 spatial axes; None: last."""


@dataclass(frozen=True)
class ConvolutionGeometry:
    """The geometry of a convolution of 1, 2 or 3 spatial axes.

    Factors, blocks and registered layers of a convolution take this one value, made and
    checked once, and pass it whole. All of them have the same names and the same forms
    for it, and two layers have the same geometry exactly if these values are equal:
    ``strides=2`` is stored as ``(2, 2)``, and ``padding=1`` as ``((1, 1), (1, 1))``.

    It has two parts. The `window` says where the kernel looks; statistics of patches
    are functions of it, and of nothing else here. The shape of the weights, their
    groups and their `layout` are what a block needs to read and write parameters.

    Attributes:
        filter_shape: Shape of the weights as they lie in `layout`:
            ``(..kernel.., in_channels, out_channels)``; with groups ``(..kernel..,
            in_channels / num_groups, out_channels)``.
        padding: ``"SAME"`` (zeros on both sides so that there are ``ceil(size /
            stride)`` locations; an odd one comes after), ``"VALID"`` (no zeros), a
            width for all axes, or for each spatial axis a width or a pair ``(before,
            after)``.
        strides: Steps between output locations: one for each spatial axis, or one for
            all.
        dilations: Steps between kernel taps, in the same forms.
        num_groups: Number of groups of channels. Each group has weights of its own.
        data_format: None or such as ``"NHWC"``: channels last; such as ``"NCHW"``:
            channels first. It describes inputs and outputs, and not the weights.
        layout: How the weights lie: ``"HWIO"``, or another order such as PyTorch's
            ``"OIHW"``, also in one and three dimensions; see
            `kfac_core.linalg.layouts`.
        name: Name of the layer, for messages.
        window: Where the kernel looks.
        weights: The layout of these weights, with their shapes.

    Example:
        >>> geometry = ConvolutionGeometry((3, 3, 8, 16), padding="SAME", strides=2)
        >>> geometry.strides, geometry.window.output_spatial((28, 28))
        ((2, 2), (14, 14))
        >>> ConvolutionGeometry((16, 8, 3, 3), padding=1, layout="OIHW").shape
        (3, 3, 8, 16)
    """

    filter_shape: Sequence[int]
    padding: Padding = field(kw_only=True)
    strides: Steps = field(default=1, kw_only=True)
    dilations: Steps = field(default=1, kw_only=True)
    num_groups: int = field(default=1, kw_only=True)
    data_format: str | None = field(default=None, kw_only=True)
    layout: KernelLayout = field(default="HWIO", kw_only=True)
    name: str = field(default="", kw_only=True, repr=False, compare=False)
    window: Window = field(init=False, repr=False, compare=False)
    weights: Layout = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write every argument in one form, and find what follows from them.

        Raises:
            ArgumentError: If a form is unknown, or a number is not positive.
            ShapeError: If there are fewer than one or more than three spatial axes, or
                a length is not their number.
        """
        check_options(self)
        label, written = self.label, tuple(self.filter_shape)
        weights = kernel_layout(self.layout, written, label)
        kernel = weights.standard_shape[:-2]
        window = Window(
            kernel,
            _steps(self.strides, len(kernel), "strides", label),
            _steps(self.dilations, len(kernel), "dilations", label),
            as_padding(self.padding, len(kernel), label),
            is_channels_last(self.data_format, len(kernel), label),
        )
        for option in ("strides", "dilations", "padding"):
            object.__setattr__(self, option, getattr(window, option))
        object.__setattr__(self, "window", window)
        object.__setattr__(self, "weights", weights)

    @property
    def label(self) -> str:
        """Name for messages."""
        return self.name or type(self).__name__

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weights in the library's order: kernel, inputs, outputs."""
        return self.weights.standard_shape

    @property
    def kind(self) -> str:
        """What the statistics of patches depend on, in words.

        Two factors with equal words can read each other's states. Where channels are,
        and how the weights lie, makes no difference.
        """
        parts = (self.shape, self.padding, self.strides, self.dilations)
        return f"{parts} in {self.num_groups} groups"


def check_geometry(spec: Any, *, grouped: bool = False) -> None:
    """Check that a spec's geometry is one, and has groups only where it may.

    Args:
        spec: The spec, with a ``geometry`` and a ``label``.
        grouped: Whether there may be more groups than one.

    Raises:
        ArgumentError: If the geometry is anything else.
    """
    value = spec.geometry
    if not isinstance(value, ConvolutionGeometry):
        msg = (
            f"{spec.label}: geometry is {shown(value)}, expected a ConvolutionGeometry,"
            ' such as kfac_core.ConvolutionGeometry((3, 3, 8, 16), padding="SAME")'
        )
        raise ArgumentError(msg)
    if value.num_groups > 1 and not grouped:
        msg = (
            f"{spec.label}: geometry has {value.num_groups} groups, expected one; a"
            " grouped convolution has a GroupedConvKFCBasicFB"
        )
        raise ArgumentError(msg)


def _steps(values: Any, rank: int, argument: str, layer: str) -> tuple[int, ...]:
    """Return one positive integer for each spatial axis."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        return (as_size(values, argument, layer),) * rank
    if len(values) != rank:
        msg = (
            f"{layer}: {argument} is {shown(tuple(values))}, expected one number, or"
            f" {rank} numbers: one for each axis of the kernel, and none for the batch"
            " and the channels"
        )
        raise ShapeError(msg)
    return as_shape(values, argument, layer)


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
