"""Rows of a layer as the cases of a batch, whatever axes a model has before them.

A *case* is a row of what goes into the loss, ``[cases, classes]``: an image, a token.
A layer has as many rows as there are cases, several for each (positions that a model
pools, or repeated calls), or fewer (an image of which every pixel has a loss).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import torch

from kfac_adapters.row_orders import RowOrder

Shape: TypeAlias = tuple[int, ...]


class Folding(NamedTuple):
    """How the leading axes of a layer's arrays become those of cases and uses.

    Attributes:
        before: Number of uses before the axis of cases.
        cases: Length of the axis of cases.
        after: Number of uses after it.
        order: The order of rows that are in none of this kind, and the shapes of rows
            and cases; None: they are.
    """

    before: int
    cases: int
    after: int
    order: tuple[RowOrder, Shape, Shape] | None = None

    @property
    def uses(self) -> int:
        """How often a case uses the layer in this call."""
        return self.before * self.after


@lru_cache(maxsize=1024)  # it is the same at every step
def folding(leading: Shape, cases: Shape, order: RowOrder | None = None) -> Folding:
    """Return how the leading axes of a layer's arrays are folded.

    Rows that are fewer than the cases are those of some cases, as the rows of an expert
    are; and if they are more, or are known to be of all cases alike, uses of one case
    that alone reaches the layer. The sum over them is divided by all cases.

    Args:
        leading: All axes before those of one position.
        cases: The axes of cases.
        order: Where the axes of cases are, if that is known; else shapes tell it.

    Returns:
        The folding; its number of cases is that of those that reach the layer.

    Example:
        >>> folding((32, 10), (320,))  # a token is a case
        Folding(before=1, cases=320, after=1, order=None)
        >>> folding((32, 10), (32,))  # positions are uses
        Folding(before=1, cases=32, after=10, order=None)
        >>> folding((10, 32), (32,))  # and here they come first
        Folding(before=10, cases=32, after=1, order=None)
        >>> folding((32,), (320,))  # a sequence, of ten tokens
        Folding(before=1, cases=32, after=1, order=None)
        >>> folding((5,), (32,))  # cases that are sent to an expert
        Folding(before=1, cases=5, after=1, order=None)
        >>> folding((32,), (5,))  # positions that all cases share
        Folding(before=1, cases=1, after=32, order=None)
    """
    rows, count = math.prod(leading), math.prod(cases)
    if order is not None and cases and order.is_of_none:
        return Folding(1, 1, rows)
    if order is not None:
        uses = order.use_sizes(leading, cases)
        piece = order.piece(leading, cases)
        if piece is not None:
            return Folding(piece[0], count, piece[1])
        if uses is not None:
            return Folding(1, count, math.prod(uses), (order, leading, cases))
    for first in range(len(leading)):
        for last in range(first + 1, len(leading) + 1):
            if math.prod(leading[first:last]) == count:
                before, after = leading[:first], leading[last:]
                return Folding(math.prod(before), count, math.prod(after))
    if 0 < rows < count:
        return Folding(1, rows, 1)
    return Folding(1, 1, rows)


def foldings(
    leading: Sequence[Shape],
    cases: Shape,
    orders: Sequence[tuple[int, RowOrder]] = (),
) -> list[Folding]:
    """Return the foldings of several uses of one layer, by the same cases.

    Args:
        leading: For each use all axes before those of one position.
        cases: The axes of cases.
        orders: The orders of rows that are known, by their number of axes.
    """
    known = dict(orders)
    found = [folding(axes, cases, known.get(len(axes))) for axes in leading]
    if len({how.cases for how in found}) > 1:
        return [Folding(1, 1, math.prod(axes)) for axes in leading]
    return found


def fold(x: torch.Tensor, axes: int, how: Folding, *, uses: bool) -> torch.Tensor:
    """Return an array with one axis of cases in front, and one of uses if asked for.

    Args:
        x: ``[..leading.., ...]``.
        axes: How many of its last axes are of one position.
        how: The folding of its leading axes.
        uses: Whether there is to be an axis of uses; else they are one.

    Returns:
        ``[cases, uses, ...]`` or ``[cases, ...]``; a view where the cases come first.
    """
    own = x.shape[x.ndim - axes :]
    if how.order is not None:
        order, rows, cases = how.order
        placed = order.arranged(x.reshape(*rows, *own), rows, cases)
        assert placed is not None  # its folding would be another one
        return placed.reshape(how.cases, *((how.uses,) if uses else ()), *own)
    if not uses:
        return x.reshape(how.cases, *own)
    parts = x.reshape(how.before, how.cases, how.after, *own)
    return parts.movedim(1, 0).reshape(how.cases, how.uses, *own)
