"""The weights of the rows of all locations, one case after another."""

import math
from collections.abc import Sequence
from typing import Any

from kfac_core.backend import Backend
from kfac_core.row_counts import count_of
from kfac_core.row_weights import weights_for
from kfac_core.statistics.weighted_rows import by_row
from kfac_core.typing import Array, Scalar


def counted_rows(
    backend: Backend,
    weights: Any,
    shapes: Sequence[tuple[int, ...]],
    num_cases: Scalar | None,
    like: Array,
    label: str,
) -> tuple[list[Array] | None, Array | None]:
    """Return the roots of the weights of all rows, and what to divide by.

    Args:
        backend: Backend of the data.
        weights: As `kfac_core.row_weights.weights_for` takes them.
        shapes: For each tower ``(batch, ..locations..)``.
        num_cases: As in `kfac_core.row_counts.count_of`.
        like: Array that gives dtype and device.
        label: Name of the factor, for the message.

    Returns:
        The roots for each tower, ``[batch * locations]``, or None without weights; and
        the number to divide by, 0-d, or None where all cases are given.

    Raises:
        KfacError: As `weights_for` and `count_of`.
    """
    cases = sum(shape[0] for shape in shapes)
    rows = sum(map(math.prod, shapes))
    count = count_of(backend, num_cases, rows / max(cases, 1), like, label)
    own = weights_for(backend, weights, shapes, like, label)
    if own is None:
        return None, count
    pairs = zip(own, shapes, strict=True)
    roots = [
        backend.xp.sqrt(by_row(backend, w, math.prod(shape[1:]))) for w, shape in pairs
    ]
    return roots, count
