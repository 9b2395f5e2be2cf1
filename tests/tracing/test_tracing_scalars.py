"""A traced number out of range is refused: nothing changes, and the state says so."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kfac_core as kc

RIGHT = {"ema_decay": 0.5, "ema_weight": 1.0, "num_cases": 4.0}
WRONG = [
    ("ema_decay", 1.5),
    ("ema_decay", -0.5),
    ("ema_decay", np.nan),
    ("ema_weight", -1.0),
    ("ema_weight", -0.4),
    ("ema_weight", 1e38),
    ("num_cases", -4.0),
    ("num_cases", -0.5),
    ("num_cases", 0.0),
]
BLOCKS = {
    "dense": kc.FullyConnectedKFACBasicFB(2, 3, has_bias=True),
    "diagonal": kc.FullyConnectedDiagonalFB(2, 3),
    "low rank": kc.FullyConnectedKFACBasicFB(2, 3, input_max_rows=8),
}


def test_numbers_in_range_are_taken(jax):
    block = BLOCKS["dense"]
    state, update = started(jax, block)
    new = update(state, {name: np.float32(value) for name, value in RIGHT.items()})
    assert new.ok
    assert float(new.input_factor.cov.weight) == 1.5


@pytest.mark.parametrize(("argument", "value"), WRONG)
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_traced_number_out_of_range_changes_nothing(jax, block, argument, value):
    state, update = started(jax, block)
    numbers = {**RIGHT, argument: value}
    with pytest.raises(kc.ArgumentError, match=argument):
        block.update_covs(state, *data(jax), **numbers)
    new = update(state, {name: np.float32(v) for name, v in numbers.items()})
    assert not new.ok
    for (_, factor), (_, old) in zip(
        block.factors(new).values(), block.factors(state).values(), strict=True
    ):
        assert_array_equal(factor.cov.total, old.cov.total)
        assert_array_equal(factor.cov.weight, old.cov.weight)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_a_traced_damping_out_of_range_changes_nothing(jax, value):
    block = BLOCKS["dense"]
    state, _ = started(jax, block)
    state = block.update_inverses(state, 0.1)
    new = jax.jit(block.update_inverses)(state, np.float32(value))
    assert not new.ok
    v = (np.ones((2, 3), "f"), np.ones(3, "f"))
    for x, y in zip(
        block.multiply_inverse(new, tuple(map(jax.numpy.asarray, v))),
        block.multiply_inverse(state, tuple(map(jax.numpy.asarray, v))),
        strict=True,
    ):
        assert_array_equal(x, y)


def data(jax):
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(4, 2)), rng.normal(size=(4, 3))
    return jax.numpy.asarray(x, "float32"), jax.numpy.asarray(g, "float32")


def started(jax, block):
    """Return a state of one batch, and the compiled update by another."""
    x, g = data(jax)
    state = block.update_covs(block.init(x), x, g, 0.0)
    update = jax.jit(lambda state, numbers: block.update_covs(state, x, g, **numbers))
    return state, update
