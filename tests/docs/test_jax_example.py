"""The examples of JAX and of Flax run from beginning to end, with fewer steps."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
NEEDED = {"jax_digits": ("jax",), "flax_digits": ("jax", "flax", "optax")}
"""The examples, and the packages that each needs."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NEEDED)
def test_the_example_runs_and_saves_a_picture(name, tmp_path):
    for package in NEEDED[name]:
        pytest.importorskip(package)
    picture = tmp_path / "digits.png"
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--quick", "--picture", picture],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 10_000
    assert "K-FAC: loss" in done.stdout
    assert f"docs/examples/{name}.py" in (FOLDER / f"{name}.py").read_text("utf-8")
