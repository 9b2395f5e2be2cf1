"""Registering more to serve makes a new spec; a state is brought along."""

import pickle

import numpy as np
import pytest
from factor_cases import FACTORS, ROWS

import kfac_core as kc

VERBS = {
    "register_matpower": (-0.5,),
    "register_inverse": (),
    "register_cholesky": (),
    "register_cholesky_inverse": (),
}


@pytest.fixture
def library(plain_library):
    return plain_library


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        (name, verb)
        for name, case in FACTORS.items()
        for verb in VERBS
        if not (case.powers_alone and "cholesky" in verb)
    ],
)
def test_register_returns_a_new_spec_and_leaves_the_old(name, verb):
    spec = FACTORS[name].make()
    before = repr(spec)
    more = getattr(spec, verb)(*VERBS[verb])
    assert repr(spec) == before
    assert more != spec
    assert type(more) is type(spec)
    assert more.damping_ids == ("damping",)
    assert getattr(more, verb)(*VERBS[verb]) == more  # again: nothing new


def test_equal_powers_are_registered_once():
    # t17 of the original's suite.
    spec = ROWS.make(matpowers=(-1, -1.0, (-1, "damping"), (2, "other")))
    assert spec.matpowers == ((-1.0, "damping"), (2.0, "other"))
    spec = spec.register_matpower(2, "other").register_matpower(-0.5)
    assert len(spec.stored_matpowers) == 3


def test_the_first_power_is_not_stored():
    spec = ROWS.make(matpowers=(1,))
    assert spec.stored_matpowers == ()
    assert spec.damping_ids == ("damping",)


@pytest.mark.parametrize("name", FACTORS)
def test_specs_are_values(name):
    make = FACTORS[name].make
    spec, same = make(matpowers=(-1,)), make(matpowers=[-1.0])
    assert spec == same
    assert hash(spec) == hash(same)
    assert spec != make(matpowers=(-1,), name="other")
    assert pickle.loads(pickle.dumps(spec)) == spec
    with pytest.raises(AttributeError):
        spec.name = "changed"


@pytest.mark.parametrize("name", FACTORS)
def test_init_inverses_brings_the_statistics_along(library, name, rng):
    case = FACTORS[name]
    spec = case.make()
    state = case.given(library, spec, case.draw(rng, 6))
    more = spec.register_inverse().register_matpower(0.5, "other")
    moved = more.init_inverses(state)
    np.testing.assert_array_equal(
        library.to_numpy(more.get_cov(moved)), library.to_numpy(spec.get_cov(state))
    )
    with pytest.raises(kc.errors.NotComputedError):
        more.get_inverse(moved)
    dampings = {"damping": 0.5, "other": 1.0}
    served = library.compiled(more.update_inverses)(moved, dampings)
    n = spec.dimension
    damped = library.to_numpy(spec.get_cov(state)) + 0.5 * np.eye(n)
    inverse = library.to_numpy(more.get_inverse(served).to_dense())
    np.testing.assert_allclose(inverse @ damped - np.eye(n), 0, atol=1e-12)
    again = library.to_numpy(more.get_cov(more.init_inverses(served)))
    np.testing.assert_array_equal(again, library.to_numpy(spec.get_cov(state)))


def test_how_one_power_is_computed_does_not_depend_on_the_others(library, rng):
    # t18 of the original's suite switches methods by the number of inverses.
    data = ROWS.draw(rng, 6)
    found = []
    for spec in (
        ROWS.make(matpowers=(-1,)),
        ROWS.make(matpowers=(-0.5, -1, 2), cholesky=("damping",)),
        ROWS.make(matpowers=(-1, *((-1, i) for i in range(5)))),
    ):
        state = spec.update_inverses(ROWS.updated(library, spec, data), 0.1)
        found.append(library.to_numpy(spec.get_inverse(state).to_dense()))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
