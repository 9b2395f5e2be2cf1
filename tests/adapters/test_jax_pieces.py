"""Parameters that are joined, and experts and tables whose rows are no case's alone."""

import jax_models
import numpy as np
import pytest
from jax_truth import dense_fisher, relative
from test_jax_made import assert_exact
from test_jax_statistics import fisher

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()
OUT = jax_models.numbers(4, 3, seed=1)


def with_bias(jnp, p, x):
    bias = jnp.concatenate([p["q"], jnp.zeros(1), p["v"]])
    return jnp.tanh(x @ p["w"] + bias) @ OUT


def of_outputs(jnp, p, x):
    return jnp.tanh(x @ jnp.concatenate([p["a"], p["c"]], 1) + p["b"]) @ OUT


def of_inputs(jnp, p, x):
    return jnp.tanh(x @ jnp.concatenate([p["a"], -p["c"]]) + p["b"]) @ OUT


def stacked(jnp, p, x):
    return jnp.tanh(x + jnp.stack([p["a"], p["c"]]).reshape(4)) @ OUT


def first_token(jnp, p, x):
    token = jnp.broadcast_to(p["t"], (len(x), 1, 4))
    return jnp.tanh(jnp.concatenate([token, x[:, None]], 1)).mean(1) @ OUT


N = jax_models.numbers
JOINED = {
    "bias": (with_bias, {"w": N(5, 4), "q": N(2), "v": N(1)}, N(1, 5)),
    "outputs": (of_outputs, {"a": N(5, 3), "c": N(5, 1), "b": N(4)}, N(1, 5)),
    "inputs": (of_inputs, {"a": N(2, 4), "c": N(3, 4), "b": N(4)}, N(1, 5)),
    "stack": (stacked, {"a": N(2), "c": N(2, seed=1)}, N(6, 4)),
    "first token": (first_token, {"t": N(1, 1, 4)}, N(6, 4)),
}


@pytest.mark.parametrize("kind", JOINED)
def test_each_parameter_that_is_joined_has_its_fisher(jax, kind):
    function, params, x = JOINED[kind]
    assert_exact(jax, lambda p, x: function(jax.numpy, p, x), params, x)


def test_what_is_joined_and_used_otherwise_is_named(jax):
    from kfac_adapters.jax import capture

    jnp = jax.numpy
    with pytest.raises(kc.errors.RegistrationError, match=r"\['a'\].*what is joined"):
        capture(
            lambda p, x: x * jnp.concatenate([p["a"], p["c"]]),
            {"a": N(1), "c": N(2)},
            N(6, 3),
            loss=SOFTMAX,
        )


def attention(jax, p, x, bias):
    """Attention to what is near, by a table of distances."""
    q = x @ p["q"]
    scores = jax.numpy.einsum("nid,njd->nij", q, q) + bias
    return jax.nn.softmax(scores) @ x @ OUT


@pytest.mark.parametrize("case_axes", [None, 1], ids=["tokens", "sequences"])
def test_a_table_of_distances_has_rows_of_all_cases(jax, case_axes):
    from kfac_adapters.jax import capture

    ids = np.arange(3)[:, None] - np.arange(3) + 2
    params, x = {"q": N(4, 4), "t": N(5, 1)}, N(2, 3, 4)
    y = np.asarray([[0, 1, 2], [2, 2, 0]])

    def function(p, x):
        return attention(jax, p, x, p["t"][ids][..., 0])

    captured = capture(function, params, x, loss=SOFTMAX, case_axes=case_axes)
    assert captured.coverage.share == 1
    blocks = fisher(jax, captured, params, (x,), "empirical", y)

    def loss(bias):
        log_p = jax.nn.log_softmax(attention(jax, params, x, bias))
        return -jax.numpy.take_along_axis(log_p, y[..., None], -1).sum()

    g = np.asarray(jax.grad(loss)(params["t"][ids][..., 0])).reshape(-1, 1)
    A = np.diag(np.bincount(ids.ravel(), minlength=5) / 9)
    expected = np.kron(A, g.T @ g / (6 if case_axes is None else 2))
    assert relative(blocks["['t']"], expected) < 1e-10


def test_a_table_of_another_batch_may_have_other_rows(jax):
    from kfac_adapters.jax import Curvature, capture

    def function(p, x):
        ids = np.arange(x.shape[1])[:, None] - np.arange(x.shape[1]) + 3
        return attention(jax, p, x, p["t"][ids][..., 0])

    params = {"q": N(4, 4), "t": N(7, 1)}
    captured = capture(function, params, N(2, 3, 4), loss=SOFTMAX)
    curvature = Curvature(captured, damping=0.1)
    state = curvature.init(params)
    for length in (3, 2):
        x = N(2, length, 4)
        state = curvature.update_curvature(
            state, params, (x,), key=jax.random.key(length)
        )
    assert state.estimator.ok


def experts(jax, p, x, each):
    """A sum of the best experts of each case, whose rows are sorted by expert."""
    jnp = jax.numpy
    chosen = jnp.argsort(x[:, :3], -1)[:, -each:].reshape(-1)
    order, sizes = jnp.argsort(chosen), jnp.bincount(chosen, length=3)
    h = jax.lax.ragged_dot(jnp.repeat(x, each, 0)[order], p["w"], sizes)
    h = jnp.tanh(h)[jnp.argsort(order)].reshape(-1, each, 4)
    return h.sum(1) @ OUT


@pytest.mark.parametrize("each", [1, 2])
def test_each_expert_of_a_ragged_product_has_the_statistics_of_its_rows(jax, each):
    from kfac_adapters.jax import capture

    params, x = {"w": N(3, 4, 4)}, N(7, 4)
    y = np.asarray([0, 1, 2, 0, 1, 2, 1])
    captured = capture(lambda p, x: experts(jax, p, x, each), params, x, loss=SOFTMAX)
    assert captured.coverage.share == 1
    blocks = fisher(jax, captured, params, (x,), "empirical", y)
    chosen = np.argsort(x[:, :3], -1)[:, -each:].reshape(-1)
    rows = np.repeat(x, each, 0)
    p = jax.nn.softmax(experts(jax, params, x, each))
    g = np.repeat((np.asarray(p) - np.eye(3)[y]) @ OUT.T, each, 0)
    for i in range(3):
        own = rows[chosen == i]
        h = g[chosen == i] * (1 - np.tanh(own @ params["w"][i]) ** 2)
        expected = np.kron(own.T @ own / len(own), h.T @ h / 7)
        assert relative(blocks[f"['w'][{i}]"], expected) < 1e-10


def test_an_expert_of_one_case_has_its_fisher_and_one_of_none_a_finite_step(jax):
    from kfac_adapters.jax import Curvature, capture

    params, x = {"w": N(3, 4, 4)}, N(1, 4)
    chosen = int(np.argmax(x[0, :3]))
    captured = capture(lambda p, x: experts(jax, p, x, 1), params, x, loss=SOFTMAX)
    block = fisher(jax, captured, params, (x,))[f"['w'][{chosen}]"]

    def alone(p, x):
        return jax.numpy.tanh(x @ p["w"]) @ OUT

    own = {"w": params["w"][chosen]}
    plain = capture(alone, own, x, loss=SOFTMAX)
    (layer,) = plain.collection.layers
    assert relative(block, dense_fisher(jax, plain, own, (x,), layer)) < 1e-10
    curvature = Curvature(captured, damping=0.1)
    state = curvature.update_curvature(
        curvature.init(params), params, (x,), key=jax.random.key(0)
    )
    assert np.isfinite(curvature.precondition(state, params)["w"]).all()


def unshared(jax, p, x):
    """A convolution with a kernel for each place, as `ConvLocal` of Flax."""
    y = jax.lax.conv_general_dilated_local(
        x, p["w"], (1, 1), "VALID", (2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.numpy.tanh(y).mean((1, 2)) @ OUT


def test_a_kernel_for_each_place_has_its_policy(jax):
    from kfac_adapters.jax import Curvature, capture

    params, x = {"w": N(2, 2, 12, 4)}, N(6, 3, 3, 3)

    def function(p, x):
        return unshared(jax, p, x)

    with pytest.raises(kc.errors.RegistrationError, match=r"\['w'\].*'diagonal'"):
        capture(function, params, x, loss=SOFTMAX)
    captured = capture(function, params, x, loss=SOFTMAX, unclaimed="diagonal")
    curvature = Curvature(captured, damping=0.1)
    state = curvature.update_curvature(
        curvature.init(params), params, (x,), key=jax.random.key(0)
    )
    assert (curvature.precondition(state, params)["w"] / params["w"] > 0).all()
