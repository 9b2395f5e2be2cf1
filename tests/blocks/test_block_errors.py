"""Blocks refuse bad data and vectors by name, and keep their state as it was."""

import numpy as np
import pytest
from block_cases import BLOCKS, asarrays

import kfac_core as kc

NAME = "layer7"
LAYERS = [name for name, case in BLOCKS.items() if not case.extra]
REAL_INPUTS = [name for name in LAYERS if not name.startswith("embedding")]
CHANNELS_FIRST = ("conv-channels-first",)


@pytest.fixture
def library(plain_library):
    return plain_library


@pytest.fixture(params=BLOCKS)
def name(request):
    return request.param


@pytest.fixture
def served(library, name, rng):
    case = BLOCKS[name]
    block = case.make(name=NAME, cholesky=True)
    state = case.updated(library, block, case.draw(rng, 6))
    return case, block, block.update_inverses(state, 0.1)


def leaves(tree):
    if isinstance(tree, tuple):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]


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


def widened(x, name):
    axis = 1 if name in CHANNELS_FIRST else -1
    return np.concatenate([x, x], axis=axis)


@pytest.mark.parametrize("name", REAL_INPUTS, indirect=True)
def test_inputs_of_another_size(library, name, served, refused, rng):
    case, block, state = served
    x, g = case.draw(rng, 6)
    bad = widened(x, name)
    refused(
        state,
        lambda: case.fold(library, block, state, (bad, g)),
        kc.ShapeError,
        ValueError,
        "inputs",
        bad.shape,
        "expected",
    )


@pytest.mark.parametrize("name", LAYERS, indirect=True)
def test_gradients_of_another_size(library, name, served, refused, rng):
    case, block, state = served
    x, g = case.draw(rng, 6)
    bad = widened(g, name)
    refused(
        state,
        lambda: case.fold(library, block, state, (x, bad)),
        kc.ShapeError,
        ValueError,
        "outputs_grads",
        bad.shape,
        "expected",
    )


@pytest.mark.parametrize("name", LAYERS, indirect=True)
def test_batches_and_towers_that_do_not_match(library, served, refused, rng):
    case, block, state = served
    x, g = case.draw(rng, 6)
    for bad in [(x, g[:5]), (x, (g[:3], g[3:])), ((x[:2], x[2:]), (g[:3], g[3:]))]:
        refused(
            state,
            lambda bad=bad: case.fold(library, block, state, bad),
            kc.ShapeError,
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
        kc.ShapeError,
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
        kc.NotFiniteError,
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

    refused(state, call, kc.ArgumentError, ValueError, argument, value, "expected")


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
    yield "three", (weights, np.ones(weights.shape[-1]), np.ones(weights.shape[-1]))


@pytest.mark.parametrize(
    "how", ["wide", "scalar", "empty", "no bias", "long bias", "three"]
)
def test_vectors_of_another_size_or_structure(library, served, refused, rng, how):
    case, block, state = served
    bad = dict(bad_vectors(case.vector(rng))).get(how)
    if bad is None:
        return  # a layer without bias
    vector = asarrays(library, bad)
    for multiply in (block.multiply, block.multiply_inverse, block.multiply_cholesky):
        refused(
            state,
            lambda multiply=multiply: multiply(state, vector),
            kc.ShapeError,
            ValueError,
            "vector",
        )


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128"])
def test_vectors_that_are_not_real(library, served, refused, rng, dtype):
    case, block, state = served
    vector = case.vector(rng)
    if isinstance(vector, tuple):
        bad = tuple(v.astype(dtype) for v in vector)
    else:
        bad = vector.astype(dtype)
    refused(
        state,
        lambda: block.multiply_inverse(state, asarrays(library, bad)),
        kc.DTypeError,
        TypeError,
        "vector",
        dtype,
    )


def test_what_was_never_computed_updated_or_registered(library, served, refused, rng):
    case, block, state = served
    vector = asarrays(library, case.vector(rng))
    empty = block.init(library.asarray(np.zeros(1)))
    bare = block.init_inverses(state)
    for call, error, builtin in (
        (lambda: block.multiply_inverse(bare, vector), kc.NotComputedError, None),
        (lambda: block.multiply(bare, vector), kc.NotComputedError, None),
        (lambda: block.multiply_cholesky(bare, vector), kc.NotComputedError, None),
        (lambda: block.update_inverses(empty, 0.1), kc.NotComputedError, None),
        (lambda: block.full_fisher_block(empty), kc.NotComputedError, None),
        (
            lambda: block.multiply_matpower(state, vector, -3),
            kc.NotRegisteredError,
            KeyError,
        ),
        (
            lambda: block.multiply_cholesky_inverse(state, vector),
            kc.NotRegisteredError,
            KeyError,
        ),
    ):
        refused(state, call, error, builtin or RuntimeError)


def singular(data):
    """Return the data with a direction that nothing sees."""
    if isinstance(data[0], tuple):
        return (tuple(np.zeros_like(x) for x in data[0]),)
    return (data[0], np.zeros_like(data[1]))


@pytest.mark.parametrize("kind", ["pi", "off", "constant", "exact", None])
def test_a_singular_block_without_damping(library, name, refused, rng, kind):
    case = BLOCKS[name]
    if case.is_kronecker is (kind is None):
        return
    block = case.make(name=NAME, **({"damping_type": kind} if kind else {}))
    state = case.updated(library, block, singular(case.draw(rng, 6)))
    refused(
        state,
        lambda: block.update_inverses(state, 0.0),
        kc.NotPositiveDefiniteError,
        np.linalg.LinAlgError,
        "not positive definite",
        "unchanged",
    )


def test_unknown_ways_to_damp(name):
    if not BLOCKS[name].is_kronecker:
        return
    with pytest.raises(kc.ArgumentError, match=r"layer7: damping_type is 'ridge'.*pi"):
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
        with pytest.raises(kc.BackendError) as caught:
            call()
        assert isinstance(caught.value, TypeError)
