"""Registration of a bias that stands alone."""

from typing import Any, Self

from kfac_core.errors import ArgumentError
from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.sites import Names, Reuse, as_sites, listed


class BiasRegistrations(Registrations):
    """Registers biases."""

    def register_bias(
        self,
        param: str,
        site: Names,
        *,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a bias that is added to outputs, and belongs to no other layer.

        ``tf.contrib.kfac`` has no such function.

        Args:
            param: Name of the bias. Its shape is aligned with the last axes of the
                outputs, and broadcast along all other axes.
            site: The site of gradients ``[batch, ...]`` for the outputs that the bias
                is added to; its inputs are not used. Or a tuple of all sites where a
                case adds the bias.
            approx: ``"full"`` or ``"diagonal"``, which are both exact; see
                `LayerCollection`.
            reuse: As in `register_block`.
            name: Name of the layer, for messages.
            **options: Further fields of its block.

        Returns:
            The new collection.

        Raises:
            ArgumentError: If a name or an option is unknown, or there are several
                parameters.
            RegistrationError: As `register_block`.
        """
        names, label = self._named(param, name)
        if len(names) > 1:
            msg = f"{label}: params are {listed(names)}, expected one bias"
            raise ArgumentError(msg)
        tower = as_sites(site, label)
        if not tower:
            msg = f"{label}: site is None, expected the name of a site"
            raise ArgumentError(msg)
        made = {"shape": self.shapes[names[0]]}
        return self._register("bias", names, tower, made, approx, reuse, label, options)
