"""JAX: Cholesky factors and inverses of positive-definite matrices, in panels.

LAPACK, as JAX calls it on the CPU, factorises and solves slower than XLA multiplies,
and does not leave out blocks of zeros. With panels, most of the work for a large matrix
is products that do.

XLA compiles products and calls of LAPACK at once, but takes 50 ms for each loop that
copies a part or transposes it. So there are few panels, and LAPACK is given what lies
in memory as it expects it: it reads by columns, and sees the transpose of an array that
is kept by rows.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax.linalg import triangular_solve

from kfac_core.typing import Array

FACTOR_NARROWEST, FACTOR_PANELS = 256, 8
"""Least number of columns of a panel that LAPACK factorises; most of these."""
INVERSE_LEAVES, INVERSE_PARTS = (64, 128), 8
"""Sizes up to which LAPACK inverts a triangle; others are halved.

The first is for triangles of at most four such leaves. A large one has so many parts at
most, whatever its size, so that no more than these are compiled.
"""
SQUARE_NARROWEST, SQUARE_PANELS = 128, 6
"""Least number of columns of a panel for the square of a triangle; most of these."""
MIRROR_TILE = 128
"""Rows and columns of a tile that is mirrored: so what is read is in the cache."""


def matmul(a: Any, b: Any) -> Array:
    """Return ``a @ b`` without TF32 or bfloat16 inside."""
    product: Array = jnp.matmul(a, b, precision="highest")
    return product


def _cholesky(a: Any) -> Any:
    """Return the lower factor of `a`, reading its lower triangle alone.

    Args:
        a: ``[..., n, n]``.

    Returns:
        ``[..., n, n]``; its diagonal has a NaN where `a` is not positive definite.
    """
    spans = _spans(a.shape[-1], FACTOR_PANELS, FACTOR_NARROWEST)
    if len(spans) == 1:
        return jnp.linalg.cholesky(a, symmetrize_input=False)
    panels: list[tuple[int, Any]] = []
    for i, j in spans:
        panel = a[..., i:, i:j]
        if panels:
            rows = [known[..., i - start :, :] for start, known in panels]
            before = jnp.concatenate(rows, -1)
            panel = panel - matmul(before, before[..., : j - i, :].mT)
        own, below = _cholesky(panel[..., : j - i, :]), panel[..., j - i :, :]
        # The system is solved from the left: from the right, LAPACK takes twice as
        # long.
        below = _solve(own, below.mT).mT
        panels.append((i, jnp.concatenate([own, below], -2)))
    return jnp.concatenate([_below(i, panel) for i, panel in panels], -1)


def _inverse_from_cholesky(factor: Any) -> Any:
    """Return ``inv(L @ L.T)``, symmetric bit for bit.

    Args:
        factor: Lower ``L``, ``[..., n, n]``.

    Returns:
        ``[..., n, n]``.
    """
    n, (small, large) = factor.shape[-1], INVERSE_LEAVES
    leaf = small if n <= 4 * small else max(large, -(-n // INVERSE_PARTS))
    return _upper_square(_inverse_transposed(factor, leaf))


# These are compiled even for arrays with values: they are many small operations.
cholesky_in_panels = jax.jit(_cholesky)
inverse_from_cholesky = jax.jit(_inverse_from_cholesky)


def _inverse_transposed(factor: Any, leaf: int) -> Any:
    """Return ``inv(L).T``, upper, so that products need no transposes.

    With ``L = [[A, 0], [C, B]]`` it is ``[[A', -A' C.T B'], [0, B']]``, where a prime
    stands for the inverse transpose of a block.
    """
    n = factor.shape[-1]
    if n <= leaf:
        eye = jnp.broadcast_to(jnp.eye(n, dtype=factor.dtype), factor.shape)
        return _solve(factor, eye).mT
    h = n // 2
    a = _inverse_transposed(factor[..., :h, :h], leaf)
    b = _inverse_transposed(factor[..., h:, h:], leaf)
    # The sign is changed where the block is copied, which costs nothing.
    c = matmul(matmul(a, -factor[..., h:, :h].mT), b)
    return jnp.concatenate([jnp.concatenate([a, c], -1), _right_of(h, b)], -2)


def _solve(factor: Any, b: Any) -> Any:
    """Return ``inv(L) @ b``, whose transpose needs no copy, as that of `b` needs none.

    In the memory of ``L`` LAPACK sees the upper ``L.T``, and is told to transpose it.
    """
    return triangular_solve(factor.mT, b, left_side=True, lower=False, transpose_a=True)


def _upper_square(root: Any) -> Any:
    """Return ``U @ U.T`` of upper ``U``, symmetric bit for bit.

    Each panel of columns is a product that ends at the diagonal; the rest is mirrored.
    """
    n = root.shape[-1]
    spans = _spans(n, SQUARE_PANELS, SQUARE_NARROWEST)
    panels = [matmul(root[..., :j, i:], root[..., i:j, i:].mT) for i, j in spans]
    square = jnp.zeros_like(root)
    for (i, j), panel in zip(spans, panels, strict=True):
        square = square.at[..., :j, i:j].set(panel)
    # On the CPU, a large transpose misses the cache.
    if n <= 2 * MIRROR_TILE or jax.default_backend() != "cpu":
        return jnp.where(jnp.tri(n, k=-1, dtype=bool), square.mT, square)
    return _mirrored(square)


def _mirrored(a: Any) -> Any:
    """Return `a` with its upper triangle in place of the lower one, tile by tile."""
    n, size = a.shape[-1], MIRROR_TILE
    count = -(-n // size)
    tiles = [(i, j) for i in range(count) for j in range(i, count)]
    # The last tile may overlap the one before, so that it is whole and ends on the
    # diagonal.
    starts = jnp.asarray(np.minimum(np.array(tiles) * size, n - size), jnp.int32)
    rows = jnp.arange(size)[:, None]

    def step(a: Any, start: Any) -> tuple[Any, None]:
        i, j = start[0], start[1]
        upper = jax.lax.dynamic_slice_in_dim(a, i, size, -2)
        upper = jax.lax.dynamic_slice_in_dim(upper, j, size, -1)
        lower = jax.lax.dynamic_slice_in_dim(a, j, size, -2)
        lower = jax.lax.dynamic_slice_in_dim(lower, i, size, -1)
        # A tile that overlaps the diagonal keeps what is on it or above.
        tile = jnp.where(rows + j > rows.mT + i, upper.mT, lower)
        zero = jnp.zeros((), start.dtype)
        place = (*[zero] * (a.ndim - 2), j, i)
        return jax.lax.dynamic_update_slice(a, tile, place), None

    whole, _ = jax.lax.scan(step, a, starts)
    return whole


def _spans(n: int, most: int, narrowest: int) -> list[tuple[int, int]]:
    """Return where panels start and end; the last one is the shortest."""
    width = -(-n // max(1, min(most, n // narrowest)))
    width += -width % 8  # products of odd shapes are slower
    return [(start, min(start + width, n)) for start in range(0, n, width)]


def _below(rows: int, a: Any) -> Any:
    """Return `a` below rows of zeros."""
    zeros = jnp.zeros((*a.shape[:-2], rows, a.shape[-1]), a.dtype)
    return jnp.concatenate([zeros, a], -2)


def _right_of(columns: int, a: Any) -> Any:
    """Return `a` to the right of columns of zeros."""
    zeros = jnp.zeros((*a.shape[:-1], columns), a.dtype)
    return jnp.concatenate([zeros, a], -1)
