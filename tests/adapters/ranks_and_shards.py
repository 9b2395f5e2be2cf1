"""What programs of several processes are made of: a model, batches and their shards."""

import os

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

F = nn.functional
RANK, RANKS = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
STORE = os.environ["STORE"]
CASES, STEPS = 12, 20


class Model(nn.Module):
    """A network whose layers are used twice, once, and in some batches not at all."""

    def __init__(self):
        super().__init__()
        self.first, self.twice = nn.Linear(3, 4), nn.Linear(4, 4)
        self.gated, self.last = nn.Linear(3, 2, bias=False), nn.Linear(4, 2)

    def forward(self, x, leaves_out=False):
        y = torch.tanh(self.twice(torch.tanh(self.twice(torch.tanh(self.first(x))))))
        return self.last(y) if leaves_out else self.last(y) + self.gated(x)


def made(kind=Model):
    torch.manual_seed(0)
    return kind().double()


def spread(model, **options):
    return DistributedDataParallel(model, **options)


def batches(steps):
    key = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(CASES, 3, generator=key, dtype=torch.float64)
        yield x, (x[:, 0] * x[:, 1] > 0).long()


def cuts(step):
    """Return where shards end: unequal, and after the first step the last is empty."""
    ends = [CASES * (k + 1) // (RANKS + 1) for k in range(RANKS)]
    return [0, *ends[:-1], CASES] if step == 0 else [0, *ends[:-2], CASES, CASES]


def shard(step, *whole):
    own = slice(*cuts(step)[RANK : RANK + 2])
    return [x[own] for x in whole]


def backward(model, x, y, of=CASES, **options):
    """Go back from this shard's part of the mean loss of all cases."""
    logits = model(x, **options)
    # The gradients of ranks are averaged, and not those of cases.
    share = RANKS * len(x) / of if isinstance(model, DistributedDataParallel) else 1.0
    loss = F.cross_entropy(logits, y) * share if len(x) else logits.sum() * 0
    loss.backward()
    return loss


def options(**more):
    return {"lr": 0.1, "damping": 0.1, "mode": "exact", "loss": "cross_entropy", **more}


def everywhere(tensors, ranks):
    """Check that all ranks have the same bits."""
    for x in tensors:
        assert torch.equal(ranks.broadcast(x, 0), x)


def far(model, other):
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return max(float((x - y).detach().abs().max()) for x, y in pairs)
