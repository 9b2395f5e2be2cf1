"""The original's forms of data: lists over towers, lists over sources of these."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from kfac_core.typing import Array, Uses

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


def multi_use_towers_of(data: Any) -> tuple[Any, ...]:
    """Return a tuple over towers, in which a list is the uses of one tower.

    Example:
        >>> multi_use_towers_of([[1, 2], [3, 4]])
        (Uses(arrays=(1, 2)), Uses(arrays=(3, 4)))
    """
    return tuple(map(_as_uses, towers_of(data)))


def multi_use_sources_of(data: Any) -> tuple[tuple[Any, ...], ...]:
    """Return a tuple over sources of `multi_use_towers_of`.

    Example:
        >>> multi_use_sources_of([[[1, 2]], [[3, 4]]])
        ((Uses(arrays=(1, 2)),), (Uses(arrays=(3, 4)),))
    """
    return tuple(multi_use_towers_of(source) for source in towers_of(data))


def first_array(data: Any) -> Array:
    """Return the first array in nested tuples over sources, towers and uses."""
    while isinstance(data, tuple):
        data = data[0]
    array: Array = data
    return array


def _as_uses(tower: Any) -> Any:
    is_list = isinstance(tower, tuple | list) and not isinstance(tower, Uses)
    return Uses(tuple(tower)) if is_list else tower
