"""Weights of a length and a direction, ``W = g v / |v|``: another chart of a weight.

The layer has the Fisher of ``W``. Length and direction are as many numbers, but for the
length of ``v``, which changes nothing, so that their gradients tell that of ``W``, and
each change of ``W`` is one of theirs. K-FAC is taken in ``W``, its damping too, as if
there was no such chart. That a function computes this weight is found on the first
batch, where the gradients of length and direction must be those of the formula.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from kfac_adapters.jax.forms import in_place
from kfac_adapters.jax.uses.base import Leaf


@dataclass(frozen=True)
class Chart:
    """The length and the direction of a weight.

    Attributes:
        direction: Index of ``v``.
        length: Index of ``g``.
        axes: The axes of ``v`` whose entries have a length each.
    """

    direction: int
    length: int
    axes: tuple[int, ...]

    def weight(self, leaves: Mapping[int, Any]) -> Any:
        """Return ``W``, of leaves by index."""
        return self._of(leaves[self.length], leaves[self.direction])

    def pulled(self, leaves: Mapping[int, Any], gradient: Any) -> dict[int, Any]:
        """Return the gradients of length and direction that one of ``W`` gives them."""
        g, v = leaves[self.length], leaves[self.direction]
        _, pull = jax.vjp(self._of, g, v)
        of_length, of_direction = pull(gradient.astype(jnp.result_type(g, v)))
        return {self.length: of_length, self.direction: of_direction}

    def gradient(self, leaves: Mapping[int, Any], gradients: Mapping[int, Any]) -> Any:
        """Return the gradient of ``W`` that length and direction have theirs of.

        It is ``u dg + |v| / g P dv``, with the unit direction ``u = v / |v|`` and the
        projection ``P`` across it.

        Args:
            leaves: Parameters by index.
            gradients: Their gradients.
        """
        unit, ratio = self._unit(leaves[self.direction]), self._ratio(leaves)
        along = self._like(gradients[self.length], unit)
        return unit * along + ratio * self._across(unit, gradients[self.direction])

    def steps(self, leaves: Mapping[int, Any], step: Any) -> dict[int, Any]:
        """Return the steps of length and direction that are a step of ``W``.

        That of the direction is across it. Products with gradients stay as they are.
        """
        unit, ratio = self._unit(leaves[self.direction]), self._ratio(leaves)
        along = self._summed(unit * step).reshape(jnp.shape(leaves[self.length]))
        return {self.length: along, self.direction: ratio * self._across(unit, step)}

    def inverse(self, weight: Any, shape: tuple[int, ...]) -> dict[int, Any]:
        """Return a length, of this shape, and a direction of which ``W`` is made."""
        size = jnp.sqrt(self._summed(weight * weight))
        return {self.length: size.reshape(shape), self.direction: weight}

    def _of(self, g: Any, v: Any) -> Any:
        return self._like(g, v) * self._unit(v)

    def _like(self, g: Any, v: Any) -> Any:
        sizes = [n if i in self.axes else 1 for i, n in enumerate(v.shape)]
        return jnp.reshape(g, sizes)

    def _unit(self, v: Any) -> Any:
        return v / jnp.sqrt(self._summed(v * v))

    def _summed(self, x: Any) -> Any:
        others = tuple(i for i in range(x.ndim) if i not in self.axes)
        return jnp.sum(x, axis=others, keepdims=True)

    def _ratio(self, leaves: Mapping[int, Any]) -> Any:
        """Return ``|v| / g``; zero where nothing has a length, nor so a direction."""
        v = leaves[self.direction]
        g = self._like(leaves[self.length], v)
        size = jnp.sqrt(self._summed(v * v))
        return jnp.where(g == 0, 0.0, size / jnp.where(g == 0, 1.0, g))

    def _across(self, unit: Any, x: Any) -> Any:
        return x - unit * self._summed(unit * x)


def chart_of(leaf: Leaf) -> Chart | None:
    """Return the chart that a weight may have, by the parameters that it is made of."""
    if len(leaf.others) != 1 or not leaf.is_mixed or leaf.scales or leaf.part.cut:
        return None
    (other,) = leaf.others
    if other.scales or other.part.cut or other.reversed or leaf.reversed:
        return None
    axes: list[int] = []
    for own, its in zip(leaf.view.axes, other.view.axes, strict=True):
        real = [atom for atom in its if atom.real]
        if real and any(len(atom.place) > 1 or not atom.real for atom in own):
            return None
        if real:
            if math.prod(a.size for a in own) != math.prod(a.size for a in real):
                return None
            axes += [atom.place[0] for atom in own]
    if axes != sorted(axes) or not in_place(other.view.real):
        return None
    return Chart(leaf.part.leaf, other.part.leaf, tuple(axes))
