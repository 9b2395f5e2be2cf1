"""Functions of JAX as users write them, with parameters and a batch."""

import numpy as np


def numbers(*shape, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return rng.normal(size=shape) / 2


def _conv(jax, x, w, numbers, **kw):
    return jax.lax.conv_general_dilated(x, w, dimension_numbers=numbers, **kw)


def one_case(jax):
    """Return models in which K-FAC is exact: a case uses each layer in one place."""
    jnp = jax.numpy
    out = numbers(4, 3, seed=1)

    def dense(p, x):
        return jnp.tanh(x @ p["w"] + p["b"]) @ out

    def transposed(p, x):
        return jnp.tanh((p["w"] @ x.T).T + p["b"]) @ out

    def heads(p, x):
        y = jnp.einsum("ni,iho->nho", x, p["w"]) + p["b"]
        return jnp.tanh(y.reshape(1, 4)) @ out

    def remat(p, x):
        inner = jax.checkpoint(jax.jit(lambda p, x: jnp.tanh(x @ p["w"] + p["b"])))
        return inner(p, x) @ out

    def mapped(p, x):
        return jax.vmap(lambda own: jnp.tanh(p["w"].T @ own + p["b"]) @ out)(x)

    def channels_last(p, x):
        y = _conv(
            jax,
            x,
            p["w"],
            ("NHWC", "HWIO", "NHWC"),
            window_strides=(2, 2),
            padding="VALID",
            rhs_dilation=(1, 2),
        )
        return jnp.tanh(y + p["b"]).reshape(1, 4) @ out

    def channels_first(p, x):
        y = _conv(
            jax,
            x,
            p["w"],
            ("NCHW", "OIHW", "NCHW"),
            window_strides=(1, 1),
            padding=[(0, 1), (1, 0)],
            rhs_dilation=(2, 2),
        )
        return jnp.tanh(y + p["b"][:, None, None]).reshape(1, 4) @ out

    def kernel_apart(p, x):
        y = _conv(
            jax,
            x,
            p["w"],
            ("CNHW", "HOWI", "HWNC"),
            window_strides=(1, 1),
            padding="VALID",
        )
        return jnp.tanh(y[0, 0] + p["b"]) @ out

    def width_first(p, x):
        y = _conv(
            jax,
            x,
            p["w"],
            ("NHWC", "OWHI", "NHWC"),
            window_strides=(1, 1),
            padding="VALID",
        )
        return jnp.tanh(y + p["b"]).reshape(1, 4) @ out

    def embedding(p, ids):
        return jnp.tanh(p["w"][ids] + 0.0) @ out

    def filled(p, ids):
        rows = p["w"].at[ids].get(mode="fill", fill_value=0)
        return jnp.tanh(rows.sum(1)) @ out

    w, b = numbers(5, 4), numbers(4)
    x = numbers(1, 5)
    return {
        "dense": (dense, {"w": w, "b": b}, x),
        "out_in": (transposed, {"w": w.T, "b": b}, x),
        "heads": (heads, {"w": w.reshape(5, 2, 2), "b": b.reshape(2, 2)}, x),
        "remat_and_jit": (remat, {"w": w, "b": b}, x),
        "vmap": (mapped, {"w": w, "b": b}, x),
        "conv": (
            channels_last,
            {"w": numbers(2, 2, 3, 4), "b": b},
            numbers(1, 2, 3, 3),
        ),
        "conv_first": (
            channels_first,
            {"w": numbers(4, 3, 2, 2), "b": b},
            numbers(1, 3, 2, 2),
        ),
        "conv_kernel_apart": (
            kernel_apart,
            {"w": numbers(2, 4, 3, 5), "b": b},
            numbers(5, 1, 2, 3),
        ),
        "conv_width_first": (
            width_first,
            {"w": numbers(4, 3, 2, 5), "b": b},
            numbers(1, 2, 3, 5),
        ),
        "embedding": (embedding, {"w": numbers(7, 4)}, np.asarray([4])),
        "embedding_filled": (filled, {"w": numbers(7, 4)}, np.asarray([[4, 9]])),
    }


def transformer(jax):
    """Return a pre-norm transformer with heads, a remat MLP and a tied table."""
    jnp = jax.numpy

    def norm(x, scale, shift):
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale + shift

    def function(p, ids):
        x = p["table"][ids] + p["places"][jnp.arange(ids.shape[1])]
        h = norm(x, p["scale"], p["shift"])
        q = jnp.einsum("ntd,dhk->nthk", h, p["query"]) + p["query_bias"]
        k = jnp.einsum("ntd,dhk->nthk", h, p["key"])
        a = jax.nn.softmax(jnp.einsum("nthk,nshk->nhts", q, k))
        o = jnp.einsum("nhts,nshk->nthk", a, k)
        x = x + jnp.einsum("nthk,hkd->ntd", o, p["out"]) + p["out_bias"]
        mlp = jax.checkpoint(
            lambda x: jax.nn.gelu(x @ p["up"] + p["up_bias"]) @ p["down"].T
        )
        return (x + mlp(x)) @ p["table"].T + p["logit_bias"]

    params = {
        "table": numbers(11, 6),
        "places": numbers(4, 6),
        "scale": numbers(6) + 1,
        "shift": numbers(6, seed=1),
        "query": numbers(6, 2, 3),
        "query_bias": numbers(2, 3),
        "key": numbers(6, 2, 3, seed=2),
        "out": numbers(2, 3, 6),
        "out_bias": numbers(6, seed=3),
        "up": numbers(6, 8),
        "up_bias": numbers(8),
        "down": numbers(6, 8, seed=4),
        "logit_bias": numbers(11),
    }
    ids = np.random.default_rng(0).integers(0, 11, (5, 4))
    return function, params, ids


def residual_network(jax):
    """Return a residual network of 32 pixels with normalisation over the batch."""
    jnp = jax.numpy

    def conv(x, w, stride=1, groups=1):
        return _conv(
            jax,
            x,
            w,
            ("NCHW", "OIHW", "NCHW"),
            window_strides=(stride, stride),
            padding=[(1, 1), (1, 1)],
            feature_group_count=groups,
        )

    def norm(x, scale, shift):
        x = x - x.mean((0, 2, 3), keepdims=True)
        x = x / jnp.sqrt((x**2).mean((0, 2, 3), keepdims=True) + 1e-5)
        return x * scale[:, None, None] + shift[:, None, None]

    def function(p, x):
        x = jax.nn.relu(norm(conv(x, p["stem"], 2), p["s1"], p["b1"]))
        y = conv(jax.nn.relu(norm(conv(x, p["c1"]), p["s2"], p["b2"])), p["c2"], 1, 2)
        return (x + y).mean((2, 3)) @ p["head"].T + p["head_bias"]

    params = {
        "stem": numbers(4, 3, 3, 3),
        "c1": numbers(4, 4, 3, 3),
        "c2": numbers(4, 2, 3, 3),
        "s1": numbers(4) + 1,
        "b1": numbers(4, seed=1),
        "s2": numbers(4, seed=2) + 1,
        "b2": numbers(4, seed=3),
        "head": numbers(3, 4),
        "head_bias": numbers(3),
    }
    return function, params, numbers(4, 3, 8, 8)
