"""What is served is of the last `update_inverses`: both factors are of one age."""

import pickle

import numpy as np
import pytest
from block_case import NumPy, asarrays, damped, flat, leaves, undamped
from block_cases import BLOCKS, DAMPED, KRONECKER

import kfac_core as kc

DAMPING = 0.3
WITH_DIAGONAL = [
    name
    for name, case in KRONECKER.items()
    if isinstance(case.make().input_factor.form, kc.factors.Diagonal)
]


@pytest.fixture
def library(plain_library):
    return plain_library


@pytest.fixture(params=BLOCKS)
def case(request):
    return BLOCKS[request.param]


# The eigenvalues of EKFAC are those of now: its basis alone is a snapshot.
SNAPSHOTS = [(name, kind) for name, kind in DAMPED if name != "ekfac"]


@pytest.mark.parametrize(("name", "kind"), SNAPSHOTS)
def test_later_statistics_change_the_product_but_not_the_inverse(name, kind, rng):
    case = BLOCKS[name]
    block = case.made(kind, (-1, 0.5))
    vector = case.vector(rng)
    old, new = case.draw(rng, 6), case.draw(rng, 5)
    state = block.update_inverses(case.updated(NumPy, block, old), DAMPING)
    later = case.fold(NumPy, block, state, new, ema_decay=0.0)
    for multiply in case.products(block, -1, 0.5).values():
        before, after = multiply(state, vector), multiply(later, vector)
        np.testing.assert_array_equal(flat(NumPy, before), flat(NumPy, after))
    fresh = block.update_inverses(later, DAMPING)
    expected = np.linalg.solve(
        damped(case.fisher(*new), DAMPING, kind), flat(NumPy, vector)
    )
    found = flat(NumPy, block.multiply_inverse(fresh, vector))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", WITH_DIAGONAL)
def test_the_diagonal_side_is_as_old_as_the_dense_one(library, name, rng):
    # The original evaluates the diagonal side afresh at every product.
    case = KRONECKER[name]
    block = case.make()
    old = case.draw(rng, 6)
    vector = asarrays(library, case.vector(rng))
    state = case.updated(library, block, old)
    state = library.compiled(block.update_inverses)(state, DAMPING)
    later = case.fold(library, block, state, case.draw(rng, 6), compiled=True)
    expected = np.linalg.solve(
        damped(case.fisher(*old), DAMPING), flat(library, vector)
    )
    found = flat(library, block.multiply_inverse(later, vector))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_an_update_leaves_the_old_state_as_it_was(library, case, rng):
    block = case.made()
    state = case.updated(NumPy(), block, case.draw(rng, 6))
    state = library.moved(block.update_inverses(state, DAMPING))
    before = [library.to_numpy(leaf) for leaf in leaves(state)]
    later = case.fold(library, block, state, case.draw(rng, 6), compiled=True)
    library.compiled(block.update_inverses)(later, 2.0)
    for leaf, old in zip(leaves(state), before, strict=True):
        np.testing.assert_array_equal(library.to_numpy(leaf), old)


def test_registering_more_makes_a_new_spec_that_takes_the_state_along(
    library, case, rng
):
    block = case.make(matpowers=())
    before = repr(block)
    more, expected = block.register_inverse().register_inverse(), (-1.0,)
    if not case.inverse_alone:
        more, expected = more.register_matpower(-0.5), (-1.0, -0.5)
    if not case.inverse_alone and not case.powers_alone:
        more = more.register_cholesky().register_cholesky_inverse()
        assert more.cholesky
        assert more.cholesky_inverse
    assert repr(block) == before
    assert more.matpowers == expected
    state = case.updated(library, block, case.draw(rng, 6))
    vector = asarrays(library, case.vector(rng))
    old = library.compiled(block.update_inverses)(state, 7.0)
    moved = more.init_inverses(old)
    with pytest.raises(kc.errors.NotComputedError):
        more.multiply_inverse(moved, vector)
    served = library.compiled(more.update_inverses)(moved, DAMPING)
    fresh = case.updated(library, case.made(), case.draw(np.random.default_rng(0), 6))
    expected = library.compiled(case.made().update_inverses)(fresh, DAMPING)
    np.testing.assert_array_equal(
        flat(library, more.multiply_inverse(served, vector)),
        flat(library, case.made().multiply_inverse(expected, vector)),
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
    block = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry(
            [2, 2, 1, 2], padding=[[0, 1], [1, 0]], strides=[1, 2], dilations=[1, 1]
        )
    )
    assert hash(block) == hash(
        kc.blocks.ConvKFCBasicFB(
            kc.ConvolutionGeometry(
                (2, 2, 1, 2), padding=((0, 1), (1, 0)), strides=(1, 2), dilations=(1, 1)
            )
        )
    )


def test_towers_are_one_batch_and_sources_are_summed(library, case, rng):
    if case.axis is None or not case.linear:
        return  # no towers; or sources that are not just added
    block = case.make()
    inputs, g = case.draw(rng, 6)
    other = rng.normal(size=g.shape)
    x, first, second = (case.split(part, 2) for part in (inputs, g, other))
    state = case.updated(library, block, (x, (first, second)))
    found = library.to_numpy(block.full_fisher_block(state))
    one, two = case.fisher(inputs, g), case.fisher(inputs, other)
    expected = undamped(one) + undamped(two)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
