"""Registration of convolutions."""

from typing import Any, Self

from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.records import ParamNames
from kfac_core.layer_collection.sites import Names, Reuse, as_use, as_uses
from kfac_core.linalg.layouts import KernelLayout, kernel_axes
from kfac_core.statistics.patches.geometry import (
    ConvolutionGeometry,
    Padding,
    Steps,
)
from kfac_core.statistics.patches.older_calls import takes_older_registrations

KERNEL_AXES = ("depth", "height", "width")
"""Names of the axes of a kernel; a kernel with fewer axes has the last of these."""


class ConvolutionRegistrations(Registrations):
    """Registers convolutions.

    Every function takes the arguments of a `kfac_core.ConvolutionGeometry`, except for
    the shape of the filter, which the parameters have. Unlike in ``tf.contrib.kfac``,
    channels may come first (``data_format``), strides and dilations are those of the
    spatial axes alone, and every approximation gets all arguments.
    """

    @takes_older_registrations(place=2, rank=2)
    def register_conv2d(
        self,
        params: Names,
        site: str,
        strides: Steps,
        padding: Padding,
        *,
        data_format: str | None = None,
        layout: KernelLayout = "HWIO",
        dilations: Steps = 1,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a convolution of two spatial axes.

        Args:
            params: Names of the weights ``[height, width, in_channels, out_channels]``,
                or of the weights and the bias ``[out_channels]``.
            site: The site of inputs and gradients, as
                `kfac_core.fisher_blocks.ConvKFCBasicFB` takes them.
            strides: One for each spatial axis, or one for all.
            padding: ``"SAME"``, ``"VALID"``, a width, or for each spatial axis a width
                or a pair.
            data_format: None or ``"NHWC"``: channels last; ``"NCHW"``: channels first.
                It describes the data; `layout` describes the weights.
            layout: How the weights lie: ``"HWIO"``; ``"OIHW"``, which is
                ``[out_channels, in_channels, height, width]``, as in
                ``torch.nn.Conv2d``; or another order of kernel, inputs and outputs.
            dilations: One for each spatial axis, or one for all.
            approx: ``"kron"``, ``"diagonal"``, ``"kron_sua"``, ``"ekfac"``,
                ``"expand"`` or ``"reduce"``; see `LayerCollection`.
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
        names, label = self._named(params, name)
        made = self._convolution(
            names, label, strides, padding, dilations, data_format, layout, rank=2
        )
        tower = as_use(site, label)
        return self._register(
            "conv2d", names, tower, made, approx, reuse, label, options
        )

    @takes_older_registrations(place=2, rank=2)
    def register_conv2d_multi(
        self,
        params: Names,
        site: Names,
        strides: Steps,
        padding: Padding,
        *,
        num_uses: int | None = None,
        batch_first: bool | None = None,
        data_format: str | None = None,
        layout: KernelLayout = "HWIO",
        dilations: Steps = 1,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a convolution that every case uses several times.

        `site`, `num_uses` and `batch_first` are as in `register_fully_connected_multi`,
        and `approx` is ``"kron_indep"``, ``"ekfac"``, ``"expand"`` or ``"reduce"``.
        Images of several sizes, as on the levels of a pyramid, have a site for each
        use. Other arguments and errors are those of `register_conv2d`.

        Returns:
            The new collection.
        """
        names, label = self._named(params, name)
        made = self._convolution(
            names, label, strides, padding, dilations, data_format, layout, rank=2
        )
        tower, made["num_uses"] = as_uses(site, num_uses, label)
        made["batch_first"] = batch_first
        return self._register(
            "conv2d_multi", names, tower, made, approx, reuse, label, options
        )

    @takes_older_registrations(place=2, rank=1)
    def register_conv1d(
        self,
        params: Names,
        site: str,
        strides: Steps,
        padding: Padding,
        *,
        data_format: str | None = None,
        layout: KernelLayout = "HWIO",
        dilations: Steps = 1,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a convolution of one spatial axis.

        Arguments and errors are those of `register_conv2d`, with these differences:
        weights are ``[width, in_channels, out_channels]``, data formats are ``"NWC"``
        and ``"NCW"``, and layouts can also be named ``"WIO"`` and ``"OIW"``.

        Returns:
            The new collection.
        """
        names, label = self._named(params, name)
        made = self._convolution(
            names, label, strides, padding, dilations, data_format, layout, rank=1
        )
        tower = as_use(site, label)
        return self._register(
            "conv1d", names, tower, made, approx, reuse, label, options
        )

    @takes_older_registrations(place=2, rank=None)
    def register_convolution(
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
        """Register a convolution of one to three spatial axes.

        Arguments and errors are those of `register_conv2d`. The weights ``[..kernel..,
        in_channels, out_channels]`` give the number of axes, and the names of layouts
        for two axes also serve for one and three.

        Returns:
            The new collection.
        """
        names, label = self._named(params, name)
        made = self._convolution(
            names, label, strides, padding, dilations, data_format, layout
        )
        tower = as_use(site, label)
        return self._register(
            "convolution", names, tower, made, approx, reuse, label, options
        )

    def _convolution(
        self,
        names: ParamNames,
        label: str,
        strides: Steps,
        padding: Padding,
        dilations: Steps,
        data_format: str | None,
        layout: KernelLayout,
        *,
        rank: int | None = None,
        num_groups: int = 1,
        output_axes: int = 1,
    ) -> dict[str, Any]:
        """Return the fields of a convolution's block that all kinds have."""
        if rank is None:
            rank = min(max(len(self.shapes[names[0]]) - 2, 1), 3)
        axes = (*KERNEL_AXES[-rank:], "in_channels", "out_channels")
        places = kernel_axes(layout, rank + 2, label)
        _, has_bias = self._weights(names, axes, label, layout, places, output_axes)
        geometry = ConvolutionGeometry(
            self.shapes[names[0]],
            padding=padding,
            strides=strides,
            dilations=dilations,
            num_groups=num_groups,
            data_format=data_format,
            layout=layout,
            name=label,
        )
        return {"geometry": geometry, "has_bias": has_bias}
