"""Weak scaling: a step on one process, and on two with as many cases each.

    python -m benchmarks.weak_scaling

Processes have one thread each, and exchange over gloo. The efficiency is the time of a
step of one process over that of one of two. That of K-FAC is to be compared with that
of the plain step, whose processes share the memory and the caches of the machine as
well. All four are measured in turns, in blocks of as many steps as there are from one
computation of inverses to the next; numbers are medians over blocks, and a quotient is
the median of those of neighbours. By the clock, they mean something on a machine with
two cores to spare alone: where others work, a rank that waits for its turn has the
other wait as well. Processor time has no such waits, but those of the ranks for each
other neither; it is that of the rank with most, the threads that send included.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

WIDTHS = (128, 256, 256, 10)
CASES, BLOCK, ROUNDS, WARM = 256, 10, 24, 2
KINDS = ("plain", "K-FAC")
CLOCKS = {"by the clock": time.perf_counter, "of a processor": time.process_time}
Seconds = dict[tuple[str, int], list[list[float]]]
"""For each kind and number of ranks, the seconds of each round on each clock."""


def stepping(kind: str, group: Any) -> Callable[[], None]:
    """Return what takes a step on the ranks of a group."""
    import torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from kfac_adapters.torch import KFAC

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    model = DistributedDataParallel(nn.Sequential(*layers[:-1]), process_group=group)
    optimizer: torch.optim.Optimizer
    if kind == "plain":
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    else:
        optimizer = KFAC(model, lr=1e-2, damping=0.1, invert_every=BLOCK)
    x, y = torch.randn(CASES, WIDTHS[0]), torch.randint(WIDTHS[-1], (CASES,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def rank(own: int, store: str) -> None:
    """Measure as one of two ranks; the first prints a table."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{store}", rank=own, world_size=2)
    groups = {1: distributed.new_group([0]), 2: distributed.group.WORLD}
    steps = {
        (kind, ranks): stepping(kind, group)
        for kind in KINDS
        for ranks, group in groups.items()
        if own < ranks
    }
    found: Seconds = {(kind, ranks): [] for kind in KINDS for ranks in groups}
    for _ in range(WARM + ROUNDS):
        for place, times in found.items():
            distributed.barrier()  # who has nothing to do waits at the next
            seconds = torch.zeros(len(CLOCKS))
            if place in steps:
                start = [clock() for clock in CLOCKS.values()]
                for _ in range(BLOCK):
                    steps[place]()
                for i, clock in enumerate(CLOCKS.values()):
                    seconds[i] = (clock() - start[i]) / BLOCK
            distributed.all_reduce(seconds, distributed.ReduceOp.MAX)
            times.append(seconds.tolist())
    if own == 0:
        for number, name in enumerate(CLOCKS):
            show(
                name,
                {k: [x[number] for x in times[WARM:]] for k, times in found.items()},
            )
        load, cores = os.getloadavg()[0], os.cpu_count()
        print(f"load of the machine in the last minute: {load:.1f}, of {cores} cores")
    distributed.destroy_process_group()


def show(clock: str, found: dict[tuple[str, int], list[float]]) -> None:
    """Print a table of the seconds of each round."""
    heads = "1 process, ms | 2 processes, ms | efficiency"
    print(f"| step, {clock} | {heads} |\n|---|--:|--:|--:|")
    efficiencies = {}
    for kind in KINDS:
        one, two = found[kind, 1], found[kind, 2]
        efficiencies[kind] = [x / y for x, y in zip(one, two, strict=True)]
        cells = [f"{1e3 * statistics.median(own):.1f}" for own in (one, two)]
        middle = statistics.median(efficiencies[kind])
        print(f"| {kind} | {' | '.join(cells)} | {middle:.2f} |")
    plain, own = (efficiencies[kind] for kind in KINDS)
    middle = statistics.median(y / x for x, y in zip(plain, own, strict=True))
    print(f"\nK-FAC's efficiency over that of the plain step: {middle:.2f}\n")


def main() -> None:
    """Run both ranks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rank", nargs=2)
    given = parser.parse_args().rank
    if given:
        rank(int(given[0]), given[1])
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        command = [sys.executable, "-m", "benchmarks.weak_scaling", "--rank"]
        running = [
            subprocess.Popen([*command, str(own), store], env=environment)
            for own in range(2)
        ]
        if any(each.wait() for each in running):
            sys.exit("a rank failed")


if __name__ == "__main__":
    main()
