"""How much memory and time it takes to save a large state, and to load it.

    python -m benchmarks.saving --gigabytes 2 --library numpy torch

The state is that of a block with two statistics and two inverses of one size, in
float64. What is saved needs no second copy: "saving" is the memory that is added while
the file is written, over the size of the state. "loading" is the peak of a process that
loads it, without what it had before, over that size.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import kfac_core as kc
from kfac_core import tree

LIBRARIES = ("numpy", "torch", "jax")
MATRICES = 4


def size_of(gigabytes: float) -> int:
    """Return the size of the matrices of a state of so many gigabytes."""
    return math.isqrt(int(gigabytes * 1e9 / 8 / MATRICES))


def block_of(size: int) -> Any:
    """Return the block whose state is saved."""
    return kc.blocks.FullyConnectedKFACBasicFB(size, size, has_bias=False)


def like_of(library: str) -> Any:
    """Return an array of the library, in float64."""
    like = np.zeros(1)
    if library == "torch":
        import torch

        return torch.from_numpy(like)
    if library == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        return jax.numpy.asarray(like)
    return like


def peak() -> int:
    """Return the most bytes that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bytes_of(state: Any) -> int:
    """Return the bytes of the arrays of a state."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in tree.leaves(state))


def save(library: str, size: int, path: Path) -> tuple[float, float, float]:
    """Save a state; return its gigabytes, the added memory over it, and seconds."""
    block = block_of(size)
    state = block.init(like_of(library))
    for x in tree.leaves(state):
        if len(x.shape) == 2 and library != "jax":  # which writes its zeros
            x[...] = 1  # an array of zeros has no memory before it is written to
    before, began = peak(), time.perf_counter()
    kc.save(path, state, block)
    seconds = time.perf_counter() - began
    whole = bytes_of(state)
    return whole / 1e9, (peak() - before) / whole, seconds


def load(library: str, size: int, path: Path) -> tuple[float, float, float]:
    """Load a state; return its gigabytes, the peak over it, and seconds."""
    block, like = block_of(size), like_of(library)
    small = block_of(1)
    kc.save(path.with_name("small"), small.init(like), small)
    kc.load(path.with_name("small"), small, like=like)
    before, began = peak(), time.perf_counter()
    state = kc.load(path, block, like=like)
    seconds = time.perf_counter() - began
    whole = bytes_of(state)
    return whole / 1e9, (peak() - before) / whole, seconds


def measured(do: str, library: str, size: int, path: Path) -> list[float]:
    """Return what a process of its own tells of saving or loading."""
    command = [sys.executable, "-m", "benchmarks.saving", "--do", do, library]
    done = subprocess.run(
        [*command, str(size), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ},
    )
    return [float(number) for number in done.stdout.split()]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--library", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--folder", help="where the file goes; the system's otherwise")
    parser.add_argument("--do", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do:
        do, library, size, path = given.do
        print(*{"save": save, "load": load}[do](library, int(size), Path(path)))
        return
    print("| library | GB | saving | seconds | loading | seconds |")
    print("|---|--:|--:|--:|--:|--:|")
    for library in given.library:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            path, size = Path(folder) / "state", size_of(given.gigabytes)
            whole, added, slow = measured("save", library, size, path)
            _, top, wait = measured("load", library, size, path)
        print(
            f"| {library} | {whole:.2f} | {added:.2f} | {slow:.1f}"
            f" | {top:.2f} | {wait:.1f} |"
        )


if __name__ == "__main__":
    main()
