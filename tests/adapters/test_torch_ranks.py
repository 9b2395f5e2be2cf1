"""Processes on shards train as one process on all cases, and fail together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
CLAIMS = ["train", "precondition", "accumulate", "count", "fraction", "elsewhere"]
CLAIMS += [
    "route",
    "gate",
    "late",
    "parts",
    "again",
    "differ",
    "sum_up",
    "overlap",
    "adapt",
    "correct",
    "ignore",
    "in_parts",
    "go_on",
    "skip",
    "resume",
    "part",
    "refuse",
    "gather",
    "die",
]


def found(ranks, tmp_path, *claims):
    """Return what each of some ranks prints, and its errors."""
    program = FOLDER / "torch_ranks_program.py"
    command = [FOLDER / "forked_ranks.py", str(ranks), tmp_path, program, *claims]
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return [
        [(tmp_path / f"{name}{rank}").read_text() for name in ("out", "err")]
        for rank in range(ranks)
    ]


def told(claims):
    return [f"holds: {claim}" for claim in claims]


@pytest.mark.timeout(300)
def test_every_claim_of_the_program_holds_on_two_processes(torch, tmp_path):
    both = found(2, tmp_path)
    for (out, error), claims in zip(both, (CLAIMS, CLAIMS[:-1]), strict=True):
        assert out.split("\n")[:-1] == told(claims), out + error


def test_a_mesh_of_one_process_is_a_mesh(torch, tmp_path):
    ((out, error),) = found(1, tmp_path, "gather")
    assert out.split("\n")[:-1] == told(["gather"]), out + error


@pytest.mark.timeout(300)
def test_four_processes_keep_some_inverses_each(torch, tmp_path):
    for out, error in found(4, tmp_path, "fraction"):
        assert out.split("\n")[:-1] == told(["fraction"]), out + error
