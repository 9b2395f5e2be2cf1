"""PyTorch's LAPACK on the CPU: factors and inverses, each in one piece of memory.

Fresh memory costs as much as a tenth of the work: a matrix is damped, factorised and
inverted in one copy. LAPACK's order is that of columns: its upper triangle is the lower
one of the copy.
"""

import math
from typing import Any

import torch

from kfac_backends.torch_memory import (
    empty_like,
    is_for_numpy,
    is_plain_matrix,
    is_small,
)
from kfac_core.typing import Array

LAPACK_FROM = 128
"""Size from which LAPACK is faster than SciPy's with NumPy's products, on one thread.

``OMP_NUM_THREADS=1 python -m benchmarks.torch_inverses`` measures it.
"""

ROWS_OF_ONE_PLACE = 128
"""Rows of as many numbers, or a multiple of it, share places of the cache.

LAPACK takes less time for 257 and 513 rows than for 256 and 512, and for 1,025 three
fifths of the time for 1,024: see ``torch`` in the table of
``OMP_NUM_THREADS=1 python -m benchmarks.torch_inverses``. So one more is added.
"""


def is_for_scipy(a: Any, *others: Any) -> bool:
    """Return whether SciPy may factorise a matrix in its memory, and is faster."""
    return a.shape[-1] < LAPACK_FROM and is_for_numpy(
        a, *others, of_one_thread=is_small(a)
    )


def is_for_lapack(a: Any, *others: Any) -> bool:
    """Return whether the functions below may factorise a matrix."""
    return is_plain_matrix(a, *others) and 0 not in a.shape


def cholesky(a: Any) -> Array:
    """Return the lower factor in C order; NaN where there is none.

    Args:
        a: ``[n, n]``, symmetric, on the CPU, of plain memory; ``n`` is not zero.
    """
    room = _copied(a)
    if not _factorised(room.mT):
        return _none(a)
    factor: Array = room[: len(a), : len(a)].contiguous()
    return factor


def cholesky_inverse(factor: Any) -> Array:
    """Return the inverse of ``L L'`` in C order, symmetric bit for bit.

    Args:
        factor: Lower ``L``, ``[n, n]``, on the CPU, of plain memory; ``n`` is not zero.

    Returns:
        ``[n, n]``; NaN where a pivot is not positive.
    """
    # LAPACK would raise for a pivot of zero.
    if not bool((factor.diagonal() > 0).all()):
        return _none(factor)
    return _inverted(_copied(factor), len(factor))


def damped_inverse(a: Any, damping: Any) -> Array:
    """Return the inverse of ``a + damping I`` in C order, symmetric bit for bit.

    Args:
        a: ``[n, n]``, symmetric, on the CPU, of plain memory; ``n`` is not zero.
        damping: 0-d.

    Returns:
        ``[n, n]``; NaN where the damped matrix has no factor.
    """
    room = _copied(a)
    room.diagonal()[: len(a)].add_(damping)
    return _inverted(room, len(a)) if _factorised(room.mT) else _none(a)


def _copied(a: Any) -> Any:
    """Return a copy in C order; beside it, a one where it has one more row."""
    n = len(a)
    if n % ROWS_OF_ONE_PLACE:
        return empty_like(a).copy_(a)
    room = empty_like(a, (n + 1, n + 1))
    room[:n, :n].copy_(a)
    room[n, :].zero_()
    room[:n, n].zero_()
    room[n, n] = 1
    return room


def _factorised(columns: Any) -> bool:
    """Overwrite a matrix, whose upper triangle is read, with its upper factor.

    Args:
        columns: ``[n, n]`` in Fortran order, which is changed.

    Returns:
        Whether there is a factor.
    """
    info = torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(columns, upper=True, out=(columns, info))
    # LAPACK may go on after what is not finite.
    return info.item() == 0 and math.isfinite(columns.diagonal().sum().item())


def _inverted(room: Any, n: int) -> Array:
    """Overwrite a lower factor in C order; return the first rows and columns."""
    torch.cholesky_inverse(room.mT, upper=True, out=room.mT)
    whole: Array = room[:n, :n].contiguous()
    return whole


def _none(like: Any) -> Array:
    nan: Array = torch.full(like.shape, torch.nan, dtype=like.dtype)
    return nan
