"""Every option of every factor and block, given what it cannot be, is refused."""

import collections
from dataclasses import fields

import numpy as np
import pytest
from block_cases import BLOCKS
from factor_cases import FACTORS

import kfac_core as kc

SPECS = {
    **{f"factor-{name}": case.make for name, case in FACTORS.items()},
    **{f"block-{name}": case.make for name, case in BLOCKS.items()},
}
HUGE = 10**400
NEVER = ("strings", {"a": 1}, object(), np.ones(2), 1j, 2.5j)
BAD = {
    "matpowers": (
        *NEVER,
        None,
        True,
        "",
        np.inf,
        -np.inf,
        np.nan,
        HUGE,
        (np.inf,),
        (-1, np.nan),
        ("-1",),
        (None,),
        (True,),
        ((),),
        ((-1, "a", "b"),),
        ((-1, []),),
    ),
    "cholesky": (*NEVER[:1], *NEVER[2:], None, 2.5, -1, "damping"),
    "cholesky_inverse": (*NEVER[:1], *NEVER[2:], None, 2.5, -1, "damping"),
    "eigendecomposition": (*NEVER, None, 1, 0, 2.5, "no"),
    "zero_debias": (*NEVER, None, 1, 0, 2.5, "no"),
    "init_covariances_at_zero": (*NEVER, None, 1, 0, 2.5, "no"),
    "newton_steps": (*NEVER, None, -1, 2.5, "3", True, np.nan),
    "precision": (*NEVER, None, 1, True, "HIGHEST", [], ("highest",)),
    "inverse_dtype": (*NEVER, 64, True, "float32", [], np.float64),
}


@pytest.mark.parametrize("name", SPECS)
def test_an_option_that_cannot_be_is_refused_by_its_name(name, record_property):
    make, outcomes = SPECS[name], collections.Counter()
    known = {each.name for each in fields(make())}
    for option in known & BAD.keys():
        for value in BAD[option]:
            with pytest.raises(kc.KfacError, match=option) as caught:
                make(**{option: value, "name": "some/layer"})
            assert "some/layer" in str(caught.value), (option, value)
            outcomes[type(caught.value).__name__] += 1
    record_property("refused", dict(outcomes))
    assert outcomes


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("power", [-1, np.float32(-1), np.int64(-1), [-1], (-1, -1.0)])
def test_a_power_alone_is_one_power(name, power):
    wanted = SPECS[name](matpowers=(-1.0,))
    assert SPECS[name](matpowers=power) == wanted
