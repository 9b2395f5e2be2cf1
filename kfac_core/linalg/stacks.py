"""Stacks of square matrices of one size, ``[count, n, n]``, each on its own.

Products broadcast over the stack. Factorisations go through the stack one matrix after
another, so that a backend need not support stacks.
"""

from kfac_core.backend import Backend
from kfac_core.linalg.operators import FullMatrixOperator
from kfac_core.registry import backend_of
from kfac_core.typing import Array


class MatrixStackOperator(FullMatrixOperator):
    """A stack of matrices; products and traces are computed for each matrix.

    Attributes:
        matrix: ``[count, n, n]``.

    Example:
        >>> import numpy as np
        >>> operator = MatrixStackOperator(np.asarray([[[2.0]], [[3.0]]]))
        >>> operator.matmul(np.ones((2, 1, 4))).sum(axis=-1)
        array([[ 8.],
               [12.]])
    """

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns of each matrix."""
        return self.matrix.shape[-1]

    def trace(self) -> Array:
        """Return the trace of each matrix, ``[count]``."""
        backend = backend_of(self.matrix)
        return backend.xp.sum(diagonals(backend, self.matrix), axis=-1)


def diagonals(backend: Backend, stack: Array) -> Array:
    """Return the diagonals ``[count, n]`` of ``[count, n, n]``."""
    found: Array = backend.xp.linalg.diagonal(stack)
    return found
