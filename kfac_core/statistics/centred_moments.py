"""Moments of weighted samples; the second moment is about their mean.

Samples ``x_i`` with weights ``w_i`` have the moments

    [[C, m], [m', w]],   w = sum_i w_i,   m = sum_i w_i x_i,
                         C = sum_i w_i (x_i - m / w) (x_i - m / w)'.

The second moment about zero is ``C + m m' / w``, so that each of the two gives the
other. But a covariance that is computed as the difference ``E[x x'] - E[x] E[x]'`` has
the rounding errors of its larger term: with the mean ``mu`` and the deviation ``s``
they are ``(mu / s)^2`` times as large as those of ``C``. Two sets of samples can be
merged without a difference of large numbers (Chan, Golub & LeVeque, 1983, eq. 2.1):

    C = C1 + C2 + w1 w2 / (w1 + w2) d d',   d = m1 / w1 - m2 / w2.

A weighted mean of batches needs no more than this: a batch that has decayed by ``a`` is
a batch with weights ``a w_i``.
"""

from dataclasses import dataclass

from kfac_core.backend import Backend
from kfac_core.moving_average import Sample
from kfac_core.statistics.rows import framed
from kfac_core.typing import Array


@dataclass(frozen=True)
class CentredMoments(Sample):
    """Moments that are merged with earlier moments, and not added to them.

    Attributes:
        moments: ``[[C, m], [m', w]]``, ``[n + 1, n + 1]``.
    """

    moments: Array

    def added(
        self, backend: Backend, weight: Array, decay: Array, total: Array
    ) -> Array:
        """Return the moments of all samples, with their weights multiplied.

        Args:
            backend: Backend of the arrays.
            weight: 0-d, what the weights of these samples are multiplied by.
            decay: 0-d, what the weights of the earlier samples are multiplied by.
            total: Moments of the earlier samples, zero if there are none.

        Returns:
            ``[n + 1, n + 1]``, symmetric bit for bit.
        """
        return merged(backend, total * decay, self.moments * weight)


def parts(moments: Array) -> tuple[Array, Array, Array]:
    """Return second moment or ``C``, first moment ``m``, and ``w``, 0-d."""
    return moments[:-1, :-1], moments[:-1, -1], moments[-1, -1]


def merged(backend: Backend, first: Array, second: Array) -> Array:
    """Return the moments of two sets of samples together.

    Args:
        backend: Backend of both.
        first: ``[[C, m], [m', w]]``, ``[n + 1, n + 1]``.
        second: Moments of the same form.

    Returns:
        Moments of the same form, symmetric bit for bit.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> one, three = (np.asarray([[0.0, x], [x, 1.0]]) for x in (1.0, 3.0))
        >>> merged(backend_of(one), one, three)
        array([[2., 4.],
               [4., 2.]])
    """
    xp = backend.xp
    # The weights are last entries, which are both one after the division, and cancel.
    m1, m2 = first[:, -1], second[:, -1]
    w1, w2 = m1[-1], m2[-1]
    apart = m1 / _positive(backend, w1) - m2 / _positive(backend, w2)
    # The root of the product of both weights may be in range where the product is not.
    weight = xp.sqrt(w1) * xp.sqrt(w2 / _positive(backend, w1 + w2))
    return first + second + _square(weight * apart)


def centred(backend: Backend, moments: Array, shift: Array) -> Array:
    """Return the moments about the mean of samples, from those about another point.

    Args:
        backend: Backend of both.
        moments: ``sum_i w_i [y_i 1]' [y_i 1]`` of ``y_i = x_i - shift``, ``[n + 1, n +
            1]``; the nearer the shift is to the mean, the smaller the error.
        shift: ``[n]``.

    Returns:
        ``[[C, m], [m', w]]`` of ``x_i``, symmetric bit for bit.
    """
    second, first, weight = parts(moments)
    rest = _square(first / backend.xp.sqrt(_positive(backend, weight)))
    return _bordered(backend, second - rest, first + shift * weight, weight)


def about_zero(backend: Backend, moments: Array) -> Array:
    """Return ``[[C + m m' / w, m], [m', w]]``: the moments about zero."""
    covariance, first, weight = parts(moments)
    return _bordered(backend, covariance + mean_square(backend, moments), first, weight)


def witness(backend: Backend, moments: Array) -> Array:
    """Return the diagonal of the moments about zero, and the corner twice."""
    last = moments[:, -1]
    return backend.diagonal(moments) + last * (last / _positive(backend, last[-1]))


def mean_square(backend: Backend, moments: Array) -> Array:
    """Return ``m m' / w``, ``[n, n]``; zero where all weights are zero."""
    _, first, weight = parts(moments)
    return _square(first / backend.xp.sqrt(_positive(backend, weight)))


def _square(x: Array) -> Array:
    """Return the outer square of a vector, symmetric bit for bit."""
    return x[:, None] * x[None, :]


def _positive(backend: Backend, weight: Array) -> Array:
    """Return a weight, or one where it is zero."""
    return backend.xp.where(weight > 0, weight, backend.xp.ones_like(weight))


def _bordered(backend: Backend, matrix: Array, first: Array, weight: Array) -> Array:
    return framed(backend, matrix, first, first, weight)
