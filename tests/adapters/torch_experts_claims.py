"""Claims on ranks whose cases do not reach all layers; see `torch_ranks_program`."""

import copy
from itertools import pairwise

import pytest
import torch
from ranks_and_shards import (
    CASES,
    RANK,
    RANKS,
    F,
    backward,
    batches,
    cuts,
    everywhere,
    far,
    made,
    options,
    shard,
    spread,
)
from torch import distributed, nn

from kfac_adapters.torch import KFAC
from kfac_adapters.torch.ranks import generator_of
from kfac_core.errors import KfacError, RegistrationError, StateError, UnsupportedError
from kfac_core.estimator import fisher_estimator

SEED, EXPERTS = 3, 4


class Routed(nn.Module):
    """Experts, each of which sees the cases that are sent to it."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 4)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(EXPERTS))
        self.last = nn.Linear(4, 2)

    def forward(self, x, route):
        x = torch.tanh(self.inner(x))
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            own = route == number
            if own.any():
                y = y.index_put((own,), torch.tanh(expert(x[own])))
        return self.last(x + y)


def routes(step):
    """Return where each case goes: in the first step, each rank has its experts."""
    if step == 0:
        route = torch.full((CASES,), 1)
        ends = cuts(0)
        route[: ends[1] // 2] = 0  # all of the last rank's go to one
        return route
    key = torch.Generator().manual_seed(step)
    # The last expert is used from the second step on, or nowhere.
    return torch.randint(EXPERTS if step > 1 else 2, (CASES,), generator=key)


class Drawn:
    """Gives one process the random numbers of all ranks, for the cases of each."""

    def __init__(self, optimizer):
        self._tracker = optimizer._tracker

    def __call__(self, collection, linearization, mode, count, key, noise):
        ((site, shape),) = fisher_estimator.noise_shapes(
            collection, linearization, mode
        ).items()
        step, ends = self._tracker.steps, cuts(self._tracker.steps)
        parts = []
        for rank, (start, end) in enumerate(pairwise(ends)):
            own = generator_of(torch.device("cpu"), SEED, step, 0, rank)
            size = (count, end - start, *shape[1:])
            parts.append(torch.rand(size, generator=own, dtype=torch.float64))
        return {site: torch.cat(parts, dim=1)}


def route(ranks):
    """Experts of which a rank uses none, from the first batch on."""
    for share, policy in ((1.0, "identity"), (0.0, "ignore")):
        model, alone = made(Routed), made(Routed)
        ddp = spread(model, find_unused_parameters=True)
        form = options(mode="gradients", seed=SEED, invert_every=2, unclaimed=policy)
        own = KFAC(ddp, gradient_worker_fraction=share, **form)
        expected = KFAC(alone, **form)
        for step, (x, y) in enumerate(batches(5)):
            to = routes(step)
            part = shard(step, x, y, to)
            own.zero_grad()
            backward(ddp, *part[:2], route=part[2])
            own.step()
            expected.zero_grad()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fisher_estimator, "noise_for", Drawn(expected))
                backward(alone, x, y, route=to)
            expected.step()
            everywhere(model.parameters(), ranks)
        assert far(model, alone) < 1e-10


def on_ranks(net, own, x, y, unused):
    """Take a step of a rank, which leaves the gated layer out where it is unused."""

    def closure():
        own.zero_grad()
        return backward(net, *shard(0, x, y), leaves_out=RANK in unused)

    own.step(closure)
    assert own.last_step.taken


def on_one(alone, expected, x, y, unused):
    """Take the same step on one process: a pass for each shard, users of it first."""
    ends = [*pairwise(cuts(0))]
    order = sorted(range(RANKS), key=lambda rank: rank in unused)

    def closure():
        expected.zero_grad()
        total = 0
        for rank in order:
            start, end = ends[rank]
            if end > start:
                logits = alone(x[start:end], leaves_out=rank in unused)
                part = F.cross_entropy(logits, y[start:end])
                loss = part * ((end - start) / len(x))
                loss.backward()
                total = total + loss.detach()
        return total

    expected.step(closure)


FORMS = {
    "exact": {},
    "empirical": {"mode": "empirical"},
    "ekfac": {"approx": "ekfac"},
    "length": {"momentum_type": "qmodel", "adapt_damping": True, "lr": None},
}


def gate(ranks):
    """A layer that some ranks use from their second batch on, or never."""
    for number, form in enumerate(FORMS.values()):
        for unused in ({0}, {*range(1, RANKS)}):
            model, alone = made(), made()
            ddp = spread(model, find_unused_parameters=True)
            more = options(invert_every=2, **form)
            own = KFAC(ddp, gradient_worker_fraction=number % 2, **more)
            expected = KFAC(alone, **more)
            for step, (x, y) in enumerate(batches(5)):
                others = unused if step < 3 else set()
                on_ranks(ddp, own, x, y, others)
                on_one(alone, expected, x, y, others)
                everywhere(model.parameters(), ranks)
            assert far(model, alone) < 1e-10
            own.remove()


def late(ranks):
    """A rank whose first batch has no case, or none that counts, as for loss='auto'."""
    for given, loss in (("empty", "cross_entropy"), ("ignored", "auto")):
        model, alone = made(), made()
        ddp = spread(model, find_unused_parameters=True)
        own = KFAC(ddp, **options(loss=loss, invert_every=2))
        expected = KFAC(alone, **options(loss=loss, invert_every=2))
        for step, (x, y) in enumerate(batches(4)):
            labels, (start, end) = y.clone(), cuts(0)[:2]
            if step == 0 and given == "ignored":
                labels[start:end] = -100
            if step == 0 and given == "empty":
                x, labels = x[end:], labels[end:]
            count = int((labels >= 0).sum())
            part = shard(0, x, labels)
            if step == 0 and given == "empty":
                ends = [e - end for e in cuts(0)[1:]]
                place = slice(0, 0) if RANK == 0 else slice(*ends[RANK - 1 : RANK + 1])
                part = [x[place], labels[place]]
            for net, optimizer, data, share in (
                (ddp, own, part, RANKS),
                (alone, expected, (x, labels), 1),
            ):
                optimizer.zero_grad()
                total = F.cross_entropy(net(data[0]), data[1], reduction="sum")
                (total * (share / count)).backward()
                optimizer.step()
            everywhere(model.parameters(), ranks)
        assert far(model, alone) < 1e-10
        own.remove()


def parts(ranks):
    """A layer that none but the second pass of a step uses, within no_sync."""
    model, alone = made(), made()
    ddp = spread(model, find_unused_parameters=True)
    own, expected = KFAC(ddp, **options()), KFAC(alone, **options())
    for x, y in batches(3):
        own.zero_grad()
        (mine, labels), first = shard(0, x, y), RANK > 0
        with ddp.no_sync():
            backward(ddp, mine[:1], labels[:1], leaves_out=True)
        backward(ddp, mine[1:], labels[1:], leaves_out=first)
        own.step()
        expected.zero_grad()
        pieces = []
        for rank, (start, end) in enumerate(pairwise(cuts(0))):
            pieces += [(start, start + 1, True), (start + 1, end, rank > 0)]
        for start, end, left in sorted(pieces, key=lambda piece: piece[2]):
            logits = alone(x[start:end], leaves_out=left)
            loss = F.cross_entropy(logits, y[start:end])
            (loss * ((end - start) / len(x))).backward()
        expected.step()
        everywhere(model.parameters(), ranks)
    assert far(model, alone) < 1e-10


def again(ranks):
    """A run goes on from its file, though its first batch reaches fewer layers."""
    data = [*batches(5)]
    ddp = spread(made(), find_unused_parameters=True)
    form = options(invert_every=3)
    own = KFAC(ddp, gradient_worker_fraction=0.0, **form)
    for step in range(2):
        on_ranks(ddp, own, *data[step], set())
    copied = spread(copy.deepcopy(ddp.module), find_unused_parameters=True)
    other = KFAC(copied, gradient_worker_fraction=0.0, **form)
    other.load_state_dict(copy.deepcopy(own.state_dict()))
    for step in range(2, 5):
        for net, optimizer in ((ddp, own), (copied, other)):
            on_ranks(net, optimizer, *data[step], {0} if step < 4 else {1})
        everywhere(copied.parameters(), ranks)
    # DistributedDataParallel adds in another order from its second pass on.
    assert far(ddp, copied) < 1e-12


class Twice(nn.Module):
    """A layer that is used once or twice, or by what is no layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x, how):
        x = torch.tanh(self.first(x))
        if how == "twice":
            x = torch.tanh(self.first(x))
        if how == "otherwise":
            x = x + self.first.weight.sum()
        return self.last(x) if how != "never" else x[:, :2]


def raised(ranks, words, policy, *hows, **more):
    """Check that all ranks raise an error; `hows` are those of the steps, by rank."""
    ddp = spread(made(Twice), find_unused_parameters=True)
    own = KFAC(ddp, unclaimed=policy, **options(**more))
    ((x, y),) = batches(1)
    for step, how in enumerate(hows):
        own.zero_grad()
        backward(ddp, *shard(0, x, y), how=how[RANK])
        if step < len(hows) - 1:
            own.step()
            continue
        with pytest.raises(KfacError) as found:
            own.step()
        for word in words:
            assert word in str(found.value)
    own.remove()
    kinds = [None] * RANKS
    distributed.all_gather_object(kinds, type(found.value).__name__)
    assert len({*kinds}) == 1
    everywhere(ddp.parameters(), ranks)
    return type(found.value)


def differ(ranks):
    """What ranks tell differently, or one of them alone, is an error of all."""
    once, others = ["once"] * RANKS, RANKS - 1
    weight = "'module.first."
    found = [
        raised(ranks, ["used by"], "error", ["once", *["otherwise"] * others]),
        raised(
            ranks,
            [weight, "on rank 0", "on rank 1"],
            "identity",
            [*once[1:], "otherwise"],
        ),
        raised(
            ranks, ["this pass uses it 2 times"], "error", once, [*once[1:], "twice"]
        ),
        raised(ranks, ["'module.last.weight'"], "error", ["never"] * RANKS),
    ]
    expected = [RegistrationError, StateError, UnsupportedError, RegistrationError]
    assert found == expected
    policy = {"unclaimed": "diagonal", "mode": "gradients"}
    ddp = spread(made(Twice), find_unused_parameters=True)
    own = KFAC(ddp, **options(**policy))
    for hows in (["never"] * RANKS, ["once", *["never"] * others]):
        ((x, y),) = batches(1)
        own.zero_grad()
        backward(ddp, *shard(0, x, y), how=hows[RANK])
        own.step()
        everywhere(ddp.parameters(), ranks)


def sum_up(ranks):
    """A sum over unequal shards is refused on all ranks; over equal ones it is not."""
    model, alone = made(), made()
    ddp = spread(model)
    form = options(reduction="sum")
    # The mean of gradients and curvatures over ranks is a share of the sum of both.
    form["damping"], whole = 2.0, {**form, "damping": 2.0 * RANKS}
    own, expected = KFAC(ddp, **form), KFAC(alone, **whole)

    def step(net, optimizer, x, y):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y, reduction="sum").backward()
        optimizer.step()

    size = CASES // RANKS
    for x, y in batches(3):
        mine = slice(RANK * size, (RANK + 1) * size)
        step(ddp, own, x[mine], y[mine])
        step(alone, expected, x, y)
        everywhere(model.parameters(), ranks)
    assert far(model, alone) < 1e-10
    unequal = [slice(*cuts(0)[RANK : RANK + 2]), mine, mine]
    for number, place in enumerate(unequal):
        labels = y[place].clone()
        if number == 1 and RANK == 0:
            labels[:1] = -100
        if number == 2 and RANK == 0:
            labels[:] = -100
        with pytest.raises(UnsupportedError, match="reduction is 'sum'"):
            step(ddp, own, x[place], labels)
    everywhere(model.parameters(), ranks)
    step(ddp, own, x[mine], y[mine])  # nothing of what was refused is left
    step(alone, expected, x, y)
    assert far(model, alone) < 1e-10
