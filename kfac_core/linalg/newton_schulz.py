"""An inverse improved by products alone: the iteration of Newton and Schulz.

``X <- 2 X - X (M X)`` squares the residual ``I - M X``, and so each of its eigenvalues
(Schulz, 1933). Starting from the inverse of nearly the same matrix, it needs a step or
two, with two matrix products each. On accelerators, matrix products are many times as
fast as a factorisation with as much arithmetic; on a CPU they are not, and Cholesky's
factorisation is faster.
"""

from kfac_core.backend import Backend
from kfac_core.typing import Array


def refined(
    backend: Backend, matrix: Array, inverse: Array, steps: int
) -> tuple[Array, Array]:
    """Return a better inverse, and a bound on its error.

    The bound is the square of the Frobenius norm of the residual before the last step:
    ``|R^2| <= |R|^2``. Rounding adds, to first order, at most ``3 n u |M| |X|`` with
    the unit roundoff ``u``. Up to a factor, rounding does the same to any inverse,
    including one by Cholesky's factorisation.

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
    """Return the residual, ``n`` roundings, below which no inverse is better."""
    eps: float = backend.xp.finfo(matrix.dtype).eps
    return matrix.shape[-1] * float(eps)


def may_suffice(backend: Backend, rho: Array, steps: int, limit: float) -> Array:
    """Return whether `steps` steps can bring a residual below a limit.

    Args:
        backend: Backend of `rho`.
        rho: At most the largest absolute eigenvalue of the residual; any shape.
        steps: Number of steps.
        limit: Limit of the norm of the residual.

    Returns:
        0-d; False where they cannot.
    """
    xp = backend.xp
    # One is as bad as anything above it, and its powers do not overflow.
    least = xp.minimum(rho, xp.ones_like(rho)) ** 2**steps
    return xp.all(least <= limit)
