"""A rank that is killed at a random point of a step leaves a file to go on from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("torch_killed_program.py")
KILLS = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 3


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.timeout(60 * (KILLS + 2))
def test_a_run_goes_on_to_the_same_numbers_after_a_rank_is_killed(torch, tmp_path):
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, str(KILLS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60 * (KILLS + 1),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == KILLS
