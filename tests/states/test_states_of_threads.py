"""Threads that share a spec end bit for bit where one thread does, as do forks."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import kfac_core as kc
from kfac_core import tree

THREADS, STEPS = 8, 4
BLOCK = kc.blocks.FullyConnectedKFACBasicFB(4, 3, has_bias=True, matpowers=(-1, -0.5))

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
POOLS = [("numpy", "fork"), ("torch", "fork")]
if NIGHTLY:
    POOLS += [("numpy", "spawn"), ("torch", "spawn"), ("jax", "spawn")]

POOL = """
import sys
from benchmarks.endurance.claims import PROCESSES, of_pool
from benchmarks.endurance.runs import trained
kind, library = sys.argv[1:]
ends = of_pool(kind, library, 5)  # first: this process has no threads of its own yet
assert ends == [trained(library, seed, 5) for seed in range(PROCESSES)], ends
assert len({*ends}) == PROCESSES, ends
"""


def step(state, x, g):
    state = BLOCK.update_covs(state, x, g, 0.5)
    return BLOCK.update_inverses(state, 0.1)


def test_threads_with_states_of_their_own_share_a_spec(plain_library, needed):
    made = plain_library.compiled(step)
    draws = [np.random.default_rng(seed) for seed in range(THREADS)]
    data = [
        [(rng.normal(size=(6, 4)), rng.normal(size=(6, 3))) for _ in range(STEPS)]
        for rng in draws
    ]
    # What JAX is told of float64 holds for the thread that says so.
    told = contextlib.nullcontext
    if plain_library.name == "jax":
        told = needed("jax").enable_x64

    def end(place):
        with told(True):
            x, g = (plain_library.asarray(each) for each in data[place][0])
            state = BLOCK.init(x)
            for x, g in data[place]:
                state = made(state, plain_library.asarray(x), plain_library.asarray(g))
            vector = plain_library.asarray(np.ones((5, 3)))
            return state, BLOCK.multiply_inverse(state, vector)

    ends, start = [None] * THREADS, threading.Barrier(THREADS)

    def work(place):
        start.wait()
        ends[place] = end(place)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = [bits(end(place)) for place in range(THREADS)]
    assert [bits(each) for each in ends] == alone
    assert len({*map(str, alone)}) == THREADS


def bits(state):
    return [kc.backend_of(x).to_numpy(x).tobytes() for x in tree.leaves(state)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize(("library", "kind"), POOLS)
@pytest.mark.timeout(600)
def test_a_pool_of_processes_ends_as_one_does(library, kind, needed):
    """JAX has threads from its import on, and is not forked."""
    needed(library)
    done = subprocess.run(
        [sys.executable, "-c", POOL, kind, library],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
