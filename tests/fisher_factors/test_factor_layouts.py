"""How a NumPy array lies in memory does not matter, nor which library it is of."""

import numpy as np
import pytest
from factor_case import NumPy, tree
from factor_cases import FACTORS

import kfac_core as kc


def strided(x):
    """Return `x` as every second entry of each axis of a larger array."""
    wide = np.zeros([2 * size for size in x.shape], x.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def reversed_in_memory(x):
    flip = tuple(slice(None, None, -1) for _ in x.shape)
    return np.ascontiguousarray(x[flip])[flip]


def frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "read-only": frozen,
    "fortran": np.asfortranarray,
    "strided": strided,
    "reversed": reversed_in_memory,
    "broadcast": lambda x: np.broadcast_to(x, x.shape),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
}


def results(library, case, data):
    """Return all that a factor knows and serves after `data`, as NumPy arrays."""
    spec = case.make(**case.all_served(-1, -0.5, eigendecomposition=False))
    state = case.updated(library, spec, data)
    state = spec.update_inverses(state, 0.1)
    operators = [spec.get_matpower(state, exp) for exp in (-1, -0.5)]
    if not case.powers_alone:
        operators += [spec.get_cholesky(state), spec.get_cholesky_inverse(state)]
    return [spec.get_cov(state), *(operator.to_dense() for operator in operators)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FACTORS)
def test_memory_layout_does_not_matter(name, layout, rng):
    case = FACTORS[name]
    data = case.draw(rng, 6)
    laid_out = tree(LAYOUTS[layout], data)
    before = tree(np.array, laid_out)
    found = results(NumPy, case, laid_out)
    for x, expected in zip(found, results(NumPy, case, data), strict=True):
        atol = 1e-13 * np.abs(expected).max()
        np.testing.assert_allclose(x, expected, rtol=1e-12, atol=atol)
    tree_equal(laid_out, before)


def tree_equal(data, before):
    if isinstance(data, tuple):
        for part, old in zip(data, before, strict=True):
            tree_equal(part, old)
    else:
        np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize("name", FACTORS)
def test_every_library_agrees_with_numpy_in_float64(library, name, rng):
    case = FACTORS[name]
    data = case.draw(rng, 8)
    found = results(library, case, data)
    for x, expected in zip(found, results(NumPy, case, data), strict=True):
        atol = 1e-12 * np.abs(expected).max()
        np.testing.assert_allclose(library.to_numpy(x), expected, rtol=0, atol=atol)


def test_a_state_like_swapped_bytes_is_native():
    spec = kc.factors.FullyConnectedKroneckerFactor(2)
    for kind in (">f4", ">f8"):
        state = spec.init(like=np.zeros(1, kind))
        assert state.cov.total.dtype == np.dtype(kind).newbyteorder("=")


def test_a_state_like_long_doubles_is_refused():
    spec = kc.factors.FullyConnectedKroneckerFactor(2, name="layer")
    if np.finfo(np.longdouble).bits == 64:
        pytest.skip("here a long double is a double")
    with pytest.raises(kc.errors.DTypeError, match=r"^layer: like has dtype float\d+,"):
        spec.init(like=np.zeros(1, np.longdouble))
