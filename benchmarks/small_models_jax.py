"""Small models of JAX's libraries, as their users write them, each with a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
from flax import linen, nnx

WORDS, CLASSES, WIDTH, LENGTH = 50, 10, 16, 8


class Training(NamedTuple):
    """A function of parameters, these, and a batch."""

    function: Callable[..., Any]
    params: Any
    x: Any


IMAGES = jax.random.normal(jax.random.key(1), (8, 8, 8, 3))
VECTORS = jax.random.normal(jax.random.key(2), (8, WIDTH))
SEQUENCES = jax.random.normal(jax.random.key(3), (4, LENGTH, WIDTH))
WORDS_IN = jax.random.randint(jax.random.key(4), (4, LENGTH), 0, WORDS)


def _of_linen(model: Any, x: Any) -> Training:
    variables = model.init(jax.random.key(0), x)
    params = variables.pop("params")

    def function(params: Any, x: Any) -> Any:
        return model.apply({"params": params, **variables}, x)

    return Training(function, params, x)


def _of_nnx(model: Any, x: Any) -> Training:
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return Training(lambda own, x: nnx.merge(graph, own, rest)(x), params, x)


def _of_equinox(model: Any, x: Any) -> Training:
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return Training(lambda own, x: jax.vmap(eqx.combine(own, static))(x), params, x)


def _of_haiku(function: Callable[[Any], Any], x: Any) -> Training:
    model = hk.without_apply_rng(hk.transform(function))
    return Training(model.apply, model.init(jax.random.key(0), x), x)


class Residual(linen.Module):
    """A residual network."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """Return logits."""
        x = linen.relu(linen.GroupNorm(2)(linen.Conv(8, (3, 3))(x)))
        y = linen.Conv(8, (3, 3), feature_group_count=2)(x)
        x = linen.BatchNorm(use_running_average=True)(x + y)
        return linen.Dense(CLASSES)(x.mean((1, 2)))


class Words(linen.Module):
    """A transformer of words, with relative positions as those of T5."""

    @linen.compact
    def __call__(self, ids: Any) -> Any:
        """Return logits."""
        table = linen.Embed(WORDS, WIDTH)
        x = table(ids)
        places = jnp.arange(ids.shape[1])
        distances = jnp.clip(places[:, None] - places + 4, 0, 8)
        bias = linen.Embed(9, 2)(distances).transpose(2, 0, 1)
        h = linen.RMSNorm()(x)
        q, k, v = (linen.DenseGeneral((2, WIDTH // 2))(h) for _ in range(3))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) + bias
        o = jnp.einsum("nhqk,nkhd->nqhd", linen.softmax(scores), v)
        x = x + linen.DenseGeneral(WIDTH, axis=(-2, -1))(o)
        return table.attend(linen.LayerNorm()(x))


class Stack(linen.Module):
    """Blocks that are scanned over, checkpointed."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """Return logits."""
        layers = linen.scan(
            linen.remat(Block),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )()
        x, _ = layers(x, None)
        return linen.Dense(CLASSES)(x)


class Block(linen.Module):
    """One block of a stack."""

    @linen.compact
    def __call__(self, x: Any, _: Any) -> tuple[Any, None]:
        """Return what goes into the next block."""
        h = linen.Dense(WIDTH)(linen.gelu(linen.Dense(2 * WIDTH)(linen.LayerNorm()(x))))
        return x + h, None


class Normed(linen.Module):
    """Dense layers in ``linen.WeightNorm``."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """Return logits."""
        x = linen.tanh(linen.WeightNorm(linen.Dense(WIDTH))(x))
        return linen.WeightNorm(linen.Dense(CLASSES))(x)


class Recurrent(linen.Module):
    """An LSTM, whose last state is classified."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """Return logits."""
        return linen.Dense(CLASSES)(linen.RNN(linen.OptimizedLSTMCell(WIDTH))(x)[:, -1])


class Experts(nnx.Module):
    """Experts of which each case takes the best, by a ragged product."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        """Make the router, the experts and the head."""
        self.router = nnx.Linear(WIDTH, 4, rngs=rngs)
        shape = (4, WIDTH, WIDTH)
        self.experts = nnx.Param(jax.random.normal(rngs.params(), shape) / WIDTH**0.5)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Return logits."""
        gates = nnx.softmax(self.router(x))
        best = jnp.argmax(gates, -1)
        order, sizes = jnp.argsort(best), jnp.bincount(best, length=4)
        h = jax.lax.ragged_dot(x[order], self.experts[...], sizes)[jnp.argsort(order)]
        return self.head(nnx.gelu(h) * gates.max(-1, keepdims=True))


class Vision(nnx.Module):
    """A vision transformer: patches, a first token, positions, attention."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        """Make the layers."""
        self.patches = nnx.Conv(3, WIDTH, (2, 2), (2, 2), rngs=rngs)
        self.token = nnx.Param(jnp.zeros((1, 1, WIDTH)))
        self.places = nnx.Param(jax.random.normal(rngs.params(), (1, 17, WIDTH)) / 50)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, WIDTH, decode=False, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Return logits."""
        x = self.patches(x).reshape(len(x), -1, WIDTH)
        token = jnp.tile(self.token[...], (len(x), 1, 1))
        x = jnp.concatenate([token, x], 1) + self.places[...]
        return self.head((x + self.attention(self.norm(x)))[:, 0])


class Local(linen.Module):
    """A kernel for each place."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """Return logits."""
        x = linen.relu(linen.ConvLocal(4, (3, 3), (2, 2))(x))
        return linen.Dense(CLASSES)(x.mean((1, 2)))


class NormedMlp(eqx.Module):
    """Linear layers in Equinox's ``WeightNorm``."""

    layers: list[Any]

    def __init__(self, key: Any) -> None:
        """Make the layers."""
        first, last = jax.random.split(key)
        self.layers = [
            eqx.nn.WeightNorm(eqx.nn.Linear(WIDTH, WIDTH, key=first)),
            eqx.nn.WeightNorm(eqx.nn.Linear(WIDTH, CLASSES, key=last)),
        ]

    def __call__(self, x: Any) -> Any:
        """Return logits of one case."""
        return self.layers[1](jnp.tanh(self.layers[0](x)))


class Attending(eqx.Module):
    """Attention of Equinox, pooled."""

    attention: Any
    norm: Any
    head: Any

    def __init__(self, key: Any) -> None:
        """Make the layers."""
        first, last = jax.random.split(key)
        self.attention = eqx.nn.MultiheadAttention(2, WIDTH, key=first)
        self.norm = eqx.nn.LayerNorm(WIDTH)
        self.head = eqx.nn.Linear(WIDTH, CLASSES, key=last)

    def __call__(self, x: Any) -> Any:
        """Return logits of one sequence."""
        h = jax.vmap(self.norm)(x)
        return self.head((x + self.attention(h, h, h)).mean(0))


def _convolutional(key: Any) -> Any:
    keys = jax.random.split(key, 3)
    return eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 8, 3, key=keys[0]),
            eqx.nn.GroupNorm(2, 8),
            eqx.nn.Lambda(eqx.nn.PReLU()),  # takes no key, as a sequence gives
            eqx.nn.ConvTranspose2d(8, 4, 2, 2, key=keys[1]),
            eqx.nn.Lambda(lambda x: x.mean((1, 2))),
            eqx.nn.Linear(4, CLASSES, key=keys[2]),
        ]
    )


def _of_haiku_images(x: Any) -> Any:
    x = jax.nn.relu(hk.LayerNorm(-1, True, True)(hk.Conv2D(8, 3)(x)))
    x = hk.DepthwiseConv2D(1, 3)(x)
    return hk.Linear(CLASSES)(x.mean((1, 2)))


def _of_haiku_words(ids: Any) -> Any:
    x = hk.Embed(WORDS, WIDTH)(ids)
    x = x + hk.get_parameter(
        "places", (LENGTH, WIDTH), init=hk.initializers.RandomNormal()
    )
    h = hk.RMSNorm(-1)(x)
    x = x + hk.MultiHeadAttention(2, WIDTH // 2, w_init_scale=1.0, model_size=WIDTH)(
        h, h, h
    )
    return hk.Linear(WORDS)(x)


def _of_haiku_sequences(x: Any) -> Any:
    core = hk.GRU(WIDTH)
    outputs, _ = hk.dynamic_unroll(
        core, x, core.initial_state(len(x)), time_major=False
    )
    return hk.Linear(CLASSES)(outputs[:, -1])


def models() -> dict[tuple[str, str], Callable[[], Training]]:
    """Return the models: for a library and a name, what makes a model and a batch."""
    rows = VECTORS
    first = IMAGES.transpose(0, 3, 1, 2)
    return {
        ("Flax linen", "residual network"): lambda: _of_linen(Residual(), IMAGES),
        ("Flax linen", "transformer, relative positions"): lambda: _of_linen(
            Words(), WORDS_IN
        ),
        ("Flax linen", "scanned stack, checkpointed"): lambda: _of_linen(
            Stack(), SEQUENCES
        ),
        ("Flax linen", "WeightNorm"): lambda: _of_linen(Normed(), rows),
        ("Flax linen", "LSTM"): lambda: _of_linen(Recurrent(), SEQUENCES),
        ("Flax linen", "ConvLocal"): lambda: _of_linen(Local(), IMAGES),
        ("Flax nnx", "experts"): lambda: _of_nnx(Experts(nnx.Rngs(0)), rows),
        ("Flax nnx", "vision transformer"): lambda: _of_nnx(
            Vision(nnx.Rngs(0)), IMAGES
        ),
        ("Equinox", "MLP"): lambda: _of_equinox(
            eqx.nn.MLP(WIDTH, CLASSES, 32, 2, key=jax.random.key(0)), rows
        ),
        ("Equinox", "WeightNorm"): lambda: _of_equinox(
            NormedMlp(jax.random.key(0)), rows
        ),
        ("Equinox", "attention"): lambda: _of_equinox(
            Attending(jax.random.key(0)), SEQUENCES
        ),
        ("Equinox", "convolutions, PReLU"): lambda: _of_equinox(
            _convolutional(jax.random.key(0)), first
        ),
        ("Haiku", "depthwise convolutions"): lambda: _of_haiku(
            _of_haiku_images, IMAGES
        ),
        ("Haiku", "transformer"): lambda: _of_haiku(_of_haiku_words, WORDS_IN),
        ("Haiku", "GRU"): lambda: _of_haiku(_of_haiku_sequences, SEQUENCES),
    }
