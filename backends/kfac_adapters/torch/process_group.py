"""`ProcessGroup`: a group of `torch.distributed` as a collective."""

from typing import Any

import torch
from torch import distributed


class ProcessGroup:
    """The ranks of a process group, as a `kfac_core.collectives.Collective`.

    Args:
        group: A process group of `torch.distributed`; None: that of all processes.
    """

    def __init__(self, group: Any = None) -> None:
        self._group = group

    @property
    def rank(self) -> int:
        """The number of this process in the group."""
        return int(distributed.get_rank(self._group))

    @property
    def size(self) -> int:
        """The number of processes of the group."""
        return int(distributed.get_world_size(self._group))

    def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of the tensors of all ranks."""
        total = x.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total, group=self._group)
        return total

    def broadcast(self, x: torch.Tensor, root: int) -> torch.Tensor:
        """Return the tensor of one rank, by its number in the group."""
        own = x.detach().clone(memory_format=torch.contiguous_format)
        distributed.broadcast(own, group=self._group, group_src=root)
        return own
