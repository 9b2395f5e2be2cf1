"""Records the factors and the exact curvature of kfac-jax, as `record.py` does.

``python tests/presets/record_jax.py`` writes ``recorded/kfac_jax.json``. It is a script
of its own, since kfac-jax needs an older JAX, and no PyTorch.
"""

import importlib.metadata
import json

import jax
import jax.numpy as jnp
import kfac_jax
import numpy as np
from recorded_squares import KINDS, OUT, RECORDED, N, T, inputs_and_targets

DAMPING = 0.01
LENGTHS = (7, 3, 5, 1, 7, 4)
"""Tokens of each case that are no padding, for what is recorded with a mask."""


def layer(kind, params, x):
    if kind != "images":
        return x @ params["w"] + params["b"]
    numbers = jax.lax.conv_dimension_numbers(
        x.shape, params["w"].shape, ("NHWC", "HWIO", "NHWC")
    )
    made = jax.lax.conv_general_dilated(
        x, params["w"], (1, 1), "VALID", dimension_numbers=numbers
    )
    return made + params["b"]


def is_token():
    """Return which tokens are no padding, ``[N, T]``."""
    return np.arange(T) < np.asarray(LENGTHS)[:, None]


def problem(kind):
    """Return a loss with its registration, parameters, and a batch.

    A layer that starts at zero makes no error where the target is zero, too, and
    kfac-jax takes a token without a gradient for padding.
    """
    is_padded = kind == "padded"
    x, targets = inputs_and_targets("tokens" if is_padded else kind)
    targets = targets * is_token()[..., None] if is_padded else targets
    shape = (2, 1, 2, OUT) if kind == "images" else (4, OUT)
    params = {"w": jnp.zeros(shape), "b": jnp.zeros(OUT)}
    numbers = targets[0].size

    def loss(params, batch):
        inputs, targets = batch
        out = layer(kind, params, inputs)
        kfac_jax.register_squared_error_loss(out, targets, weight=1 / numbers)
        return jnp.mean((out - targets) ** 2)

    return loss, params, (jnp.asarray(x), jnp.asarray(targets))


def estimated(make, kind, mode):
    """Return the state of an estimator after one batch."""
    loss, params, batch = problem(kind)
    estimator = make(loss, params_index=0, default_estimation_mode=mode)
    state = estimator.init(
        jax.random.PRNGKey(0),
        (params, batch),
        exact_powers_to_cache=None,
        approx_powers_to_cache=None,
        cache_eigenvalues=False,
    )
    return estimator, estimator.update_curvature_matrix_estimate(
        state,
        ema_old=0.0,
        ema_new=1.0,
        identity_weight=0.0,
        batch_size=N,
        rng=jax.random.PRNGKey(1),
        func_args=(params, batch),
    )


def factors(kind):
    make = kfac_jax.BlockDiagonalCurvature
    _, state = estimated(make, kind, "fisher_empirical")
    (block,) = state.blocks_states
    a, g = (np.asarray(own.value).tolist() for own in block.factors)
    return {"A": a, "G": g}


def products(kind):
    """Return products of a vector with the inverse, damped by pi and exactly."""
    make = kfac_jax.BlockDiagonalCurvature
    estimator, state = estimated(make, kind, "fisher_empirical")
    vector = jax.tree.map(
        lambda p: jnp.linspace(-1, 1, p.size).reshape(p.shape), problem(kind)[1]
    )
    made = {"damping": DAMPING, "vector": listed(vector)}
    for rule in ("pi", "exact"):
        product = estimator.multiply_inverse(
            state,
            vector,
            identity_weight=DAMPING,
            exact_power=rule == "exact",
            use_cached=False,
            pmap_axis_name=None,
        )
        made[rule] = listed(product)
    return made


def listed(params):
    return [np.asarray(params[name]).tolist() for name in ("w", "b")]


BLOCKS = {
    "linear": {
        "tnt": kfac_jax.DenseTNT,
        "diagonal": kfac_jax.DenseDiagonal,
    },
    "images": {"diagonal": kfac_jax.Conv2DDiagonal},
}


def dense(kind, block):
    """Return another block of the layer, dense, the bias before the weights."""
    tag = "dense" if kind == "linear" else "conv2d"

    def make(*args, **options):
        return kfac_jax.BlockDiagonalCurvature(
            *args, layer_tag_to_block_ctor={tag: block}, **options
        )

    estimator, state = estimated(make, kind, "fisher_empirical")
    (found,) = estimator.to_diagonal_block_dense_matrix(state)
    return np.asarray(found)


def exact(kind):
    """Return the exact curvature, dense, with the bias before the weights."""
    estimator, state = estimated(kfac_jax.ExplicitExactCurvature, kind, "ggn_exact")
    (dense,) = estimator.to_diagonal_block_dense_matrix(state)
    return np.asarray(dense)


def main():
    jax.config.update("jax_enable_x64", True)
    recorded = {
        "version": importlib.metadata.version("kfac-jax"),
        "jax": jax.__version__,
        "factors": {"kfac-jax": {kind: factors(kind) for kind in KINDS}},
        "masked tokens": {"mask": is_token().tolist(), **factors("padded")},
        "products": {kind: products(kind) for kind in KINDS},
        "blocks": {
            kind: {name: dense(kind, block).tolist() for name, block in own.items()}
            for kind, own in BLOCKS.items()
        },
        "exact": {kind: exact(kind).tolist() for kind in KINDS},
    }
    path = RECORDED / "kfac_jax.json"
    path.write_text(json.dumps(recorded, sort_keys=True) + "\n")
    print(path)


if __name__ == "__main__":
    main()
