"""Second moments of rows, with the bias as a border.

The bias is a homogeneous coordinate: a one at the end of every row (Martens & Grosse,
2015, section 2). The ones are not concatenated to the rows; instead their products are
put around the Gram matrix. With rows ``X`` ``[N, n]``,

    [X 1]' [X 1]  =  [[X'X, X'1], [1'X, N]].

Rows may have weights: a row of weight ``w`` counts like ``w`` equal rows. Then `towers`
hold the rows times the roots ``r`` of their weights (`weigh`), and the roots take the
place of the ones:

    [X r]' [X r]  =  [[X'X, X'r], [r'X, r'r]].
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kfac_core.backend import Backend
from kfac_core.moving_average import Sample
from kfac_core.rows.free_sizes import has_free_size, rows_in
from kfac_core.statistics.weighted_rows import Roots, ones_of, with_ones
from kfac_core.typing import Array, Scalar

MANY_ROWS = 4
"""Number of rows for each column from which a border costs less than ones at rows.

A border is copied several times with the matrix that it is put around. ``python -m
benchmarks --only "update_cov, 128"`` shows what a bias costs.
"""


def second_moment(
    backend: Backend,
    towers: Sequence[Array],
    *,
    has_bias: bool = False,
    roots: Roots = None,
    count: Scalar | None = None,
) -> Array:
    """Return ``X'X / N`` over all rows of all towers, about zero and not the mean.

    Args:
        backend: Backend of the towers.
        towers: Rows, each ``[rows, n]``, multiplied by their roots if there are any; at
            least one row in all.
        has_bias: Whether each row ends in a one that is not stored.
        roots: The roots of the weights of the rows of each tower.
        count: ``N``; None: the number of rows.

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
    number = _number(backend, towers, count)
    moment = _total([backend.gram(rows) for rows in towers]) / number
    if not has_bias:
        return moment
    mean, corner = _first_moments(backend, towers, roots, number)
    return framed(backend, moment, mean, mean, corner)


@dataclass(slots=True, eq=False)  # every update makes one: frozen takes longer
class SecondMoment(Sample):
    """The `second_moment`, which is added to a sum while it is computed.

    Attributes:
        towers: As in `second_moment`.
        has_bias: As in `second_moment`.
        roots: As in `second_moment`.
        count: As in `second_moment`.
    """

    towers: Sequence[Array]
    has_bias: bool = False
    roots: Roots = None
    count: Scalar | None = None

    def added(
        self, backend: Backend, weight: Array, decay: Array, total: Array
    ) -> Array:
        """Return ``weight * second_moment + decay * total``.

        Args:
            backend: Backend of the arrays.
            weight: 0-d.
            decay: 0-d.
            total: The sum so far, of the moment's shape, symmetric bit for bit.

        Returns:
            The sum, symmetric bit for bit.
        """
        towers, count = self.towers, _number(backend, self.towers, self.count)
        if self.has_bias:
            if _are_many(backend, towers, total.shape[-1]):
                moment = second_moment(
                    backend, towers, has_bias=True, roots=self.roots, count=count
                )
                return backend.axpby(decay, total, weight, moment)
            # Copying few rows costs less than putting a border around a wide matrix.
            towers = with_ones(backend, towers, self.roots)
        for k, rows in enumerate(towers):
            factor = backend.xp.ones_like(decay) if k else decay
            total = backend.syrk(weight / count, rows, factor, total)
        return total


def lagged_moment(
    backend: Backend,
    towers: Sequence[tuple[Sequence[Array], int]],
    *,
    has_bias: bool = False,
    roots: Sequence[Sequence[Array]] | None = None,
    count: Scalar | None = None,
) -> Array:
    """Return ``X+' X- / (T N)``: products of successive rows, the later on the left.

    The sum is divided by all ``T N`` rows, and not by the ``(T - 1) N`` pairs, so that
    the covariances of lags zero and one fit into one positive semi-definite matrix.

    Args:
        backend: Backend of the towers.
        towers: For each tower, arrays that follow one another in time, either ``T`` of
            ``[N, n]`` or one ``[T * N, n]``; and ``T``. At least one row in all. If
            there are roots, each row is multiplied by its root, so that a pair counts
            by the geometric mean of the weights of its rows.
        has_bias: Whether each row ends in a one that is not stored.
        roots: For each array of each tower the roots ``[rows]`` of the weights.
        count: What to divide by; None: the number of rows, ``T N``.

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
    arrays = [x for parts, _ in towers for x in parts]
    number = _number(backend, arrays, count)
    later, earlier = _pairs(towers)
    moment = _total([backend.cross(x, y) for x, y in zip(later, earlier, strict=True)])
    if not has_bias:
        return moment / number
    if roots is None:
        roots = [[ones_of(backend, x) for x in parts] for parts, _ in towers]
    columns = [
        ([root[:, None] for root in own], uses)
        for own, (_, uses) in zip(roots, towers, strict=True)
    ]
    late, early = _pairs(columns)
    products = zip(later, earlier, late, early, strict=True)
    parts = [
        (backend.cross(x, e), backend.cross(y, r), backend.cross(r, e))
        for x, y, r, e in products
    ]
    column, row, corner = (_total(same) / number for same in zip(*parts, strict=True))
    return framed(backend, moment / number, column[:, 0], row[:, 0], corner[0, 0])


def _pairs(
    towers: Sequence[tuple[Sequence[Array], int]],
) -> tuple[list[Array], list[Array]]:
    """Return the arrays of the later rows, and of the earlier rows, of all pairs."""
    later: list[Array] = []
    earlier: list[Array] = []
    for parts, uses in towers:
        if len(parts) > 1:
            later, earlier = [*later, *parts[1:]], [*earlier, *parts[:-1]]
        else:
            cases = parts[0].shape[0] // uses
            last = parts[0].shape[0] - cases
            later = [*later, parts[0][cases:, :]]
            earlier = [*earlier, parts[0][:last, :]]
    return later, earlier


def bordered(backend: Backend, moment: Array, mean: Array) -> Array:
    """Return ``[[moment, mean], [mean', 1]]``, ``[n + 1, n + 1]``."""
    return framed(backend, moment, mean, mean, 1.0)


def squared_mean(
    backend: Backend,
    towers: Sequence[Array],
    *,
    has_bias: bool = False,
    roots: Roots = None,
    count: Scalar | None = None,
) -> Array:
    """Return the diagonal of `second_moment`, ``[n]`` or ``[n + 1]`` with bias."""
    number = _number(backend, towers, count)
    mean = mean_over(backend, [rows * rows for rows in towers], number)
    if not has_bias:
        return mean
    corner = _corner(backend, towers, roots, number)
    device = backend.creation_device(mean)
    one = backend.xp.ones((1,), dtype=mean.dtype, device=device)
    return backend.xp.concat([mean, one * corner])


def squared_moment(
    backend: Backend,
    towers: Sequence[tuple[Array, Array]],
    *,
    has_bias: bool = False,
    count: Scalar | None = None,
) -> Array:
    """Return the mean over cases of the squared entries of ``outer(x, g)``.

    The square of an outer product is the outer product of the squares, so this is one
    product of squared rows and needs no per-case gradient.

    Args:
        backend: Backend of the towers.
        towers: Pairs ``x`` ``[rows, n]`` and ``g`` ``[rows, m]``; ``g`` is multiplied
            by the roots of the rows' weights if there are any. At least one row.
        has_bias: Whether each row of ``x`` ends in a one that is not stored.
        count: What to divide by; None: the number of rows.

    Returns:
        ``[n, m]``, or ``[n + 1, m]`` with bias.
    """
    number = _number(backend, [x for x, _ in towers], count)
    squares = [(x * x, g * g) for x, g in towers]
    moment = _total([backend.cross(x, g) for x, g in squares]) / number
    if not has_bias:
        return moment
    bias = mean_over(backend, [g for _, g in squares], number)
    return backend.xp.concat([moment, bias[None, :]], axis=0)


def mean_over(
    backend: Backend, towers: Sequence[Array], count: Scalar | None = None
) -> Array:
    """Return the sum over the first axis of all towers, divided by `count` or rows."""
    total = _total([backend.sum_of_rows(x) for x in towers])
    return total / _number(backend, towers, count)


def _number(backend: Backend, towers: Sequence[Array], count: Scalar | None) -> Scalar:
    """Return what to divide by."""
    return rows_in(backend, towers) if count is None else count


def _are_many(backend: Backend, towers: Sequence[Array], columns: int) -> bool:
    """Return whether a border costs less than a one at each row."""
    # An unknown number of rows is not taken for a small one.
    if has_free_size(towers):
        return True
    number = 0
    for rows in towers:
        number += rows.shape[0]
    if number < columns:
        return False
    # A compiler copies no border, and compiles anew for what a number is less than.
    return backend.is_traced(towers[0]) or number >= MANY_ROWS * columns


def _first_moments(
    backend: Backend, towers: Sequence[Array], roots: Roots, number: Scalar
) -> tuple[Array, Scalar]:
    """Return the border of a second moment: ``X'r / N``, and ``r'r / N``."""
    corner = _corner(backend, towers, roots, number)
    if roots is None:
        return mean_over(backend, towers, number), corner
    pairs = zip(towers, roots, strict=True)
    mean = _total([backend.cross(x, r[:, None])[:, 0] for x, r in pairs])
    return mean / number, corner


def _corner(
    backend: Backend, towers: Sequence[Array], roots: Roots, number: Scalar
) -> Scalar:
    """Return ``r'r / N``: the mean weight of a row."""
    if roots is None:
        share: Scalar = rows_in(backend, towers) / number
        return share
    return mean_over(backend, [r * r for r in roots], number)


def framed(
    backend: Backend, matrix: Array, column: Array, row: Array, corner: Scalar
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
