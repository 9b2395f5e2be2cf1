"""Blocks refuse bad data and vectors by name, and keep their state as it was."""

import functools

import numpy as np
import pytest
from block_case import NumPy, asarrays, leaves, tree
from block_cases import BLOCKS, DAMPED, KRONECKER

import kfac_core as kc

NAME = "layer7"
LAYERS = [name for name, case in BLOCKS.items() if case.axis is not None]
PAIRED = [name for name in LAYERS if BLOCKS[name].takes_inputs]
REAL_INPUTS = [name for name in PAIRED if not BLOCKS[name].ids]


@pytest.fixture
def library(plain_library):
    return plain_library


@pytest.fixture(params=BLOCKS)
def name(request):
    return request.param


@functools.cache
def known(name):
    """Return a block, and the state that NumPy makes: 3,000 tests copy one of each."""
    case = BLOCKS[name]
    block = case.made(name=NAME)
    state = case.updated(NumPy(), block, case.draw(np.random.default_rng(0), 6))
    return block, block.update_inverses(state, 0.1)


@pytest.fixture
def served(library, name, rng):
    case = BLOCKS[name]
    case.draw(rng, 6)  # those of the state: a test draws others
    block, state = known(name)
    return case, block, library.moved(state)


@pytest.fixture
def refused(library):
    def refused(state, call, error, builtin, *words):
        before = [library.to_numpy(leaf) for leaf in leaves(state)]
        with pytest.raises(error) as caught:
            call()
        assert isinstance(caught.value, kc.KfacError)
        assert isinstance(caught.value, builtin)
        for word in (NAME, *words):
            assert str(word) in str(caught.value)
        for leaf, old in zip(leaves(state), before, strict=True):
            np.testing.assert_array_equal(library.to_numpy(leaf), old)

    return refused


def widened(x, case):
    return np.concatenate([x, x], axis=case.channels)


@pytest.mark.parametrize("name", REAL_INPUTS, indirect=True)
def test_inputs_of_another_size(library, served, refused, rng):
    case, block, state = served
    x, g = case.draw(rng, 6)
    bad = widened(x, case)
    refused(
        state,
        lambda: case.fold(library, block, state, (bad, g)),
        kc.errors.ShapeError,
        ValueError,
        "inputs",
        case.folded_shape(bad),
        "expected",
    )


@pytest.mark.parametrize("name", LAYERS, indirect=True)
def test_gradients_of_another_size(library, served, refused, rng):
    case, block, state = served
    x, g = case.draw(rng, 6)
    bad = widened(g, case)
    refused(
        state,
        lambda: case.fold(library, block, state, (x, bad)),
        kc.errors.ShapeError,
        ValueError,
        "outputs_grads",
        case.folded_shape(bad),
        "expected",
    )


@pytest.mark.parametrize("name", PAIRED, indirect=True)
def test_batches_and_towers_that_do_not_match(library, served, refused, rng):
    case, block, state = served
    x, g = case.draw(rng, 6)
    halves = case.split(g, 3)
    for bad in [
        (x, case.split(g, 5)[0]),
        (x, halves),
        (case.split(x, 2), halves),
    ]:
        refused(
            state,
            lambda bad=bad: case.fold(library, block, state, bad),
            kc.errors.ShapeError,
            ValueError,
            "same cases",
        )


@pytest.mark.parametrize("name", LAYERS, indirect=True)
def test_empty_batches(library, served, refused, rng):
    case, block, state = served
    bad = case.draw(rng, 0)
    refused(
        state,
        lambda: case.fold(library, block, state, bad),
        kc.errors.ShapeError,
        ValueError,
        "no rows",
    )


@pytest.mark.parametrize("place", [0, 1], ids=["inputs", "outputs_grads"])
@pytest.mark.parametrize("name", REAL_INPUTS, indirect=True)
def test_nan(library, served, refused, rng, place):
    case, block, state = served
    data = [x.copy() for x in case.draw(rng, 6)]
    data[place][(0,) * data[place].ndim] = np.nan
    refused(
        state,
        lambda: case.fold(library, block, state, tuple(data)),
        kc.errors.NotFiniteError,
        ValueError,
        ["inputs", "outputs_grads"][place],
        "NaN",
        "unchanged",
    )


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("ema_decay", 1.5),
        ("ema_decay", np.nan),
        ("ema_weight", -1.0),
        ("damping", -0.1),
        ("damping", np.nan),
        ("damping", np.inf),
    ],
)
def test_numbers_out_of_range(library, served, refused, rng, argument, value):
    case, block, state = served
    data = case.draw(rng, 6)

    def call():
        if argument == "damping":
            return block.update_inverses(state, value)
        return case.fold(library, block, state, data, **{argument: value})

    refused(
        state, call, kc.errors.ArgumentError, ValueError, argument, value, "expected"
    )


def bad_vectors(vector):
    """Yield vectors of other sizes, ranks and structures."""
    weights, *bias = vector if isinstance(vector, tuple) else (vector,)
    wide = np.concatenate([weights, weights], axis=-1)
    yield "wide", (wide, *bias) if bias else wide
    yield "scalar", np.asarray(1.0)
    yield "empty", ()
    if bias:
        yield "no bias", weights
        yield "long bias", (weights, np.concatenate([bias[0], bias[0]]))
    yield "three", (weights, np.ones(weights.shape[-1]), np.ones(1))


@pytest.mark.parametrize(
    "how", ["wide", "scalar", "empty", "no bias", "long bias", "three"]
)
def test_vectors_of_another_size_or_structure(library, served, refused, rng, how):
    case, block, state = served
    bad = dict(bad_vectors(case.vector(rng))).get(how)
    if bad is None:
        return  # a layer without bias
    vector = asarrays(library, bad)
    for multiply in case.products(block, 1, -1).values():
        refused(
            state,
            lambda multiply=multiply: multiply(state, vector),
            kc.errors.ShapeError,
            ValueError,
            "vector",
        )


def test_vectors_that_are_not_real(library, served, refused, rng):
    case, block, state = served
    vector = case.vector(rng)
    for dtype in ("int64", "bool", "complex128"):
        bad = tree(lambda v, dtype=dtype: library.asarray(v.astype(dtype)), vector)
        refused(
            state,
            lambda bad=bad: block.multiply_inverse(state, bad),
            kc.errors.DTypeError,
            TypeError,
            "vector",
            dtype,
        )


def test_what_was_never_computed_or_updated(library, served, refused, rng):
    case, block, state = served
    vector = asarrays(library, case.vector(rng))
    empty = block.init(library.asarray(np.zeros(1)))
    bare = block.init_inverses(state)
    calls = [
        lambda multiply=multiply: multiply(bare, vector)
        for multiply in case.products(block, 1, -1).values()
    ]
    calls += [
        lambda: block.update_inverses(empty, 0.1),
        lambda: block.full_fisher_block(empty),
    ]
    for call in calls:
        refused(state, call, kc.errors.NotComputedError, RuntimeError)


def test_what_was_never_registered(library, name, refused, rng):
    case = BLOCKS[name]
    if case.inverse_alone:
        return  # nothing else can be
    block = case.make(name=NAME)
    state = case.updated(NumPy(), block, case.draw(rng, 6))
    state = library.moved(block.update_inverses(state, 0.1))
    vector = asarrays(library, case.vector(rng))
    for call in (
        lambda: block.multiply_matpower(state, vector, -3),
        lambda: block.multiply_cholesky(state, vector),
        lambda: block.multiply_cholesky_inverse(state, vector),
    ):
        refused(state, call, kc.errors.NotRegisteredError, KeyError)


def singular(data):
    """Return the data with a direction that nothing sees."""
    if isinstance(data[0], tuple):
        return (tuple(np.zeros_like(x) for x in data[0]),)
    return (data[0], np.zeros_like(data[1]))


@pytest.mark.parametrize(("name", "kind"), DAMPED)
def test_a_singular_block_without_damping(library, name, refused, rng, kind):
    case = BLOCKS[name]
    block = case.made(kind, name=NAME)
    state = case.given(library, block, singular(case.draw(rng, 6)))
    refused(
        state,
        lambda: block.update_inverses(state, 0.0),
        kc.errors.NotPositiveDefiniteError,
        np.linalg.LinAlgError,
        "not positive definite",
        "unchanged",
    )


@pytest.mark.parametrize("name", KRONECKER)
def test_unknown_ways_to_damp(name):
    with pytest.raises(
        kc.errors.ArgumentError, match=r"layer7: damping_type is 'ridge'.*pi"
    ):
        BLOCKS[name].make(name=NAME, damping_type="ridge")


def test_lists_and_two_libraries(library, rng):
    case = BLOCKS["dense-bias"]
    block = case.make(name=NAME)
    x, g = case.draw(rng, 6)
    state = case.updated(library, block, (x, g))
    strict = pytest.importorskip("array_api_strict")
    other = strict.asarray if library.package == "numpy" else np.asarray
    served = block.update_inverses(state, 0.1)
    for call in (
        lambda: block.update_covs(state, x.tolist(), g.tolist(), ema_decay=0.5),
        lambda: block.update_covs(state, other(x), other(g), ema_decay=0.5),
        lambda: block.update_inverses(state, other(0.1)),
        lambda: block.multiply_inverse(served, (other(np.ones((3, 2))), other(g[0]))),
        lambda: block.multiply_inverse(served, [[1.0, 2.0]]),
    ):
        with pytest.raises(kc.errors.BackendError) as caught:
            call()
        assert isinstance(caught.value, TypeError)
