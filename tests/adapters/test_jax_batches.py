"""Ensembles that are mapped over, batches on several devices, weights of positions."""

import os
import subprocess
import sys
from pathlib import Path

import jax_models
import numpy as np
import pytest
from jax_truth import relative

import kfac_core as kc

pytest.importorskip("jax")
SOFTMAX = kc.losses.CategoricalLogitsNegativeLogProbLoss()
X, Y = jax_models.numbers(8, 5), np.random.default_rng(0).integers(0, 3, 8)
PARAMS = {
    "w": jax_models.numbers(5, 4),
    "b": jax_models.numbers(4),
    "v": jax_models.numbers(4, 3),
}


def network(p, x):
    import jax

    return jax.numpy.tanh(x @ p["w"] + p["b"]) @ p["v"]


def stepper(params=PARAMS, x=X):
    """Return a function from parameters and a batch to a preconditioned vector."""
    from kfac_adapters.jax import Curvature, capture

    captured = capture(network, params, x, loss=SOFTMAX, verify=False)
    curvature = Curvature(
        captured, damping=0.1, invert_every=1, estimation_mode="empirical"
    )

    def step(params, x, y):
        state = curvature.init(params)
        state = curvature.update_curvature(state, params, (x,), targets=y)
        return curvature.precondition(state, params)

    return step


def test_an_ensemble_that_is_mapped_over_is_each_of_its_members(jax):
    step = stepper()
    scales = np.asarray([1.0, 0.5])
    members = {n: scales.reshape(-1, *[1] * p.ndim) * p for n, p in PARAMS.items()}
    found = jax.jit(jax.vmap(step, in_axes=(0, None, None)))(members, X, Y)
    alone = jax.jit(step)
    for number in range(2):
        own = alone({n: p[number] for n, p in members.items()}, X, Y)
        for name, array in own.items():
            assert relative(found[name][number], array) < 1e-10


def test_within_shard_map_and_pmap_it_is_refused_by_name(jax):
    step, mesh = stepper(), jax.make_mesh((1,), ("data",))
    spec = jax.sharding.PartitionSpec
    mapped = jax.shard_map(step, mesh=mesh, in_specs=spec(), out_specs=spec())
    with pytest.raises(kc.errors.ArgumentError, match=r"\['data'\].*jax\.jit"):
        jax.eval_shape(mapped, PARAMS, X, Y)


MANY = """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import test_jax_batches as own

step = jax.jit(own.stepper())
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec("data"))
found = step(own.PARAMS, *(jax.device_put(x, split) for x in (own.X, own.Y)))
for name, array in step(own.PARAMS, own.X, own.Y).items():
    assert own.relative(found[name], array) < 1e-10, name
assert len(jax.devices()) == 4
"""


def test_a_batch_that_is_split_over_devices_gives_the_step_of_the_whole():
    here = str(Path(__file__).parent)
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=4",
        "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_weights_of_positions_count_as_repeated_positions(jax):
    from kfac_adapters.jax import Curvature, capture

    captured = capture(network, PARAMS, X, loss=SOFTMAX)
    curvature = Curvature(
        captured, damping=0.1, invert_every=1, estimation_mode="empirical"
    )

    @jax.jit
    def step(x, y, weights):
        state = curvature.init(PARAMS)
        state = curvature.update_curvature(
            state, PARAMS, (x,), targets=y, weights=weights
        )
        return curvature.precondition(state, PARAMS)

    weights = np.asarray([0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0])
    places = np.repeat(np.arange(8), weights.astype(int))
    found = step(X, Y, weights)
    expected = step(X[places], Y[places], np.ones(8))
    for name, array in expected.items():
        assert relative(found[name], array) < 1e-10
    other = step(X, Y, np.ones(8))
    assert relative(found["w"], other["w"]) > 1e-3
