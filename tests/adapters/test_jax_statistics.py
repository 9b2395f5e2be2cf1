"""Statistics of captured functions are those of the dense Fisher, or of an einsum."""

import jax_models
import numpy as np
import pytest
from jax_truth import dense_fisher, relative

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()
KINDS = [
    "dense",
    "out_in",
    "heads",
    "remat_and_jit",
    "vmap",
    "conv",
    "conv_first",
    "conv_kernel_apart",
    "conv_width_first",
    "embedding",
    "embedding_filled",
]


def fisher(jax, captured, params, inputs, mode="exact", targets=None):
    """Return for each layer its block as a dense matrix, all in one program."""
    from kfac_adapters.jax.linearized import Linearized

    estimator = kc.FisherEstimator(captured.collection, mode)

    def dense(params, inputs):
        state = estimator.init(captured.named(params))
        at = Linearized(captured, params, inputs, targets)
        state = estimator.update_covs(state, at, 0.0)
        return {
            layer.name: layer.block.full_fisher_block(state.blocks[layer.name])
            for layer in estimator.layers
        }

    return jax.jit(dense)(params, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_of_one_case_in_one_place_the_block_is_the_fisher(jax, kind):
    from kfac_adapters.jax import capture

    function, params, x = jax_models.one_case(jax)[kind]
    captured = capture(function, params, x, loss=SOFTMAX)
    (layer,) = captured.collection.layers
    (block,) = fisher(jax, captured, params, (x,)).values()
    truth = jax.jit(lambda p: dense_fisher(jax, captured, p, (x,), layer))(params)
    assert relative(block, truth) < 1e-10


def test_a_scale_and_shift_of_many_cases_is_exact(jax):
    from kfac_adapters.jax import capture

    jnp = jax.numpy
    out = jax_models.numbers(4, 3)

    def function(p, x):
        return (jnp.tanh(x * p["s"] + p["b"]) + p["c"]).mean(1) @ out

    params = {name: jax_models.numbers(4, seed=i) for i, name in enumerate("sbc")}
    x = jax_models.numbers(5, 2, 4)
    exact = {"scale_and_shift": "full", "bias": "full"}
    captured = capture(function, params, x, loss=SOFTMAX, approximations=exact)
    blocks = fisher(jax, captured, params, (x,))
    assert [layer.params for layer in captured.collection.layers] == [
        ("['c']",),
        ("['s']", "['b']"),
    ]
    for layer in captured.collection.layers:
        truth = dense_fisher(jax, captured, params, (x,), layer)
        assert relative(blocks[layer.name], truth) < 1e-10


@pytest.mark.parametrize("case_axes", [None, 1], ids=["mean", "sum over positions"])
def test_of_a_loss_of_positions_the_scale_is_that_of_the_mean_that_is_meant(
    jax, case_axes
):
    from kfac_adapters.jax import capture

    jnp = jax.numpy

    def function(p, x):
        return x @ p["w"]

    x, w = jax_models.numbers(5, 4, 3), jax_models.numbers(3, 2)
    targets = np.random.default_rng(0).integers(0, 2, (5, 4))
    params = {"w": w}
    captured = capture(function, params, x, loss=SOFTMAX, case_axes=case_axes)
    (block,) = fisher(jax, captured, params, (x,), "empirical", targets).values()
    g = jax.nn.softmax(x @ w) - jax.nn.one_hot(targets, 2)
    A = jnp.einsum("nti,ntj->ij", x, x) / 20
    G = jnp.einsum("nti,ntj->ij", g, g) / (20 if case_axes is None else 5)
    assert relative(block, jnp.kron(A, G)) < 1e-10


def test_positions_of_all_sequences_have_the_diagonal_of_their_fisher(jax):
    """They are added to a sequence, whose tokens are the cases, and are mixed."""
    from kfac_adapters.jax import capture
    from kfac_adapters.jax.linearized import Linearized

    jnp, out, draws = jax.numpy, jax_models.numbers(3, 2), 4_000

    def function(p, x):
        h = jnp.tanh(x + p["positions"])
        return (h + h.mean(1, keepdims=True)) @ out

    params = {"positions": jax_models.numbers(1, 2, 3)}
    x = jax_models.numbers(2, 2, 3)
    captured = capture(function, params, x, loss=SOFTMAX)
    estimator = kc.FisherEstimator(captured.collection, "gradients")
    (layer,) = estimator.layers

    def drawn(key):
        state = estimator.init(captured.named(params))
        at = Linearized(captured, params, (x,))
        state = estimator.update_covs(state, at, 0.0, key=key)
        return layer.block.full_fisher_block(state.blocks[layer.name]).diagonal()

    keys = jax.random.split(jax.random.key(0), draws)
    found = jax.jit(jax.vmap(drawn))(keys)
    truth = dense_fisher(jax, captured, params, (x,), layer).diagonal()
    error = found.std(0) / draws**0.5
    assert (abs(found.mean(0) - truth) < 5 * error).all()
    assert (error < 0.05 * truth).all()


def test_uses_of_one_layer_are_summed(jax):
    from kfac_adapters.jax import capture

    jnp = jax.numpy
    out = jax_models.numbers(4, 3)

    def function(p, x):
        y = jnp.tanh(x @ p["w"] + p["b"])
        return (y @ p["w"] + p["b"]) @ out

    params = {"w": jax_models.numbers(4, 4), "b": jax_models.numbers(4)}
    x = jax_models.numbers(6, 4)
    targets = np.random.default_rng(0).integers(0, 3, 6)
    captured = capture(function, params, x, loss=SOFTMAX)
    (block,) = fisher(jax, captured, params, (x,), "empirical", targets).values()
    y = jnp.tanh(x @ params["w"] + params["b"])
    g2 = (jax.nn.softmax(function(params, x)) - jax.nn.one_hot(targets, 3)) @ out.T
    g1 = (g2 @ params["w"].T) * (1 - y**2)
    inputs = jnp.stack([x, y])
    ones = jnp.ones((2, 6, 1))
    inputs = jnp.concatenate([inputs, ones], -1)
    A = jnp.einsum("kni,knj->ij", inputs, inputs) / 12
    G = jnp.einsum("kni,knj->ij", jnp.stack([g1, g2]), jnp.stack([g1, g2])) / 6
    assert relative(block, jnp.kron(A, G)) < 1e-10


def test_a_tied_table_is_one_layer_of_both_uses(jax):
    from kfac_adapters.jax import capture

    jnp = jax.numpy
    params = {"v": jax_models.numbers(5, 3), "b": jax_models.numbers(5)}
    ids = np.asarray([0, 2, 2, 4])
    targets = np.asarray([1, 0, 3, 2])

    def function(p, ids):
        return jnp.tanh(p["v"][ids]) @ p["v"].T + p["b"]

    captured = capture(function, params, ids, loss=SOFTMAX)
    (block,) = fisher(jax, captured, params, (ids,), "empirical", targets).values()
    h = jnp.tanh(params["v"][ids])
    g2 = jax.nn.softmax(function(params, ids)) - jax.nn.one_hot(targets, 5)
    g1 = (g2 @ params["v"]) * (1 - h**2)
    tied = kc.blocks.TiedWeightsKFACFB(5, 3, ("embedding", "transposed"), has_bias=True)
    state = tied.update_covs(
        tied.init(like=h),
        kc.Uses((jnp.asarray(ids), h)),
        kc.Uses((g1, g2)),
        ema_decay=0.0,
    )
    assert relative(block, tied.full_fisher_block(state)) < 1e-10
