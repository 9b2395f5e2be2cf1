"""Where K-FAC is exact, and where it is not: layers that act once in a case.

Each theorem is held against the dense Fisher, and beside it stands a case without its
condition, in which the two differ. With a case's input ``a`` and the moment ``B`` of
its output gradients, ``F = E[kron(a a', B)]`` and K-FAC is ``kron(E[a a'], E[B])``.
"""

import numpy as np
import pytest
from hypothesis import given
from reference_cases import (
    assert_close,
    assert_differs,
    random_params,
    random_targets,
)
from theorem_cases import (
    BATCHES,
    BIAS,
    EXAMPLES,
    LOSSES,
    NARROW,
    NORMAL,
    SEEDS,
    SOFTMAX,
    WIDTHS,
    curved_network,
    dense_network,
    empirical_sources,
    fitted,
    kfac_and_fisher,
    kfac_of,
)

from kfac_core.reference import block_for, empirical_fisher, exact_sources


def drawn(network, seed, batch):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, network.layers[0].input_size))
    return random_params(network, rng), x, rng


def moments_of(spec, data):
    """``a a'`` and ``B`` of each case."""
    a = data.inputs
    if spec.has_bias:
        a = np.concatenate([a, np.ones((len(a), 1))], axis=1)
    g = np.stack([source for (source,) in data.outputs_grads])
    return np.einsum("ni,nj->nij", a, a), np.einsum("cni,cnj->nij", g, g)


@given(seed=SEEDS, batch=BATCHES, width=WIDTHS, loss=LOSSES, has_bias=BIAS)
def test_t0_the_error_is_a_covariance(seed, batch, width, loss, has_bias):
    network = curved_network(3, width, 3, has_bias=has_bias)
    params, x, _ = drawn(network, seed, batch)
    kfac, fisher = kfac_and_fisher(network, params, x, loss, layer=0)
    data = exact_sources(network, params, x, loss)[0]
    a, b = moments_of(network.layers[0], data)
    covariance = sum(
        np.kron(a_n, b_n)
        for a_n, b_n in zip(a - a.mean(axis=0), b - b.mean(axis=0), strict=True)
    )
    assert_close(kfac + covariance / batch, fisher)


@EXAMPLES
def test_t0_the_covariance_is_not_small_in_general(seed):
    network = curved_network(3, 4, 3)
    params, x, _ = drawn(network, seed, batch=5)
    assert_differs(*kfac_and_fisher(network, params, x, SOFTMAX, layer=0))


@given(seed=SEEDS, width=WIDTHS, loss=LOSSES, has_bias=BIAS)
def test_t1_one_case_is_exact(seed, width, loss, has_bias):
    network = curved_network(width, 3, width, 2, has_bias=has_bias)
    params, x, rng = drawn(network, seed, batch=1)
    outputs = network.forward(params, x).outputs
    targets = random_targets(loss, outputs, rng)
    empirical = empirical_sources(network, params, x, loss, targets)
    for index, spec in enumerate(network.param_layers):
        assert_close(*kfac_and_fisher(network, params, x, loss, layer=index))
        truth = empirical_fisher(network, params, x, loss, targets, layer=index)
        assert_close(kfac_of(spec, empirical[index]), truth)


def one_gradient(seed, width, has_bias):
    """A block of one case's gradient ``v`` alone, and ``v`` as parameters."""
    network = curved_network(width, 3, 2, has_bias=has_bias)
    params, x, rng = drawn(network, seed, batch=1)
    forward = network.forward(params, x)
    g = NORMAL.gradient(forward.outputs, rng.standard_normal((1, 2)))
    backward = network.backward(params, forward, g)
    data = empirical_sources(network, params, x, NORMAL, forward.outputs - g)
    return network.layers[0], data[0], backward.param_gradients[0]


def flat(params):
    return np.concatenate([p.reshape(-1) for p in params])


@given(seed=SEEDS, width=WIDTHS, has_bias=BIAS)
def test_t1_the_inverse_of_one_gradient_is_by_sherman_and_morrison(
    seed, width, has_bias
):
    spec, data, v = one_gradient(seed, width, has_bias)
    block = block_for(spec, damping_type="exact")
    state = block.update_inverses(fitted(block, data), damping=0.3)
    expected = flat(v) / (0.3 + flat(v) @ flat(v))
    assert_close(flat(block.multiply_inverse(state, v)), expected, 1e-11)


@pytest.mark.parametrize("damping_type", ["pi", "off", "constant"])
@EXAMPLES
def test_t1_not_where_each_factor_is_damped(damping_type, seed):
    spec, data, v = one_gradient(seed, width=4, has_bias=True)
    block = block_for(spec, damping_type=damping_type)
    state = block.update_inverses(fitted(block, data), damping=0.3)
    expected = flat(v) / (0.3 + flat(v) @ flat(v))
    assert_differs(flat(block.multiply_inverse(state, v)), expected)


def with_inputs(x, seed, width, loss):
    """The first layer's block and Fisher, of gradients that differ by their targets."""
    network = curved_network(width, 3, 4)
    params, _, rng = drawn(network, seed, batch=1)
    targets = random_targets(loss, network.forward(params, x).outputs, rng)
    data = empirical_sources(network, params, x, loss, targets)
    truth = empirical_fisher(network, params, x, loss, targets, layer=0)
    return kfac_of(network.layers[0], data[0]), truth


@given(seed=SEEDS, batch=BATCHES, width=WIDTHS, loss=LOSSES)
def test_t2_equal_inputs_are_exact(seed, batch, width, loss):
    one = np.random.default_rng(seed).standard_normal((1, width))
    assert_close(*with_inputs(np.repeat(one, batch, axis=0), seed, width, loss))


@EXAMPLES
def test_t2_different_inputs_are_not(seed):
    x = np.random.default_rng(seed).standard_normal((5, 4))
    assert_differs(*with_inputs(x, seed, 4, NORMAL))


@given(seed=SEEDS, batch=BATCHES, width=WIDTHS, has_bias=BIAS)
def test_t3a_the_last_layer_of_a_regression_is_exact(seed, batch, width, has_bias):
    network = curved_network(3, 4, width, has_bias=has_bias)
    params, x, _ = drawn(network, seed, batch)
    loss = NARROW
    assert_close(*kfac_and_fisher(network, params, x, loss, layer=1))
    block = block_for(network.param_layers[1])
    state = fitted(block, exact_sources(network, params, x, loss)[1])
    precision = block.output_factor.get_cov(state.output_factor)
    assert_close(precision, np.eye(width) / 0.3)


@EXAMPLES
def test_t3a_not_of_a_classifier(seed):
    network = curved_network(3, 4, 3)
    params, x, _ = drawn(network, seed, batch=5)
    assert_differs(*kfac_and_fisher(network, params, x, SOFTMAX, layer=1))


@given(seed=SEEDS, batch=BATCHES, width=WIDTHS, has_bias=BIAS)
def test_t3b_deep_linear_regression_is_exact(seed, batch, width, has_bias):
    # Bernacchia et al. (2018).
    network = dense_network(3, width, 4, 2, has_bias=has_bias)
    params, x, _ = drawn(network, seed, batch)
    loss = NARROW
    for index in range(3):
        assert_close(*kfac_and_fisher(network, params, x, loss, layer=index))
    block = block_for(network.param_layers[0])
    state = fitted(block, exact_sources(network, params, x, loss)[0])
    downstream = params[1][0] @ params[2][0]
    moment = block.output_factor.get_cov(state.output_factor)
    assert_close(moment, downstream @ downstream.T / 0.3)


@EXAMPLES
def test_t3b_not_if_what_follows_is_curved(seed):
    network = curved_network(3, 4, 4, 2)
    params, x, _ = drawn(network, seed, batch=5)
    for index in range(2):
        assert_differs(*kfac_and_fisher(network, params, x, NORMAL, layer=index))


def with_head_scaled(network, params, factor):
    return (*params[:-1], (factor * params[-1][0], params[-1][1]))


@given(seed=SEEDS, batch=BATCHES, width=WIDTHS)
def test_t3c_a_head_whose_logits_ignore_the_input_is_exact(seed, batch, width):
    network = curved_network(3, width, 4)
    params, x, _ = drawn(network, seed, batch)
    params = with_head_scaled(network, params, 0.0)
    kfac, fisher = kfac_and_fisher(network, params, x, SOFTMAX, layer=1)
    assert_close(kfac, fisher)


@EXAMPLES
def test_t3c_not_if_they_follow_it(seed):
    network = curved_network(3, 4, 4)
    params, x, _ = drawn(network, seed, batch=5)
    params = with_head_scaled(network, params, 2.0)
    assert_differs(*kfac_and_fisher(network, params, x, SOFTMAX, layer=1))


@EXAMPLES
def test_t4_the_empirical_fisher_of_deep_linear_regression_is_not_exact(seed):
    network = dense_network(3, 4, 2)
    params, x, rng = drawn(network, seed, batch=5)
    targets = rng.standard_normal((5, 2))
    data = empirical_sources(network, params, x, NORMAL, targets)
    for index, spec in enumerate(network.param_layers):
        truth = empirical_fisher(network, params, x, NORMAL, targets, layer=index)
        assert_differs(kfac_of(spec, data[index]), truth)


@given(seed=SEEDS, batch=BATCHES, width=WIDTHS, loss=LOSSES)
def test_t10_the_block_of_the_bias_is_exact(seed, batch, width, loss):
    network = curved_network(3, width, 3)
    params, x, _ = drawn(network, seed, batch)
    kfac, fisher = kfac_and_fisher(network, params, x, loss, layer=0)
    assert_close(kfac[-width:, -width:], fisher[-width:, -width:])


@EXAMPLES
def test_t10_that_of_the_weights_is_not(seed):
    network = curved_network(3, 4, 3)
    params, x, _ = drawn(network, seed, batch=5)
    kfac, fisher = kfac_and_fisher(network, params, x, SOFTMAX, layer=0)
    assert_differs(kfac[:-4, :-4], fisher[:-4, :-4])


def partial_trace(fisher, rows):
    """Trace over the inputs: what is left is of the outputs."""
    columns = len(fisher) // rows
    return np.einsum("iaib->ab", fisher.reshape(rows, columns, rows, columns))


@given(seed=SEEDS, batch=BATCHES, width=WIDTHS, loss=LOSSES)
def test_t13_inputs_of_one_norm_keep_the_traces(seed, batch, width, loss):
    network = curved_network(3, width, 3, has_bias=False)
    params, x, _ = drawn(network, seed, batch)
    x = 2 * x / np.linalg.norm(x, axis=1, keepdims=True)
    kfac, fisher = kfac_and_fisher(network, params, x, loss, layer=0)
    assert_close(np.trace(kfac), np.trace(fisher))
    assert_close(partial_trace(kfac, 3), partial_trace(fisher, 3))


@EXAMPLES
def test_t13_otherwise_the_traces_differ_by_a_covariance(seed):
    network = curved_network(3, 4, 3, has_bias=False)
    params, x, _ = drawn(network, seed, batch=5)
    loss = SOFTMAX
    kfac, fisher = kfac_and_fisher(network, params, x, loss, layer=0)
    data = exact_sources(network, params, x, loss)[0]
    traces = [
        np.trace(m, axis1=1, axis2=2) for m in moments_of(network.layers[0], data)
    ]
    covariance = np.cov(*traces, bias=True)[0, 1]
    assert_close(np.trace(kfac) + covariance, np.trace(fisher))
    assert_differs(np.trace(kfac), np.trace(fisher), by=1e-4)
