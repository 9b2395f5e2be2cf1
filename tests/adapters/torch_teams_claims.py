"""Claims on ranks of which not all keep an inverse; see `torch_ranks_program`."""

import pytest
import torch
from ranks_and_shards import (
    RANK,
    RANKS,
    backward,
    batches,
    everywhere,
    far,
    made,
    options,
    shard,
    spread,
)
from torch import distributed, nn

from kfac_adapters.torch import KFAC, ProcessGroup
from kfac_core import tree
from kfac_core.collectives import Counted, step_costs
from kfac_core.errors import ArgumentError


class Deep(nn.Sequential):
    """Three layers, with these numbers of rows of both factors."""

    sizes = ((4, 5), (6, 4), (5, 2))

    def __init__(self):
        super().__init__(
            nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)
        )


def fraction(ranks):
    """Ranks that keep no inverse of a layer receive its products, and move alike."""
    moved = []
    for share in (1.0, 0.5, 0.0):
        counted = Counted(ProcessGroup())
        ddp = spread(made(Deep))
        optimizer = KFAC(
            ddp,
            collective=counted,
            gradient_worker_fraction=share,
            **options(invert_every=2, norm_constraint=1e-2),
        )
        costs = step_costs(Deep.sizes, RANKS, share, itemsize=8)
        for step, whole in enumerate(batches(4)):
            if step == 3 and share == 0:
                optimizer = resumed(optimizer, ddp, counted)
            counted.reset()
            optimizer.zero_grad()
            backward(ddp, *shard(0, *whole))
            optimizer.step()
            if step % 2:  # no new inverses: products alone
                numbers = torch.tensor([0.0] * RANKS)
                numbers[RANK] = counted.received
                assert int(ranks.all_reduce(numbers).max()) == costs.product_bytes
        everywhere(ddp.parameters(), ranks)
        kept = [x for x in tree.leaves(optimizer._tracker.state) if x.ndim == 2]
        held = sum(x.untyped_storage().nbytes() for x in kept if 0 in x.stride())
        assert held <= 8 * len(kept)
        assert any(0 in x.stride() for x in kept) == (costs.workers < RANKS)
        moved.append(ddp.module)
    assert all(far(moved[0], other) == 0 for other in moved[1:])
    with pytest.raises(ArgumentError, match="gradient_worker_fraction"):
        KFAC(made(), gradient_worker_fraction=1.5)


class Waiting(ProcessGroup):
    """A group that keeps a list of the sums that nobody waited for yet."""

    def __init__(self):
        super().__init__()
        self.sent = []

    def start_all_reduce(self, x):
        wait = super().start_all_reduce(x)
        self.sent.append(wait)

        def waited():
            self.sent.remove(wait)
            return wait()

        return waited


class AtOnce:
    """A group that waits for all that it sends."""

    def __init__(self):
        own = ProcessGroup()
        self.rank, self.size = own.rank, own.size
        self.all_reduce, self.broadcast = own.all_reduce, own.broadcast


def overlap(ranks):
    """Statistics are sent while a step goes on without them, to the same bits."""
    moved = []
    for group in (Waiting(), AtOnce()):
        ddp = spread(made(Deep))
        optimizer = KFAC(ddp, collective=group, **options(invert_every=3, cov_every=2))
        for step, whole in enumerate(batches(7)):
            optimizer.zero_grad()
            backward(ddp, *shard(0, *whole))
            optimizer.step()
            if isinstance(group, Waiting):
                # Sent in steps 0, 2, 4 and 6, and needed by inverses in 0, 3 and 6.
                assert bool(group.sent) == (step in (2, 4, 5))
        everywhere(ddp.parameters(), ranks)
        moved.append(ddp.module)
        optimizer.state_dict()
        assert not (isinstance(group, Waiting) and group.sent)
    assert far(*moved) == 0


def resumed(optimizer, ddp, counted):
    """Return an optimiser that goes on from the state of this rank."""
    saved = optimizer.state_dict()
    optimizer.remove()
    more = options(invert_every=2, norm_constraint=1e-2)
    other = KFAC(ddp, collective=counted, gradient_worker_fraction=0.0, **more)
    other.load_state_dict(saved)
    return other


def elsewhere(ranks):
    """The file of one rank, without the inverses of others, goes on at any."""
    ddp = spread(made())
    optimizer = KFAC(ddp, gradient_worker_fraction=0.0, **options(invert_every=3))
    data = [*batches(4)]
    for whole in data[:2]:
        optimizer.zero_grad()
        backward(ddp, *shard(0, *whole))
        optimizer.step()
    saved = [optimizer.state_dict()]
    distributed.broadcast_object_list(saved, src=0)
    optimizer.remove()
    for share in (0.0, 1.0):
        other = KFAC(ddp, gradient_worker_fraction=share, **options(invert_every=3))
        other.load_state_dict(saved[0])
        for whole in data[2:]:
            other.zero_grad()
            backward(ddp, *shard(0, *whole))
            other.step()
            assert other.last_step.taken
        everywhere(ddp.parameters(), ranks)
        other.remove()
