"""Data of a layer that every case uses several times: a shared layer.

With ``T`` uses of ``N`` cases, the data of one tower come in one of three forms; inputs
and gradients may have different forms:

| form | what it is |
|---|---|
| an array of the rank of one use | ``[T * N, ...]``, time slow; the spec says ``T`` |
| an array with one axis more | ``[T, N, ...]`` |
| `Uses((x_1, .., x_T))` | ``T`` arrays ``[N, ...]`` |

The rank tells the first two forms apart, so that the rank of one use must be known.
Where the cases come before their uses, as in most models of sequences, a spec says
``batch_first=True``: the arrays are then ``[N * T, ...]``, case slow, or ``[N, T,
...]``. No shape tells the two orders apart.

Functions take arrays that are checked to be of one backend, and check their shapes.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from kfac_core.arguments.arrays import check_has_length
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.typing import Array, Uses

MultiTowers: TypeAlias = Array | Uses | tuple[Array | Uses, ...] | list[Array | Uses]
"""One tower, or a tuple of towers, each in one of the forms."""

MultiSources: TypeAlias = MultiTowers | tuple[MultiTowers, ...] | list[MultiTowers]
"""Towers, or a tuple over sources of towers."""


def arrays_of(data: Any) -> tuple[Any, ...]:
    """Return the arrays of one tower, whatever its form."""
    # `Uses` of something that is not a list becomes an error: it is not an array.
    if isinstance(data, Uses) and isinstance(data.arrays, tuple | list):
        return tuple(data.arrays)
    return (data,)


def all_arrays(sources: Iterable[Iterable[Any]]) -> list[Any]:
    """Return the arrays of all towers of all sources."""
    found: list[Any] = []
    for towers in sources:
        for tower in towers:
            found.extend(arrays_of(tower) if isinstance(tower, Uses) else (tower,))
    return found


def in_parts(
    backend: Backend,
    data: Any,
    rank: int,
    num_uses: int | None,
    argument: str,
    layer: str,
    *,
    batch_first: bool = False,
    in_order: bool = True,
) -> tuple[tuple[Array, ...], int]:
    """Return one tower as arrays that follow one another in time.

    Nothing is copied, except data with the cases first, where the order matters.

    Args:
        backend: Backend of the data.
        data: One tower, in one of the three forms.
        rank: Number of axes of one use's array, including the axis of the cases.
        num_uses: ``T``, or None where the data say it.
        argument: Name of the data, for the message.
        layer: Name of the layer or factor, for the message.
        batch_first: Whether the cases of an array come before their uses.
        in_order: Whether the rows must be in the order of time; if not, they are in the
            order of the data.

    Returns:
        ``T`` arrays ``[N, ...]``, or one array ``[T * N, ...]``; and ``T``.

    Raises:
        ShapeError: If there is no use, uses differ in shape, an array has another rank,
            or the number of its rows is not a multiple of ``T``.
        ArgumentError: If ``T`` is not known, or not `num_uses`.
    """
    if isinstance(data, Uses):
        parts = arrays_of(data)
        shapes = [tuple(x.shape) for x in parts]
        if len(set(shapes)) != 1 or len(shapes[0]) != rank:
            msg = (
                f"{layer}: the uses in {argument} have shapes {shapes}, expected at"
                f" least one, all of one shape of {rank} axes, [cases, ...]"
            )
            raise ShapeError(msg)
        if num_uses not in {None, len(parts)}:
            msg = (
                f"{layer}: {argument} has {len(parts)} uses, expected num_uses ="
                f" {num_uses}; give num_uses=None to take it from the data"
            )
            raise ArgumentError(msg)
        return parts, len(parts)
    check_has_length((data,), argument, layer)
    shape = tuple(data.shape)
    axes = "cases, uses" if batch_first else "uses, cases"
    if len(shape) == rank + 1:
        uses = shape[1] if batch_first else shape[0]
        if num_uses not in {None, uses}:
            raise ArgumentError(
                _other_number(shape, num_uses, argument, layer, batch_first=batch_first)
            )
        if uses == 0:
            msg = f"{layer}: {argument} has shape {shape}, expected at least one use"
            raise ShapeError(msg)
        slow = data
        if batch_first and in_order:
            slow = _uses_first(backend, data)
        return (backend.xp.reshape(slow, (shape[0] * shape[1], *shape[2:])),), uses
    if len(shape) != rank:
        msg = (
            f"{layer}: {argument} has shape {shape}, expected {rank} axes"
            f" [{axes.replace(', ', ' * ')}, ...], or {rank + 1} axes [{axes}, ...], or"
            " Uses of arrays"
        )
        raise ShapeError(msg)
    if num_uses is None:
        msg = (
            f"{layer}: {argument} has shape {shape}, [{axes.replace(', ', ' * ')},"
            " ...], and the number of uses is not known; give num_uses to the layer, or"
            f" the data as [{axes}, ...] or Uses"
        )
        raise ArgumentError(msg)
    if shape[0] % num_uses:
        msg = (
            f"{layer}: {argument} has {shape[0]} rows, expected a multiple of num_uses"
            f" = {num_uses}"
        )
        raise ShapeError(msg)
    if batch_first and in_order:
        split = (shape[0] // num_uses, num_uses, *shape[1:])
        data = _uses_first(backend, backend.xp.reshape(data, split))
        data = backend.xp.reshape(data, shape)
    return (data,), num_uses


def folded(
    backend: Backend,
    data: Any,
    rank: int,
    num_uses: int | None,
    argument: str,
    layer: str,
    *,
    batch_first: bool = False,
) -> tuple[Array, int]:
    """Return one tower as one array of all rows, and ``T``.

    With `batch_first`, the rows of a case follow one another; otherwise the rows of a
    use do. Only `Uses` of more than one array are copied, into one. Arguments and
    errors are those of `in_parts`.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> first, second = np.asarray([[1.0]]), np.asarray([[2.0]])
        >>> uses = Uses((first, second))
        >>> folded(backend_of(first), uses, 2, None, "inputs", "layer")
        (array([[1.],
               [2.]]), 2)
    """
    parts, uses = in_parts(
        backend,
        data,
        rank,
        num_uses,
        argument,
        layer,
        batch_first=batch_first,
        in_order=False,
    )
    if len(parts) == 1:
        return parts[0], uses
    if not batch_first:
        return backend.xp.concat(parts, axis=0), uses
    joined = backend.xp.stack(parts, axis=1)
    return backend.xp.reshape(joined, (-1, *joined.shape[2:])), uses


def _uses_first(backend: Backend, data: Array) -> Array:
    """Return ``[T, N, ...]`` from ``[N, T, ...]``."""
    return backend.xp.permute_dims(data, (1, 0, *range(2, data.ndim)))


def _other_number(
    shape: tuple[int, ...],
    num_uses: int | None,
    argument: str,
    layer: str,
    *,
    batch_first: bool,
) -> str:
    """Return the message for an axis of uses of another length than is stated."""
    own, other = (shape[1], shape[0]) if batch_first else (shape[0], shape[1])
    axes = "[cases, uses, ...]" if batch_first else "[uses, cases, ...]"
    if other == num_uses:
        way = f"the other axis has {other}: give batch_first={not batch_first}"
    else:
        way = (
            "give num_uses=None to take the number from the data, and batch_first=True"
            " where the cases come first, False where the uses do"
        )
    return (
        f"{layer}: {argument} has shape {shape}, with batch_first={batch_first}"
        f" {axes}, that is {own} uses, expected num_uses = {num_uses}; {way}"
    )
