"""What a `LayerCollection` holds: a layer, and a loss."""

import math
from dataclasses import dataclass
from typing import Any

from kfac_core.fisher_blocks import FisherBlock
from kfac_core.loss_functions import LossFunction

Key = tuple[str, ...]
"""Names of the parameters of a layer: of its weights, then of its bias."""


@dataclass(frozen=True)
class LayerRegistration:
    """A layer: its parameters, the block of their Fisher, and where data comes from.

    A tower is a shard of the batch, such as that of one device. It has one site, whose
    arrays go to the block as they are; or several, the uses of the layer within a case,
    whose arrays go to the block as one `kfac_core.typing.Uses`.

    Attributes:
        params: Names of its parameters: of the weights, then of the bias.
        block: Spec of its block.
        towers: For each tower the sites of its uses, in their order; none if the block
            takes the gradients for the parameters themselves.
    """

    params: Key
    block: FisherBlock[Any]
    towers: tuple[tuple[str, ...], ...] = ()

    @property
    def name(self) -> str:
        """Name for messages: that of its block."""
        return self.block.label

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites of all towers, in order."""
        return tuple(site for tower in self.towers for site in tower)

    @property
    def num_uses(self) -> float:
        """How often the model uses the parameters; infinite if any number will do."""
        return len(self.sites) or math.inf


@dataclass(frozen=True)
class LossRegistration:
    """A loss: its spec, its coefficient in the total, and where its inputs come from.

    Attributes:
        name: Its name, unlike that of any other.
        loss: The spec.
        coeff: What it is multiplied by in the total loss, and its Fisher likewise.
        towers: For each tower the site of what goes into it.
    """

    name: str
    loss: LossFunction
    coeff: float
    towers: tuple[str, ...]
