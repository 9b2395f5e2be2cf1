"""Registration of a parameter that unlike layers share."""

from collections.abc import Sequence
from typing import Any, Self

from kfac_core.errors import ArgumentError
from kfac_core.layer_collection.base import Registrations
from kfac_core.layer_collection.shapes import check_bias
from kfac_core.layer_collection.sites import Names, Reuse, as_sites, listed
from kfac_core.linalg.layouts import dense_axes


class TiedRegistrations(Registrations):
    """Registers parameters that unlike layers share."""

    def register_tied_weights(
        self,
        params: Names,
        uses: Sequence[tuple[str, str]],
        *,
        approx: str | None = None,
        reuse: Reuse = False,
        name: str = "",
        **options: Any,
    ) -> Self:
        """Register a matrix that unlike layers share, as embedding and decoder do.

        ``tf.contrib.kfac`` has no such function.

        Args:
            params: Name of the matrix ``[rows, columns]``; or names of the matrix and
                of the bias ``[rows]``, which its uses ``x V' + b`` add.
            uses: For each use its kind and its site: ``("embedding", site)`` for
                ``V[ids]``, ``("fully_connected", site)`` for ``x V``, ``("transposed",
                site)`` for ``x V'``. A site has inputs and gradients as
                `kfac_core.fisher_blocks.TiedWeightsKFACFB` takes them for one use.
            approx: ``"kron"``, ``"kron_nearest"`` or ``"kron_mean"``: how one Kronecker
                product is made of the products of all uses; see `LayerCollection`.
            reuse: As in `register_block`.
            name: Name of the layer, for messages.
            **options: Further fields of its block.

        Returns:
            The new collection.

        Raises:
            ShapeError: If a parameter has another shape.
            ArgumentError: If a name, a use or an option is unknown.
            RegistrationError: As `register_block`.

        Example:
            >>> from kfac_core import LayerCollection
            >>> collection = LayerCollection.of({"table": (50, 8), "offset": (50,)})
            >>> collection = collection.register_tied_weights(
            ...     ("table", "offset"), [("embedding", "in"), ("transposed", "out")]
            ... )
            >>> collection.layers[0].towers
            (('in', 'out'),)
        """
        names, label = self._named(params, name)
        if len(names) > 2:
            msg = (
                f"{label}: params are {listed(names)}, expected a matrix, or a"
                " matrix and a bias"
            )
            raise ArgumentError(msg)
        axes = ("rows", "columns")
        places = dense_axes("in_out", label)
        (rows, columns), _ = self._weights(names[:1], axes, label, "in_out", places)
        if len(names) == 2:
            check_bias(names[1], self.shapes[names[1]], rows, label)
        given: Any = uses
        pairs = list(given) if isinstance(given, tuple | list) else []
        if not pairs or not all(
            isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs
        ):
            msg = (
                f"{label}: uses is {uses!r}, expected pairs of a kind and a site, such"
                " as [('embedding', 'in'), ('transposed', 'out')]"
            )
            raise ArgumentError(msg)
        tower = as_sites(tuple(site for _, site in pairs), label)
        made = {
            "input_size": rows,
            "output_size": columns,
            "uses": tuple(kind for kind, _ in pairs),
            "has_bias": len(names) == 2,
        }
        return self._register(
            "tied_weights", names, tower, made, approx, reuse, label, options
        )
