"""JAX: wide Gram matrices of few rows, added tile by tile."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kfac_backends.jax_inverse import matmul
from kfac_core.typing import Array

TILE = 128
"""Rows and columns of a tile: so its transpose is read from the cache."""


def syrk_in_tiles(alpha: Any, a: Any, beta: Any, c: Any) -> Array:
    """Return ``alpha * a.T @ a + beta * c``, symmetric bit for bit.

    For few rows, the product takes little time. Most time goes to mirroring one
    triangle at the speed of the memory, or to a product that is not kept symmetric.
    Here each tile is written twice, and no other array of the size of `c` is held.

    Args:
        alpha: 0-d.
        a: ``[rows, n]``, ``n`` at least a tile's width.
        beta: 0-d.
        c: ``[n, n]``, symmetric bit for bit.

    Returns:
        ``[n, n]``.
    """
    n = a.shape[-1]
    count = -(-n // TILE)
    tiles = [(i, j) for i in range(count) for j in range(i, count)]
    # The last tile may overlap the one before, so that it is whole and ends on the
    # diagonal.
    starts = jnp.asarray(np.minimum(np.array(tiles) * TILE, n - TILE), jnp.int32)

    def step(total: Any, start: Any) -> tuple[Any, None]:
        i, j = start[0], start[1]
        left = jax.lax.dynamic_slice_in_dim(a, i, TILE, 1)
        right = jax.lax.dynamic_slice_in_dim(a, j, TILE, 1)
        tile = matmul(left.mT, right)
        # a + b == b + a in floating point, so this is symmetric bit for bit.
        tile = jnp.where(i == j, (tile + tile.mT) * 0.5, tile)
        tile = alpha * tile + beta * jax.lax.dynamic_slice(c, (i, j), (TILE, TILE))
        total = jax.lax.dynamic_update_slice(total, tile, (i, j))
        return jax.lax.dynamic_update_slice(total, tile.mT, (j, i)), None

    total: Array
    total, _ = jax.lax.scan(step, jnp.zeros_like(c), starts)
    return total
