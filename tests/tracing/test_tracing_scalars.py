"""A traced number out of range is refused: nothing changes, and the state says so."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kfac_core as kc
from kfac_core import tree

REFRESHED = {
    "dense": kc.blocks.FullyConnectedKFACBasicFB(2, 3, has_bias=True),
    "diagonal": kc.blocks.FullyConnectedDiagonalFB(2, 3),
    "parts": kc.blocks.TiedWeightsKFACFB(2, 3, ("fully_connected",)),
}
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
    "dense": kc.blocks.FullyConnectedKFACBasicFB(2, 3, has_bias=True),
    "diagonal": kc.blocks.FullyConnectedDiagonalFB(2, 3),
    "low rank": kc.blocks.FullyConnectedKFACBasicFB(2, 3, input_max_rows=8),
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
    with pytest.raises(kc.errors.ArgumentError, match=argument):
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
    state, _ = started(jax, block, 0.1)
    new = jax.jit(block.update_inverses)(state, np.float32(value))
    assert not new.ok
    v = (np.ones((2, 3), "f"), np.ones(3, "f"))
    for x, y in zip(
        block.multiply_inverse(new, tuple(map(jax.numpy.asarray, v))),
        block.multiply_inverse(state, tuple(map(jax.numpy.asarray, v))),
        strict=True,
    ):
        assert_array_equal(x, y)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", REFRESHED.values(), ids=REFRESHED)
def test_a_traced_tolerance_out_of_range_changes_nothing(jax, block, value):
    state, update = started(jax, block, 0.1)
    with pytest.raises(kc.errors.ArgumentError, match="tolerance"):
        block.refresh_inverses(state, 0.1, value)
    later = update(state, {"ema_decay": np.float32(0.1)})
    refresh = jax.jit(block.refresh_inverses)
    new = refresh(later, np.float32(0.1), np.float32(value))
    assert not new.ok
    assert not new.flag("derived_ok")
    assert_equal_inverses(jax, block, new, state)
    # In range it is one of the two: kept, or computed anew.
    for tolerance, other in ((1e6, state), (0.0, block.update_inverses(later, 0.1))):
        good = refresh(new, np.float32(0.1), np.float32(tolerance))
        assert good.ok
        assert_equal_inverses(jax, block, good, other, rtol=1e-4)


def test_a_traced_tolerance_out_of_range_changes_no_layer(jax):
    collection = kc.LayerCollection.of({"v": (2, 3), "w": (2, 3)})
    for name in ("v", "w"):
        collection = collection.register_fully_connected(name, name)
    collection = collection.register_normal_predictive_distribution("out")
    estimator = kc.FisherEstimator(collection, "exact")
    params = {name: jax.numpy.ones((2, 3), "float32") for name in ("v", "w")}
    state = estimator.init(params)
    blocks = estimator.blocks
    folded = {
        name: blocks[name].update_covs(own, *data(jax), 0.0)
        for name, own in state.blocks.items()
    }
    state = estimator.update_inverses(state._replace(blocks=folded), 0.1)
    refresh = jax.jit(lambda s, t: estimator.update_inverses(s, 0.2, tolerance=t))
    new = refresh(state, np.float32(-1.0))
    assert not new.ok
    for name, block in blocks.items():
        assert_equal_inverses(jax, block, new.blocks[name], state.blocks[name])
    assert refresh(state, np.float32(0.01)).ok


def assert_equal_inverses(jax, block, one, other, rtol=0.0):
    v = jax.numpy.ones((2, 3), "float32")
    bias = block.has_bias and (v, jax.numpy.ones(3, "float32"))
    products = [block.multiply_inverse(state, bias or v) for state in (one, other)]
    for x, y in zip(*map(jax.tree.leaves, products), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol)


def data_in_numpy():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 2)).astype("f"), rng.normal(size=(4, 3)).astype("f")


def data(jax):
    return tuple(map(jax.numpy.asarray, data_in_numpy()))


def started(jax, block, damping=None):
    """Return a state of one batch, from NumPy, and the compiled update by another."""
    x, g = data_in_numpy()
    state = block.update_covs(block.init(x), x, g, 0.0)
    if damping is not None:
        state = block.update_inverses(state, damping)
    state, x, g = tree.map(jax.numpy.asarray, (state, x, g))
    update = jax.jit(lambda state, numbers: block.update_covs(state, x, g, **numbers))
    return state, update
