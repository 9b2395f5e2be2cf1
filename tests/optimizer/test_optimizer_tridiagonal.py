"""The optimiser with layers that know their neighbours."""

import numpy as np
import pytest
from optimizer_cases import DEEP, optimizer_of, problem, run

import kfac_core as kc
from kfac_core import tree
from kfac_core.errors import ArgumentError, StateError, UnsupportedError
from kfac_core.estimator import BlockTridiagonalEstimator
from kfac_core.registered_losses import mean_gradient


class NumPy:
    """NumPy as it is, for what does not depend on the library."""

    asarray = staticmethod(np.asarray)


CHAIN = {"structure": "block_tridiagonal"}


def by_hand(options):
    """Return the parameters after two steps of plain natural gradients."""
    params, batch = problem(NumPy)
    optimizer = optimizer_of(**options)
    estimator = BlockTridiagonalEstimator(optimizer.layer_collection, "exact")
    state = estimator.init(params)
    for _ in range(2):
        at = DEEP.linearize(params, batch)
        state = estimator.update_covs(state, at, optimizer.cov_ema_decay)
        state = estimator.update_inverses(state, 0.5)
        gradient = mean_gradient(optimizer.layer_collection, at)
        step = estimator.multiply_inverse(state, gradient)
        params = {name: p - 0.1 * step[name] for name, p in params.items()}
    return params


@pytest.mark.parametrize("momentum_type", ["regular", "adam"])
def test_its_steps_are_those_of_the_estimator(momentum_type):
    options = {"momentum_type": momentum_type, "momentum": 0.0}
    expected = by_hand(options)
    found, apart = (
        run(optimizer_of(**options, **more), *problem(NumPy), 2)[1]
        for more in (CHAIN, {})
    )
    for name, p in expected.items():
        np.testing.assert_allclose(found[name], p, rtol=1e-12)
    gaps = [np.abs(apart[name] - p).max() for name, p in expected.items()]
    assert max(gaps) > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"momentum_type": "qmodel", "adapt_damping": True},
        {"momentum_type": "qmodel_fixedmu", "num_burnin_steps": 1},
        {"damping": {"dense_0": 0.5, "dense_1": 0.2}, "adapt_damping": True},
        {"predicted_change": "blocks", "adapt_damping": True, "invert_every": 2},
    ],
    ids=["qmodel", "burn-in", "by layer", "blocks"],
)
def test_the_loss_falls_under_other_options(options):
    optimizer = optimizer_of(**options, **CHAIN)
    _, _, told = run(optimizer, *problem(NumPy), 8)
    losses = [float(each.loss) for each in told]
    assert losses[-1] < losses[0]
    assert all(bool(each.ok) for each in told)


def test_every_library_takes_the_same_steps(library):
    optimizer = optimizer_of(**CHAIN)
    params, batch = problem(library)
    step = library.compiled(
        lambda state, params, batch: optimizer.step(state, params, batch)[:2]
    )
    state = optimizer.init(params)
    for _ in range(2):
        state, params = step(state, params, batch)
    _, expected, _ = run(optimizer, *problem(NumPy), 2)
    for name, p in expected.items():
        np.testing.assert_allclose(library.to_numpy(params[name]), p, rtol=1e-10)


def test_a_batch_of_half_the_cases_weighs_half(rng):
    optimizer = optimizer_of(**CHAIN)
    params, batch = problem(NumPy)
    half = type(batch)(batch.inputs[:6], batch.targets[:6])
    state, params, _ = optimizer.step(optimizer.init(params), params, batch)
    state, *_ = optimizer.step(state, params, half)
    decay = optimizer.cov_ema_decay
    weights = {float(pair.inputs.weight) for pair in state.estimator.cross}
    weights |= {
        float(b.input_factor.cov.weight) for b in state.estimator.blocks.values()
    }
    assert weights == {decay + 0.5}


def test_states_are_saved_and_do_not_pass_for_others(tmp_path):
    optimizer = optimizer_of(**CHAIN)
    state, params, _ = run(optimizer, *problem(NumPy), 2)
    for spec, own in ((optimizer, state), (optimizer.estimator, state.estimator)):
        kc.save(tmp_path / "state", own, spec)
        found = kc.load(tmp_path / "state", spec, like=params)
        assert type(found) is type(own)
        for x, y in zip(tree.leaves(found), tree.leaves(own), strict=True):
            np.testing.assert_array_equal(x, y)
        named = kc.state_to_dict(own)
        again = kc.state_from_dict(spec.init(params), named)
        for x, y in zip(tree.leaves(again), tree.leaves(own), strict=True):
            np.testing.assert_array_equal(x, y)
    diagonal = optimizer_of()
    kc.save(tmp_path / "state", state, optimizer)
    with pytest.raises(StateError):
        kc.load(tmp_path / "state", diagonal, like=params)
    _, batch = problem(NumPy)
    with pytest.raises(StateError, match="TridiagonalState"):
        diagonal.step(state, params, batch)
    with pytest.raises(StateError, match="EstimatorState"):
        optimizer.step(diagonal.init(params), params, batch)


@pytest.mark.parametrize(
    ("name", "value"), [("stagger_inverses", True), ("inverse_tolerance", 0.1)]
)
def test_layers_have_one_inverse_together(name, value):
    with pytest.raises(ArgumentError, match=f"{name} is {value}.*together"):
        optimizer_of(**{name: value}, **CHAIN)


def test_layers_that_are_no_chain_are_refused_by_name():
    layers = kc.LayerCollection.of({"w": (3, 2)}).register_generic("w", name="layer7")
    layers = layers.register_squared_error_loss("outputs")
    with pytest.raises(UnsupportedError, match="layer7"):
        kc.KfacOptimizer(DEEP, layers, damping=0.1, learning_rate=0.1, **CHAIN)
