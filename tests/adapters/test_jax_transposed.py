"""Transposed convolutions, and a matrix for each head, as layers of JAX."""

import jax_models
import pytest
from jax_truth import dense_fisher, relative
from test_jax_statistics import fisher

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()


def head(jax, y):
    """Return logits that see each number of an output otherwise."""
    flat = jax.numpy.tanh(y.reshape(y.shape[0], -1))
    return flat @ jax_models.numbers(flat.shape[1], 3)


def transposed(jax, steps, kernel, padding, turned):
    """Return a transposed convolution of one location, and its parameters."""

    def function(p, x):
        y = jax.lax.conv_transpose(
            x,
            p["w"],
            (steps, 1),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            transpose_kernel=turned,
        )
        return head(jax, y)

    shape = (kernel, 2, 5, 3) if turned else (kernel, 2, 3, 5)
    return function, {"w": jax_models.numbers(*shape)}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("steps", "kernel", "padding"),
    [(2, 3, "SAME"), (3, 2, "VALID"), (2, 5, "SAME"), (2, 3, "VALID")],
)
def test_of_one_location_a_transposed_convolution_has_the_fisher_as_its_block(
    jax, turned, steps, kernel, padding
):
    from kfac_adapters.jax import capture

    function, params = transposed(jax, steps, kernel, padding, turned)
    x = jax_models.numbers(1, 1, 1, 3)
    captured = capture(function, params, x, loss=SOFTMAX)
    (layer,) = captured.collection.layers
    assert layer.block.mirrored != turned
    (block,) = fisher(jax, captured, params, (x,)).values()
    truth = jax.jit(lambda p: dense_fisher(jax, captured, p, (x,), layer))(params)
    assert relative(block, truth) < 1e-10


def test_a_transposed_convolution_of_many_locations_is_captured_with_its_bias(jax):
    from kfac_adapters.jax import capture

    _, params = transposed(jax, 2, 3, "SAME", False)

    def with_bias(p, x):
        return head(
            jax,
            jax.lax.conv_transpose(
                x, p["w"], (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            + p["b"],
        )

    params |= {"b": jax_models.numbers(5)}
    x = jax_models.numbers(2, 3, 3, 3)
    captured = capture(with_bias, params, x, loss=SOFTMAX)
    (layer,) = captured.collection.layers
    assert layer.params == ("['w']", "['b']")
    (block,) = fisher(jax, captured, params, (x,)).values()
    truth = jax.jit(lambda p: dense_fisher(jax, captured, p, (x,), layer))(params)
    assert relative(block, truth) > 1e-3  # locations are taken to be uncorrelated
    # The bias has a block of its own, which is exact.
    assert relative(block[-5:, -5:], truth[-5:, -5:]) < 1e-10


def per_head(jax, p, x):
    y = jax.numpy.einsum("nhi,hio->nho", x, p["w"])
    return head(jax, y)


def per_head_last(jax, p, x):
    return head(jax, jax.numpy.einsum("ioh,nhi->nho", p["w"], x))


HEADS = {
    "first": (per_head, (3, 4, 2)),
    "last": (per_head_last, (4, 2, 3)),
}


@pytest.mark.parametrize("kind", HEADS)
def test_each_head_has_the_fisher_of_one_case_as_its_block(jax, kind):
    from kfac_adapters.jax import capture

    function, shape = HEADS[kind]
    params, x = {"w": jax_models.numbers(*shape)}, jax_models.numbers(1, 3, 4)
    captured = capture(lambda p, x: function(jax, p, x), params, x, loss=SOFTMAX)
    assert len(captured.collection.layers) == 3
    blocks = fisher(jax, captured, params, (x,))
    for layer in captured.collection.layers:
        truth = jax.jit(
            lambda p, layer=layer: dense_fisher(jax, captured, p, (x,), layer)
        )(params)
        assert relative(blocks[layer.name], truth) < 1e-10


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda jnp, w: jnp.exp(w), "exp"),
        (lambda jnp, w: w / jnp.linalg.norm(w), "div|mul"),
        (lambda jnp, w: jnp.log1p(jnp.exp(w)), "exp"),
        (lambda jnp, w: w[::-1], "dot_general after rev"),
    ],
)
def test_weights_that_are_changed_first_are_no_layer_and_named(jax, change, match):
    from kfac_adapters.jax import capture

    def function(p, x):
        return x @ change(jax.numpy, p["w"])

    params, x = {"w": jax_models.numbers(4, 3)}, jax_models.numbers(2, 4)
    with pytest.raises(kc.errors.RegistrationError, match=rf"\['w'\].*({match})"):
        capture(function, params, x, loss=SOFTMAX, verify=False)
