"""Inputs of losses that overflow: no warning comes before the error or the result.

Of NumPy alone, which is what warns; every warning is an error in these tests.
"""

import contextlib

import numpy as np
import pytest
from loss_cases import CASES, mapped

import kfac_core as kc

LARGE = {"float32": 1e30, "float64": 1e300}


@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("name", CASES)
def test_large_inputs(name, dtype, rng):
    case = CASES[name]
    inputs = case.inputs(rng)
    targets = np.asarray(np.array(next(iter(case.outcomes(inputs)))[0]))
    large = mapped(
        lambda x: np.asarray(x.astype(dtype) * np.asarray(LARGE[dtype], dtype)),
        inputs,
    )
    vector = large
    for verb in (
        lambda: case.loss.evaluate(large, targets),
        lambda: case.loss.gradient(large, targets),
        lambda: case.loss.multiply_fisher(large, vector),
        lambda: case.loss.multiply_ggn(large, vector),
        lambda: case.loss.multiply_hessian(large, targets, vector),
        lambda: case.loss.multiply_fisher_factor_transpose(large, vector),
    ):
        with contextlib.suppress(kc.KfacError):
            verb()
