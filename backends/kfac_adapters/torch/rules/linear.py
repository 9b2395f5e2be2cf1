"""The rules of linear layers, whose weights lie as ``[out, in]`` or ``[in, out]``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from kfac_adapters.torch.rules.call import Call

_OUT_IN, _IN_OUT = {"layout": "out_in"}, {"layout": "in_out"}


def linear(input: Any, weight: Any, bias: Any = None) -> Call:
    """Read a call of `torch.nn.functional.linear`."""
    return Call("linear", weight, bias, input, 1, functional.linear, options=_OUT_IN)


def product(
    x: torch.Tensor, weight: torch.Tensor, shape: tuple[int, ...]
) -> Call | None:
    """Read ``x @ weight``; None of a stack of matrices, or of another shape."""
    if weight.ndim == 1 and x.ndim > 1 and tuple(weight.shape) == shape:
        return _summed(x, weight)
    if weight.ndim != 2 or tuple(weight.shape) != shape:
        return None
    return Call("linear", weight, None, x, 1, torch.matmul, options=_IN_OUT)


def _summed(x: torch.Tensor, weight: torch.Tensor) -> Call:
    """Return the product with a vector: a scale, whose outputs are summed."""
    shape = x.shape

    def pulls(gradient: torch.Tensor) -> torch.Tensor:
        return gradient[..., None].expand(shape)

    return Call("scale", weight, None, x, 1, torch.mul, pulls)


def left_product(
    weight: torch.Tensor, x: torch.Tensor, shape: tuple[int, ...]
) -> Call | None:
    """Read ``weight @ x``, whose positions are the last axis of ``x``; as `product`."""
    if weight.ndim != 2 or x.ndim < 2 or tuple(weight.shape) != shape:
        return None
    return Call(
        "linear",
        weight,
        None,
        x.mT,
        1,
        functional.linear,
        lambda gradient: gradient.mT,
        options=_OUT_IN,
    )


def einsum(
    equation: str,
    operands: Sequence[torch.Tensor],
    is_param: Callable[[torch.Tensor], bool],
) -> Call | None:
    """Read a product of an array and a matrix that sums over one axis of both.

    Args:
        equation: Such as ``"bnd,de->bne"``, in which an axis of the matrix is summed
            over and the other one goes into the outputs.
        operands: The array and the matrix, in either order.
        is_param: Whether a tensor is a parameter.

    Returns:
        The call; None of any other equation.
    """
    given, arrow, out = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if not arrow or len(terms) != 2 or sum(map(is_param, operands)) != 1:
        return None
    (own, weight), (other, x) = sorted(
        zip(terms, operands, strict=True), key=lambda pair: not is_param(pair[1])
    )
    summed = [axis for axis in own if axis in other and axis not in out]
    made = [axis for axis in own if axis in out and axis not in other]
    if len(own) != 2 or len(summed) != 1 or len(made) != 1:
        return None
    rest = out.replace(made[0], "")
    if sorted(other.replace(summed[0], "")) != sorted(rest):
        return None
    first = own[0] == made[0]
    return Call(
        "linear",
        weight,
        None,
        torch.einsum(f"{other}->{rest}{summed[0]}", x.detach()),
        1,
        functional.linear if first else torch.matmul,
        lambda gradient: torch.einsum(f"{out}->{rest}{made[0]}", gradient),
        options=_OUT_IN if first else _IN_OUT,
    )


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """Read a call of `torch.addmm`, ``mat1 @ mat2 + input``; None if it is scaled."""
    if beta != 1 or alpha != 1 or input.ndim != 1:
        return None
    return Call("linear", mat2, input, mat1, 1, torch.matmul, options=_IN_OUT)


def transposed(call: Call) -> Call:
    """Return the call of a linear layer by the transpose of its weight."""

    def computes(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return call.computes(x, weight.mT)

    options = _IN_OUT if call.options == _OUT_IN else _OUT_IN
    return replace(call, computes=computes, options=options)
