"""Kills a rank at random points of a run, and goes on from the last file.

    python torch_killed_program.py FOLDER KILLS

A point is a step, and a number of calls in it, of Python or C; an undisturbed run tells
how many there are. Two of three kills are of a run whose ranks do not keep all
inverses, which goes on from the last step of which all have left a file. A line is
printed for each kill.
"""

import os
import random
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from forked_ranks import warm
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from kfac_adapters.torch import KFAC

FOLDER, KILLS = Path(sys.argv[1]), int(sys.argv[2])
STEPS, SECONDS = 7, 20
SHARES = {1.0: 2, 0.0: 2, 0.5: 4}
"""Shares of the ranks that keep each inverse, and how many ranks there are."""

RAISED = 3


def file(step, rank):
    """Return where a rank leaves what it is after so many steps."""
    return FOLDER / f"step{step}-{rank}.pt"


def savers(share):
    """Return the ranks that leave files: those of inverses that no other has."""
    return range(SHARES[share]) if share < 1 else range(1)


def last(share):
    """Return the last step of which all files are there; 0: none."""
    steps = range(STEPS, 0, -1)
    found = (t for t in steps if all(file(t, k).exists() for k in savers(share)))
    return next(found, 0)


def saved(path, what):
    """Save in one go: whoever reads sees the file of before, or this one."""
    torch.save(what, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


class Calls:
    """Counts the calls of each step, and kills this process at one of them."""

    def __init__(self, point):
        self.of_steps, self._point = [0] * STEPS, point
        self.step = 0

    def __call__(self, frame, event, given):
        self.of_steps[self.step] += event in ("call", "c_call")
        if (self.step, self.of_steps[self.step]) == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


def train(rank, store, point, share):
    """Train from the last files on; save after each step, and the end for all ranks."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        f"file://{store}",
        rank=rank,
        world_size=SHARES[share],
        timeout=timedelta(seconds=SECONDS),
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    ddp = DistributedDataParallel(model)
    options = {"lr": 0.1, "damping": 0.1, "loss": "cross_entropy", "invert_every": 3}
    optimizer = KFAC(ddp, gradient_worker_fraction=share, **options)
    # The others wait in their first step, and leave no new files meanwhile.
    done = last(share)
    if done:
        own = torch.load(file(done, min(rank, len(savers(share)) - 1)))
        model.load_state_dict(own["model"])
        optimizer.load_state_dict(own["optimizer"])
    calls = Calls(point)
    sys.setprofile(calls)
    for step in range(done, STEPS):
        calls.step = step
        key = torch.Generator().manual_seed(SHARES[share] * step + rank)
        x = torch.randn(8, 3, generator=key, dtype=torch.float64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(ddp(x), (x[:, 0] * x[:, 1] > 0).long()).backward()
        optimizer.step()
        if rank in savers(share):
            own = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            saved(file(step + 1, rank), own)
    sys.setprofile(None)
    saved(FOLDER / f"end{rank}.pt", [calls.of_steps, list(model.parameters())])


def started(rank, store, point, share):
    """Return the number of a process that trains; it imports nothing anew."""
    child = os.fork()
    if child:
        return child
    try:
        train(rank, store, point, share)
    except RuntimeError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(RAISED)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def run(share, victim=None, point=None):
    """Let all ranks run, and return how they ended; a negative number: killed."""
    store = FOLDER / f"store{time.monotonic_ns()}"
    ranks = SHARES[share]
    points = [point if rank == victim else None for rank in range(ranks)]
    running = [started(rank, store, own, share) for rank, own in enumerate(points)]
    ends, limit = {}, time.monotonic() + 2 * SECONDS
    while len(ends) < ranks:
        for rank, child in enumerate(running):
            if rank not in ends:
                found, status = os.waitpid(child, os.WNOHANG)
                if found:
                    ends[rank] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > limit:
            for rank in set(range(ranks)) - set(ends):
                os.kill(running[rank], signal.SIGKILL)
            raise AssertionError(f"ranks wait beyond the time-out: {ends}")
        time.sleep(0.01)
    return [ends[rank] for rank in range(ranks)]


def ended(share):
    """Return what all ranks left at the end of a run, and clear the folder."""
    found = [torch.load(FOLDER / f"end{rank}.pt") for rank in range(SHARES[share])]
    for path in FOLDER.iterdir():
        path.unlink()
    return found


if __name__ == "__main__":
    warm()
    truths = {}
    chosen, shares = random.Random(0), [*SHARES]
    for number in range(KILLS):
        share = shares[number % len(shares)]
        whole = [0] * SHARES[share]
        if share not in truths:
            assert run(share) == whole
            truths[share] = ended(share)
        truth = truths[share]
        victim = chosen.randrange(len(whole))
        of_steps = truth[victim][0]
        step = chosen.randrange(STEPS)
        point = chosen.randint(1, of_steps[step])
        ends = run(share, victim, (step, point))
        assert ends[victim] == -signal.SIGKILL, ends
        others = [end for rank, end in enumerate(ends) if rank != victim]
        steps = last(share)
        # Who dies after the last exchange leaves nobody waiting.
        assert set(others) == {RAISED} or steps >= STEPS - 1, ends
        assert run(share) == whole
        for (_, own), (_, expected) in zip(ended(share), truth, strict=True):
            for x, y in zip(own, expected, strict=True):
                torch.testing.assert_close(x, y, rtol=0, atol=1e-12)
        where = f"call {point} of step {step}, fraction {share}"
        print(f"rank {victim} died at {where}: on from {steps}")
