"""Registration of bilinear layers."""

from typing import Any, Self

from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.sites import Names, Reuse, as_use
from kfac_core.linalg.layouts import DenseLayout, dense_axes


class BilinearRegistrations(Registrations):
    """Registers bilinear layers."""

    def register_bilinear(
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
        """Register a layer that is linear in each of two inputs.

        ``tf.contrib.kfac`` has no such function.

        Args:
            params: Names of the weights ``[first, second, outputs]``, or of these and
                the bias ``[outputs]``.
            site: Gives as inputs a `kfac_core.typing.Pair` of ``[batch, first]`` and
                ``[batch, second]``, and gradients ``[batch, outputs]``.
            layout: ``"in_out"``, or ``"out_in"`` for weights ``[outputs, first,
                second]``, as PyTorch has them.
            approx: ``"kron"``, the product of both inputs as one, or
                ``"kron_factored_inputs"``; see `LayerCollection`.
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
        plain = dense_axes(layout, label) == (0, 1)
        places = (0, 1, 2) if plain else (1, 2, 0)
        axes = ("first_size", "second_size", "output_size")
        shape, has_bias = self._weights(names, axes, label, layout, places)
        sizes = dict(zip(axes, shape, strict=True))
        made = {**sizes, "has_bias": has_bias, "layout": layout}
        tower = as_use(site, label)
        return self._register(
            "bilinear", names, tower, made, approx, reuse, label, options
        )
