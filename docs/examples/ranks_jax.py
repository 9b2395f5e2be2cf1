"""K-FAC on several processes of JAX, each with a shard of every batch.

    python docs/examples/ranks_jax.py 0 2 localhost:9911 &
    python docs/examples/ranks_jax.py 1 2 localhost:9911

The arguments are the number of the process, that of all, and where they meet; on a
cluster that tells them itself, call `jax.distributed.initialize()` without any.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import kfac_core as kc
from kfac_adapters.jax import capture, kfac

CASES, STEPS, RATE = 128, 80, 0.3
LOSS = kc.losses.CategoricalLogitsNegativeLogProbLoss()


def network(params, x):
    """Return logits ``[batch, 2]``."""
    return jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]


def mean_loss(params, x, labels):
    """Return the mean loss of a batch, whoever has its cases."""
    log_p = jax.nn.log_softmax(network(params, x))
    return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()


def start():
    """Return the parameters before training, the same in all processes."""
    rng = np.random.default_rng(0)
    shapes = {"w": (2, 32), "b": (32,), "v": (32, 2)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def train(mesh):
    """Train, and return the last loss and the parameters."""
    rng = np.random.default_rng(1)
    cases = CASES // jax.process_count()  # of each batch, those of this process
    own = slice(jax.process_index() * cases, (jax.process_index() + 1) * cases)
    everywhere, split = (NamedSharding(mesh, spec) for spec in (P(), P("data")))
    params = jax.device_put(start(), everywhere)
    captured = capture(network, start(), np.zeros((CASES, 2)), loss=LOSS)
    # Each device computes the inverses of some layers, and sends them to all.
    options = {"damping": 0.1, "norm_constraint": 1e-2, "learning_rate": RATE}
    transformation = kfac(captured, share_inverses=mesh, **options)

    @jax.jit
    def step(params, state, x, labels, key):
        loss, gradients = jax.value_and_grad(mean_loss)(params, x, labels)
        steps, state = transformation.update(
            gradients, state, params, inputs=(x,), key=key
        )
        moved = jax.tree.map(lambda p, s: p - RATE * s, params, steps)
        return moved, state, loss

    state = jax.jit(transformation.init, out_shardings=everywhere)(params)
    for t in range(STEPS):
        x = 2 * rng.random((CASES, 2)) - 1
        labels = (x[:, 0] * x[:, 1] > 0).astype(int)
        batch = [
            jax.make_array_from_process_local_data(split, jnp.asarray(whole[own]))
            for whole in (x, labels)
        ]
        key = jax.device_put(jax.random.key_data(jax.random.key(t)), everywhere)
        params, state, loss = step(params, state, *batch, jax.random.wrap_key_data(key))
    return loss, params


if __name__ == "__main__":
    number, count, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, count, number)
    kinds = {"axis_types": (AxisType.Auto,)}
    loss, params = train(jax.make_mesh((jax.device_count(),), ("data",), **kinds))
    # A number that tells whether parameters are the same, bit for bit.
    total = sum(float(np.abs(x).sum()) for x in jax.tree.leaves(params))
    print(f"process {number} of {count}: loss {float(loss):.3f}, {total.hex()}")
    jax.distributed.shutdown()
