"""Rows of cases that are ignored, and that reach the losses of other cases.

Where the loss of a position is ignored, its row of a layer before attention may still
have a gradient: a prompt has that of its answer. Such a row counts. One that nothing
reaches, such as padding, does not.
"""

from collections.abc import Iterable, Mapping

import torch

from kfac_adapters.row_orders import RowOrder


def reaches_one(orders: Iterable[tuple[int, RowOrder]]) -> bool:
    """Return whether each row of a layer is known to reach one case alone.

    Args:
        orders: The orders of its rows that are known, by their number of axes.
    """
    known = [own for _, order in orders for own in order.known]
    return bool(known) and all(known)


class Reached:
    """Which rows have had a gradient, by site."""

    def __init__(self) -> None:
        self._rows: dict[str, torch.Tensor] = {}

    def add(self, gradients: Mapping[str, torch.Tensor], *, shared: bool) -> None:
        """Add the rows that gradients for outputs reach.

        Args:
            gradients: By site, ``[cases, ...]``, or with an axis of uses after that.
            shared: Whether they have it.
        """
        axes = 2 if shared else 1
        for site, g in gradients.items():
            own = (g != 0).reshape(*g.shape[:axes], -1).any(-1)
            known = self._rows.get(site)
            self._rows[site] = own if known is None else known | own

    def counts(self, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return how much the rows count.

        Args:
            mask: How much each case counts, ``[cases]``.

        Returns:
            For each site with rows of all cases that of a row's own case; and where
            this is zero, and the row is reached, that of the mean case that counts.
        """
        counting = mask > 0
        typical = mask.sum() / counting.sum().clamp(min=1)
        found = {}
        for site, rows in self._rows.items():
            if rows.shape[0] != mask.shape[0]:
                continue
            own = mask.reshape(-1, *[1] * (rows.ndim - 1))
            found[site] = torch.where(own > 0, own, typical * rows)
        return found
