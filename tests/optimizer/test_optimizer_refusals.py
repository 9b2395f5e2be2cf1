"""Options that do not go together, and data that would spoil a state."""

from fractions import Fraction

import numpy as np
import pytest
from optimizer_cases import DEEP, flat, optimizer_of, problem

from kfac_core.errors import ArgumentError, NotFiniteError
from kfac_core.reference import Batch


def test_numbers_of_numpy_and_names_in_any_case_are_options():
    optimizer = optimizer_of(momentum_type="Adam", invert_every=np.int64(3))
    assert optimizer.momentum_type == "adam"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"momentum_type": "nesterov"}, "momentum_type.*regular, adam, qmodel"),
        ({"momentum_type": "Nesterov"}, "momentum_type is 'Nesterov', expected"),
        ({"momentum_type": None}, "momentum_type is None, expected one of"),
        ({"predicted_change": "best"}, "predicted_change.*exact, blocks"),
        ({"learning_rate": None}, "learning_rate is None, expected.*a number"),
        ({"momentum_type": "qmodel", "learning_rate": 1.0}, "learning_rate is 1.0"),
        ({"momentum_type": "qmodel", "momentum": 0.9}, "momentum is 0.9"),
        ({"momentum_type": "qmodel", "norm_constraint": 1.0}, "norm_constraint"),
        ({"qmodel_update_rescale": 0.5}, "qmodel_update_rescale is 0.5"),
        ({"invert_every": 0}, "invert_every is 0, expected an integer of at least 1"),
        ({"num_burnin_steps": -1}, "num_burnin_steps is -1"),
        ({"damping": -1.0}, "damping is -1.0, expected a finite number"),
        ({"damping": Fraction(1, 10)}, "expected a finite number"),
        ({"learning_rate": Fraction(1, 10)}, "expected a finite number"),
        ({"min_damping": float("nan")}, "min_damping is nan"),
        (
            {"cov_ema_decay": 1.5},
            r"cov_ema_decay is 1.5, expected a number in \[0, 1\]",
        ),
        ({"damping_adaptation_decay": 0.0}, "damping_adaptation_decay"),
        (
            {"damping_increase_rho_threshold": 0.8},
            "damping_increase_rho_threshold is 0.8, expected at most",
        ),
        ({"estimation_mode": "best"}, "estimation_mode is 'best'.*gradients"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ArgumentError, match=words):
        optimizer_of(**options)


@pytest.mark.parametrize(
    "given", [{"learning_rate": 0.1}, {"norm_constraint": 0.1}, {"momentum": 0.1}]
)
def test_the_quadratic_model_takes_no_length(given, plain_library):
    params, batch = problem(plain_library)
    optimizer = optimizer_of(momentum_type="qmodel")
    with pytest.raises(ArgumentError, match=f"qmodel takes no {next(iter(given))}"):
        optimizer.step(optimizer.init(params), params, batch, **given)


def test_the_batch_before_is_asked_for(plain_library):
    params, batch = problem(plain_library)
    optimizer = optimizer_of(adapt_damping=True, update_damping_immediately=False)
    with pytest.raises(ArgumentError, match="give it as prev_batch"):
        optimizer.step(optimizer.init(params), params, batch)


def test_a_loss_of_ones_own_is_asked_for_after_the_step_too(plain_library):
    params, batch = problem(plain_library)
    loss = plain_library.asarray(np.asarray(1.0))
    optimizer = optimizer_of(adapt_damping=True)
    with pytest.raises(ArgumentError, match="beside loss, give the option loss_fn"):
        optimizer.step(optimizer.init(params), params, batch, loss=loss)


def test_a_gradient_without_a_parameter_is_refused(plain_library):
    params, batch = problem(plain_library)
    optimizer = optimizer_of()
    for gradient in (params | {"more": batch.inputs}, {"dense_0/bias": batch.inputs}):
        with pytest.raises(ArgumentError, match="gradient has the names"):
            optimizer.step(optimizer.init(params), params, batch, gradient=gradient)


def test_targets_are_asked_for(plain_library):
    params, batch = problem(plain_library)
    optimizer = optimizer_of()
    with pytest.raises(ArgumentError, match="no targets for the loss site 'outputs'"):
        optimizer.step(optimizer.init(params), params, Batch(batch.inputs))


def test_randomness_is_asked_for(plain_library):
    params, batch = problem(plain_library)
    optimizer = optimizer_of(estimation_mode="gradients")
    with pytest.raises(ArgumentError, match="either a key or noise"):
        optimizer.step(optimizer.init(params), params, batch)


def test_a_parameter_that_is_missing_is_named(plain_library):
    params, _ = problem(plain_library)
    del params["dense_1/bias"]
    with pytest.raises(ArgumentError, match="dense_1/bias"):
        optimizer_of().init(params)


def test_a_gradient_that_is_not_finite_changes_nothing(library):
    params, batch = problem(library)
    optimizer = optimizer_of()
    state, params, _ = optimizer.step(optimizer.init(params), params, batch)
    before = flat(library, params).copy()
    gradient = dict(params)
    name = "dense_1/weights"
    gradient[name] = library.asarray(np.full((5, 3), np.nan))
    with pytest.raises(NotFiniteError, match=f"the gradient of {name} is not finite"):
        optimizer.step(state, params, batch, gradient=gradient)
    np.testing.assert_array_equal(flat(library, params), before)


def test_under_a_trace_such_a_step_is_left_out(jax):
    class Library:
        asarray = staticmethod(jax.numpy.asarray)
        to_numpy = staticmethod(np.asarray)

    params, batch = problem(Library)
    optimizer = optimizer_of(DEEP)
    step = jax.jit(
        lambda state, params, gradient: optimizer.step(
            state, params, batch, gradient=gradient
        )
    )
    state, params, told = step(optimizer.init(params), params, params)
    assert bool(told.ok)
    bad = {name: part * np.nan for name, part in params.items()}
    kept, same, told = step(state, params, bad)
    assert not bool(told.ok)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(kept), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(flat(Library, same), flat(Library, params))
    assert int(kept.counter) == int(state.counter)
    after, _, told = step(kept, same, params)
    assert bool(told.ok)
    assert int(after.counter) == int(state.counter) + 1
