"""A run that one library began goes on in another, its adapted damping included."""

import numpy as np
import pytest
from block_case import NumPy
from optimizer_cases import SHALLOW, optimizer_of, problem

import kfac_core as kc
from kfac_core import tree

OPTIONS = {
    "plain": {},
    "qmodel": {"momentum_type": "qmodel"},
    "adam": {"momentum_type": "adam", "momentum": 0.9},
}
STEPS = 6


def continued(library, path, optimizer, batches):
    """Return what a run of a file ends with, by name, as arrays of NumPy."""
    given = kc.load_arrays(path, like=library.asarray(np.zeros(1)))
    state = kc.load(path, optimizer, like=given)
    step = library.compiled(optimizer.step)
    for batch in batches:
        state, given, _ = step(state, given, batch(library))
    ends = tree.named_leaves((state, given))
    return {name: kc.backend_of(x).to_numpy(x) for name, x in ends}


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_run_goes_on_in_another_library(plain_library, tmp_path, kind):
    optimizer = optimizer_of(
        SHALLOW,
        **OPTIONS[kind],
        adapt_damping=True,
        damping_adaptation_interval=2,
        invert_every=2,
    )
    batches = [
        lambda library, seed=seed: problem(library, seed=seed, model=SHALLOW)[1]
        for seed in range(STEPS)
    ]
    params, _ = problem(NumPy, model=SHALLOW)
    state = optimizer.init(params)
    for batch in batches[:3]:
        state, params, _ = optimizer.step(state, params, batch(NumPy))
    assert float(state.damping) != 0.5
    path = tmp_path / "run"
    kc.save(path, state, optimizer, arrays=params)
    expected = continued(NumPy, path, optimizer, batches[3:])
    found = continued(plain_library, path, optimizer, batches[3:])
    assert found.keys() == expected.keys()
    assert found["0.counter"] == STEPS
    for name, y in expected.items():
        # Roundoff, times condition numbers below a thousand, over three steps.
        largest = np.abs(y).max(initial=0)
        np.testing.assert_allclose(found[name], y, rtol=0, atol=1e-11 * largest)
