"""Rows that are sharded over the devices of a mesh, whatever the kind of its axes."""

from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("mesh_program.py")


@pytest.mark.timeout(600)
def test_every_claim_of_the_program_holds(claims_on_devices):
    assert claims_on_devices(PROGRAM) == 16
