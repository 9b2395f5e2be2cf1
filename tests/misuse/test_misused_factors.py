"""Every verb of every factor, with each argument as it cannot be."""

import numpy as np
import pytest
from factor_case import NumPy
from factor_cases import FACTORS
from walk import Call

import kfac_core as kc

LABEL = "some/layer"


@pytest.fixture(params=FACTORS)
def case(request):
    return FACTORS[request.param]


@pytest.fixture
def spec(case):
    return case.make(name=LABEL, **case.all_served(-1))


@pytest.fixture
def data(case, rng):
    return case.draw(rng, 6)


@pytest.fixture
def state(case, spec, data):
    return spec.update_inverses(case.updated(NumPy(), spec, data), 0.1)


def call(spec, verb, arguments, faults, **options):
    name = f"{type(spec).__name__}.{verb}"
    return Call(name, getattr(spec, verb), arguments, faults, label=LABEL, **options)


@pytest.fixture
def states(kinds, spec, state):
    other = kc.FullyConnectedKroneckerFactor(11)
    return kinds.state(other=other.init(np.zeros(1)))


READERS = (
    "trace",
    "get_cov",
    "get_cov_var",
    "get_cov_as_linear_operator",
    "init_inverses",
    "get_eigendecomp",
)


@pytest.mark.parametrize("verb", READERS)
def test_readers(walked, spec, state, states, verb):
    walked(call(spec, verb, {"state": state}, {"state": states}))
