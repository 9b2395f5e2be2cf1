"""Data that overflow end in the error that names the factor: no warning comes before.

Every warning is an error in these tests.
"""

import contextlib
import warnings

import numpy as np
import pytest
from factor_case import tree
from factor_cases import FACTORS
from refusals import NAME

import kfac_core as kc

LARGE = {"float32": 1e30, "float64": 1e300}
REAL = [name for name, case in FACTORS.items() if not case.ids]


@pytest.fixture
def library(plain_library):
    return plain_library


def in_dtype(data, dtype, scale=1.0):
    return tree(lambda x: x.astype(dtype) * np.asarray(scale, dtype), data)


@pytest.mark.parametrize("dtype", LARGE)
@pytest.mark.parametrize("name", REAL)
def test_statistics(library, name, dtype, rng):
    case = FACTORS[name]
    spec = case.make(name=NAME, matpowers=(-1,))
    data = case.draw(rng, 6)
    state = case.given(library, spec, in_dtype(data, dtype), dtype)
    with pytest.raises(kc.errors.NotFiniteError, match=f"{NAME}.*overflowed"):
        case.fold(library, spec, state, in_dtype(data, dtype, LARGE[dtype]))


@pytest.mark.parametrize("name", REAL)
def test_powers_and_products(library, name, rng):
    """Statistics near the largest number have no square, and small inverses."""
    case = FACTORS[name]
    powers = (-2, 2) if name != "groups" else (-2,)
    spec = case.make(name=NAME, matpowers=powers)
    data = case.draw(rng, 6)
    state = case.given(library, spec, in_dtype(data, "float32"), "float32")
    total = state.cov.total * library.asarray(np.asarray(1e36, np.float32))
    state = state._replace(cov=state.cov._replace(total=total))
    for damping in (1e-38, 0.0):
        with contextlib.suppress(kc.KfacError):
            library.compiled(spec.update_inverses)(state, damping)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_statistic_of_lag_one_alone(jax, compiled, rng):
    spec = kc.factors.FullyConnectedMultiKF(2, num_uses=2, cov_dt1=True, name=NAME)
    x = jax.numpy.asarray(np.ones((4, 2), np.float32))
    state = spec.update_cov(spec.init(x), x, 1.0)
    largest = jax.numpy.full((2, 2), np.finfo(np.float32).max)
    state = state._replace(extra=state.extra._replace(cov_dt1=(largest,)))
    sizes = (x * np.float32(1e17), 1.0)
    if not compiled:
        with pytest.raises(kc.errors.NotFiniteError, match=f"{NAME}.*overflowed"):
            spec.update_cov(state, *sizes)
        return
    kept = jax.jit(spec.update_cov)(state, *sizes)
    assert not kept.cov_ok
    assert not kept.ok
    for new, old in zip(
        jax.tree.leaves((kept.cov, kept.extra)),
        jax.tree.leaves((state.cov, state.extra)),
        strict=True,
    ):
        np.testing.assert_array_equal(new, old)
    # The next is taken again.
    again = jax.jit(spec.update_cov)(spec.update_cov(spec.init(x), x, 0.0), x, 0.0)
    assert again.ok


def test_a_series_block_keeps_both_sides(jax):
    block = kc.blocks.FullyConnectedSeriesFB(2, 2, num_uses=2)
    x = jax.numpy.asarray(np.ones((4, 2), np.float32))
    state = block.update_covs(block.init(like=x), x, x, 1.0)
    largest = jax.numpy.full((2, 2), np.finfo(np.float32).max)
    inputs = state.input_factor
    inputs = inputs._replace(extra=inputs.extra._replace(cov_dt1=(largest,)))
    state = state._replace(input_factor=inputs)
    kept = jax.jit(block.update_covs)(state, x * np.float32(1e17), x, 1.0)
    assert not kept.ok
    for new, old in zip(jax.tree.leaves(kept), jax.tree.leaves(state), strict=True):
        if new.dtype != bool:
            np.testing.assert_array_equal(new, old)


def test_a_warning_of_the_caller_stays(library):
    """What is silenced within a verb is so no longer after it, nor after its error."""
    spec = kc.factors.FullyConnectedKroneckerFactor(2)
    x = library.asarray(np.full((3, 2), 1e200))
    before = np.geterr()
    with pytest.raises(kc.errors.NotFiniteError):
        spec.update_cov(spec.init(x), x, 0.0)
    assert np.geterr() == before
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.asarray([1e300]) * 1e300
    assert [w.category for w in caught] == [RuntimeWarning]


def test_a_verb_enters_a_context_once_and_only_of_what_warns(library):
    quiet = kc.backend_of(library.asarray(np.ones(1))).quiet
    context = quiet()
    assert (context is None) == (library.name in {"torch", "jax"})
    with context or contextlib.nullcontext():
        assert quiet() is None
    assert (quiet() is None) == (context is None)
