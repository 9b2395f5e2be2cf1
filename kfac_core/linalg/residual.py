"""How wrong an inverse ``X`` of a positive definite ``M`` is: the residual ``I - M X``.

Its eigenvalues are real, those of the symmetric ``S = I - M^(1/2) X M^(1/2)``. With
``rho`` the largest of them in absolute value ::

    |X g - inv(M) g|_M  <=  rho |inv(M) g|_M    for every vector g,

in the norm ``|v|_M = sqrt(v' M v)``: the relative error of what is preconditioned. The
bound is reached where ``M^(-1/2) g`` is an eigenvector of ``S``.
"""

from collections.abc import Callable
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.typing import Array

KRYLOV_STEPS = 8
"""Dimension of the subspace in which eigenvalues are looked for."""


class ResidualRange(NamedTuple):
    """The extreme eigenvalues of a residual, 0-d (of a stack: ``[count]``).

    Attributes:
        smallest: Not above zero but for rounding, unless all are positive.
        largest: Less than one if the inverse is positive definite.
    """

    smallest: Array
    largest: Array


def rho(backend: Backend, found: ResidualRange) -> Array:
    """Return the largest absolute value of an eigenvalue."""
    xp = backend.xp
    return xp.maximum(xp.abs(found.smallest), xp.abs(found.largest))


def diagonal_range(backend: Backend, matrix: Array, inverse: Array) -> ResidualRange:
    """Return the extreme eigenvalues, exactly, of two diagonals of any one shape."""
    residual = 1.0 - matrix * inverse
    return ResidualRange(backend.xp.min(residual), backend.xp.max(residual))


def krylov_range(
    backend: Backend,
    multiply: Callable[[Array], Array],
    invert: Callable[[Array], Array],
    traces: tuple[Array, Array],
    size: int,
) -> ResidualRange:
    """Estimate the extreme eigenvalues from `KRYLOV_STEPS` products with each matrix.

    Lanczos's iteration with ``I - X M``, which is symmetric in the inner product
    ``u' M v``: the estimates are Rayleigh quotients, and so never outside of the true
    range but for rounding. Where the start has the cosine ``c`` with an extreme
    eigenvector, in that inner product, the estimate of `rho` is at least
    ``c^(1 / (KRYLOV_STEPS - 1))`` of the truth, and mostly far better. Exact, but for
    rounding, up to the size `KRYLOV_STEPS`.

    Args:
        backend: Backend of the matrices.
        multiply: The product with ``M``, of ``[size, 1]``.
        invert: The product with ``X``.
        traces: The traces of both, 0-d.
        size: Number of rows.

    Returns:
        The estimates, 0-d.
    """
    xp = backend.xp
    like = traces[0]
    device = backend.creation_device(like)
    zero, one = xp.zeros_like(like), xp.ones_like(like)
    # Chirps: no natural basis, be it that of entries or of waves, has a vector that
    # they miss. One weighs the large eigenvalues of M, the other the small ones.
    places = xp.arange(size, dtype=like.dtype, device=device)[:, None]
    squares = places * places
    positive = traces[1] > 0
    balance = xp.sqrt(traces[0]) / xp.sqrt(xp.where(positive, traces[1], one))
    following = xp.cos(squares) + balance * invert(xp.sin(squares))
    vector = xp.zeros_like(following)
    diagonal: list[Array] = []
    beside: list[Array] = []
    for _ in range(KRYLOV_STEPS):
        image = multiply(following)
        norm = xp.sum(following * image)
        ends = norm <= 0  # and not where it is NaN
        norm = xp.where(ends, zero, xp.sqrt(xp.where(ends, one, norm)))
        scale = xp.where(ends, zero, 1 / xp.where(ends, one, norm))
        beside.append(norm)
        previous, vector = vector, following * scale
        image = image * scale
        following = vector - invert(image)
        # At the end of its span the iteration repeats what it has found.
        repeated = diagonal[0] if diagonal else one
        alpha = xp.where(ends, repeated, xp.sum(following * image))
        diagonal.append(alpha)
        following = following - alpha * vector - norm * previous
    eye = xp.eye(KRYLOV_STEPS, dtype=like.dtype, device=device)
    below = xp.eye(KRYLOV_STEPS, k=-1, dtype=like.dtype, device=device)
    lower = below * xp.stack(beside)[:, None]
    values, _ = backend.eigh(eye * xp.stack(diagonal)[:, None] + lower + lower.mT)
    return ResidualRange(values[0], values[-1])


def product_rho(
    backend: Backend, first: ResidualRange, second: ResidualRange, ratio: Array
) -> Array:
    """Return `rho` of ``t (X kron Y)`` as the inverse of ``s (M kron N)``.

    The eigenvalues are ``1 - ratio (1 - a) (1 - b)`` for those ``a`` and ``b`` of the
    residuals of ``X`` and ``Y``. That is linear in each, and so extreme where both are:
    exact for exact ranges, and not above the truth for ranges inside of it.

    Args:
        backend: Backend of the ranges.
        first: Of ``X``.
        second: Of ``Y``.
        ratio: ``s t``, 0-d.

    Returns:
        The largest absolute value.
    """
    xp = backend.xp
    corners = [xp.abs(1 - ratio * (1 - a) * (1 - b)) for a in first for b in second]
    found = corners[0]
    for corner in corners[1:]:
        found = xp.maximum(found, corner)
    return found
