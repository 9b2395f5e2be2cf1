"""Under ``torch.compile(fullgraph=True)`` a step is one frame, compiled once."""

import os

import numpy as np
import pytest
from traced_cases import (
    BLOCKS,
    SETTINGS,
    assert_close,
    data_of,
    in_numpy,
    step_of,
    vector_of,
)

from kfac_core import tree


@pytest.fixture
def compiled(torch):
    """Return a function that compiles, and the set of frames compiled."""
    frames = set()
    aot_eager = torch._dynamo.lookup_backend("aot_eager")

    def counting(module, inputs):
        # PyTorch may start over with a frame: it is the same one.
        frames.add(torch._guards.CompileContext.current_compile_id())
        return aot_eager(module, inputs)

    torch._dynamo.reset()
    yield lambda f: torch.compile(f, fullgraph=True, backend=counting), frames
    torch._dynamo.reset()


def run(torch, step, name, rng, convert):
    """Return the states and products of all steps, as they should be as well."""
    batches = [data_of(name, rng) for _ in SETTINGS]
    vector = vector_of(name, rng)
    state, v = (
        BLOCKS[name].init(torch.zeros(1).double()),
        tree.map(torch.from_numpy, vector),
    )
    found = []
    for batch, settings in zip(batches, SETTINGS, strict=True):
        x, g = tree.map(torch.from_numpy, batch)
        state, product = step(state, x, g, v, *map(convert, settings))
        found.append((state, product))
    return tuple(found), tuple(in_numpy(name, batches, vector))


@pytest.mark.parametrize(
    "name", [name for name in BLOCKS if name not in {"dense-root", "dense-diagonal"}]
)
def test_one_frame_serves_every_decay_and_damping(torch, compiled, name, rng):
    compile_, frames = compiled
    step = compile_(step_of(name))
    found = run(torch, step, name, rng, lambda x: torch.tensor(x, dtype=torch.float64))
    assert_close(*found)
    assert len(frames) == 1


@pytest.mark.parametrize("name", ["dense-diagonal"])
def test_numbers_become_inputs_once_they_change(torch, compiled, name, rng):
    # At first a number is a constant to PyTorch, and an input as soon as it changes.
    compile_, frames = compiled
    assert_close(*run(torch, compile_(step_of(name)), name, rng, float))
    assert len(frames) <= 2


IS_NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
DYNAMIC = ["dense", "scale-and-shift"]
DYNAMIC += ["dense-exact", "dense-diagonal", "series-2"] if IS_NIGHTLY else []


@pytest.mark.parametrize("name", DYNAMIC)
def test_with_unknown_sizes_one_frame_serves_every_batch(torch, name, rng):
    """To `dynamic=True` all sizes and numbers are unknown, those of the spec too."""
    frames = set()

    def counting(module, inputs):
        frames.add(torch._guards.CompileContext.current_compile_id())
        return module

    torch._dynamo.reset()
    step = torch.compile(step_of(name), fullgraph=True, dynamic=True, backend=counting)
    batches = [data_of(name, rng) for _ in SETTINGS]
    # Cases are the first axis, but the second of a series.
    axis = int(name.startswith("series"))
    batches = [
        tuple(np.concatenate([part] * count, axis) for part in batch)
        for count, batch in zip((1, 2, 3), batches, strict=True)
    ]
    vector = vector_of(name, rng)
    state, v = (
        BLOCKS[name].init(torch.zeros(1).double()),
        tree.map(torch.from_numpy, vector),
    )
    found = []
    for batch, settings in zip(batches, SETTINGS, strict=True):
        numbers = (torch.tensor(x, dtype=torch.float64) for x in settings)
        state, product = step(state, *map(torch.from_numpy, batch), v, *numbers)
        found.append((state, product))
    assert_close(tuple(found), tuple(in_numpy(name, batches, vector)))
    assert len(frames) == 1
    torch._dynamo.reset()


def test_nan_leaves_the_state_as_it_was(torch, compiled, rng):
    compile_, _ = compiled
    block = BLOCKS["dense"]
    x, g = tree.map(torch.from_numpy, data_of("dense", rng))
    state = block.update_inverses(block.update_covs(block.init(g), x, g, 0.5), 0.1)
    update = compile_(block.update_covs)
    bad = torch.where(x > 1, torch.nan, x)
    after = update(state, bad, g, 0.5)
    assert not bool(after.ok)
    for new, old in zip(tree.leaves(after[:2]), tree.leaves(state[:2]), strict=True):
        if new.ndim > 0:
            np.testing.assert_array_equal(new.numpy(), old.numpy())
    assert bool(update(after, x, g, 0.5).ok)


def test_an_indefinite_matrix_leaves_the_state_as_it_was(torch, compiled, rng):
    compile_, _ = compiled
    block = BLOCKS["dense"]
    x, g = tree.map(torch.from_numpy, data_of("dense", rng))
    state = block.update_inverses(block.update_covs(block.init(g), x, g, 0.5), 0.1)
    state = block.update_covs(state, x, torch.zeros_like(g), 0.0)
    after = compile_(block.update_inverses)(state, torch.tensor(0.0).double())
    assert not bool(after.ok)
    for side in (0, 1):
        for new, old in zip(
            tree.leaves(after[side].derived),
            tree.leaves(state[side].derived),
            strict=True,
        ):
            np.testing.assert_array_equal(new.numpy(), old.numpy())


def test_statistics_are_constants_of_differentiation(torch, rng):
    for name in BLOCKS:
        x, g = tree.map(torch.from_numpy, data_of(name, rng))
        v = tree.map(torch.from_numpy, vector_of(name, rng))
        for tensor in (*tree.leaves(v), g, *([x] if x.is_floating_point() else [])):
            tensor.requires_grad_(True)
        state = BLOCKS[name].init(g)
        state, product = step_of(name)(state, x, g, v, 0.5, 0.1)
        assert not any(leaf.requires_grad for leaf in tree.leaves(state))
        sum(torch.sum(p) for p in tree.leaves(product)).backward()
        assert g.grad is None
        assert all(tensor.grad is not None for tensor in tree.leaves(v))
