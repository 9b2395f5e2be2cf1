"""A batch in shards over devices: under jit, and at the places of named axes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("jax_places_program.py")
DEVICES = "--xla_force_host_platform_device_count=8"


@pytest.mark.timeout(600)
def test_every_claim_of_the_program_holds(jax):
    flags = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES}"
    found = subprocess.run(
        [sys.executable, PROGRAM],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "does not hold" not in found.stdout, found.stdout + found.stderr
    assert found.stdout.count("holds: ") == 9
