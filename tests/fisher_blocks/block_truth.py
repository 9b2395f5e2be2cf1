"""What the cases of blocks are given, and what is computed of it, densely."""

import numpy as np

USES = 3


def patches_2x2(x):
    """Return ``[batch, 4, 4 * channels]`` of 3x3 images: VALID, stride 1."""
    corners = [x[:, i : i + 2, j : j + 2, :] for i in (0, 1) for j in (0, 1)]
    return np.stack([corner.reshape(len(x), -1) for corner in corners], axis=1)


def dilated_pairs(x):
    """Return ``[batch, 2, 2 * channels]`` of 4 channels-first steps, dilation 2."""
    last = np.moveaxis(x, 1, -1)
    pairs = [np.concatenate([last[:, i], last[:, i + 2]], axis=-1) for i in (0, 1)]
    return np.stack(pairs, axis=1)


def uncorrelated(x, offsets):
    """Return the second moment of patches of uncorrelated pixels, with a bias."""
    rows = x.reshape(-1, x.shape[-1])
    row = np.append(np.tile(rows.mean(0), offsets), 1.0)
    dense = np.outer(row, row)
    covariance = np.cov(rows.T, bias=True).reshape((rows.shape[1],) * 2)
    dense[:-1, :-1] += np.kron(np.eye(offsets), covariance)
    return dense


def squared(rows, g):
    """Return the diagonal Fisher of gradients summed over the second axis."""
    per_case = np.einsum("blp,blo->bpo", rows, g)
    return np.diag(np.mean(per_case**2, axis=0).ravel())


def nearest_product(x, g, rounds):
    """Return ``(A, G, 1)``: least squares for either side of the dense Fisher."""
    gradients = x[:, :, None] * g[:, None, :]
    fisher = np.einsum("nij,nkl->ikjl", gradients, gradients) / len(x)
    g = g.T @ g / len(g)
    for _ in range(rounds):
        a = np.einsum("ikjl,jl->ik", fisher, g) / np.sum(g * g)
        g = np.einsum("ikjl,ik->jl", fisher, a) / np.sum(a * a)
    balance = np.sqrt(np.linalg.norm(g) / np.linalg.norm(a))
    return a * balance, g / balance, 1


def partial_traces(x, g):
    """Return ``(A, G, 1)``: the partial traces of the Fisher, of its trace."""
    gradients = x[:, :, None] * g[:, None, :]
    a = np.einsum("nij,nkj->ik", gradients, gradients) / len(x)
    g = np.einsum("nij,nil->jl", gradients, gradients) / len(x)
    root = np.sqrt(np.trace(a))
    return a / root, g / root, 1


def scale_and_shift(x, g):
    """Return each case's gradient of a scale and a shift of ``[4, 3]``."""
    return np.concatenate([(x * g).sum(1), g.sum(1)], axis=1)


def vector_of(params):
    return np.concatenate([tensor.ravel() for tensor in params])


def diagonal(matrix):
    return np.diag(np.diag(matrix))


def normal(*shapes):
    return lambda rng, n: tuple(rng.normal(size=(n, *shape)) for shape in shapes)


def in_uses(*shapes):
    """Draw the arrays of a shared layer, ``[T, N, ...]``."""
    return lambda rng, n: tuple(rng.normal(size=(USES, n, *shape)) for shape in shapes)


def draw_ids(*shape, uses=()):
    return lambda rng, n: (
        rng.integers(0, 4, (*uses, n, *shape)),
        rng.normal(size=(*uses, n, 2)),
    )


def draw_params(rng, n):
    return ((rng.normal(size=(2, 2)), rng.normal(size=2)),)
