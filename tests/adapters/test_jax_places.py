"""A batch in shards over devices: under jit, and at the places of named axes."""

import os
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("jax_places_program.py")


@pytest.mark.timeout(1200)
def test_every_claim_of_the_program_holds(claims_on_devices):
    is_nightly = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
    assert claims_on_devices(PROGRAM) == (17 if is_nightly else 12)
