"""NaN in a state is an error that names the array, wherever it is noticed."""

import numpy as np
import pytest
from block_case import NumPy
from optimizer_cases import problem
from saved_states import updated, verbs

import kfac_core as kc


def spoiled(state, as_array=np.asarray):
    """Yield states with NaN in one array of floating-point numbers after another."""
    named = kc.state_to_dict(state)
    for name, x in named.items():
        entries = np.array(kc.backend_of(x).to_numpy(x))
        if entries.dtype.kind == "f":
            entries.flat[-1] = np.nan
            yield name, kc.state_from_dict(state, {**named, name: as_array(entries)})


def refused(verb, state):
    """Return the error of a verb; None of one that does not read what is wrong."""
    try:
        verb(state)
    except kc.KfacError as error:
        return error
    return None


@pytest.mark.parametrize("name", ["dense-bias", "dense-diagonal", "ekfac", "optimizer"])
def test_what_is_refused_is_named(name):
    spec, state = updated(name)
    named = set()
    for array, bad in spoiled(state):
        for verb in verbs(name, spec):
            error = refused(verb, bad)
            if error is not None:
                assert isinstance(error, kc.errors.NotFiniteError)
                assert f"holds NaN or infinity in {array};" in str(error)
                named.add(array)
    totals = {array for array, _ in spoiled(state) if array.endswith("cov.total")}
    assert totals <= named
    assert len(named) > len(totals)


def test_the_array_is_named_in_every_library(plain_library):
    spec, state = updated("dense-bias")
    state = plain_library.moved(state)
    for array, bad in spoiled(state, plain_library.asarray):
        if "input_factor.cov.total" in array:
            with pytest.raises(kc.errors.NotFiniteError, match=f"state .* in {array}"):
                spec.update_inverses(bad, 0.1)


def test_what_is_not_known_yet_is_not_blamed():
    """Before the first step, the loss in a state is NaN."""
    spec, _ = updated("optimizer", steps=0)
    params, batch = problem(NumPy)
    bad = batch._replace(inputs=batch.inputs * np.nan)
    with pytest.raises(kc.errors.NotFiniteError, match="inputs"):
        spec.step(spec.init(params), params, bad)


def test_what_is_wrong_beside_a_finite_state_is_told_as_it_is():
    spec, state = updated("dense-bias")
    with pytest.raises(kc.errors.ArgumentError, match="damping is -1"):
        spec.update_inverses(state, -1.0)
