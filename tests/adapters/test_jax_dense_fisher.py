"""`dense_fisher` of a captured block of a transformer is that of `jax.jacrev`."""

import jax_models
import numpy as np

import kfac_core as kc
from kfac_core.reference import dense_fisher

WIDTH, HEADS, CLASSES = 4, 2, 3


def block(jax):
    """A norm, attention, a residual sum, a norm and a head, pooled over tokens."""
    jnp = jax.numpy

    def norm(x, scale, shift):
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale + shift

    def function(p, x):
        h = norm(x, p["scale"], p["shift"])
        q, k, v = (jnp.einsum("ntd,dhk->nthk", h, p[name]) for name in "qkv")
        a = jax.nn.softmax(jnp.einsum("nthk,nshk->nhts", q, k))
        o = jnp.einsum("nhts,nshk->nthk", a, v)
        x = x + jnp.einsum("nthk,hkd->ntd", o, p["out"])
        x = norm(x, p["last_scale"], p["last_shift"])
        return (x @ p["head"] + p["bias"]).mean(1)

    size = WIDTH // HEADS
    heads = {
        name: jax_models.numbers(WIDTH, HEADS, size, seed=i)
        for i, name in enumerate("qkv")
    }
    params = {
        **heads,
        "scale": jax_models.numbers(WIDTH) + 1,
        "shift": jax_models.numbers(WIDTH, seed=1),
        "out": jax_models.numbers(HEADS, size, WIDTH, seed=3),
        "last_scale": jax_models.numbers(WIDTH, seed=4) + 1,
        "last_shift": jax_models.numbers(WIDTH, seed=5),
        "head": jax_models.numbers(WIDTH, CLASSES, seed=6),
        "bias": jax_models.numbers(CLASSES, seed=7),
    }
    return function, params, jax_models.numbers(3, 5, WIDTH, seed=8)


def captured_at(jax):
    """The layers, the pass, the Jacobian by autograd, probabilities and targets."""
    from kfac_adapters.jax import Batch, CapturedModel, capture

    function, params, x = block(jax)
    softmax = kc.losses.CategoricalLogitsNegativeLogProbLoss()
    captured = capture(function, params, x, loss=softmax, verify=False)
    y = np.asarray([0, 2, 1])
    named = captured.named(params)
    made = CapturedModel(captured, params).linearize(named, Batch((x,), y))
    names = [name for layer in captured.collection.layers for name in layer.params]
    assert sorted(names) == sorted(named)  # nothing is left out

    def logits(own):
        return function(captured.tree(own, params), x)

    j = jax.jit(jax.jacrev(logits))(named)
    rows = [np.asarray(j[name]).reshape(3, CLASSES, -1) for name in names]
    p = np.asarray(jax.nn.softmax(logits(named)))
    return captured.collection, made, np.concatenate(rows, -1), p, y


def near(found, expected):
    error = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    assert error < 1e-10


def test_it_is_that_of_autograd(jax):
    collection, made, j, p, y = captured_at(jax)
    h = np.stack([np.diag(own) - np.outer(own, own) for own in p])
    expected = np.einsum("ncp,ncd,ndq->pq", j, h, j) / len(j)
    for kind in ("fisher", "ggn"):
        near(dense_fisher(collection, made, kind=kind).matrix, expected)
    rows = np.einsum("nc,ncp->np", p - np.eye(CLASSES)[y], j)
    found = dense_fisher(collection, made, kind="empirical").matrix
    near(found, rows.T @ rows / len(rows))
