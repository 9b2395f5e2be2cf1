"""Claims on several processes: all, or those that are named.

    python forked_ranks.py RANKS FOLDER torch_ranks_program.py [CLAIM ...]

Every rank prints a line for each claim that holds. In the end the last rank kills
itself in the middle of a step.
"""

import copy
import os
import signal
import sys
import time
from datetime import timedelta

import pytest
import torch
from ranks_and_shards import (
    RANK,
    RANKS,
    STEPS,
    STORE,
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
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch_adapting_claims import adapt, correct, go_on, ignore, in_parts
from torch_dtensor_claims import gather
from torch_experts_claims import again, differ, gate, late, parts, route, sum_up
from torch_teams_claims import Deep, elsewhere, fraction, overlap

from kfac_adapters.torch import KFAC, Preconditioner, ProcessGroup
from kfac_core.collectives import Counted, SingleProcess, step_costs
from kfac_core.errors import (
    StateError,
    UnsupportedError,
)

SECONDS = 20


def statistics(optimizer):
    """Return the averages of all factors."""
    state = optimizer._tracker.state
    blocks = optimizer._tracker.estimator.blocks
    pairs = [p for n, b in blocks.items() for p in b.factors(state.blocks[n]).values()]
    return [spec.get_cov(own) for spec, own in pairs]


def train(ranks):
    model, alone = made(), made()
    ddp = spread(model, find_unused_parameters=True)
    optimizer, expected = KFAC(ddp, **options()), KFAC(alone, **options())
    for step, whole in enumerate(batches(STEPS)):
        leaves_out = step % 3 == 2
        for own, data, net in (
            (optimizer, shard(step, *whole), ddp),
            (expected, whole, alone),
        ):
            own.zero_grad()
            backward(net, *data, leaves_out=leaves_out)
            own.step()
            assert own.last_step.taken
        everywhere(model.parameters(), ranks)
        if step == 3:
            for x, y in zip(statistics(optimizer), statistics(expected), strict=True):
                torch.testing.assert_close(x, y, rtol=0, atol=1e-12)
    assert far(model, alone) < 1e-8
    return ddp, optimizer


def precondition(ranks):
    model, alone = made(), made()
    ddp = spread(model)
    own = Preconditioner(ddp, "cross_entropy", damping=0.1, mode="empirical")
    expected = Preconditioner(alone, "cross_entropy", damping=0.1, mode="empirical")
    (whole,) = batches(1)
    backward(ddp, *shard(0, *whole))
    backward(alone, *whole)
    own.step()
    expected.step()
    for x, y in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-10)


def accumulate(ranks):
    model, alone = made(), made()
    ddp = spread(model)
    optimizer, expected = KFAC(ddp, **options()), KFAC(alone, **options())
    for whole in batches(3):
        optimizer.zero_grad()
        expected.zero_grad()
        x, y = shard(0, *whole)
        with ddp.no_sync():
            backward(ddp, x[:1], y[:1])
        backward(ddp, x[1:], y[1:])
        optimizer.step()
        backward(alone, *whole)
        expected.step()
        everywhere(model.parameters(), ranks)
    assert far(model, alone) < 1e-10


def count(ranks):
    counted = Counted(ProcessGroup())
    model = made(lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))
    ddp = spread(model)
    optimizer = KFAC(ddp, collective=counted, **options(invert_every=2))
    costs = step_costs([(4, 5), (6, 2)], RANKS, itemsize=8)
    scalars = 2 * (4 * 8)  # weights of two factors, and of rows
    for step, whole in enumerate(batches(3)):
        counted.reset()
        optimizer.zero_grad()
        backward(ddp, *shard(0, *whole))
        optimizer.step()
        told = 10 * 8 + 8 + (step % 2 == 0) * 8 * RANKS
        assert counted.reduced == costs.statistics_bytes + scalars + told
        sent = sum(counted.copied.values())
        assert sent == (step % 2 == 0) * (costs.statistics_bytes + 2 * (5 * 8 + 4))


def skip(ranks):
    model = made()
    ddp = spread(model)
    optimizer = KFAC(ddp, **options())
    taken = []
    for step, (x, y) in enumerate(batches(3)):
        x, y = shard(0, x, y)
        if step == 1 and RANK == RANKS - 1:
            x = x * float("inf")
        optimizer.zero_grad()
        backward(ddp, x, y)
        optimizer.step()
        taken.append(optimizer.last_step.taken)
        everywhere(model.parameters(), ranks)
        everywhere(statistics(optimizer), ranks)
    assert taken == [True, False, True]
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def resume(ranks):
    """The file of any rank goes on as the run itself does, in a random mode too."""
    data = [*batches(6)]

    def run(optimizer, ddp, steps):
        for whole in data[steps]:
            optimizer.zero_grad()
            backward(ddp, *shard(0, *whole))
            optimizer.step()

    random = options(mode="gradients", invert_every=2)
    ddp = spread(made())
    optimizer = KFAC(ddp, **random)
    run(optimizer, ddp, slice(0, 3))
    again = spread(copy.deepcopy(ddp.module))
    # DistributedDataParallel adds in another order from its second pass on.
    backward(again, *shard(0, *data[0]))
    other = KFAC(again, **random)
    saved = [optimizer.state_dict()]
    distributed.broadcast_object_list(saved, src=RANKS - 1)
    other.load_state_dict(saved[0])
    run(optimizer, ddp, slice(3, 6))
    run(other, again, slice(3, 6))
    assert far(ddp.module, again.module) == 0
    everywhere(ddp.parameters(), ranks)


def part(ranks):
    """Ranks that share gradients alone do not stay together."""
    ddp = spread(made())
    optimizer = KFAC(ddp, collective=SingleProcess(), **options())
    (whole,) = batches(1)
    backward(ddp, *shard(0, *whole))
    optimizer.step()
    first = ranks.broadcast(ddp.module.first.weight, 0)
    assert torch.equal(first, ddp.module.first.weight) == (RANK == 0)


def refuse(ranks):
    chain, structure = spread(made(Deep)), {"structure": "block_tridiagonal"}
    together = KFAC(chain, **options(options=structure))
    (whole,) = batches(1)
    backward(chain, *shard(0, *whole))
    with pytest.raises(UnsupportedError, match="one inverse together"):
        together.step()
    mesh = init_device_mesh("cpu", (RANKS,))
    with pytest.raises(UnsupportedError, match="'last' has a DTensor"):
        KFAC(parallelize_module(made(), mesh, {"last": ColwiseParallel()}), **options())
    (whole,) = batches(1)
    size = 3 + (RANK == 0)
    apart = made(lambda: nn.Linear(size, 2))
    optimizer = KFAC(apart, collective=ranks, **options())
    backward(apart, whole[0].new_ones(4, size), whole[1][:4])
    with pytest.raises(StateError, match="other layers"):
        optimizer.step()


def _run_until_one_dies(ddp, optimizer):
    for step, whole in enumerate(batches(STEPS)):
        optimizer.zero_grad()
        backward(ddp, *shard(0, *whole))
        if step == 2 and RANK == RANKS - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer.step()


def die(ranks):
    ddp = spread(made())
    optimizer = KFAC(ddp, **options())
    start = time.monotonic()
    with pytest.raises(RuntimeError):
        _run_until_one_dies(ddp, optimizer)
    assert time.monotonic() - start < 2 * SECONDS


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        f"file://{STORE}",
        rank=RANK,
        world_size=RANKS,
        timeout=timedelta(seconds=SECONDS),
    )
    group = ProcessGroup()
    claims = [train, precondition, accumulate, count, fraction, elsewhere]
    claims += [
        route,
        gate,
        late,
        parts,
        again,
        differ,
        sum_up,
        overlap,
        adapt,
        correct,
        ignore,
        in_parts,
        go_on,
        skip,
        resume,
        part,
        refuse,
        gather,
        die,
    ]
    if len(sys.argv) > 1:
        claims = [claim for claim in claims if claim.__name__ in sys.argv[1:]]
    for claim in claims:
        claim(group)
        print("holds:", claim.__name__, flush=True)
    os._exit(0)  # the group is broken
