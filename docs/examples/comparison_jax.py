"""What the examples of JAX have in common: the digits, and a run of a compiled step."""

import os
import time

os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
)

import jax
import jax.numpy as jnp
import numpy as np
from comparison import arguments, draw, report, run
from sklearn.datasets import load_digits

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


def train(label, optimizer, start, network, mean_loss, steps):
    """Return the curve of an optimiser.

    Args:
        label: Its name.
        optimizer: Its ``init`` of parameters, and its step of parameters, state, number
            of the step, images and labels.
        start: The parameters before training.
        network: The function of parameters and images.
        mean_loss: The function of parameters, images and labels.
        steps: Number of steps.
    """
    images, labels = data()
    init, step = optimizer
    params = jax.tree.map(jnp.copy, start)
    state, rng = init(params), np.random.default_rng(1)
    began = time.process_time()
    batch = images[:BATCH], labels[:BATCH]
    step = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, 0, *batch)
    step = step.compile()
    print(f"{label}: compiled in {time.process_time() - began:.1f} s")
    whole = jax.jit(mean_loss)

    def one(number):
        nonlocal params, state
        places = rng.permutation(TRAINING)[:BATCH]
        params, state = step(params, state, number, images[places], labels[places])
        jax.block_until_ready(params)

    def loss():
        return float(whole(params, images[:TRAINING], labels[:TRAINING]))

    curve = run(label, steps, one, loss)
    guesses = network(params, images[TRAINING:]).argmax(1)
    right = float((guesses == labels[TRAINING:]).mean())
    print(f"{label}: {right:.1%} of the images for testing")
    return curve


def compare(description, name, start, network, mean_loss, with_kfac, with_adam):
    """Train with K-FAC and with AdamW, print how they do, and save a picture.

    Args:
        description: What the example is.
        name: Its name.
        start: As in `train`.
        network: As in `train`.
        mean_loss: As in `train`.
        with_kfac: The function of images and a number of steps that makes K-FAC.
        with_adam: The function of a number of steps and a rate that makes AdamW.
    """
    given = arguments(description, name)
    of_kfac, of_adam = (6, 6) if given.quick else (200, 400)
    problem = start, network, mean_loss
    own = with_kfac(data()[0][:BATCH], of_kfac)
    ours = train("K-FAC", own, *problem, of_kfac)
    others = [
        train(f"AdamW, lr {rate:g}", with_adam(of_adam, rate), *problem, of_adam)
        for rate in (RATES[:1] if given.quick else RATES)
    ]
    what = "loss of all images for training"
    report(ours, others, what)
    draw(given.picture, ours, others, what)
