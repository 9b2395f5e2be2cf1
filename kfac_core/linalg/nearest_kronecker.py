"""The Kronecker product nearest to a matrix that is known by contractions alone.

For ``F`` in the form of a block, ``F[(i, j), (k, l)]``, let ``P(G)_ik = sum_jl F G_jl``
and ``Q(A)_jl = sum_ik F A_ik``. For a given ``G``, the distance ``|F - kron(A, G)|`` in
the Frobenius norm is least for ``A = P(G) / |G|^2``; for a given ``A``, it is least for
``G = Q(A) / |A|^2``. So to compute one side after the other never makes the distance
larger. This is the power iteration for the first singular pair of the rearranged matrix
(Van Loan & Pitsianis, 1993). For positive semi-definite ``F``, both contractions map
positive semi-definite matrices to such matrices, and so both sides are.

Functions take arrays that are checked, of one backend.
"""

from collections.abc import Callable

from kfac_core.backend import Backend
from kfac_core.typing import Array

Contraction = Callable[[Array], Array]


def nearest_product(
    backend: Backend, over_g: Contraction, over_a: Contraction, g: Array, rounds: int
) -> tuple[Array, Array]:
    """Return ``A`` and ``G`` of a product near to a matrix, of equal norms.

    The product is never further from ``F`` than ``kron(B, g)`` is, for any ``B``.

    Args:
        backend: Backend of the arrays.
        over_g: The contraction ``P``, of a matrix or of a diagonal; symmetric.
        over_a: The contraction ``Q``.
        g: ``G`` to start from, ``[n, n]``, or a diagonal ``[n]``; not zero.
        rounds: How often to compute both sides, at least once.

    Returns:
        ``A`` and ``G``; zeros if the matrix is zero.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> f = 6 * np.ones((2, 2, 3, 3))
        >>> over_g = lambda g: np.einsum("ikjl,jl->ik", f, g)
        >>> over_a = lambda a: np.einsum("ikjl,ik->jl", f, a)
        >>> a, g = nearest_product(backend_of(f), over_g, over_a, np.eye(3), 2)
        >>> float((a[0, 0] * g[0, 0]).round(6))
        6.0
    """
    one_of_g, _ = direction(backend, g)
    for _ in range(rounds):
        one_of_a, _ = direction(backend, over_g(one_of_g))
        one_of_g, norm = direction(backend, over_a(one_of_a))
    root = backend.xp.sqrt(norm)
    return one_of_a * root, one_of_g * root


def direction(backend: Backend, x: Array) -> tuple[Array, Array]:
    """Return an array over its Frobenius norm, and the norm; zero stays zero.

    The largest entry is divided out first, so that no square leaves the range.
    """
    xp = backend.xp
    largest = xp.max(xp.abs(x))
    one = xp.ones_like(largest)
    scaled = x / xp.where(largest > 0, largest, one)
    norm = xp.sqrt(xp.sum(scaled * scaled))
    return scaled / xp.where(norm > 0, norm, one), norm * largest
