"""`BlockDiagonalOperator`: square matrices along the diagonal, zeros elsewhere."""

from itertools import accumulate
from typing import NamedTuple

from kfac_core.linalg.operators import FullMatrixOperator, operands
from kfac_core.registry import backend_of
from kfac_core.typing import Array


class BlockDiagonalOperator(NamedTuple):
    """A block-diagonal matrix, stored as its blocks.

    Attributes:
        blocks: Square matrices ``[m_i, m_i]``, of any sizes; at least one.

    Example:
        >>> import numpy as np
        >>> blocks = (np.asarray([[1.0, 2.0], [0.0, 1.0]]), np.asarray([[3.0]]))
        >>> operator = BlockDiagonalOperator(blocks)
        >>> operator.to_dense()
        array([[1., 2., 0.],
               [0., 1., 0.],
               [0., 0., 3.]])
        >>> operator.matmul(np.ones((3, 1)), adjoint=True)
        array([[1.],
               [3.],
               [3.]])
    """

    blocks: tuple[Array, ...]

    @property
    def domain_dimension(self) -> int:
        """Number of rows and of columns."""
        return sum(block.shape[0] for block in self.blocks)

    def matmul(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``operator @ x``; `adjoint` and `adjoint_arg` transpose each."""
        backend, _, x = operands(self, self.blocks[0], x, adjoint_arg)
        products = [
            FullMatrixOperator(block).matmul(x[start:end, :], adjoint=adjoint)
            for block, start, end in self._placed()
        ]
        product: Array = backend.xp.concat(products, axis=0)
        return product

    def matmul_right(
        self, x: Array, *, adjoint: bool = False, adjoint_arg: bool = False
    ) -> Array:
        """Return ``x @ operator``; `adjoint` and `adjoint_arg` transpose each."""
        first = self.blocks[0]
        _, _, x = operands(self, first, x, adjoint_arg, -1)
        return self.matmul(x, adjoint=not adjoint, adjoint_arg=True).mT

    def trace(self) -> Array:
        """Return the trace, 0-d."""
        traces = [FullMatrixOperator(block).trace() for block in self.blocks]
        backend = backend_of(traces[0])
        return backend.xp.sum(backend.xp.stack(traces))

    def to_dense(self) -> Array:
        """Return the matrix, ``[n, n]``, zeros included."""
        backend, n = backend_of(self.blocks[0]), self.domain_dimension
        xp, device = backend.xp, backend.creation_device(self.blocks[0])

        def zeros(block: Array, columns: int) -> Array:
            shape = (block.shape[0], columns)
            return xp.zeros(shape, dtype=block.dtype, device=device)

        bands = [
            xp.concat([zeros(block, start), block, zeros(block, n - end)], axis=1)
            for block, start, end in self._placed()
        ]
        dense: Array = xp.concat(bands, axis=0)
        return dense

    def _placed(self) -> list[tuple[Array, int, int]]:
        """Return each block, its first row, and the row after its last."""
        sizes = [block.shape[0] for block in self.blocks]
        ends = accumulate(sizes)
        places = zip(self.blocks, sizes, ends, strict=True)
        return [(block, end - size, end) for block, size, end in places]
