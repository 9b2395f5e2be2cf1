"""`OffsetOperator`: a matrix over copies of a space that treats all copies alike.

Let there be ``k`` copies of an n-dimensional space, and perhaps one more coordinate,
and a symmetric matrix that does not change when the copies are permuted. On the
direction in which all copies are equal, together with the last coordinate, it acts as
one matrix of order ``n + 1``. On each of the ``k - 1`` directions orthogonal to it, it
acts as one and the same matrix of order ``n``. A power of the whole matrix acts as the
powers of these two matrices.
"""

import math
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.linalg import psd
from kfac_core.linalg.kronecker import kron
from kfac_core.linalg.operators import FullMatrixOperator, operands
from kfac_core.registry import backend_of
from kfac_core.typing import Array


class OffsetOperator(NamedTuple):
    """A symmetric matrix that treats all copies alike, stored as two small matrices.

    With ``e`` the unit vector in which all copies are equal, it is

        kron(I - e e', within) + kron(e e', common)

    Where `common` has one more row and column than `within`, they belong to the last
    coordinate, as ``kron(e, row)``, its transpose, and the corner.

    Attributes:
        within: ``[n, n]``, symmetric.
        common: ``[n, n]`` or ``[n + 1, n + 1]``, symmetric.
        direction: ``e``, ``[k]``, each entry ``1 / sqrt(k)``.

    Example:
        >>> import numpy as np
        >>> e = np.full(2, 0.5**0.5)
        >>> operator = OffsetOperator(np.asarray([[1.0]]), np.asarray([[3.0]]), e)
        >>> operator.to_dense().round(6)
        array([[2., 1.],
               [1., 2.]])
    """

    within: Array
    common: Array
    direction: Array

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns."""
        n = self.within.shape[0]
        return self.direction.shape[0] * n + self.common.shape[0] - n

    def matmul(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``operator @ x``; `adjoint_arg` transposes `x`."""
        del adjoint  # The matrix is symmetric.
        backend, _, x = operands(self, self.within, x, adjoint_arg)
        xp = backend.xp
        k, n, columns = self.direction.shape[0], self.within.shape[0], x.shape[1]
        copies = xp.reshape(x[: k * n, :], (k, n, columns))
        unit = self.direction[:, None, None]
        mean = xp.sum(copies * unit, axis=0)
        together = FullMatrixOperator(self.common).matmul(
            xp.concat([mean, x[k * n :, :]], axis=0)
        )
        apart = FullMatrixOperator(self.within).matmul(copies - unit * mean[None, :, :])
        product = xp.reshape(apart + unit * together[None, :n, :], (k * n, columns))
        return xp.concat([product, together[n:, :]], axis=0)

    def matmul_right(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``x @ operator``; `adjoint_arg` transposes `x`."""
        _, _, x = operands(self, self.within, x, adjoint_arg, -1)
        return self.matmul(x, adjoint=adjoint, adjoint_arg=True).mT

    def trace(self) -> Array:
        """Return the trace, 0-d."""
        backend = backend_of(self.within)
        copies = self.direction.shape[0]
        apart = psd.trace(backend, self.within) * (copies - 1)
        return apart + psd.trace(backend, self.common)

    def to_dense(self) -> Array:
        """Return the matrix, ``[n, n]``, symmetric bit for bit."""
        backend = backend_of(self.within)
        xp, n = backend.xp, self.within.shape[0]
        unit = self.direction
        device = backend.creation_device(unit)
        eye = xp.eye(unit.shape[0], dtype=unit.dtype, device=device)
        alike = unit[:, None] * unit[None, :]
        apart = kron(backend, eye - alike, self.within)
        dense: Array = apart + kron(backend, alike, self.common[:n, :n])
        if self.common.shape[0] == n:
            return dense
        row = kron(backend, unit[None, :], self.common[n:, :n])
        lower = xp.concat([row, self.common[n:, n:]], axis=1)
        bordered: Array = xp.concat([xp.concat([dense, row.mT], axis=1), lower], axis=0)
        return bordered


def equal_copies(backend: Backend, copies: int, like: Array) -> Array:
    """Return the unit vector ``[copies]`` with equal entries."""
    device = backend.creation_device(like)
    ones = backend.xp.ones((copies,), dtype=like.dtype, device=device)
    return ones / math.sqrt(copies)
