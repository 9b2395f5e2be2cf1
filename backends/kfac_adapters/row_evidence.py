"""Which rows the loss of a case reaches, as evidence of what order they are in.

Vectors at the outputs that are zero for some cases give rows without a gradient. Halves
of the cases, drawn at random, tell an order of the rows from any other.
"""

from collections.abc import Callable, Sequence

import numpy as np


def _halves(cases: Sequence[int]) -> list[np.ndarray]:
    """Return for each axis of cases two halves of it, ``[2, size]``."""
    rng = np.random.default_rng(0)
    halves = []
    for count in cases:
        half = np.zeros(count, bool)
        half[rng.permutation(count)[: (count + 1) // 2]] = True
        halves.append(np.stack([half, ~half]))
    return halves


def masks(cases: Sequence[int]) -> np.ndarray:
    """Return two halves of each axis of cases, ``[2 * axes, *cases]``."""
    found = [
        np.broadcast_to(
            half.reshape(*(-1 if i == axis else 1 for i in range(len(cases)))), cases
        )
        for axis, both in enumerate(_halves(cases))
        for half in both
    ]
    return np.stack(found)


def judge(
    reached: np.ndarray, rows: Sequence[int], cases: Sequence[int]
) -> Callable[[int, Sequence[tuple[int, int, int]]], bool | None]:
    """Return what tells whether an axis of cases is at a place of the rows.

    Args:
        reached: For each of the `masks`, the rows that its vectors reach, ``[2 * axes,
            *rows]``.
        rows: Shape of the rows.
        cases: Shape of the cases.

    Returns:
        What `kfac_adapters.row_orders.order_of` takes.
    """
    chosen = _halves(cases)

    def is_right(axis: int, place: Sequence[tuple[int, int, int]]) -> bool | None:
        own = reached[2 * axis : 2 * axis + 2]
        if not own.any():
            return None
        index = np.zeros((1,) * len(rows), int)
        for of_rows, faster, count in place:
            shape = [1] * len(rows)
            shape[of_rows] = rows[of_rows]
            digit = np.arange(rows[of_rows]) // faster % count
            index = index * count + digit.reshape(shape)
        line = chosen[axis]
        return not np.any(own & ~line[:, index])

    return is_right
