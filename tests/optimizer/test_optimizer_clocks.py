"""Statistics, inverses, adaptation and burn-in: each in its own time."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from optimizer_cases import flat, numbers, optimizer_of, problem, run

from kfac_core import backend_of
from kfac_core.optimizer.damping_adaptation import adapted
from kfac_core.reference import Batch


@pytest.fixture
def library(plain_library):
    return plain_library


def weights_of(library, state):
    """Return the weight of the moving average of the first block's inputs."""
    block = state.estimator.blocks["dense_0"]
    return float(library.to_numpy(block.input_factor.cov.weight))


def inverse_of(library, state):
    block = state.estimator.blocks["dense_0"]
    return library.to_numpy(block.input_factor.derived.matpowers[0])


def test_statistics_and_inverses_are_updated_when_they_are_due(library):
    params, batch = problem(library)
    optimizer = optimizer_of(cov_update_every=2, invert_every=3, cov_ema_decay=0.5)
    state = optimizer.init(params)
    weights, inverses = [], []
    for _ in range(7):
        state, params, _ = optimizer.step(state, params, batch)
        weights.append(weights_of(library, state))
        inverses.append(inverse_of(library, state))
    # Two steps between updates: the weight before counts 0.5^2.
    assert weights == [1, 1, 1.25, 1.25, 1.3125, 1.3125, 1.328125]
    changed = [not np.array_equal(x, y) for x, y in pairwise(inverses)]
    assert changed == [False, False, True, False, False, True]


def test_the_caller_may_keep_the_clock(library):
    params, batch = problem(library)
    timed = optimizer_of(invert_every=2)
    told = optimizer_of(invert_every=100)
    states = [timed.init(params), told.init(params)]
    runs = [params, params]
    for t in range(3):
        states[0], runs[0], _ = timed.step(states[0], runs[0], batch)
        states[1], runs[1], _ = told.step(
            states[1], runs[1], batch, update_inverses=t % 2 == 0
        )
    np.testing.assert_array_equal(*(flat(library, p) for p in runs))
    no = np.asarray(False)
    for answer in (False, no[()], library.asarray(no)):
        kept, _, _ = told.step(states[1], runs[1], batch, update_covs=answer)
        assert weights_of(library, kept) == weights_of(library, states[1])


def test_burn_in_averages_and_leaves_the_parameters(library):
    params, batch = problem(library)
    optimizer = optimizer_of(num_burnin_steps=3, cov_ema_decay=0.5)
    state, same, told = run(optimizer, params, batch, 3)
    np.testing.assert_array_equal(flat(library, same), flat(library, params))
    assert weights_of(library, state) == 3  # a mean: no weight decays
    assert int(state.counter) == 0
    assert int(state.burnin_counter) == 3
    assert np.all(numbers(library, told, "update_norm") == 0)
    state, moved, _ = optimizer.step(state, same, batch)
    assert weights_of(library, state) == 2.5
    assert int(state.counter) == 1
    assert np.max(np.abs(flat(library, moved) - flat(library, params))) > 0


def test_burn_in_averages_without_debiasing_too(library):
    params, batch = problem(library)
    debiased = optimizer_of(num_burnin_steps=3)
    layers = tuple(
        replace(layer, block=replace(layer.block, zero_debias=False))
        for layer in debiased.layer_collection.layers
    )
    collection = replace(debiased.layer_collection, layers=layers)
    optimizer = replace(debiased, layer_collection=collection)
    traces = []
    for chosen in (debiased, optimizer):
        state, _, _ = run(chosen, params, batch, 3)
        for name, block in chosen.estimator.blocks.items():
            for factor, part in block.factors(state.estimator.blocks[name]).values():
                traces.append(float(factor.trace(part)))
    whole, with_zero = np.split(np.asarray(traces), 2)
    # The initial zero is one sample of four.
    np.testing.assert_allclose(with_zero, 0.75 * whole, rtol=1e-12)


def test_damping_is_adapted_at_each_interval(library):
    params, batch = problem(library)
    optimizer = optimizer_of(
        adapt_damping=True,
        damping_adaptation_interval=3,
        damping_adaptation_decay=0.5,
        damping_decrease_rho_threshold=-10.0,
        damping_increase_rho_threshold=-11.0,
    )
    _, _, told = run(optimizer, params, batch, 7)
    factors = numbers(library, told, "damping") / 0.5
    np.testing.assert_allclose(factors, [1, 1, 1 / 8, 1 / 8, 1 / 8, 1 / 64, 1 / 64])


@pytest.mark.parametrize("kind", ["regular", "qmodel"])
def test_adaptation_at_the_next_start_is_that_of_the_last_end(kind, library):
    """The loss of the batch before, at the parameters that its step led to."""
    params, batch = problem(library)
    options = {
        "momentum_type": kind,
        "adapt_damping": True,
        "damping_adaptation_interval": 2,
    }
    now = optimizer_of(**options)
    later = optimizer_of(update_damping_immediately=False, **options)
    _, _, told = run(now, params, batch, 5)
    _, _, late = run(later, params, batch, 5, prev_batch=batch)
    for field in ("damping", "rho", "actual_change"):
        at_once, after = (numbers(library, t, field) for t in (told, late))
        if field == "rho":
            assert np.isfinite(at_once[1])
        np.testing.assert_allclose(after[1:], at_once[:-1], rtol=1e-12)


@pytest.mark.parametrize("loss", [np.nan, np.inf])
@pytest.mark.parametrize("predicted", [-1.0, 1.0])
def test_a_loss_that_is_not_finite_raises_the_damping(loss, predicted, library):
    params, _ = problem(library)
    optimizer = optimizer_of(damping=0.5, damping_adaptation_decay=0.5)
    state = optimizer.init(params)
    one = state.damping * 2
    state = state._replace(loss=one, predicted_change=one * predicted)
    new = adapted(backend_of(one), optimizer, state, one * loss)
    assert float(library.to_numpy(new.damping)) == 0.5 * 2**5
    assert float(library.to_numpy(new.rho)) == -np.inf


def test_numbers_may_change_from_step_to_step(library):
    params, batch = problem(library)
    optimizer = optimizer_of(learning_rate=0.1, momentum=0.5)
    state = optimizer.init(params)
    other = optimizer_of(
        learning_rate=0.3, momentum=0.2, norm_constraint=1e-3, weight_decay_coeff=0.1
    )
    given = {
        "learning_rate": 0.3,
        "momentum": 0.2,
        "norm_constraint": 1e-3,
        "weight_decay_coeff": 0.1,
    }
    _, wanted, _ = other.step(state, params, batch)
    _, got, _ = optimizer.step(state, params, batch, **given)
    np.testing.assert_array_equal(flat(library, got), flat(library, wanted))
    zero_d = {name: library.asarray(np.asarray(x)) for name, x in given.items()}
    _, same, _ = optimizer.step(state, params, batch, **zero_d)
    np.testing.assert_array_equal(flat(library, same), flat(library, wanted))
    after, _, told = optimizer.step(state, params, batch, damping=2.0)
    assert float(library.to_numpy(told.damping)) == 2.0
    assert float(library.to_numpy(after.damping)) == 2.0


def test_blocks_may_be_damped_by_more_than_the_model(library):
    params, batch = problem(library)
    plain = optimizer_of(momentum_type="regular", damping=0.5)
    halved = optimizer_of(momentum_type="regular", damping=0.25, precon_damping_mult=2)
    moved = [run(o, params, batch, 2)[1] for o in (plain, halved)]
    np.testing.assert_allclose(*(flat(library, p) for p in moved), rtol=1e-13)


def test_a_mask_leaves_padding_out(library):
    """Padded cases change no gradient, and the batch is divided by as it is."""
    params, batch = problem(library)
    xp_inputs = library.to_numpy(batch.inputs)
    padded = np.concatenate([xp_inputs, np.zeros((3, 4))])
    targets = np.concatenate([library.to_numpy(batch.targets), [0, 1, 2]])
    mask = np.concatenate([np.ones(12), np.zeros(3)])
    whole = Batch(
        library.asarray(padded),
        library.asarray(targets.astype(np.int32)),
        library.asarray(mask),
    )
    optimizer = optimizer_of(num_burnin_steps=0)
    _, _, plain = optimizer.step(optimizer.init(params), params, batch)
    _, _, masked = optimizer.step(optimizer.init(params), params, whole)
    for field in ("loss", "gradient_norm"):
        got, wanted = (
            float(library.to_numpy(getattr(told, field))) for told in (masked, plain)
        )
        np.testing.assert_allclose(got * 15, wanted * 12, rtol=1e-12)
