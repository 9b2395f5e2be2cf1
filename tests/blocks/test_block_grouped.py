"""A layer in groups is, in each group, the block of that convolution alone."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from grouped_truth import CASES, asarrays, assert_close, flat, leaves

import kfac_core as kc

DAMPING = 0.3
SERVED = {"matpowers": (-1, -0.5), "cholesky": True, "cholesky_inverse": True}


def ready(library, case, data, damping_type="pi"):
    block = case.block(damping_type=damping_type, **SERVED)
    arrays = asarrays(library, data)
    state = block.update_covs(block.init(like=arrays[1]), *arrays, ema_decay=0.5)
    return block, block.update_inverses(state, DAMPING)


def power(matrix, exp):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exp) @ vectors.T


def test_all_is_that_of_the_dense_block(library, rng):
    check_all(library, CASES["grouped"], "pi", rng)


@pytest.mark.parametrize("damping_type", ["pi", "exact", "off", "constant"])
@pytest.mark.parametrize("name", CASES)
def test_every_layer_under_every_damping(name, damping_type, rng):
    check_all(NUMPY, CASES[name], damping_type, rng)


def check_all(library, case, damping_type, rng):
    data, vector = case.draw(rng, 5), case.vector(rng)
    v, flat_v = asarrays(library, vector), flat(NUMPY, vector)
    block, state = ready(library, case, data, damping_type)
    undamped = library.to_numpy(block.full_fisher_block(state))
    assert_close(undamped, case.fisher(*data), 1e-12)
    dense = case.fisher(*data, DAMPING, damping_type)
    for exp in (1, -1, -0.5):
        found = flat(library, block.multiply_matpower(state, v, exp))
        assert_close(found, power(dense, exp) @ flat_v)
    halfway = block.multiply_cholesky(state, v, transpose=True)
    assert [tuple(part.shape) for part in leaves(halfway)] == [*case.shapes]
    whole = flat(library, block.multiply_cholesky(state, halfway))
    assert_close(whole, dense @ flat_v)
    back = block.multiply_cholesky_inverse(state, block.multiply_cholesky(state, v))
    assert_close(flat(library, back), flat_v)


class NUMPY:
    asarray = staticmethod(np.array)
    to_numpy = staticmethod(np.asarray)


def test_float32_stays_close(rng):
    case = CASES["depthwise"]
    data, vector = case.draw(rng, 5), case.vector(rng)
    narrow = tuple(x.astype(np.float32) for x in data)
    block, state = ready(NUMPY, case, narrow)
    v = tuple(x.astype(np.float32) for x in vector)
    step = block.multiply_inverse(state, v)
    assert all(leaf.dtype == np.float32 for leaf in leaves(step))
    dense = case.fisher(*data, DAMPING)
    wanted = np.linalg.solve(dense, flat(NUMPY, vector))
    bound = 8 * np.finfo(np.float32).eps * np.linalg.cond(dense)
    assert_close(flat(NUMPY, step), wanted, bound)


def test_one_group_is_the_convolution_itself(rng):
    case = replace(
        CASES["grouped"],
        groups=1,
        fields={**CASES["grouped"].fields, "num_groups": 1},
    )
    x, g = case.draw(rng, 5)
    vector = case.vector(rng)
    block, state = ready(NUMPY, case, (x, g))
    one = kc.ConvKFCBasicFB(case.filter_shape, "VALID", (1, 2), has_bias=True)
    of_one = one.update_covs(one.init(g), x, g, 0.5)
    of_one = one.update_inverses(of_one, DAMPING)
    assert_close(block.full_fisher_block(state), one.full_fisher_block(of_one), 1e-14)
    found = flat(NUMPY, block.multiply_inverse(state, vector))
    assert_close(found, flat(NUMPY, one.multiply_inverse(of_one, vector)), 1e-13)


def test_towers_are_one_batch_and_sources_add(rng):
    case = CASES["depthwise"]
    x, g = case.draw(rng, 5)
    block = case.block()
    start = block.init(like=g)
    whole = block.full_fisher_block(block.update_covs(start, x, g, 0.0))
    split = block.update_covs(start, (x[:2], x[2:]), (g[:2], g[2:]), 0.0)
    twice = block.update_covs(start, (x,), ((g,), (g,)), 0.0)
    for state, times in ((split, 1), (twice, 2)):
        assert_close(block.full_fisher_block(state), times * whole, 1e-13)


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
    block = replace(case.block(), strides=None)
    found = block.full_fisher_block(block.update_covs(block.init(g), x, g, 0.0))
    if independent:
        assert_close(found, exact, 1e-13)
    else:
        assert np.abs(found - exact).max() > 0.1 * np.abs(exact).max()


def test_a_depthwise_convolution_is_a_grouped_one(rng):
    case = CASES["depthwise"]
    x, g = case.draw(rng, 5)
    weights, bias = case.vector(rng)
    block, state = ready(NUMPY, case, (x, g))
    grouped = kc.GroupedConvKFCBasicFB(
        (2, 2, 1, 4), 2, ((0, 1), (1, 0)), (2, 1), has_bias=True
    )
    of_grouped = grouped.update_covs(grouped.init(g), x, g, 0.5)
    of_grouped = grouped.update_inverses(of_grouped, DAMPING)
    expected = grouped.multiply_inverse(of_grouped, (weights.reshape(2, 2, 1, 4), bias))
    found = block.multiply_inverse(state, (weights, bias))
    np.testing.assert_array_equal(flat(NUMPY, found), flat(NUMPY, expected))


def test_it_is_not_the_restricted_inverse_of_a_dense_convolution(rng):
    # That is what the original computes.
    case = replace(CASES["depthwise"], has_bias=False)
    x, g = case.draw(rng, 5)
    weights = case.vector(rng)
    block, state = ready(NUMPY, case, (x, g))
    wide = np.zeros((2, 2, 2, 4))
    wide[..., 0, :2], wide[..., 1, 2:] = weights[..., 0, :], weights[..., 1, :]
    dense = kc.ConvKFCBasicFB((2, 2, 2, 4), ((0, 1), (1, 0)), (2, 1))
    of_dense = dense.update_covs(dense.init(g), x, g, 0.5)
    of_dense = dense.update_inverses(of_dense, DAMPING)
    other = dense.multiply_inverse(of_dense, wide)
    other = np.stack([other[..., 0, :2], other[..., 1, 2:]], axis=-2)
    mine = block.multiply_inverse(state, weights)
    assert np.abs(mine - other).max() > 0.01 * np.abs(mine).max()


def step_of(block):
    def step(state, x, g, vector, decay, damping):
        state = block.update_covs(state, x, g, decay)
        state = block.update_inverses(state, damping)
        return state, block.multiply_inverse(state, vector)

    return step


SETTINGS = ((0.9, 0.3), (0.5, 0.1), (0.0, 1.0))
TRACED = {"jax": ("grouped", "pi"), "torch": ("depthwise-channels-first", "exact")}


def run(step, block, batches, vector, convert, scalar):
    state, found = block.init(like=convert(vector[0])), []
    v = tuple(map(convert, vector))
    v = v if len(v) > 1 else v[0]
    for batch, settings in zip(batches, SETTINGS, strict=True):
        state, answer = step(state, *map(convert, batch), v, *map(scalar, settings))
        found.append((state, answer))
    return found


def traced_case(library, rng):
    name, damping_type = TRACED[library]
    case = CASES[name]
    block = case.block(damping_type=damping_type)
    batches = [case.draw(rng, 4) for _ in SETTINGS]
    vector = tuple(leaves(case.vector(rng)))
    eager = run(step_of(block), block, batches, vector, np.array, float)
    return block, batches, vector, eager


def assert_same(found, eager):
    for (state, answer), (of_numpy, expected) in zip(found, eager, strict=True):
        for x, y in zip(leaves(answer), leaves(expected), strict=True):
            assert_close(np.asarray(x), y, 1e-11)
        for x, y in zip(leaves(state), leaves(of_numpy), strict=True):
            assert x.shape == y.shape
        assert bool(state.ok)


def test_one_trace_serves_every_decay_and_damping(jax, rng):
    block, batches, vector, eager = traced_case("jax", rng)
    traces = []

    def traced(*arguments):
        traces.append(block)
        return step_of(block)(*arguments)

    found = run(jax.jit(traced), block, batches, vector, jax.numpy.asarray, float)
    assert len(traces) == 1
    assert_same(found, eager)


def test_one_frame_serves_every_decay_and_damping(torch, rng):
    block, batches, vector, eager = traced_case("torch", rng)
    frames = set()
    aot_eager = torch._dynamo.lookup_backend("aot_eager")

    def counting(module, inputs):
        frames.add(torch._guards.CompileContext.current_compile_id())
        return aot_eager(module, inputs)

    def scalar(x):
        return torch.tensor(x, dtype=torch.float64)

    torch._dynamo.reset()
    step = torch.compile(step_of(block), fullgraph=True, backend=counting)
    found = run(step, block, batches, vector, torch.from_numpy, scalar)
    torch._dynamo.reset()
    assert len(frames) == 1
    assert_same(found, eager)


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
    with pytest.raises(kc.NotFiniteError, match=r"layer7.*outputs_grads"):
        block.update_covs(state, x, g.at[..., 3].set(np.nan), 0.5)
    dead = block.update_covs(state, x, g.at[..., 2:].set(0.0), 0.0)
    after = jax.jit(block.update_inverses)(dead, 0.0)
    assert not bool(after.ok)
    same(after, ("derived",))
    with pytest.raises(kc.NotPositiveDefiniteError, match=r"layer7.*group 1"):
        block.update_inverses(dead, 0.0)
    assert bool(block.update_inverses(dead, 0.1).ok)


def test_what_does_not_fit_is_refused_by_name(rng):
    case = CASES["grouped"]
    x, g = case.draw(rng, 4)
    block = case.block(name="layer7")
    state = block.update_inverses(block.update_covs(block.init(g), x, g, 0.5), 0.1)
    weights, bias = case.vector(rng)
    with pytest.raises(kc.ArgumentError, match=r"num_groups is 3.* 4 output"):
        replace(block, num_groups=3)
    with pytest.raises(kc.ShapeError, match=r"layer7.*inputs"):
        block.update_covs(state, x[..., :2], g, 0.5)
    with pytest.raises(kc.ShapeError, match=r"layer7.*outputs_grads"):
        block.update_covs(state, x, g[..., :2], 0.5)
    with pytest.raises(kc.ShapeError, match="layer7"):
        block.update_covs(state, x[:3], g, 0.5)
    for wrong in (weights, (weights[:1], bias), (weights.reshape(4, 4)[:, :2], bias)):
        with pytest.raises(kc.ShapeError, match=r"layer7.*vector"):
            block.multiply_inverse(state, wrong)
    with pytest.raises(kc.ShapeError, match=r"layer7.*vector"):
        block.multiply_inverse(state, (np.ones((2, 1, 1, 8)), bias))


def test_specs_are_hashable_as_written():
    listed = kc.GroupedConvKFCBasicFB([2, 2, 1, 4], 2, "SAME", [1, 1])
    assert {listed: 1}[kc.GroupedConvKFCBasicFB((2, 2, 1, 4), 2, "SAME", (1, 1))]
    assert hash(kc.DepthwiseConvKFCBasicFB([2, 2, 1, 4], [1, 1], "SAME", [1, 1]))
