"""Second moments of rows, the bias as a border.

The bias is a homogeneous coordinate: a one at the end of every row (Martens & Grosse,
2015, section 2). It is never concatenated to the rows, but put around their Gram
matrix: with rows ``X`` ``[N, n]``,

    [X 1]' [X 1]  =  [[X'X, X'1], [1'X, N]].
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kfac_core.backend import Backend
from kfac_core.moving_average import Sample
from kfac_core.typing import Array


def second_moment(
    backend: Backend, towers: Sequence[Array], *, has_bias: bool = False
) -> Array:
    """Return ``X'X / N`` of all rows of all towers, about zero and not the mean.

    Args:
        backend: Backend of the towers.
        towers: Rows, each ``[rows, n]``; at least one row in all.
        has_bias: Whether each row ends in a one that is not stored.

    Returns:
        ``[n, n]``, or ``[n + 1, n + 1]`` with bias, symmetric bit for bit.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> rows = np.asarray([[1.0, 2.0], [3.0, 4.0]])
        >>> second_moment(backend_of(rows), [rows], has_bias=True)
        array([[ 5.,  7.,  2.],
               [ 7., 10.,  3.],
               [ 2.,  3.,  1.]])
    """
    count = sum(rows.shape[0] for rows in towers)
    moment = _total([backend.gram(rows) for rows in towers]) / count
    if not has_bias:
        return moment
    return bordered(backend, moment, mean_over(backend, towers))


@dataclass(frozen=True)
class SecondMoment(Sample):
    """The `second_moment`, to be added to a sum while it is computed.

    Attributes:
        towers: As in `second_moment`.
        has_bias: As there.
    """

    towers: Sequence[Array]
    has_bias: bool = False

    def added(
        self, backend: Backend, weight: Array, decay: Array, total: Array
    ) -> Array:
        """Return ``weight * second_moment + decay * total``.

        Args:
            backend: Backend of the arrays.
            weight: 0-d.
            decay: 0-d.
            total: Of the moment's shape, symmetric bit for bit.

        Returns:
            The sum, symmetric bit for bit.
        """
        count, n = sum(rows.shape[0] for rows in self.towers), total.shape[-1]
        towers = self.towers
        if self.has_bias:
            if count >= n:
                moment = second_moment(backend, towers, has_bias=True)
                return backend.axpby(decay, total, weight, moment)
            # Of few rows a copy is less than the border of a wide matrix.
            towers = [_with_ones(backend, rows) for rows in towers]
        for k, rows in enumerate(towers):
            factor = backend.xp.ones_like(decay) if k else decay
            total = backend.syrk(weight / count, rows, factor, total)
        return total


def _with_ones(backend: Backend, rows: Array) -> Array:
    """Return ``[rows, n + 1]``, each row with a one at its end."""
    xp, device = backend.xp, backend.creation_device(rows)
    ones = xp.ones((rows.shape[0], 1), dtype=rows.dtype, device=device)
    return xp.concat([rows, ones], axis=1)


def lagged_moment(
    backend: Backend,
    towers: Sequence[tuple[Sequence[Array], int]],
    *,
    has_bias: bool = False,
) -> Array:
    """Return ``X+' X- / (T N)``: of rows that follow one another, the later left.

    Divided by all ``T N`` rows, and not by the ``(T - 1) N`` pairs: so the covariances
    of no lag and of lag one are those of one positive semi-definite matrix.

    Args:
        backend: Backend of the towers.
        towers: Of each, arrays that follow one another in time, ``T`` of ``[N, n]`` or
            one ``[T * N, n]``; and ``T``. At least one row in all.
        has_bias: Whether each row ends in a one that is not stored.

    Returns:
        ``[n, n]``, or ``[n + 1, n + 1]`` with bias; zero for one use.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> rows = np.asarray([[1.0], [2.0], [4.0]])
        >>> lagged_moment(backend_of(rows), [([rows], 3)], has_bias=True)
        array([[3.33333333, 2.        ],
               [1.        , 0.66666667]])
    """
    later: list[Array] = []
    earlier: list[Array] = []
    rows = 0
    for parts, uses in towers:
        rows += sum(x.shape[0] for x in parts)
        if len(parts) > 1:
            later, earlier = [*later, *parts[1:]], [*earlier, *parts[:-1]]
        else:
            cases = parts[0].shape[0] // uses
            last = parts[0].shape[0] - cases
            later, earlier = (
                [*later, parts[0][cases:, :]],
                [*earlier, parts[0][:last, :]],
            )
    pairs = zip(later, earlier, strict=True)
    moment = _total([backend.matmul(x.mT, y) for x, y in pairs]) / rows
    if not has_bias:
        return moment
    column = _total([backend.xp.sum(x, axis=0) for x in later]) / rows
    row = _total([backend.xp.sum(x, axis=0) for x in earlier]) / rows
    return _framed(backend, moment, column, row, sum(x.shape[0] for x in later) / rows)


def bordered(backend: Backend, moment: Array, mean: Array) -> Array:
    """Return ``[[moment, mean], [mean', 1]]``, ``[n + 1, n + 1]``."""
    return _framed(backend, moment, mean, mean, 1.0)


def squared_mean(
    backend: Backend, towers: Sequence[Array], *, has_bias: bool = False
) -> Array:
    """Return the diagonal of `second_moment`, ``[n]`` or ``[n + 1]`` with bias."""
    mean = mean_over(backend, [rows * rows for rows in towers])
    if not has_bias:
        return mean
    device = backend.creation_device(mean)
    one = backend.xp.ones((1,), dtype=mean.dtype, device=device)
    return backend.xp.concat([mean, one])


def squared_moment(
    backend: Backend,
    towers: Sequence[tuple[Array, Array]],
    *,
    has_bias: bool = False,
) -> Array:
    """Return the mean over cases of the squared entries of ``outer(x, g)``.

    The square of an outer product is the outer product of the squares, so this is one
    product of squared rows and needs no per-case gradient.

    Args:
        backend: Backend of the towers.
        towers: Pairs ``x`` ``[rows, n]`` and ``g`` ``[rows, m]``; at least one row.
        has_bias: Whether each row of ``x`` ends in a one that is not stored.

    Returns:
        ``[n, m]``, or ``[n + 1, m]`` with bias.
    """
    count = sum(x.shape[0] for x, _ in towers)
    squares = [(x * x, g * g) for x, g in towers]
    moment = _total([backend.matmul(x.mT, g) for x, g in squares]) / count
    if not has_bias:
        return moment
    bias = mean_over(backend, [g for _, g in squares])
    return backend.xp.concat([moment, bias[None, :]], axis=0)


def mean_over(backend: Backend, towers: Sequence[Array]) -> Array:
    """Return the mean over the first axis of all towers."""
    count = sum(x.shape[0] for x in towers)
    return _total([backend.xp.sum(x, axis=0) for x in towers]) / count


def _framed(
    backend: Backend, matrix: Array, column: Array, row: Array, corner: float
) -> Array:
    """Return ``[[matrix, column], [row', corner]]``, ``[n + 1, n + 1]``."""
    xp = backend.xp
    one = xp.ones((1,), dtype=row.dtype, device=backend.creation_device(row))
    upper = xp.concat([matrix, column[:, None]], axis=1)
    return xp.concat([upper, xp.concat([row, one * corner])[None, :]], axis=0)


def _total(parts: Sequence[Array]) -> Array:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
