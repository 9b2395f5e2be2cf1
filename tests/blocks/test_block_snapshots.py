"""What is served is of the last `update_inverses`: both factors are of one age."""

import pickle

import numpy as np
import pytest
from block_cases import BLOCKS, DAMPED, asarrays, damped, flat

import kfac_core as kc

DAMPING = 0.3


@pytest.fixture
def library(plain_library):
    return plain_library


@pytest.fixture(params=BLOCKS)
def case(request):
    return BLOCKS[request.param]


@pytest.mark.parametrize(("name", "kind"), DAMPED)
def test_later_statistics_change_the_product_but_not_the_inverse(
    library, name, kind, rng
):
    case = BLOCKS[name]
    options = {"damping_type": kind} if kind else {}
    block = case.make(
        matpowers=(-1, 0.5), cholesky=True, cholesky_inverse=True, **options
    )
    vector = asarrays(library, case.vector(rng))
    old, new = case.draw(rng, 6), case.draw(rng, 5)
    state = block.update_inverses(case.updated(library, block, old), DAMPING)
    later = case.fold(library, block, state, new, ema_decay=0.0)
    for multiply in (
        block.multiply_inverse,
        lambda s, v: block.multiply_matpower(s, v, 0.5),
        block.multiply_cholesky,
        block.multiply_cholesky_inverse,
    ):
        before, after = multiply(state, vector), multiply(later, vector)
        np.testing.assert_array_equal(flat(library, before), flat(library, after))
    fresh = block.update_inverses(later, DAMPING)
    expected = np.linalg.solve(
        damped(case.fisher(*new), DAMPING, kind), flat(library, vector)
    )
    found = flat(library, block.multiply_inverse(fresh, vector))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["embedding", "embedding-sums"])
def test_the_diagonal_side_is_as_old_as_the_dense_one(library, name, rng):
    # The original evaluates the diagonal side afresh at every product.
    case = BLOCKS[name]
    block = case.make()
    old = case.draw(rng, 6)
    vector = asarrays(library, case.vector(rng))
    state = block.update_inverses(case.updated(library, block, old), DAMPING)
    later = case.fold(library, block, state, case.draw(rng, 6))
    expected = np.linalg.solve(
        damped(case.fisher(*old), DAMPING), flat(library, vector)
    )
    found = flat(library, block.multiply_inverse(later, vector))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_an_update_leaves_the_old_state_as_it_was(library, case, rng):
    block = case.make(cholesky=True)
    state = case.updated(library, block, case.draw(rng, 6))
    state = block.update_inverses(state, DAMPING)
    before = [library.to_numpy(leaf) for leaf in leaves(state)]
    later = case.fold(library, block, state, case.draw(rng, 6))
    block.update_inverses(later, 2.0)
    for leaf, old in zip(leaves(state), before, strict=True):
        np.testing.assert_array_equal(library.to_numpy(leaf), old)


def test_registering_more_makes_a_new_spec_that_takes_the_state_along(
    library, case, rng
):
    block = case.make(matpowers=())
    before = repr(block)
    more = block.register_inverse().register_matpower(-0.5).register_inverse()
    more = more.register_cholesky().register_cholesky_inverse()
    assert repr(block) == before
    assert more.matpowers == (-1.0, -0.5)
    assert more.cholesky
    assert more.cholesky_inverse
    state = case.updated(library, block, case.draw(rng, 6))
    vector = asarrays(library, case.vector(rng))
    moved = more.init_inverses(block.update_inverses(state, 7.0))
    with pytest.raises(kc.NotComputedError):
        more.multiply_inverse(moved, vector)
    served = more.update_inverses(moved, DAMPING)
    half = more.multiply_matpower(served, vector, -0.5)
    np.testing.assert_allclose(
        flat(library, more.multiply_matpower(served, half, -0.5)),
        flat(library, more.multiply_inverse(served, vector)),
        rtol=1e-10,
        atol=1e-13,
    )


def test_specs_are_values(case):
    block, same = case.make(matpowers=(-1,)), case.make(matpowers=[-1.0])
    assert block == same
    assert hash(block) == hash(same)
    assert block != case.make(name="other")
    assert pickle.loads(pickle.dumps(block)) == block
    with pytest.raises(AttributeError):
        block.name = "changed"


def test_forms_of_strides_that_are_lists_are_hashable():
    block = kc.ConvKFCBasicFB(
        [2, 2, 1, 2], [[0, 1], [1, 0]], strides=[1, 2], dilation_rate=[1, 1]
    )
    assert hash(block) == hash(
        kc.ConvKFCBasicFB((2, 2, 1, 2), ((0, 1), (1, 0)), (1, 2), (1, 1))
    )


def test_towers_are_one_batch_and_sources_are_summed(library, case, rng):
    if case.extra:
        return  # gradients that are summed over the batch have no towers
    block = case.make()
    inputs, g = case.draw(rng, 6)
    other = rng.normal(size=g.shape)
    towers = (np.split(inputs, (2,)), np.split(g, (2,)), np.split(other, (2,)))
    x, first, second = map(tuple, towers)
    state = case.updated(library, block, (x, (first, second)))
    found = library.to_numpy(block.full_fisher_block(state))
    one, two = case.fisher(inputs, g), case.fisher(inputs, other)
    if case.is_kronecker:
        expected = one[2] * np.kron(one[0], one[1] + two[1])
    else:
        expected = one + two
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def leaves(tree):
    if isinstance(tree, tuple):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]
