"""Claims on ranks that adapt a damping, or find a length; see `torch_ranks_program`."""

import copy
import os
from itertools import pairwise

from ranks_and_shards import (
    RANK,
    RANKS,
    STEPS,
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

from kfac_adapters.torch import KFAC

IS_NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
FORMS = {
    "adapted": {"adapt_damping": True, "adapt_every": 3},
    "adam": {"momentum_type": "adam", "weight_decay": 0.01},
    "qmodel": {"momentum_type": "qmodel", "adapt_damping": True, "lr": None},
    "qmodel_fixedmu": {"momentum_type": "qmodel_fixedmu", "lr": 0.5},
    "options": {"options": {"precon_damping_mult": 2.0, "inverse_tolerance": 0.05}},
}
EKFAC = {"approx": "ekfac", "adapt_damping": True, "adapt_every": 3}


def closure_of(optimizer, net, x, y, **more):
    def closure():
        optimizer.zero_grad()
        return backward(net, x, y, **more)

    return closure


def compared(ranks, share, steps, **form):
    """Check that ranks on shards take the steps of one process on all cases."""
    model, alone = made(), made()
    net = spread(model, find_unused_parameters=True, gradient_as_bucket_view=True)
    form = options(invert_every=3, **form)
    optimizer = KFAC(net, gradient_worker_fraction=share, **form)
    expected = KFAC(alone, **form)
    dampings = set()
    for step, whole in enumerate(batches(steps)):
        leaves_out = step % 4 == 3
        for own, data, module in (
            (optimizer, shard(step, *whole), net),
            (expected, whole, alone),
        ):
            own.step(closure_of(own, module, *data, leaves_out=leaves_out))
            assert own.last_step.taken
        dampings.add(optimizer.param_groups[0]["damping"])
        everywhere(model.parameters(), ranks)
    assert far(model, alone) < 1e-8
    (found,), (wanted,) = optimizer.param_groups, expected.param_groups
    assert abs(found["damping"] - wanted["damping"]) < 1e-12
    assert (len(dampings) > 1) == form.get("adapt_damping", False)
    assert far(model, made()) > 1e-3


def adapt(ranks):
    """What is adapted or found is that of all cases, and the same on all ranks."""
    for number, form in enumerate(FORMS.values()):
        steps = STEPS if IS_NIGHTLY or form.get("adapt_damping") else 5
        for share in (0.0, 1.0) if IS_NIGHTLY else (number % 2,):
            compared(ranks, share, steps, **form)


def correct(ranks):
    """EKFAC's eigenvectors are on all ranks; the steps are those of one process."""
    compared(ranks, 0.0, STEPS if IS_NIGHTLY else 8, **EKFAC)


LENGTH = {
    "momentum_type": "qmodel",
    "adapt_damping": True,
    "adapt_every": 2,
    "lr": None,
}


def pair(**more):
    """Return ranks' and one process's network and optimiser, of a length to find."""
    model, alone = made(), made()
    net = spread(model, find_unused_parameters=True)
    form = options(**LENGTH)
    return net, KFAC(net, **more, **form), alone, KFAC(alone, **form)


def ignore(ranks):
    """Rows that are ignored count nowhere, whatever share of a shard they are."""
    net, optimizer, alone, expected = pair(gradient_worker_fraction=0.0)
    for step, (x, y) in enumerate(batches(4)):
        labels = y.clone()
        for rank, (start, end) in enumerate(pairwise(cuts(0))):
            labels[start : start + (end - start) * (1 + rank) // 4] = -100
        if step == 2:
            labels[:4] = -100  # all rows of the first rank
        counting = int((labels >= 0).sum())

        def sum_of(module, x, y, optimizer, share, counting=counting):
            def closure():
                optimizer.zero_grad()
                total = F.cross_entropy(module(x), y, reduction="sum")
                loss = total * (share / counting)
                loss.backward()
                return loss

            return closure

        own = shard(0, x, labels)
        optimizer.step(sum_of(net, *own, optimizer, RANKS))
        expected.step(sum_of(alone, x, labels, expected, 1))
        everywhere(net.parameters(), ranks)
    assert far(net, alone) < 1e-8


def in_parts(ranks):
    """Passes within no_sync, and layers that a rank uses no more, count as they are."""
    net, optimizer, alone, expected = pair()
    for step, (x, y) in enumerate(batches(4)):
        own = shard(0, x, y)
        leaves_out = [step > 0 and rank == 0 for rank in range(RANKS)]

        def on_rank(own=own, leaves_out=leaves_out):
            optimizer.zero_grad()
            (x, y), left = own, leaves_out[RANK]
            with net.no_sync():
                first = backward(net, x[:1], y[:1], leaves_out=left)
            return first.detach() + backward(net, x[1:], y[1:], leaves_out=left)

        def on_one(x=x, y=y, leaves_out=leaves_out):
            expected.zero_grad()
            total = 0
            for (start, end), left in zip(pairwise(cuts(0)), leaves_out, strict=True):
                logits = alone(x[start:end], leaves_out=left)
                part = F.cross_entropy(logits, y[start:end])
                loss = part * ((end - start) / len(x))
                loss.backward()
                total += loss.detach()
            return total

        optimizer.step(on_rank)
        expected.step(on_one)
        everywhere(net.parameters(), ranks)
    assert far(net, alone) < 1e-8


def go_on(ranks):
    """A run that adapts goes on from its file; what is not finite is taken nowhere."""
    net, optimizer, *_ = pair(gradient_worker_fraction=0.0)
    data, taken = [*batches(5)], []
    for step, whole in enumerate(data[:3]):
        x, y = shard(0, *whole)
        bad = step == 1 and RANK == 0
        optimizer.step(closure_of(optimizer, net, x * float("nan") if bad else x, y))
        taken.append(optimizer.last_step.taken)
    assert taken == [True, False, True]
    again = spread(copy.deepcopy(net.module), find_unused_parameters=True)
    other = KFAC(again, gradient_worker_fraction=0.0, **options(**LENGTH))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for whole in data[3:]:
        for own, module in ((optimizer, net), (other, again)):
            own.step(closure_of(own, module, *shard(0, *whole)))
        everywhere(again.parameters(), ranks)
    # DistributedDataParallel adds in another order from its second pass on.
    assert far(net, again) < 1e-12
