"""Decays, weights and dampings: which are refused, and which are too small."""

import numpy as np
import pytest
from factor_case import leaves, tree
from factor_cases import FACTORS, ROWS
from refusals import NAME, Refusal

import kfac_core as kc


@pytest.fixture
def library(plain_library):
    return plain_library


@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, np.inf])
def test_decays_outside_of_the_unit_interval(library, rng, value, as_array):
    spec, data = ROWS.make(name=NAME), ROWS.draw(rng, 6)
    state = ROWS.given(library, spec, data)
    decay = library.asarray(np.asarray(value)) if as_array else value
    words = ("ema_decay", value, "expected", "[0, 1")
    refused = Refusal(library, kc.errors.ArgumentError, ValueError, *words)
    refused(state, lambda: ROWS.fold(library, spec, state, data, ema_decay=decay))


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_weights_and_dampings_out_of_range(library, rng, value):
    spec, data = ROWS.make(name=NAME, matpowers=(-1,)), ROWS.draw(rng, 6)
    state = ROWS.given(library, spec, data)
    calls = {
        "ema_weight": lambda v: ROWS.fold(library, spec, state, data, ema_weight=v),
        "damping": lambda v: spec.update_inverses(state, v),
    }
    for argument, call in calls.items():
        words = (argument, value, "expected a number")
        refused = Refusal(library, kc.errors.ArgumentError, ValueError, *words)
        for v in (value, library.asarray(np.asarray(value))):
            refused(state, lambda call=call, v=v: call(v))


def test_numbers_beyond_the_range_of_a_float32_state(library, rng):
    spec, data = ROWS.make(name=NAME, matpowers=(-1,)), ROWS.draw(rng, 6)
    data = (data[0].astype("float32"),)
    state = ROWS.given(library, spec, data, "float32")
    refused = Refusal(library, kc.errors.ArgumentError, ValueError, "ema_weight")
    refused(state, lambda: ROWS.fold(library, spec, state, data, ema_weight=1e39))
    refused = Refusal(library, kc.errors.ArgumentError, ValueError, "damping")
    refused(state, lambda: spec.update_inverses(state, 1e39))


NUMBERS = [
    *(kind(2) for kind in (np.uint8, np.int8, np.int64, np.uint64)),
    *(kind(2) for kind in (np.float16, np.float32, np.float64, np.longdouble)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scalars_of_every_type_of_numpy_are_numbers(library, rng, dtype):
    spec, data = ROWS.make(name=NAME, matpowers=(-1,)), ROWS.draw(rng, 6)
    state = ROWS.given(library, spec, (data[0].astype(dtype),), dtype)
    expected = leaves(spec.update_inverses(state, 2))
    for value in NUMBERS:
        found = leaves(spec.update_inverses(state, value))
        for x, y in zip(found, expected, strict=True):
            x, y = library.to_numpy(x), library.to_numpy(y)
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "value",
    [10**400, -(10**400), 10**6000, np.longdouble(10) ** 4000],
    ids=["400", "minus 400", "6000", "longdouble"],
)
def test_numbers_beyond_every_range(library, rng, dtype, value):
    spec, data = ROWS.make(name=NAME, matpowers=(-1,)), ROWS.draw(rng, 6)
    state = ROWS.given(library, spec, (data[0].astype(dtype),), dtype)
    words = ("damping", "expected a number in")
    refused = Refusal(library, kc.errors.ArgumentError, ValueError, *words)
    refused(state, lambda: spec.update_inverses(state, value))


def test_integers_of_more_than_64_bits(library, rng):
    spec, data = ROWS.make(name=NAME, matpowers=(-1,)), ROWS.draw(rng, 6)
    state = spec.update_inverses(ROWS.given(library, spec, data), 10**30)
    np.testing.assert_allclose(
        library.to_numpy(state.derived.dampings[0]), 1e30, rtol=1e-15
    )


@pytest.mark.parametrize("value", ["0.1", None, [0.1]])
def test_scalars_that_are_no_numbers(library, rng, value):
    spec, data = ROWS.make(name=NAME, matpowers=(-1,)), ROWS.draw(rng, 6)
    state = ROWS.given(library, spec, data)
    words = ("damping", type(value).__name__, "0-d array")
    refused = Refusal(library, kc.errors.BackendError, TypeError, *words)
    refused(state, lambda: spec.update_inverses(state, value))


def test_complex_scalars(library, rng):
    spec, data = ROWS.make(name=NAME, matpowers=(-1,)), ROWS.draw(rng, 6)
    state = ROWS.given(library, spec, data)
    for value in (1j, library.asarray(np.asarray(1 + 0j))):
        refused = Refusal(library, kc.KfacError, TypeError, "damping")
        refused(state, lambda value=value: spec.update_inverses(state, value))


def test_scalars_that_are_arrays(library, rng):
    spec, data = ROWS.make(name=NAME, matpowers=(-1,)), ROWS.draw(rng, 6)
    state = ROWS.given(library, spec, data)
    refused = Refusal(library, kc.errors.ShapeError, ValueError, "damping", "(1,)")
    damping = library.asarray(np.ones(1))
    refused(state, lambda: spec.update_inverses(state, damping))


def test_a_damping_id_without_a_damping(library, rng):
    spec = ROWS.make(name=NAME, matpowers=(-1, (-1, "other")))
    state = ROWS.given(library, spec, ROWS.draw(rng, 6))
    refused = Refusal(library, kc.errors.ArgumentError, ValueError, "other")
    refused(state, lambda: spec.update_inverses(state, {"damping": 0.1}))


@pytest.mark.parametrize(
    "name", [name for name, case in FACTORS.items() if not case.batched]
)
@pytest.mark.parametrize("value", [0, -1, 0.5, np.nan])
def test_batch_sizes_below_one(library, name, rng, value):
    case = FACTORS[name]
    spec = case.make(name=NAME)
    state = case.given(library, spec, case.draw(rng, 1))
    (gradients,) = tree(library.asarray, case.draw(rng, 1))
    words = ("batch_size", value, "expected")
    refused = Refusal(library, kc.errors.ArgumentError, ValueError, *words)
    refused(state, lambda: spec.update_cov(state, gradients, value, ema_decay=0.5))


SINGULAR = [
    (name, served)
    for name, case in FACTORS.items()
    if case.singular is not None
    for served in (-1, -2, -0.5, "cholesky", "cholesky_inverse")
    if not (case.powers_alone and isinstance(served, str))
    # Of a diagonal, the square root of zero is zero.
    and not (served == "cholesky" and isinstance(case.make().form, kc.factors.Diagonal))
]


@pytest.mark.parametrize(("name", "served_as"), SINGULAR)
def test_a_singular_matrix_without_damping(library, name, served_as):
    case = FACTORS[name]
    spec = case.make(name=NAME)
    if isinstance(served_as, str):
        spec = getattr(spec, f"register_{served_as}")()
    else:
        spec = spec.register_matpower(served_as)
    state = case.given(library, spec, case.singular)
    words = ("damping 0 ", "not positive definite", "use a damping above", "unchanged")
    refused = Refusal(
        library, kc.errors.NotPositiveDefiniteError, np.linalg.LinAlgError, *words
    )
    refused(state, lambda: spec.update_inverses(state, 0.0))
