"""What is claimed of long runs and of many at once, and whether it holds."""

import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.endurance.runs import (
    FAULTS,
    Run,
    asymmetry,
    digest,
    end_of,
    runs_of,
    trained,
)

FAULT = 0.02
"""Probability that a step has a fault before it; the second to fourth have one each."""
THREADS, PROCESSES = 8, 2
TRACED = 0.1
"""Share of the steps, the last ones, whose allocations are traced."""
GROWTH = {"traced": 64 * 1024, "resident": 16 * 2**20}
"""Bytes by which the memory of Python and of the process may grow."""


def resident() -> int:
    """Return the bytes of memory that this process has; 0 where no one tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Told(NamedTuple):
    """What a long run was like.

    Attributes:
        faults: How many faults were refused, by where they were.
        asymmetry: The largest that was seen.
        resident: Bytes that the process grew by after the first fifth.
        traced: Bytes that Python's memory grew by in the last steps.
        milliseconds: Time of a step, with its faults and checks.
        equal: Whether the end is, bit for bit, that of a run without faults.
    """

    faults: dict[str, int]
    asymmetry: float
    resident: int
    traced: int
    milliseconds: float
    equal: bool


def long_run(made: Callable[[int], Run], steps: int, seed: int = 0) -> Told:
    """Make a long run with faults, and one without."""
    rng, run = np.random.default_rng(seed + 1), made(seed)
    faults = dict.fromkeys(FAULTS, 0)
    sizes, traced, worst = [], [], 0.0
    every, last = max(1, steps // 10), steps - int(TRACED * steps)
    began = time.perf_counter()
    for count in range(steps):
        if count == last:
            tracemalloc.start()
        # What the first fault of a kind has compiled is no growth: JAX keeps 40 MiB.
        if 1 <= count <= len(FAULTS):
            faults[run.refuse(rng, FAULTS[count - 1])] += 1
        elif rng.random() < FAULT:
            faults[run.refuse(rng)] += 1
        run.step()
        if (count + 1) % every == 0:
            worst = max(worst, asymmetry(run.state))
            gc.collect()
            sizes.append(resident())
        if count in (last + (steps - last) // 4, steps - 1):
            gc.collect()
            traced.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    seconds = time.perf_counter() - began
    equal = digest((run.state, run.params)) == end_of(made(seed), steps)
    grown = max(sizes[2:], default=0) - sizes[1] if len(sizes) > 1 else 0
    return Told(
        faults, worst, grown, traced[-1] - traced[0], 1e3 * seconds / steps, equal
    )


def of_threads(made: Callable[[int], Run], steps: int) -> list[str]:
    """Return the digests of runs in threads of one process, which share a spec."""
    ends = [""] * THREADS
    runs = [made(seed) for seed in range(THREADS)]

    def work(place: int) -> None:
        ends[place] = end_of(runs[place], steps)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def of_pool(kind: str, library: str, steps: int) -> list[str]:
    """Return the digests of runs in a pool of processes."""
    given = [(library, seed, steps) for seed in range(PROCESSES)]
    with get_context(kind).Pool(PROCESSES) as pool:
        return pool.starmap(trained, given)


def of_processes(library: str, threads: int) -> list[str]:
    """Return the digests of two processes of so many threads, with a wide layer."""
    command = [sys.executable, "-m", "benchmarks.endurance", "--library", library]
    number = str(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": number}
    environment |= {"OPENBLAS_NUM_THREADS": number, "MKL_NUM_THREADS": number}
    return [
        subprocess.run(
            [*command, "--wide"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]


def claims(library: str, steps: int) -> Iterator[tuple[str, bool, str]]:
    """Yield what is claimed, whether it holds, and what was seen."""
    made = runs_of(library)
    few = max(10, steps // 40)
    serial = [end_of(made(seed), few) for seed in range(THREADS)]
    # First, while this process has no threads but its own.
    kinds = ("spawn",) if library == "jax" else ("fork", "spawn")
    for kind in kinds:
        same = of_pool(kind, library, few) == serial[:PROCESSES]
        yield f"bits of a pool of processes, {kind}", same, f"{few} steps"
    same = of_threads(made, few) == serial
    yield f"bits of {THREADS} threads with one spec", same, f"{few} steps"
    for threads in (1, 2):
        one, other = of_processes(library, threads)
        yield f"bits of two processes, {threads} thread(s) each", one == other, ""
    told = long_run(made, steps)
    faults = ", ".join(f"{number} in {where}" for where, number in told.faults.items())
    yield "NaN is named and refused; bits as without", told.equal, faults
    symmetric = told.asymmetry == 0
    yield "matrices are symmetric", symmetric, f"asymmetry {told.asymmetry:.1g}"
    flat = told.traced <= GROWTH["traced"]
    yield "Python's memory is flat", flat, f"{told.traced / 1024:+.1f} KiB"
    flat = told.resident <= GROWTH["resident"]
    size = f"{told.resident / 2**20:+.1f} MiB in {steps} steps"
    yield "the process is as large", flat, size
    yield "a step, faults included", True, f"{told.milliseconds:.2f} ms"
