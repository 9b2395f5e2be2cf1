"""Kronecker products in the row-major convention.

``F = c kron(A, G)`` acts on the row-major flattening of a matrix ``V``, and ``A`` acts
on the rows: ``F^p V = c^p A^p V G^p``, since ``A`` and ``G`` are symmetric.
"""

from kfac_core.backend import Backend
from kfac_core.linalg.operators import LinearOperator
from kfac_core.typing import Array


def kron(backend: Backend, a: Array, b: Array) -> Array:
    """Return the dense Kronecker product.

    Args:
        backend: Backend of both.
        a: ``[m, n]``, the slow index.
        b: ``[p, q]``, the fast index.

    Returns:
        ``[m * p, n * q]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> a = np.asarray([[1.0, 2.0]])
        >>> kron(backend_of(a), a, a)
        array([[1., 2., 2., 4.]])
    """
    shape = (a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])
    return backend.xp.reshape(a[:, None, :, None] * b[None, :, None, :], shape)


def kron_matmul(
    a: LinearOperator,
    g: LinearOperator,
    matrix: Array,
    *,
    adjoint_a: bool = False,
    adjoint_g: bool = False,
) -> Array:
    """Return ``A @ V @ G``: for symmetric ``G``, ``kron(A, G)`` times ``V``.

    Args:
        a: Operator on rows.
        g: Operator on columns.
        matrix: ``V``, ``[rows, columns]``.
        adjoint_a: Use ``A'``.
        adjoint_g: Use ``G'``.

    Returns:
        ``[rows, columns]``.
    """
    return a.matmul(g.matmul_right(matrix, adjoint=adjoint_g), adjoint=adjoint_a)
