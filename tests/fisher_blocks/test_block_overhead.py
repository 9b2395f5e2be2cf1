"""A verb of a small layer calls few functions of ours: they cost more than arithmetic.

The bounds are what the verbs take, with some calls to spare.
"""

import sys

import numpy as np
import pytest

from kfac_core import ConvolutionGeometry
from kfac_core.fisher_blocks import ConvKFCBasicFB, FullyConnectedKFACBasicFB


def own_calls(function):
    """Count the calls of functions of this project."""
    found = 0

    def count(frame, event, _):
        nonlocal found
        found += event == "call" and "kfac_" in frame.f_code.co_filename

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return found


@pytest.fixture
def verbs(rng):
    block = FullyConnectedKFACBasicFB(32, 16)
    x, g, v = (rng.normal(size=(32, n)).astype("float32") for n in (32, 16, 16))
    state = block.init(like=x)
    for _ in range(2):  # what is loaded, or true for the first time, is done once
        state = block.update_covs(state, x, g, ema_decay=0.95)
        state = block.update_inverses(state, 0.1)
    calls = {
        "update_covs": lambda: block.update_covs(state, x, g, ema_decay=0.95),
        "update_inverses": lambda: block.update_inverses(state, 0.1),
        "multiply_inverse": lambda: block.multiply_inverse(state, np.asarray(v)),
    }
    for call in calls.values():
        call()
    return calls


@pytest.mark.parametrize(
    ("verb", "most"),
    [("update_covs", 97), ("update_inverses", 145), ("multiply_inverse", 70)],
)
def test_a_verb_calls_few_functions(verbs, verb, most):
    assert own_calls(verbs[verb]) <= most


def test_the_statistics_of_a_convolution_call_few_functions(rng):
    block = ConvKFCBasicFB(ConvolutionGeometry((3, 3, 32, 32), padding="SAME"))
    x = rng.normal(size=(8, 8, 8, 32)).astype("float32")
    state = block.init(like=x)
    for _ in range(2):
        state = block.update_covs(state, x, x, ema_decay=0.95)
    assert own_calls(lambda: block.update_covs(state, x, x, ema_decay=0.95)) <= 235
