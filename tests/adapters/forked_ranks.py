"""Runs a program on ranks that are forked from one process, which imports but once.

    python forked_ranks.py RANKS FOLDER PROGRAM [ARGUMENT ...]

Each rank finds its number in the environment, as RANK, that of all as WORLD_SIZE, and a
file to meet at as STORE. It leaves what it prints, and its errors, in FOLDER.
"""

import os
import runpy
import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from kfac_adapters.torch import KFAC

MODULES = (
    "torch._decomp.decompositions_for_jvp",
    "torch.distributed.tensor.parallel",
    "torch.nn.parallel",
    "pytest",
)


def warm():
    """Import what a first step imports, so that it is no part of any rank's run."""
    torch.set_num_threads(1)
    model = nn.Linear(3, 2)
    optimizer = KFAC(model, loss="cross_entropy")
    y = torch.zeros(2, dtype=torch.int64)
    nn.functional.cross_entropy(model(torch.ones(2, 3)), y).backward()
    optimizer.step()
    optimizer.remove()


def started(rank, ranks, folder, program, arguments):
    """Return the number of a process that runs the program as one of the ranks."""
    child = os.fork()
    if child:
        return child
    for place, name in ((1, "out"), (2, "err")):
        path = folder / f"{name}{rank}"
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), place)
    own = {"RANK": rank, "WORLD_SIZE": ranks, "STORE": folder / "store"}
    os.environ.update({name: str(value) for name, value in own.items()})
    sys.argv = [program, *arguments]
    sys.path.insert(0, str(Path(program).parent))
    try:
        runpy.run_path(program, run_name="__main__")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    count, place, named, *others = sys.argv[1:]
    for module in MODULES:
        import_module(module)
    warm()
    running = [
        started(rank, int(count), Path(place), named, others)
        for rank in range(int(count))
    ]
    for process in running:
        os.waitpid(process, 0)
