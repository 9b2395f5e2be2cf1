"""Second moments of the entries of case gradients, in the eigenbasis of a block.

A case's gradient for a matrix of weights is ``sum_t x_t g_t'`` over the positions that
the case has. In a basis of vectors ``u_i`` and ``w_j`` its entries are ``u_i' (sum_t
x_t g_t') w_j``; the means of their squares are the best eigenvalues for that basis, in
the Frobenius norm (George et al., 2018, equation 6).
"""

from collections.abc import Sequence

from kfac_core.backend import Backend
from kfac_core.linalg.spectrum import Eigenbasis, Spectrum, coordinates, rows_in
from kfac_core.statistics.position_sums import products_over
from kfac_core.typing import Array


def squared_entries(
    backend: Backend, bases: Sequence[Eigenbasis], x: Array, g: Array
) -> Array:
    """Return the squares of the entries of case gradients, summed over cases.

    The gradients are formed in the basis, or in the standard basis and then rotated,
    whichever takes fewer operations: for ``T`` positions, ``T (p^2 + q^2)`` or ``p q (p
    + q)`` of them for each case. Cases are worked on in parts that fit the caches.

    Args:
        backend: Backend of the arrays.
        bases: The basis of inputs ``[p, r]``, and that of gradients ``[q, s]``.
        x: Inputs, ``[cases, positions, p]``.
        g: Gradients for outputs, ``[cases, positions, q]``.

    Returns:
        ``[r, s]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> x = np.asarray([[[1.0, 2.0], [3.0, 0.0]]])
        >>> g = np.asarray([[[1.0], [-1.0]]])
        >>> standard = [Eigenbasis(np.ones(2)), Eigenbasis(np.ones(1))]
        >>> squared_entries(backend_of(x), standard, x, g)
        array([[4.],
               [4.]])
    """
    positions, p, q = x.shape[1], x.shape[2], g.shape[2]
    of_x, of_g = bases
    if positions == 1:
        rows, gradients = (
            rows_in(backend, of_x, x[:, 0, :]),
            rows_in(backend, of_g, g[:, 0, :]),
        )
        return backend.cross(rows * rows, gradients * gradients)
    is_few = positions * (p * p + q * q) <= p * q * (p + q)
    spectrum = Spectrum((of_x, of_g), of_x.values[:, None] * of_g.values[None, :])

    def squares(pair: Array) -> list[Array]:
        rows, gradients = pair[..., :p], pair[..., p:]
        if is_few:
            rows = rows_in(backend, of_x, rows)
            gradients = rows_in(backend, of_g, gradients)
        entries = products_over(backend, rows, gradients)
        if not is_few:
            entries = coordinates(backend, spectrum, entries)
        return [backend.sum_of_rows(entries * entries)]

    pair = backend.xp.concat([x, g], axis=-1)
    size, cases = backend.chunk_bytes(pair), x.shape[0]
    at_once = cases
    if size is not None:
        entry = backend.xp.finfo(x.dtype).bits // 8
        at_once = max(1, size // (entry * (positions * (p + q) + 2 * p * q)))
    (total,) = backend.sum_over(squares, pair, min(at_once, cases))
    return total


def squared_entries_of_ids(
    backend: Backend, size: int, of_g: Eigenbasis, ids: Array, g: Array
) -> Array:
    """Return the same for inputs that are rows of the identity, named by their places.

    The gradient of row ``v`` is the sum of ``g_t`` over the positions with the id
    ``v``. Its square is a sum over pairs of positions with one id, so that nothing of
    the size of the vocabulary is made for a case.

    Args:
        backend: Backend of the arrays.
        size: Number of ids.
        of_g: The basis of gradients ``[q, s]``.
        ids: ``[cases, positions]``; ids out of range count nothing.
        g: Gradients for each position, ``[cases, positions, q]``.

    Returns:
        ``[size, s]``.
    """
    xp = backend.xp
    gradients = rows_in(backend, of_g, g)
    inside = (ids >= 0) & (ids < size)
    counted = xp.astype(inside, g.dtype)[:, :, None]
    same = xp.astype(ids[:, :, None] == ids[:, None, :], g.dtype)
    gradients = gradients * counted
    squares = backend.matmul(same, gradients) * gradients
    return sum_at_ids(backend, size, ids, squares)


def sum_at_ids(backend: Backend, size: int, ids: Array, g: Array) -> Array:
    """Return rows added at their ids, ``[size, q]``: a sum of products with one-hots.

    Args:
        backend: Backend of the arrays.
        size: Number of ids.
        ids: ``[cases, positions]``; ids out of range count nothing.
        g: ``[cases, positions, q]``.
    """
    xp, columns = backend.xp, g.shape[-1]
    inside = (ids >= 0) & (ids < size)
    place = xp.where(inside, ids, xp.zeros_like(ids))
    counted = g * xp.astype(inside, g.dtype)[:, :, None]
    column = xp.arange(columns, dtype=ids.dtype, device=backend.creation_device(ids))
    flat = place[:, :, None] * columns + column[None, None, :]
    found = backend.scatter_add(
        size * columns, xp.reshape(flat, (-1,)), xp.reshape(counted, (-1,))
    )
    total: Array = xp.reshape(found, (size, columns))
    return total
