"""Damped inverses, powers and Cholesky factors of positive semi-definite matrices.

Each function takes a matrix ``C``, and computes with the damped ``C + damping I``.
Values never raise an error here: what cannot be computed is NaN, which
`Backend.is_finite` detects.
"""

from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class Eigendecomposition(NamedTuple):
    """Eigenvalues and eigenvectors of a symmetric matrix.

    Attributes:
        values: ``[n]``, ascending, none negative.
        vectors: ``[n, n]``, one eigenvector in each column.
    """

    values: Array
    vectors: Array


def trace(backend: Backend, matrix: Array) -> Array:
    """Return the trace, 0-d, of ``[n, n]``, or of a diagonal ``[n]``."""
    return backend.xp.sum(matrix if matrix.ndim == 1 else backend.diagonal(matrix))


def cholesky(backend: Backend, matrix: Array, damping: Array) -> Array:
    """Return lower ``L`` with ``L L' = matrix + damping I``; NaN if there is none."""
    return backend.cholesky(backend.damp(matrix, damping))


def cholesky_inverse(backend: Backend, factor: Array) -> Array:
    """Return lower ``inv(L)`` for lower `factor` ``L``, ``[n, n]``."""
    eye = backend.xp.eye(
        factor.shape[-1], dtype=factor.dtype, device=backend.creation_device(factor)
    )
    # A general solver leaves rounding above the diagonal.
    return backend.xp.tril(backend.solve_triangular(factor, eye))


def eigendecomposition(backend: Backend, matrix: Array) -> Eigendecomposition:
    """Return the eigendecomposition, eigenvalues clipped at zero.

    The matrix is positive semi-definite, so that eigenvalues below zero are rounding.
    Without clipping, they could make a damped eigenvalue negative.
    """
    values, vectors = backend.eigh(matrix)
    zero = backend.xp.zeros_like(values)
    # NaN < 0 is false: a failed decomposition stays NaN.
    return Eigendecomposition(backend.xp.where(values < 0, zero, values), vectors)


def eigen_power(
    backend: Backend, eigen: Eigendecomposition, damping: Array, exp: float
) -> Array:
    """Return ``(C + damping I)^exp``, symmetric bit for bit, from ``C``'s `eigen`.

    It is computed as the Gram matrix of ``diag((e + damping)^(exp / 2)) U'``.
    """
    root = positive_power(backend, eigen.values + damping, exp / 2)
    return backend.gram((eigen.vectors * root[None, :]).mT)


def positive_power(backend: Backend, x: Array, exp: float) -> Array:
    """Return ``x^exp`` of numbers that are not negative; NaN where it is infinite."""
    if exp < 0:
        x = backend.xp.where(x > 0, x, backend.xp.full_like(x, float("nan")))
    return x**exp


def power(
    backend: Backend,
    matrix: Array,
    damping: Array,
    exp: float,
    factor: Array | None = None,
    eigen: Eigendecomposition | None = None,
) -> Array:
    """Return ``(matrix + damping I)^exp``, symmetric bit for bit.

    The powers 1, 2, -1 and -2 are computed with products and the Cholesky factor, all
    others with the eigendecomposition.

    Args:
        backend: Backend of `matrix`.
        matrix: ``[n, n]``, symmetric positive semi-definite.
        damping: 0-d, not negative.
        exp: The exponent.
        factor: `cholesky` of `matrix` and `damping`, if already computed.
        eigen: `eigendecomposition` of `matrix`, if already computed.

    Returns:
        ``[n, n]``; NaN or infinite where the power does not exist.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> matrix = np.diag([1.0, 3.0])
        >>> power(backend_of(matrix), matrix, np.asarray(1.0), -0.5).diagonal()
        array([0.70710678, 0.5       ])
    """
    if exp == 1:
        return backend.damp(matrix, damping)
    if exp == 2:
        return backend.gram(backend.damp(matrix, damping))
    if exp in {-1, -2}:
        if factor is None:
            inverse = backend.damped_inverse(matrix, damping)
        else:
            inverse = backend.cholesky_inverse(factor)
        return inverse if exp == -1 else backend.gram(inverse)
    if eigen is None:
        eigen = eigendecomposition(backend, matrix)
    return eigen_power(backend, eigen, damping, exp)


def needs_eigendecomposition(exp: float) -> bool:
    """Return whether `power` uses the eigendecomposition for this exponent."""
    return exp not in {1, 2, -1, -2}


def needs_cholesky(exp: float) -> bool:
    """Return whether `power` uses the Cholesky factor for this exponent."""
    return exp in {-1, -2}
