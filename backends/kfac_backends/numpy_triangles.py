"""NumPy: symmetric matrices whose one triangle is computed, and the other copied.

NumPy's own SYRK copies the triangle entry by entry across the lines of the cache. For
many columns and few rows this takes several times longer than the product.
"""

from typing import Any

import numpy as np

from kfac_backends.runs import run_length
from kfac_core.typing import Array

LARGEST_AT_ONCE = 768
"""Number of columns up to which a Gram matrix is one product.

``python -m benchmarks --library numpy --only "update_cov, 128"`` measures it.
"""
_TILE = 64
_APART = 17
"""Number of columns more, with which lines of an array share no place of a cache."""
_ABOVE = np.triu(np.ones((_TILE, _TILE), dtype=bool), 1)


def is_in_tiles(rows: Any) -> bool:
    """Return whether a Gram matrix is made in tiles, which go through runs of rows."""
    count, columns = rows.shape
    return bool(columns > LARGEST_AT_ONCE or count > run_length(columns))


def gram_in_tiles(
    rows: Any, alpha: Any = None, beta: Any = None, c: Any = None
) -> Array:
    """Return ``rows.T @ rows``, or ``alpha * rows.T @ rows + beta * c``.

    Each square of the lower triangle is multiplied, scaled, added to and written to
    both its places while it is in the cache.

    Args:
        rows: ``[rows, n]``, in C or Fortran order.
        alpha: 0-d, or None.
        beta: 0-d, if `alpha` is given.
        c: ``[n, n]``, symmetric bit for bit, if `alpha` is given.

    Returns:
        ``[n, n]``, symmetric bit for bit.
    """
    n = rows.shape[1]
    # Tiles are small for few rows, where writing costs most; and large for many rows,
    # since small products are slow on several threads.
    width = 128 if 16 * len(rows) <= n else 256
    total = np.empty((n, n), dtype=rows.dtype)
    memory = np.empty((2, width, width + _APART), dtype=rows.dtype)
    for i in range(0, n, width):
        for k in range(0, i + width, width):
            own, other = slice(i, min(i + width, n)), slice(k, min(k + width, n))
            place = total[own, other]
            tile, added = memory[:, : place.shape[0], : place.shape[1]]
            _tile_of_runs(rows, own, other, tile, added)
            if alpha is not None:
                tile *= alpha
                tile += np.multiply(c[own, other], beta, out=added)
            place[...] = tile
            if k < i:
                total[other, own] = tile.T
            else:  # of one row or column both triangles may be rounded differently
                mirrored(place)
    return total


def _tile_of_runs(rows: Any, own: slice, other: slice, tile: Any, part: Any) -> None:
    """Write the products of some columns with others to `tile`, run after run.

    Args:
        rows: ``[rows, n]``.
        own: The columns of the tile's rows.
        other: The columns of the tile's columns.
        tile: Where to.
        part: Memory of the same shape.
    """
    run = run_length(rows.shape[1])
    np.matmul(rows[:run, own].T, rows[:run, other], out=tile)
    for start in range(run, len(rows), run):
        stop = start + run
        tile += np.matmul(rows[start:stop, own].T, rows[start:stop, other], out=part)


def mirrored(owned: Any) -> Array:
    """Write the lower triangle over the upper one, and return the same array.

    Args:
        owned: ``[n, n]``, which is changed.

    Returns:
        `owned`.
    """
    n = len(owned)
    for i in range(0, n, _TILE):
        j = min(i + _TILE, n)
        corner, above = owned[i:j, i:j], _ABOVE[: j - i, : j - i]
        np.copyto(corner, corner.T.copy(), where=above)
        for k in range(j, n, _TILE):
            # The tile is copied first, since its lines share one place of the cache.
            owned[i:j, k : k + _TILE] = owned[k : k + _TILE, i:j].copy().T
    result: Array = owned
    return result
