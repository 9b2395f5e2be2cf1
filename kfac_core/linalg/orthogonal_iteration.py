"""Orthogonal iteration: eigenvectors that follow a matrix, at the cost of a QR step."""

from kfac_core.backend import Backend
from kfac_core.linalg.psd import Eigendecomposition
from kfac_core.typing import Array


def orthogonal_step(
    backend: Backend, matrix: Array, vectors: Array
) -> Eigendecomposition:
    """Return approximate eigenvectors that are nearer to a matrix's than the last ones.

    One step of orthogonal iteration (Golub & Van Loan, 2013, section 8.2.4; Vyas et
    al., 2024, algorithm 4): the new vectors are ``Q`` of ``Q R = matrix @ vectors``, of
    which the first leads. The angle to the space of the leading ``k`` eigenvectors
    shrinks by the ratio of the eigenvalues ``k + 1`` and ``k``. So the last vectors are
    first put in the order of their Rayleigh quotients.

    Args:
        backend: Backend of the arrays.
        matrix: ``[n, n]``, symmetric positive semi-definite.
        vectors: ``[n, n]``, the last vectors as columns, orthonormal.

    Returns:
        The new vectors, orthonormal to rounding, and estimates ``|R_ii|`` of the
        eigenvalues. They ascend as soon as the vectors are near the eigenvectors.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> matrix, vectors = np.asarray([[4.0, 1.0], [1.0, 1.0]]), np.eye(2)
        >>> backend = backend_of(matrix)
        >>> for _ in range(8):
        ...     values, vectors = orthogonal_step(backend, matrix, vectors)
        >>> values.round(6), np.linalg.eigvalsh(matrix).round(6)
        (array([0.697224, 4.302776]), array([0.697224, 4.302776]))
    """
    xp = backend.xp
    # Transposed, since rows are faster to put in order; the matrix is symmetric.
    columns = vectors.mT
    product = backend.matmul(columns, matrix)
    order = xp.argsort(-xp.sum(columns * product, axis=1))
    q, r = backend.qr(xp.take(product, order, axis=0).mT)
    values = xp.abs(xp.linalg.diagonal(r))
    return Eigendecomposition(xp.flip(values), xp.flip(q, axis=1))
