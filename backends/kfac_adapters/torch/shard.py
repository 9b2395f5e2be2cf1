"""What ranks that adapt a damping, or find a length, tell each other in a step.

Each has the passes of its shard. The loss that the ranks' mean gradient is of is the
mean of theirs; and the curvature of the batch is the mean of theirs by cases, or, where
the loss is a sum, the mean by ranks, as that of the gradients is. All ranks get the
same bits, and take the same step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kfac_adapters.torch.capture import Capture
from kfac_adapters.torch.products import Part, Products
from kfac_adapters.torch.registering import LOSS
from kfac_core.collectives import Collective, SharedEstimator, Teams
from kfac_core.linearization import NamedLossInputs, NamedParams
from kfac_core.optimizer import KfacOptimizer
from kfac_core.typing import Array


@dataclass(frozen=True)
class Whole:
    """What all shards are together.

    Attributes:
        ranks: The ranks.
        share: The share of this rank in means over all.
        num_cases: How many rows all ranks have.
        loss: The mean loss of the ranks, 0-d; None: they told none.
    """

    ranks: Collective
    share: torch.Tensor
    num_cases: int
    loss: torch.Tensor | None

    @classmethod
    def of(
        cls, ranks: Collective, parts: Sequence[Part], loss: Any, device: torch.device
    ) -> "Whole":
        """Tell all ranks of the passes of this one, and return what all told.

        Args:
            ranks: The ranks.
            parts: The passes of this rank; none, if its shard is empty.
            loss: The loss of its shard; None, on all ranks, if it is not known.
            device: Where the numbers of the model are.

        Returns:
            What is known, the same on all ranks but for their shares.
        """
        summed = any(part.judged.loss.reduction == "sum" for part in parts)
        rows = sum(len(part.rows) for part in parts)
        cases = sum(part.judged.cases for part in parts)
        own = [rows, summed, cases]
        numbers = torch.tensor(own, dtype=torch.float64, device=device)
        total: Any = ranks.all_reduce(numbers)
        number, are_sums, counting = total.tolist()
        share = 1 / ranks.size if are_sums else cases / max(counting, 1)
        found = None if loss is None else mean_of_ranks(ranks, loss, device)
        return cls(ranks, numbers.new_tensor(share), int(number), found)

    def mean(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the mean of numbers over all ranks, by their shares."""
        own = numbers.double() * self.share
        mean: torch.Tensor = self.ranks.all_reduce(own)
        return mean.to(numbers.dtype)


def mean_of_ranks(ranks: Collective, loss: Any, device: torch.device) -> torch.Tensor:
    """Return the mean of the losses of all ranks, 0-d, in the dtype of this one's."""
    dtype = loss.dtype if isinstance(loss, torch.Tensor) else torch.float64
    own = torch.as_tensor(loss, dtype=torch.float64, device=device).detach()
    total: torch.Tensor = ranks.all_reduce(own)
    return (total / ranks.size).to(dtype)


class Shard(Products):
    """A `kfac_core.linearization.ShardLinearization` of the passes of one rank.

    Args:
        capture: The model.
        parts: The passes; none, if the shard is empty.
        like: A row of what goes into the loss, ``[1, n]``, for a shard without any.
        whole: All shards.
    """

    def __init__(
        self,
        capture: Capture,
        parts: list[Part],
        like: torch.Tensor,
        whole: Whole,
    ) -> None:
        self._whole = whole
        if parts:
            super().__init__(capture, parts)
            return
        self._parts, self.batch_size = [], 1
        row = torch.zeros_like(like)
        self.loss_inputs = {LOSS: row}
        self.targets, self.layer_inputs = {}, {}
        self.masks = {LOSS: row[:, 0]}

    @property
    def num_cases(self) -> int:
        """The number of cases of all shards."""
        return self._whole.num_cases

    def mean_of_shards(self, numbers: Array) -> Array:
        """Return the mean over all shards of numbers of this one."""
        mean: Array = self._whole.mean(numbers)
        return mean

    def push_forward(self, tangents: NamedParams) -> NamedLossInputs:
        """Return the change of what goes into the loss; none, if there are no cases."""
        return super().push_forward(tangents) if self._parts else self.loss_inputs


@dataclass(frozen=True, kw_only=True)
class SharedOptimizer(KfacOptimizer[Any]):
    """The core's optimiser on one of several ranks, which share its inverses.

    Attributes:
        teams: The ranks.
    """

    teams: Teams

    def __post_init__(self) -> None:
        """Check the options, and share the estimator.

        Raises:
            KfacError: What `kfac_core.KfacOptimizer` raises.
            UnsupportedError: If layers have one inverse together.
        """
        super().__post_init__()
        shared = SharedEstimator(self.estimator, self.teams)
        object.__setattr__(self, "estimator", shared)
