"""Second moments of case gradients over one side, given a matrix of the other.

A case's gradient for a matrix of weights is ``D = sum_t x_t g_t'`` over the positions
that the case has. The Fisher is the mean of ``vec(D) vec(D)'``, and its products with a
matrix of one side, ``D G D'`` and ``D' A D``, are what a Kronecker product is fitted
from (Van Loan & Pitsianis, 1993). They are symmetric, and positive semi-definite where
``G`` and ``A`` are; nothing of the size of the Fisher is made.

With the kernel ``K_ts = g_t' G g_s`` of a case, ``D G D' = sum_ts K_ts x_t x_s'``: for
one position that is ``x x'``, weighted.
"""

from kfac_core.backend import Backend
from kfac_core.statistics.position_sums import products_over
from kfac_core.typing import Array


def inputs_moment(
    backend: Backend, x: Array, g: Array, matrix: Array, *, is_diagonal: bool = False
) -> Array:
    """Return ``sum D G D'`` over cases; with both sides exchanged ``sum D' A D``.

    Whichever takes fewer operations is formed: the kernel of all pairs of positions, or
    the gradient of each case. Cases are worked on in parts that fit the caches.

    Args:
        backend: Backend of the arrays.
        x: Inputs, ``[cases, positions, p]``.
        g: Gradients for outputs, ``[cases, positions, q]``.
        matrix: ``G``, ``[q, q]``, symmetric; or its diagonal ``[q]``.
        is_diagonal: Whether the diagonal of the sum is computed alone.

    Returns:
        ``[p, p]``, symmetric up to rounding; or ``[p]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> x = np.asarray([[[1.0, 2.0]], [[3.0, 0.0]]])
        >>> g = np.asarray([[[1.0]], [[2.0]]])
        >>> inputs_moment(backend_of(x), x, g, np.eye(1))  # 1 x x' + 4 x x'
        array([[37.,  2.],
               [ 2.,  4.]])
    """
    positions, p, q = x.shape[1], x.shape[2], g.shape[2]
    if positions == 1:
        rows, gradients = x[:, 0, :], g[:, 0, :]
        sizes = backend.xp.sum(_times(backend, gradients, matrix) * gradients, axis=-1)
        return _moment(backend, rows, rows * sizes[:, None], is_diagonal)
    is_few = positions * (p * p + q * q + positions * (p + q)) <= p * q * (
        positions + p + q
    )

    def moment(pair: Array) -> list[Array]:
        rows, gradients = pair[..., :p], pair[..., p:]
        if is_few:
            kernel = backend.matmul(_times(backend, gradients, matrix), gradients.mT)
            scaled = backend.matmul(kernel, rows)
        else:
            rows = products_over(backend, gradients, rows)  # [cases, q, p]
            scaled = _times(backend, rows.mT, matrix).mT
        return [
            _moment(backend, _flat(backend, rows), _flat(backend, scaled), is_diagonal)
        ]

    pair = backend.xp.concat([x, g], axis=-1)
    size, cases = backend.chunk_bytes(pair), x.shape[0]
    at_once = cases
    if size is not None:
        entry = backend.xp.finfo(x.dtype).bits // 8
        of_case = positions * (2 * p + 2 * q + positions) if is_few else 3 * p * q
        at_once = max(1, size // (entry * of_case))
    (total,) = backend.sum_over(moment, pair, min(at_once, cases))
    return total


def inputs_moment_of_ids(
    backend: Backend, size: int, ids: Array, g: Array, matrix: Array
) -> Array:
    """Return the diagonal of ``sum D G D'`` for rows of the identity, named by ids.

    Args:
        backend: Backend of the arrays.
        size: Number of ids.
        ids: ``[cases, positions]``; ids out of range count nothing.
        g: ``[cases, positions, q]``.
        matrix: ``G``, ``[q, q]``, symmetric; or its diagonal ``[q]``.

    Returns:
        ``[size]``.
    """
    xp = backend.xp
    inside = (ids >= 0) & (ids < size)
    kernel = backend.matmul(_times(backend, g, matrix), g.mT)
    shared = kernel * _same(backend, ids, inside, g)
    place = xp.where(inside, ids, xp.zeros_like(ids))
    return backend.scatter_add(
        size, xp.reshape(place, (-1,)), xp.reshape(xp.sum(shared, axis=-1), (-1,))
    )


def outputs_moment_of_ids(
    backend: Backend, ids: Array, g: Array, diagonal: Array, *, is_diagonal: bool
) -> Array:
    """Return ``sum D' A D`` for rows of the identity and a diagonal ``A``.

    Args:
        backend: Backend of the arrays.
        ids: ``[cases, positions]``; ids out of range count nothing.
        g: ``[cases, positions, q]``.
        diagonal: That of ``A``, ``[size]``.
        is_diagonal: Whether the diagonal of the sum is computed alone.

    Returns:
        ``[q, q]`` or ``[q]``.
    """
    xp = backend.xp
    inside = (ids >= 0) & (ids < diagonal.shape[0])
    place = xp.where(inside, ids, xp.zeros_like(ids))
    weights = xp.reshape(xp.take(diagonal, xp.reshape(place, (-1,))), ids.shape)
    kernel = _same(backend, ids, inside, g) * weights[:, :, None]
    scaled = backend.matmul(kernel, g)
    return _moment(backend, _flat(backend, g), _flat(backend, scaled), is_diagonal)


def _same(backend: Backend, ids: Array, inside: Array, like: Array) -> Array:
    """Return ``[cases, positions, positions]``: whether two positions have one id."""
    same = backend.xp.astype(ids[:, :, None] == ids[:, None, :], like.dtype)
    counted: Array = same * backend.xp.astype(inside, like.dtype)[:, :, None]
    return counted


def _times(backend: Backend, rows: Array, matrix: Array) -> Array:
    """Return rows times a matrix, or times a diagonal."""
    return rows * matrix if matrix.ndim == 1 else backend.matmul(rows, matrix)


def _flat(backend: Backend, x: Array) -> Array:
    rows: Array = backend.xp.reshape(x, (-1, x.shape[-1]))
    return rows


def _moment(backend: Backend, rows: Array, scaled: Array, is_diagonal: bool) -> Array:
    if is_diagonal:
        return backend.sum_of_rows(rows * scaled)
    return backend.cross(rows, scaled)
