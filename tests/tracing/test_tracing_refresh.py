"""Inverses that are kept, refined or computed in float64, in one trace."""

import numpy as np
import pytest
from traced_cases import assert_close, data_of

import kfac_core as kc
from kfac_core import tree

OPTIONS = {"newton_steps": 3, "inverse_dtype": "float64"}
BLOCKS = {
    "dense": kc.blocks.FullyConnectedKFACBasicFB(3, 2, has_bias=True, **OPTIONS),
    "grouped": kc.blocks.GroupedConvKFCBasicFB(
        kc.ConvolutionGeometry(
            (2, 1, 2, 4), num_groups=2, padding="VALID", strides=(1, 2)
        ),
        **OPTIONS,
    ),
    "embedding": kc.blocks.EmbeddingKFACFB(4, 2),
    "scale-and-shift": kc.blocks.ScaleAndShiftFullFB((3, 2), (1,), (1,), **OPTIONS),
}
# The first two have inverses to compute, the third is kept, the last is far away.
DECAYS, DAMPINGS, TOLERANCE = (0.5, 0.9, 0.999, 0.0), (0.3, 0.5, 0.5, 2.0), 0.05


def step_of(block):
    """Return a function that folds, tells the error, and refreshes."""

    def step(state, x, g, decay, damping, tolerance):
        state = block.update_covs(state, x, g, decay, 1 - decay)
        error = block.inverse_error(state, damping)
        return block.refresh_inverses(state, damping, tolerance), error

    return step


def run(name, rng, step, asarray):
    """Return states and errors after each step, in a compiled or another form."""
    block = BLOCKS[name]
    found, state = [], None
    for decay, damping in zip(DECAYS, DAMPINGS, strict=True):
        x, g = tree.map(asarray, data_of(name, rng))
        state = block.init(like=g) if state is None else state
        numbers = (asarray(np.asarray(n)) for n in (decay, damping, TOLERANCE))
        state, error = step(state, x, g, *numbers)
        found.append((state, error))
    return tuple(found)


def in_numpy(name):
    step = step_of(BLOCKS[name])
    return run(name, np.random.default_rng(0), step, np.asarray)


def check(found, expected):
    errors = [np.asarray(error) for _, error in found]
    assert errors[0] == np.inf
    np.testing.assert_allclose(errors[1:], [e for _, e in expected][1:], rtol=1e-6)
    assert_close(tuple(s for s, _ in found), tuple(s for s, _ in expected))
    assert all(bool(state.ok) for state, _ in found)


@pytest.mark.parametrize("name", ["dense", "grouped", "embedding"])
def test_jax_traces_once(jax, name, rng):
    traces, step = [], step_of(BLOCKS[name])

    def traced(*arguments):
        traces.append(name)
        return step(*arguments)

    found = run(name, rng, jax.jit(traced), jax.numpy.asarray)
    assert len(traces) == 1
    check(found, in_numpy(name))
    # Of the third step the inverses, and their damping, were kept.
    assert [float(state.damping) for state, _ in found] == [0.3, 0.5, 0.5, 2.0]
    kept, before = found[2][0].input_factor, found[1][0].input_factor
    for x, y in zip(
        tree.leaves(kept.derived), tree.leaves(before.derived), strict=True
    ):
        np.testing.assert_array_equal(x, y)


def test_jax_has_a_branch_for_what_is_skipped(jax, rng):
    """The factorisation is within a conditional, and nowhere else."""
    block = kc.blocks.FullyConnectedKFACBasicFB(3, 2, has_bias=True)
    x, g = tree.map(jax.numpy.asarray, data_of("dense", rng))
    state = block.update_covs(block.init(like=x), x, g, 0.5)
    traced = jax.make_jaxpr(lambda s: block.refresh_inverses(s, 0.1, 0.1))(state)
    outer = [e for e in traced.jaxpr.eqns if str(e.primitive) != "cond"]
    assert len(outer) < len(traced.jaxpr.eqns)
    assert not [e for e in outer if "potrf" in str(e) or "cholesky" in str(e)]
    assert "potrf" in str(traced)


def test_pytorch_compiles_one_frame(torch, rng):
    frames, name = set(), "scale-and-shift"
    eager = torch._dynamo.lookup_backend("aot_eager")

    def counting(module, inputs):
        frames.add(torch._guards.CompileContext.current_compile_id())
        return eager(module, inputs)

    torch._dynamo.reset()
    step = torch.compile(step_of(BLOCKS[name]), fullgraph=True, backend=counting)
    found = run(name, rng, step, torch.as_tensor)
    torch._dynamo.reset()
    check(found, in_numpy(name))
    assert len(frames) == 1


def test_what_is_refused_under_a_trace_is_not_taken_for_good(jax, rng):
    block = BLOCKS["dense"]
    x, g = tree.map(jax.numpy.asarray, data_of("dense", rng))
    state = block.update_inverses(block.update_covs(block.init(x), x, g, 0.5), 0.1)
    refresh = jax.jit(block.refresh_inverses)
    bad = block.update_covs(state, x, g * 0, 0.0)
    refused = refresh(bad, 0.0, 0.1)
    assert not bool(refused.ok)
    for x_, y in zip(
        tree.leaves(refused.input_factor.derived),
        tree.leaves(state.input_factor.derived),
        strict=True,
    ):
        np.testing.assert_array_equal(x_, y)
    # With statistics for which its inverses are good, all is well again.
    again = refresh(block.update_covs(refused, x, g, 0.0), 0.1, 0.1)
    assert bool(again.ok)
    assert float(again.damping) == float(state.damping)
