"""Linear operators: a square matrix that is stored whole, or as its diagonal.

The interface of the original's ``LinearOperatorFullMatrix`` and
``LinearOperatorDiag``.
"""

from typing import NamedTuple, Protocol

from kfac_core.linalg import psd
from kfac_core.registry import backend_of
from kfac_core.typing import Array


class LinearOperator(Protocol):
    """A square matrix, known by its products."""

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns."""

    def matmul(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``operator @ x``; `adjoint` and `adjoint_arg` transpose each."""

    def matmul_right(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``x @ operator``; `adjoint` and `adjoint_arg` transpose each."""

    def trace(self) -> Array:
        """Return the trace, 0-d."""

    def to_dense(self) -> Array:
        """Return the matrix, ``[n, n]``."""


class FullMatrixOperator(NamedTuple):
    """A matrix stored whole.

    Attributes:
        matrix: ``[n, n]``.

    Example:
        >>> import numpy as np
        >>> operator = FullMatrixOperator(np.asarray([[1.0, 2.0], [0.0, 1.0]]))
        >>> operator.matmul(np.ones((2, 1)), adjoint=True)
        array([[1.],
               [3.]])
    """

    matrix: Array

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns."""
        return self.matrix.shape[0]

    def matmul(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``operator @ x``; `adjoint` and `adjoint_arg` transpose each."""
        return _transposed(self.matrix, adjoint) @ _transposed(x, adjoint_arg)

    def matmul_right(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``x @ operator``; `adjoint` and `adjoint_arg` transpose each."""
        return _transposed(x, adjoint_arg) @ _transposed(self.matrix, adjoint)

    def trace(self) -> Array:
        """Return the trace, 0-d."""
        return psd.trace(backend_of(self.matrix), self.matrix)

    def to_dense(self) -> Array:
        """Return the matrix itself, ``[n, n]``."""
        return self.matrix


class DiagonalOperator(NamedTuple):
    """A diagonal matrix stored as its diagonal.

    Attributes:
        diagonal: ``[n]``.

    Example:
        >>> import numpy as np
        >>> DiagonalOperator(np.asarray([1.0, 2.0])).matmul_right(np.ones((1, 2)))
        array([[1., 2.]])
    """

    diagonal: Array

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns."""
        return self.diagonal.shape[0]

    def matmul(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return `x`, or its transpose, with each row scaled."""
        del adjoint  # A diagonal matrix is its own transpose.
        return self.diagonal[:, None] * _transposed(x, adjoint_arg)

    def matmul_right(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return `x`, or its transpose, with each column scaled."""
        del adjoint
        return _transposed(x, adjoint_arg) * self.diagonal[None, :]

    def trace(self) -> Array:
        """Return the trace, 0-d."""
        return backend_of(self.diagonal).xp.sum(self.diagonal)

    def to_dense(self) -> Array:
        """Return the matrix, ``[n, n]``, zeros included."""
        backend = backend_of(self.diagonal)
        n = self.diagonal.shape[0]
        device = backend.creation_device(self.diagonal)
        eye = backend.xp.eye(n, dtype=self.diagonal.dtype, device=device)
        return eye * self.diagonal[:, None]


def _transposed(x: Array, transpose: bool) -> Array:
    return x.mT if transpose else x
