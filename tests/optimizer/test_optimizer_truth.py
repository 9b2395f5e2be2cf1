"""What the optimiser says of a step holds of the loss itself, computed densely."""

import numpy as np
import pytest
from optimizer_cases import (
    CATEGORICAL,
    DEEP,
    LINEAR,
    NORMAL,
    flat,
    linear_problem,
    numbers,
    optimizer_of,
    problem,
    run,
)

from kfac_core.reference import exact_fisher

TYPES = {
    "regular": {"learning_rate": 0.3},
    "adam": {"learning_rate": 0.3},
    "regular-decay": {"learning_rate": 0.3, "weight_decay_coeff": 0.2},
    "qmodel": {},
    "qmodel_fixedmu": {"momentum": 0.5},
    "qmodel-rescaled": {"qmodel_update_rescale": 0.5},
    "qmodel-decay": {"weight_decay_coeff": 0.2},
}


def options_of(name):
    return {"momentum_type": name.split("-")[0], **TYPES[name]}


@pytest.mark.parametrize("name", TYPES)
def test_least_squares_are_predicted_exactly(name, plain_library):
    """The model is the loss, whatever the damping: ``rho`` is one."""
    params, batch = linear_problem(plain_library)
    optimizer = optimizer_of(
        LINEAR,
        NORMAL,
        adapt_damping=True,
        damping_adaptation_interval=1,
        **options_of(name),
    )
    _, _, told = run(optimizer, params, batch, 3)
    np.testing.assert_allclose(numbers(plain_library, told, "rho"), 1, rtol=1e-9)


def test_weight_decay_of_one_step_is_predicted_too(plain_library):
    params, batch = linear_problem(plain_library)
    optimizer = optimizer_of(
        LINEAR,
        NORMAL,
        momentum_type="qmodel",
        adapt_damping=True,
        damping_adaptation_interval=1,
    )
    _, _, told = run(optimizer, params, batch, 3, weight_decay_coeff=0.2)
    np.testing.assert_allclose(numbers(plain_library, told, "rho"), 1, rtol=1e-9)


@pytest.mark.parametrize("name", ["regular", "adam"])
def test_blocks_predict_other_than_the_truth(name, plain_library):
    """Their damping is not a multiple of the identity, and for adam stays in."""
    params, batch = linear_problem(plain_library)
    optimizer = optimizer_of(
        LINEAR,
        NORMAL,
        adapt_damping=True,
        damping_adaptation_interval=1,
        predicted_change="blocks",
        **options_of(name),
    )
    _, _, told = run(optimizer, params, batch, 3)
    assert np.all(np.abs(numbers(plain_library, told, "rho") - 1) > 1e-3)


def test_damping_is_part_of_the_prediction_if_asked(library):
    params, batch = linear_problem(library)
    changes = []
    for included in (False, True):
        optimizer = optimizer_of(
            LINEAR,
            NORMAL,
            momentum_type="qmodel",
            include_damping_in_qmodel_change=included,
        )
        _, moved, (told,) = run(optimizer, params, batch, 1)
        changes.append(float(library.to_numpy(told.predicted_change)))
    step = flat(library, moved) - flat(library, params)
    np.testing.assert_allclose(changes[1] - changes[0], 0.25 * step @ step, rtol=1e-10)


@pytest.mark.parametrize("loss", [CATEGORICAL, NORMAL], ids=["categorical", "normal"])
def test_alpha_and_mu_minimise_the_dense_model(loss, library):
    params, batch = problem(library, loss)
    damping = 0.07
    optimizer = optimizer_of(loss=loss, momentum_type="qmodel", damping=damping)
    state, params, _ = run(optimizer, params, batch, 2)
    before = flat(library, state.velocity)
    theta = flat(library, params)
    truth = exact_fisher(DEEP.network, DEEP.unnamed(params), batch.inputs, loss)
    fisher = by_name(params, library.to_numpy(truth))
    matrix = fisher + damping * np.eye(theta.size)
    g = dense_gradient(library, params, batch, loss)
    state, params, told = optimizer.step(state, params, batch)
    d = flat(library, params) - theta
    alpha = -float(library.to_numpy(told.learning_rate))
    mu = float(library.to_numpy(told.momentum))
    p = (d + mu * before) / alpha
    # The gradient of the model vanishes along both directions.
    rest = g + matrix @ d
    for direction in (p, before):
        size = np.linalg.norm(direction) * np.linalg.norm(g)
        assert abs(direction @ rest) < 1e-11 * size
    predicted = g @ d + 0.5 * d @ fisher @ d
    got = float(library.to_numpy(told.predicted_change))
    np.testing.assert_allclose(got, predicted, rtol=1e-9)


def dense_gradient(library, params, batch, loss):
    """Return the mean gradient, one case at a time."""
    network, own = DEEP.network, DEEP.unnamed(params)
    forward = network.forward(own, batch.inputs)
    g = loss.gradient(forward.outputs, batch.targets)
    rows = library.to_numpy(network.case_gradients(own, forward, g))
    return by_name(params, rows.mean(axis=0))


def by_name(params, matrix):
    """Return rows (and columns) in the order of names, given in that of layers."""
    ends = np.cumsum([np.prod(p.shape, dtype=int) for p in params.values()])
    pieces = dict(zip(params, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    order = np.concatenate([pieces[name] for name in sorted(pieces)])
    return matrix[np.ix_(*[order] * matrix.ndim)]


def test_a_direction_that_was_gone_before_leaves_alpha_alone(library):
    """Along one line the two directions are one: no digit of ``mu`` is left."""
    params, batch = linear_problem(library)
    optimizer = optimizer_of(LINEAR, NORMAL, momentum_type="qmodel", damping=0.1)
    state = optimizer.init(params)
    _, _, first = optimizer.step(state, params, batch)
    direction = optimizer.step(state, params, batch)[0].velocity
    again = state._replace(velocity={k: v * 3.0 for k, v in direction.items()})
    _, _, told = optimizer.step(again, params, batch)
    assert float(library.to_numpy(told.momentum)) == 0
    np.testing.assert_allclose(
        library.to_numpy(told.learning_rate), library.to_numpy(first.learning_rate)
    )


@pytest.mark.parametrize("kind", ["regular", "adam"])
def test_the_constraint_bounds_the_fisher_norm_of_the_update(kind, library):
    params, batch = problem(library)
    limit, rate = 1e-3, 0.3
    optimizer = optimizer_of(
        momentum_type=kind, norm_constraint=limit, learning_rate=rate, momentum=0.0
    )
    _, _, (told,) = run(optimizer, params, batch, 1)
    free = optimizer_of(momentum_type=kind, learning_rate=rate, momentum=0.0)
    _, unbound, _ = run(free, params, batch, 1)
    d = flat(library, unbound) - flat(library, params)
    g = dense_gradient(library, params, batch, CATEGORICAL)
    wanted = min(1.0, np.sqrt(limit / (-rate * d @ g)))
    assert wanted < 1
    got = float(library.to_numpy(told.norm_coefficient))
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_regular_and_adam_agree_while_the_inverse_is_one(library):
    params, batch = problem(library)
    runs = [
        run(optimizer_of(momentum_type=kind, invert_every=9), params, batch, 4)[1]
        for kind in ("regular", "adam")
    ]
    np.testing.assert_allclose(*(flat(library, p) for p in runs), rtol=1e-12)
    fresh = [
        run(optimizer_of(momentum_type=kind), params, batch, 4)[1]
        for kind in ("regular", "adam")
    ]
    apart = np.abs(flat(library, fresh[0]) - flat(library, fresh[1]))
    assert np.max(apart) > 1e-6


def test_the_squared_norm_in_a_loss_of_the_callers_own(library):
    """With the caller's gradient and loss, the prediction knows of the regulariser."""
    params, batch = linear_problem(library)
    eta = 0.3

    def own_loss(p, b):
        linear = LINEAR.linearize(p, b)
        value = NORMAL.evaluate(linear.loss_inputs["outputs"], b.targets) / 4
        (w,) = p.values()
        return value + (w.mT @ w)[0, 0] * (eta / 2)

    optimizer = optimizer_of(
        LINEAR,
        NORMAL,
        momentum_type="qmodel",
        adapt_damping=True,
        damping_adaptation_interval=1,
        l2_reg=eta,
        loss_fn=own_loss,
        min_damping=0.45,
    )
    (w,) = params.values()
    linear = LINEAR.linearize(params, batch)
    g = NORMAL.gradient(linear.loss_inputs["outputs"], batch.targets)
    gradient = {
        k: v / 4 + eta * w for k, v in linear.param_gradients({"outputs": g}).items()
    }
    _, _, told = optimizer.step(
        optimizer.init(params), params, batch, gradient=gradient
    )
    np.testing.assert_allclose(library.to_numpy(told.rho), 1, rtol=1e-10)
    # Never below the smallest plus the regulariser.
    np.testing.assert_allclose(library.to_numpy(told.damping), 0.75)
