"""`Record`: what one forward pass did with the parameters of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch.autograd.graph import GradientEdge

from kfac_adapters.row_orders import RowOrder
from kfac_adapters.torch.made import MadeWeight
from kfac_adapters.torch.rules import Call
from kfac_adapters.torch.unheard import Hearers
from kfac_core.layer_collection.parts import Part


@dataclass(frozen=True)
class Use:
    """One use of a parameter by a layer.

    Attributes:
        call: The layer's call; its inputs have no graph.
        weight: Name of the weight; empty if it is no parameter that is trained.
        bias: Name of the bias, or empty.
        edge: Where the graph gives the gradient for the outputs, perhaps in another
            shape.
        shape: Shape of the outputs.
        bias_axes: Number of axes of the bias.
    """

    call: Call
    weight: str
    bias: str
    edge: GradientEdge
    shape: tuple[int, ...]
    bias_axes: int


@dataclass
class Record:
    """What one forward pass did with the parameters.

    Attributes:
        params: The parameters that are trained in this pass, by name.
        uses: Uses of layers, in the order of the calls.
        elsewhere: For each parameter that something else uses, what that is.
        parts: The slices of parameters that are used, by name.
        made: The weights that are made of parameters, by name.
        hearers: Who hears of gradients of what was computed.
        orders: The order of the rows of each use that has a known one, by the index of
            the use and whether it is that of the rows that a bias is added to.
    """

    params: Mapping[str, torch.Tensor] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    made: dict[str, MadeWeight] = field(default_factory=dict)
    hearers: Hearers = field(default_factory=Hearers)
    orders: dict[tuple[int, bool], RowOrder] = field(default_factory=dict)
