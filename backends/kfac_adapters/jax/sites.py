"""`Site`: the data of one or several uses of a layer, as its block takes them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax.numpy as jnp

from kfac_adapters.jax.uses.base import Use

Arrangement = Literal["rows", "images", "cases"]
"""How data are arranged: rows of features, images, or whole cases."""


@dataclass(frozen=True)
class Site:
    """Where a layer's data come from.

    Attributes:
        name: Its name.
        uses: The uses whose data are its own, one after another.
        arrangement: How the block takes them.
        takes_inputs: Whether the block asks for inputs.
    """

    name: str
    uses: tuple[Use, ...]
    arrangement: Arrangement
    takes_inputs: bool = True

    def with_uses(self, uses: Mapping[str, Use]) -> "Site":
        """Return the site with its uses as they are for another batch."""
        return replace(self, uses=tuple(uses[use.site] for use in self.uses))

    def inputs(self, records: Mapping[str, Any], cases: int) -> Any:
        """Return the inputs of all uses, ``[cases, ...]``."""
        return self._arranged(
            [use.inputs(records[use.site]) for use in self.uses], cases
        )

    def gradients(self, outputs: Mapping[str, Any], cases: int) -> Any:
        """Return the gradients of all uses, ``[cases, ...]``."""
        return self._arranged(
            [use.gradients(outputs[use.site]) for use in self.uses], cases
        )

    def _arranged(self, arrays: list[Any], cases: int) -> Any:
        if self.arrangement == "images":
            return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays)
        if self.arrangement == "cases":
            (array,) = arrays
            return array.reshape(cases, *array.shape[case_axes(array.shape, cases) :])
        if len(arrays) == 1 and arrays[0].shape[0] <= cases:
            return arrays[0]
        by_case = [x.reshape(cases, x.shape[0] // cases, *x.shape[1:]) for x in arrays]
        return by_case[0] if len(by_case) == 1 else jnp.concatenate(by_case, axis=1)


def case_axes(shape: tuple[int, ...], cases: int, most: int | None = None) -> int:
    """Return how many leading axes count the cases; -1 if none do.

    Args:
        shape: Shape of an output.
        cases: Number of cases.
        most: The largest answer.
    """
    for count in range(1, len(shape) + 1 if most is None else most + 1):
        if math.prod(shape[:count]) == cases:
            return count
    return -1


def uses_per_case(rows: list[int], cases: int) -> int | str:
    """Return how many rows of a layer a case has; or why that is no number.

    Args:
        rows: Number of rows of each use.
        cases: Number of cases.

    Returns:
        One also where a layer has fewer rows than there are cases.
    """
    if len(rows) == 1 and rows[0] <= cases:
        return 1
    if any(count % cases for count in rows):
        return f"it has {rows} rows, which is no multiple of the {cases} cases"
    return sum(rows) // cases
