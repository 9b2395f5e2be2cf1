"""Layers, networks and comparisons that the tests of the reference share."""

from typing import NamedTuple

import numpy as np

from kfac_core.loss_functions import (
    CategoricalLogitsNegativeLogProbLoss,
    LossFunction,
    NormalMeanNegativeLogProbLoss,
)
from kfac_core.reference import (
    Bias,
    Bilinear,
    Conv2D,
    ConvTranspose,
    Dense,
    Embedding,
    Flatten,
    Layer,
    MeanPool2D,
    ReLU,
    Sequential,
    Tanh,
)


class LayerCase(NamedTuple):
    layer: Layer
    shape: tuple[int, ...]  # of one case's input


LAYERS = {
    "dense": LayerCase(Dense(3, 2), (3,)),
    "dense-no-bias": LayerCase(Dense(1, 4, has_bias=False), (1,)),
    "conv-same": LayerCase(Conv2D((3, 2, 2, 3)), (4, 5, 2)),
    "conv-valid": LayerCase(
        Conv2D((2, 3, 1, 2), padding="VALID", has_bias=False), (4, 4, 1)
    ),
    "conv-same-strided": LayerCase(Conv2D((3, 3, 2, 2), strides=(2, 3)), (5, 4, 2)),
    "conv-valid-strided": LayerCase(
        Conv2D((2, 2, 2, 1), strides=(3, 2), padding="VALID"), (6, 5, 2)
    ),
    "conv-small-kernel-large-stride": LayerCase(
        Conv2D((1, 2, 1, 2), strides=(3, 3)), (5, 5, 1)
    ),
    "conv-whole": LayerCase(Conv2D((3, 2, 2, 4), padding="VALID"), (3, 2, 2)),
    "bias": LayerCase(Bias((2,)), (3, 2)),
    "bias-channels-first": LayerCase(Bias((3, 1)), (2, 3, 4)),
    "transposed": LayerCase(
        ConvTranspose((3, 2, 2, 3), padding=(1, 0), strides=(2, 3), output_padding=1),
        (3, 2, 2),
    ),
    "transposed-groups": LayerCase(
        ConvTranspose((2, 4, 3), padding=1, dilations=3, num_groups=2, strides=2),
        (4, 4),
    ),
    "transposed-mirrored": LayerCase(
        ConvTranspose((3, 1, 2, 2, 1), padding=((1, 0), 0, (0, 1)), mirrored=True),
        (2, 2, 3, 2),
    ),
    "bilinear": LayerCase(Bilinear(2, 3, 2), (5,)),
    "tanh": LayerCase(Tanh(), (3, 2)),
    "relu": LayerCase(ReLU(), (5,)),
    "flatten": LayerCase(Flatten(), (2, 3, 2)),
    "mean-pool": LayerCase(MeanPool2D((2, 3)), (4, 6, 2)),
    "mean-pool-whole": LayerCase(MeanPool2D(), (3, 4, 2)),
}


class NetworkCase(NamedTuple):
    network: Sequential
    shape: tuple[int, ...]  # of one case's input
    vocabulary: int | None  # the inputs are ids, if it is a number
    loss: LossFunction


NETWORKS = {
    "dense-softmax": NetworkCase(
        Sequential((Dense(4, 5), Tanh(), Dense(5, 3), Tanh(), Dense(3, 4))),
        (4,),
        None,
        CategoricalLogitsNegativeLogProbLoss(),
    ),
    "convolutional-softmax": NetworkCase(
        Sequential(
            (
                Conv2D((3, 3, 1, 2)),
                Tanh(),
                MeanPool2D((2, 2)),
                Conv2D((2, 2, 2, 3), strides=(2, 1), padding="VALID", has_bias=False),
                ReLU(),
                Flatten(),
                Dense(6, 3),
            )
        ),
        (6, 6, 1),
        None,
        CategoricalLogitsNegativeLogProbLoss(),
    ),
    "pooled-gaussian": NetworkCase(
        Sequential((Tanh(), Conv2D((2, 2, 2, 3)), ReLU(), MeanPool2D(), Dense(3, 2))),
        (3, 4, 2),
        None,
        NormalMeanNegativeLogProbLoss(var=0.7),
    ),
    "embedding-gaussian": NetworkCase(
        Sequential((Embedding(5, 3), Tanh(), Dense(3, 2, has_bias=False))),
        (4,),
        5,
        NormalMeanNegativeLogProbLoss(var=2.0),
    ),
}


class Drawn(NamedTuple):
    params: tuple[tuple[np.ndarray, ...], ...]
    x: np.ndarray
    targets: np.ndarray


def random_params(network, rng, scale=0.7):
    return network.vector_to_params(scale * rng.standard_normal(network.num_params))


def random_targets(loss, outputs, rng):
    if isinstance(loss, CategoricalLogitsNegativeLogProbLoss):
        return rng.integers(outputs.shape[1], size=outputs.shape[0])
    return rng.standard_normal(outputs.shape)


def draw(case, rng, batch=5):
    if case.vocabulary is None:
        x = rng.standard_normal((batch, *case.shape))
    else:
        x = rng.integers(case.vocabulary, size=(batch, *case.shape))
    params = random_params(case.network, rng)
    outputs = case.network.forward(params, x).outputs
    return Drawn(params, x, random_targets(case.loss, outputs, rng))


def assert_close(actual, expected, tolerance=1e-12):
    """Compare in norm: entries may cancel, the whole does not."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = max(np.linalg.norm(expected), np.finfo(np.float64).tiny)
    error = np.linalg.norm(actual - expected) / scale
    assert error <= tolerance


def assert_differs(actual, expected, by=1e-3):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.linalg.norm(actual - expected) > by * np.linalg.norm(expected)


def numerical_gradient(function, x, step=1e-4):
    """Central differences of fourth order: errors of ``step^4`` and ``eps / step``."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        values = []
        for multiple in (-2, -1, 1, 2):
            moved = x.copy()
            moved[index] += multiple * step
            values.append(float(function(moved)))
        far_below, below, above, far_above = values
        gradient[index] = (8 * (above - below) - (far_above - far_below)) / (12 * step)
    return gradient


def mapped(function, tree):
    """Return nested tuples with a function applied to every array."""
    if not isinstance(tree, tuple):
        return function(tree)
    parts = [mapped(function, part) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def key_of(library, seed=0):
    """What a library draws from."""
    if library.package == "torch":
        import torch

        return torch.Generator().manual_seed(seed)
    if library.package == "jax":
        import jax

        return jax.random.key(seed)
    return np.random.default_rng(seed)
