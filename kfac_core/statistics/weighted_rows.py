"""Rows with weights: each row times the root of its weight.

A row of weight ``w`` then counts in sums of squares and products like ``w`` equal rows.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from kfac_core.backend import Backend
from kfac_core.rows.free_sizes import has_free_size
from kfac_core.typing import Array, Scalar

Roots = Sequence[Array] | None
"""The roots ``[rows]`` of each tower's weights; None: all rows count one."""


def weigh(backend: Backend, rows: Array, roots: Array) -> Array:
    """Return rows times the roots of their weights.

    A row of weight zero becomes zero, even if it holds NaN or infinity.

    Args:
        backend: Backend of both.
        rows: ``[rows, ...]``, or with as many leading axes as `roots` has.
        roots: ``[rows]``, or with more of the axes of `rows`.

    Returns:
        The products, of the shape of `rows`.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> rows = np.asarray([[1.0, 2.0], [np.nan, 1.0]])
        >>> weigh(backend_of(rows), rows, np.asarray([2.0, 0.0]))
        array([[2., 4.],
               [0., 0.]])
    """
    counted = masked(backend, rows, roots)
    return counted * _over(backend, rows, roots)


def masked(backend: Backend, rows: Array, roots: Array) -> Array:
    """Return rows, with zeros in place of rows of weight zero, whatever they hold."""
    xp = backend.xp
    return xp.where(_over(backend, rows, roots) > 0, rows, xp.zeros_like(rows))


def _over(backend: Backend, rows: Array, roots: Array) -> Array:
    """Return roots with as many axes as the rows have."""
    axes = (*roots.shape, *((1,) * (rows.ndim - roots.ndim)))
    shaped: Array = backend.xp.reshape(roots, axes)
    return shaped


def weighed_pair(
    backend: Backend, x: Array, g: Array, weights: Array
) -> tuple[Array, Array]:
    """Return inputs and gradients whose products, summed over positions, are weighted.

    A case that counts ``w`` times has its gradient multiplied by the root of ``w``,
    since the square of the gradient counts. A position that counts ``w`` times within a
    case is added ``w`` times to the gradient of the case.

    Args:
        backend: Backend of all.
        x: ``[batch, positions, ...]``, or ``[batch, ...]`` for weights of cases.
        g: ``[batch, positions, ...]``, or ``[batch, ...]`` for weights of cases.
        weights: ``[batch]`` or ``[batch, positions]``.

    Returns:
        `x`, with zeros in place of rows of weight zero; and `g`, weighted.
    """
    factor = backend.xp.sqrt(weights) if weights.ndim == 1 else weights
    return masked(backend, x, factor), weigh(backend, g, factor)


def by_row(backend: Backend, weights: Array, positions: int) -> Array:
    """Return the weights of a tower as ``[batch * positions]``."""
    xp = backend.xp
    if weights.ndim == 1 and positions != 1:
        weights = weights[:, None] + xp.zeros(
            (1, positions), dtype=weights.dtype, device=backend.creation_device(weights)
        )
    return xp.reshape(weights, (-1,))


def as_rows(
    backend: Backend,
    weights: Sequence[Array] | None,
    shapes: Sequence[tuple[int, ...]],
    positions: float,
    num_cases: Scalar | None,
) -> dict[str, Any]:
    """Return the options of a factor that sees each position as a case of its own.

    Args:
        backend: Backend of the weights.
        weights: None, or for each tower ``[batch]`` or ``[batch, positions]``.
        shapes: For each tower ``(batch, ..positions..)``.
        positions: Number of positions of a case, the mean over all towers.
        num_cases: As in `kfac_core.rows.counts.count_of`.
    """
    options: dict[str, Any] = {}
    if weights is not None:
        options["weights"] = tuple(
            by_row(backend, w, math.prod(shape[1:]))
            for w, shape in zip(weights, shapes, strict=True)
        )
    if num_cases is not None:
        options["num_cases"] = num_cases * positions
    return options


class Rows(NamedTuple):
    """Rows of a batch, with their weights.

    Attributes:
        arrays: Rows, each ``[rows, n]``, multiplied by their roots if there are any.
        roots: For each array the roots ``[rows]`` of the weights.
        number: What sums over rows are divided by; None: the number of rows.
    """

    arrays: Sequence[Array]
    roots: Roots = None
    number: Scalar | None = None


def weighed(
    backend: Backend, arrays: Sequence[Array], roots: Roots, count: Scalar | None
) -> Rows:
    """Return rows with their weights; see `weigh`."""
    if roots is not None:
        pairs = zip(arrays, roots, strict=True)
        arrays = [weigh(backend, x, r) for x, r in pairs]
    return Rows(arrays, roots, count)


def with_ones(
    backend: Backend, towers: Sequence[Array], roots: Roots, width: int = 1
) -> list[Array]:
    """Return ``[rows, n + width]``, where each row ends in its root, or a one."""
    xp = backend.xp
    if roots is None:
        roots = [ones_of(backend, rows) for rows in towers]
    return [
        xp.concat([rows, *[root[:, None]] * width], axis=1)
        for rows, root in zip(towers, roots, strict=True)
    ]


def ones_of(backend: Backend, rows: Array) -> Array:
    """Return a one for each row."""
    if has_free_size((rows,)):
        ones: Array = backend.xp.ones_like(rows[:, 0])
        return ones
    xp, device = backend.xp, backend.creation_device(rows)
    return xp.ones((rows.shape[0],), dtype=rows.dtype, device=device)
