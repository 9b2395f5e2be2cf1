"""A layer in groups is, in each group, the block of that convolution alone."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from block_case import NumPy, dense_power, flat, leaves
from grouped_truth import CASES, assert_close

import kfac_core as kc

DAMPING = 0.3
SERVED = {"matpowers": (-1, -0.5), "cholesky": True, "cholesky_inverse": True}


def ready(case, data, damping_type="pi"):
    block = case.block(damping_type=damping_type, **SERVED)
    state = block.update_covs(block.init(like=data[1]), *data, ema_decay=0.5)
    return block, block.update_inverses(state, DAMPING)


@pytest.mark.parametrize("damping_type", ["pi", "exact", "off", "constant"])
@pytest.mark.parametrize("name", CASES)
def test_every_layer_under_every_damping(name, damping_type, rng):
    case = CASES[name]
    data, vector = case.draw(rng, 5), case.vector(rng)
    flat_v = flat(NumPy, vector)
    block, state = ready(case, data, damping_type)
    assert_close(block.full_fisher_block(state), case.fisher(*data), 1e-12)
    dense = case.fisher(*data, DAMPING, damping_type)
    for exp in (1, -1, -0.5):
        found = flat(NumPy, block.multiply_matpower(state, vector, exp))
        assert_close(found, dense_power(dense, exp) @ flat_v)
    halfway = block.multiply_cholesky(state, vector, transpose=True)
    assert [tuple(part.shape) for part in leaves(halfway)] == [*case.shapes]
    whole = flat(NumPy, block.multiply_cholesky(state, halfway))
    assert_close(whole, dense @ flat_v)
    back = block.multiply_cholesky_inverse(
        state, block.multiply_cholesky(state, vector)
    )
    assert_close(flat(NumPy, back), flat_v)


def test_one_group_is_the_convolution_itself(rng):
    case = replace(CASES["grouped"], groups=1)
    x, g = case.draw(rng, 5)
    vector = case.vector(rng)
    block, state = ready(case, (x, g))
    one = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry(case.filter_shape, padding="VALID", strides=(1, 2)),
        has_bias=True,
    )
    of_one = one.update_covs(one.init(g), x, g, 0.5)
    of_one = one.update_inverses(of_one, DAMPING)
    assert_close(block.full_fisher_block(state), one.full_fisher_block(of_one), 1e-14)
    found = flat(NumPy, block.multiply_inverse(state, vector))
    assert_close(found, flat(NumPy, one.multiply_inverse(of_one, vector)), 1e-13)


# The exactness claim, and its negative twin.
@pytest.mark.parametrize("independent", [True, False])
def test_it_is_the_fisher_where_inputs_and_gradients_are_independent(independent, rng):
    # One location; every input meets every gradient, and every sign of a group's
    # gradient every sign of the other's.
    case = replace(CASES["grouped"], spatial=(2, 1), strides=(1, 1))
    x, g = case.draw(rng, 3)
    meetings = [*product(range(3), range(3), (1, -1), (1, -1))]
    signs = [(a, a, b, b) if independent else (a,) * 4 for *_, a, b in meetings]
    x = np.stack([x[i] for i, *_ in meetings])
    g = np.stack([g[j] for _, j, *_ in meetings]) * np.asarray(signs)[:, None, None]
    rows = case.case_gradients(x, g)
    exact = rows.T @ rows / len(rows)
    block = case.block()
    found = block.full_fisher_block(block.update_covs(block.init(g), x, g, 0.0))
    if independent:
        assert_close(found, exact, 1e-13)
    else:
        assert np.abs(found - exact).max() > 0.1 * np.abs(exact).max()


def test_a_depthwise_convolution_is_a_grouped_one(rng):
    case = CASES["depthwise"]
    x, g = case.draw(rng, 5)
    weights, bias = case.vector(rng)
    block, state = ready(case, (x, g))
    grouped = kc.blocks.GroupedConvKFCBasicFB(
        kc.ConvolutionGeometry(
            (2, 2, 1, 4), num_groups=2, padding=((0, 1), (1, 0)), strides=(2, 1)
        ),
        has_bias=True,
    )
    of_grouped = grouped.update_covs(grouped.init(g), x, g, 0.5)
    of_grouped = grouped.update_inverses(of_grouped, DAMPING)
    expected = grouped.multiply_inverse(of_grouped, (weights.reshape(2, 2, 1, 4), bias))
    found = block.multiply_inverse(state, (weights, bias))
    np.testing.assert_array_equal(flat(NumPy, found), flat(NumPy, expected))


def test_it_is_not_the_restricted_inverse_of_a_dense_convolution(rng):
    # That is what the original computes.
    case = replace(CASES["depthwise"], has_bias=False)
    x, g = case.draw(rng, 5)
    weights = case.vector(rng)
    block, state = ready(case, (x, g))
    wide = np.zeros((2, 2, 2, 4))
    wide[..., 0, :2], wide[..., 1, 2:] = weights[..., 0, :], weights[..., 1, :]
    dense = kc.blocks.ConvKFCBasicFB(
        kc.ConvolutionGeometry((2, 2, 2, 4), padding=((0, 1), (1, 0)), strides=(2, 1))
    )
    of_dense = dense.update_covs(dense.init(g), x, g, 0.5)
    of_dense = dense.update_inverses(of_dense, DAMPING)
    other = dense.multiply_inverse(of_dense, wide)
    other = np.stack([other[..., 0, :2], other[..., 1, 2:]], axis=-2)
    mine = block.multiply_inverse(state, weights)
    assert np.abs(mine - other).max() > 0.01 * np.abs(mine).max()


def test_a_failure_in_one_group_leaves_all_as_it_was(jax, rng):
    case = CASES["grouped"]
    x, g = map(jax.numpy.asarray, case.draw(rng, 4))
    block = case.block(name="layer7")
    state = block.update_inverses(block.update_covs(block.init(g), x, g, 0.5), 0.1)

    def same(after, fields):
        for side, name in product((0, 1), fields):
            pairs = zip(
                leaves(getattr(after[side], name)),
                leaves(getattr(state[side], name)),
                strict=True,
            )
            for new, old in pairs:
                np.testing.assert_array_equal(new, old)

    # The last group's gradients alone hold NaN.
    after = jax.jit(block.update_covs)(state, x, g.at[..., 3].set(np.nan), 0.5)
    assert not bool(after.ok)
    same(after, ("cov", "derived"))
    with pytest.raises(kc.errors.NotFiniteError, match=r"layer7.*outputs_grads"):
        block.update_covs(state, x, g.at[..., 3].set(np.nan), 0.5)
    dead = block.update_covs(state, x, g.at[..., 2:].set(0.0), 0.0)
    after = jax.jit(block.update_inverses)(dead, 0.0)
    assert not bool(after.ok)
    same(after, ("derived",))
    with pytest.raises(kc.errors.NotPositiveDefiniteError, match=r"layer7.*group 1"):
        block.update_inverses(dead, 0.0)
    assert bool(block.update_inverses(dead, 0.1).ok)


def test_what_does_not_fit_is_refused_by_name(rng):
    case = CASES["grouped"]
    x, g = case.draw(rng, 4)
    block = case.block(name="layer7")
    state = block.update_inverses(block.update_covs(block.init(g), x, g, 0.5), 0.1)
    weights, bias = case.vector(rng)
    with pytest.raises(kc.errors.ArgumentError, match=r"num_groups is 3.* 4 output"):
        replace(block, geometry=replace(block.geometry, num_groups=3))
    with pytest.raises(kc.errors.ShapeError, match=r"layer7.*inputs"):
        block.update_covs(state, x[..., :2], g, 0.5)
    with pytest.raises(kc.errors.ShapeError, match=r"layer7.*outputs_grads"):
        block.update_covs(state, x, g[..., :2], 0.5)
    with pytest.raises(kc.errors.ShapeError, match="layer7"):
        block.update_covs(state, x[:3], g, 0.5)
    for wrong in (weights, (weights[:1], bias), (weights.reshape(4, 4)[:, :2], bias)):
        with pytest.raises(kc.errors.ShapeError, match=r"layer7.*vector"):
            block.multiply_inverse(state, wrong)
    with pytest.raises(kc.errors.ShapeError, match=r"layer7.*vector"):
        block.multiply_inverse(state, (np.ones((2, 1, 1, 8)), bias))


def test_specs_are_hashable_as_written():
    listed = kc.blocks.GroupedConvKFCBasicFB(
        kc.ConvolutionGeometry(
            [2, 2, 1, 4], num_groups=2, padding="SAME", strides=[1, 1]
        )
    )
    assert {listed: 1}[
        kc.blocks.GroupedConvKFCBasicFB(
            kc.ConvolutionGeometry(
                (2, 2, 1, 4), num_groups=2, padding="SAME", strides=(1, 1)
            )
        )
    ]
    assert hash(
        kc.blocks.DepthwiseConvKFCBasicFB(
            kc.ConvolutionGeometry(
                [2, 2, 1, 4], padding="SAME", strides=[1, 1], dilations=[1, 1]
            )
        )
    )
