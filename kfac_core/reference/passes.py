"""The results of a forward and a backward pass through a network."""

from typing import NamedTuple, TypeAlias

from kfac_core.reference.layer import Cache, Tensors
from kfac_core.typing import Array

NetworkParams: TypeAlias = tuple[Tensors, ...]
"""The parameters of each layer that has any, in order."""


class Forward(NamedTuple):
    """A forward pass.

    Attributes:
        outputs: ``[batch, outputs]``.
        inputs: Inputs of each layer with parameters.
        caches: Caches of every layer.
    """

    outputs: Array
    inputs: tuple[Array, ...]
    caches: tuple[Cache, ...]


class Backward(NamedTuple):
    """A backward pass; each field has one entry for each layer with parameters.

    Attributes:
        inputs: The layer's inputs.
        output_gradients: Each case's gradient of the summed loss for the outputs.
        param_gradients: The gradients for the parameters, summed over the batch.
    """

    inputs: tuple[Array, ...]
    output_gradients: tuple[Array, ...]
    param_gradients: NetworkParams
