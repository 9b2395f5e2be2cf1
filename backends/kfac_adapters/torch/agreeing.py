"""What ranks tell each other before a step, so that all take it or none does.

A rank that raised an error alone would leave the others waiting. So each tells of its
passes in a few numbers, which are summed: all see the same, and raise the same.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import torch

from kfac_core.collectives import Collective
from kfac_core.errors import UnsupportedError
from kfac_core.estimator import FisherEstimator


@dataclass(frozen=True)
class Own:
    """What a rank tells of its passes in a step.

    Attributes:
        layers: The estimator of its layers; None before the first pass.
        is_whole: Whether no other rank can tell more of them.
        is_refused: Whether a pass was refused.
        has_error: Whether one raised an error.
        lacks_inverses: Whether there are no inverses.
        passes: How many passes were taken.
        summed_cases: How many cases count in them, if the loss is a sum; else zero.
    """

    layers: FisherEstimator | None
    is_whole: bool
    is_refused: bool
    has_error: bool
    lacks_inverses: bool
    passes: int
    summed_cases: int


@dataclass(frozen=True)
class Agreed:
    """What is known of the passes of all ranks in a step.

    Attributes:
        know_layers: How many ranks know layers.
        differ: Whether one of these knows other layers than another, or may not know
            all that another does.
        is_refused: Whether a pass of some rank was refused.
        has_error: Whether one raised an error.
        lacks_inverses: Whether some rank has no inverses.
        passes: How many passes are in the statistics.
    """

    know_layers: int
    differ: bool
    is_refused: bool
    has_error: bool
    lacks_inverses: bool
    passes: int


def agreed(ranks: Collective, device: torch.device, own: Own) -> Agreed:
    """Tell all ranks of the passes of this one, and return what all told.

    Args:
        ranks: The ranks.
        device: Where the numbers of the model are.
        own: What this rank tells.

    Returns:
        What is known, the same on all ranks.

    Raises:
        UnsupportedError: If the loss is a sum, and ranks have other numbers of cases.
    """
    flags = own.is_whole, own.is_refused, own.has_error, own.lacks_inverses
    layers, cases = _number(own.layers), own.summed_cases
    squares = layers, layers**2, cases, cases**2
    told = [own.layers is not None, *flags, own.passes, *squares]
    numbers = torch.tensor(told, dtype=torch.float64, device=device)
    sums: Any = ranks.all_reduce(numbers)
    size = ranks.size
    known, whole, refused, errors, lacking, passes, *rest = sums.tolist()
    layers, of_layers, cases, of_cases = rest
    # Where the mean of squares is the square of the mean, all numbers are equal.
    differ = known < size or whole < size or layers**2 != of_layers * size
    if cases**2 != of_cases * size and not (refused or errors):
        msg = (
            f"reduction is 'sum', and of the {int(cases)} cases of this step this rank"
            f" has {own.summed_cases}, expected as many on each of {size} ranks: the"
            " mean of their gradients is that of no sum over cases. Take reduction="
            "'mean', and divide the loss of a rank by the cases of all, times the"
            " number of ranks"
        )
        raise UnsupportedError(msg)
    return Agreed(int(known), differ, refused > 0, errors > 0, lacking > 0, int(passes))


def _number(estimator: FisherEstimator | None) -> int:
    """Return a number that tells the layers of estimators from each other."""
    if estimator is None:
        return 0
    blocks = [(name, repr(block)) for name, block in estimator.blocks.items()]
    return zlib.crc32(repr(blocks).encode()) % 2**20
