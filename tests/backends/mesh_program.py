"""K-FAC over a mesh of eight devices, which XLA makes of one processor.

`test_jax_meshes.py` runs it in a process of its own, since JAX counts its devices once.
It prints the name of each claim that holds.
"""

import sys
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

sys.path.append(str(Path(__file__).parents[1] / "tracing"))
sys.path.append(str(Path(__file__).parents[1] / "optimizer"))

from optimizer_cases import optimizer_of, problem
from traced_cases import BLOCKS, data_of, vector_of

from kfac_core import tree

jax.config.update("jax_enable_x64", True)
KINDS = {"explicit": AxisType.Explicit, "auto": AxisType.Auto}
MESHES = {
    kind: jax.make_mesh((4, 2), ("data", "model"), axis_types=(of,) * 2)
    for kind, of in KINDS.items()
}
MIXED = jax.make_mesh(
    (2, 4), ("data", "model"), axis_types=(AxisType.Explicit, AxisType.Auto)
)
RNG = np.random.default_rng(0)


def batch_of(name):
    return tuple(np.concatenate([x, x, x, x]) for x in data_of(name, RNG))


def step_of(name):
    block = BLOCKS[name]

    def step(state, x, g, vector, damping):
        state = block.update_covs(state, x, g, 0.9)
        state = block.update_inverses(state, damping)
        product = block.multiply_inverse(state, vector)
        return state, product, block.full_fisher_block(state)

    return block, step


def put(mesh, x, *spec):
    return jax.device_put(x, NamedSharding(mesh, P(*spec)))


def check_block(mesh, name, run, *vector_spec, damping=0.1):
    """A block with rows sharded over `data` is the block of one device."""
    (block, step), data, vector = step_of(name), batch_of(name), vector_of(name, RNG)
    _, *expected = step(block.init(np.zeros(1)), *data, vector, float(damping))
    x, g = (put(mesh, part, "data") for part in data)
    placed = tree.map(lambda part: put(mesh, part, *vector_spec), vector)
    state, *found = run(step)(block.init(g), x, g, placed, damping)
    for leaf in tree.leaves(state):
        assert leaf.sharding.mesh.axis_types == mesh.axis_types
        assert leaf.sharding.is_fully_replicated
    for y, wanted in zip(tree.leaves(found[0]), tree.leaves(placed), strict=True):
        assert y.sharding.is_equivalent_to(wanted.sharding, y.ndim) or run is not eager
    for y, wanted in zip(
        tree.leaves(tuple(found)), tree.leaves(tuple(expected)), strict=True
    ):
        np.testing.assert_allclose(np.asarray(y), wanted, atol=1e-11, rtol=1e-11)


def eager(step):
    return step


def optimizer(mesh):
    """A step of the optimiser is that of one device."""

    class OnMesh:
        @staticmethod
        def asarray(x):
            return put(mesh, x, *(("data",) if x.shape[0] == 12 else ()))

    class OnHost:
        asarray = staticmethod(np.asarray)

    made = optimizer_of(momentum_type="qmodel")
    params, batch = problem(OnHost)
    _, expected, _ = made.step(made.init(params), params, batch)
    params, batch = problem(OnMesh)
    _, found, _ = jax.jit(made.step)(made.init(params), params, batch)
    for name, wanted in expected.items():
        np.testing.assert_allclose(np.asarray(found[name]), wanted, atol=1e-11)


def with_settings(mesh):
    """Valid data make no NaN, raise no ranks, and leave no host."""
    for name in ("dense-diagonal", "embedding"):
        with jax.debug_nans(True), jax.numpy_rank_promotion("raise"):
            check_block(mesh, name, jax.jit)


def without_transfers(mesh):
    block, step = step_of("dense")
    x, g = (put(mesh, part, "data") for part in batch_of("dense"))
    vector = tree.map(lambda part: put(mesh, part), vector_of("dense", RNG))
    state, damping = block.init(g), put(mesh, np.float64(0.1))
    compiled = jax.jit(step)
    compiled(state, x, g, vector, damping)
    with jax.transfer_guard("disallow"):
        compiled(state, x, g, vector, damping)


EXPLICIT, AUTO = MESHES["explicit"], MESHES["auto"]
ALONE = jax.make_mesh((1, 1), ("data", "model"), devices=jax.devices()[:1])
CLAIMS = {
    "an explicit mesh without jit": lambda: check_block(EXPLICIT, "dense", eager),
    "a vector that is sharded": lambda: check_block(
        EXPLICIT, "dense-root", jax.jit, None, "model"
    ),
    "an explicit mesh with jit": lambda: check_block(EXPLICIT, "conv", jax.jit),
    "ids": lambda: check_block(EXPLICIT, "embedding", jax.jit),
    "exact damping": lambda: check_block(EXPLICIT, "dense-exact", jax.jit),
    "a mesh of one device": lambda: check_block(ALONE, "dense-diagonal", jax.jit),
    "a mesh in the context": lambda: check_in_context(),
    "axes of both kinds": lambda: check_block(MIXED, "dense", jax.jit),
    "axes of both kinds without jit": lambda: check_block(MIXED, "dense", eager),
    "a device for each batch": lambda: a_device_for_each_batch(),
    "an auto mesh": lambda: check_block(AUTO, "conv", jax.jit),
    "a number that lies nowhere": lambda: check_block(
        EXPLICIT, "dense-diagonal", eager, damping=jnp.float32(0.125)
    ),
    "optimizer": lambda: optimizer(EXPLICIT),
    "settings": lambda: with_settings(EXPLICIT),
    "no transfers": lambda: without_transfers(EXPLICIT),
    "two meshes are refused": lambda: two_meshes(),
}


def a_device_for_each_batch():
    """Under `pmap`, and `vmap` over an axis of a mesh, each device has its own step."""
    block, step = step_of("dense")
    batches = [data_of("dense", RNG) for _ in range(8)]
    vector, state = vector_of("dense", RNG), block.init(np.zeros(1))
    expected = [step(state, x, g, vector, 0.1)[1:] for x, g in batches]
    expected = tree.map(lambda *own: np.stack(own), *expected)
    x, g = (np.stack(own) for own in zip(*batches, strict=True))
    mesh = jax.make_mesh((8,), ("batches",), axis_types=(AxisType.Auto,))
    axes = {"in_axes": (None, 0, 0, None, None)}
    mapped = jax.vmap(step, spmd_axis_name="batches", **axes)
    like = block.init(jnp.asarray(np.zeros(1)))
    damping, vector = jnp.asarray(0.1), tree.map(jnp.asarray, vector)
    found = [jax.pmap(step, **axes)(like, x, g, vector, damping)]
    with jax.set_mesh(mesh):
        rows = (put(mesh, part, "batches") for part in (x, g))
        found.append(jax.jit(mapped)(like, *rows, vector, damping))
    for _, *own in found:
        for y, wanted in zip(
            tree.leaves(tuple(own)), tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(np.asarray(y), wanted, atol=1e-11, rtol=1e-11)


def two_meshes():
    block, (x, g) = BLOCKS["dense"], batch_of("dense")
    other = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Explicit,))
    x, g = put(EXPLICIT, x, "data"), put(other, g, "rows")
    message = r"over two meshes .*'data': 4, 'model': 2.*'rows': 8"
    with pytest.raises(TypeError, match=message):
        block.update_covs(block.init(x), x, g, 0.9)


def check_in_context():
    with jax.set_mesh(EXPLICIT):
        check_block(EXPLICIT, "dense", jax.jit)


for claim, check in CLAIMS.items():
    try:
        check()
    except Exception:
        print(f"{claim} does not hold:")
        traceback.print_exc()
    else:
        print(f"holds: {claim}", flush=True)
