"""One layer of each kind: its block, its data, and the sums of their rows."""

import numpy as np

import kfac_core as kc

N, T, OUT = 6, 7, 3


class NumPy:
    """NumPy as it is, for what does not depend on the library."""

    asarray = staticmethod(np.asarray)
    compiled = moved = staticmethod(lambda x: x)


def with_one(x):
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)


def linear(has_bias):
    return kc.blocks.FullyConnectedKFACBasicFB(4, OUT, has_bias)


def tokens(has_bias):
    return kc.blocks.FullyConnectedMultiIndepFB(4, OUT, has_bias, batch_first=True)


def images(has_bias):
    geometry = kc.ConvolutionGeometry((2, 1, 2, OUT), padding="VALID")
    return kc.blocks.ConvKFCBasicFB(geometry, has_bias=has_bias)


MAKE = {
    "linear": linear,
    "tokens": tokens,
    "images": images,
    "reduce": lambda has_bias: kc.blocks.KFACReduceFB(tokens(has_bias)),
}
INPUTS = {"linear": (N, 4), "images": (N, T + 1, 1, 2)}
OUTPUTS = {"linear": (N, OUT), "images": (N, T, 1, OUT)}


def drawn(kind, rng, has_bias=False, *, forward_only=False):
    """A block, its state, and the rows of inputs and of gradients of the mean loss."""
    block = MAKE[kind](has_bias)
    x, g = raw(kind, rng)
    data = (x, N * g)
    if forward_only:
        block, data = kc.blocks.ForwardOnlyFB(block), (x,)
    state = block.update_covs(block.init(like=x), *data, ema_decay=0.0)
    return block, state, rows_of(kind, x, has_bias), g.reshape(N, -1, OUT)


def raw(kind, rng):
    """Inputs of a layer, and gradients of the mean loss for its outputs."""
    x = rng.normal(size=INPUTS.get(kind, (N, T, 4)))
    return x, rng.normal(size=OUTPUTS.get(kind, (N, T, OUT)))


def rows_of(kind, x, has_bias):
    """The rows of inputs, ``[N, T, n]``, patches by places, then channels."""
    if kind == "images":
        x = np.concatenate([x[:, :-1, 0], x[:, 1:, 0]], axis=-1)
    rows = x.reshape(N, -1, x.shape[-1])
    return with_one(rows) if has_bias else rows


def sums(kind, rows, g):
    """``SA`` and ``SG``, or those of pooled rows."""
    if kind == "reduce":
        rows, g = rows.mean(1, keepdims=True), g.sum(1, keepdims=True)
    return np.einsum("nti,ntj->ij", rows, rows), np.einsum("nti,ntj->ij", g, g)
