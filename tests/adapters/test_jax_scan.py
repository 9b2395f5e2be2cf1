"""Layers within `jax.lax.scan`, and slices of a parameter, are layers of their own."""

import jax_models
import numpy as np
import pytest
from jax_truth import dense_fisher, relative
from test_jax_statistics import fisher

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()
OUT = jax_models.numbers(4, 3)


def stack_params(length=3):
    return {
        "w": jax_models.numbers(length, 4, 4),
        "b": jax_models.numbers(length, 4),
        "s": jax_models.numbers(length, 4, seed=3) + 1,
    }


def block(jax, own, x):
    return jax.numpy.tanh((x @ own["w"] + own["b"]) * own["s"])


def scanned(jax, p, x):
    return jax.lax.scan(lambda x, own: (block(jax, own, x), None), x, p)[0] @ OUT


def scanned_remat(jax, p, x):
    step = jax.checkpoint(lambda x, own: (block(jax, own, x), None))
    return jax.lax.scan(step, x, p)[0] @ OUT


def scanned_backwards(jax, p, x):
    def step(x, own):
        return block(jax, own, x), None

    return jax.lax.scan(step, x, p, reverse=True)[0] @ OUT


def scanned_transposed(jax, p, x):
    p = p | {"w": p["w"].transpose(0, 2, 1)}
    return scanned(jax, p, x)


def sliced_before(jax, p, x):
    y = x @ p["w"][0] + p["b"][0]
    halves = jax.numpy.split(p["w"][2], 2, axis=1)
    z = [jax.numpy.tanh(y) @ half for half in halves]
    y = jax.numpy.concatenate(z, -1) @ p["w"][1] + p["b"][1]
    return (x * p["s"][1] + y * p["s"][0] + y**2 * p["s"][2] + p["b"][2]) @ OUT


STACKS = {
    "scan": scanned,
    "checkpoint": scanned_remat,
    "reverse": scanned_backwards,
    "transposed": scanned_transposed,
    "slices": sliced_before,
}


@pytest.mark.parametrize("kind", STACKS)
def test_of_one_case_each_slice_has_the_fisher_as_its_block(jax, kind):
    from kfac_adapters.jax import capture

    params, x = stack_params(), jax_models.numbers(1, 4)
    full = {"scale_and_shift": "full", "bias": "full"}
    captured = capture(
        lambda p, x: STACKS[kind](jax, p, x),
        params,
        x,
        loss=SOFTMAX,
        approximations=full,
    )
    assert captured.coverage.share == 1
    blocks = fisher(jax, captured, params, (x,))
    assert len(blocks) >= 6
    truth = jax.jit(
        lambda p: {
            layer.name: dense_fisher(jax, captured, p, (x,), layer)
            for layer in captured.collection.layers
        }
    )(params)
    for name, found in blocks.items():
        assert relative(found, truth[name]) < 1e-10
    names = list(blocks)
    assert relative(blocks[names[0]], blocks[names[1]]) > 1e-3


def test_gradients_come_back_stacked_as_they_were(jax):
    from kfac_adapters.jax import capture

    params, x = stack_params(), jax_models.numbers(2, 4)
    captured = capture(
        lambda p, x: sliced_before(jax, p, x), params, x, loss=SOFTMAX, verify=False
    )
    zeros = {name: np.zeros(shape) for name, shape in captured.collection.variables}
    named = captured.named(params)
    assert "['w'][2, :, 0:2]" in named
    back = captured.tree(named, params)
    for name, array in params.items():
        np.testing.assert_array_equal(back[name], array)
        assert not captured.tree(zeros, params)[name].any()


def recurrent(jax, p, x, loop):
    jnp = jax.numpy

    def step(h, own):
        return jnp.tanh(own @ p["in"] + h @ p["hidden"] + p["b"]), None

    h = jnp.zeros((x.shape[1], 4), x.dtype)
    if loop:
        for own in x:
            h, _ = step(h, own)
        return h @ OUT
    return jax.lax.scan(step, h, x)[0] @ OUT


def test_a_recurrent_network_is_that_of_its_unrolled_loop(jax):
    from kfac_adapters.jax import capture

    params = {"in": jax_models.numbers(5, 4), "hidden": jax_models.numbers(4, 4)}
    params["b"] = jax_models.numbers(4)
    x = jax_models.numbers(3, 6, 5)
    y = np.random.default_rng(0).integers(0, 3, 6)
    y[2] = -1
    loss = kc.losses.CategoricalLogitsNegativeLogProbLoss(ignore_index=-1)
    found = []
    for loop in (False, True):
        captured = capture(
            lambda p, x, loop=loop: recurrent(jax, p, x, loop), params, x, loss=loss
        )
        assert captured.coverage.share == 1
        found.append(fisher(jax, captured, params, (x,), "empirical", y))
    scan, loop = found
    assert {*scan} == {*loop}
    for name, own in scan.items():
        assert relative(own, loop[name]) < 1e-10


@pytest.mark.parametrize("length", [1, 2])
def test_a_step_preconditions_a_stack(jax, length):
    from kfac_adapters.jax import Curvature, capture

    params, x = stack_params(length), jax_models.numbers(6, 4)
    captured = capture(lambda p, x: scanned(jax, p, x), params, x, loss=SOFTMAX)
    curvature = Curvature(captured)

    @jax.jit
    def step(params):
        state = curvature.init(params)
        state = curvature.update_curvature(state, params, (x,), key=jax.random.key(0))
        return curvature.precondition(state, params), state.estimator.ok

    product, ok = step(params)
    assert ok
    assert {n: p.shape for n, p in product.items()} == {
        n: p.shape for n, p in params.items()
    }


def carried(jax, p, x):
    return jax.lax.scan(lambda w, own: (-w, own @ w), p["w"][0], x[:, None])[1][:, 0]


def twice(jax, p, x):
    def step(c, own):
        return c @ own + c @ p["w"][0], None

    return jax.lax.scan(step, x, p["w"])[0]


def overlapping(jax, p, x):
    return x @ p["w"][0] + x @ p["w"][0, :, ::-1] + (x @ p["w"][1:].sum(0))


def in_while(jax, p, x):
    return jax.lax.while_loop(lambda c: c.sum() < 0, lambda c: c @ p["w"][0], x)


def in_cond(jax, p, x):
    return jax.lax.cond(x.sum() > 0, lambda w: x @ w, lambda w: -x @ w, p["w"][0])


REFUSED = {
    "carry": carried,
    "twice": twice,
    "rev": overlapping,
    "while": in_while,
    "cond": in_cond,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_layer_is_refused_by_name(jax, name):
    from kfac_adapters.jax import capture

    params, x = {"w": jax_models.numbers(2, 4, 4)}, jax_models.numbers(3, 4)
    with pytest.raises(kc.errors.RegistrationError, match=rf"\['w'\].*{name}"):
        capture(
            lambda p, x: REFUSED[name](jax, p, x),
            params,
            x,
            loss=SOFTMAX,
            verify=False,
        )
