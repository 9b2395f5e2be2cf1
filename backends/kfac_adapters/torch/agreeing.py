"""What ranks tell each other before a step, so that all take it or none does.

A rank that raised an error alone would leave the others waiting. So each tells of its
passes in a few numbers, which are summed: all see the same, and raise the same.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import torch

from kfac_core.collectives import Collective
from kfac_core.errors import NotComputedError, StateError
from kfac_core.estimator import FisherEstimator


@dataclass(frozen=True)
class Agreed:
    """What is known of the passes of all ranks in a step.

    Attributes:
        has_statistics: Whether all ranks know the layers.
        is_refused: Whether a pass of some rank was refused.
        passes: How many passes are in the statistics.
        lacks_inverses: Whether some rank has no inverses.
    """

    has_statistics: bool
    is_refused: bool
    passes: int
    lacks_inverses: bool


def agreed(
    ranks: Collective,
    device: torch.device,
    estimator: FisherEstimator | None,
    refused: str,
    passes: int,
    lacks_inverses: bool,
) -> Agreed:
    """Tell all ranks of the passes of this one, and return what all told.

    Args:
        ranks: The ranks.
        device: Where the numbers of the model are.
        estimator: That of the layers; None before the first pass.
        refused: Why a pass was refused, or an empty text.
        passes: How many passes were taken.
        lacks_inverses: Whether there are no inverses.

    Returns:
        What is known, the same on all ranks.

    Raises:
        NotComputedError: If some ranks know the layers, and others saw no pass yet.
        StateError: If two ranks have other layers.
    """
    layers = _number(estimator)
    own = estimator is not None, bool(refused), lacks_inverses
    numbers = torch.tensor(
        [*own, passes, layers, layers**2], dtype=torch.float64, device=device
    )
    sums: Any = ranks.all_reduce(numbers)
    known, refusals, lacking, total, mean, square = sums.tolist()
    size = ranks.size
    if 0 < known < size and not refusals:
        msg = (
            f"of {size} ranks, {size - int(known)} have seen no backward pass of a case"
            " yet, through the model's outputs, and know no layers; the first batch of"
            " each rank needs at least one case"
        )
        raise NotComputedError(msg)
    if known == size and mean**2 != square * size:  # else all numbers are equal
        msg = (
            "ranks have other layers than each other; make the model and its options"
            " alike on all ranks"
        )
        raise StateError(msg)
    return Agreed(known == size, refusals > 0, int(total), lacking > 0)


def _number(estimator: FisherEstimator | None) -> int:
    """Return a number that tells the layers of estimators from each other."""
    if estimator is None:
        return 0
    blocks = [(name, repr(block)) for name, block in estimator.blocks.items()]
    return zlib.crc32(repr(blocks).encode()) % 2**20
