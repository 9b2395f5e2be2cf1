"""Rows pooled over the positions of a case: their mean, and their sum.

A case with the inputs ``a_t`` and the output gradients ``g_t`` at its positions has the
gradient ``sum_t a_t g_t'``. Where the positions share one gradient, up to a factor
``w_t`` by which they are pooled, it is a mean input times a sum of gradients, ``(sum_t
w_t a_t / sum_t w_t) (sum_t g_t)'`` (Eschenhagen et al., 2023, section 3.3).
"""

from collections.abc import Sequence

from kfac_core.backend import Backend
from kfac_core.errors import UnsupportedError
from kfac_core.statistics.position_sums import sum_over
from kfac_core.statistics.weighted_rows import weigh
from kfac_core.typing import Array


def sum_of_positions(backend: Backend, x: Array, weights: Array | None) -> Array:
    """Return the sum of the rows of each case.

    Args:
        backend: Backend of both.
        x: ``[cases, positions, n]``.
        weights: How much each position counts, ``[cases, positions]``; None: one each.
            A position of weight zero may hold anything.

    Returns:
        ``[cases, n]``.
    """
    return sum_over(backend, x if weights is None else weigh(backend, x, weights), (1,))


def mean_of_positions(backend: Backend, x: Array, weights: Array | None) -> Array:
    """Return the mean of the rows of each case; zero where no position counts.

    Arguments and shapes are those of `sum_of_positions`.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> x = np.asarray([[[1.0], [4.0], [np.nan]]])
        >>> mean_of_positions(backend_of(x), x, np.asarray([[2.0, 1.0, 0.0]]))
        array([[2.]])
    """
    total = sum_of_positions(backend, x, weights)
    if weights is None:
        return total / x.shape[1]
    return total / _number(backend, weights)


def mean_of_one_hot(
    backend: Backend, ids: Array, size: int, weights: Array | None, like: Array
) -> Array:
    """Return the mean over positions of the one-hot vectors of ids.

    Args:
        backend: Backend of all.
        ids: ``[cases, positions]`` integers; those out of range count nothing.
        size: Length of a one-hot vector.
        weights: As in `sum_of_positions`.
        like: Array that gives the dtype.

    Returns:
        ``[cases, size]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> ids, like = np.asarray([[0, 2], [1, 1]]), np.ones(1)
        >>> mean_of_one_hot(backend_of(ids), ids, 3, None, like)
        array([[0.5, 0. , 0.5],
               [0. , 1. , 0. ]])
    """
    xp, (cases, positions) = backend.xp, ids.shape
    # Narrow or unsigned integers could not hold the places.
    ids = xp.astype(ids, xp.__array_namespace_info__().default_dtypes()["integral"])
    known = (ids >= 0) & (ids < size)
    device = backend.creation_device(ids)
    first = xp.arange(cases, dtype=ids.dtype, device=device)[:, None] * size
    places = first + xp.where(known, ids, xp.zeros_like(ids))
    counts = xp.astype(known, like.dtype)
    if weights is not None:
        counts = counts * weights
    flat = backend.scatter_add(
        cases * size, xp.reshape(places, (-1,)), xp.reshape(counts, (-1,))
    )
    total = xp.reshape(flat, (cases, size))
    return total / (positions if weights is None else _number(backend, weights))


def check_positions(
    positions: int, weights: Sequence[Array | None], layer: str
) -> None:
    """Check that weights are of cases, or of the positions that there are.

    Args:
        positions: Number of positions of a case.
        weights: Arrays ``[cases]`` or ``[cases, positions]``; None: one each.
        layer: Name of the layer, for the message.

    Raises:
        UnsupportedError: If they are of uses that have different numbers of positions.
    """
    for own in weights:
        if own is not None and own.ndim == 2 and own.shape[1] != positions:
            msg = (
                f"{layer}: weights are of {own.shape[1]} uses of several sizes, which"
                f" have {positions} positions; give weights of cases"
            )
            raise UnsupportedError(msg)


def split_weights(
    backend: Backend, weights: Array | None
) -> tuple[Array | None, Array | None]:
    """Return how much each case counts, and how much its positions count within it.

    A case counts as its largest position does, and its positions by their ratio to
    that.

    Args:
        backend: Backend of the weights.
        weights: ``[cases]``, ``[cases, positions]`` or None.

    Returns:
        ``[cases]``, and ``[cases, positions]``; None for what has no weights.
    """
    if weights is None or weights.ndim == 1:
        return weights, None
    xp = backend.xp
    largest = xp.max(weights, axis=1)
    divisor = xp.where(largest > 0, largest, xp.ones_like(largest))
    return largest, weights / divisor[:, None]


def times(first: Array | None, second: Array | None) -> Array | None:
    """Return the product of two weights of one shape, either of which may be None."""
    if first is None or second is None:
        return second if first is None else first
    return first * second


def _number(backend: Backend, weights: Array) -> Array:
    """Return the sum of the weights of a case, ``[cases, 1]``; one in place of zero."""
    xp = backend.xp
    total = xp.sum(weights, axis=1)[:, None]
    number: Array = xp.where(total > 0, total, xp.ones_like(total))
    return number
