"""Steps of K-FAC without damping: solve least squares, and ignore coordinates."""

import numpy as np
from hypothesis import given
from reference_cases import assert_close, assert_differs, random_params
from theorem_cases import (
    BIAS,
    EXAMPLES,
    NORMAL,
    SEEDS,
    WIDTHS,
    curved_network,
    dense_network,
    empirical_sources,
    fitted,
    tolerance,
)

from kfac_core.reference import Dense, LayerData, block_for, exact_sources


def step_of(network, params, x, targets, damping, lr=1.0):
    """The parameters after one step of K-FAC on a regression's mean loss."""
    loss = NORMAL
    forward = network.forward(params, x)
    g = loss.gradient(forward.outputs, targets)
    gradients = network.backward(params, forward, g).param_gradients
    stepped = []
    for spec, own, data, gradient in zip(
        network.param_layers,
        params,
        exact_sources(network, params, x, loss),
        gradients,
        strict=True,
    ):
        block = block_for(spec)
        state = block.update_inverses(fitted(block, data), damping)
        step = block.multiply_inverse(state, gradient)
        stepped.append(
            tuple(p - lr * d / len(x) for p, d in zip(own, step, strict=True))
        )
    return tuple(stepped)


def affine_pair(seed, damping):
    """Outputs after one step, of a network and of one on affinely changed inputs."""
    rng = np.random.default_rng(seed)
    network = curved_network(3, 3, 2)
    params, x = random_params(network, rng), rng.standard_normal((30, 3))
    targets = rng.standard_normal((30, 2))
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    change, shift = rotation * [0.5, 1.0, 2.0], rng.standard_normal(3)
    weights, bias = params[0]
    changed = np.linalg.solve(change, weights)
    same = ((changed, bias - shift @ changed), params[1])
    outputs = []
    for own, inputs in ((params, x), (same, x @ change + shift)):
        stepped = step_of(network, own, inputs, targets, damping, lr=0.1)
        outputs.append(network.forward(stepped, inputs).outputs)
    return outputs


@given(seed=SEEDS)
def test_t24_without_damping_affine_changes_of_the_inputs_change_nothing(seed):
    # Martens & Grosse (2015), theorem 1.
    assert_close(*affine_pair(seed, damping=0.0), 1e-10)


@EXAMPLES
def test_t24_with_damping_they_do(seed):
    assert_differs(*affine_pair(seed, damping=0.1))


@given(seed=SEEDS)
def test_t24_without_damping_linear_changes_of_the_outputs_change_nothing(seed):
    # Outputs s' = s R have gradients g' with g = g' R', and steps that are R' as well.
    rng = np.random.default_rng(seed)
    layer, rotation = Dense(3, 2), np.linalg.qr(rng.standard_normal((2, 2)))[0]
    change = rotation * [0.5, 2.0]
    x, g = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    block = block_for(layer)
    _, cache = layer.forward((np.zeros((3, 2)), np.zeros(2)), x)
    steps = []
    for gradients in (g, g @ np.linalg.inv(change).T):
        state = fitted(block, LayerData(x, ((gradients,),)))
        state = block.update_inverses(state, damping=0.0)
        steps.append(
            block.multiply_inverse(state, layer.param_gradients(cache, gradients))
        )
    for mine, changed in zip(*steps, strict=True):
        assert_close(mine @ change, changed, 1e-10)


def regression(seed, width, has_bias):
    rng = np.random.default_rng(seed)
    network = dense_network(3, width, has_bias=has_bias)
    x, targets = rng.standard_normal((12, 3)), rng.standard_normal((12, width))
    design = np.concatenate([x, np.ones((12, 1))], axis=1) if has_bias else x
    solution = np.linalg.lstsq(design, targets)[0]
    return network, random_params(network, rng), x, targets, solution.reshape(-1)


@given(seed=SEEDS, width=WIDTHS, has_bias=BIAS)
def test_t27_one_step_solves_least_squares(seed, width, has_bias):
    network, params, x, targets, solution = regression(seed, width, has_bias)
    stepped = step_of(network, params, x, targets, damping=0.0)
    bound = tolerance(x.T @ x)
    assert_close(network.params_to_vector(stepped), solution, bound)


@EXAMPLES
def test_t27_not_with_the_empirical_fisher(seed):
    network, params, x, targets, solution = regression(seed, 2, has_bias=True)
    forward = network.forward(params, x)
    g = NORMAL.gradient(forward.outputs, targets)
    gradient = network.backward(params, forward, g).param_gradients[0]
    block = block_for(network.layers[0])
    data = empirical_sources(network, params, x, NORMAL, targets)[0]
    state = block.update_inverses(fitted(block, data), damping=0.0)
    step = block.multiply_inverse(state, gradient)
    stepped = tuple(p - d / 12 for p, d in zip(params[0], step, strict=True))
    assert_differs(network.params_to_vector((stepped,)), solution)
