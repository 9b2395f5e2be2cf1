"""Matrices for each head or expert: ``dot_general`` with a batch axis of its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kfac_adapters.jax.pieces import Piece
from kfac_adapters.jax.uses.base import Leaf
from kfac_adapters.jax.uses.dense import dense


def one_by_one(
    site: str, which: int, leaf: Leaf, operands: Any, params: Any, output: Any
) -> list[Piece] | None:
    """Return the products of a batch, each of a slice of the parameter.

    Args:
        site: As for `dense`, and the other arguments.
        which: As for `dense`.
        leaf: As for `dense`.
        operands: As for `dense`.
        params: As for `dense`.
        output: As for `dense`.

    Returns:
        The use of each product; None if there is no batch, or the slices are no parts
        of the parameter.
    """
    contracting, batch = params["dimension_numbers"]
    if len(batch[0]) != 1:
        return None
    (axis,), (of_data,) = batch[which], batch[1 - which]
    # Without its batch axis, an operand has the axes after it one place earlier.
    inner = tuple(
        tuple(a - (a > gone) for a in summed)
        for summed, (gone,) in zip(contracting, batch, strict=True)
    )
    rest = [n for i, n in enumerate(operands[1 - which].shape) if i != of_data]
    data = jax.ShapeDtypeStruct(tuple(rest), operands[1 - which].dtype)
    one = jax.ShapeDtypeStruct(tuple(output.shape[1:]), output.dtype)
    count = operands[which].shape[axis]
    pieces = []
    for number in range(count):
        own = leaf.cut(axis, number, number + 1)
        if own is None:
            return None
        own = own.without(axis)
        pair = (own, data) if which == 0 else (data, own)
        use = dense(
            f"{site}[{number}]",
            which,
            own,
            pair,
            params | {"dimension_numbers": (inner, ((), ()))},
            one,
        )
        if isinstance(use, str):
            return None
        rows = jnp.take(operands[1 - which], number, axis=of_data)
        pieces.append(Piece(use, rows, _at(number, count)))
    return pieces


def _at(number: int, count: int) -> Callable[[Any], Any]:
    """Return what puts a zero at one place of the first axis, between zeros."""

    def spread(zero: Any) -> Any:
        pads = [(number, count - number - 1), *([(0, 0)] * zero.ndim)]
        return jnp.pad(zero[None], pads)

    return spread
