"""Bad data are refused: by type, by a message that teaches, the state as it was."""

import numpy as np
import pytest
from factor_case import NumPy, tree
from factor_cases import BATCHED, FACTORS
from refusals import NAME, Refusal

import kfac_core as kc

REAL = [name for name, case in FACTORS.items() if not case.ids]
PAIRED = [name for name, case in FACTORS.items() if case.paired]
WITHOUT_BATCH = [name for name, case in FACTORS.items() if not case.batched]


@pytest.fixture
def library(plain_library):
    return plain_library


@pytest.fixture(params=FACTORS)
def name(request):
    return request.param


@pytest.fixture
def served(library, name, rng):
    """Return a case, its spec and a state that knows statistics and an inverse."""
    case = FACTORS[name]
    spec = case.make(name=NAME, matpowers=(-1,))
    state = case.updated(NumPy(), spec, case.draw(rng, 6))
    return case, spec, library.moved(spec.update_inverses(state, 0.1))


BAD_SHAPES = {
    "rank": lambda x, axis: x[..., None],
    "size": lambda x, axis: np.concatenate([x, x], axis=axis),
    "no axis": lambda x, axis: np.asarray(1.0),
}
BATCHED_REAL = [name for name in REAL if name in BATCHED]


@pytest.mark.parametrize("name", BATCHED_REAL, indirect=True)
def test_wrong_shapes(library, served, rng):
    case, spec, state = served
    x, *rest = case.draw(rng, 6)
    for how, spoil in BAD_SHAPES.items():
        if case.any_rank and how == "rank":
            continue
        bad = spoil(x, case.channels)
        shape = case.folded_shape(bad) if how == "size" else bad.shape
        words = (case.argument, shape, "expected")
        refused = Refusal(library, kc.errors.ShapeError, ValueError, *words)
        refused(state, lambda bad=bad: case.fold(library, spec, state, (bad, *rest)))


@pytest.mark.parametrize("name", WITHOUT_BATCH, indirect=True)
def test_gradients_of_another_number_of_entries(library, served, rng):
    case, spec, state = served
    ((weights, bias),) = case.draw(rng, 1)
    words = ("params_grads", "(2, 2)", "(2,)", "8 entries", "expected 6")
    refused = Refusal(library, kc.errors.ShapeError, ValueError, *words)
    bad = ((weights, bias, bias),)
    refused(state, lambda: case.fold(library, spec, state, bad))


@pytest.mark.parametrize("name", PAIRED, indirect=True)
def test_a_gradient_of_another_shape(library, served, rng):
    case, spec, state = served
    x, g = case.draw(rng, 6)
    bad = np.concatenate([g, g], axis=-1)
    words = ("outputs_grads", bad.shape, "expected")
    refused = Refusal(library, kc.errors.ShapeError, ValueError, *words)
    refused(state, lambda: case.fold(library, spec, state, (x, bad)))


@pytest.mark.parametrize("name", PAIRED, indirect=True)
def test_batches_and_towers_that_do_not_match(library, served, rng):
    case, spec, state = served
    x, g = case.draw(rng, 6)
    refused = Refusal(
        library, kc.errors.ShapeError, ValueError, "inputs", "outputs_grads", "rows"
    )
    for bad in [(x, g[:5]), (x, (g[:3], g[3:])), ((x[:2], x[2:]), (g[:3], g[3:]))]:
        refused(state, lambda bad=bad: case.fold(library, spec, state, bad))


@pytest.mark.parametrize("name", BATCHED, indirect=True)
def test_empty_batches(library, served, rng):
    case, spec, state = served
    refused = Refusal(
        library, kc.errors.ShapeError, ValueError, case.argument, "no rows"
    )
    data = case.draw(rng, 0)
    for bad in [data, tree(lambda x: (x, x), data), tuple(() for _ in data)]:
        refused(state, lambda bad=bad: case.fold(library, spec, state, bad))


@pytest.mark.parametrize("name", WITHOUT_BATCH, indirect=True)
def test_no_gradients_at_all(library, served):
    case, spec, state = served
    refused = Refusal(library, kc.errors.ShapeError, ValueError, "params_grads")
    refused(state, lambda: case.fold(library, spec, state, ((),)))


# NumPy warns of infinity times zero, as its user has told it to.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("name", REAL, indirect=True)
def test_what_is_not_finite(library, served, rng):
    case, spec, state = served
    words = (case.argument, "NaN or infinity", "unchanged")
    refused = Refusal(library, kc.errors.NotFiniteError, ValueError, *words)
    for value in (np.nan, np.inf, -np.inf):

        def spoil(x, value=value):
            x = x.copy()
            x[(0,) * x.ndim] = value
            return x

        bad = tree(spoil, case.draw(rng, 6))
        refused(state, lambda bad=bad: case.fold(library, spec, state, bad))


# NumPy warns of overflow, as its user has told it to.
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("name", REAL, indirect=True)
def test_statistics_that_overflow(library, served, rng):
    case, spec, state = served
    words = ("overflowed", "unchanged")
    refused = Refusal(library, kc.errors.NotFiniteError, ValueError, *words)
    bad = tree(lambda x: x * 1e300, case.draw(rng, 6))
    refused(state, lambda: case.fold(library, spec, state, bad))


@pytest.mark.parametrize("name", REAL, indirect=True)
def test_what_is_not_real(library, served, rng):
    case, spec, state = served
    words = (case.argument, "expected a real")
    refused = Refusal(library, kc.errors.DTypeError, TypeError, *words)
    for dtype in ("int64", "bool", "complex128"):
        bad = tree(lambda x, dtype=dtype: x.astype(dtype), case.draw(rng, 6))
        refused(state, lambda bad=bad: case.fold(library, spec, state, bad))


@pytest.mark.parametrize("name", REAL, indirect=True)
def test_data_wider_than_the_state(library, name, rng):
    case = FACTORS[name]
    spec = case.make(name=NAME)
    state = spec.init(library.asarray(np.zeros(1, "float32")))
    words = (case.argument, "float64", "float32", "init(like=")
    refused = Refusal(library, kc.errors.DTypeError, TypeError, *words)
    refused(state, lambda: case.fold(library, spec, state, case.draw(rng, 6)))


IDS = [name for name, case in FACTORS.items() if case.ids]
BAD_IDS = {
    "negative": (np.asarray([0, -1]), kc.errors.ArgumentError, ValueError, "-1"),
    "too large": (np.asarray([0, 5]), kc.errors.ArgumentError, ValueError, "5"),
    "float": (np.asarray([0.0, 1.0]), kc.errors.DTypeError, TypeError, "float64"),
    "bool": (np.asarray([True, False]), kc.errors.DTypeError, TypeError, "bool"),
    "rank 3": (
        np.zeros((2, 1, 1), "int64"),
        kc.errors.ShapeError,
        ValueError,
        "(2, 1, 1)",
    ),
    "rank 0": (np.asarray(1), kc.errors.ShapeError, ValueError, "()"),
}


@pytest.mark.parametrize("how", BAD_IDS)
@pytest.mark.parametrize("name", IDS, indirect=True)
def test_what_is_no_id(library, served, how):
    case, spec, state = served
    ids, error, builtin, got = BAD_IDS[how]
    refused = Refusal(library, error, builtin, "input_ids", got, "expected")
    for bad in [ids, (np.asarray([0, 1]), ids)]:
        refused(state, lambda bad=bad: case.fold(library, spec, state, (bad,)))
