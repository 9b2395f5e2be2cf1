"""Every stored matrix is symmetric bit for bit, and the average semi-definite."""

import numpy as np
import pytest
from factor_case import one_of_each_form, tree
from factor_cases import FACTORS
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc

POWERS = (-2, -1, -0.5, 0.5, 2, 3)
DENSE = {
    name: case
    for name, case in FACTORS.items()
    if isinstance(case.make().form, kc.factors.Dense)
}

POWERED = one_of_each_form(DENSE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DENSE)
def test_every_average_is_its_own_transpose(library, name, dtype, rng):
    check_symmetric(library, DENSE[name], (), dtype, rng)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", POWERED)
def test_every_power_is_its_own_transpose(library, name, dtype, rng):
    check_symmetric(library, DENSE[name], POWERS, dtype, rng)


def check_symmetric(library, case, powers, dtype, rng):
    spec = case.make(matpowers=powers)
    state = library.moved(spec.init(np.zeros(1, dtype)))
    for decay in (0.9, 0.37, 1.0):
        data = tree(lambda x: x.astype(dtype), case.draw(rng, 5))
        state = case.fold(library, spec, state, data, ema_decay=decay, compiled=True)
    state = library.compiled(spec.update_inverses)(state, 0.01)
    stored = [spec.get_cov(state), *state.derived.matpowers]
    assert len(stored) == 1 + len(powers)
    for matrix in map(library.to_numpy, stored):
        np.testing.assert_array_equal(matrix, np.swapaxes(matrix, -1, -2))
        assert matrix.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(decay=st.floats(0, 1), seed=st.integers(0, 99), exponent=st.integers(-8, 8))
def test_the_average_is_positive_semi_definite(library, dtype, decay, seed, exponent):
    # Of low rank, badly scaled, and averaged often.
    rng = np.random.default_rng(seed)
    spec = kc.factors.FullyConnectedKroneckerFactor(12)
    state = library.moved(spec.init(np.zeros(1, dtype)))
    update = library.compiled(spec.update_cov)
    directions = rng.normal(size=(3, 12)) * 2.0**exponent
    for _ in range(6):
        rows = (rng.normal(size=(4, 3)) @ directions).astype(dtype)
        state = update(state, library.asarray(rows), ema_decay=decay)
    cov = library.to_numpy(spec.get_cov(state)).astype(np.float64)
    eigenvalues = np.linalg.eigvalsh(cov)
    assert eigenvalues[0] >= -12 * np.finfo(dtype).eps * eigenvalues[-1]
