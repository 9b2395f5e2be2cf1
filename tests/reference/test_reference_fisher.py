import numpy as np
import pytest
from reference_cases import NETWORKS, assert_close, assert_differs, draw

from kfac_core.errors import ArgumentError
from kfac_core.fisher_blocks import ConvDiagonalFB, EmbeddingKFACFB
from kfac_core.loss_functions import CategoricalLogitsNegativeLogProbLoss
from kfac_core.reference import (
    Conv2D,
    Dense,
    Embedding,
    Tanh,
    block_for,
    diagonal_block_for,
    empirical_fisher,
    exact_fisher,
    exact_sources,
    sampled_fisher,
)


@pytest.fixture(params=NETWORKS)
def case(request):
    return NETWORKS[request.param]


def case_gradients(case, params, x, targets):
    forward = case.network.forward(params, x)
    g = case.loss.gradient(forward.outputs, targets)
    return case.network.case_gradients(params, forward, g)


def test_exact_fisher_is_the_expectation_over_targets(case, rng):
    params, x, _ = draw(case, rng)
    network, loss = case.network, case.loss
    outputs = network.forward(params, x).outputs
    fisher = 0.0
    if isinstance(loss, CategoricalLogitsNegativeLogProbLoss):
        for label in range(outputs.shape[1]):
            rows = case_gradients(case, params, x, np.full(len(x), label))
            p = np.exp(outputs[:, label]) / np.exp(outputs).sum(axis=1)
            fisher += rows.T @ (p[:, None] * rows) / len(x)
    else:
        # Gradients are linear in the noise: its unit vectors have the moment of all.
        for k in range(outputs.shape[1]):
            noise = np.zeros(outputs.shape)
            noise[:, k] = 1
            targets = outputs + np.sqrt(loss.var) * noise
            rows = case_gradients(case, params, x, targets)
            fisher += rows.T @ rows / len(x)
    assert_close(exact_fisher(network, params, x, loss), fisher)


def test_exact_fisher_is_the_gauss_newton_matrix_of_jax(rng, jax):
    case = NETWORKS["convolutional-softmax"]
    params, images, labels = draw(case, rng)
    network, loss = case.network, case.loss
    x, targets = jax.numpy.asarray(images), jax.numpy.asarray(labels)

    def outputs_of(vector):
        return network.forward(network.vector_to_params(vector), x).outputs

    @jax.jit
    def gauss_newton(vector):
        outputs, push = jax.linearize(outputs_of, vector)
        _, pull = jax.vjp(outputs_of, vector)
        gradient = jax.grad(lambda f: loss.evaluate(f, targets))

        def times(v):
            return pull(jax.jvp(gradient, (outputs,), (push(v),))[1])[0] / len(x)

        return jax.vmap(times)(jax.numpy.eye(network.num_params))

    vector = network.params_to_vector(params)
    expected = gauss_newton(vector)
    mine = exact_fisher(network, params, images, loss)
    assert_close(mine, expected)


def test_exact_sources_have_the_exact_fisher_for_their_second_moment(case, rng):
    params, x, _ = draw(case, rng)
    network = case.network
    for index, (inputs, sources) in enumerate(
        exact_sources(network, params, x, case.loss)
    ):
        spec = network.param_layers[index]
        _, cache = spec.forward(params[index], inputs)
        fisher = 0.0
        for (g,) in sources:
            parts = spec.case_gradients(cache, g)
            rows = np.concatenate([p.reshape(len(x), -1) for p in parts], axis=1)
            fisher += rows.T @ rows / len(x)
        expected = exact_fisher(network, params, x, case.loss, layer=index)
        assert_close(fisher, expected)


def test_empirical_fisher_is_of_the_targets_given(case, rng):
    params, x, targets = draw(case, rng)
    rows = case_gradients(case, params, x, targets)
    fisher = empirical_fisher(case.network, params, x, case.loss, targets)
    assert_close(fisher, rows.T @ rows / len(x))
    assert_differs(fisher, exact_fisher(case.network, params, x, case.loss))


def test_sampled_fisher_is_the_mean_of_empirical_ones(case, rng):
    params, x, _ = draw(case, rng)
    network, loss = case.network, case.loss
    outputs = network.forward(params, x).outputs
    samples = loss.sample(np.random.default_rng(1), outputs, 3)
    expected = sum(empirical_fisher(network, params, x, loss, t) for t in samples) / 3
    mine = sampled_fisher(
        network, params, x, loss, np.random.default_rng(1), num_samples=3
    )
    assert_close(mine, expected)


def test_sampled_fisher_tends_to_the_exact(case, rng):
    params, x, _ = draw(case, rng)
    exact = exact_fisher(case.network, params, x, case.loss)
    errors = []
    for count in (4, 400):
        mine = sampled_fisher(
            case.network, params, x, case.loss, rng, num_samples=count
        )
        errors.append(np.linalg.norm(mine - exact) / np.linalg.norm(exact))
    # A hundred times the samples, a tenth of the error: with room for chance.
    assert errors[1] < min(0.3 * errors[0], 0.25)


def test_a_layers_fisher_is_a_diagonal_block_of_the_whole(case, rng):
    params, x, targets = draw(case, rng)
    network, loss = case.network, case.loss
    exact = exact_fisher(network, params, x, loss)
    empirical = empirical_fisher(network, params, x, loss, targets)
    for index in range(len(params)):
        own = (network.layer_slice(index),) * 2
        mine = exact_fisher(network, params, x, loss, layer=index)
        assert_close(mine, exact[own])
        mine = empirical_fisher(network, params, x, loss, targets, layer=index)
        assert_close(mine, empirical[own])


def test_blocks_take_the_geometry_of_their_layer(case, rng):
    params, x, _ = draw(case, rng)
    data = exact_sources(case.network, params, x, case.loss)
    for spec, own, each in zip(case.network.param_layers, params, data, strict=True):
        block = block_for(spec, damping_type="exact")
        state = block.update_covs(block.init(own[0]), *each, ema_decay=0.0)
        state = block.update_inverses(state, damping=0.1)
        step = block.multiply_inverse(state, own)
        assert [p.shape for p in step] == list(spec.param_shapes)
        dense = block.full_fisher_block(state)
        assert dense.shape == (spec.num_params, spec.num_params)


def test_blocks_are_chosen_by_the_layer():
    block = block_for(Embedding(5, 2))
    assert isinstance(block, EmbeddingKFACFB)
    assert block.repeated_ids == "count_squared"
    assert block_for(Embedding(5, 2), repeated_ids="n_hot").repeated_ids == "n_hot"
    block = diagonal_block_for(Conv2D((2, 2, 1, 1), strides=(2, 1)))
    assert isinstance(block, ConvDiagonalFB)
    assert block.geometry.strides == (2, 1)
    assert not diagonal_block_for(Dense(2, 1, has_bias=False)).has_bias
    with pytest.raises(ArgumentError, match="Tanh has no parameters"):
        block_for(Tanh())
    with pytest.raises(ArgumentError, match="Embedding has no diagonal block"):
        diagonal_block_for(Embedding(5, 2))
