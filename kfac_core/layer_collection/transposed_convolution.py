"""Registration of transposed convolutions."""

from typing import Any, Self

from kfac_core.arguments.sizes import as_size
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.convolution import KERNEL_AXES
from kfac_core.layer_collection.records import ParamNames
from kfac_core.layer_collection.shapes import check_bias
from kfac_core.layer_collection.sites import Names, Reuse, as_use, as_uses, listed
from kfac_core.linalg.layouts import KernelLayout, kernel_axes
from kfac_core.statistics.patches.geometry import (
    ConvolutionGeometry,
    Padding,
    Steps,
)
from kfac_core.statistics.patches.older_calls import takes_older_registrations


class TransposedRegistrations(Registrations):
    """Registers transposed convolutions."""

    @takes_older_registrations(place=2, rank=None)
    def register_transposed_convolution(
        self,
        params: Names,
        site: str,
        strides: Steps,
        padding: Padding,
        *,
        output_padding: Steps | None = None,
        dilations: Steps = 1,
        num_groups: int = 1,
        data_format: str | None = None,
        layout: KernelLayout = "HWIO",
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a transposed convolution of one to three spatial axes.

        ``tf.contrib.kfac`` has no such function.

        Args:
            params: Names of the weights ``[..kernel.., in_channels, out_channels /
                num_groups]``, or of the weights and the bias ``[out_channels]``.
            site: The site of inputs and gradients, as
                `kfac_core.fisher_blocks.TransposedConvKFCBasicFB` takes them.
            strides: One for each spatial axis, or one for all.
            padding: As in `register_convolution`, of the convolution whose adjoint this
                layer is.
            output_padding: Number of outputs added after the last one, for each spatial
                axis, or one number for all; None: as the data say.
            dilations: One for each spatial axis, or one for all.
            num_groups: Number of groups; divides the input channels.
            data_format: None or such as ``"NHWC"``: channels last; such as ``"NCHW"``:
                channels first.
            layout: Order of the weights' axes, as in the block: PyTorch has ``"IOHW"``,
                TensorFlow and Keras have ``"HWOI"``.
            approx: ``"kron"``, by input locations, or ``"kron_output_locations"``; see
                `LayerCollection`.
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
        made = self._transposed(
            names,
            label,
            strides,
            padding,
            output_padding,
            dilations,
            num_groups,
            data_format,
            layout,
        )
        tower = as_use(site, label)
        return self._register(
            "transposed_convolution", names, tower, made, approx, reuse, label, options
        )

    def register_transposed_convolution_multi(
        self,
        params: Names,
        site: Names,
        strides: Steps,
        padding: Padding,
        *,
        num_uses: int | None = None,
        batch_first: bool | None = None,
        output_padding: Steps | None = None,
        dilations: Steps = 1,
        num_groups: int = 1,
        data_format: str | None = None,
        layout: KernelLayout = "HWIO",
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a transposed convolution that every case uses several times.

        `site`, `num_uses` and `batch_first` are as in `register_fully_connected_multi`,
        and `approx` is ``"kron_indep"`` or ``"kron_indep_output_locations"``. Images of
        several sizes have a site for each use. Other arguments and errors are those of
        `register_transposed_convolution`.

        Returns:
            The new collection.
        """
        names, label = self._named(params, name)
        made = self._transposed(
            names,
            label,
            strides,
            padding,
            output_padding,
            dilations,
            num_groups,
            data_format,
            layout,
        )
        tower, made["num_uses"] = as_uses(site, num_uses, label)
        made["batch_first"] = batch_first
        kind = "transposed_convolution_multi"
        return self._register(kind, names, tower, made, approx, reuse, label, options)

    def _transposed(
        self,
        names: ParamNames,
        label: str,
        strides: Steps,
        padding: Padding,
        output_padding: Steps | None,
        dilations: Steps,
        num_groups: int,
        data_format: str | None,
        layout: KernelLayout,
    ) -> dict[str, Any]:
        """Return the fields of the block that both kinds have."""
        if len(names) > 2:
            msg = (
                f"{label}: params are {listed(names)}, expected weights, or"
                " weights and a bias alone"
            )
            raise ArgumentError(msg)
        lies, *bias = (self.shapes[param] for param in names)
        rank = min(max(len(lies) - 2, 1), 3)
        axes = (*KERNEL_AXES[-rank:], "in_channels", "out_channels / num_groups")
        places = kernel_axes(layout, rank + 2, label)
        shape, _ = self._weights(names[:1], axes, label, layout, places)
        groups = as_size(num_groups, "num_groups", label)
        if shape[-2] % groups:
            msg = (
                f"{label}: num_groups is {groups}, expected a divisor of the"
                f" {shape[-2]} input channels of the parameter {names[0]!r}"
            )
            raise ArgumentError(msg)
        if bias:
            check_bias(names[1], bias[0], shape[-1] * groups, label)
        return {
            "geometry": ConvolutionGeometry(
                lies,
                padding=padding,
                strides=strides,
                dilations=dilations,
                num_groups=groups,
                data_format=data_format,
                layout=layout,
                name=label,
            ),
            "output_padding": output_padding,
            "has_bias": bool(bias),
        }
