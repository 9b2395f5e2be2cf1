"""The whole optimiser on a pytree: the trajectory of the core's own, in one program."""

import jax_models
import numpy as np
import pytest
from jax_truth import relative

import kfac_core as kc
from kfac_core.reference import Batch as Given
from kfac_core.reference import Dense, Sequential, SequentialModel, Tanh

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()
OPTIONS = {
    "momentum_type": "qmodel",
    "damping": 0.5,
    "adapt_damping": True,
    "damping_adaptation_interval": 2,
    "invert_every": 2,
    "estimation_mode": "exact",
}
W1, B1 = jax_models.numbers(5, 4, seed=1), jax_models.numbers(4, seed=2)
W2, B2 = jax_models.numbers(4, 3, seed=3), jax_models.numbers(3, seed=4)
X, Y = jax_models.numbers(8, 5), np.random.default_rng(0).integers(0, 3, 8)
pytestmark = pytest.mark.filterwarnings("default")


def plain(jax):
    params = {"w1": W1, "b1": B1, "w2": W2, "b2": B2}

    def function(p, x):
        return jax.numpy.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]

    return function, params, lambda p: [p["w1"], p["b1"], p["w2"], p["b2"]]


def linen(jax):
    nn = pytest.importorskip("flax.linen")

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="b")(nn.tanh(nn.Dense(4, name="a")(x)))

    params = {"a": {"kernel": W1, "bias": B1}, "b": {"kernel": W2, "bias": B2}}
    return (
        lambda p, x: Model().apply({"params": p}, x),
        params,
        lambda p: [p[n][own] for n in "ab" for own in ("kernel", "bias")],
    )


def nnx(jax):
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.a = nnx.Linear(5, 4, param_dtype=jax.numpy.float64, rngs=rngs)
            self.b = nnx.Linear(4, 3, param_dtype=jax.numpy.float64, rngs=rngs)

        def __call__(self, x):
            return self.b(nnx.tanh(self.a(x)))

    model = Model(nnx.Rngs(0))
    for layer, w, b in ((model.a, W1, B1), (model.b, W2, B2)):
        layer.kernel[...] = jax.numpy.asarray(w)
        layer.bias[...] = jax.numpy.asarray(b)
    graph, params = nnx.split(model, nnx.Param)
    return (
        lambda p, x: nnx.merge(graph, p)(x),
        params,
        lambda p: [p[n][own][...] for n in "ab" for own in ("kernel", "bias")],
    )


def equinox(jax):
    eqx = pytest.importorskip("equinox")
    jnp = jax.numpy
    model = eqx.nn.MLP(5, 3, 4, 1, activation=jnp.tanh, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    parts = [jnp.asarray(p) for p in (W1.T, B1, W2.T, B2)]
    params = jax.tree.unflatten(jax.tree.structure(params), parts)

    def arrays(p):
        w1, b1, w2, b2 = jax.tree.leaves(p)
        return [w1.T, b1, w2.T, b2]

    return lambda p, x: jax.vmap(eqx.combine(p, static))(x), params, arrays


@pytest.fixture(scope="module")
def expected():
    """Parameters and dampings of twenty steps of the core's optimiser on NumPy."""
    model = SequentialModel(Sequential((Dense(5, 4), Tanh(), Dense(4, 3))))
    collection = model.layer_collection(SOFTMAX)
    optimizer = kc.KfacOptimizer(model, collection, **OPTIONS)
    names = [name for name, _ in collection.variables]
    params = dict(zip(names, (W1, B1, W2, B2), strict=True))
    state, found = optimizer.init(params), []
    for _ in range(20):
        state, params, told = optimizer.step(state, params, Given(X, Y))
        found.append([*(params[name] for name in names), told.damping])
    blocks = [
        layer.block.full_fisher_block(state.estimator.blocks[layer.name])
        for layer in optimizer.estimator.layers
    ]
    return found, blocks


@pytest.mark.parametrize("make", [plain, linen, nnx, equinox])
def test_twenty_steps_are_those_of_the_core_on_numpy(jax, make, expected):
    from kfac_adapters.jax import Batch, Kfac, capture

    function, params, arrays = make(jax)
    captured = capture(function, params, X, loss=SOFTMAX, verify=False)
    optimizer = Kfac(captured, **OPTIONS)
    params = jax.tree.map(jax.numpy.array, params)
    state, traces = optimizer.init(params), []

    def step(state, params, batch):
        traces.append(1)
        return optimizer.step(state, params, batch)

    compiled = jax.jit(step, donate_argnums=(0, 1))
    trajectory, blocks = expected
    for told in trajectory:
        before = jax.tree.leaves((state, params))
        state, params, stats = compiled(state, params, Batch((X,), Y))
        assert all(leaf.is_deleted() for leaf in before)
        for own, other in zip([*arrays(params), stats.damping], told, strict=True):
            assert relative(own, other) < 1e-8
    assert len(traces) == 1
    assert bool(stats.ok)
    for layer, block in zip(optimizer.core.estimator.layers, blocks, strict=True):
        own = state.estimator.blocks[layer.name]
        if layer.block.layout == "in_out":
            assert relative(layer.block.full_fisher_block(own), block) < 1e-10


def test_a_loss_and_a_gradient_of_the_users_own_are_taken(jax):
    from kfac_adapters.jax import Batch, Kfac, capture

    function, params, _ = plain(jax)
    params = jax.tree.map(jax.numpy.asarray, params)

    def loss_fn(p, batch):
        logits = function(p, *batch.inputs)
        picked = jax.numpy.take_along_axis(logits, batch.targets[:, None], 1)[:, 0]
        nll = (jax.nn.logsumexp(logits, axis=1) - picked).mean()
        return nll + 0.05 * sum((leaf**2).sum() for leaf in jax.tree.leaves(p))

    captured = capture(function, params, X, loss=SOFTMAX, verify=False)
    optimizer = Kfac(
        captured,
        learning_rate=0.1,
        damping=0.1,
        momentum_type="regular",
        estimation_mode="empirical",
        loss_fn=loss_fn,
    )

    traces = []

    @jax.jit
    def step(state, params, rate):
        traces.append(1)
        batch = Batch((X,), Y)
        gradient = jax.grad(loss_fn)(params, batch)
        return optimizer.step(
            state, params, batch, gradient=gradient, learning_rate=rate
        )

    state = optimizer.init(params)
    state, new, stats = step(state, params, 0.1)
    assert stats.loss == pytest.approx(float(loss_fn(params, Batch((X,), Y))))
    _, _, after = step(state, new, 0.05)
    assert after.loss < stats.loss
    assert after.learning_rate == pytest.approx(0.05)
    assert len(traces) == 1  # a number that changes is no other program
    assert step._cache_size() == 1  # nor are states that steps return


def test_what_it_has_no_step_for_is_refused_by_name(jax):
    from kfac_adapters.jax import Kfac, capture

    def function(p, x):
        return jax.numpy.sin(p["t"] ** x) @ p["w"]

    params = {"w": W1, "t": np.asarray(2.0)}
    captured = capture(
        function, params, X, loss=SOFTMAX, verify=False, unclaimed="identity"
    )
    with pytest.raises(kc.errors.RegistrationError, match=r"\['t'\].*identity"):
        Kfac(captured, damping=1.0, momentum_type="qmodel")


@pytest.mark.parametrize("given", [(X, Y), None])
def test_what_is_no_batch_is_refused(jax, given):
    from kfac_adapters.jax import Kfac, capture

    function, params, _ = plain(jax)
    captured = capture(function, params, X, loss=SOFTMAX, verify=False)
    optimizer = Kfac(captured, damping=1.0, momentum_type="qmodel")
    with pytest.raises(kc.errors.ArgumentError, match=r"batch is a .*Batch\(inputs"):
        optimizer.step(optimizer.init(params), params, given)


@pytest.mark.parametrize("given", ["float32 and float64", "bfloat16 and float32"])
def test_of_mixed_precision_parameters_keep_theirs_and_numbers_have_single(jax, given):
    from kfac_adapters.jax import Batch, Kfac, capture

    of_params, of_data = given.split(" and ")
    function, params, _ = plain(jax)
    params = {n: jax.numpy.asarray(p, of_params) for n, p in params.items()}
    x = jax.numpy.asarray(X, of_data)
    captured = capture(function, params, x, loss=SOFTMAX, verify=False)
    optimizer = Kfac(
        captured, momentum_type="qmodel", damping=1.0, estimation_mode="empirical"
    )

    def stepped(params, x):
        return optimizer.step(optimizer.init(params), params, Batch((x,), Y))

    state, new, stats = jax.eval_shape(stepped, params, x)
    assert {str(p.dtype) for p in new.values()} == {of_params}
    dtypes = {str(x.dtype) for x in jax.tree.leaves((state, stats))}
    assert dtypes <= {"float32", "bool", "int64"}
