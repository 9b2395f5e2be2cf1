"""Numbers of rows that are not known yet: sizes that are None.

The standard lets a library that records a graph have axes of any length. What depends
on the number of rows then takes it from the arrays, when the graph is computed.
"""

from collections.abc import Sequence
from typing import Any

from kfac_core.backend import Backend
from kfac_core.typing import Array


def has_free_size(arrays: Sequence[Array]) -> bool:
    """Return whether the first axis of an array has any length."""
    return any(x.shape[0] is None for x in arrays)


def rows_in(backend: Backend, arrays: Sequence[Array]) -> Any:
    """Return the number of rows of all arrays; 0-d where it is not known yet.

    Args:
        backend: Backend of the arrays.
        arrays: Each ``[rows, ...]``, of one dtype.
    """
    number: Any = 0
    for x in arrays:
        rows: Any = x.shape[0]
        number = number + (_counted(backend, x) if rows is None else rows)
    return number


def _counted(backend: Backend, x: Array) -> Array:
    """Return the number of rows as an array, 0-d."""
    first = x[(slice(None), *(0,) * (x.ndim - 1))]
    return backend.xp.sum(backend.xp.ones_like(first))
