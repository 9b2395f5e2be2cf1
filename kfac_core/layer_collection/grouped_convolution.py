"""Registration of convolutions in groups: grouped, depthwise and separable ones."""

import math
from typing import Any, Self

from kfac_core.errors import ShapeError
from kfac_core.layer_collection.convolution import ConvolutionRegistrations
from kfac_core.layer_collection.sites import Names, Reuse, as_use, as_uses
from kfac_core.linalg.layouts import KernelLayout, kernel_axes
from kfac_core.statistics.patches.geometry import Padding, Steps
from kfac_core.statistics.patches.older_calls import takes_older_registrations


class GroupedRegistrations(ConvolutionRegistrations):
    """Registers convolutions whose channels fall into groups."""

    @takes_older_registrations(place=3, rank=None)
    def register_grouped_convolution(
        self,
        params: Names,
        site: str,
        num_groups: int,
        strides: Steps,
        padding: Padding,
        *,
        dilations: Steps = 1,
        data_format: str | None = None,
        layout: KernelLayout = "HWIO",
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a convolution whose channels fall into groups.

        Each group has weights of its own. The weights are ``[..kernel.., in_channels /
        num_groups, out_channels]``, with the outputs of a group side by side; `approx`
        is ``"kron"`` or ``"ekfac"``. Other arguments and errors are those of
        `register_convolution`.
        ``tf.contrib.kfac`` has no such function.

        Returns:
            The new collection.
        """
        names, label = self._named(params, name)
        made = self._convolution(
            names,
            label,
            strides,
            padding,
            dilations,
            data_format,
            layout,
            num_groups=num_groups,
        )
        tower = as_use(site, label)
        return self._register(
            "grouped_convolution", names, tower, made, approx, reuse, label, options
        )

    def register_grouped_convolution_multi(
        self,
        params: Names,
        site: Names,
        num_groups: int,
        strides: Steps,
        padding: Padding,
        *,
        num_uses: int | None = None,
        batch_first: bool | None = None,
        dilations: Steps = 1,
        data_format: str | None = None,
        layout: KernelLayout = "HWIO",
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a grouped convolution that every case uses several times.

        `site`, `num_uses` and `batch_first` are as in `register_fully_connected_multi`,
        and `approx` is ``"kron_indep"`` or ``"ekfac"``. Other arguments and errors are
        those of `register_grouped_convolution`. ``tf.contrib.kfac`` has no such
        function.

        Returns:
            The new collection.
        """
        names, label = self._named(params, name)
        made = self._convolution(
            names,
            label,
            strides,
            padding,
            dilations,
            data_format,
            layout,
            num_groups=num_groups,
        )
        tower, made["num_uses"] = as_uses(site, num_uses, label)
        made["batch_first"] = batch_first
        kind = "grouped_convolution_multi"
        return self._register(kind, names, tower, made, approx, reuse, label, options)

    @takes_older_registrations(place=2, rank=2)
    def register_depthwise_conv2d(
        self,
        params: Names,
        site: str,
        strides: Steps,
        padding: Padding,
        *,
        dilations: Steps = 1,
        data_format: str | None = None,
        layout: KernelLayout = "HWIO",
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a depthwise convolution of two spatial axes.

        The weights are ``[height, width, in_channels, multiplier]``; or, in the layout
        ``"OIHW"``, ``[in_channels * multiplier, 1, height, width]``, with the option
        ``multiplier``. The bias, which ``tf.contrib.kfac`` does not have, is
        ``[in_channels * multiplier]``, and `approx` is ``"diagonal"``, ``"kron"`` or
        ``"ekfac"``. Other arguments and errors are those of `register_conv2d`.

        Returns:
            The new collection.
        """
        names, label = self._named(params, name)
        made = self._convolution(
            names,
            label,
            strides,
            padding,
            dilations,
            data_format,
            layout,
            rank=2,
            output_axes=2,
        )
        tower = as_use(site, label)
        return self._register(
            "depthwise_conv2d", names, tower, made, approx, reuse, label, options
        )

    @takes_older_registrations(place=4, rank=2)
    def register_separable_conv2d(
        self,
        depthwise_params: Names,
        pointwise_params: Names,
        depthwise_site: str,
        pointwise_site: str,
        strides: Steps,
        padding: Padding,
        *,
        dilations: Steps = 1,
        data_format: str | None = None,
        layout: KernelLayout = "HWIO",
        approx: str | None = None,
        reuse: Reuse = False,
    ) -> Self:
        """Register a depthwise convolution, and a pointwise one of its outputs.

        To give names or options, register the two layers separately: with
        `register_depthwise_conv2d`, and with `register_conv2d` of stride 1 and padding
        ``"VALID"``.

        Args:
            depthwise_params: As in `register_depthwise_conv2d`.
            pointwise_params: Names of the weights ``[1, 1, in_channels * multiplier,
                out_channels]``, or of the weights and the bias ``[out_channels]``.
            depthwise_site: Site of the depthwise layer, as in
                `register_depthwise_conv2d`.
            pointwise_site: Site of the pointwise layer, as in `register_conv2d`.
            strides: Strides of the depthwise layer, as in `register_conv2d`.
            padding: Padding of the depthwise layer, as in `register_conv2d`.
            dilations: Dilations of the depthwise layer.
            data_format: Data format of both layers.
            layout: Layout of both layers, as in `register_depthwise_conv2d` and
                `register_conv2d`.
            approx: Approximation of the pointwise layer. The depthwise layer gets that
                of its linked parameters, or the default of its kind.
            reuse: As in `register_block`, for both layers.

        Returns:
            The new collection with both layers; if either is refused, with none.

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
            dilations=dilations,
            data_format=data_format,
            layout=layout,
            reuse=reuse,
        )
        depthwise, _ = self._named(depthwise_params, "")
        pointwise, label = self._named(pointwise_params, "")
        places = kernel_axes(layout, 4, label)
        of_depthwise, shape = (
            self.shapes[name] for name in (depthwise[0], pointwise[0])
        )
        outputs = math.prod(of_depthwise[i] for i in places[-2:])
        expected = (1, 1, outputs, "out_channels")
        as_laid = tuple(expected[places.index(i)] for i in range(4))
        if len(shape) != 4 or tuple(shape[i] for i in places[:-1]) != expected[:-1]:
            msg = (
                f"{label}: the parameter {pointwise[0]!r} has shape {shape}, expected"
                f" {as_laid} in the layout {layout!r}, after the depthwise"
                f" {depthwise[0]!r}"
            )
            raise ShapeError(msg)
        return first.register_conv2d(
            pointwise_params,
            pointwise_site,
            1,
            "VALID",
            data_format=data_format,
            layout=layout,
            approx=approx,
            reuse=reuse,
        )
