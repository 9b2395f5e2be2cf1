"""The rules of linear layers, whose weights lie as ``[out, in]`` or ``[in, out]``."""

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
    if weight.ndim != 2 or tuple(weight.shape) != shape:
        return None
    return Call("linear", weight, None, x, 1, torch.matmul, options=_IN_OUT)


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
