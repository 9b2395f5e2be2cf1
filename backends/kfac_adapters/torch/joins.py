"""Vectors that are joined of parameters, as some models make the bias of a layer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from kfac_adapters.torch.rules import Call


class Piece(NamedTuple):
    """A vector within a joined one.

    Attributes:
        id: Id of its tensor.
        start: Where it begins.
        stop: Where it ends.
    """

    id: int
    start: int
    stop: int


_JOINS = frozenset({torch.cat, torch.concat, torch.concatenate, torch.hstack})


def joined(
    func: Any, args: Sequence[Any], is_param: Callable[[torch.Tensor], bool]
) -> tuple[Piece, ...]:
    """Return which parameters a function joins to one vector, with others or not.

    Args:
        func: The function.
        args: Its arguments; the first one is what is joined.
        is_param: Whether a tensor is a parameter.

    Returns:
        The parameters among the vectors; none of any other function.
    """
    if func not in _JOINS or not args or any(x.ndim != 1 for x in args[0]):
        return ()
    found, start = [], 0
    for x in args[0]:
        stop = start + len(x)
        if is_param(x):
            found.append(Piece(id(x), start, stop))
        start = stop
    return tuple(found)


def of_piece(call: Call, piece: Piece, shape: tuple[int, ...]) -> Call:
    """Return the call of a layer as one that adds a piece of its bias to its outputs.

    Args:
        call: The call, whose bias is joined.
        piece: The piece.
        shape: Shape of the outputs.

    Returns:
        A shift, whose gradients are those for some of the outputs.
    """
    nothing = call.inputs.new_zeros((), dtype=torch.float32).expand(shape)

    def pulls_bias(gradient: torch.Tensor) -> torch.Tensor:
        return call.pulls_bias(gradient)[..., piece.start : piece.stop]

    return replace(
        call,
        kind="shift",
        weight=None,
        bias=None,
        inputs=nothing,
        axes=0,
        computes=torch.mul,
        pulls_bias=pulls_bias,
        options={},
    )
