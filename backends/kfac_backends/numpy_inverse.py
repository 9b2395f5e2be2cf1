"""NumPy: Cholesky factors and inverses of positive-definite matrices, in panels.

NumPy and SciPy each have an OpenBLAS with threads of its own, which go on spinning for
a while after a call. On few cores, the library that is called next waits for them, many
times longer than the work takes (``python -m benchmarks.threads``). So almost all of
the work is NumPy's products. SciPy's LAPACK factorises leaves that are so small that it
takes one thread for them.

Every function works in the memory that it is given, in C order, and leaves blocks of
zeros out of its products.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from kfac_backends.numpy_triangles import mirrored
from kfac_core.typing import Array, DType

LEAF, PANELS = 64, 8
"""Size up to which LAPACK takes a matrix, and number of panels of larger ones."""


@functools.cache
def lapack(name: str, dtype: DType) -> Any:
    """Return a function of SciPy for a dtype."""
    from scipy.linalg import lapack

    (found,) = lapack.get_lapack_funcs((name,), dtype=dtype)
    return found


def factorise(a: Any) -> bool:
    """Overwrite `a`, whose lower triangle is read, with its lower Cholesky factor.

    Args:
        a: ``[n, n]``, which is changed.

    Returns:
        Whether there is a factor.
    """
    if len(a) <= LEAF:
        # The transpose of a C-ordered matrix is Fortran-ordered, as LAPACK has it.
        upper, info = lapack("potrf", a.dtype)(a.T, lower=False, clean=True)
        a[...] = upper.T
        # No entry is above the root of the largest number: the sum is in the range.
        return info == 0 and math.isfinite(np.add.reduce(a.diagonal()))
    for i, j in _spans(len(a)):
        _subtract_earlier(a, i, j)
        own = a[i:j, i:j]
        if not factorise(own):
            return False
        if j < len(a):
            root = own.copy()
            invert_triangle(root)
            a[j:, i:j] = a[j:, i:j] @ root.T
        a[i:j, j:] = 0
    return True


def invert_triangle(a: Any) -> bool:
    """Overwrite a lower triangle with its inverse.

    Args:
        a: ``[n, n]``, zero above its diagonal, which is changed.

    Returns:
        Whether there is an inverse.
    """
    if len(a) <= LEAF:
        root, info = lapack("trtri", a.dtype)(a.T, lower=False)
        a[...] = root.T
        return bool(info == 0)
    for i, j in _spans(len(a)):
        if not invert_triangle(a[i:j, i:j]):
            return False
        _invert_before(a, i, j)
    return True


def invert_factor(a: Any) -> bool:
    """Overwrite `a`, whose lower triangle is read, with its Cholesky factor's inverse.

    A panel of the inverse takes the place of the rows of the factor, which no later
    panel reads.

    Args:
        a: ``[n, n]``, which is changed.

    Returns:
        Whether there is a factor.
    """
    if len(a) <= LEAF:
        return factorise(a) and invert_triangle(a)
    for i, j in _spans(len(a)):
        _subtract_earlier(a, i, j)
        own = a[i:j, i:j]
        if not invert_factor(own):
            return False
        if j < len(a):
            a[j:, i:j] = a[j:, i:j] @ own.T
        _invert_before(a, i, j)
        a[i:j, j:] = 0
    return True


def square(root: Any) -> Array:
    """Overwrite a lower triangle ``L`` with ``L.T @ L``, symmetric bit for bit.

    Args:
        root: ``[n, n]``, zero above its diagonal, which is changed.

    Returns:
        `root`.
    """
    for i, j in _spans(len(root)):
        # Later bands read later rows alone.
        band = root[i:, i:j].T @ root[i:, :j]
        root[i:j, :j] = band
    return mirrored(root)


def _subtract_earlier(a: Any, i: int, j: int) -> None:
    """Subtract from columns ``i`` to ``j`` what earlier columns of the factor give."""
    if i:
        a[i:, i:j] -= a[i:, :i] @ a[i:j, :i].T


def _invert_before(a: Any, i: int, j: int) -> None:
    """Overwrite rows ``i`` to ``j`` of a factor, where all else is inverted already.

    With ``L = [[A, 0], [C, B]]`` the rows of the inverse are ``[-inv(B) C inv(A),
    inv(B)]``.
    """
    if not i:
        return
    below = a[i:j, :i]
    product = np.empty_like(below)
    for start, end in _spans(i, 4):
        # Above these columns of the inverse there are zeros.
        np.matmul(below[:, start:], a[start:i, start:end], out=product[:, start:end])
    np.matmul(-a[i:j, i:j], product, out=below)


def _spans(n: int, panels: int = PANELS) -> Iterator[tuple[int, int]]:
    """Return where panels start and end; the last one is the shortest."""
    width = max(LEAF, -(-n // panels))
    return itertools.pairwise([*range(0, n, width), n])
