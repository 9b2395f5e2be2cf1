"""An inverse improved by products alone: the iteration of Newton and Schulz.

``X <- 2 X - X (M X)`` squares the residual ``I - M X``, and so each of its eigenvalues
(Schulz, 1933). From an inverse of nearly the same matrix it needs a step or two, of two
matrix products each. On accelerators these are many times as fast as a factorisation
of as much arithmetic; on a CPU they are not, and Cholesky's factorisation is faster.
"""

from kfac_core.backend import Backend
from kfac_core.typing import Array


def refined(
    backend: Backend, matrix: Array, inverse: Array, steps: int
) -> tuple[Array, Array]:
    """Return a better inverse, and a bound on what is wrong with it.

    The bound is the square of the Frobenius norm of the last residual that is met on
    the way, that before the last step: ``|R^2| <= |R|^2``. Rounding comes on top, to
    first order at most ``3 n u |M| |X|`` with the unit roundoff ``u``: to a factor what
    it does to any inverse, that of Cholesky's factorisation included.

    Args:
        backend: Backend of the matrices.
        matrix: ``M``, ``[n, n]`` or a stack ``[..., n, n]``, symmetric positive
            definite.
        inverse: ``X``, of the same shape, symmetric.
        steps: Number of steps, at least one.

    Returns:
        The inverse, symmetric bit for bit, and for each matrix a bound on the Frobenius
        norm of its residual.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> matrix = np.asarray([[2.0]])
        >>> refined(backend_of(matrix), matrix, np.asarray([[0.4]]), steps=1)[0]
        array([[0.48]])
    """
    xp = backend.xp
    device = backend.creation_device(matrix)
    eye = xp.eye(matrix.shape[-1], dtype=matrix.dtype, device=device)
    bound = xp.sum(matrix * 0, axis=(-2, -1))
    for _ in range(steps):
        product = backend.matmul(matrix, inverse)
        residual = eye - product
        bound = xp.sum(residual * residual, axis=(-2, -1))
        squared = backend.matmul(inverse, product)
        inverse = 2 * inverse - (squared + squared.mT) * 0.5
    return inverse, bound


def tolerance(backend: Backend, matrix: Array) -> float:
    """Return the residual below which an inverse is as good as any: ``n`` roundings."""
    eps: float = backend.xp.finfo(matrix.dtype).eps
    return matrix.shape[-1] * float(eps)


def may_suffice(backend: Backend, rho: Array, steps: int, limit: float) -> Array:
    """Return whether so many steps can bring a residual below a limit.

    Args:
        backend: Backend of `rho`.
        rho: At most the largest absolute eigenvalue of the residual; of any shape.
        steps: Number of steps.
        limit: On the norm of the residual.

    Returns:
        False where they cannot; 0-d.
    """
    xp = backend.xp
    # One is as bad as anything above, and has powers without overflow.
    least = xp.minimum(rho, xp.ones_like(rho)) ** 2**steps
    return xp.all(least <= limit)
