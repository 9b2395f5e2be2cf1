"""LAPACK through SciPy: Cholesky factorisations, and inverses from there."""

import numpy as np
from scipy.linalg import lapack


def potri(a: np.ndarray) -> np.ndarray:
    """Return the inverse of a positive matrix, one triangle of it.

    Args:
        a: ``[n, n]``, in C order.

    Returns:
        ``[n, n]``, in Fortran's order; below its diagonal is what does not count.
    """
    double = a.dtype == np.float64
    potrf = lapack.dpotrf if double else lapack.spotrf
    invert = lapack.dpotri if double else lapack.spotri
    # Transposed it is in Fortran's order: the one copy is the result.
    return invert(potrf(a.T, clean=0)[0], overwrite_c=1)[0]


def mirrored_potri(a: np.ndarray) -> np.ndarray:
    """Return the inverse of a positive matrix, whole."""
    upper = np.triu(potri(a))
    return upper + np.triu(upper, 1).T
