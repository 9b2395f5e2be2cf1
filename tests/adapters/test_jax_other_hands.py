"""Models of Flax and Equinox are captured whole, where these are installed."""

import jax_models
import pytest

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()

# What these libraries warn of is their own affair.
pytestmark = pytest.mark.filterwarnings("default")


def test_a_model_of_flax_nnx(jax):
    from kfac_adapters.jax import capture

    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.table = nnx.Embed(11, 8, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 8, rngs=rngs, decode=False)
            self.norm = nnx.LayerNorm(8, rngs=rngs)

        def __call__(self, ids):
            return self.table.attend(self.norm(self.attention(self.table(ids))))

    graph, params, rest = nnx.split(Model(nnx.Rngs(0)), nnx.Param, ...)
    captured = capture(
        lambda params, ids: nnx.merge(graph, params, rest)(ids),
        params,
        jax.numpy.arange(10).reshape(2, 5),
        loss=SOFTMAX,
    )
    assert captured.coverage.share == 1


def test_a_model_of_flax_linen(jax):
    from kfac_adapters.jax import capture

    nn = pytest.importorskip("flax.linen")

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.GroupNorm(2)(nn.relu(nn.Conv(4, (3, 3), strides=2)(x)))
            return nn.Dense(3)(x.mean((1, 2)))

    model, x = Model(), jax_models.numbers(3, 6, 6, 2)
    params = model.init(jax.random.key(0), x)
    captured = capture(model.apply, params, x, loss=SOFTMAX)
    assert captured.coverage.share == 1


def test_a_model_of_equinox(jax):
    from kfac_adapters.jax import capture

    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(4, 3, 5, 1, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    captured = capture(
        lambda params, x: jax.vmap(eqx.combine(params, static))(x),
        params,
        jax_models.numbers(6, 4),
        loss=SOFTMAX,
    )
    assert captured.coverage.share == 1


def test_a_scanned_stack_of_flax_linen_and_a_normed_layer(jax):
    from kfac_adapters.jax import capture

    nn = pytest.importorskip("flax.linen")

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + nn.Dense(4)(nn.gelu(nn.LayerNorm()(x))), None

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            rngs = {"params": True}
            stack = nn.scan(
                Block, variable_axes={"params": 0}, split_rngs=rngs, length=3
            )
            return nn.WeightNorm(nn.Dense(3))(stack()(x, None)[0])

    model, x = Model(), jax_models.numbers(6, 4)
    params = model.init(jax.random.key(0), x)
    captured = capture(model.apply, params, x, loss=SOFTMAX)
    assert captured.coverage.share == 1
    blocks = [type(layer.block).__name__ for layer in captured.collection.layers]
    assert blocks.count("FullyConnectedKFACBasicFB") == 4


def test_convolutions_and_a_normed_layer_of_equinox(jax):
    from kfac_adapters.jax import capture

    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 2)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(2, 4, 2, key=keys[0]),
            eqx.nn.Lambda(lambda x: jax.numpy.tanh(x).mean((1, 2))),
            eqx.nn.WeightNorm(eqx.nn.Linear(4, 3, key=keys[1])),
        ]
    )
    params, static = eqx.partition(model, eqx.is_inexact_array)
    captured = capture(
        lambda params, x: jax.vmap(eqx.combine(params, static))(x),
        params,
        jax_models.numbers(6, 2, 3, 3),
        loss=SOFTMAX,
    )
    assert captured.coverage.share == 1
