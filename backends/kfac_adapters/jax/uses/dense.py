"""Products with a matrix: ``dot_general`` of a parameter and data."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from kfac_adapters.jax.forms import form_of, in_place
from kfac_adapters.jax.uses.base import Leaf, Use
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
