"""Data as ``tf.contrib.kfac`` takes it: lists over towers, lists of those by source."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from kfac_core.arguments.arrays import backend_for, check_has_cases
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


def first_array(data: Any, argument: str, label: str) -> Array:
    """Return the first array in nested tuples over sources, towers and uses.

    Args:
        data: What a user gave, in the form of a constructor.
        argument: Its name, for the message.
        label: Name of the factor or block, for the message.

    Raises:
        BackendError: If there is no array.
        ShapeError: If it has no axis.
    """
    while isinstance(data, tuple | list) and data:
        data = data[0]
    backend_for(label, argument, data)
    array: Array = data
    check_has_cases(array, argument, label)
    return array


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple; the spec refuses what is not a list."""
    return tuple(value) if isinstance(value, list) else value


def flag(value: Any) -> Any:
    """Return a flag, where None stands for False."""
    return False if value is None else value


def is_channels_first(data_format: Any) -> bool:
    """Return whether a data format has the channels after the batch."""
    return isinstance(data_format, str) and data_format.startswith("NC")


def _as_uses(tower: Any) -> Any:
    is_list = isinstance(tower, tuple | list) and not isinstance(tower, Uses)
    return Uses(tuple(tower)) if is_list else tower
