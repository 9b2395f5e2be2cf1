"""Chains of Kronecker products: matrices whose inverse is block-tridiagonal.

Let a matrix have the diagonal blocks ``D_i = kron(M_i, N_i)``, and above them ``C_i =
kron(A_i, G_i)``, between block ``i`` and the next. With ``P_i = C_i inv(D_{i+1})``, of
all matrices with these blocks that are positive definite, the one of largest
determinant is

    F_ij = P_i P_{i+1} ... P_{j-1} D_j   for i <= j,

and its inverse is zero but for the diagonal and its neighbours. It is the covariance of
a Gaussian chain, each block of which depends on the next alone, with regression ``P_i``
and what is left, ``S_i = D_i - P_i D_{i+1} P_i'`` (Martens & Grosse, 2015, section 4.3,
where ``P`` is ``Psi`` and ``S`` is ``Sigma``):

    inv(F) = X' blockdiag(inv(S)) X,   X = I, less the P above the diagonal.

``P_i = kron(Psi_A, Psi_G)`` is a Kronecker product, and ``S_i`` a difference of two. No
matrix of the size of a block is made, but in `dense`.

Functions take arrays that are checked, of one backend. Vectors are one matrix for each
block, on the row-major flattening of which it acts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.linalg.kronecker import kron
from kfac_core.linalg.kronecker_sum import KroneckerSum, pencil
from kfac_core.state_classes import state_class
from kfac_core.typing import Array

Product = tuple[Array, Array]
"""The two matrices of a Kronecker product."""


@state_class
class Link(NamedTuple):
    """A block of a chain, given the next one.

    Attributes:
        rows: ``Psi_A = A inv(M')``, ``[m, m']``, for ``M'`` of the next block.
        columns: ``Psi_G = G inv(N')``, ``[n, n']``.
        rest: ``S = kron(M, N) - kron(Psi_A M' Psi_A', Psi_G N' Psi_G')``.
    """

    rows: Array
    columns: Array
    rest: KroneckerSum

    def times(self, backend: Backend, x: Array) -> Array:
        """Return ``P`` times a vector of the next block, ``[m', n']``."""
        return backend.matmul(backend.matmul(self.rows, x), self.columns.mT)

    def transposed_times(self, backend: Backend, x: Array) -> Array:
        """Return ``P'`` times a vector of this block, ``[m, n]``."""
        return backend.matmul(backend.matmul(self.rows.mT, x), self.columns)

    def eigenvalues(self, backend: Backend) -> Array:
        """Return the eigenvalues of ``inv(D) S``, ``[m, n]``, at most one."""
        return self.rest.eigenvalues(backend.scalar(1.0, self.rows))


def link(backend: Backend, block: Product, cross: Product, inverse: Product) -> Link:
    """Return a block's dependence on the next.

    Args:
        backend: Backend of all.
        block: ``M`` and ``N`` of the block, symmetric and positive definite.
        cross: ``A``, ``[m, m']``, and ``G``, ``[n, n']``.
        inverse: The inverses of ``M'`` and ``N'`` of the next block.

    Returns:
        The link; NaN where the block is not positive definite.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> one = np.ones((1, 1))
        >>> made = link(backend_of(one), (one, one), (one / 2, one), (one, one))
        >>> made.rows, made.eigenvalues(backend_of(one))  # 1 - (1 / 2)^2
        (array([[0.5]]), array([[0.75]]))
    """
    psi = [backend.matmul(c, i) for c, i in zip(cross, inverse, strict=True)]
    known = [backend.matmul(p, c.mT) for p, c in zip(psi, cross, strict=True)]
    a, g = [(x + x.mT) / 2 for x in known]
    rest = KroneckerSum(pencil(backend, -a, block[0]), pencil(backend, g, block[1]))
    return Link(psi[0], psi[1], rest)


def multiply_inverse(
    backend: Backend,
    links: Sequence[Link],
    last_inverse: Callable[[Array], Array],
    vectors: Sequence[Array],
) -> list[Array]:
    """Return ``inv(F)`` times a vector.

    Args:
        backend: Backend of all.
        links: One for each block but the last.
        last_inverse: Multiplies by the inverse of the last block.
        vectors: One matrix for each block.

    Returns:
        The product, one matrix for each block.
    """
    # 1. u = X v: what the next block does not tell.
    *some, last = vectors
    pairs = zip(links, some, vectors[1:], strict=True)
    new = [v - own.times(backend, following) for own, v, following in pairs]
    # 2. y = inv(S) u.
    solved = [
        own.rest.solve(backend, u, backend.scalar(1.0, u))
        for own, u in zip(links, new, strict=True)
    ]
    solved.append(last_inverse(last))
    # 3. X' y.
    given = zip(links, solved[:-1], strict=True)
    told = [own.transposed_times(backend, y) for own, y in given]
    return [solved[0], *(y - t for y, t in zip(solved[1:], told, strict=True))]


def multiply(
    backend: Backend,
    links: Sequence[Link],
    blocks: Sequence[Product],
    vectors: Sequence[Array],
) -> list[Array]:
    """Return ``F`` times a vector; arguments are those of `dense` and a vector."""
    # 1. Down the chain: v_i + sum_{j < i} (P_j ... P_{i-1})' v_j, times D_i.
    sums = [vectors[0]]
    for own, v in zip(links, vectors[1:], strict=True):
        sums.append(v + own.transposed_times(backend, sums[-1]))

    def times(block: Product, x: Array) -> Array:
        return backend.matmul(backend.matmul(block[0], x), block[1])

    products = [times(block, x) for block, x in zip(blocks, sums, strict=True)]
    # 2. Up the chain: P_i (D_{i+1} v_{i+1} + P_{i+1} (...)).
    above = backend.xp.zeros_like(vectors[-1])
    for i in range(len(links) - 1, -1, -1):
        below = times(blocks[i + 1], vectors[i + 1])
        above = links[i].times(backend, below + above)
        products[i] = products[i] + above
    return products


def dense(backend: Backend, links: Sequence[Link], blocks: Sequence[Product]) -> Array:
    """Return ``F``, dense.

    Args:
        backend: Backend of all.
        links: One for each block but the last.
        blocks: ``M`` and ``N`` of each block.

    Returns:
        ``[sum(m n), sum(m n)]``.
    """
    xp, count = backend.xp, len(blocks)
    columns = []
    for j in range(count):
        # F_jj, F_{j-1, j}, ..., F_0j: each P_i times the one before.
        a, g = blocks[j]
        column = [kron(backend, a, g)]
        for each in reversed(links[:j]):
            a, g = backend.matmul(each.rows, a), backend.matmul(each.columns, g)
            column.append(kron(backend, a, g))
        columns.append(column[::-1])
    rows = [
        [
            *(columns[i][j].mT for j in range(i)),
            *(columns[j][i] for j in range(i, count)),
        ]
        for i in range(count)
    ]
    return xp.concat([xp.concat(row, axis=1) for row in rows], axis=0)
