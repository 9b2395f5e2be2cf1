"""Data of a layer that every case uses several times: a shared layer.

With ``T`` uses of ``N`` cases, the data of one tower come in one of three forms, the
inputs and the gradients each in its own:

| form | what it is |
|---|---|
| an array of the rank of one use | ``[T * N, ...]``, time slow; the spec says ``T`` |
| an array with one axis more | ``[T, N, ...]`` |
| `Uses((x_1, .., x_T))` | ``T`` arrays ``[N, ...]`` |

The rank tells the first two apart, so that the rank of one use must be known.
"""

from typing import Any, TypeAlias

from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, ShapeError
from kfac_core.typing import Array, Uses

MultiTowers: TypeAlias = Array | Uses | tuple[Array | Uses, ...] | list[Array | Uses]
"""One tower, or a tuple of towers, each in one of the forms."""

MultiSources: TypeAlias = MultiTowers | tuple[MultiTowers, ...] | list[MultiTowers]
"""Towers, or a tuple over sources of towers."""


def arrays_of(data: Any) -> tuple[Any, ...]:
    """Return the arrays of one tower, whatever its form."""
    return tuple(data.arrays) if isinstance(data, Uses) else (data,)


def in_parts(
    backend: Backend,
    data: Any,
    rank: int,
    num_uses: int | None,
    argument: str,
    layer: str,
) -> tuple[tuple[Array, ...], int]:
    """Return one tower as arrays that follow one another in time; nothing is copied.

    Args:
        backend: Backend of the data.
        data: One tower, in one of the three forms.
        rank: Number of axes of one use's array, that of the cases included.
        num_uses: ``T``, or None where the data say it.
        argument: Name of the data, for the message.
        layer: Name of the layer or factor, for the message.

    Returns:
        ``T`` arrays ``[N, ...]``, or one array ``[T * N, ...]``; and ``T``.

    Raises:
        ShapeError: If there is no use, uses differ in shape, an array has another
            rank, or its rows are no multiple of ``T``.
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
        return parts, _agreed(len(parts), num_uses, argument, layer)
    shape = tuple(data.shape)
    if len(shape) == rank + 1:
        uses = _agreed(shape[0], num_uses, argument, layer)
        if uses == 0:
            msg = f"{layer}: {argument} has shape {shape}, expected at least one use"
            raise ShapeError(msg)
        return (backend.xp.reshape(data, (uses * shape[1], *shape[2:])),), uses
    if len(shape) != rank:
        msg = (
            f"{layer}: {argument} has shape {shape}, expected {rank} axes [uses *"
            f" cases, ...], or {rank + 1} axes [uses, cases, ...], or Uses of arrays"
        )
        raise ShapeError(msg)
    if num_uses is None:
        msg = (
            f"{layer}: {argument} has shape {shape}, [uses * cases, ...], and the"
            " number of uses is not known; give num_uses to the layer, or the data as"
            " [uses, cases, ...] or Uses"
        )
        raise ArgumentError(msg)
    if shape[0] % num_uses:
        msg = (
            f"{layer}: {argument} has {shape[0]} rows, expected a multiple of num_uses"
            f" = {num_uses}"
        )
        raise ShapeError(msg)
    return (data,), num_uses


def folded(
    backend: Backend,
    data: Any,
    rank: int,
    num_uses: int | None,
    argument: str,
    layer: str,
) -> tuple[Array, int]:
    """Return one tower as one array ``[T * N, ...]``, time slow, and ``T``.

    Only `Uses` of more than one array are copied, into one. Arguments and errors are
    those of `in_parts`, which copies nothing.

    Example:
        >>> import numpy as np
        >>> from kfac_core.registry import backend_of
        >>> first, second = np.asarray([[1.0]]), np.asarray([[2.0]])
        >>> uses = Uses((first, second))
        >>> folded(backend_of(first), uses, 2, None, "inputs", "layer")
        (array([[1.],
               [2.]]), 2)
    """
    parts, uses = in_parts(backend, data, rank, num_uses, argument, layer)
    return parts[0] if len(parts) == 1 else backend.xp.concat(parts, axis=0), uses


def _agreed(found: int, stated: int | None, argument: str, layer: str) -> int:
    """Return the number of uses, found in the data, that a spec may state too."""
    if stated not in {None, found}:
        msg = (
            f"{layer}: {argument} has {found} uses, expected num_uses = {stated}; give"
            " num_uses=None to take it from the data"
        )
        raise ArgumentError(msg)
    return found
