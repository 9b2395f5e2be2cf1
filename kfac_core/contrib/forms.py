"""The original's forms of data: lists over towers, lists over sources of these."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from kfac_core.typing import Array

TowerList: TypeAlias = Array | Sequence[Array]
"""A list over towers of arrays, or (r1.7) one array."""

SourceList: TypeAlias = Array | Sequence[Array] | Sequence[Sequence[Array]]
"""A list over sources of lists over towers; (r1.7) of arrays; or one array."""


def towers_of(data: Any) -> tuple[Array, ...]:
    """Return a tuple over towers.

    Example:
        >>> towers_of([1, 2]), towers_of(1)
        ((1, 2), (1,))
    """
    return tuple(data) if isinstance(data, tuple | list) else (data,)


def sources_of(data: Any) -> tuple[tuple[Array, ...], ...]:
    """Return a tuple over sources of tuples over towers: the first index is the source.

    Example:
        >>> sources_of([[1, 2], [3, 4]]), sources_of([1, 2]), sources_of(1)
        (((1, 2), (3, 4)), ((1,), (2,)), ((1,),))
    """
    return tuple(towers_of(source) for source in towers_of(data))
