"""How wrong an inverse ``X`` of a positive definite ``M`` is: the residual ``I - M X``.

The residual has the real eigenvalues of the symmetric ``S = I - M^(1/2) X M^(1/2)``.
With ``rho`` for the largest absolute value of these ::

    |X g - inv(M) g|_M  <=  rho |inv(M) g|_M    for every vector g,

in the norm ``|v|_M = sqrt(v' M v)``. So ``rho`` bounds the relative error of a
preconditioned vector. The bound is reached where ``M^(-1/2) g`` is an eigenvector of
``S``.
"""

from collections.abc import Callable
from typing import NamedTuple

from kfac_core.backend import Backend
from kfac_core.typing import Array

KRYLOV_STEPS = 8
"""Dimension of the subspace in which eigenvalues are estimated."""


class ResidualRange(NamedTuple):
    """The extreme eigenvalues of a residual, 0-d, or ``[count]`` for a stack.

    Attributes:
        smallest: The smallest eigenvalue.
        largest: The largest; less than one if the inverse is positive definite.
    """

    smallest: Array
    largest: Array


def rho(backend: Backend, found: ResidualRange) -> Array:
    """Return the largest absolute value of an eigenvalue."""
    xp = backend.xp
    return xp.maximum(xp.abs(found.smallest), xp.abs(found.largest))


def diagonal_range(backend: Backend, matrix: Array, inverse: Array) -> ResidualRange:
    """Return the exact extreme eigenvalues for two diagonals of one shape."""
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

    This is Lanczos's iteration with ``B = I - X M``, which is symmetric in the inner
    product ``u' M v``. The estimates are Rayleigh quotients, and so never outside of
    the true range, except by rounding. If the start has the cosine ``c`` with an
    extreme eigenvector, in that inner product, the estimate of `rho` is at least
    ``c^(1 / (KRYLOV_STEPS - 1))`` times the truth, and mostly far better. It is exact,
    except for rounding, up to the size `KRYLOV_STEPS`.

    Args:
        backend: Backend of the matrices.
        multiply: Multiplies a vector ``[size, 1]`` with ``M``.
        invert: Multiplies a vector ``[size, 1]`` with ``X``.
        traces: The traces of ``M`` and ``X``, 0-d.
        size: Number of rows.

    Returns:
        The estimates, 0-d.
    """
    xp = backend.xp
    like = traces[0]
    device = backend.creation_device(like)
    zero, one = xp.zeros_like(like), xp.ones_like(like)
    # 1. Start: w = cos(j^2) + sqrt(tr M / tr X) X sin(j^2), over the places j. These
    #    are chirps: no vector of a natural basis, be it of entries or of waves, is
    #    orthogonal to them. The first weighs large eigenvalues of M, the second small.
    places = xp.arange(size, dtype=like.dtype, device=device)[:, None]
    squares = places * places
    positive = traces[1] > 0
    balance = xp.sqrt(traces[0]) / xp.sqrt(xp.where(positive, traces[1], one))
    following = xp.cos(squares) + balance * invert(xp.sin(squares))
    vector = xp.zeros_like(following)
    diagonal: list[Array] = []
    beside: list[Array] = []
    for _ in range(KRYLOV_STEPS):
        # 2. Normalise in the inner product of M: beta = sqrt(w' M w), v = w / beta,
        #    with M v as M w / beta. At the end of the span beta is zero, and so is v.
        image = multiply(following)
        norm = xp.sum(following * image)
        ends = norm <= 0  # and not where it is NaN
        norm = xp.where(ends, zero, xp.sqrt(xp.where(ends, one, norm)))
        scale = xp.where(ends, zero, 1 / xp.where(ends, one, norm))
        beside.append(norm)
        previous, vector = vector, following * scale
        image = image * scale
        # 3. Apply B: B v = v - X (M v).
        following = vector - invert(image)
        # 4. The Rayleigh quotient alpha = v' M B v. At the end of the span there is
        #    none; the first is repeated, which lies in the range already.
        repeated = diagonal[0] if diagonal else one
        alpha = xp.where(ends, repeated, xp.sum(following * image))
        diagonal.append(alpha)
        # 5. Three terms: w = B v - alpha v - beta v_previous, orthogonal to all before.
        following = following - alpha * vector - norm * previous
    # 6. The extreme eigenvalues of the tridiagonal matrix with the alphas on its
    #    diagonal, and the betas from the second on beside it, are the estimates.
    eye = xp.eye(KRYLOV_STEPS, dtype=like.dtype, device=device)
    below = xp.eye(KRYLOV_STEPS, k=-1, dtype=like.dtype, device=device)
    lower = below * xp.stack(beside)[:, None]
    values, _ = backend.eigh(eye * xp.stack(diagonal)[:, None] + lower + lower.mT)
    return ResidualRange(values[0], values[-1])


def product_rho(
    backend: Backend, first: ResidualRange, second: ResidualRange, ratio: Array
) -> Array:
    """Return `rho` of ``t (X kron Y)`` as the inverse of ``s (M kron N)``.

    If ``a`` and ``b`` are eigenvalues of the residuals of ``X`` and ``Y``, those of the
    product are ``1 - ratio (1 - a) (1 - b)``. This is linear in ``a`` and in ``b``, and
    so extreme where both are. The result is exact for exact ranges, and not above the
    truth for ranges inside the true ones.

    Args:
        backend: Backend of the ranges.
        first: Range of the residual of ``X``.
        second: Range of the residual of ``Y``.
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
