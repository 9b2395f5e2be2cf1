"""The verbs and the transformation that precondition the gradients of a function."""

import gc
import sys

import jax_models
import numpy as np
import pytest

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()


def network(p, x):
    import jax

    return jax.numpy.tanh(x @ p["w1"] + p["b1"]) @ p["w2"].T


def network_params(dtype="float64"):
    shapes = {"w1": (5, 4), "b1": (4,), "w2": (3, 4)}
    params = {n: jax_models.numbers(*s, seed=1) for n, s in shapes.items()}
    return {n: x.astype(dtype) for n, x in params.items()}


def mean_loss(jax, params, x, y):
    logits = network(params, x)
    picked = jax.numpy.take_along_axis(logits, y[:, None], 1)[:, 0]
    return (jax.nn.logsumexp(logits, axis=1) - picked).mean()


def test_preconditioned_gradients_are_those_of_the_blocks_by_hand(jax):
    from kfac_adapters.jax import Curvature, capture

    jnp = jax.numpy
    params, x = network_params(), jax_models.numbers(8, 5)
    y = np.random.default_rng(0).integers(0, 3, 8)
    captured = capture(network, params, x, loss=SOFTMAX)
    curvature = Curvature(captured, damping=0.1, estimation_mode="empirical")

    @jax.jit
    def ours(params):
        state = curvature.init(params)
        state = curvature.update_curvature(state, params, (x,), targets=y)
        return curvature.precondition(state, params)

    @jax.jit
    def by_hand(params, x):
        h = jnp.tanh(x @ params["w1"] + params["b1"])
        g2 = jax.nn.softmax(h @ params["w2"].T) - jax.nn.one_hot(y, 3)
        g1 = (g2 @ params["w2"]) * (1 - h**2)
        found = {}
        for inputs, g, names in ((x, g1, ("w1", "b1")), (h, g2, ("w2",))):
            block = kc.blocks.FullyConnectedKFACBasicFB(
                inputs.shape[1],
                g.shape[1],
                has_bias=len(names) > 1,
                layout="in_out" if len(names) > 1 else "out_in",
            )
            state = block.update_covs(block.init(like=g), inputs, g, ema_decay=0.0)
            state = block.update_inverses(state, damping=0.1)
            vector = tuple(params[n] for n in names)
            product = block.multiply_inverse(
                state, vector if len(vector) > 1 else vector[0]
            )
            parts = product if len(vector) > 1 else (product,)
            found |= dict(zip(names, parts, strict=True))
        return found

    expected = by_hand(params, x)
    for name, array in ours(params).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-10)


@pytest.fixture
def step(jax):
    """A compiled step of the transformation on float32, and how often it is traced."""
    from kfac_adapters.jax import capture, kfac

    params = network_params("float32")
    x = jax_models.numbers(8, 5).astype("float32")
    captured = capture(network, params, x, loss=SOFTMAX)
    transformation = kfac(captured, invert_every=2, norm_constraint=1e-2)
    traces = []

    def update(params, state, x, y, key, damping, rate):
        traces.append(1)
        gradients = jax.grad(lambda p: mean_loss(jax, p, x, y))(params)
        steps, state = transformation.update(
            gradients,
            state,
            params,
            inputs=(x,),
            key=key,
            damping=damping,
            learning_rate=rate,
        )
        new = jax.tree.map(lambda p, s: p - rate * s, params, steps)
        return new, state

    return params, transformation, jax.jit(update, donate_argnums=(0, 1)), traces


def test_steps_are_one_program_keep_dtypes_leak_nothing_and_descend(jax, step):
    params, transformation, update, traces = step
    params = jax.tree.map(jax.numpy.array, params)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 5)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    first = mean_loss(jax, params, x, y)
    state = transformation.init(params)
    live = []
    for t in range(20):
        key = jax.random.key(t)
        params, state = update(params, state, x, y, key, 0.01 + t * 1e-3, 0.3)
        if t in {2, 19}:
            gc.collect()
            live.append(len(jax.live_arrays()))
    assert len(traces) == 1
    assert {str(p.dtype) for p in params.values()} == {"float32"}
    assert bool(state.estimator.ok)
    assert live[1] <= live[0]
    assert mean_loss(jax, params, x, y) < first


def test_training_beats_the_same_rate_without_it(jax, step):
    params, transformation, update, _ = step
    plain = params
    params = jax.tree.map(jax.numpy.array, params)
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(8, 5)) * [9, 1, 0.1, 1, 1]).astype("float32")
    y = (x[:, 2] * x[:, 0] > 0).astype("int32")
    descend = jax.jit(jax.grad(lambda p: mean_loss(jax, p, x, y)))
    state = transformation.init(params)
    for t in range(60):
        params, state = update(params, state, x, y, jax.random.key(t), 1e-3, 0.3)
        plain = jax.tree.map(lambda p, g: p - 0.3 * g, plain, descend(plain))
    ours, theirs = (float(mean_loss(jax, p, x, y)) for p in (params, plain))
    assert ours < theirs


@pytest.mark.parametrize("unclaimed", ["identity", "ignore"])
def test_a_gradient_in_no_layer_is_left_as_it_is_or_ignored(jax, unclaimed):
    from kfac_adapters.jax import Curvature, capture

    def function(p, x):
        return jax.numpy.sin(p["temperature"] ** x) @ p["w"]

    params = {"w": jax_models.numbers(4, 3), "temperature": np.asarray(2.0)}
    x = jax_models.numbers(6, 4)
    captured = capture(function, params, x, loss=SOFTMAX, unclaimed=unclaimed)
    curvature = Curvature(captured)
    state = curvature.init(params)
    key = jax.random.key(0)
    state = jax.jit(curvature.update_curvature)(state, params, (x,), key=key)
    step = curvature.precondition(state, params)
    assert float(step["temperature"]) == (2.0 if unclaimed == "identity" else 0.0)
    assert 0 < captured.coverage.share < 1


def test_the_optimiser_of_the_core_trains_it(jax):
    from kfac_adapters.jax import Batch, CapturedModel, capture

    params, x = network_params(), jax_models.numbers(8, 5)
    y = (x[:, 0] > 0).astype("int32")
    captured = capture(network, params, x, loss=SOFTMAX)
    optimizer = kc.KfacOptimizer(
        CapturedModel(captured, params),
        captured.collection,
        momentum_type="qmodel",
        damping=0.1,
        adapt_damping=True,
    )
    step = jax.jit(lambda s, p, k: optimizer.step(s, p, Batch((x,), y), key=k))
    named = captured.named(params)
    state, losses = optimizer.init(named), []
    for t in range(8):
        state, named, told = step(state, named, jax.random.key(t))
        losses.append(float(told.loss))
    assert losses[-1] < 0.5 * losses[0]


def test_a_longer_step_than_the_constraint_is_shortened_to_it(jax):
    from kfac_adapters.jax import Curvature, capture

    params, x = network_params(), jax_models.numbers(8, 5)
    captured = capture(network, params, x, loss=SOFTMAX, verify=False)

    def product(limit):
        curvature = Curvature(captured, norm_constraint=limit, learning_rate=0.5)

        def stepped(params):
            state = curvature.init(params)
            key = jax.random.key(0)
            state = curvature.update_curvature(state, params, (x,), key=key)
            step = curvature.precondition(state, params)
            return 0.25 * sum((step[n] * params[n]).sum() for n in params)

        return float(jax.jit(stepped)(params))

    free, limit = product(None), 1e-2
    factor = product(limit) / free
    assert free > limit
    np.testing.assert_allclose(factor**2 * free, limit, rtol=1e-12)
    assert product(1e9) == free


def test_without_optax_it_is_a_pair_of_functions(jax, monkeypatch):
    from kfac_adapters.jax import Transformation, capture, kfac

    monkeypatch.setitem(sys.modules, "optax", None)
    params, x = network_params(), jax_models.numbers(8, 5)
    made = kfac(capture(network, params, x, loss=SOFTMAX, verify=False))
    assert isinstance(made, Transformation)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"params": None}, "params is None"),
        ({"inputs": None}, "inputs is None"),
        ({"key": None}, "draws targets"),
        ({"inputs": np.ones((8, 5))}, "tuple of the"),
        ({"params": {"w1": np.ones((5, 4))}}, "leaves"),
    ],
)
def test_what_is_missing_is_named(jax, given, match):
    from kfac_adapters.jax import capture, kfac

    params, x = network_params(), jax_models.numbers(8, 5)
    made = kfac(capture(network, params, x, loss=SOFTMAX, verify=False))
    state = jax.eval_shape(made.init, params)
    arguments = {"params": params, "inputs": (x,), "key": jax.random.key(0)} | given
    own = arguments.pop("params")
    with pytest.raises(kc.errors.ArgumentError, match=match):
        jax.eval_shape(lambda g, s: made.update(g, s, own, **arguments), params, state)


def test_a_batch_of_another_size_is_no_other_function(jax):
    from kfac_adapters.jax import Curvature, capture

    params, x = network_params(), jax_models.numbers(8, 5)
    captured = capture(network, params, x, loss=SOFTMAX, verify=False)
    curvature = Curvature(captured)
    shapes = jax.eval_shape(
        lambda p, s, x, k: curvature.update_curvature(s, p, (x,), key=k),
        params,
        jax.eval_shape(curvature.init, params),
        x[:3],
        jax.random.key(0),
    )
    assert shapes.count.shape == ()
