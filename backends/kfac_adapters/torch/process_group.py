"""`ProcessGroup`: a group of `torch.distributed` as a collective."""

from collections.abc import Callable, Sequence
from datetime import timedelta
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

    def start_all_reduce(self, x: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Begin a sum, and return what waits for it."""
        total = x.detach().clone(memory_format=torch.contiguous_format)
        work: Any = distributed.all_reduce(total, group=self._group, async_op=True)

        def wait() -> torch.Tensor:
            if work is not None:  # this process is in the group
                work.wait()
            return total

        return wait

    def broadcast(self, x: torch.Tensor, root: int) -> torch.Tensor:
        """Return the tensor of one rank, by its number in the group."""
        own = x.detach().clone(memory_format=torch.contiguous_format)
        distributed.broadcast(own, group=self._group, group_src=root)
        return own

    def split(self, groups: Sequence[Sequence[int]]) -> "ProcessGroup":
        """Return the group of this rank, which waits as long as the whole does."""
        parent = self._group or distributed.group.WORLD
        rank = self.rank
        own = next(group for group in groups if rank in group)
        made = distributed.new_group(
            [distributed.get_global_rank(parent, each) for each in own],
            timeout=_timeout(parent),
            backend=distributed.get_backend(parent),
            use_local_synchronization=True,
        )
        return ProcessGroup(made)


def _timeout(group: Any) -> timedelta | None:
    """Return how long a group waits; None: it does not say."""
    for device in group._device_types:
        found = getattr(group._get_backend(device).options, "_timeout", None)
        if isinstance(found, timedelta):
            return found
    return None
