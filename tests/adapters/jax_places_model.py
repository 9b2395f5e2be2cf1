"""A small network, and its training over eight devices, of one and at each place."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import kfac_core as kc
from kfac_adapters.jax import Curvature, capture

jax.config.update("jax_enable_x64", True)
AUTO, EXPLICIT = (
    jax.make_mesh((8,), ("data",), axis_types=(kind,))
    for kind in (AxisType.Auto, AxisType.Explicit)
)
RNG = np.random.default_rng(0)
CASES, STEPS, RATE = 24, 20, 0.1
X, Y = RNG.normal(size=(CASES, 2, 4)), RNG.integers(0, 3, CASES)
WEIGHTS = RNG.integers(0, 3, CASES) * 0.5
SHAPES = {"w": (4, 5), "b": (5,), "scale": (5,), "v": (5, 3)}
PARAMS = {name: jnp.asarray(RNG.normal(size=s)) for name, s in SHAPES.items()}
ALL = (PARAMS, jnp.asarray(X), jnp.asarray(Y))


def network(p, x):
    hidden = jnp.tanh(x @ p["w"] + p["b"])  # of two positions
    return (hidden * p["scale"]).sum(1) @ p["v"]


def mean_loss(p, x, y):
    return -jnp.mean(jax.nn.log_softmax(network(p, x)) * jax.nn.one_hot(y, 3)) * 3


LOSS = kc.losses.CategoricalLogitsNegativeLogProbLoss()
CAPTURED = capture(network, PARAMS, X, loss=LOSS)
OPTIONS = {"damping": 0.1, "invert_every": 2, "estimation_mode": "empirical"}
WHOLE = Curvature(CAPTURED, **OPTIONS)
SHARDS = Curvature(CAPTURED, **OPTIONS, axis_name="data")
START = WHOLE.init(PARAMS)


def step(curvature, mean_of_loss, mean_of_gradients, state, params, x, y):
    """Return the state and the parameters after a step, and the step."""

    def loss(p):
        return mean_of_loss(mean_loss(p, x, y))

    gradients = mean_of_gradients(jax.grad(loss)(params))
    state = curvature.update_curvature(state, params, (x,), targets=y)
    found = curvature.precondition(state, gradients)
    return state, {n: p - RATE * found[n] for n, p in params.items()}, found


def itself(x):
    return x


def over_places(x):
    return jax.lax.pmean(x, "data")


def run(step, params, x, y):
    """Return the first state and step, and the parameters after the last."""
    state, params, found = step(START, params, x, y)
    first = state, found
    for _ in range(STEPS - 1):
        state, params, _ = step(state, params, x, y)
    return *first, params


def one_device():
    return run(jax.jit(partial(step, WHOLE, itself, itself)), *ALL)


def matrices(state):
    """Return what the statistics are, of each layer."""
    blocks = WHOLE.estimator.blocks
    return {
        f"{name} {factor}": spec.get_cov(own)
        for name, block in blocks.items()
        for factor, (spec, own) in block.factors(state.estimator.blocks[name]).items()
    }


def assert_close(found, expected, bound):
    assert set(found) == set(expected)
    for name, wanted in expected.items():
        np.testing.assert_allclose(
            np.asarray(found[name]), np.asarray(wanted), atol=bound, rtol=0
        )


def mapped(function, in_specs, check_vma=True, mesh=AUTO):
    return jax.jit(
        jax.shard_map(
            function,
            mesh=mesh,
            in_specs=in_specs,
            out_specs=P(),
            check_vma=check_vma,
        )
    )


SPLIT = (P(), P(), P("data"), P("data"))
