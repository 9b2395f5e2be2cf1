"""Inverses layer by layer: in turns, and where they are still good enough."""

import numpy as np
import pytest
from optimizer_cases import CATEGORICAL, DEEP, flat, optimizer_of, problem

from kfac_core.errors import ArgumentError
from kfac_core.optimizer.upkeep import turns
from kfac_core.reference import Dense, Sequential, SequentialModel, Tanh

FOUR = SequentialModel(
    Sequential((Dense(4, 3), Tanh(), Dense(3, 3), Tanh(), Dense(3, 3), Dense(3, 3)))
)
LAYERS = [f"dense_{i}" for i in range(4)]


class InNumPy:
    """NumPy as it is: what is due does not depend on the library."""

    asarray = staticmethod(np.asarray)
    to_numpy = staticmethod(np.asarray)


@pytest.fixture
def library():
    return InNumPy


def refreshed(library, optimizer, steps, run_step=None, model=FOUR, **given):
    """Return for each step, but the first, which layers have new inverses."""
    params, batch = problem(library, model=model)
    state, found, before = optimizer.init(params), [], None
    run_step = run_step or optimizer.step
    for _ in range(steps):
        state, params, _ = run_step(state, params, batch, **given)
        blocks = state.estimator.blocks
        now = {
            name: library.to_numpy(block.input_factor.derived.matpowers[0])
            for name, block in blocks.items()
        }
        assert all(bool(np.all(np.isfinite(x))) for x in now.values())
        if before is not None:
            changed = [i for i, k in enumerate(now) if np.any(now[k] != before[k])]
            found.append(changed)
        before = now
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("every", [1, 2, 3, 5, 12])
def test_turns_are_spread_evenly(count, every):
    names = tuple("abcdefgh"[:count])
    groups = turns(names, every)
    assert sum(groups.values(), ()) == names
    assert all(0 <= offset < every for offset in groups)
    sizes = [len(groups.get(offset, ())) for offset in range(every)]
    # Never more at one step than one more than at another.
    assert max(sizes) - min(sizes) <= 1


def test_each_layer_has_its_turn(library):
    optimizer = optimizer_of(FOUR, invert_every=3, stagger_inverses=True)
    assert list(optimizer.estimator.blocks) == LAYERS
    assert turns(tuple("0123"), 3) == {0: ("0", "1"), 1: ("2",), 2: ("3",)}
    found = refreshed(library, optimizer, 8)
    assert found == [[2], [3], [0, 1], [2], [3], [0, 1], [2]]


def test_without_turns_all_are_due_at_once(library):
    found = refreshed(library, optimizer_of(FOUR, invert_every=3), 5)
    assert found == [[], [], [0, 1, 2, 3], []]


def test_what_is_given_is_about_all(library):
    optimizer = optimizer_of(FOUR, invert_every=3, stagger_inverses=True)
    found = refreshed(library, optimizer, 3, update_inverses=True)
    assert found == [[0, 1, 2, 3]] * 2


def test_turns_are_one_trace(jax):
    optimizer = optimizer_of(DEEP, invert_every=2, stagger_inverses=True)
    traces = []

    def step(*arguments):
        traces.append(1)
        return optimizer.step(*arguments)

    class InJAX:
        asarray = staticmethod(jax.numpy.asarray)
        to_numpy = staticmethod(np.asarray)

    found = refreshed(InJAX, optimizer, 4, jax.jit(step), DEEP)
    assert found == [[1], [0], [1]]
    assert len(traces) == 1


def test_inverses_are_kept_within_the_tolerance(library):
    found = []
    for tolerance in (1e9, 0.0):
        optimizer = optimizer_of(FOUR, invert_every=1, inverse_tolerance=tolerance)
        found.append(refreshed(library, optimizer, 3))
    # Even what is kept for ever is computed once.
    assert found == [[[], []], [[0, 1, 2, 3]] * 2]
    params, batch = problem(library)
    moved = []
    for tolerance in (0.0, None):
        optimizer = optimizer_of(inverse_tolerance=tolerance)
        state = optimizer.init(params)
        for _ in range(2):
            state, new, _ = optimizer.step(state, params, batch)
        moved.append(flat(library, new))
    np.testing.assert_allclose(*moved, rtol=1e-10)


def test_the_estimator_tells_and_keeps_by_layer(library):
    library = library
    params, batch = problem(library)
    optimizer = optimizer_of()
    estimator = optimizer.estimator
    state, params, _ = optimizer.step(optimizer.init(params), params, batch)
    later, _ = problem(library, seed=3)
    linearization = optimizer.model.linearize(later, batch)
    state = estimator.update_covs(state.estimator, linearization, 0.5)
    errors = estimator.inverse_errors(state, 0.5)
    assert list(errors) == ["dense_0", "dense_1"]
    values = {name: float(library.to_numpy(error)) for name, error in errors.items()}
    # The inputs of the first layer are those of before.
    good, bad = sorted(values, key=values.get)
    new = estimator.update_inverses(
        state, 0.5, tolerance=(values[good] + values[bad]) / 2
    )
    after = estimator.inverse_errors(new, 0.5)
    assert float(library.to_numpy(after[bad])) < 1e-10
    assert float(library.to_numpy(after[good])) == values[good] > 1e-3


@pytest.mark.parametrize("value", [-1.0, np.inf, np.nan])
def test_a_tolerance_is_a_number(value):
    with pytest.raises(ArgumentError, match="inverse_tolerance"):
        optimizer_of(loss=CATEGORICAL, inverse_tolerance=value)
