"""Processes on shards train as one process on all cases, and fail together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("torch_ranks_program.py")
CLAIMS = ["train", "precondition", "accumulate", "count", "skip"]
CLAIMS += ["resume", "part", "refuse", "die"]
RANKS = 2


@pytest.mark.timeout(300)
def test_every_claim_of_the_program_holds_on_two_processes(torch, tmp_path):
    run = [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(rank), str(RANKS), tmp_path / "store"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    found = [each.communicate(timeout=280) for each in run]
    for (out, error), claims in zip(found, (CLAIMS, CLAIMS[:-1]), strict=True):
        assert out.split("\n")[:-1] == [f"holds: {c}" for c in claims], out + error
