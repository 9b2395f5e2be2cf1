"""In float32, a union is the state of all rows to the rounding of their sums."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import kfac_core as kc

U = 2.0**-24
ROWS, INPUTS, OUTPUTS, DAMPING = 40, 5, 3, 0.5
BLOCK = kc.blocks.FullyConnectedKFACBasicFB(
    INPUTS, OUTPUTS, has_bias=True, damping_type="constant"
)
splits = st.lists(st.integers(0, ROWS), max_size=4).map(sorted)


def drawn(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, INPUTS)) * np.exp(rng.normal(size=INPUTS))
    return x.astype(np.float32), rng.normal(size=(ROWS, OUTPUTS)).astype(np.float32)


def seen(state, x, g):
    """The state after rows, which count by their number; none is no update."""
    if not x.shape[0]:
        return state
    return BLOCK.update_covs(state, x, g, ema_decay=1.0, ema_weight=float(x.shape[0]))


def both(x, g, cuts, as_array):
    """The union of shards, and the state of all rows."""
    first = BLOCK.init(as_array(x[:1]))
    ends = [0, *cuts, ROWS]
    shards = [
        seen(first, as_array(x[i:j]), as_array(g[i:j])) for i, j in pairwise(ends)
    ]
    return BLOCK.merge(*shards), seen(first, as_array(x), as_array(g))


def rounding(terms):
    """What two sums of squares may differ by, each over this many, relative.

    A sum of ``n`` products, in any order, has an error of at most ``n u`` of the sum of
    their sizes, which is at most the largest diagonal entry (Cauchy-Schwarz). Each
    shard is multiplied by its weight and added, and the whole is divided: six more.
    """
    return 2 * (terms + 6) * U


def check(x, g, cuts, as_array, to_numpy):
    union, whole = both(x, g, cuts, as_array)
    errors = {}
    for name, factor in (("a", BLOCK.input_factor), ("g", BLOCK.output_factor)):
        place = "input_factor" if name == "a" else "output_factor"
        found, expected = (
            to_numpy(factor.get_cov(getattr(own, place))) for own in (union, whole)
        )
        assert found.dtype == np.float32
        bound = rounding(ROWS + len(cuts) + 1) * expected.diagonal().max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
        # A Cholesky factor, its inverse and its square: n u of the condition, each.
        damped = expected + DAMPING * np.eye(len(expected))
        condition = np.linalg.cond(damped.astype(np.float64))
        own = len(expected) * (bound / DAMPING + 2 * 3 * U * condition)
        errors[name] = own, float(np.linalg.norm(np.linalg.inv(damped), 2))
    shapes = (INPUTS, OUTPUTS), (OUTPUTS,)
    vector = tuple(as_array(np.ones(shape, np.float32)) for shape in shapes)
    steps = [
        BLOCK.multiply_inverse(BLOCK.update_inverses(own, DAMPING), vector)
        for own in (union, whole)
    ]
    (of_a, a), (of_g, b) = errors["a"], errors["g"]
    largest = a * b * ((INPUTS + 1) * OUTPUTS) ** 0.5
    for found, expected in zip(*steps, strict=True):
        np.testing.assert_allclose(
            to_numpy(found), to_numpy(expected), rtol=0, atol=(of_a + of_g) * largest
        )


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), cuts=splits)
def test_whatever_the_shards_are(seed, cuts):
    check(*drawn(seed), cuts, np.asarray, np.asarray)


def test_in_every_library(plain_library):
    # The last shard is empty.
    cuts = [7, 19, ROWS]
    check(*drawn(3), cuts, plain_library.asarray, plain_library.to_numpy)


def test_a_mean_of_means_is_another_state():
    x, g = drawn(3)
    x[:4] *= 4
    union, whole = both(x, g, [4], np.asarray)
    first, halves = BLOCK.init(x), ((x[:4], g[:4]), (x[4:], g[4:]))
    states = [BLOCK.update_covs(first, *half, 1.0, 1.0) for half in halves]
    factor = BLOCK.input_factor
    mean = sum(factor.get_cov(own.input_factor) for own in states) / 2
    expected = factor.get_cov(whole.input_factor)
    bound = rounding(ROWS + 2) * expected.diagonal().max()
    assert np.abs(factor.get_cov(union.input_factor) - expected).max() <= bound
    assert np.abs(mean - expected).max() > 1e3 * bound
