"""Registration of layers without locations: affine layers, embeddings and others."""

import math
from typing import Any, Self

from kfac_core.arguments.sizes import as_flag
from kfac_core.errors import ArgumentError
from kfac_core.fisher_factors.scale_and_shift.axes import fields_for_params
from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.records import ParamNames
from kfac_core.layer_collection.sites import Names, Reuse, as_use, as_uses, listed
from kfac_core.linalg.layouts import DenseLayout, dense_axes


class DenseRegistrations(Registrations):
    """Registers all layers but convolutions."""

    def register_generic(
        self,
        params: Names,
        *,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register parameters of any layer, however often it is used.

        The statistics come from the gradient for the parameters, summed over the batch,
        so that there is no site. Unlike in ``tf.contrib.kfac``, several parameters may
        also have a diagonal approximation.

        Args:
            params: Names of the parameters, one or more.
            approx: ``"diagonal"`` or ``"full"``; see `LayerCollection`.
            reuse: As in `register_block`; there is no tower to add.
            name: Name of the layer, for messages.
            **options: Further fields of its block.

        Returns:
            The new collection.

        Raises:
            ArgumentError: If a name or an option is unknown.
            RegistrationError: As `register_block`.
        """
        names, label = self._named(params, name)
        made = {"size": sum(math.prod(self.shapes[param]) for param in names)}
        kind = "generic"
        return self._register(kind, names, None, made, approx, reuse, label, options)

    def register_fully_connected(
        self,
        params: Names,
        site: str,
        *,
        dense_inputs: bool = True,
        layout: DenseLayout = "in_out",
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a fully connected layer.

        Args:
            params: Names of the weights ``[input_size, output_size]``, or of the
                weights and the bias ``[output_size]``; for the order of axes see
                `layout`.
            site: The site of inputs ``[batch, input_size]`` and gradients ``[batch,
                output_size]``.
            dense_inputs: If False, the inputs are ids: `register_embedding`.
            layout: ``"in_out"``, or ``"out_in"`` where the weights are ``[output_size,
                input_size]``, as in ``torch.nn.Linear``.
            approx: ``"kron"``, ``"diagonal"``, ``"kron_in_diag"``, ``"kron_out_diag"``
                or ``"kron_both_diag"``; see `LayerCollection`.
            reuse: As in `register_block`.
            name: Name of the layer, for messages.
            **options: Further fields of its block.

        Returns:
            The new collection.

        Raises:
            ShapeError: If a parameter has another shape.
            ArgumentError: If a name or an option is unknown.
            RegistrationError: As `register_block`.
        """
        names, label = self._named(params, name)
        tower = as_use(site, label)
        kind = _kind(dense_inputs, label)
        made = self._sizes(kind, names, label, layout)
        return self._register(kind, names, tower, made, approx, reuse, label, options)

    def register_fully_connected_multi(
        self,
        params: Names,
        site: Names,
        *,
        num_uses: int | None = None,
        batch_first: bool | None = None,
        uses_with_bias: tuple[bool, ...] | None = None,
        dense_inputs: bool = True,
        layout: DenseLayout = "in_out",
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a fully connected layer that every case uses several times.

        Args:
            params: As in `register_fully_connected`.
            site: A tuple of the sites of the uses, in the order of time; or one site
                whose arrays hold all uses, ``[num_uses * batch, ...]`` (time slow) or
                ``[num_uses, batch, ...]``.
            num_uses: Number of uses; needed with one site, which else is one use.
            batch_first: Whether the arrays of one site have the cases before the uses,
                ``[batch, num_uses, ...]`` or ``[batch * num_uses, ...]`` (case slow).
                None: for the approximations ``"expand"`` and ``"reduce"`` alone.
            uses_with_bias: For each use, whether it adds the bias, where some uses do
                not, such as those of a derivative; None: all uses do. Only for the
                approximation ``"kron_indep"``, with diagonal sides or without; see
                `kfac_core.fisher_blocks.FullyConnectedMultiPartialBiasFB`.
            dense_inputs: If False, the inputs are ids: `register_embedding_multi`.
            layout: As in `register_fully_connected`.
            approx: ``"kron_indep"``, ``"kron_indep_in_diag"``,
                ``"kron_indep_out_diag"`` and others of `LayerCollection`.
            reuse: As in `register_block`.
            name: Name of the layer, for messages.
            **options: Further fields of its block.

        Returns:
            The new collection.

        Raises:
            ShapeError: If a parameter has another shape.
            ArgumentError: If a name, an option or the number of uses is unknown.
            RegistrationError: As `register_block`.
        """
        names, label = self._named(params, name)
        tower, number = as_uses(site, num_uses, label)
        kind = _kind(dense_inputs, label)
        made = self._sizes(kind, names, label, layout)
        made |= {"num_uses": number, "batch_first": batch_first}
        if uses_with_bias is None:
            kind = f"{kind}_multi"
        else:
            kind = f"{kind}_partial_bias"
            made = _with_partial_bias(made, uses_with_bias, number, label)
        return self._register(kind, names, tower, made, approx, reuse, label, options)

    def register_embedding(
        self,
        params: Names,
        site: str,
        *,
        layout: DenseLayout = "in_out",
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register an embedding.

        Args:
            params: Name of the weights ``[vocab_size, output_size]``.
            site: The site of ids ``[batch]`` or ``[batch, m]`` and gradients ``[batch,
                output_size]``.
            layout: ``"in_out"``, which is every framework's order for an embedding; or
                ``"out_in"`` where the weights are ``[output_size, vocab_size]``.
            approx: ``"kron"`` or ``"kron_in_diag"`` (the same, for the input factor is
                always diagonal), ``"kron_out_diag"`` or ``"kron_both_diag"`` (the same
                as each other); see `LayerCollection`.
            reuse: As in `register_block`.
            name: Name of the layer, for messages.
            **options: Further fields of its block.

        Returns:
            The new collection.

        Raises:
            ShapeError: If the parameter has another shape.
            ArgumentError: If a name or an option is unknown, or there is a bias.
            RegistrationError: As `register_block`.
        """
        return self.register_fully_connected(
            params,
            site,
            dense_inputs=False,
            layout=layout,
            approx=approx,
            reuse=reuse,
            name=name,
            **options,
        )

    def register_embedding_multi(
        self,
        params: Names,
        site: Names,
        *,
        num_uses: int | None = None,
        batch_first: bool | None = None,
        layout: DenseLayout = "in_out",
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register an embedding that every case uses several times.

        Args:
            params: Name of the weights ``[vocab_size, output_size]``.
            site: As in `register_fully_connected_multi`.
            num_uses: As in `register_fully_connected_multi`.
            batch_first: As in `register_fully_connected_multi`.
            layout: As in `register_embedding`.
            approx: ``"kron_indep"`` or ``"kron_indep_in_diag"`` (the same, for the
                input factor is always diagonal), ``"kron_indep_out_diag"`` or
                ``"kron_indep_both_diag"`` (the same as each other), and others of
                `LayerCollection`.
            reuse: As in `register_block`.
            name: Name of the layer, for messages.
            **options: Further fields of its block.

        Returns:
            The new collection.

        Raises:
            ShapeError: If the parameter has another shape.
            ArgumentError: If a name, an option or the number of uses is unknown, or
                there is a bias.
            RegistrationError: As `register_block`.
        """
        return self.register_fully_connected_multi(
            params,
            site,
            num_uses=num_uses,
            batch_first=batch_first,
            dense_inputs=False,
            layout=layout,
            approx=approx,
            reuse=reuse,
            name=name,
            **options,
        )

    def register_scale_and_shift(
        self,
        params: Names,
        site: str,
        *,
        input_shape: tuple[int | None, ...],
        output_shape: tuple[int | None, ...] | None = None,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a layer ``y = scale * x + shift`` with broadcast parameters.

        In normalisation over the batch, cases depend on each other: use
        `register_generic` for it.

        Args:
            params: Name of the scale, or names of the scale and the shift. Their shapes
                are aligned with the last axes of the data.
            site: The site of inputs ``[batch, *input_shape]`` and gradients ``[batch,
                *output_shape]``.
            input_shape: Shape of one case's inputs; None: an axis of any size, such as
                the positions of a sequence, along which each parameter is broadcast.
            output_shape: Shape of one case's outputs; by default `input_shape`, which
                ``tf.contrib.kfac`` always takes.
            approx: ``"full"`` or ``"diagonal"``; see `LayerCollection`.
            reuse: As in `register_block`.
            name: Name of the layer, for messages.
            **options: Further fields of its block.

        Returns:
            The new collection.

        Raises:
            ShapeError: If a parameter cannot be broadcast to the data.
            ArgumentError: If a name or an option is unknown.
            RegistrationError: As `register_block`.
        """
        names, label = self._named(params, name)
        if len(names) > 2:
            msg = (
                f"{label}: params are {listed(names)}, expected a scale, or a"
                " scale and a shift"
            )
            raise ArgumentError(msg)
        shapes = [self.shapes[param] for param in names]
        made = fields_for_params(
            label,
            shapes[0],
            input_shape,
            output_shape,
            shapes[1] if len(shapes) == 2 else None,
        )
        tower, kind = as_use(site, label), "scale_and_shift"
        return self._register(kind, names, tower, made, approx, reuse, label, options)

    def _sizes(
        self, kind: str, names: ParamNames, label: str, layout: DenseLayout
    ) -> dict[str, Any]:
        """Return the fields of an affine layer's block that its parameters give."""
        places = dense_axes(layout, label)
        made: dict[str, Any] = {"layout": layout}
        if kind == "embedding":
            axes = ("vocab_size", "output_size")
            weights, _ = self._weights(names, axes, label, layout, places, 0)
            return made | dict(zip(axes, weights, strict=True))
        axes = ("input_size", "output_size")
        weights, has_bias = self._weights(names, axes, label, layout, places)
        return made | dict(zip(axes, weights, strict=True)) | {"has_bias": has_bias}


def _kind(dense_inputs: object, label: str) -> str:
    dense = as_flag(dense_inputs, "dense_inputs", label)
    return "fully_connected" if dense else "embedding"


def _with_partial_bias(
    made: dict[str, Any], flags: Any, num_uses: int | None, label: str
) -> dict[str, Any]:
    """Return the fields of a block that adds its bias in some uses alone.

    Raises:
        ArgumentError: If there is no bias, or not one flag for each use.
    """
    if not made.pop("has_bias", False):
        msg = (
            f"{label}: uses_with_bias is {flags!r}, but the layer has no bias; name its"
            " weights and its bias, or leave uses_with_bias None"
        )
        raise ArgumentError(msg)
    stated = made.pop("num_uses")
    found = len(flags) if isinstance(flags, tuple | list) else None
    if found is None or (stated is not None and found != stated):
        msg = (
            f"{label}: uses_with_bias is {flags!r}, expected a boolean for each of"
            f" {num_uses or 'its'} uses"
        )
        raise ArgumentError(msg)
    return made | {"uses_with_bias": tuple(flags)}
