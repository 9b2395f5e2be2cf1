"""A convolutional network that reads digits, with K-FAC, in plain JAX.

The data are 1,437 images of 8 x 8 pixels for training, and 360 for testing. K-FAC takes
statistics every fifth step, makes new inverses every twentieth, and has a bound on the
length of its steps, and momentum. AdamW has the best learning rate of a grid. Seconds
are those of the processor, on one thread, without the compilation, which is told apart.

    python docs/examples/jax_digits.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from comparison_jax import compare

import kfac_core as kc
from kfac_adapters.jax import capture, kfac


def start():
    """Return the parameters before training."""
    shapes = {
        "conv1": (3, 3, 1, 8),
        "conv2": (3, 3, 8, 16),
        "dense1": (256, 32),
        "dense2": (32, 10),
    }
    rng, params = np.random.default_rng(0), {}
    for name, shape in shapes.items():
        scale = np.prod(shape[:-1]) ** -0.5
        kernel = rng.normal(size=shape).astype(np.float32) * scale
        params[name] = {"kernel": kernel, "bias": np.zeros(shape[-1], np.float32)}
    return jax.tree.map(jnp.asarray, params)


def network(params, images):
    """Return logits ``[batch, 10]``."""
    x = images
    for name, stride in (("conv1", 1), ("conv2", 2)):
        own = params[name]
        x = jax.lax.conv_general_dilated(
            x,
            own["kernel"],
            (stride, stride),
            [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jnp.tanh(x + own["bias"])
    x = x.reshape(len(x), -1)
    x = jnp.tanh(x @ params["dense1"]["kernel"] + params["dense1"]["bias"])
    return x @ params["dense2"]["kernel"] + params["dense2"]["bias"]


def mean_loss(params, images, labels):
    """Return the cross-entropy."""
    log_p = jax.nn.log_softmax(network(params, images))
    return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()


def one_cycle(step, steps, rate):
    """Return a rate that rises in the first third and falls to zero."""
    done = step / steps
    return rate * jnp.minimum(3 * done + 0.04, 1.5 * (1 - done))


def with_kfac(images, steps, rate=0.1):
    """Return what starts, and what makes a step of, K-FAC."""
    loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
    captured = capture(network, start(), images, loss=loss)
    print(captured.coverage)
    transformation = kfac(
        captured,
        damping=3e-2,
        norm_constraint=1e-3,
        cov_update_every=5,
        invert_every=20,
    )

    def init(params):
        return transformation.init(params), jax.tree.map(jnp.zeros_like, params)

    def step(params, state, number, x, y):
        state, velocity = state
        gradients = jax.grad(mean_loss)(params, x, y)
        now = one_cycle(number, steps, rate)
        changes, state = transformation.update(
            gradients,
            state,
            params,
            inputs=(x,),
            key=jax.random.fold_in(jax.random.key(0), number),
            learning_rate=now,
        )
        velocity = jax.tree.map(lambda v, c: 0.9 * v + c, velocity, changes)
        moved = jax.tree.map(lambda p, v: p - now * v, params, velocity)
        return moved, (state, velocity)

    return init, step


def with_adam(steps, rate):
    """Return what starts, and what makes a step of, AdamW without decay."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return zeros, jax.tree.map(jnp.copy, zeros)

    def step(params, state, number, x, y):
        gradients = jax.grad(mean_loss)(params, x, y)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state[0], gradients)
        second = jax.tree.map(
            lambda v, g: 0.999 * v + 0.001 * g * g, state[1], gradients
        )
        time = number + 1.0
        now = one_cycle(number, steps, rate) / (1 - 0.9**time)

        def moved(p, m, v):
            return p - now * m / (jnp.sqrt(v / (1 - 0.999**time)) + 1e-8)

        return jax.tree.map(moved, params, first, second), (first, second)

    return init, step


if __name__ == "__main__":
    compare(__doc__, "jax_digits", start(), network, mean_loss, with_kfac, with_adam)
