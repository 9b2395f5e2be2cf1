"""`Call`: one call of a layer's function."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Kind = Literal["linear", "convolution", "transposed_convolution", "embedding", "norm"]
"""What a use is: ``x W' + b``, a convolution, ``W[ids]``, or ``w * x + b``."""


@dataclass(frozen=True)
class Call:
    """One call of a layer's function.

    Attributes:
        kind: What it computes.
        weight: Its weight, which may be no parameter.
        bias: Its bias, or None.
        inputs: What it is computed of: of a norm the normalised inputs, arranged.
        axes: How many of the last axes of the inputs are of one position: features, or
            channels and locations; none for ids.
        computes: From the inputs and a weight, the outputs without a bias, arranged.
        options: What distinguishes the layer from others of its kind.
        own: The axes of the outputs of a norm that its weight is along; None: of other
            layers, whose outputs have theirs last, or as convolutions have.
        refused: Why no block stands for it, or an empty text.
    """

    kind: Kind
    weight: Any
    bias: Any
    inputs: torch.Tensor
    axes: int
    computes: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    own: tuple[int, ...] | None = None
    refused: str = ""


def arranged(x: torch.Tensor, own: tuple[int, ...] | None) -> torch.Tensor:
    """Return an array with some of its axes last, the others in their order.

    Args:
        x: The array.
        own: The axes, not negative; None: as they are.

    Returns:
        A view of it.
    """
    return x if own is None else x.movedim(own, tuple(range(-len(own), 0)))
