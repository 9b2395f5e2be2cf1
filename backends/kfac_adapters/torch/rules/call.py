"""`Call`: one call of a layer's function."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Kind = Literal[
    "linear", "convolution", "transposed_convolution", "embedding", "scale", "shift"
]
"""What a use is: ``x W' + b``, a convolution, ``W[ids]``, ``w * x + b``, ``x + b``."""


def _same(gradient: torch.Tensor) -> torch.Tensor:
    return gradient


@dataclass(frozen=True)
class Call:
    """One call of a layer's function.

    Its outputs are ``L(computes(inputs, weight)) + bias``, with a linear ``L`` that
    moves axes or takes means, and is the identity of most. What else is added, and has
    no part of the weight or the bias, does not matter.

    Attributes:
        kind: What it computes.
        weight: Its weight, or None; it may be no parameter.
        bias: Its bias, or None; it may be no parameter.
        inputs: What it is computed of: of a scale what it is multiplied by.
        axes: How many of the last axes of the inputs are of one position: features, or
            channels and locations; none for ids.
        computes: What the layer computes of its inputs and a weight.
        pulls: ``L'``: from a gradient for the outputs to one for what is computed.
        pulls_bias: From a gradient for the outputs to one for what the bias is added to
            in its last axes, ``[.., *bias.shape]``.
        options: What distinguishes the layer from others of its kind.
        refused: Why no block stands for it, or an empty text.
    """

    kind: Kind
    weight: Any
    bias: Any
    inputs: torch.Tensor
    axes: int
    computes: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    pulls: Callable[[torch.Tensor], torch.Tensor] = _same
    pulls_bias: Callable[[torch.Tensor], torch.Tensor] = _same
    options: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
