"""Every leaf of a state is an array of its library, whichever verb returned it.

NumPy returns scalars in place of 0-d arrays, which formats and other libraries refuse.
"""

import contextlib

import numpy as np
import pytest
from block_case import NumPy
from block_cases import BLOCKS
from factor_cases import FACTORS
from optimizer_cases import optimizer_of, problem

import kfac_core as kc
from kfac_core import tree

KINDS = [(name, kind) for name, case in BLOCKS.items() for kind in case.kinds]


def check(library, state):
    kind = type(library.asarray(np.zeros(())))
    assert {type(x) for x in tree.leaves(state)} == {kind}


def walk(library, spec, fold):
    """Call all verbs that return a state; numbers are given in each of three forms."""
    state = spec.init(library.asarray(np.zeros(1)))
    check(library, state)
    for number in (0.5, np.float64(0.5), library.asarray(np.asarray(0.5))):
        state = fold(library, spec, state, number)
        check(library, state)
        state = spec.update_inverses(state, number)
        check(library, state)
    check(library, spec.init_inverses(state))
    if isinstance(spec, kc.blocks.FisherBlock):
        with contextlib.suppress(kc.errors.UnsupportedError):
            check(library, spec.refresh_inverses(state, 0.4, tolerance=1e6))


def folding(case, rng):
    return lambda library, spec, state, decay: case.fold(
        library, spec, state, case.draw(rng, 8), decay
    )


@pytest.mark.parametrize("name", FACTORS)
def test_states_of_factors_hold_arrays(name, rng):
    case = FACTORS[name]
    walk(NumPy, case.make(**case.all_served(-1, -0.5)), folding(case, rng))


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_states_of_blocks_hold_arrays(name, kind, rng):
    walk(NumPy, BLOCKS[name].made(kind, (-1, -0.5)), folding(BLOCKS[name], rng))


@pytest.mark.parametrize("zero_debias", [True, False])
def test_states_hold_arrays_of_every_library(plain_library, zero_debias, rng):
    case = BLOCKS["dense-bias"]
    walk(plain_library, case.make(zero_debias=zero_debias), folding(case, rng))


@pytest.mark.parametrize("momentum_type", ["regular", "adam", "qmodel"])
@pytest.mark.parametrize(
    "options",
    [
        {"adapt_damping": True, "damping_adaptation_interval": 1},
        {"num_burnin_steps": 1, "stagger_inverses": True, "invert_every": 2},
    ],
)
def test_steps_return_arrays(momentum_type, options):
    optimizer = optimizer_of(momentum_type=momentum_type, **options)
    params, batch = problem(NumPy)
    state = optimizer.init(params)
    check(NumPy, state)
    for damping in (None, np.float64(0.3), None):
        outcome = optimizer.step(state, params, batch, damping=damping)
        check(NumPy, outcome)
        state, params, _ = outcome


def test_a_state_in_which_scalars_stand_is_taken():
    block, x = kc.blocks.FullyConnectedKFACBasicFB(2, 2), np.eye(2)
    state = block.update_covs(block.init(x), x, x, 0.5)
    scalars = tree.map(lambda leaf: leaf[()], state)
    found, expected = (block.update_inverses(s, 0.1) for s in (scalars, state))
    np.testing.assert_equal(found, expected)
