"""How a parameter goes to the core, and a product comes back: axes moved, no more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from kfac_adapters.jax.views import Atom


@dataclass(frozen=True)
class Form:
    """A parameter in the axes that a block knows.

    Attributes:
        leaf_shape: Shape of the parameter as the user has it.
        sizes: Into what it is cut.
        order: The order of these parts in the core.
        shape: Shape in the core.
    """

    leaf_shape: tuple[int, ...]
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]

    def to_core(self, leaf: Any) -> Any:
        """Return a parameter, or a gradient of it, in the axes of the core."""
        leaf = jnp.asarray(leaf)
        if self.order == tuple(range(len(self.order))):
            return jnp.reshape(leaf, self.shape)
        parts = jnp.transpose(jnp.reshape(leaf, self.sizes), self.order)
        return jnp.reshape(parts, self.shape)

    def to_leaf(self, array: Any) -> Any:
        """Return what `to_core` gave in the axes of the user."""
        if self.order == tuple(range(len(self.order))):
            return jnp.reshape(array, self.leaf_shape)
        parts = jnp.reshape(array, tuple(self.sizes[i] for i in self.order))
        back = tuple(self.order.index(i) for i in range(len(self.order)))
        return jnp.reshape(jnp.transpose(parts, back), self.leaf_shape)


def form_of(
    leaf_shape: Sequence[int], atoms: Sequence[Atom], shape: Sequence[int]
) -> Form:
    """Return the form of a parameter whose parts are wanted in an order.

    Args:
        leaf_shape: Shape of the parameter.
        atoms: All its atoms, in the order that is wanted.
        shape: Shape in the core, of the atoms joined.

    Returns:
        The form; neighbours that stay so are one part.
    """
    lying = sorted(atoms)
    order = [lying.index(atom) for atom in atoms]
    if order == sorted(order):
        size = math.prod(leaf_shape)
        return Form(tuple(leaf_shape), (size,), (0,), tuple(shape))
    return Form(
        tuple(leaf_shape),
        tuple(atom.size for atom in lying),
        tuple(order),
        tuple(shape),
    )


def same(shape: Sequence[int]) -> Form:
    """Return the form of a parameter that goes as it is."""
    return form_of(shape, (), shape)


def in_place(atoms: Sequence[Atom]) -> bool:
    """Return whether atoms stand in the order in which they lie."""
    return list(atoms) == sorted(atoms)
