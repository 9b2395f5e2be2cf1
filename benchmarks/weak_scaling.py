"""Weak scaling: a step on one process, and on two with as many cases each.

    python -m benchmarks.weak_scaling

Processes have one thread each, and exchange over gloo. Efficiency is the time of a step
alone over that of one of two. That of K-FAC is to be compared with that of the plain
step, whose processes share the memory and the caches of the machine as well.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

WIDTHS = (128, 256, 256, 10)
CASES, STEPS, WARM = 256, 40, 10
KINDS = ("plain", "K-FAC")


def measured(kind: str) -> list[float]:
    """Return the seconds of each step of this rank."""
    import torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from kfac_adapters.torch import KFAC

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    model = DistributedDataParallel(nn.Sequential(*layers[:-1]))
    optimizer: torch.optim.Optimizer
    if kind == "plain":
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    else:
        optimizer = KFAC(model, lr=1e-2, damping=0.1, invert_every=10)
    x, y = torch.randn(CASES, WIDTHS[0]), torch.randint(WIDTHS[-1], (CASES,))
    seconds = []
    for _ in range(WARM + STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds[WARM:]


def rank(kind: str, own: int, ranks: int, store: str) -> None:
    """Print the mean seconds of a step: those with new inverses count as they come."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{store}", rank=own, world_size=ranks
    )
    print(statistics.fmean(measured(kind)))
    distributed.destroy_process_group()


def seconds(kind: str, ranks: int) -> float:
    """Return the mean seconds of a step, of the slowest rank."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        command = [sys.executable, "-m", "benchmarks.weak_scaling", "--rank"]
        running = [
            subprocess.Popen(
                [*command, kind, str(own), str(ranks), store],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for own in range(ranks)
        ]
        return max(float(each.communicate()[0]) for each in running)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rank", nargs=4)
    given = parser.parse_args().rank
    if given:
        rank(given[0], int(given[1]), int(given[2]), given[3])
        return
    print("| step | 1 process, ms | 2 processes, ms | efficiency |\n|---|--:|--:|--:|")
    for kind in KINDS:
        one, two = (seconds(kind, n) for n in (1, 2))
        print(f"| {kind} | {1e3 * one:.1f} | {1e3 * two:.1f} | {one / two:.2f} |")


if __name__ == "__main__":
    main()
