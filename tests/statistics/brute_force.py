"""The statistics by their definitions: one loop for each index, in NumPy alone."""

import itertools
import math

import numpy as np


def second_moment(rows, has_bias=False):
    """Return the mean of the outer products of the rows, each ended by a one."""
    n = rows.shape[1] + has_bias
    total = np.zeros((n, n))
    for row in rows:
        extended = np.append(row, 1.0) if has_bias else row
        for i, j in itertools.product(range(n), repeat=2):
            total[i, j] += extended[i] * extended[j]
    return total / len(rows)


def squared_moment(x, g, has_bias=False):
    """Return the mean of the squared entries of the outer products."""
    n, m = x.shape[1] + has_bias, g.shape[1]
    total = np.zeros((n, m))
    for case, gradient in zip(x, g, strict=True):
        extended = np.append(case, 1.0) if has_bias else case
        for i, j in itertools.product(range(n), range(m)):
            total[i, j] += (extended[i] * gradient[j]) ** 2
    return total / len(x)


def padding_pairs(padding, spatial, kernel, strides, dilation):
    """Return the zeros before and after each axis, SAME as TensorFlow defines it."""
    pairs = []
    for axis, (size, k, s, d) in enumerate(
        zip(spatial, kernel, strides, dilation, strict=True)
    ):
        if padding == "VALID":
            pairs.append((0, 0))
        elif padding == "SAME":
            total = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
            pairs.append((total // 2, total - total // 2))
        else:
            width = padding if isinstance(padding, int) else padding[axis]
            pairs.append((width, width) if isinstance(width, int) else tuple(width))
    return pairs


def patches(x, kernel, strides, dilation, padding):
    """Return ``[batch, ..locations.., ..kernel.., channels]``, tap by tap.

    Args:
        x: ``[batch, ..spatial.., channels]``.
        kernel: Spatial sizes.
        strides: One for each axis.
        dilation: One for each axis.
        padding: "SAME", "VALID", a width, or widths or pairs.
    """
    spatial = x.shape[1:-1]
    pairs = padding_pairs(padding, spatial, kernel, strides, dilation)
    locations = tuple(
        (size + before + after - (k - 1) * d - 1) // s + 1
        for size, (before, after), k, s, d in zip(
            spatial, pairs, kernel, strides, dilation, strict=True
        )
    )
    out = np.zeros((x.shape[0], *locations, *kernel, x.shape[-1]))
    for location in np.ndindex(*locations):
        for tap in np.ndindex(*kernel):
            place = tuple(
                at * s + t * d - before
                for at, s, t, d, (before, _) in zip(
                    location, strides, tap, dilation, pairs, strict=True
                )
            )
            if all(0 <= p < size for p, size in zip(place, spatial, strict=True)):
                out[(slice(None), *location, *tap)] = x[(slice(None), *place)]
    return out


def convolution(x, weights, strides, dilation, padding):
    """Return ``[batch, ..locations.., out_channels]``, by sums over taps."""
    kernel = weights.shape[:-2]
    taken = patches(x, kernel, strides, dilation, padding)
    rank = len(kernel)
    out = np.zeros((*taken.shape[: 1 + rank], weights.shape[-1]))
    for tap in np.ndindex(*weights.shape[:-1]):
        out += taken[(..., *tap)][..., None] * weights[tap]
    return out


def patch_second_moment(taken, rank, has_bias=False):
    """Return the second moment of patches over cases and locations."""
    width = math.prod(taken.shape[1 + rank :])
    return second_moment(taken.reshape(-1, width), has_bias)


def case_gradients(taken, g, rank, has_bias=False):
    """Return ``[batch, kernel * channels (+ 1), out]``, summed over locations."""
    width = math.prod(taken.shape[1 + rank :])
    rows = taken.reshape(len(taken), -1, width)
    gradients = g.reshape(len(g), -1, g.shape[-1])
    out = np.zeros((len(rows), width + has_bias, g.shape[-1]))
    for case, location in itertools.product(*map(range, rows.shape[:2])):
        row = rows[case, location]
        extended = np.append(row, 1.0) if has_bias else row
        out[case] += np.outer(extended, gradients[case, location])
    return out


def id_second_moment(ids, vocab_size, repeated_ids):
    """Return the diagonal of the second moment of the n-hot vectors of ids."""
    total = np.zeros(vocab_size)
    for case in ids.reshape(len(ids), -1):
        for index in set(case.tolist()):
            count = int(np.sum(case == index))
            total[index] += {
                "n_hot": 1,
                "count": count,
                "count_squared": count**2,
            }[repeated_ids]
    return total / len(ids)
