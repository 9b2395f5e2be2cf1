"""Which functions of PyTorch are layers, and what each does with which parameter.

A rule reads the arguments of one call, as the function itself would, and says what kind
of layer this is. The kinds are those of `kfac_core.layer_collection`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.nn import functional

Kind = Literal["linear", "convolution", "embedding", "norm"]
"""What a use is: ``x W' + b``, a convolution, ``W[ids]``, or ``w * x + b``."""


@dataclass(frozen=True)
class Call:
    """One call of a layer's function.

    Attributes:
        kind: What it computes.
        weight: Its weight, which may be no parameter.
        bias: Its bias, or None.
        inputs: What it is computed of: of a norm the normalised inputs.
        axes: How many of the last axes of the inputs are of one position: features, or
            channels and locations; none for ids.
        options: What distinguishes the layer from others of its kind.
        channel_axis: Where the outputs of a norm have the channels, if they are not
            last; its inputs have them last.
        refused: Why no block stands for it, or an empty text.
    """

    kind: Kind
    weight: Any
    bias: Any
    inputs: torch.Tensor
    axes: int
    options: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
    channel_axis: int | None = None


def _linear(input: Any, weight: Any, bias: Any = None) -> Call:
    return Call("linear", weight, bias, input, 1)


def _convolution(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call:
    rank = weight.ndim - 2
    options = {
        "padding": padding.upper()
        if isinstance(padding, str)
        else _each(padding, rank),
        "strides": _each(stride, rank),
        "dilation_rate": _each(dilation, rank),
        "num_groups": groups,
    }
    return Call("convolution", weight, bias, input, rank + 1, options)


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """Return one number for each spatial axis, of one for all or of as many."""
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,)
    return tuple(map(int, numbers)) * (rank if len(numbers) == 1 else 1)


def _embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Call:
    refused = ""
    if max_norm is not None:
        refused = "max_norm changes the weights within the model"
    elif scale_grad_by_freq:
        refused = "scale_grad_by_freq makes its gradients those of no loss"
    elif sparse:
        refused = "its gradients are sparse"
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    options = {"padding_id": padding_idx}
    return Call("embedding", weight, None, input, 0, options, refused)


def _layer_norm(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Call | None:
    if weight is None:
        return None
    with torch.no_grad():
        normal = functional.layer_norm(
            input.detach(), normalized_shape, None, None, eps
        )
    return Call("norm", weight, bias, normal, len(normalized_shape))


def _rms_norm(
    input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Call | None:
    if weight is None:
        return None
    with torch.no_grad():
        normal = functional.rms_norm(input.detach(), normalized_shape, None, eps)
    return Call("norm", weight, None, normal, len(normalized_shape))


def _batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call | None:
    if weight is None:
        return None
    # Without running statistics: those of the model are changed once.
    mean, var = (None, None) if training else (running_mean, running_var)
    with torch.no_grad():
        normal = functional.batch_norm(
            input.detach(), mean, var, None, None, training, 0.0, eps
        )
    return _with_channels(normal, weight, bias)


def _group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Call | None:
    if weight is None:
        return None
    with torch.no_grad():
        normal = functional.group_norm(input.detach(), num_groups, None, None, eps)
    return _with_channels(normal, weight, bias)


def _with_channels(normal: torch.Tensor, weight: Any, bias: Any) -> Call:
    last = normal.movedim(1, -1)
    return Call("norm", weight, bias, last, 1, channel_axis=1)


RULES: dict[Any, Callable[..., Call | None]] = {
    functional.linear: _linear,
    functional.conv1d: _convolution,
    functional.conv2d: _convolution,
    functional.conv3d: _convolution,
    functional.embedding: _embedding,
    functional.layer_norm: _layer_norm,
    functional.batch_norm: _batch_norm,
    functional.group_norm: _group_norm,
    functional.rms_norm: _rms_norm,
}
"""For each function that is a layer, its rule."""
