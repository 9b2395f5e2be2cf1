"""The example of JAX runs from beginning to end, with fewer steps."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "jax_digits.py"


@pytest.mark.timeout(300)
def test_the_example_of_jax_runs_and_saves_a_picture(tmp_path):
    picture = tmp_path / "digits.png"
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--quick", "--picture", picture],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 0
    assert "K-FAC: loss" in done.stdout
