"""Inverses of a covariance plus the square of a mean that may be far larger.

The second moment ``S + m m'`` has the condition number ``|m|^2 / s``, with ``s`` the
least eigenvalue of ``S``. In float32, if the mean is a few thousand standard
deviations, rounding alone makes it indefinite. If ``S = L L'`` and ``m`` are kept
apart, the inverse of the second moment is as accurate as the inverse of ``S``. It is
computed by the formula of Sherman and Morrison in its symmetric form. With ``u = inv(L)
m``,

    inv(S + m m') = W W',   W = inv(L)' (I - (1 - 1 / sqrt(1 + u'u)) u u' / (u'u)),

which is a Gram matrix, and so positive semi-definite whatever is rounded.
"""

from kfac_core.backend import Backend
from kfac_core.linalg import psd
from kfac_core.typing import Array


def inverse_of_second_moment(backend: Backend, factor: Array, mean: Array) -> Array:
    """Return ``inv(L L' + m m')``, symmetric bit for bit.

    Args:
        backend: Backend of both.
        factor: ``L``, ``[n, n]``, lower.
        mean: ``m``, ``[n]``.

    Returns:
        ``[n, n]``; NaN where the factor is NaN.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> factor, mean = np.eye(2), np.asarray([3.0, 0.0])
        >>> inverse_of_second_moment(backend_of(factor), factor, mean).round(6)
        array([[0.1, 0. ],
               [0. , 1. ]])
    """
    root, _ = _root(backend, factor, mean, backend.xp.ones_like(factor[0, 0]))
    return backend.gram(root.mT)


def inverse_of_bordered_moment(
    backend: Backend, factor: Array, mean: Array, corner: Array, damping: Array
) -> Array:
    """Return ``inv([[L L' + m m', r m], [r m', r^2 + l]])`` with ``r^2`` the corner.

    Eliminating the last coordinate turns the upper block into ``L L' + m m' l / (r^2 +
    l)``, without a difference.

    Args:
        backend: Backend of all.
        factor: ``L``, ``[n, n]``, lower, of the damped covariance.
        mean: ``m``, ``[n]``; zero where the corner is zero.
        corner: ``r^2``, 0-d, not negative.
        damping: ``l``, 0-d, not negative.

    Returns:
        ``[n + 1, n + 1]``, symmetric bit for bit; NaN or infinite where there is no
        inverse.
    """
    xp, damped = backend.xp, corner + damping
    column = mean * (xp.sqrt(corner) / damped)
    left = xp.sqrt(damping * damped / _positive(backend, corner))
    root, row = _root(backend, factor, column, left)
    zeros = xp.zeros_like(column)[:, None]
    last = xp.reshape(1 / xp.sqrt(damped), (1, 1))
    upper = xp.concat([root, zeros], axis=1)
    lower = xp.concat([-row[None, :], last], axis=1)
    return backend.gram(xp.concat([upper, lower], axis=0).mT)


def _root(
    backend: Backend, factor: Array, column: Array, scale: Array
) -> tuple[Array, Array]:
    """Return ``W`` with ``W W' = inv(L L' + m m')``, and ``c'W``, for ``m = scale c``.

    ``c'W`` is computed as ``(inv(L) c)' / r``: the product of ``c`` with ``W`` would
    cancel.
    """
    xp = backend.xp
    inverse = psd.cholesky_inverse(backend, factor)
    u = backend.matmul(inverse, column[:, None])[:, 0]
    # The square of the length may be out of range where the length is not.
    largest = _positive(backend, xp.max(xp.abs(u)))
    length = largest * xp.sqrt(xp.sum((u / largest) ** 2))
    unit = (u / _positive(backend, length))[:, None]
    length, one = length * scale, xp.ones_like(length)
    more, less = xp.maximum(length, one), xp.minimum(length, one)
    grown = more * xp.sqrt(1 + (less / more) ** 2)
    apart = backend.matmul(backend.matmul(inverse.mT, unit), unit.mT)
    return inverse.mT - (1 - 1 / grown) * apart, u / grown


def _positive(backend: Backend, x: Array) -> Array:
    """Return `x`, or one where it is zero."""
    return backend.xp.where(x > 0, x, backend.xp.ones_like(x))
