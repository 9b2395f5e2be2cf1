"""NumPy: symmetric matrices whose one triangle is computed, and the other copied.

NumPy's own SYRK copies the triangle entry by entry across the lines of the cache. For
few rows this takes several times longer than the product.
"""

from typing import Any

import numpy as np

from kfac_backends.runs import run_length
from kfac_core.typing import Array

_TILE = 64
_ABOVE = np.triu(np.ones((_TILE, _TILE), dtype=bool), 1)


def gram_in_bands(
    rows: Any, alpha: Any = None, beta: Any = None, c: Any = None
) -> Array:
    """Return ``rows.T @ rows``, or ``alpha * rows.T @ rows + beta * c``.

    Args:
        rows: ``[rows, n]``, in C or Fortran order.
        alpha: 0-d, or None.
        beta: 0-d, if `alpha` is given.
        c: ``[n, n]``, symmetric bit for bit, if `alpha` is given.

    Returns:
        ``[n, n]``, symmetric bit for bit.
    """
    n = rows.shape[1]
    # Bands are narrow for few rows, where writing costs most; and wide for many rows,
    # since narrow products are slow on several threads.
    width = 128 if len(rows) < n else 256
    total = np.empty((n, n), dtype=rows.dtype)
    added = None if alpha is None else np.empty((min(width, n), n), dtype=rows.dtype)
    run = run_length(n)
    for i in range(0, n, width):
        j = min(i + width, n)
        _band_of_run(rows[:run], i, j, total)
        for start in range(run, len(rows), run):
            part = np.empty((j - i, j), dtype=rows.dtype)
            _band_of_run(rows[start : start + run], i, j, part, i)
            total[i:j, :j] += part
        if added is not None:
            band = total[i:j, :j]
            band *= alpha
            band += np.multiply(c[i:j, :j], beta, out=added[: j - i, :j])
    return mirrored(total)


def _band_of_run(run: Any, i: int, j: int, out: Any, first: int = 0) -> None:
    """Write the products of columns ``i`` to ``j`` with themselves and earlier ones.

    Args:
        run: ``[rows, n]``.
        i: First column of the band.
        j: Column after the last of the band.
        out: ``[.., at least j]``; the band's rows are written.
        first: The column that the first row of `out` stands for.
    """
    left = run[:, i:j].T
    band = out[i - first : j - first]
    np.matmul(left, run[:, i:j], out=band[:, i:j])
    if i:
        np.matmul(left, run[:, :i], out=band[:, :i])


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
