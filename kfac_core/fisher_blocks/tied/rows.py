"""Weights of rows of a matrix that unlike layers share."""

from collections.abc import Sequence
from typing import Any

from kfac_core.arguments.arrays import as_towers
from kfac_core.backend import Backend
from kfac_core.errors import ShapeError
from kfac_core.rows.uses import arrays_of
from kfac_core.rows.weights import check_same_towers, sides, weights_for
from kfac_core.statistics.weighted_rows import weigh
from kfac_core.typing import Array, DType, RowWeights, Uses, Weights


def weights_by_place(
    backend: Backend,
    weights: Weights | None,
    shapes: Sequence[Sequence[tuple[int, ...]]],
    like: Array,
    layer: str,
) -> list[RowWeights]:
    """Return the weights of each use, checked.

    Args:
        backend: Backend of the data.
        weights: None; or for each tower ``[batch]``, which holds for all uses, or
            `Uses` of one array for each use, ``[batch]`` or ``[batch, ..positions..]``.
        shapes: For each tower ``(batch, ..positions..)`` of each use.
        like: Array that gives dtype and device of the result.
        layer: Name of the layer, for the message.

    Returns:
        For each use the weights of inputs and of gradients, each None, or a tuple over
        towers of ``[batch]`` or ``[batch, positions]``.

    Raises:
        ShapeError: If the number of towers or uses is not that of the data, or a shape
            is wrong.
        KfacError: As `kfac_core.rows.weights.weights_for`.
    """
    number = len(shapes[0])
    by_side: list[list[Any]] = []
    for side in sides(weights):
        if side is None:
            by_side.append([None] * number)
            continue
        towers = as_towers(side)
        check_same_towers(towers, shapes, layer)
        own = [
            _of_tower(backend, w, each, like, layer)
            for w, each in zip(towers, shapes, strict=True)
        ]
        by_side.append([*zip(*own, strict=True)])
    return [RowWeights(*pair) for pair in zip(*by_side, strict=True)]


def weighed_gradients(
    backend: Backend, g: Array, weights: Array, dtype: DType
) -> Array:
    """Return the gradients of one use, weighted as they enter the gradient of a case.

    A case that counts ``w`` times has its gradient times the root of ``w``, since the
    square of the gradient counts; a position that counts ``w`` times is added ``w``
    times.

    Args:
        backend: Backend of both.
        g: ``[batch, ..positions.., features]``.
        weights: ``[batch]`` or ``[batch, positions]``.
        dtype: Dtype of the result.
    """
    xp = backend.xp
    if weights.ndim == 1:
        factor = xp.sqrt(weights)
    else:
        factor = xp.reshape(weights, tuple(g.shape[:-1]))
    return weigh(backend, xp.astype(g, dtype), factor)


def _of_tower(
    backend: Backend,
    weights: Any,
    shapes: Sequence[tuple[int, ...]],
    like: Array,
    layer: str,
) -> tuple[Array, ...]:
    """Return the weights of each use of one tower."""
    number = len(shapes)
    if isinstance(weights, Uses):
        given = arrays_of(weights)
        if len(given) != number:
            msg = (
                f"{layer}: weights has {len(given)} uses, expected [batch], or Uses of"
                f" {number} arrays, in the order of the uses"
            )
            raise ShapeError(msg)
        found = weights_for(backend, given, shapes, like, layer)
    elif number == 1:
        found = weights_for(backend, (weights,), shapes, like, layer)
    else:
        cases = [shapes[0][:1]]
        found = weights_for(backend, (weights,), cases, like, layer)
        found = None if found is None else found * number
    assert found is not None, "a tower, which is no None"
    return found
