"""`RowOrder`: which case each row of a layer belongs to, and how that is found out.

A model may have time before its cases, merge both axes into one, or map over them. What
a layer gets from it is rows in an order of their own. Their axes are cut into *digits*:
one that counts cases is a digit of an axis of the loss, and any other counts uses.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeAlias

from kfac_core.registry import backend_of

Digit: TypeAlias = tuple[int, int] | None
"""An axis of cases, and the number of a digit of it, slow first; None: of uses."""


@dataclass(frozen=True)
class RowOrder:
    """Where the axes of cases are among the axes of a layer's rows.

    Attributes:
        axes: For each axis of rows its digits, slow ones first.
        known: For each axis of cases whether a row is of one index of it (True), or
            reaches the losses of several (False); None: it was not tried.
    """

    axes: tuple[tuple[Digit, ...], ...]
    known: tuple[bool | None, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every axis of cases has a place."""
        placed = {digit[0] for axis in self.axes for digit in axis if digit}
        return placed == set(range(len(self.known)))

    @property
    def is_of_none(self) -> bool:
        """Whether no axis of cases has a place: each row is of all cases alike."""
        return not any(digit for axis in self.axes for digit in axis)

    @property
    def knows_all(self) -> bool:
        """Whether each row belongs to one case, and all cases have rows."""
        return self.is_whole and all(self.known)

    def arranged(
        self, array: Any, rows: Sequence[int], cases: Sequence[int]
    ) -> Any | None:
        """Return an array with the axes of its cases in front, joined into one.

        Args:
            array: ``[*rows, ...]``.
            rows: Shape of the rows.
            cases: Shape of the cases.

        Returns:
            ``[cases, ..uses.., ...]``, an axis for each digit of uses; None if an axis
            of cases has no place, or the sizes are others.
        """
        sizes = self._sizes(rows, cases)
        if sizes is None or not self.is_whole:
            return None
        order = self._order()
        xp = backend_of(array).xp
        own = array.shape[len(rows) :]
        parts = xp.reshape(array, (*sizes, *own))
        rest = range(len(sizes), parts.ndim)
        moved = xp.permute_dims(parts, (*order, *rest))
        uses = self.use_sizes(rows, cases) or ()
        return xp.reshape(moved, (math.prod(cases), *uses, *own))

    def use_sizes(
        self, rows: Sequence[int], cases: Sequence[int]
    ) -> tuple[int, ...] | None:
        """Return the sizes of the digits of uses; None where `arranged` returns it."""
        sizes = self._sizes(rows, cases)
        if sizes is None or not self.is_whole:
            return None
        return tuple(sizes[i] for i in self._order() if self._digits()[i] is None)

    def piece(
        self, rows: Sequence[int], cases: Sequence[int]
    ) -> tuple[int, int] | None:
        """Return how many uses are before the cases and after them.

        Args:
            rows: Shape of the rows.
            cases: Shape of the cases.

        Returns:
            The numbers; None if the axes of cases are not in one piece and in their
            order, or if `arranged` returns None.
        """
        sizes = self._sizes(rows, cases)
        count = sum(digit is not None for digit in self._digits())
        if sizes is None or not self.is_whole or not count:
            return None
        own = self._order()[:count]
        if own != [*range(own[0], own[0] + count)]:
            return None
        return math.prod(sizes[: own[0]]), math.prod(sizes[own[-1] + 1 :])

    def weights(
        self, weights: Any, rows: Sequence[int], cases: Sequence[int]
    ) -> Any | None:
        """Return how much each row counts, from how much each case does.

        A row that reaches the losses of several cases counts as the one that counts
        most.

        Args:
            weights: The weights of the cases, of the shape `cases`.
            rows: Shape of the rows.
            cases: Shape of the cases.

        Returns:
            An array ``[*rows]``, as they lie; None if the sizes are others.
        """
        sizes = self._sizes(rows, cases)
        if sizes is None:
            return None
        digits, order = self._digits(), self._order()
        kept = {digit[0] for digit in digits if digit and self.known[digit[0]]}
        gone = tuple(j for j in range(len(cases)) if j not in kept)
        xp = backend_of(weights).xp
        most = xp.max(weights, axis=gone, keepdims=True) if gone else weights
        shape = [
            sizes[i] if (digit := digits[i]) is not None and digit[0] in kept else 1
            for i in order
        ]
        moved = xp.broadcast_to(
            xp.reshape(most, tuple(shape)), tuple(sizes[i] for i in order)
        )
        back = tuple(order.index(i) for i in range(len(order)))
        return xp.reshape(xp.permute_dims(moved, back), tuple(rows))

    def _digits(self) -> list[Digit]:
        return [digit for axis in self.axes for digit in axis]

    def _order(self) -> list[int]:
        """Return the places of digits, those of cases first, in the order of these."""
        digits = self._digits()
        of_cases = [i for i, digit in enumerate(digits) if digit is not None]
        of_cases.sort(key=lambda i: digits[i] or (0, 0))
        return of_cases + [i for i, digit in enumerate(digits) if digit is None]

    def _sizes(self, rows: Sequence[int], cases: Sequence[int]) -> list[int] | None:
        """Return the size of each digit; None if the axes cannot be cut so."""
        if len(rows) != len(self.axes) or len(cases) != len(self.known):
            return None
        found: list[int] = []
        of_cases: dict[int, int] = {}
        for size, axis in zip(rows, self.axes, strict=True):
            if len(axis) == 1:
                sizes = [size]
            else:
                given = [cases[digit[0]] if digit else 0 for digit in axis]
                others = math.prod(s for s in given if s)
                if given.count(0) > 1 or others == 0 or size % others:
                    return None
                sizes = [s or size // others for s in given]
                if math.prod(sizes) != size:
                    return None
            found += sizes
            for digit, own in zip(axis, sizes, strict=True):
                if digit is not None:
                    of_cases[digit[0]] = of_cases.get(digit[0], 1) * own
        if any(cases[j] != size for j, size in of_cases.items()):
            return None
        return found


def order_of(
    rows: Sequence[int],
    cases: Sequence[int],
    is_right: Callable[[int, Sequence[tuple[int, int, int]]], bool | None],
) -> RowOrder:
    """Return the order of a layer's rows.

    Args:
        rows: Shape of the rows.
        cases: Shape of the cases.
        is_right: Takes an axis of cases and, for each of its digits, the axis of rows,
            the number of faster rows within that, and the digit's size; returns whether
            the rows are in this order, or None, if that is not known.

    Returns:
        The order, each axis of cases at the first place that is right; where none is,
        at the first that has its size.
    """
    taken: list[tuple[int, int, int, Digit]] = []
    known: list[bool | None] = []
    later: list[int] = []
    for j, count in enumerate(cases):
        tried = list(_places(rows, count))
        answers = [is_right(j, place) for place in tried]
        right = [p for p, answer in zip(tried, answers, strict=True) if answer]
        unknown = count == 1 or None in answers
        known.append(True if right and count > 1 else None if unknown else False)
        if right and count > 1:
            taken += [(*digit, (j, k)) for k, digit in enumerate(right[0])]
        else:
            later.append(j)
    for j in later:
        for place in _places(rows, cases[j]):
            digits = [(*digit, (j, k)) for k, digit in enumerate(place)]
            if _cut(rows, [*taken, *digits]) is not None:
                taken += digits
                break
    axes = _cut(rows, taken)
    if axes is None:  # two axes of cases at one place: it is neither's
        return RowOrder(((None,),) * len(rows), (False,) * len(cases))
    return RowOrder(axes, tuple(known))


def _places(
    rows: Sequence[int], count: int
) -> Iterator[tuple[tuple[int, int, int], ...]]:
    """Yield where an axis of cases may be, the likeliest first.

    Args:
        rows: Shape of the rows.
        count: Length of the axis of cases.

    Yields:
        For each of its digits the axis of rows, the number of faster rows within that,
        and the digit's size.
    """
    for axis, size in enumerate(rows):
        if size == count:
            yield ((axis, 1, count),)
    for length in range(2, min(len(rows), 3) + 1):
        for axes in permutations(range(len(rows)), length):
            sizes = [rows[axis] for axis in axes]
            if math.prod(sizes) == count and 1 not in sizes:
                yield tuple((axis, 1, rows[axis]) for axis in axes)
    for axis, size in enumerate(rows):
        if size > count > 1 and size % count == 0:
            rest = size // count
            for faster in range(rest, 0, -1):
                if rest % faster == 0:
                    yield ((axis, faster, count),)


def _cut(
    rows: Sequence[int], taken: Sequence[tuple[int, int, int, Digit]]
) -> tuple[tuple[Digit, ...], ...] | None:
    """Return the digits of each axis of rows; None if two overlap."""
    axes = []
    for axis, size in enumerate(rows):
        own = sorted((each for each in taken if each[0] == axis), key=lambda e: -e[1])
        digits: list[Digit] = []
        left = size
        for _, faster, count, digit in own:
            if left % (faster * count):
                return None
            if left > faster * count:
                digits.append(None)
            digits.append(digit)
            left = faster
        if left > 1 or not digits:
            digits.append(None)
        axes.append(tuple(digits))
    return tuple(axes)
