"""Rows of a table: ``gather`` from a parameter by ids."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from kfac_adapters.jax.forms import form_of
from kfac_adapters.jax.uses.base import Leaf, Use


@dataclass(frozen=True)
class Embedding(Use):
    """A lookup ``W[ids]``.

    Attributes:
        sizes: Number of rows of the table, and their length.
        clipped: Whether ids out of range stand for the first or last row.
        filled: Whether they stand for none, and give a number that is said.
    """

    sizes: tuple[int, int]
    clipped: bool
    filled: bool

    kind: ClassVar[str] = "embedding"

    def _inputs(self, operand: Any) -> Any:
        """Return ids, ``[*rows]``."""
        ids, size = operand.reshape(self._rows), self.sizes[0]
        if self.filled:
            return jnp.where((ids < 0) | (ids >= size), -1, ids)
        return jnp.clip(ids, 0, size - 1) if self.clipped else ids

    def _gradients(self, output: Any) -> Any:
        """Return ``[*rows, features]``."""
        kept = [axis for axis in range(output.ndim) if axis not in self.features]
        moved = jnp.transpose(output, (*kept, *self.features))
        return moved.reshape(*self._rows, self.sizes[1])

    def gradient(self, inputs: Any, gradients: Any) -> Any:
        """Return the sums of the gradients of each row of the table."""
        g, ids = gradients.reshape(-1, self.sizes[1]), inputs.reshape(-1)
        some = (ids >= 0)[:, None]
        return jax.ops.segment_sum(jnp.where(some, g, 0), ids, self.sizes[0])


def embedding(
    site: str, which: int, leaf: Leaf, operands: Any, params: Any, output: Any
) -> Embedding | str:
    """Return the use of a parameter by ``gather``; see `dense` for the arguments."""
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    collapsed = tuple(numbers.collapsed_slice_dims)
    axes, shape = leaf.view.axes, leaf.view.shape
    looked_up = (
        which == 0
        and len(collapsed) == 1
        and tuple(numbers.start_index_map) == collapsed
        and not getattr(numbers, "operand_batching_dims", ())
        and all(
            size == (1 if axis in collapsed else shape[axis])
            for axis, size in enumerate(sizes)
        )
    )
    if not looked_up:
        return "a gather of other parts than whole rows"
    if leaf.view.is_broadcast:
        return "gather after a broadcast"
    kept = [axis for axis in range(len(axes)) if axis not in collapsed]
    atoms = [*axes[collapsed[0]], *(atom for axis in kept for atom in axes[axis])]
    length = math.prod(shape[axis] for axis in kept)
    table = (shape[collapsed[0]], length)
    return Embedding(
        site,
        leaf.part,
        form_of(leaf.shape, atoms, table),
        tuple(output.shape),
        output.dtype,
        tuple(numbers.offset_dims),
        1,
        table,
        clipped="CLIP" in str(params["mode"]).upper(),
        filled="FILL" in str(params["mode"]).upper()
        and params.get("fill_value") is not None,
    )
