"""Weights of rows: masks, padding, cases that count more or less than others.

A row of weight ``w`` counts like ``w`` equal rows: a statistic is ``sum_n w_n x_n x_n'
/ N``. Here ``N`` is the number of cases that the mean loss divides by, whether or not
they reach the layer. A row of weight zero changes nothing, whatever it holds.

A Kronecker product of two such statistics contains ``sum_n w_n`` twice, and must be
divided by the mean weight: `kfac_core.fisher_blocks.kronecker.product` keeps it for
that.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from kfac_core.arguments.arrays import as_towers, backend_for
from kfac_core.backend import Backend
from kfac_core.errors import ArgumentError, DTypeError, ShapeError
from kfac_core.rows.uses import arrays_of
from kfac_core.state import is_known_false
from kfac_core.typing import Array, RowWeights, Uses, Weights


def sides(weights: Weights | None) -> tuple[Any, Any]:
    """Return the weights of the inputs, and of the gradients."""
    if isinstance(weights, RowWeights):
        return weights.inputs, weights.gradients
    return weights, weights


def both_known(weights: RowWeights, known: Sequence[Any]) -> RowWeights:
    """Return the weights of both sides, with zeros for what does not count.

    Args:
        weights: For each side None, or for each tower an array or `UseWeights`.
        known: For each tower an array, or `UseWeights`, of ones and zeros.
    """

    def product(own: Any, other: Any) -> Any:
        if isinstance(own, UseWeights):
            return UseWeights(own.by_use * other.by_use)
        return own * other

    return RowWeights(
        *(
            tuple(known) if own is None else tuple(map(product, own, known))
            for own in weights
        )
    )


def weights_for(
    backend: Backend,
    weights: Any,
    shapes: Sequence[tuple[int, ...]],
    like: Array,
    layer: str,
) -> tuple[Array, ...] | None:
    """Return the weights of all towers, checked.

    Args:
        backend: Backend of the data.
        weights: None, an array, or a tuple of arrays over towers, which hold real
            numbers, integers or booleans.
        shapes: For each tower ``(batch, ..positions..)``.
        like: Array that gives dtype and device of the result.
        layer: Name of the layer or factor, for the message.

    Returns:
        For each tower ``[batch]`` or ``[batch, positions]``, with positions as one
        axis; None for None. Under a trace, NaN where a weight is negative or not
        finite.

    Raises:
        ShapeError: If the number of towers or a shape is wrong.
        DTypeError: If an array does not hold real numbers.
        ArgumentError: If a weight has a value that is negative or not finite.
        BackendError: If an array is of another library or device.
    """
    if weights is None:
        return None
    towers = as_towers(weights)
    check_same_towers(towers, shapes, layer)
    pairs = zip(towers, shapes, strict=True)
    return tuple(_tower(backend, w, shape, like, layer) for w, shape in pairs)


def check_same_towers(weights: Sequence[Any], data: Sequence[Any], layer: str) -> None:
    """Check that there are weights for every tower.

    Raises:
        ShapeError: If the numbers of towers differ.
    """
    if len(weights) != len(data):
        msg = (
            f"{layer}: weights has {len(weights)} towers and the data {len(data)};"
            " give one array of weights for each"
        )
        raise ShapeError(msg)


class UseWeights(NamedTuple):
    """Checked weights of one tower of a shared layer.

    Attributes:
        by_use: ``[T, N]`` or ``[T, N, locations]``.
    """

    by_use: Array


def use_weights(
    backend: Backend,
    weights: Any,
    shape: tuple[int, ...],
    num_uses: int,
    like: Array,
    layer: str,
    *,
    batch_first: bool = False,
) -> UseWeights:
    """Return the weights of one tower of a shared layer.

    Args:
        backend: Backend of the data.
        weights: ``[N]`` (of cases); ``[T, N]`` or ``[T * N]`` (of uses; ``[N, T]`` or
            ``[N * T]`` with `batch_first`); or `Uses` of ``T`` arrays ``[N]``. Weights
            of uses may have further axes for locations.
        shape: ``(T * N, ..locations..)``.
        num_uses: ``T``.
        like: Array that gives dtype and device of the result.
        layer: Name of the layer or factor, for the message.
        batch_first: Whether cases come before their uses.

    Returns:
        The weights.

    Raises:
        ShapeError: If the shape is wrong.
        KfacError: As `weights_for`.
    """
    if isinstance(weights, UseWeights):
        return weights
    xp, cases = backend.xp, shape[0] // num_uses
    locations = shape[1:]
    if isinstance(weights, Uses):
        shapes = [(cases, *locations)] * num_uses
        each = weights_for(backend, arrays_of(weights), shapes, like, layer)
        return UseWeights(xp.stack(each))
    _check_array(weights, layer)
    backend_for(layer, "weights", like, weights)
    found = tuple(weights.shape)
    axes = (cases, num_uses) if batch_first else (num_uses, cases)
    if found == (cases,):
        checked = _tower(backend, weights, (cases,), like, layer)
        return UseWeights(xp.stack([checked] * num_uses))
    if found[:2] == axes:
        weights = xp.reshape(weights, (shape[0], *found[2:]))
    elif found[:1] != shape[:1]:
        msg = (
            f"{layer}: weights has shape {found}, expected [{cases}] (cases), {[*axes]}"
            f" or [{shape[0]}] (uses of cases)"
        )
        raise ShapeError(msg)
    flat = _tower(backend, weights, shape, like, layer)
    return in_uses(backend, flat, num_uses, case_slow=batch_first)


def in_uses(
    backend: Backend, flat: Array, num_uses: int, *, case_slow: bool
) -> UseWeights:
    """Return the weights of rows, ``[T * N]`` or ``[T * N, locations]``, by use.

    Args:
        backend: Backend of the weights.
        flat: The weights of rows.
        num_uses: ``T``.
        case_slow: Whether all rows of a case follow one another.
    """
    rows, *positions = flat.shape
    cases = rows // num_uses
    axes = (cases, num_uses) if case_slow else (num_uses, cases)
    split = backend.xp.reshape(flat, (*axes, *positions))
    return UseWeights(_swapped(backend, split) if case_slow else split)


def in_rows(backend: Backend, weights: UseWeights, *, case_slow: bool) -> Array:
    """Return weights by use as weights of rows, ``[T * N]`` or ``[T * N, locations]``.

    Args:
        backend: Backend of the weights.
        weights: The weights.
        case_slow: Whether all rows of a case are to follow one another.
    """
    array = weights.by_use
    if case_slow:
        array = _swapped(backend, array)
    return backend.xp.reshape(array, (-1, *array.shape[2:]))


def weights_of_parts(
    backend: Backend,
    weights: Any,
    parts: Sequence[Array],
    num_uses: int,
    like: Array,
    layer: str,
    *,
    batch_first: bool = False,
    case_slow: bool = False,
) -> list[Array]:
    """Return the weights of one tower of a shared layer, in the parts of its data.

    Args:
        backend: Backend of the data.
        weights: As in `use_weights`.
        parts: ``T`` arrays ``[N, ...]``, or one array ``[T * N, ...]``.
        num_uses: ``T``.
        like: Array that gives dtype and device of the result.
        layer: Name of the layer or factor, for the message.
        batch_first: As in `use_weights`.
        case_slow: Whether all rows of a case follow one another in the data.

    Returns:
        The weights ``[rows]`` of each part.

    Raises:
        KfacError: As `weights_for`.
    """
    sizes = [part.shape[0] for part in parts]
    own = use_weights(
        backend,
        weights,
        (sum(sizes),),
        num_uses,
        like,
        layer,
        batch_first=batch_first,
    )
    return split_rows(in_rows(backend, own, case_slow=case_slow), sizes)


def split_rows(flat: Array, sizes: Sequence[int]) -> list[Array]:
    """Return an array in parts with the given numbers of rows."""
    ends = [0, *accumulate(sizes)]
    return [flat[start:end, ...] for start, end in pairwise(ends)]


def roots_of(
    backend: Backend, weights: Sequence[Array] | None
) -> tuple[Array, ...] | None:
    """Return the roots of weights; None for None."""
    return None if weights is None else tuple(map(backend.xp.sqrt, weights))


def _tower(
    backend: Backend, w: Any, shape: tuple[int, ...], like: Array, layer: str
) -> Array:
    """Return the weights of one tower, ``[batch]`` or ``[batch, positions]``."""
    xp = backend.xp
    _check_array(w, layer)
    backend_for(layer, "weights", like, w)
    batch, *positions = shape
    flat = (batch, math.prod(positions))
    if tuple(w.shape) not in {(batch,), shape, flat if positions else shape}:
        wanted = f"[{batch}]" + (f" or {[*shape]}" if positions else "")
        msg = (
            f"{layer}: weights has shape {tuple(w.shape)}, expected {wanted}: a weight"
            " for each case, or for each of its positions"
        )
        raise ShapeError(msg)
    if not backend.isdtype(w.dtype, ("bool", "integral", "real floating")):
        msg = f"{layer}: weights has dtype {w.dtype}, expected real numbers or booleans"
        raise DTypeError(msg)
    w = xp.astype(backend.stop_gradient(w), like.dtype)
    valid = xp.isfinite(w) & (w >= 0)
    if is_known_false(backend, xp.all(valid)):
        msg = (
            f"{layer}: weights holds numbers that are negative or not finite, expected"
            " zero for rows that do not count, and one for others"
        )
        raise ArgumentError(msg)
    if backend.is_traced(w):
        w = xp.where(valid, w, xp.full_like(w, math.nan))
    return w if w.ndim == 1 else xp.reshape(w, flat)


def _swapped(backend: Backend, array: Array) -> Array:
    """Return an array with its first two axes exchanged."""
    return backend.xp.permute_dims(array, (1, 0, *range(2, array.ndim)))


def _check_array(weights: Any, layer: str) -> None:
    if not hasattr(weights, "shape"):
        msg = f"{layer}: weights is a {type(weights).__name__}, expected an array"
        raise ArgumentError(msg)
