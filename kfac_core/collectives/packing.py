"""Symmetric matrices as their triangles, and many arrays as one flat buffer per dtype.

A triangle of a symmetric matrix fills a rectangle of ``n (n + 1) / 2`` entries without
a gap, in the rectangular full packed format (Gustavson, Wasniewski, Dongarra & Langou,
2010, ACM TOMS 37(2)): the first half of the columns, and in the corner above their
diagonal the triangle of the other half. So packing is a few operations on whole blocks,
and no list of indices is made.

Functions take arrays of one backend, and leave the checks to their callers: of a matrix
that is said to be symmetric, two of the four blocks are read in part.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.typing import Array, DType


class Like(NamedTuple):
    """What `unpacked` has to know of an array.

    Attributes:
        shape: Its shape.
        dtype: Its dtype.
    """

    shape: tuple[int, ...]
    dtype: DType


def packed(
    backend: Backend, arrays: Sequence[Array], symmetric: Sequence[bool]
) -> list[Array]:
    """Return the numbers of arrays in one flat buffer for each dtype.

    Args:
        backend: Backend of the arrays.
        arrays: The arrays; booleans become integers of 8 bits.
        symmetric: For each whether it is a symmetric matrix, or a stack of these.

    Returns:
        The buffers, in the order in which their dtypes come first.

    Example:
        >>> import numpy as np
        >>> from kfac_core import backend_of
        >>> x = np.asarray([[1.0, 2.0], [2.0, 3.0]])
        >>> packed(backend_of(x), [x, np.asarray(7.0)], [True, False])
        [array([3., 1., 2., 7.])]
    """
    parts: dict[DType, list[Array]] = {}
    for x, is_symmetric in zip(arrays, symmetric, strict=True):
        own = _numbers(backend, x)
        own = triangle(backend, own) if is_symmetric else own
        flat = backend.xp.reshape(own, (-1,))
        parts.setdefault(own.dtype, []).append(flat)
    return [
        backend.xp.concat(flats) if len(flats) > 1 else flats[0]
        for flats in parts.values()
    ]


def unpacked(
    backend: Backend,
    buffers: Sequence[Array],
    likes: Sequence[Array | Like],
    symmetric: Sequence[bool],
) -> list[Array]:
    """Return the arrays that buffers hold; it undoes `packed`, bit for bit.

    Args:
        backend: Backend of the arrays.
        buffers: What `packed` returned.
        likes: For each array that was packed its shape and dtype, or an array of these.
        symmetric: As in `packed`.

    Returns:
        The arrays; those that are no matrices may be views of the buffers.
    """
    xp = backend.xp
    starts = [0 for _ in buffers]
    found = []
    for like, is_symmetric in zip(likes, symmetric, strict=True):
        is_flag = backend.isdtype(like.dtype, "bool")
        dtype = xp.int8 if is_flag else like.dtype
        shape = _packed_shape(like.shape) if is_symmetric else tuple(like.shape)
        place = next(i for i, each in enumerate(buffers) if each.dtype == dtype)
        start = starts[place]
        starts[place] = start + prod(shape)
        own = xp.reshape(buffers[place][start : starts[place]], shape)
        if is_symmetric:
            own = matrix(backend, own, like.shape[-1])
        found.append(xp.astype(own, like.dtype) if is_flag else own)
    return found


def triangle(backend: Backend, a: Array) -> Array:
    """Return a symmetric matrix as a rectangle of half its size.

    Args:
        backend: Backend of the matrix.
        a: ``[..., n, n]``.

    Returns:
        ``[..., n, (n + 1) / 2]``, or ``[..., n + 1, n / 2]`` for an even ``n``.

    Example:
        >>> import numpy as np
        >>> from kfac_core import backend_of
        >>> a = np.asarray([[1.0, 2.0, 4.0], [2.0, 3.0, 5.0], [4.0, 5.0, 6.0]])
        >>> triangle(backend_of(a), a)
        array([[1., 6.],
               [2., 3.],
               [4., 5.]])
    """
    xp, n = backend.xp, a.shape[-1]
    half, is_even = (n + 1) // 2, n % 2 == 0
    if n == 1:
        return a
    low = xp.tril(a[..., :half])
    high = xp.triu(a[..., half:, half:])
    # The second triangle goes above the diagonal of the first, which leaves room for a
    # diagonal: below a row more, or beside a column.
    if is_even:
        low = xp.concat([xp.zeros_like(low[..., :1, :]), low], axis=-2)
    else:
        high = xp.concat([xp.zeros_like(high[..., :1]), high], axis=-1)
    above = n - half
    top = low[..., :above, :] + high
    whole: Array = xp.concat([top, low[..., above:, :]], axis=-2)
    return whole


def matrix(backend: Backend, rectangle: Array, n: int) -> Array:
    """Return the symmetric matrix of a rectangle; it undoes `triangle`.

    Args:
        backend: Backend of the rectangle.
        rectangle: What `triangle` returned.
        n: Number of rows and columns of the matrix.

    Returns:
        ``[..., n, n]``, exactly symmetric.
    """
    xp, half, is_even = backend.xp, (n + 1) // 2, n % 2 == 0
    if n == 1:
        return rectangle
    above = n - half
    low = xp.tril(rectangle[..., 1:, :] if is_even else rectangle)
    high = rectangle[..., :above, :] if is_even else rectangle[..., :above, 1:]
    first, corner = low[..., :half, :], low[..., half:, :]
    first = first + backend.transposed(xp.tril(first, k=-1))
    second = xp.triu(high) + backend.transposed(xp.triu(high, k=1))
    top = xp.concat([first, backend.transposed(corner)], axis=-1)
    bottom = xp.concat([corner, second], axis=-1)
    whole: Array = xp.concat([top, bottom], axis=-2)
    return whole


def _packed_shape(shape: Sequence[int]) -> tuple[int, ...]:
    n = shape[-1]
    own = (n, (n + 1) // 2) if n % 2 else (n + 1, n // 2)
    return (*shape[:-2], *own)


def _numbers(backend: Backend, x: Array) -> Array:
    is_flag = backend.isdtype(x.dtype, "bool")
    return backend.xp.astype(x, backend.xp.int8) if is_flag else x
