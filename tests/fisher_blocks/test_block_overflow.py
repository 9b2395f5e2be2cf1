"""Data and vectors that overflow: no warning comes before the error or the result.

Of NumPy alone, which is what warns; every warning is an error in these tests.
"""

import numpy as np
import pytest
from block_case import NumPy, tree
from block_cases import BLOCKS

import kfac_core as kc

LARGE = {"float32": 1e30, "float64": 1e300}


def scaled(data, dtype, scale):
    def of(x):
        x = np.asarray(x)
        return x if x.dtype.kind in "iu" else x.astype(dtype) * np.asarray(scale, dtype)

    return tree(of, data)


@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("name", BLOCKS)
def test_statistics_and_products(name, dtype, rng):
    case = BLOCKS[name]
    block = case.make(name="the layer")
    data = case.draw(rng, 6)
    state = case.updated(NumPy, block, scaled(data, dtype, 1.0), dtype)
    with pytest.raises(kc.errors.NotFiniteError, match="the layer"):
        case.fold(NumPy, block, state, scaled(data, dtype, LARGE[dtype]))
    state = block.update_inverses(state, 1e-2)
    vector = tree(NumPy.asarray, scaled(case.vector(rng), dtype, 1e7 * LARGE[dtype]))
    for exp in case.exponents(1, -1):
        product = block.multiply_matpower(state, vector, exp)
        assert type(product) is type(vector)
