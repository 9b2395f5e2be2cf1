"""Which functions of PyTorch are layers, and what each does with which parameter.

A rule reads the arguments of one call, as the function itself would, and says what kind
of layer this is. A kind of layer has a file, and each of its functions a line here.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.nn import functional

from kfac_adapters.torch.rules.call import Call, Kind
from kfac_adapters.torch.rules.convolution import convolution, transposed_convolution
from kfac_adapters.torch.rules.elementwise import (
    divided,
    divides,
    expand,
    minus,
    prelu,
    repeat,
    scale,
    shift,
    subtracts,
)
from kfac_adapters.torch.rules.embedding import (
    embedding,
    embedding_bag,
    index_select,
    indexed,
)
from kfac_adapters.torch.rules.linear import (
    addmm,
    einsum,
    left_product,
    linear,
    product,
)
from kfac_adapters.torch.rules.norm import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)

__all__ = [
    "COPIES",
    "LEFT_OPERATORS",
    "OF_ONE",
    "OPERATORS",
    "RULES",
    "SHIFTS",
    "SYMMETRIC",
    "Call",
    "Kind",
    "einsum",
]

RULES: dict[Any, Callable[..., Call | None]] = {
    functional.linear: linear,
    torch.addmm: addmm,
    functional.conv1d: convolution,
    functional.conv2d: convolution,
    functional.conv3d: convolution,
    functional.conv_transpose1d: transposed_convolution,
    functional.conv_transpose2d: transposed_convolution,
    functional.conv_transpose3d: transposed_convolution,
    functional.embedding: embedding,
    functional.embedding_bag: embedding_bag,
    functional.layer_norm: layer_norm,
    functional.batch_norm: batch_norm,
    functional.group_norm: group_norm,
    functional.instance_norm: instance_norm,
    functional.rms_norm: rms_norm,
    torch.prelu: prelu,
}
"""For each function that is a layer, its rule; None: this call has no parameter."""

Operator: TypeAlias = Callable[
    [torch.Tensor, torch.Tensor, tuple[int, ...]], Call | None
]
"""Reads two tensors, and the shape that the second has as a parameter."""

SYMMETRIC: dict[Any, Operator] = {
    torch.mul: scale,
    torch.Tensor.mul: scale,
    torch.add: shift,
    torch.Tensor.add: shift,
    torch.Tensor.add_: shift,
}
"""Rules of functions of two tensors, of which either may be the parameter."""

OPERATORS: dict[Any, Operator] = {
    **SYMMETRIC,
    torch.matmul: product,
    torch.Tensor.matmul: product,
    torch.mm: product,
    torch.Tensor.mm: product,
    **dict.fromkeys((torch.sub, torch.Tensor.sub, torch.Tensor.__sub__), minus),
    **dict.fromkeys((torch.div, torch.Tensor.div, torch.Tensor.__truediv__), divided),
}
"""These, and rules of functions whose second tensor is the parameter."""

LEFT_OPERATORS: dict[Any, Operator] = {
    torch.matmul: left_product,
    torch.Tensor.matmul: left_product,
    torch.mm: left_product,
    torch.Tensor.mm: left_product,
    **dict.fromkeys((torch.sub, torch.Tensor.sub, torch.Tensor.__sub__), subtracts),
    **dict.fromkeys((torch.div, torch.Tensor.div, torch.Tensor.__truediv__), divides),
}
"""Rules of functions whose first tensor is the parameter, and not the second."""

OF_ONE: dict[Any, Callable[[Any, Any, tuple[int, ...]], Call | None]] = {
    torch.Tensor.expand: expand,
    torch.Tensor.repeat: repeat,
    torch.Tensor.__getitem__: indexed,
    torch.index_select: index_select,
    torch.Tensor.index_select: index_select,
}
"""Rules of functions of a parameter alone, their first; they read all arguments."""

COPIES: frozenset[Any] = frozenset(
    {
        torch.Tensor.to,
        torch.Tensor.type_as,
        torch.Tensor.float,
        torch.Tensor.double,
        torch.Tensor.half,
        torch.Tensor.bfloat16,
        torch.Tensor.cpu,
        torch.Tensor.cuda,
        torch.Tensor.contiguous,
        torch.Tensor.clone,
        torch.clone,
    }
)
"""Functions whose results have the gradient of what they copy."""

SHIFTS: dict[Any, int] = {
    torch.add: 2,
    torch.Tensor.add: 2,
    torch.sub: 1,
    torch.Tensor.sub: 1,
}
"""Functions whose results have the gradient of so many first ones, as ``1 + w`` has."""
