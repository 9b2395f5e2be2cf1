"""Stacks of square matrices of one size, ``[count, n, n]``, each on its own.

Products broadcast over the stack. What is factorised is so one matrix after another:
a backend need not know stacks.
"""

from collections.abc import Sequence
from typing import Any

from kfac_core.backend import Backend
from kfac_core.linalg.operators import FullMatrixOperator
from kfac_core.registry import backend_of
from kfac_core.state import mapped
from kfac_core.typing import Array


class MatrixStackOperator(FullMatrixOperator):
    """A stack of matrices: products, traces and all are of each.

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
        """Return the trace of each, ``[count]``."""
        backend = backend_of(self.matrix)
        return backend.xp.sum(diagonals(backend, self.matrix), axis=-1)


def diagonals(backend: Backend, stack: Array) -> Array:
    """Return the diagonals ``[count, n]`` of ``[count, n, n]``."""
    found: Array = backend.xp.linalg.diagonal(stack)
    return found


def stacked(backend: Backend, parts: Sequence[Any]) -> Any:
    """Return nested tuples of arrays as one such tuple of stacks.

    Args:
        backend: Backend of the arrays.
        parts: Nested tuples of the same structure and shapes; at least one.

    Returns:
        The same structure; each array has a leading axis over the parts.
    """
    return mapped(lambda *same: backend.xp.stack(list(same)), *parts)


def unstacked(backend: Backend, stack: Any, count: int) -> list[Any]:
    """Return the members of nested tuples of stacks: `stacked`, undone.

    Args:
        backend: Backend of the arrays.
        stack: Nested tuples of arrays with a leading axis.
        count: Its length.

    Returns:
        For each place of it the same structure, of arrays of their own: one that is
        kept does not keep the stack.
    """
    xp = backend.xp
    return [
        mapped(lambda x, i=i: xp.astype(x[i, ...], x.dtype, copy=True), stack)
        for i in range(count)
    ]
