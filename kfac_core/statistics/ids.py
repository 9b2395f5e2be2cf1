"""Second moments of one-hot vectors, by scattering ids.

The input of a case that looks up the ids of one row is the sum of their one-hot
vectors. Only the diagonal of its second moment is kept. An id that is repeated within
the row can count in three ways:

- ``n_hot``: once, the vector being binary (the manual of ``tf.contrib.kfac``);
- ``count``: once for each time (what ``tf.contrib.kfac`` computes);
- ``count_squared``: as the square of its number of times, which is the exact diagonal
  where a case sums the embeddings of its ids.

All three agree where the ids of a case are distinct.
"""

from collections.abc import Sequence
from typing import Literal

from kfac_core.backend import Backend
from kfac_core.typing import Array, DType, Scalar

RepeatedIds = Literal["n_hot", "count", "count_squared"]
"""How an id that is repeated within a case counts."""


def id_second_moment(
    backend: Backend,
    towers: Sequence[Array],
    vocab_size: int,
    dtype: DType,
    repeated_ids: RepeatedIds = "n_hot",
    *,
    weights: Sequence[Array] | None = None,
    count: Scalar | None = None,
) -> Array:
    """Return the diagonal of the second moment of n-hot rows.

    Args:
        backend: Backend of the towers.
        towers: Ids ``[rows]`` or ``[rows, m]``; ids out of range count nothing.
        vocab_size: Number of ids.
        dtype: Dtype of the result.
        repeated_ids: How an id that is repeated within a row counts.
        weights: For each tower the weights ``[rows]``; None: all rows count one.
        count: What to divide by; None: the number of rows.

    Returns:
        ``[vocab_size]``.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> ids = np.asarray([[0, 0], [1, 2]])
        >>> for repeated in ("n_hot", "count", "count_squared"):
        ...     print(id_second_moment(backend_of(ids), [ids], 4, float, repeated))
        [0.5 0.5 0.5 0. ]
        [1.  0.5 0.5 0. ]
        [2.  0.5 0.5 0. ]
    """
    xp = backend.xp
    number = sum(ids.shape[0] for ids in towers) if count is None else count
    total = None
    for i, ids in enumerate(towers):
        if 0 in ids.shape:
            continue
        rows = xp.reshape(ids, (ids.shape[0], -1))
        if xp.iinfo(rows.dtype).bits < 32:  # too narrow for places and counts
            rows = xp.astype(rows, xp.int32)
        if rows.shape[1] > 1 and repeated_ids != "count":
            rows = xp.sort(rows, axis=1)
            rank = _rank_in_run(backend, rows)
            # 1 + 3 + ... + (2 k - 1) = k^2: a run of length k sums to its square.
            times = rank < 1 if repeated_ids == "n_hot" else 2 * rank + 1
            counts = xp.astype(times, dtype)
        else:
            counts = xp.ones_like(rows, dtype=dtype)
        if weights is not None:
            counts = counts * weights[i][:, None]
        known = (rows >= 0) & (rows < vocab_size)
        places = xp.where(known, rows, xp.zeros_like(rows))
        counts = xp.where(known, counts, xp.zeros_like(counts))
        part = backend.scatter_add(
            vocab_size, xp.reshape(places, (-1,)), xp.reshape(counts, (-1,))
        )
        total = part if total is None else total + part
    if total is None:
        device = backend.creation_device(towers[0])
        total = xp.zeros((vocab_size,), dtype=dtype, device=device)
    return total / number


def _rank_in_run(backend: Backend, rows: Array) -> Array:
    """Return for each entry of sorted rows the number of equal entries before it."""
    xp = backend.xp
    n, m = rows.shape
    device = backend.creation_device(rows)
    place = xp.zeros_like(rows) + xp.arange(m, dtype=rows.dtype, device=device)[None, :]
    first = xp.concat(
        [
            xp.ones((n, 1), dtype=xp.bool, device=device),
            rows[:, 1:] != rows[:, :-1],
        ],
        axis=1,
    )
    # A running maximum in log2(m) steps carries the start of each run to its right: the
    # standard has a running sum, but no running maximum.
    start = xp.where(first, place, xp.zeros_like(place))
    step = 1
    while step < m:
        shifted = xp.maximum(start[:, step:], start[:, :-step])
        start = xp.concat([start[:, :step], shifted], axis=1)
        step *= 2
    return place - start
