"""Sums of two Kronecker products, by the generalised eigenproblem of each side.

For positive definite ``M`` and symmetric ``A`` there is a ``K`` with ``K' M K = I`` and
``K' A K = diag(s)``. With such pairs of both sides, ``(M, A)`` and ``(N, G)``,

    inv(l kron(M, N) + kron(A, G)) = kron(K, J) diag(1 / (l + s_i t_j)) kron(K, J)',

for every ``l`` (Martens & Grosse, 2015, appendix B). With identities as ``M`` and ``N``
that is exact damping; with others it is the damping of another metric, such as the
precision of a prior that is a Kronecker product, or weight decay that differs between
rows. No matrix of the size of the sum is made.

Functions take arrays that are checked, of one backend.
"""

from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.linalg import psd
from kfac_core.state_classes import state_class
from kfac_core.typing import Array


@state_class
class Pencil(NamedTuple):
    """A matrix and a metric, made diagonal by one basis.

    Attributes:
        values: ``s``, ``[n]``, with ``A K = M K diag(s)``.
        vectors: ``K``, ``[n, n]``, columns; ``inv(M)`` is ``K K'``.
        logdet: 0-d, the logarithm of the determinant of ``M``.
    """

    values: Array
    vectors: Array
    logdet: Array


def pencil(backend: Backend, matrix: Array, metric: Array) -> Pencil:
    """Return the eigenvalues and eigenvectors of a matrix in a metric.

    Args:
        backend: Backend of both.
        matrix: ``A``, ``[n, n]``, symmetric.
        metric: ``M``, ``[n, n]``, symmetric and positive definite.

    Returns:
        The pencil; NaN where the metric is not positive definite.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> a, m = np.diag([2.0, 6.0]), np.diag([2.0, 3.0])
        >>> pencil(backend_of(a), a, m).values.round(6)
        array([1., 2.])
    """
    xp = backend.xp
    # 1. M = L L', and B = inv(L) A inv(L)'.
    lower = backend.cholesky(metric)
    inverse = psd.cholesky_inverse(backend, lower)
    within = backend.matmul(backend.matmul(inverse, matrix), inverse.mT)
    # 2. B = E diag(s) E', and K = inv(L)' E.
    values, vectors = backend.eigh((within + within.mT) / 2)
    logdet = 2 * xp.sum(xp.log(backend.diagonal(lower)))
    return Pencil(values, backend.matmul(inverse.mT, vectors), logdet)


@state_class
class KroneckerSum(NamedTuple):
    """``S(l) = l kron(M, N) + kron(A, G)``, on the row-major flattening of matrices.

    Attributes:
        rows: The pencil of ``A`` and ``M``, ``[m, m]``.
        columns: The pencil of ``G`` and ``N``, ``[n, n]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> backend, one = backend_of(np.eye(1)), np.eye(1)
        >>> rows = pencil(backend, np.diag([1.0, 2.0]), np.diag([1.0, 4.0]))
        >>> total = KroneckerSum(rows, pencil(backend, 3 * one, one))
        >>> shift = np.asarray(0.5)
        >>> total.solve(backend, np.asarray([[7.0], [16.0]]), shift)  # 3.5, 2 + 6
        array([[2.],
               [2.]])
    """

    rows: Pencil
    columns: Pencil

    def eigenvalues(self, shift: Array) -> Array:
        """Return ``l + s_i t_j``, ``[m, n]``, for 0-d `shift` ``l``."""
        return shift + self.rows.values[:, None] * self.columns.values[None, :]

    def solve(self, backend: Backend, x: Array, shift: Array) -> Array:
        """Return ``inv(S(l))`` times matrices.

        Args:
            backend: Backend of all.
            x: ``[..., m, n]``.
            shift: ``l``, 0-d; for positive semi-definite ``A`` and ``G``, positive.

        Returns:
            The products, of the shape of `x`.
        """
        k, j = self.rows.vectors, self.columns.vectors
        inner = backend.matmul(backend.matmul(k.mT, x), j) / self.eigenvalues(shift)
        return backend.matmul(backend.matmul(k, inner), j.mT)

    def root_of_inverse(self, backend: Backend, z: Array, shift: Array) -> Array:
        """Return ``R`` times matrices, where ``R R'`` is ``inv(S(l))``.

        With standard normal `z`, the products are samples of the normal distribution
        whose precision is ``S(l)``. Arguments are those of `solve`.
        """
        inner = z / backend.xp.sqrt(self.eigenvalues(shift))
        k, j = self.rows.vectors, self.columns.vectors
        return backend.matmul(backend.matmul(k, inner), j.mT)

    def logdet(self, backend: Backend, shift: Array) -> Array:
        """Return the logarithm of the determinant of ``S(l)``, 0-d."""
        m, n = self.rows.values.shape[0], self.columns.values.shape[0]
        metric = n * self.rows.logdet + m * self.columns.logdet
        total: Array = metric + backend.xp.sum(backend.xp.log(self.eigenvalues(shift)))
        return total
