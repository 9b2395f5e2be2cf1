"""Processes on shards train as one process on all cases, and fail together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("torch_ranks_program.py")
CLAIMS = ["train", "precondition", "accumulate", "count", "fraction", "elsewhere"]
CLAIMS += ["skip", "resume", "part", "refuse", "die"]


def found(ranks, tmp_path, *claims):
    """Return what each of some processes prints, and its errors."""
    run = [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(k), str(ranks), tmp_path / "store", *claims],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(ranks)
    ]
    return [each.communicate(timeout=280) for each in run]


def told(claims):
    return [f"holds: {claim}" for claim in claims]


@pytest.mark.timeout(300)
def test_every_claim_of_the_program_holds_on_two_processes(torch, tmp_path):
    both = found(2, tmp_path)
    for (out, error), claims in zip(both, (CLAIMS, CLAIMS[:-1]), strict=True):
        assert out.split("\n")[:-1] == told(claims), out + error


@pytest.mark.timeout(300)
def test_four_processes_keep_some_inverses_each(torch, tmp_path):
    for out, error in found(4, tmp_path, "fraction"):
        assert out.split("\n")[:-1] == told(["fraction"]), out + error
