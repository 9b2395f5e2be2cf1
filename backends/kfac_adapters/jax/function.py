"""A function of a pytree of parameters, as one of its leaves."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kfac_adapters.jax.alone import FIXED
from kfac_adapters.jax.parts import Part
from kfac_adapters.jax.places import differing
from kfac_adapters.jax.reader import Reader
from kfac_adapters.jax.uses.base import Use, leaf_of
from kfac_core.errors import ArgumentError


class Leaves(NamedTuple):
    """The leaves of a pytree of parameters.

    Attributes:
        paths: For each its path, such as ``"['dense']['kernel']"``.
        shapes: For each its shape.
        trained: The places of those that are numbers to differentiate by.
        tree: The structure.
    """

    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    trained: tuple[int, ...]
    tree: Any

    def size(self, index: int) -> int:
        """Return the number of entries of a leaf."""
        return math.prod(self.shapes[index])


def leaves_of(params: Any) -> Leaves:
    """Return what is known of the leaves of a pytree.

    Raises:
        ArgumentError: If one is no array, nor a number; or if it is of complex numbers.
    """
    with_paths, tree = jax.tree_util.tree_flatten_with_path(params)
    arrays = [leaf for _, leaf in with_paths]
    for path, leaf in with_paths:
        _check_leaf(jax.tree_util.keystr(path), leaf)
    return Leaves(
        tuple(jax.tree_util.keystr(path) for path, _ in with_paths),
        tuple(tuple(jnp.shape(leaf)) for leaf in arrays),
        tuple(
            i
            for i, leaf in enumerate(arrays)
            if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        ),
        tree,
    )


def _check_leaf(path: str, leaf: Any) -> None:
    """Check that a leaf is an array that can be a constant, or be trained.

    Raises:
        ArgumentError: If it is not.
    """
    if not hasattr(leaf, "dtype") and not isinstance(
        leaf, bool | int | float | complex
    ):
        msg = (
            f"capture: the leaf {path} of params is a {type(leaf).__name__}, expected"
            " arrays; split the model, as by eqx.partition(model, eqx.is_inexact_array)"
            " or nnx.split, and capture a function of its arrays"
        )
        raise ArgumentError(msg)
    if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
        msg = (
            f"capture: the leaf {path} of params is of complex numbers, of which no"
            " block is; make it of two parameters, its real and imaginary parts, or"
            " give it among the inputs of the function, if it is not trained"
        )
        raise ArgumentError(msg)


@dataclass(frozen=True)
class Program:
    """A function as it is traced for some parameters and inputs.

    Attributes:
        jaxpr: What it does, closed.
        leaves: What is known of the parameters.
        structure: Structure of what it returns.
    """

    jaxpr: Any
    leaves: Leaves
    structure: Any

    @classmethod
    def of(
        cls, function: Callable[..., Any], params: Any, inputs: Sequence[Any]
    ) -> "Program":
        """Return the program of ``function(params, *inputs)``.

        Raises:
            ArgumentError: As `leaves_of`.
        """
        leaves = leaves_of(params)
        closed, shape = jax.make_jaxpr(function, return_shape=True)(params, *inputs)
        return cls(closed, leaves, jax.tree.structure(shape))

    def run(
        self, params: Any, inputs: Sequence[Any], zeros: Mapping[str, Any]
    ) -> tuple[Any, Reader]:
        """Return what the function returns, and what was read of it.

        Args:
            params: The parameters.
            inputs: The other arguments.
            zeros: For each site of interest a zero of the shape of its output; empty:
                all data are recorded.
        """
        shapes, trained = self.leaves.shapes, self.leaves.trained
        arrays, others = jax.tree.leaves(params), jax.tree.leaves(tuple(inputs))
        tags = [
            leaf_of(Part(i), shapes[i]) if i in trained else FIXED
            for i in range(len(arrays))
        ]
        reader = Reader(zeros)
        outputs = reader.run(
            self.jaxpr.jaxpr,
            self.jaxpr.consts,
            [*arrays, *others],
            [*tags, *([None] * len(others))],
        )
        return jax.tree.unflatten(self.structure, outputs), reader

    def pulled(
        self, params: Any, inputs: Sequence[Any], uses: Mapping[str, Use]
    ) -> "Pulled":
        """Return the function at its arguments, with what pulls vectors back.

        Args:
            params: The parameters.
            inputs: The other arguments.
            uses: The uses of interest, by site.
        """
        zeros = {site: jnp.zeros(use.shape, use.dtype) for site, use in uses.items()}
        zeros, params = differing((zeros, jax.tree.map(jnp.asarray, params)))
        arrays, tree = jax.tree.flatten(params)
        trained = self.leaves.trained

        def whole_tree(own: Sequence[Any]) -> Any:
            leaves = list(arrays)
            for place, leaf in zip(trained, own, strict=True):
                leaves[place] = leaf
            return jax.tree.unflatten(tree, leaves)

        def run(own: Sequence[Any], zeros: Mapping[str, Any]) -> Any:
            outputs, reader = self.run(whole_tree(own), inputs, zeros)
            return outputs, reader.records

        at = [arrays[i] for i in trained]
        outputs, pull, records = jax.vjp(run, at, zeros, has_aux=True)
        return Pulled(outputs, pull, records, at, whole_tree)

    def discover(self, params: Any, inputs: Sequence[Any]) -> "Discovered":
        """Return what the function does with its parameters; nothing is computed."""
        readers = []

        def traced(params: Any, inputs: Any) -> Any:
            outputs, reader = self.run(params, inputs, {})
            readers.append(reader)
            return outputs

        outputs = jax.eval_shape(traced, params, tuple(inputs))
        reader = readers[-1]
        return Discovered(reader.uses, reader.escaped, outputs)


class Pulled(NamedTuple):
    """A function at its arguments.

    Attributes:
        outputs: What it returns.
        pull: Takes a vector of the structure of the outputs to gradients for the
            trained parameters, in their order, and for the outputs of uses, by site.
        records: The data of the uses, by site.
        trained: The trained parameters.
        whole: Makes the pytree of parameters of the trained ones.
    """

    outputs: Any
    pull: Callable[[Any], tuple[Any, Any]]
    records: dict[str, Any]
    trained: list[Any]
    whole: Callable[[Sequence[Any]], Any]


class Discovered(NamedTuple):
    """What a function does with its parameters.

    Attributes:
        uses: The uses that are layers, by site.
        escaped: For each parameter that has other uses too, which.
        outputs: Shapes and dtypes of what the function returns.
    """

    uses: dict[str, Use]
    escaped: dict[int, list[str]]
    outputs: Any

    def without(self, sites: Collection[str]) -> "Discovered":
        """Return it without some uses of parameters that have others, too.

        Such as the product that a norm is computed of, without a derivative.
        """
        kept = {site: use for site, use in self.uses.items() if site not in sites}
        others = {use.leaf for use in kept.values()}
        uses = {
            site: use
            for site, use in self.uses.items()
            if site in kept or use.leaf not in others
        }
        return self._replace(uses=uses)
