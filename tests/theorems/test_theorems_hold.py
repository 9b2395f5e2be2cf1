"""Each theorem holds to rounding on every library, and its negative twin does not.

What a theorem says, and how its bound is derived, is in `kfac_core.theorems`.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfac_core import backend_of, load_backend
from kfac_core.errors import ArgumentError
from kfac_core.theorems import GENERAL, THEOREMS, Measured, Sizes, Trial, by_name

SIZES = st.builds(
    Sizes,
    batch=st.sampled_from([1, 2, 5]),
    inputs=st.sampled_from([1, 3, 7]),
    outputs=st.sampled_from([1, 2, 5]),
)
SEEDS = st.integers(0, 2**32 - 1)

every_theorem = pytest.mark.parametrize("theorem", THEOREMS, ids=lambda t: t.name)
DTYPES = ("float64", "float32")


@every_theorem
@settings(max_examples=4)
@given(seed=SEEDS, sizes=SIZES)
def test_it_holds_at_every_size_and_seed(theorem, seed, sizes):
    for dtype in DTYPES:
        measured = theorem.measure(Trial(load_backend("numpy"), dtype, seed, sizes))
        assert measured.holds, (dtype, measured)


@every_theorem
@settings(max_examples=2)
@given(seed=SEEDS)
def test_its_twin_does_not(theorem, seed):
    measured = theorem.measure_twin(Trial(load_backend("numpy"), seed=seed))
    assert measured.is_broken is True, measured  # and no boolean of NumPy's


@every_theorem
def test_every_library_agrees(theorem, plain_library):
    # JAX compiles a program for each dtype: one is enough here.
    dtypes = ["float32"] if plain_library.name == "jax" else DTYPES
    backend = backend_of(plain_library.asarray(np.zeros(1)))
    for dtype in dtypes:
        trial = Trial(backend, dtype, seed=1)
        assert theorem.measure(trial).holds, dtype
        assert theorem.measure_twin(trial).is_broken, dtype


LARGE = [theorem for theorem in THEOREMS if theorem.large]


@pytest.mark.parametrize("theorem", LARGE, ids=lambda t: t.name)
def test_it_holds_beyond_a_thousand(theorem):
    assert max(theorem.large) > 1000
    trial = Trial(load_backend("numpy"), "float32", sizes=theorem.large)
    assert theorem.measure(trial).holds


@every_theorem
def test_it_says_what_it_is(theorem):
    for text in (theorem.condition, theorem.claim, theorem.source, theorem.twin):
        assert text
        assert not text.endswith(".")
    assert by_name(theorem.name) is theorem
    assert theorem.sizes()[0] == GENERAL


def test_names_are_unique():
    assert len({theorem.name for theorem in THEOREMS}) == len(THEOREMS)


def test_an_unknown_name_is_refused():
    with pytest.raises(ArgumentError, match="'T99', expected one of T0, "):
        by_name("T99")


def test_what_is_not_a_number_does_not_hold():
    assert not Measured(float("nan"), 1.0).holds
    assert not Measured(float("nan"), 1.0).is_broken


def test_the_bound_of_float64_is_at_most_1e_10():
    trial = Trial(load_backend("numpy"))
    assert trial.bound(10, 3, condition=1e20) == 1e-10
    assert trial.bound(10, 3) < 1e-13
