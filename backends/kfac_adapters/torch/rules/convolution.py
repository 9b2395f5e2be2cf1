"""The rules of convolutions and of transposed ones, of one to three spatial axes."""

from typing import Any

import torch
from torch.nn import functional

from kfac_adapters.torch.rules.call import Call, Kind

DATA_FORMATS = {1: "NCW", 2: "NCHW", 3: "NCDHW"}
"""Where PyTorch has the channels, by the number of spatial axes."""

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def convolution(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call:
    """Read a call of `torch.nn.functional.conv2d`, or its like."""
    rank = weight.ndim - 2
    named = isinstance(padding, str)
    options = {
        "padding": padding.upper() if named else _each(padding, rank),
        "strides": _each(stride, rank),
        "dilations": _each(dilation, rank),
        "num_groups": groups,
        "data_format": DATA_FORMATS[rank],
        "layout": "OIHW",
    }

    def computes(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = _CONVOLUTIONS[rank](
            x, w, None, stride, padding, dilation, groups
        )
        return made

    kind: Kind = "convolution"
    return _call(kind, weight, bias, input, computes, options)


def transposed_convolution(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Call:
    """Read a call of `torch.nn.functional.conv_transpose2d`, or its like."""
    rank = weight.ndim - 2
    # Outputs tell their padding, which may be another at each call (`output_size`).
    options = {
        "padding": _each(padding, rank),
        "strides": _each(stride, rank),
        "dilations": _each(dilation, rank),
        "num_groups": groups,
        "data_format": DATA_FORMATS[rank],
        "layout": "IOHW",
    }

    def computes(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = _TRANSPOSED[rank](
            x, w, None, stride, padding, output_padding, groups, dilation
        )
        return made

    kind: Kind = "transposed_convolution"
    return _call(kind, weight, bias, input, computes, options)


def _call(
    kind: Kind, weight: Any, bias: Any, input: Any, computes: Any, options: Any
) -> Call:
    rank = weight.ndim - 2

    def pulls_bias(gradient: torch.Tensor) -> torch.Tensor:
        return gradient.movedim(-1 - rank, -1)

    return Call(
        kind,
        weight,
        bias,
        input,
        rank + 1,
        computes,
        pulls_bias=pulls_bias,
        options=options,
    )


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """Return one number for each spatial axis, of one for all or of as many."""
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,)
    return tuple(map(int, numbers)) * (rank if len(numbers) == 1 else 1)
