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


def interleaved(backend: Backend, blocks: Array) -> Array:
    """Return the dense matrix of groups whose parameters lie between one another.

    Args:
        backend: Backend of the array.
        blocks: The matrix of each group, ``[groups, rows, columns, rows, columns]``.

    Returns:
        ``[n, n]`` for ``n = rows * groups * columns``, row-major in this order.

    Example:
        >>> import numpy as np
        >>> blocks = np.stack([np.eye(2), 2 * np.eye(2)]).reshape(2, 2, 1, 2, 1)
        >>> interleaved(backend_of(blocks), blocks)
        array([[1., 0., 0., 0.],
               [0., 2., 0., 0.],
               [0., 0., 1., 0.],
               [0., 0., 0., 2.]])
    """
    xp = backend.xp
    groups, rows, columns, *_ = blocks.shape
    device = backend.creation_device(blocks)
    eye = xp.eye(groups, dtype=blocks.dtype, device=device)
    # The axes: row, group, column, twice.
    cells = xp.permute_dims(blocks, (1, 0, 2, 3, 4))[:, :, :, :, None, :]
    cells = cells * eye[None, :, None, None, :, None]
    size = rows * groups * columns
    dense: Array = xp.reshape(cells, (size, size))
    return dense
