"""Layers for blocks around a product, each with the gradients of its cases."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import kfac_core as kc

CASES, USES = 7, 3


@dataclass(frozen=True)
class Layer:
    """A layer: its block, how data are drawn, and the gradient of each case.

    Attributes:
        block: The Kronecker product.
        draw: Draws inputs and output gradients as the block takes them.
        gradients: Of these, the gradient of each case, ``[cases, rows, columns]``.
        shapes: Shapes of the parameters.
        forms: Further arguments of `update_covs`.
    """

    block: Any
    draw: Any
    gradients: Any
    shapes: tuple[tuple[int, ...], ...]
    forms: dict[str, Any] = field(default_factory=dict)


def with_one(x):
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)


def normal(*shapes):
    return lambda rng: tuple(rng.normal(size=shape) for shape in shapes)


def outer(x, g):
    return np.einsum("ntp,ntq->npq", x, g)


def uses_first(x):
    return np.swapaxes(x, 0, 1)


def patches(x, size):
    n, height, width, channels = x.shape
    rows = [
        x[:, i : i + size, j : j + size].reshape(n, size * size * channels)
        for i in range(height - size + 1)
        for j in range(width - size + 1)
    ]
    return np.stack(rows, axis=1)


def at_ids(ids, g, vocab):
    one_hot = np.eye(vocab)[ids]  # [n, t, vocab]
    return outer(one_hot, g)


def ids_and(*shape, ids):
    return lambda rng: (rng.integers(0, 4, size=ids), rng.normal(size=shape))


LAYERS = {
    "dense": Layer(
        kc.blocks.FullyConnectedKFACBasicFB(4, 3, True),
        normal((CASES, 4), (CASES, 3)),
        lambda x, g: outer(with_one(x)[:, None], g[:, None]),
        ((4, 3), (3,)),
    ),
    "dense, PyTorch's layout": Layer(
        kc.blocks.FullyConnectedKFACBasicFB(4, 3, layout="out_in"),
        normal((CASES, 4), (CASES, 3)),
        lambda x, g: outer(g[:, None], x[:, None]),
        ((3, 4),),
    ),
    "diagonal sides": Layer(
        kc.blocks.FullyConnectedKFACBasicFB(
            4, 3, diagonal_approx_for_input=True, output_blocks=2
        ),
        normal((CASES, 4), (CASES, 3)),
        lambda x, g: outer(x[:, None], g[:, None]),
        ((4, 3),),
    ),
    "shared": Layer(
        kc.blocks.FullyConnectedMultiIndepFB(4, 3, True),
        normal((USES, CASES, 4), (USES, CASES, 3)),
        lambda x, g: outer(with_one(uses_first(x)), uses_first(g)),
        ((4, 3), (3,)),
    ),
    "shared, cases first": Layer(
        kc.blocks.FullyConnectedMultiIndepFB(4, 3, batch_first=True),
        normal((CASES, USES, 4), (CASES, USES, 3)),
        outer,
        ((4, 3),),
    ),
    "at many positions": Layer(  # where gradients are formed before they are rotated
        kc.blocks.FullyConnectedMultiIndepFB(2, 2, batch_first=True),
        normal((CASES, 50, 2), (CASES, 50, 2)),
        outer,
        ((2, 2),),
    ),
    "convolution": Layer(
        kc.blocks.ConvKFCBasicFB(
            kc.ConvolutionGeometry((2, 2, 2, 3), padding="VALID"), has_bias=True
        ),
        normal((CASES, 4, 4, 2), (CASES, 3, 3, 3)),
        lambda x, g: outer(with_one(patches(x, 2)), g.reshape(CASES, 9, 3)),
        ((2, 2, 2, 3), (3,)),
    ),
    "shared convolution": Layer(
        kc.blocks.ConvKFCBasicMultiIndepFB(
            kc.ConvolutionGeometry((2, 2, 2, 3), padding="VALID"), num_uses=2
        ),
        normal((2, CASES, 3, 3, 2), (2, CASES, 2, 2, 3)),
        lambda x, g: sum(
            outer(patches(one, 2), other.reshape(CASES, 4, 3))
            for one, other in zip(x, g, strict=True)
        ),
        ((2, 2, 2, 3),),
    ),
    "embedding": Layer(
        kc.blocks.EmbeddingKFACFB(4, 3),
        ids_and(CASES, 3, ids=(CASES,)),
        lambda ids, g: at_ids(ids[:, None], g[:, None], 4),
        ((4, 3),),
    ),
    "embedding of sums": Layer(
        kc.blocks.EmbeddingKFACFB(4, 3, repeated_ids="count_squared"),
        ids_and(CASES, 3, ids=(CASES, 5)),
        lambda ids, g: at_ids(ids, np.repeat(g[:, None], 5, axis=1), 4),
        ((4, 3),),
    ),
    "shared embedding": Layer(
        kc.blocks.EmbeddingKFACMultiIndepFB(4, 3, batch_first=True),
        ids_and(CASES, USES, 3, ids=(CASES, USES)),
        lambda ids, g: at_ids(ids, g, 4),
        ((4, 3),),
    ),
}


def fisher(layer, data):
    """Return the dense Fisher of a batch: the mean over cases."""
    gradients = layer.gradients(*data).reshape(CASES, -1)
    return gradients.T @ gradients / CASES
