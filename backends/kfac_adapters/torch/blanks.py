"""What a pass has that does not use a layer: one row of zeros, which counts nothing."""

from collections.abc import Mapping
from typing import Any

import torch

from kfac_adapters.torch.tables import Shape
from kfac_core.linearization import NamedLossInputs
from kfac_core.typing import Array

Blank = Mapping[str, tuple[Any, Any]]
"""For each site a row of inputs, or None, and one of gradients for outputs."""


def shapes_of(blank: Blank) -> dict[str, tuple[Shape | None, Shape | None]]:
    """Return the shapes of rows, which other ranks can be told."""

    def shape(x: Any) -> Shape | None:
        return None if x is None else (tuple(x.shape), x.dtype)

    return {site: (shape(x), shape(g)) for site, (x, g) in blank.items()}


def blank_of(
    shapes: Mapping[str, tuple[Shape | None, Shape | None]], device: torch.device
) -> dict[str, tuple[Any, Any]]:
    """Return rows of zeros of some shapes."""

    def row(known: Shape | None) -> Any:
        if known is None:
            return None
        shape, dtype = known
        return torch.zeros(shape, dtype=dtype, device=device)

    return {site: (row(x), row(g)) for site, (x, g) in shapes.items()}


class Unused:
    """A `kfac_core.Linearization` of a pass that used none of some layers.

    Args:
        blank: Rows for the sites of the layers.
        loss_inputs: A row of what goes into the loss, by its site.
        targets: Its target, by that site, where it is asked for.
        params: The parameters, by name.
    """

    def __init__(
        self,
        blank: Blank,
        loss_inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        params: Mapping[str, torch.Tensor],
    ) -> None:
        self._params, self.batch_size = params, 1
        self.loss_inputs, self.targets = loss_inputs, targets
        (row,) = loss_inputs.values()
        zero = row.new_zeros(1, dtype=torch.float32)
        self.masks: Mapping[str, Any] = dict.fromkeys(blank, zero)
        self.layer_inputs: Mapping[str, Any] = {
            site: x for site, (x, _) in blank.items() if x is not None
        }
        self._gradients = {site: g for site, (_, g) in blank.items()}

    def output_gradients(self, vectors: NamedLossInputs) -> Mapping[str, Array]:
        """Return zeros."""
        del vectors
        return self._gradients

    def param_gradients(self, vectors: NamedLossInputs, names: Any = None) -> Any:
        """Return zeros."""
        del vectors
        return {name: torch.zeros_like(self._params[name]) for name in names}

    def push_forward(self, tangents: Any) -> Any:
        """Return zeros."""
        del tangents
        return {site: torch.zeros_like(x) for site, x in self.loss_inputs.items()}
