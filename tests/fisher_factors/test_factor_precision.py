"""Statistics are as accurate as their dtype, and of at least float32."""

import numpy as np
import pytest
from factor_case import leaves, tree
from factor_cases import FACTORS, ROWS
from hypothesis import given
from hypothesis import strategies as st

import kfac_core as kc

REAL = {name: case for name, case in FACTORS.items() if not case.ids}
HALF = pytest.mark.parametrize("half", ["float16", "bfloat16"])


def in_bfloat16(x):
    """Return `x` with 8 bits of its significand: exact in bfloat16 and float16."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 256) / 256, exponent).astype(np.float32)


@given(
    rows=st.sampled_from([1, 7, 300]),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_each_entry_has_the_error_of_one_dot_product(library, rows, seed, dtype):
    # |error| <= (rows + 4) u |X|'|X| / rows, whatever the entries: with columns that
    # differ by 10^6 and that cancel.
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(rows, 3)) * [1e-3, 1.0, 1e3]).astype(dtype)
    spec = ROWS.make()
    found = library.to_numpy(spec.get_cov(ROWS.updated(library, spec, (x,), dtype)))
    wide = x.astype(np.longdouble)
    exact = wide.T @ wide / rows
    unit = np.finfo(dtype).eps / 2
    bound = (rows + 4) * unit * (np.abs(wide).T @ np.abs(wide)) / rows
    assert found.dtype == dtype
    assert np.all(np.abs(found - exact) <= bound)


# The last half precision of a library for every factor, and each for rows.
@pytest.mark.parametrize("name", REAL)
def test_half_precision_counts_as_its_upcast(plain_library, name, rng):
    library, case = plain_library, REAL[name]
    for half in library.half_types[0 if name == "rows" else -1 :]:
        check_half(library, case, half, rng)


def check_half(library, case, half, rng):
    data = tree(in_bfloat16, case.draw(rng, 5))
    spec = case.make()
    full = case.updated(library, spec, data, "float32")
    arrays = tree(lambda x: library.half(x, half), data)
    state = spec.init(leaves(arrays)[0])
    update = library.compiled(spec.update_cov)
    state = update(state, *arrays, **case.extra, ema_decay=0.5)
    assert state.cov.total.dtype == full.cov.total.dtype
    np.testing.assert_array_equal(
        library.to_numpy(spec.get_cov(state)), library.to_numpy(spec.get_cov(full))
    )


@pytest.mark.parametrize("name", FACTORS)
def test_a_state_may_be_wider_than_the_data(plain_library, name, rng):
    library = plain_library
    case = FACTORS[name]
    spec = case.make()
    data = case.draw(rng, 5)
    if name in REAL:
        data = tree(lambda x: x.astype("float32"), data)
    state = case.updated(library, spec, data, "float64")
    wide = case.updated(library, spec, data_in_float64(name, data), "float64")
    np.testing.assert_array_equal(
        library.to_numpy(spec.get_cov(state)), library.to_numpy(spec.get_cov(wide))
    )


def data_in_float64(name, data):
    if name not in REAL:
        return data
    return tree(lambda x: x.astype("float64"), data)


@pytest.mark.parametrize("vector", ["float32", "float64"])
@pytest.mark.parametrize("stored", ["float32", "float64"])
@pytest.mark.parametrize("name", ["rows", "ids", "dense-diagonal"])
def test_a_product_has_the_dtype_of_the_vector(library, name, stored, vector, rng):
    case = FACTORS[name]
    spec = case.make(matpowers=(-1, 1))
    data = case.draw(rng, 5)
    if name in REAL:
        data = tree(lambda x: x.astype(stored), data)
    state = spec.update_inverses(case.updated(library, spec, data, stored), 0.1)
    x = library.asarray(np.eye(spec.dimension, dtype=vector))
    for exp in (-1, 1):
        for multiply in (spec.left_multiply_matpower, spec.right_multiply_matpower):
            assert multiply(state, x, exp).dtype == x.dtype


@HALF
def test_a_product_with_a_half_vector_is_half(library, half, rng):
    if half not in library.half_types:
        return
    spec = ROWS.make(matpowers=(-1,))
    data = tree(lambda x: x.astype("float32"), ROWS.draw(rng, 8))
    state = spec.update_inverses(ROWS.updated(library, spec, data, "float32"), 1.0)
    x = library.half(np.eye(3), half)
    found = spec.left_multiply_matpower(state, x, -1)
    assert found.dtype == x.dtype
    np.testing.assert_allclose(
        library.to_numpy(found).astype(float),
        library.to_numpy(spec.get_inverse(state).to_dense()),
        atol=2**-8,
    )


@pytest.mark.parametrize(
    ("dtype", "like", "expected"),
    [
        (None, "int64", "float32"),
        (None, "float32", "float32"),
        (None, "float64", "float64"),
        ("float64", "float32", "float64"),
        ("float32", "float64", "float32"),
        ("float64", "int32", "float64"),
    ],
)
def test_statistics_of_ids_have_the_dtype_asked_for(library, dtype, like, expected):
    spec = kc.factors.EmbeddingInputKroneckerFactor(5, dtype)
    state = spec.init(library.asarray(np.zeros(1, like)))
    state = spec.update_cov(state, library.asarray(np.asarray([1, 2])), ema_decay=0.5)
    assert library.to_numpy(spec.get_cov_var(state)).dtype == expected


def test_float64_that_jax_has_not_enabled_is_refused(jax):
    factor = kc.factors.EmbeddingInputKroneckerFactor(4, dtype="float64", name="words")
    with jax.enable_x64(False):
        ids = jax.numpy.asarray([0, 1])
        with pytest.raises(
            kc.errors.DTypeError, match=r"words: dtype is 'float64'.*x64"
        ):
            factor.init(ids)
    assert factor.init(jax.numpy.asarray([0, 1])).cov.total.dtype == "float64"
