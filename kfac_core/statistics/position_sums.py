"""Sums over the positions of each case: few roundings, however many there are.

A case's gradient is a sum over its positions, of numbers or of products. To add in turn
errs by as many roundings as there are positions, and libraries do so along an axis that
is not the last, or where a product has few rows or columns. So many positions are added
as rows are: sums by `Backend.sum_of_rows`, products by runs of `POSITIONS_OF_RUN`
positions, whose products are then added like that.
"""

from collections.abc import Sequence

from kfac_core.backend import Backend
from kfac_core.typing import Array

POSITIONS_OF_RUN = 1024
"""The most positions that are left to the library."""


def sum_over(backend: Backend, x: Array, axes: Sequence[int]) -> Array:
    """Return the sum over some axes, which are taken out.

    Args:
        backend: Backend of the array.
        x: An array of any shape.
        axes: From the first, ascending; none: the array itself.

    Returns:
        The sum.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> x = np.full((2, 3, 1000, 2), 0.5)
        >>> sum_over(backend_of(x), x, (1, 2)).tolist()
        [[1500.0, 1500.0], [1500.0, 1500.0]]
    """
    xp, positions = backend.xp, 1
    for axis in axes:
        positions *= x.shape[axis]
    if positions <= POSITIONS_OF_RUN:
        # To some libraries no axes are all of them.
        total: Array = xp.sum(x, axis=tuple(axes)) if axes else x
        return total
    others = [axis for axis in range(x.ndim) if axis not in axes]
    moved = xp.permute_dims(x, (*axes, *others))
    shape = (positions, *(x.shape[axis] for axis in others))
    return backend.sum_of_rows(xp.reshape(moved, shape))


def products_over(backend: Backend, a: Array, b: Array) -> Array:
    """Return ``a.T @ b`` of each case: the sum over positions of outer products.

    Args:
        backend: Backend of both.
        a: ``[..., positions, n]``, at least float32.
        b: ``[..., positions, m]``, of the same dtype.

    Returns:
        ``[..., n, m]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> a, b = np.full((2, 2500, 1), 0.5), np.full((2, 2500, 2), 2.0)
        >>> products_over(backend_of(a), a, b).tolist()
        [[[2500.0, 2500.0]], [[2500.0, 2500.0]]]
    """
    positions = a.shape[-2]
    if positions <= POSITIONS_OF_RUN:
        return backend.matmul(a.mT, b)
    xp, outer = backend.xp, tuple(a.shape[:-2])
    count = positions // POSITIONS_OF_RUN
    whole = count * POSITIONS_OF_RUN
    runs = (
        xp.reshape(x[..., :whole, :], (*outer, count, POSITIONS_OF_RUN, x.shape[-1]))
        for x in (a, b)
    )
    first, second = runs
    total = sum_over(backend, backend.matmul(first.mT, second), (len(outer),))
    if whole < positions:
        rest = backend.matmul(a[..., whole:, :].mT, b[..., whole:, :])
        total = total + rest
    return total
