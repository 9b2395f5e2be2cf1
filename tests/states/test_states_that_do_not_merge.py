"""What has no exact union is refused, by name, and nothing is merged by halves."""

from dataclasses import replace

import numpy as np
import pytest
from block_case import NumPy, flat
from block_cases import BLOCKS
from factor_cases import FACTORS
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import assert_equal, close, merged, of_shards, seen
from state_specs import BLOCKS as SPECS
from state_specs import WHATEVER

import kfac_core as kc

SIZE = 8
LOW_RANK = kc.factors.FullyConnectedKroneckerFactor(
    3, form=kc.factors.LowRank(max_rows=5), name="fc9", matpowers=(-1,)
)
EKFAC = kc.blocks.EigenvalueCorrectedFB(kc.blocks.FullyConnectedKFACBasicFB(3, 2))


def rows(rng, number, width=3):
    return rng.normal(size=(number, width))


def of_rows(x, factor=LOW_RANK, weight=None):
    return factor.update_cov(factor.init(np.zeros(1)), x, 1.0, weight or len(x))


@pytest.mark.parametrize("other", SPECS)
def test_states_of_other_specs_are_refused(other):
    spec = SPECS["pi"]
    state, foreign = spec.init(np.zeros(1)), SPECS[other].init(np.zeros(1))
    if other == "pi":
        spec.merge(state, foreign)
        return
    with pytest.raises(kc.errors.StateError, match=r"fc9.*: the state"):
        spec.merge(state, foreign)


@pytest.mark.parametrize("nothing", WHATEVER)
def test_what_is_no_state_is_refused(nothing):
    spec = SPECS["pi"]
    with pytest.raises(kc.errors.StateError, match=r"fc9"):
        spec.merge(spec.init(np.zeros(1)), WHATEVER[nothing])


def test_states_of_two_dtypes_are_refused():
    spec = SPECS["pi"]
    states = [spec.init(np.zeros(1, dtype)) for dtype in ("float64", "float32")]
    with pytest.raises(kc.errors.DTypeError, match=r"others\[0\] float32"):
        spec.merge(*states)


def test_states_of_two_sizes_are_refused():
    states = [
        kc.blocks.FullyConnectedKFACBasicFB(n, 3).init(np.zeros(1)) for n in (3, 4)
    ]
    with pytest.raises(kc.errors.ShapeError):
        kc.blocks.FullyConnectedKFACBasicFB(3, 3).merge(*states)


@pytest.mark.parametrize("spec", [SPECS["pi"], LOW_RANK], ids=["block", "factor"])
def test_averages_without_debiasing_are_refused(spec):
    spec = replace(spec, zero_debias=False)
    state = spec.init(np.zeros(1))
    with pytest.raises(kc.errors.UnsupportedError, match=r"fc9: .* initial value"):
        spec.merge(state, state)


def test_a_sum_that_overflows_is_refused(rng):
    spec = kc.factors.FullyConnectedKroneckerFactor(3, name="fc9")
    state = of_rows(1e154 * rows(rng, 2), spec, 1.0)
    with pytest.raises(kc.errors.NotFiniteError, match=r"fc9: the sum of .* 9 states"):
        spec.merge(*[state] * 9)


def test_rows_that_fit_are_all_kept(library, rng):
    x = rows(rng, 5)
    parts = [x[:3], x[3:], x[:0]]
    states = [of_rows(p) if len(p) else LOW_RANK.init(x) for p in parts]
    union = merged(library, LOW_RANK, [library.moved(state) for state in states])
    close(library.to_numpy(LOW_RANK.get_cov(union)), x.T @ x / 5, 1e-14)


def test_rows_that_do_not_fit_are_counted(rng):
    states = [of_rows(rows(rng, 3)), of_rows(rows(rng, 4))]
    with pytest.raises(kc.errors.ShapeError, match=r"fc9: .* 7 rows .* max_rows=7"):
        LOW_RANK.merge(*states)


def test_under_a_trace_what_is_refused_leaves_the_first_state(needed, rng):
    jax = needed("jax")
    with jax.enable_x64(True):
        states = jax.device_put([of_rows(rows(rng, 3)), of_rows(rows(rng, 4))])
        union = jax.jit(LOW_RANK.merge)(*states)
        assert not union.ok
        assert_equal(union.cov, states[0].cov)


def test_a_product_fitted_to_batches_is_refused(rng):
    case = BLOCKS["kronecker-optimal"]
    spec = case.made(name="fc9")
    states = of_shards(case, spec, case.draw(rng, SIZE), [3], SIZE)
    with pytest.raises(kc.errors.UnsupportedError, match=r"fc9: .* KroneckerOptimalFB"):
        spec.merge(*states)


def corrected(rng, sizes, damping=0.3):
    """Return states that saw a batch each in one basis, and one that saw all."""
    basis = EKFAC.update_covs(EKFAC.init(np.zeros(1)), rows(rng, 6), rows(rng, 6, 2), 0)
    basis = EKFAC.update_inverses(basis, damping)
    x, g = rows(rng, sum(sizes)), rows(rng, sum(sizes), 2)
    cuts = np.cumsum(sizes)[:-1]
    shards = [
        EKFAC.update_covs(basis, *own, 0.0, float(len(own[0])))
        for own in zip(np.split(x, cuts), np.split(g, cuts), strict=True)
    ]
    return shards, EKFAC.update_covs(basis, x, g, 0.0, float(len(x)))


@settings(max_examples=10)
@given(st.integers(0, 99), st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_corrected_eigenvalues_of_one_basis_add_up(seed, sizes):
    shards, whole = corrected(np.random.default_rng(seed), sizes)
    union, vector = EKFAC.merge(*shards), np.ones((3, 2))
    close(EKFAC.full_fisher_block(union), EKFAC.full_fisher_block(whole), 1e-12)
    # What `update_inverses` computed is kept with the basis.
    steps = [EKFAC.multiply_inverse(state, vector) for state in (union, whole)]
    close(*steps, 1e-10)


def test_corrected_eigenvalues_of_one_basis_add_up_in_every_library(library, rng):
    shards, whole = corrected(rng, [2, 5])
    shards = [library.moved(state) for state in shards]
    union = merged(library, EKFAC, shards)
    assert bool(union.ok)
    vector = library.asarray(np.ones((3, 2)))
    found = EKFAC.multiply_inverse(union, vector)
    close(
        flat(library, found),
        flat(NumPy, EKFAC.multiply_inverse(whole, np.ones((3, 2)))),
        1e-10,
    )


def test_corrected_eigenvalues_of_two_bases_do_not(rng):
    first, second = (corrected(rng, [3])[1] for _ in range(2))
    with pytest.raises(kc.errors.StateError, match="different bases"):
        EKFAC.merge(first, second)
    fresh = EKFAC.merge(EKFAC.init_inverses(first), EKFAC.init_inverses(second))
    with pytest.raises(kc.errors.NotComputedError):
        EKFAC.multiply_inverse(fresh, np.ones((3, 2)))


def test_a_factor_refuses_the_state_of_another(rng):
    case = FACTORS["rows"]
    factor = case.make()
    state = seen(case, factor, case.draw(rng, SIZE), SIZE)
    with pytest.raises(kc.errors.StateError):
        factor.merge(state, of_rows(rows(rng, 3)))
