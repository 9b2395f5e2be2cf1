"""`Site`: the data of one or several uses of a layer, as its block takes them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from kfac_adapters.jax.uses.base import Use
from kfac_adapters.row_orders import RowOrder
from kfac_core.errors import ArgumentError

Arrangement = Literal["rows", "joint", "images", "cases"]
"""How data are arranged: rows of features, those of cases together, images, or whole
cases."""


class Cases(NamedTuple):
    """The cases of a batch, and where they are in the rows of layers.

    Attributes:
        shape: Sizes of the axes that count them.
        orders: Order of the rows of each use, by site.
    """

    shape: tuple[int, ...]
    orders: Mapping[str, RowOrder]

    @property
    def size(self) -> int:
        """Number of cases."""
        return math.prod(self.shape)


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

    def inputs(self, records: Mapping[str, Any], cases: Cases) -> Any:
        """Return the inputs of all uses, ``[cases, ...]``."""
        return self._arranged(
            [use.inputs(records[use.site]) for use in self.uses], cases
        )

    def gradients(self, outputs: Mapping[str, Any], cases: Cases) -> Any:
        """Return the gradients of all uses, ``[cases, ...]``."""
        return self._arranged(
            [use.gradients(outputs[use.site]) for use in self.uses], cases
        )

    def counts(self, weights: Any, cases: Cases) -> Any | None:
        """Return how much each row counts, where rows are not each of one case.

        Args:
            weights: How much each case counts, ``[cases]``.
            cases: The cases.

        Returns:
            An array of the leading axes of `inputs`; None, if each row counts as its
            case does.

        Raises:
            ArgumentError: If it was not tried to which case a row belongs.
        """
        orders = [cases.orders[use.site] for use in self.uses]
        for order in orders:
            self._check_known(order, cases)
        if all(order.knows_all for order in orders):
            return None
        own = weights.reshape(cases.shape)
        arrays = [
            order.weights(own, use.rows, cases.shape)
            for order, use in zip(orders, self.uses, strict=True)
        ]
        ones = [jnp.ones(use.rows, weights.dtype) for use in self.uses]
        arrays = [one if x is None else x for x, one in zip(arrays, ones, strict=True)]
        found = self._arranged(arrays, cases)
        if self.arrangement == "cases":  # a case has all its positions
            found = found.reshape(cases.size, -1).max(axis=1)
        return found

    def row_counts(self, records: Mapping[str, Any], cases: Cases) -> Any | None:
        """Return which rows are of the layer, where the data say it; else None."""
        if not any(use.kind == "expert" for use in self.uses):
            return None
        own = [use.counts(records[use.site]) for use in self.uses]
        return self._arranged(own, cases)

    def _check_known(self, order: RowOrder, cases: Cases) -> None:
        """Check that it was tried to which case each row belongs.

        Raises:
            ArgumentError: If it was not.
        """
        if any(
            known is None and size > 1
            for known, size in zip(order.known, cases.shape, strict=True)
        ):
            msg = (
                f"{self.name}: some cases are ignored or weighed, but it is not known"
                " to which case each row of this layer belongs; capture the function"
                " with verify=True, and a first batch of several cases"
            )
            raise ArgumentError(msg)

    def _arranged(self, arrays: list[Any], cases: Cases) -> Any:
        if self.arrangement == "cases":
            (array,), (use,) = arrays, self.uses
            found = cases.orders[use.site].arranged(array, use.rows, cases.shape)
            if found is None:
                msg = (
                    f"{self.name}: its output of shape {use.shape} has no axes of the"
                    f" {cases.shape} cases, as it had when it was captured; capture the"
                    " function anew"
                )
                raise ArgumentError(msg)
            return found
        if self.arrangement == "joint":
            flat = [
                array.reshape(-1, *array.shape[len(use.rows) :])
                for use, array in zip(self.uses, arrays, strict=True)
            ]
            rows = jnp.concatenate(flat)
            # As many for each case, or those of one case alone.
            count = 1 if len(rows) % cases.size else cases.size
            return rows.reshape(count, -1, *rows.shape[1:])
        by_case = [
            self._by_case(use, array, cases)
            for use, array in zip(self.uses, arrays, strict=True)
        ]
        if by_case[0] is None:
            ((use,), (array,)) = self.uses, arrays
            return array.reshape(-1, *array.shape[len(use.rows) :])
        found = by_case[0] if len(by_case) == 1 else jnp.concatenate(by_case, axis=1)
        if self.arrangement == "images" or found.shape[1] == 1:
            return found.reshape(-1, *found.shape[2:])
        return found

    def _by_case(self, use: Use, array: Any, cases: Cases) -> Any | None:
        """Return ``[cases, uses, ...]``; None of fewer rows than cases."""
        own = array.shape[len(use.rows) :]
        rows = math.prod(use.rows)
        if rows < cases.size:
            return None
        order = cases.orders[use.site]
        found = order.arranged(array, use.rows, cases.shape)
        if found is None:
            found = array
        return found.reshape(cases.size, rows // cases.size, *own)


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
