"""States of a block-tridiagonal estimator, alone or in an optimiser, in a file."""

import pytest
from block_case import NumPy
from optimizer_cases import DEEP, optimizer_of, problem
from saved_states import equal

import kfac_core as kc
from kfac_core.estimator import BlockTridiagonalEstimator


def estimated():
    """Return an estimator, a state of it, and the parameters."""
    optimizer = optimizer_of(DEEP)
    spec = BlockTridiagonalEstimator(optimizer.layer_collection, "exact")
    params, batch = problem(NumPy)
    made = DEEP.linearize(params, batch)
    state = spec.update_covs(spec.init(params), made, 0.5)
    return spec, spec.update_inverses(state, 0.1), params


def optimized():
    """Return an optimiser of the same matrix, a state of it, and the parameters."""
    spec = optimizer_of(DEEP, structure="block_tridiagonal")
    params, batch = problem(NumPy)
    state, params, _ = spec.step(spec.init(params), params, batch)
    return spec, state, params


@pytest.mark.parametrize("make", [estimated, optimized])
def test_it_is_read_by_every_library_and_back(plain_library, make, tmp_path):
    path = tmp_path / "state.safetensors"
    spec, state, params = make()
    kc.save(path, state, spec)
    like = {name: plain_library.asarray(x) for name, x in params.items()}
    found = kc.load(path, spec, like=like)
    equal(found, state)
    kc.save(path, found, spec)
    equal(kc.load(path, spec, like=params), state)


def test_a_step_after_it_is_the_step_before(tmp_path):
    path = tmp_path / "state.safetensors"
    spec, state, params = optimized()
    _, batch = problem(NumPy, seed=1)
    kc.save(path, state, spec)
    again = kc.load(path, spec, like=params)
    for x, y in zip(
        *(spec.step(s, params, batch) for s in (state, again)), strict=True
    ):
        equal(x, y)


def test_a_file_of_layers_by_themselves_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    spec, state, params = estimated()
    kc.save(path, state.diagonal, spec.diagonal)
    with pytest.raises(kc.errors.KfacError, match="BlockTridiagonalEstimator"):
        kc.load(path, spec, like=params)
