"""Registration of convolutions."""

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

from kfac_core.errors import ShapeError
from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.records import Key
from kfac_core.layer_collection.sites import Names, Reuse, as_use, as_uses
from kfac_core.statistics.convolution_geometry import Padding
from kfac_core.statistics.patch_functions import geometry_for

Steps: TypeAlias = Sequence[int] | int | None
"""One for each spatial axis, or of full rank (``[1, s, s, 1]``), or one for all."""

_KERNEL = ("depth", "height", "width")


class ConvolutionRegistrations(Registrations):
    """Registers convolutions.

    Strides and dilation may be spatial or of full rank, and the block's spec has them
    spatial. Unlike in the original, channels may come first (``data_format``), and
    every approximation gets them all.
    """

    def register_conv2d(
        self,
        params: Names,
        site: str,
        strides: Steps,
        padding: Padding,
        *,
        data_format: str | None = None,
        dilations: Steps = None,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a convolution of two spatial axes.

        Args:
            params: Names of the weights ``[height, width, in_channels, out_channels]``,
                or of these and the bias ``[out_channels]``.
            site: Gives inputs and gradients as `kfac_core.ConvKFCBasicFB` takes them.
            strides: For each spatial axis, or ``[1, rows, columns, 1]``; None: 1.
            padding: ``"SAME"``, ``"VALID"``, a width, or for each spatial axis a width
                or a pair.
            data_format: None or ``"NHWC"``: channels last; ``"NCHW"``: channels first.
            dilations: As `strides`.
            approx: ``"kron"``, ``"kron_sua"`` or ``"diagonal"``; see `LayerCollection`.
            reuse: As in `register_block`.
            name: Name of the layer, for messages.
            **options: Further fields of its block.

        Returns:
            The new collection.

        Raises:
            ShapeError: If a parameter or the strides have another shape.
            ArgumentError: If a name, an option or a form is unknown.
            RegistrationError: As `register_block`.
        """
        key, label = self._named(params, name)
        made = self._convolution(
            key, label, padding, strides, dilations, data_format, rank=2
        )
        tower = as_use(site, label)
        return self._register("conv2d", key, tower, made, approx, reuse, name, options)

    def register_conv2d_multi(
        self,
        params: Names,
        site: Names,
        strides: Steps,
        padding: Padding,
        *,
        num_uses: int | None = None,
        data_format: str | None = None,
        dilations: Steps = None,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a convolution that every case uses several times.

        Arguments and errors are those of `register_conv2d`, but `site` and `num_uses`
        those of `register_fully_connected_multi`, and `approx` is ``"kron_indep"``.

        Returns:
            The new collection.
        """
        key, label = self._named(params, name)
        made = self._convolution(
            key, label, padding, strides, dilations, data_format, rank=2
        )
        tower, made["num_uses"] = as_uses(site, num_uses, label)
        return self._register(
            "conv2d_multi", key, tower, made, approx, reuse, name, options
        )

    def register_conv1d(
        self,
        params: Names,
        site: str,
        strides: Steps,
        padding: Padding,
        *,
        data_format: str | None = None,
        dilations: Steps = None,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a convolution of one spatial axis.

        Arguments and errors are those of `register_conv2d`, but weights are ``[width,
        in_channels, out_channels]``, strides of full rank ``[1, s, 1]``, and data
        formats ``"NWC"`` and ``"NCW"``.

        Returns:
            The new collection.
        """
        key, label = self._named(params, name)
        made = self._convolution(
            key, label, padding, strides, dilations, data_format, rank=1
        )
        tower = as_use(site, label)
        return self._register("conv1d", key, tower, made, approx, reuse, name, options)

    def register_convolution(
        self,
        params: Names,
        site: str,
        padding: Padding,
        *,
        strides: Steps = None,
        dilation_rate: Steps = None,
        data_format: str | None = None,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a convolution of one to three spatial axes.

        Arguments and errors are those of `register_conv2d`; the number of axes is that
        of the weights ``[..kernel.., in_channels, out_channels]``.

        Returns:
            The new collection.
        """
        key, label = self._named(params, name)
        made = self._convolution(
            key, label, padding, strides, dilation_rate, data_format
        )
        tower = as_use(site, label)
        return self._register(
            "convolution", key, tower, made, approx, reuse, name, options
        )

    def register_grouped_convolution(
        self,
        params: Names,
        site: str,
        num_groups: int,
        padding: Padding,
        *,
        strides: Steps = None,
        dilation_rate: Steps = None,
        data_format: str | None = None,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a convolution whose channels fall into groups, each with its own.

        The original has no such function. Arguments and errors are those of
        `register_convolution`; the weights are ``[..kernel.., in_channels / num_groups,
        out_channels]``, the outputs of a group being consecutive, and `approx` is
        ``"kron"``.

        Returns:
            The new collection.
        """
        key, label = self._named(params, name)
        made = self._convolution(
            key, label, padding, strides, dilation_rate, data_format
        )
        made["num_groups"] = num_groups
        tower = as_use(site, label)
        return self._register(
            "grouped_convolution", key, tower, made, approx, reuse, name, options
        )

    def register_depthwise_conv2d(
        self,
        params: Names,
        site: str,
        strides: Steps,
        padding: Padding,
        *,
        rate: Steps = None,
        data_format: str | None = None,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a depthwise convolution of two spatial axes.

        Arguments and errors are those of `register_conv2d`; the weights are ``[height,
        width, in_channels, multiplier]``, the bias, which the original does not have,
        ``[in_channels * multiplier]``, and `approx` is ``"diagonal"`` or ``"kron"``.

        Returns:
            The new collection.
        """
        key, label = self._named(params, name)
        made = self._convolution(
            key, label, padding, strides, rate, data_format, rank=2, output_axes=2
        )
        tower = as_use(site, label)
        return self._register(
            "depthwise_conv2d", key, tower, made, approx, reuse, name, options
        )

    def register_separable_conv2d(
        self,
        depthwise_params: Names,
        pointwise_params: Names,
        depthwise_site: str,
        pointwise_site: str,
        strides: Steps,
        padding: Padding,
        *,
        rate: Steps = None,
        data_format: str | None = None,
        approx: str | None = None,
        reuse: Reuse = False,
    ) -> Self:
        """Register a depthwise convolution, and the pointwise one of its outputs.

        To give names or options, register the two by themselves: with
        `register_depthwise_conv2d`, and `register_conv2d` of stride 1 and padding
        ``"VALID"``.

        Args:
            depthwise_params: As in `register_depthwise_conv2d`.
            pointwise_params: Names of the weights ``[1, 1, in_channels * multiplier,
                out_channels]``, or of these and the bias ``[out_channels]``.
            depthwise_site: The site of the first, as in `register_depthwise_conv2d`.
            pointwise_site: The site of the second, as in `register_conv2d`.
            strides: Of the first, as in `register_conv2d`.
            padding: Of the first.
            rate: Dilation of the first.
            data_format: Of both.
            approx: Of the second; the first gets that of its linked parameters, else
                the default of its kind.
            reuse: As in `register_block`, for both.

        Returns:
            The new collection, with both or, if either is refused, none.

        Raises:
            ShapeError: If parameters or strides have other shapes.
            ArgumentError: If a name or a form is unknown.
            RegistrationError: As `register_block`.
        """
        first = self.register_depthwise_conv2d(
            depthwise_params,
            depthwise_site,
            strides,
            padding,
            rate=rate,
            data_format=data_format,
            reuse=reuse,
        )
        depthwise, _ = self._named(depthwise_params, "")
        pointwise, label = self._named(pointwise_params, "")
        *_, channels, multiplier = self.shapes[depthwise[0]]
        shape = self.shapes[pointwise[0]]
        expected = (1, 1, channels * multiplier)
        if shape[:-1] != expected:
            msg = (
                f"{label}: the parameter {pointwise[0]!r} has shape {shape}, expected"
                f" {(*expected, 'out_channels')} after the depthwise {depthwise[0]!r}"
            )
            raise ShapeError(msg)
        return first.register_conv2d(
            pointwise_params,
            pointwise_site,
            None,
            "VALID",
            data_format=data_format,
            approx=approx,
            reuse=reuse,
        )

    def _convolution(
        self,
        key: Key,
        label: str,
        padding: Padding,
        strides: Steps,
        dilation: Steps,
        data_format: str | None,
        *,
        rank: int | None = None,
        output_axes: int = 1,
    ) -> dict[str, Any]:
        """Return the fields of a convolution's block that all kinds have."""
        if rank is None:
            rank = min(max(len(self.shapes[key[0]]) - 2, 1), 3)
        axes = (*_KERNEL[-rank:], "in_channels", "out_channels")
        shape, has_bias = self._weights(key, axes, label, output_axes)
        geometry = geometry_for(
            shape, padding, strides, dilation, data_format, None, label
        )
        return {
            "filter_shape": shape,
            "padding": geometry.padding,
            "strides": geometry.strides,
            "dilation_rate": geometry.dilation,
            "data_format": data_format,
            "has_bias": has_bias,
        }
