"""A convolutional network that reads digits, with K-FAC, in plain JAX.

The data are 1,437 images of 8 x 8 pixels for training, and 360 for testing. K-FAC takes
statistics every fifth step, makes new inverses every twentieth, and has a bound on the
length of its steps, and momentum. AdamW has the best learning rate of a grid. Seconds
are those of the processor, on one thread, without the compilation, which is told apart.

    python docs/examples/jax_digits.py
"""

import argparse
import os
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
)

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import kfac_core as kc
from kfac_adapters.jax import capture, kfac

BATCH = 128
TRAINING = 1437
RATES = (1e-2, 3e-2, 1e-1)
"""The grid of AdamW's learning rates, each with a one-cycle schedule."""


def data():
    """Return images ``[1797, 8, 8, 1]`` of mean 0 and variance 1, and labels."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images = digits.images[order, :, :, None].astype(np.float32)
    images = (images - images.mean()) / images.std()
    return jnp.asarray(images), jnp.asarray(digits.target[order])


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
    captured = capture(network, start(), images[:BATCH], loss=loss)
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


def train(label, optimizer, steps, images, labels):
    """Return steps, seconds and losses of an optimiser, from the same start."""
    init, step = optimizer
    params = start()
    state, rng = init(params), np.random.default_rng(1)
    began = time.process_time()
    batch = images[:BATCH], labels[:BATCH]
    step = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, 0.0, *batch)
    step = step.compile()
    print(f"{label}: compiled in {time.process_time() - began:.1f} s")
    whole = jax.jit(mean_loss)
    curve, seconds = [], 0.0
    for number in range(steps):
        places = rng.permutation(TRAINING)[:BATCH]
        batch = images[places], labels[places]
        began = time.process_time()
        params, state = step(params, state, float(number), *batch)
        jax.block_until_ready(params)
        seconds += time.process_time() - began
        if (number + 1) % max(1, steps // 40) == 0 or number + 1 == steps:
            value = float(whole(params, images[:TRAINING], labels[:TRAINING]))
            curve.append((number + 1, seconds, value))
            text = (
                f"{label}: step {number + 1} of {steps}, {seconds:.1f} s, {value:.4g}"
            )
            print(f"\r{text}   ", end="", flush=True)
    guesses = network(params, images[TRAINING:]).argmax(1)
    right = float((guesses == labels[TRAINING:]).mean())
    print(f"\n{label}: {right:.1%} of the images for testing")
    return curve


def report(ours, others):
    """Print in how many steps and seconds each comes as far as the other."""
    rate, best = min(others.items(), key=lambda pair: pair[1][-1][2])
    runs = {"K-FAC": ours, f"AdamW, lr {rate:g}": best}
    for label, curve in runs.items():
        steps, seconds, value = curve[-1]
        print(f"{label}: loss {value:.3g} after {steps} steps, {seconds:.1f} s")
    for (one, own), (two, other) in (runs.items(), [*runs.items()][::-1]):
        steps, seconds, value = other[-1]
        found = [point for point in own if point[2] <= value]
        if not found:
            print(f"{one} does not come as far as {two}")
            continue
        print(
            f"{one} comes as far as {two} in {found[0][0]} steps of {steps}, and"
            f" {found[0][1]:.1f} s of {seconds:.1f}"
        )


def draw(path, ours, others):
    """Save a picture of all curves, by steps and by seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, place, name in zip(axes, (0, 1), ("steps", "seconds"), strict=True):
        curves = {f"AdamW, lr {rate:g}": own for rate, own in others.items()}
        for label, curve in ({"K-FAC": ours} | curves).items():
            axis.plot([p[place] for p in curve], [p[2] for p in curve], label=label)
        axis.set(xlabel=name, ylabel="loss for training", yscale="log")
    axes[0].legend()
    figure.savefig(path)
    print(f"saved {path}")


def main():
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few steps, as a test")
    parser.add_argument("--picture", type=Path, default=Path("jax_digits.png"))
    given = parser.parse_args()
    images, labels = data()
    of_kfac, of_adam = (6, 6) if given.quick else (200, 400)
    rates = RATES[:1] if given.quick else RATES
    ours = train("K-FAC", with_kfac(images, of_kfac), of_kfac, images, labels)
    others = {
        rate: train(
            f"AdamW, lr {rate:g}", with_adam(of_adam, rate), of_adam, images, labels
        )
        for rate in rates
    }
    report(ours, others)
    draw(given.picture, ours, others)


if __name__ == "__main__":
    main()
