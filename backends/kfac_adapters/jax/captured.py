"""`Captured`: the layers of a function of parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kfac_adapters.coverage import Coverage
from kfac_adapters.jax.charts import Chart
from kfac_adapters.jax.forms import Form
from kfac_adapters.jax.function import Leaves, leaves_of
from kfac_adapters.jax.layers import Layer
from kfac_adapters.jax.losses import Losses
from kfac_adapters.jax.parts import Part, joined
from kfac_adapters.jax.uses.base import Use
from kfac_adapters.row_orders import RowOrder
from kfac_core.errors import ArgumentError
from kfac_core.layer_collection import LayerCollection


@dataclass(frozen=True, eq=False)
class Captured:
    """What `kfac_adapters.jax.capture` found in a function; it holds no arrays.

    Parameters are named by their paths in the pytree, and have in the core the axes
    that their block knows: `named` and `tree` go from one to the other.

    Attributes:
        function: ``function(params, *inputs)``, as the user wrote it.
        collection: The layers and the losses, for `kfac_core.FisherEstimator`.
        coverage: Which block covers which parameter; to print.
        losses: What the function returns.
        layers: Where the data of the layers come from.
        leaves: What is known of the parameters.
        names: For each parameter in the collection, or part of one, its name.
        forms: For each of these its form in the core.
        frozen: Indices of the parameters whose update is zero.
        orders: Order of the rows of each use, by site.
    """

    function: Callable[..., Any]
    collection: LayerCollection
    coverage: Coverage
    losses: Losses
    layers: tuple[Layer, ...]
    leaves: Leaves
    names: Mapping[Part, str]
    forms: Mapping[Part, Form]
    frozen: frozenset[int]
    orders: Mapping[str, RowOrder]

    @property
    def uses(self) -> dict[str, Use]:
        """The uses of the layers, by site."""
        return {
            use.site: use
            for layer in self.layers
            for site in layer.sites
            for use in site.uses
        }

    def named(self, tree: Any) -> dict[str, Any]:
        """Return the parameters in the collection by name.

        Args:
            tree: A pytree with the structure of the parameters.

        Returns:
            Arrays in the axes of the core, and weights that the function makes of a
            length and a direction, by the name of the direction.

        Raises:
            ArgumentError: If it has another structure.
        """
        leaves = self._leaves(tree, "tree")
        made = {chart.direction: chart.weight(leaves) for chart in self.charts}
        return self.named_leaves(leaves | made)

    def named_gradients(self, tree: Any, params: Any = None) -> dict[str, Any]:
        """Return a gradient by name.

        Args:
            tree: A pytree with the structure of the parameters.
            params: The parameters; needed where weights are made of several.

        Raises:
            ArgumentError: If one has another structure, or there are none where they
                are needed.
        """
        leaves = self._leaves(tree, "gradients")
        if not self.charts:
            return self.named_leaves(leaves)
        at = self._leaves(self._needed(params), "params")
        made = {chart.direction: chart.gradient(at, leaves) for chart in self.charts}
        return self.named_leaves(leaves | made)

    def stepped(self, named: Mapping[str, Any], params: Any = None) -> dict[int, Any]:
        """Return steps of leaves by index, in the axes of the user, of those by name.

        Raises:
            ArgumentError: As `named_gradients`.
        """
        found = self._by_index(named)
        if self.charts:
            at = self._leaves(self._needed(params), "params")
            for chart in self.charts:
                found |= chart.steps(at, found[chart.direction])
        return found

    def named_leaves(self, leaves: Mapping[int, Any]) -> dict[str, Any]:
        """Return what `named` does, of leaves by index."""
        return {
            name: self.forms[part].to_core(part.of(jnp.asarray(leaves[part.leaf])))
            for part, name in self.names.items()
        }

    def by_index(self, named: Mapping[str, Any]) -> dict[int, Any]:
        """Return leaves by index, in the axes of the user."""
        found = self._by_index(named)
        for chart in self.charts:
            shape = self.leaves.shapes[chart.length]
            found |= chart.inverse(found[chart.direction], shape)
        return found

    def _by_index(self, named: Mapping[str, Any]) -> dict[int, Any]:
        """Return leaves by index, and weights at the indices of their directions."""
        parts: dict[int, dict[Part, Any]] = {}
        for part, name in self.names.items():
            array = self.forms[part].to_leaf(named[name])
            parts.setdefault(part.leaf, {})[part] = array
        return {i: joined(own, self.leaves.shapes[i]) for i, own in parts.items()}

    def tree(self, named: Mapping[str, Any], like: Any) -> Any:
        """Return what `named` gave as a pytree.

        Args:
            named: For each parameter in the collection an array, by name.
            like: A pytree whose leaves stay, where no name is theirs, and whose dtypes
                are those of the result.

        Raises:
            ArgumentError: If `like` is of another structure.
        """
        self.check(like, "like")
        leaves, structure = jax.tree.flatten(like)
        for index, leaf in self.by_index(named).items():
            leaves[index] = leaf.astype(jnp.result_type(leaves[index]))
        return jax.tree.unflatten(structure, leaves)

    @property
    def charts(self) -> tuple[Chart, ...]:
        """What the weights are made of that are no parameters themselves."""
        return tuple(layer.chart for layer in self.layers if layer.chart)

    def _leaves(self, tree: Any, argument: str) -> dict[int, Any]:
        self.check(tree, argument)
        return dict(enumerate(jax.tree.leaves(tree)))

    def _needed(self, params: Any) -> Any:
        if params is None:
            names = [self.leaves.paths[chart.direction] for chart in self.charts]
            msg = (
                f"capture: the weights of {', '.join(names)} are made of a length and a"
                " direction, whose gradients tell theirs at the parameters alone; give"
                " params= as well"
            )
            raise ArgumentError(msg)
        return params

    def check(self, tree: Any, argument: str) -> None:
        """Check that a pytree has the leaves of the parameters.

        Args:
            tree: The pytree.
            argument: What it is, for the message.

        Raises:
            ArgumentError: If it has other leaves.
        """
        found = leaves_of(tree)
        # Not by their paths: Flax gives optimisers trees of the same leaves, unwrapped.
        if found.shapes == self.leaves.shapes:
            return
        known = {*zip(self.leaves.paths, self.leaves.shapes, strict=True)}
        differing = [
            f"{path} {shape}"
            for path, shape in zip(found.paths, found.shapes, strict=True)
            if (path, shape) not in known
        ]
        msg = (
            f"capture: {argument} has {len(found.paths)} leaves, among them"
            f" {', '.join(differing) or '(none that was not captured)'}; expected the"
            f" {len(self.leaves.paths)} leaves of the parameters that were captured,"
            f" {', '.join(self.leaves.paths)}. Where optax.masked or optax.partition"
            " hides some leaves, capture a function of those that are left, with the"
            " others among its inputs"
        )
        raise ArgumentError(msg)
