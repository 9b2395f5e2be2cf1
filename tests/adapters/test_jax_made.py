"""Weights that a function makes of a parameter alone, against truth by autograd."""

import jax_models
import numpy as np
import pytest
from jax_truth import dense_fisher, relative
from test_jax_statistics import fisher

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()
OUT = jax_models.numbers(4, 3, seed=1)
ROWS, COLUMNS = (jax_models.numbers(*shape, seed=8) + 1 for shape in ((5, 1), (1, 4)))
MASK = (jax_models.numbers(5, 4, seed=3) > 0) * 1.0
FULL = {"scale_and_shift": "full", "bias": "full"}


def norm(jax, w, **options):
    return jax.numpy.linalg.norm(w, **options)


# Each is a product of what is along inputs and what is along outputs.
MADE = {
    "1 - w": lambda jax, w: 1 - w,
    "2.5 w": lambda jax, w: 2.5 * w,
    "w / 3 + an array": lambda jax, w: w / 3.0 + MASK,
    "by inputs": lambda jax, w: w * ROWS,
    "by outputs": lambda jax, w: COLUMNS * w,
    "by both": lambda jax, w: 1 - COLUMNS * w * ROWS,
    "of a transpose": lambda jax, w: (COLUMNS.T * w.T).T,
    "by a norm without derivative": lambda jax, w: (
        w / jax.lax.stop_gradient(norm(jax, w @ np.ones(4)))
    ),
    "in jit": lambda jax, w: jax.jit(lambda own: 2.0 * own)(w),
    "in a checkpoint": lambda jax, w: jax.checkpoint(lambda own: COLUMNS * own)(w),
}


def dense(jax, make):
    def function(p, x):
        return jax.numpy.tanh(x @ make(jax, p["w"]) + p["b"]) @ OUT

    return function, {"w": jax_models.numbers(5, 4), "b": jax_models.numbers(4)}


def assert_exact(jax, function, params, x, share=1.0):
    from kfac_adapters.jax import capture

    captured = capture(function, params, x, loss=SOFTMAX, approximations=FULL)
    assert captured.coverage.share == share
    blocks = fisher(jax, captured, params, (x,))
    for layer in captured.collection.layers:
        truth = dense_fisher(jax, captured, params, (x,), layer)
        assert relative(blocks[layer.name], truth) < 1e-10
    return captured


@pytest.mark.parametrize("kind", MADE)
def test_weight_of_a_layer_has_the_fisher_of_the_parameter(jax, kind):
    assert_exact(jax, *dense(jax, MADE[kind]), jax_models.numbers(1, 5))


def convolution(jax, p, x):
    kernel = p["w"] * COLUMNS[0] * jax_models.numbers(3, 1, seed=4)
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.numpy.tanh(y).reshape(len(x), 4) @ OUT


def lookup(jax, p, ids):
    return jax.numpy.tanh((p["w"] * ROWS)[ids]) @ OUT


def scale(jax, p, x):
    y = x * jax.numpy.exp(p["s"]) + jax.nn.softplus(p["t"])
    return jax.numpy.tanh(y) @ OUT


def quotients(jax, p, x):
    return jax.numpy.tanh(x / (1 + p["s"] ** 2) - p["t"]) @ OUT


def of_quotients(jax, p, x):
    return jax.numpy.tanh(p["s"] / (1 + x**2) + (p["t"] - x @ OUT[:, :1])) @ OUT


def scale_by_one_more(jax, p, x):
    return jax.numpy.tanh(x * (1 + p["s"]) + p["t"]) @ OUT


VECTORS = {"s": jax_models.numbers(4), "t": jax_models.numbers(4, seed=1)}
KINDS = {
    "convolution": (
        convolution,
        {"w": jax_models.numbers(2, 2, 3, 4)},
        jax_models.numbers(1, 2, 2, 3),
    ),
    "embedding": (lookup, {"w": jax_models.numbers(5, 4)}, np.asarray([2])),
    "exponentials": (scale, VECTORS, jax_models.numbers(6, 4)),
    "quotients": (quotients, VECTORS, jax_models.numbers(6, 4)),
    "of quotients": (of_quotients, VECTORS, jax_models.numbers(6, 4)),
    "1 + w": (scale_by_one_more, VECTORS, jax_models.numbers(6, 4)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_layers_have_it_too(jax, kind):
    function, params, x = KINDS[kind]
    assert_exact(jax, lambda p, x: function(jax, p, x), params, x)


UNLIKE = {"a mask": lambda jax, w: w * MASK, "exp": lambda jax, w: jax.numpy.exp(w)}


@pytest.mark.parametrize("kind", UNLIKE)
def test_what_leaves_no_kronecker_product_is_named_and_has_its_policy(jax, kind):
    from kfac_adapters.jax import Curvature, capture

    function, params = dense(jax, UNLIKE[kind])
    x = jax_models.numbers(6, 5)
    with pytest.raises(
        kc.errors.RegistrationError, match=r"\['w'\].*no Kronecker product.*'diagonal'"
    ):
        capture(function, params, x, loss=SOFTMAX)
    captured = capture(function, params, x, loss=SOFTMAX, unclaimed="diagonal")
    assert "diagonal of the summed gradient" in str(captured.coverage)
    curvature = Curvature(captured, damping=0.1)
    state = curvature.update_curvature(
        curvature.init(params), params, (x,), key=jax.random.key(0)
    )
    found = curvature.precondition(state, params)["w"]
    assert (found / params["w"] > 0).all()


def unit(jax, v):
    return v * jax.lax.rsqrt((v * v).sum(0, keepdims=True) + 1e-12)


NORMED = {
    "as Flax": (lambda jax, v, g: unit(jax, v) * g, 1e-10),
    "as Equinox": (
        lambda jax, v, g: v * g / norm(jax, v, axis=0, keepdims=True),
        1e-12,
    ),
    "lengths first": (lambda jax, v, g: (g / norm(jax, v, axis=0)) * v, 1e-12),
    "transposed": (
        lambda jax, v, g: (v.T * (g / norm(jax, v, axis=0))[:, None]).T,
        1e-12,
    ),
}


@pytest.mark.parametrize("kind", NORMED)
def test_step_of_a_normed_weight_is_that_without_a_norm(jax, kind):
    """By the change of the weight that the steps of length and direction make."""
    from kfac_adapters.jax import Curvature, capture

    make, bound = NORMED[kind]
    b, x = jax_models.numbers(4), jax_models.numbers(6, 5)
    v, g = jax_models.numbers(5, 4), jax_models.numbers(4) - 1

    def step(function, params):
        captured = capture(function, params, x, loss=SOFTMAX)
        assert captured.coverage.share == 1
        curvature = Curvature(captured, damping=0.1, estimation_mode="exact")

        @jax.jit
        def of(params):
            state = curvature.update_curvature(curvature.init(params), params, (x,))
            gradients = jax.grad(lambda p: (function(p, x) ** 2).mean())(params)
            return curvature.precondition(state, gradients, params=params)

        return of(params)

    def layer(w, b, x):
        return jax.numpy.tanh(x @ w + b) @ OUT

    plain = step(lambda p, x: layer(p["w"], p["b"], x), {"w": make(jax, v, g), "b": b})
    params = {"v": v, "g": g, "b": b}
    normed = step(lambda p, x: layer(make(jax, p["v"], p["g"]), p["b"], x), params)
    _, change = jax.jvp(
        lambda v, g: make(jax, v, g), (v, g), (normed["v"], normed["g"])
    )
    assert relative(change, plain["w"]) < bound
    assert relative(normed["b"], plain["b"]) < bound


def test_of_one_case_a_normed_weight_has_the_fisher_of_the_weight(jax):
    def function(p, x):
        return jax.numpy.tanh(x @ (unit(jax, p["v"]) * p["g"])) @ OUT

    params = {"v": jax_models.numbers(5, 4), "g": jax_models.numbers(4) + 1}
    captured = assert_exact(jax, function, params, jax_models.numbers(1, 5))
    assert "['v'], ['g']" in str(captured.coverage)


def test_whole_steps_of_a_normed_weight_are_those_without_a_norm(jax):
    from kfac_adapters.jax import Batch, Kfac, capture

    x, y = jax_models.numbers(6, 5), np.asarray([0, 1, 2, 0, 1, 2])
    v, g = jax_models.numbers(5, 4), jax_models.numbers(4) + 1

    def trained(function, params):
        captured = capture(function, params, x, loss=SOFTMAX)
        optimizer = Kfac(captured, momentum_type="qmodel", damping=1.0)
        state, step = optimizer.init(params), jax.jit(optimizer.step)
        for t in range(3):
            key = jax.random.key(t)
            state, params, _ = step(state, params, Batch((x,), y), key=key)
        return function(params, x)

    plain = trained(
        lambda p, x: jax.numpy.tanh(x @ p["w"]) @ OUT, {"w": unit(jax, v) * g}
    )
    normed = trained(
        lambda p, x: jax.numpy.tanh(x @ (unit(jax, p["v"]) * p["g"])) @ OUT,
        {"v": v, "g": g},
    )
    assert relative(normed, plain) < 1e-9


def test_of_a_sum_of_parameters_the_first_is_the_layer(jax):
    """As the weight of a sum with a product of low rank."""
    from kfac_adapters.jax import capture

    params = {"w": jax_models.numbers(5, 4), "a": jax_models.numbers(5, 1)}
    params["b"], x = jax_models.numbers(1, 4), jax_models.numbers(1, 5)

    def function(p, x):
        return jax.numpy.tanh(x @ (p["w"] + p["a"] @ p["b"])) @ OUT

    match = r"^2 parameters .*\['a'\].* to another parameter"
    with pytest.raises(kc.errors.RegistrationError, match=match):
        capture(function, params, x, loss=SOFTMAX)
    captured = capture(function, params, x, loss=SOFTMAX, unclaimed="ignore")
    (layer,) = captured.collection.layers
    truth = dense_fisher(jax, captured, params, (x,), layer)
    assert relative(fisher(jax, captured, params, (x,))["['w']"], truth) < 1e-10


def untold(jax):
    """Products that are no length and direction, or are not told."""
    jnp = jax.numpy
    return {
        "no norm": (lambda v, g: v * g, True, "several entries or parameters"),
        "another norm": (
            lambda v, g: v * g / jnp.abs(v).sum(0),
            True,
            "not the sum over",
        ),
        "not verified": (lambda v, g: unit(jax, v) * g, False, "verify=True alone"),
    }


@pytest.mark.parametrize("kind", ["no norm", "another norm", "not verified"])
def test_other_products_of_parameters_are_no_layers(jax, kind):
    from kfac_adapters.jax import capture

    make, verify, match = untold(jax)[kind]
    params = {"v": jax_models.numbers(5, 3), "g": jax_models.numbers(3) + 1}
    with pytest.raises(kc.errors.RegistrationError, match=match):
        capture(
            lambda p, x: x @ make(p["v"], p["g"]),
            params,
            jax_models.numbers(6, 5),
            loss=SOFTMAX,
            verify=verify,
        )


def test_gradients_alone_do_not_tell_a_normed_weight(jax):
    from kfac_adapters.jax import Curvature, capture

    params = {"v": jax_models.numbers(5, 3), "g": jax_models.numbers(3) + 1}
    captured = capture(
        lambda p, x: x @ (unit(jax, p["v"]) * p["g"]),
        params,
        jax_models.numbers(6, 5),
        loss=SOFTMAX,
    )
    curvature = Curvature(captured)
    with pytest.raises(kc.errors.ArgumentError, match=r"\['v'\].*give params="):
        curvature.precondition(curvature.init(params), params)
