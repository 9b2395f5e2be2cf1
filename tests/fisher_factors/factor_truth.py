"""What the cases of factors are given, and its moments by another way than ours."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

USES = 3


def with_one(rows):
    return np.concatenate([rows, np.ones((*rows.shape[:-1], 1))], axis=-1)


def mean_square(rows):
    return rows.T @ rows / len(rows)


def windows(x, kernel, strides):
    """Return ``[batch, locations, kernel * channels]`` of channels-last images."""
    rank = len(kernel)
    axes = tuple(range(1, 1 + rank))
    view = sliding_window_view(x, kernel, axis=axes)
    view = view[(slice(None), *(slice(None, None, s) for s in strides))]
    view = np.moveaxis(view, 1 + rank, -1)  # [batch, locations, kernel, channels]
    width = np.prod(kernel) * x.shape[-1]
    return view.reshape(len(x), -1, width)


def patches_2x2(x):
    return windows(x, (2, 2), (1, 1))


def conv_diagonal(x, g):
    per_case = np.einsum(
        "blp,blo->bpo", with_one(patches_2x2(x)), g.reshape(len(g), -1, g.shape[-1])
    )
    return np.mean(per_case**2, axis=0)


def depthwise_diagonal(x, g):
    """Return that of two channels and three outputs each, the bias last."""
    p = patches_2x2(x).reshape(len(x), -1, 4, 2)  # [batch, locations, kernel, channel]
    p = np.concatenate([p, np.ones((*p.shape[:2], 1, 2))], axis=2)
    per_case = np.einsum("blkc,blcm->bkcm", p, g.reshape(len(g), -1, 2, 3))
    return np.mean(per_case**2, axis=0).reshape(-1, 3)


def of_groups(rows):
    """Return the second moment of each group of ``[batch, locations, groups, n]``."""
    groups = np.moveaxis(rows, 2, 0).reshape(rows.shape[2], -1, rows.shape[3])
    return np.stack([mean_square(with_one(group)) for group in groups])


def uncorrelated(moments):
    """Return the matrix of two pixels that are uncorrelated, and a bias."""
    second, mean = moments[:2, :2], moments[:2, 2]
    row = np.concatenate([mean, mean, [1.0]])
    dense = np.outer(row, row)
    dense[:4, :4] += np.kron(np.eye(2), second - np.outer(mean, mean))
    return dense


def scale_and_shift(x, g):
    """Return each case's gradient of a scale and a shift of ``[4, 3]``."""
    return np.concatenate([(x * g).sum(1), g.sum(1)], axis=1)


def folded(x):
    """Return the uses of all cases as cases of their own."""
    return x.reshape(-1, *x.shape[2:])


def on_blocks(rows):
    """Return the second moment of two entries, and that of the third and a one."""
    whole = mean_square(with_one(rows))
    return np.stack([whole[:2, :2], whole[2:, 2:]])


def n_hot(ids, vocab_size=5):
    return np.eye(vocab_size)[ids]


def flat(w, b):
    return np.concatenate([w.ravel(), b])


def normal(*shapes):
    return lambda rng, n: tuple(rng.normal(size=(n, *shape)) for shape in shapes)


def in_uses(*shapes):
    """Draw the arrays of a shared layer, ``[T, N, ...]``."""
    return lambda rng, n: tuple(rng.normal(size=(USES, n, *shape)) for shape in shapes)


def draw_params(rng, n):
    return ((rng.normal(size=(2, 2)), rng.normal(size=2)),)
