import numpy as np
import pytest
from reference_cases import (
    NETWORKS,
    assert_close,
    draw,
    key_of,
    mapped,
    numerical_gradient,
    random_params,
)

from kfac_core.errors import DTypeError, ShapeError
from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    NormalMeanNegativeLogProbLoss,
)
from kfac_core.reference import (
    Conv2D,
    Dense,
    Flatten,
    Sequential,
    Tanh,
    empirical_fisher,
    exact_fisher,
    exact_sources,
)
from kfac_core.registry import backend_of


@pytest.fixture(params=NETWORKS)
def case(request):
    return NETWORKS[request.param]


def loss_of(case, params, x, targets):
    outputs = case.network.forward(params, x).outputs
    return case.loss.evaluate(outputs, targets)


def gradients_of(case, params, x, targets):
    network = case.network
    forward = network.forward(params, x)
    g = case.loss.gradient(forward.outputs, targets)
    return network.backward(params, forward, g).param_gradients


def test_gradient_is_finite_differences(case, rng):
    params, x, targets = draw(case, rng)
    network = case.network
    numerical = numerical_gradient(
        lambda vector: loss_of(case, network.vector_to_params(vector), x, targets),
        network.params_to_vector(params),
    )
    mine = network.params_to_vector(gradients_of(case, params, x, targets))
    assert_close(mine, numerical, 1e-9)


def test_gradient_is_that_of_jax(case, rng, jax):
    params, x, targets = draw(case, rng)
    theirs = jax.jit(jax.grad(lambda p, *data: loss_of(case, p, *data)))(
        params, x, targets
    )
    vector = case.network.params_to_vector
    assert_close(vector(gradients_of(case, params, x, targets)), vector(theirs))


def test_gradient_is_that_of_pytorch(case, rng, torch):
    params, x, targets = mapped(torch.from_numpy, draw(case, rng))
    mapped(torch.Tensor.requires_grad_, params)
    loss_of(case, params, x, targets).backward()
    vector = case.network.params_to_vector
    mine = vector(gradients_of(case, mapped(torch.Tensor.detach, params), x, targets))
    assert_close(mine, vector(mapped(lambda p: p.grad, params)))


def test_case_gradients_are_those_of_each_case_alone(case, rng):
    params, x, targets = draw(case, rng)
    network = case.network
    forward = network.forward(params, x)
    g = case.loss.gradient(forward.outputs, targets)
    rows = network.case_gradients(params, forward, g)
    assert rows.shape == (len(x), network.num_params)
    for n, row in enumerate(rows):
        alone = gradients_of(case, params, x[n : n + 1], targets[n : n + 1])
        assert_close(row, network.params_to_vector(alone))
    for index in range(len(params)):
        own = network.case_gradients(params, forward, g, index)
        assert_close(own, rows[:, network.layer_slice(index)], 0)


def test_a_backward_pass_lists_what_the_layers_with_parameters_saw(case, rng):
    params, x, targets = draw(case, rng)
    network = case.network
    forward = network.forward(params, x)
    g = case.loss.gradient(forward.outputs, targets)
    backward = network.backward(params, forward, g)
    for spec, own, inputs, gradients, of_params in zip(
        network.param_layers, params, *backward, strict=True
    ):
        outputs, cache = spec.forward(own, inputs)
        assert gradients.shape == outputs.shape
        again = spec.param_gradients(cache, gradients)
        for mine, expected in zip(of_params, again, strict=True):
            assert_close(mine, expected)
    assert_close(backward.output_gradients[-1], g, 0)


def test_jacobian_is_that_of_jax(case, rng, jax):
    params, x, _ = draw(case, rng)
    network = case.network

    def outputs_of(vector, x):
        return network.forward(network.vector_to_params(vector), x).outputs

    theirs = jax.jit(jax.jacrev(outputs_of))(network.params_to_vector(params), x)
    jacobian = network.jacobian(params, x)
    assert_close(jacobian, theirs)
    for index in range(len(params)):
        own = network.jacobian(params, x, layer=index)
        assert_close(own, jacobian[:, :, network.layer_slice(index)], 0)


def test_push_forward_is_the_jacobian_times_the_tangent(case, rng):
    params, x, _ = draw(case, rng)
    network = case.network
    forward = network.forward(params, x)
    tangents = random_params(network, rng)
    expected = network.jacobian(params, x) @ network.params_to_vector(tangents)
    assert_close(network.push_forward(params, forward, tangents), expected)


def computed(case, params, x, targets):
    """All that the reference computes, in nested tuples of arrays."""
    network, loss = case.network, case.loss
    forward = network.forward(params, x)
    g = loss.gradient(forward.outputs, targets)
    return (
        forward,
        network.backward(params, forward, g),
        network.case_gradients(params, forward, g),
        network.jacobian(params, x),
        network.push_forward(params, forward, params),
        network.params_to_vector(params),
        loss.evaluate(forward.outputs, targets),
        exact_sources(network, params, x, loss),
        exact_fisher(network, params, x, loss),
        empirical_fisher(network, params, x, loss, targets),
    )


def flattened(tree):
    if not isinstance(tree, tuple):
        return [tree]
    return [leaf for part in tree for leaf in flattened(part)]


def test_all_libraries_compute_the_same(case, rng, library):
    data = draw(case, rng)
    expected = flattened(computed(case, *data))
    there = computed(case, *mapped(library.asarray, data))
    like = library.asarray(np.ones(1))
    for mine, numpys in zip(flattened(there), expected, strict=True):
        assert backend_of(mine, like) is backend_of(like)  # of one device
        assert_close(library.to_numpy(mine), numpys)


def test_jax_computes_the_same_under_jit(case, rng, jax):
    data = draw(case, rng)
    expected = flattened(computed(case, *data))
    compiled = jax.jit(lambda *arrays: computed(case, *arrays))
    there = compiled(*mapped(jax.numpy.asarray, data))
    for mine, numpys in zip(flattened(there), expected, strict=True):
        assert_close(mine, numpys)


def test_single_precision_is_kept(rng, library):
    case = NETWORKS["pooled-gaussian"]
    data = mapped(lambda a: library.asarray(a.astype("float32")), draw(case, rng))

    def run(*arrays):
        return computed(case, *arrays)

    # Compiled whole, JAX is done sooner than operation by operation.
    compiled = backend_of(data.x).jit(run) if library.package == "jax" else run
    there = flattened(compiled(*data))
    assert {a.dtype for a in there} == {data.x.dtype}


def test_parameters_are_drawn_once_for_all_layers(case, library):
    like = library.asarray(np.ones(1))
    network = case.network
    params = network.init(key_of(library), like=like)
    again = network.init(key_of(library), like=like)
    weights = []
    for spec, own, same in zip(network.param_layers, params, again, strict=True):
        assert tuple(p.shape for p in own) == spec.param_shapes
        assert backend_of(like, *own) is backend_of(like)
        assert all(p.dtype == like.dtype for p in own)
        assert_close(library.to_numpy(own[0]), library.to_numpy(same[0]), 0)
        weights.append(library.to_numpy(own[0]).reshape(-1))
    assert len(np.unique(np.concatenate(weights))) == sum(map(len, weights))


def test_a_vector_of_parameters_is_weights_row_major_then_bias():
    network = Sequential((Dense(2, 2), Tanh(), Conv2D((1, 2, 1, 1), has_bias=False)))
    vector = np.arange(8.0)
    params = network.vector_to_params(vector)
    assert_close(params[0][0], [[0, 1], [2, 3]])
    assert_close(params[0][1], [4, 5])
    assert_close(params[1][0].reshape(-1), [6, 7])
    assert_close(network.params_to_vector(params), vector, 0)
    assert network.layer_slice(1) == slice(6, 8)


def test_training_by_gradients_learns(rng):
    images = rng.standard_normal((40, 4, 4, 1))
    targets = (images[:, 1, 1, 0] * images[:, 2, 2, 0] > 0).astype(int)
    network = Sequential(
        (
            Conv2D((2, 2, 1, 4)),
            Tanh(),
            Flatten(),
            Dense(64, 8),
            Tanh(),
            Dense(8, 2),
        )
    )
    loss, params = (
        CategoricalLogitsNegativeLogProbLoss(),
        network.init(rng, like=images),
    )
    for _ in range(150):
        forward = network.forward(params, images)
        g = loss.gradient(forward.outputs, targets) / len(images)
        gradients = network.backward(params, forward, g).param_gradients
        params = tuple(
            tuple(p - d for p, d in zip(own, step, strict=True))
            for own, step in zip(params, gradients, strict=True)
        )
    predicted = network.forward(params, images).outputs.argmax(axis=1)
    assert (predicted == targets).all()


def test_a_network_without_parameters_has_no_tangent():
    network = Sequential([Tanh()])
    forward = network.forward((), np.ones((2, 3)))
    assert not network.push_forward((), forward, ()).any()
    assert network.backward((), forward, np.ones((2, 3))) == ((), (), ())
    assert hash(network) == hash(Sequential((Tanh(),)))


def test_errors_say_what_was_expected(rng):
    network = Sequential((Dense(2, 3), Tanh(), Dense(3, 1)))
    x = np.ones((4, 2))
    params = network.init(rng, like=x)
    forward = network.forward(params, x)
    with pytest.raises(ShapeError, match="parameters of 1 layers, expected of 2"):
        network.forward(params[:1], x)
    with pytest.raises(ShapeError, match=r"g_outputs has shape .*expected \[4, 1\]"):
        network.backward(params, forward, np.ones((4, 2)))
    with pytest.raises(ShapeError, match=r"vector has shape .*expected \[13\]"):
        network.vector_to_params(np.ones(12))
    with pytest.raises(ShapeError, match="Dense: weights"):
        network.push_forward(params, forward, params[::-1])
    with pytest.raises(DTypeError, match="floating-point"):
        network.init(rng, like=np.ones(1, int))
    with pytest.raises(ShapeError, match="targets"):
        NormalMeanNegativeLogProbLoss(var=1.0).gradient(forward.outputs, np.ones(4))
