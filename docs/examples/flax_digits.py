"""A convolutional network of Flax that reads digits, with K-FAC in a chain of optax.

The data are 1,437 images of 8 x 8 pixels for training, and 360 for testing. K-FAC takes
statistics every fifth step, makes new inverses every twentieth, and has a bound on the
length of its steps, and momentum. AdamW has the best learning rate of a grid. Both have
a one-cycle schedule. Seconds are those of the processor, on one thread, without the
compilation, which is told apart.

    python docs/examples/flax_digits.py
"""

import jax
import optax
from comparison_jax import compare
from flax import nnx

import kfac_core as kc
from kfac_adapters.jax import capture, kfac


class Network(nnx.Module):
    """Two convolutions and two dense layers."""

    def __init__(self, rngs):
        """Make the layers."""
        self.conv1 = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(8, 16, (3, 3), strides=2, rngs=rngs)
        self.dense1 = nnx.Linear(256, 32, rngs=rngs)
        self.dense2 = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, images):
        """Return logits ``[batch, 10]``."""
        x = nnx.tanh(self.conv1(images))
        x = nnx.tanh(self.conv2(x)).reshape(len(images), -1)
        return self.dense2(nnx.tanh(self.dense1(x)))


GRAPH, START = nnx.split(Network(nnx.Rngs(0)), nnx.Param)


def network(params, images):
    """Return logits of the parameters of a `Network`."""
    return nnx.merge(GRAPH, params)(images)


def mean_loss(params, images, labels):
    """Return the cross-entropy."""
    logits = network(params, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def with_kfac(images, steps, rate=0.1):
    """Return K-FAC as a chain of optax, with momentum and a schedule."""
    loss = kc.losses.CategoricalLogitsNegativeLogProbLoss()
    captured = capture(network, START, images, loss=loss)
    print(captured.coverage)
    of_layers = kfac(
        captured,
        damping=3e-2,
        learning_rate=rate,
        norm_constraint=1e-3,
        cov_update_every=5,
        invert_every=20,
    )
    schedule = optax.cosine_onecycle_schedule(steps, rate)
    return as_functions(
        optax.chain(of_layers, optax.trace(0.9), optax.scale_by_learning_rate(schedule))
    )


def with_adam(steps, rate):
    """Return AdamW without decay."""
    schedule = optax.cosine_onecycle_schedule(steps, rate)
    adam = optax.adamw(schedule, weight_decay=0.0)
    return as_functions(optax.with_extra_args_support(adam))


def as_functions(optimizer):
    """Return what starts, and what makes a step of, an optimiser of optax."""

    def step(params, state, number, x, y):
        gradients = jax.grad(mean_loss)(params, x, y)
        key = jax.random.fold_in(jax.random.key(0), number)
        changes, state = optimizer.update(
            gradients, state, params, inputs=(x,), key=key
        )
        return optax.apply_updates(params, changes), state

    return optimizer.init, step


if __name__ == "__main__":
    compare(__doc__, "flax_digits", START, network, mean_loss, with_kfac, with_adam)
