"""Products with a matrix: ``dot_general`` of a parameter and data."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from kfac_adapters.jax.forms import form_of, in_place
from kfac_adapters.jax.uses.base import Leaf, Use
from kfac_adapters.jax.views import View
from kfac_core.linalg.layouts import DenseLayout


@dataclass(frozen=True)
class Dense(Use):
    """A product ``x W``, whatever axes are summed over.

    Attributes:
        layout: How the matrix lies in its form.
        summed: Axes of the data that are summed over, in the order of the matrix.
        sizes: Number of inputs and of outputs.
    """

    layout: DenseLayout
    summed: tuple[int, ...]
    sizes: tuple[int, int]

    kind: ClassVar[str] = "dense"

    def _inputs(self, operand: Any) -> Any:
        """Return ``[*rows, inputs]``."""
        kept = [axis for axis in range(operand.ndim) if axis not in self.summed]
        moved = jnp.transpose(operand, (*kept, *self.summed))
        return moved.reshape(*self._rows, self.sizes[0])

    def _gradients(self, output: Any) -> Any:
        """Return ``[*rows, outputs]``."""
        kept = [axis for axis in range(output.ndim) if axis not in self.features]
        moved = jnp.transpose(output, (*kept, *self.features))
        return moved.reshape(*self._rows, self.sizes[1])

    def gradient(self, inputs: Any, gradients: Any) -> Any:
        """Return ``x'g``, or its transpose, as the form has it."""
        x, g = inputs.reshape(-1, self.sizes[0]), gradients.reshape(-1, self.sizes[1])
        product = x.T @ g
        return product if self.layout == "in_out" else product.T


@dataclass(frozen=True)
class Batch:
    """A ``dot_general`` with a matrix for each head or expert: a batch of products.

    Attributes:
        count: Number of products.
        data_axis: Axis of the data that counts them.
    """

    count: int
    data_axis: int

    def of_data(self, data: Any, number: int) -> Any:
        """Return the data of one product."""
        return jnp.take(data, number, axis=self.data_axis)


def one_by_one(
    site: str, which: int, leaf: Leaf, operands: Any, params: Any, output: Any
) -> tuple[Batch, list[Dense]] | None:
    """Return the products of a batch, each of a slice of the parameter.

    Args:
        site: As for `dense`, and the other arguments.
        which: As for `dense`.
        leaf: As for `dense`.
        operands: As for `dense`.
        params: As for `dense`.
        output: As for `dense`.

    Returns:
        The batch, and the use of each product; None if there is no batch, or the slices
        are no parts of the parameter.
    """
    contracting, batch = params["dimension_numbers"]
    if len(batch[0]) != 1:
        return None
    (axis,), (of_data,) = batch[which], batch[1 - which]
    # Without its batch axis, an operand has the axes after it one place earlier.
    inner = tuple(
        tuple(a - (a > gone) for a in summed)
        for summed, (gone,) in zip(contracting, batch, strict=True)
    )
    rest = [n for i, n in enumerate(operands[1 - which].shape) if i != of_data]
    data = jax.ShapeDtypeStruct(tuple(rest), operands[1 - which].dtype)
    one = jax.ShapeDtypeStruct(tuple(output.shape[1:]), output.dtype)
    count = operands[which].shape[axis]
    uses = []
    for number in range(count):
        own = leaf.cut(axis, number, number + 1)
        if own is None:
            return None
        axes = tuple(a for i, a in enumerate(own.view.axes) if i != axis)
        own = replace(own, view=View(axes))
        pair = (own, data) if which == 0 else (data, own)
        use = dense(
            f"{site}[{number}]",
            which,
            own,
            pair,
            params | {"dimension_numbers": (inner, ((), ()))},
            one,
        )
        if isinstance(use, str):
            return None
        uses.append(use)
    return Batch(count, of_data), uses


def dense(
    site: str, which: int, leaf: Leaf, operands: Any, params: Any, output: Any
) -> Dense | str:
    """Return the use of a parameter by ``dot_general``.

    Args:
        site: Name of the place.
        which: Which operand is the parameter.
        leaf: The parameter.
        operands: Both.
        params: Parameters of the primitive.
        output: Something of the shape and dtype of the output.

    Returns:
        The use; or why there is none.
    """
    contracting, batch = params["dimension_numbers"]
    if batch[0]:
        return (
            "dot_general with a matrix for each of several heads, by parts of an axis"
        )
    if leaf.view.is_broadcast:
        return "dot_general after a broadcast"
    axes = leaf.view.axes
    # Summed over in any order: in that in which the parameter has them.
    pairs = sorted(zip(contracting[which], contracting[1 - which], strict=True))
    summed = [axis for axis, _ in pairs]
    kept = [axis for axis in range(len(axes)) if axis not in summed]
    of_inputs = [atom for axis in summed for atom in axes[axis]]
    of_outputs = [atom for axis in kept for atom in axes[axis]]
    shape = leaf.view.shape
    sizes = (
        math.prod(shape[axis] for axis in summed),
        math.prod(shape[axis] for axis in kept),
    )
    layout: DenseLayout = "in_out"
    atoms, core = [*of_inputs, *of_outputs], sizes
    if not in_place(atoms) and in_place([*of_outputs, *of_inputs]):
        layout, atoms, core = "out_in", [*of_outputs, *of_inputs], sizes[::-1]
    data = operands[1 - which]
    free = len(data.shape) - len(summed)
    first = 0 if which == 0 else free
    return Dense(
        site,
        leaf.part,
        form_of(leaf.shape, atoms, core),
        tuple(output.shape),
        output.dtype,
        tuple(range(first, first + len(kept))),
        1 - which,
        layout,
        tuple(axis for _, axis in pairs),
        sizes,
    )
